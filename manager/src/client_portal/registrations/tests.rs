//! Visitors who ask for a client, through the router.

use axum::http::Method;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::model::{
    CONFIRM_TTL_MS, FOLLOW_TTL_MS, MAX_IN_ALL, MAX_OF_CALLER, MAX_OF_NETWORK, MAX_TO_EMAIL, WINDOW_MS,
};
use crate::applications::bounds::MAX_VERSIONS_OF_VISITOR;
use crate::testing::{Answer, Caller, World};

const ASK: &str = "/client/v1/registrations";
const CONFIRM: &str = "/client/v1/registrations/confirm";
const FORM: &str = "/client/v1/registration";

async fn open_worlds() -> [World; 2] {
    World::both_with(|config| {
        config.client_registration = true;
        config.behind_proxy("x-address");
    })
    .await
}

/// Those who sign forms that ask for a client.
async fn reviewers(world: &World) -> (Caller, [Caller; 2]) {
    let admin = world.operator("ann", &["admin"]).await;
    let rita = world.operator("rita", &["reviewer_1"]).await;
    let ralph = world.operator("ralph", &["reviewer_2"]).await;
    let levels = json!({ "levels": [["reviewer_1"], ["reviewer_2"]] });
    admin.put("/api/v1/approval-flows/CR", levels).await.expect(200);
    (admin, [rita, ralph])
}

fn asked(email: &str) -> Value {
    json!({
        "name": "partner", "display_name": "Partner One", "description": "to order",
        "emails": format!("{email}, second@example.com"),
        "bindings": [{ "name": "office", "address": "192.0.2.0/24" }],
    })
}

async fn ask_from(world: &World, address: &str, body: Value) -> Answer {
    world.anon().send(Method::POST, ASK, &[("x-address", address)], Some(body)).await
}

async fn ask(world: &World, email: &str) {
    ask_from(world, "192.0.2.1", asked(email)).await.expect(202);
}

/// The token of the only mail that is due, and to whom it went.
async fn mailed_token(world: &World) -> (String, String) {
    let mails = world.mailed().await;
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    let token = mail.text.lines().find_map(|line| line.strip_prefix("Token:")).expect("a token");
    (token.trim().to_owned(), mail.to.clone())
}

async fn confirmed(world: &World, email: &str) -> (Caller, Value) {
    ask(world, email).await;
    let (token, _) = mailed_token(world).await;
    let filed = world.anon().post(CONFIRM, json!({ "token": token })).await.expect(201);
    (world.bearer(filed["token"].as_str().expect("a token")), filed)
}

async fn review(reviewer: &Caller, visitor: &Caller, id: &str, action: &str) -> Value {
    let seen = visitor.get(FORM).await.header("etag").expect("a version").to_owned();
    let path = format!("/api/v1/applications/{id}/{action}");
    let body = json!({ "comment": "of the reviewer" });
    reviewer.send(Method::POST, &path, &[("if-match", seen.as_str())], Some(body)).await.expect(200)
}

async fn count(world: &World, sql: &'static str) -> i64 {
    let mut read = world.app.db.read().await.expect("a connection");
    sqlx::query(sql).fetch_one(&mut *read).await.expect("a count").try_get(0).expect("a number")
}

#[tokio::test]
async fn nobody_is_registered_where_the_installation_does_not_want_it() {
    for world in World::both().await {
        world.anon().post(ASK, asked("ann@partner.example")).await.problem(403, "registration_closed");
        world.anon().post(CONFIRM, json!({ "token": "kgr_x" })).await.problem(403, "registration_closed");
        assert_eq!(count(&world, "SELECT COUNT(*) FROM mails").await, 0);
    }
}

#[tokio::test]
async fn a_visitor_confirms_an_address_is_reviewed_and_becomes_a_client() {
    for world in open_worlds().await {
        let (admin, [rita, ralph]) = reviewers(&world).await;
        let answer = ask_from(&world, "192.0.2.1", asked("ann@partner.example")).await;
        assert_eq!((answer.status, &answer.body), (202, &Value::Null));
        assert_eq!(count(&world, "SELECT COUNT(*) FROM applications").await, 0, "asking files nothing");
        let (token, to) = mailed_token(&world).await;
        assert_eq!(to, "ann@partner.example", "the first address alone");
        // A scanner that follows links opens nothing.
        world.anon().get(CONFIRM).await.problem(405, "method_not_allowed");
        let filed = world.anon().post(CONFIRM, json!({ "token": token })).await.expect(201);
        let form = &filed["application"];
        assert_eq!((&form["type"], &form["state"]), (&json!("CR"), &json!("pending_order")));
        assert_eq!(
            (&form["applicant_kind"], &form["applicant"]),
            (&json!("visitor"), &json!("ann@partner.example"))
        );
        assert_eq!(form["number"], "CR-20260115-0001");
        world.anon().post(CONFIRM, json!({ "token": token })).await.refuses("token");

        let visitor = world.bearer(filed["token"].as_str().expect("a token"));
        let id = form["id"].as_str().expect("an id");
        review(&rita, &visitor, id, "return").await;
        let shown = visitor.get(FORM).await.expect(200);
        assert_eq!(
            (&shown["state"], &shown["actions"]),
            (&json!("returned"), &json!(["edit", "resubmit", "withdraw"]))
        );
        let by: Vec<_> =
            shown["history"].as_array().expect("a history").iter().map(|step| &step["by"]).collect();
        assert_eq!(by, ["you", "you", "reviewer"]);
        assert!(!shown.to_string().contains(&rita.id), "reviewers have no names");
        let mut edited = asked("ann@partner.example");
        edited["description"] = json!("to order, and to return");
        for emails in ["second@example.com, ann@partner.example", "second@example.com"] {
            let mut foreign = edited.clone();
            foreign["emails"] = json!(emails);
            let refused = visitor.put(FORM, foreign).await.refuses("emails");
            assert!(refused.to_string().contains("ann@partner.example"), "{refused:#}");
        }
        visitor.put(FORM, edited).await.expect(200);
        let resubmitted = visitor.send(Method::POST, &format!("{FORM}/resubmit"), &[], None).await;
        resubmitted.expect(200);
        review(&rita, &visitor, id, "approve").await;
        review(&ralph, &visitor, id, "approve").await;
        assert_eq!(visitor.get(FORM).await.expect(200)["state"], "approved");

        let clients = admin.get("/api/v1/clients?keyword=partner").await.expect(200);
        let client = clients["items"][0]["id"].as_str().expect("a client");
        assert_eq!(clients["items"][0]["emails"], "ann@partner.example,second@example.com");
        world.advance_ms(600_000);
        let mails = world.mailed().await;
        let first = mails
            .iter()
            .filter(|mail| mail.to == "ann@partner.example")
            .flat_map(|mail| mail.text.lines())
            .find_map(|line| line.strip_prefix("Password:"));
        let password = first.expect("a first password").trim();
        for mail in mails.iter().filter(|mail| mail.to != "ann@partner.example") {
            assert!(!mail.text.contains(password), "only the confirmed address gets it: {mail:?}");
        }
        for mail in mails.iter().filter(|mail| mail.to == "ann@partner.example") {
            assert!(!mail.text.contains("rita") && !mail.text.contains("ralph"), "{}", mail.text);
        }
        let result = mails.iter().find(|mail| mail.subject.contains("client application approved"));
        let result: Vec<_> = result.expect("a result").text.split_whitespace().collect();
        let result = result.join(" ");
        assert!(result.contains("first password is sent in a mail of its own to your address"), "{result}");
        let body = json!({ "client": client, "password": password });
        world.anon().post("/client/v1/session", body).await.expect(201);
    }
}

#[tokio::test]
async fn a_visitor_takes_the_form_back() {
    for world in open_worlds().await {
        reviewers(&world).await;
        let (visitor, _) = confirmed(&world, "ann@partner.example").await;
        let withdrawn = visitor.post(&format!("{FORM}/withdraw"), json!({ "comment": "no longer" })).await;
        assert_eq!(withdrawn.expect(200)["state"], "cancelled");
        let late = visitor.post(&format!("{FORM}/withdraw"), json!({})).await;
        late.problem(409, "wrong_state");
    }
}

#[tokio::test]
async fn tokens_are_kept_as_hashes_and_serve_for_their_time() {
    for world in open_worlds().await {
        reviewers(&world).await;
        ask(&world, "ann@partner.example").await;
        let (token, _) = mailed_token(&world).await;
        assert_eq!(
            world.sql(&format!("DELETE FROM registrations WHERE confirm_sha256 = '{token}'")).await,
            0
        );
        assert_eq!(
            world
                .sql(&format!(
                    "DELETE FROM mails WHERE body_masked LIKE '%{token}%' OR context_masked LIKE '%{token}%'"
                ))
                .await,
            0,
            "the log masks it"
        );
        world.advance_ms(CONFIRM_TTL_MS);
        let filed = world.anon().post(CONFIRM, json!({ "token": token })).await.expect(201);
        let visitor = world.bearer(filed["token"].as_str().expect("a token"));
        assert_eq!(filed["expires_at"], world.app.now().0 + FOLLOW_TTL_MS);
        world.advance_ms(FOLLOW_TTL_MS);
        visitor.get(FORM).await.expect(200);
        world.advance_ms(1);
        visitor.get(FORM).await.problem(401, "unauthenticated");

        world.mailed().await;
        ask(&world, "bob@partner.example").await;
        let (late, _) = mailed_token(&world).await;
        world.advance_ms(CONFIRM_TTL_MS + 1);
        world.anon().post(CONFIRM, json!({ "token": late })).await.refuses("token");
        world.run_due().await;
        assert_eq!(count(&world, "SELECT COUNT(*) FROM registrations").await, 0, "forgotten");
        assert_eq!(count(&world, "SELECT COUNT(*) FROM registration_attempts").await, 0);
    }
}

#[tokio::test]
async fn an_address_that_had_enough_mails_is_answered_like_any_other() {
    for world in open_worlds().await {
        for _ in 0..MAX_TO_EMAIL {
            ask(&world, "ann@partner.example").await;
        }
        let to = async || world.mailed().await.len() as i64;
        assert_eq!(to().await, MAX_TO_EMAIL);
        let other = ask_from(&world, "192.0.2.2", asked("bob@partner.example")).await;
        assert_eq!(to().await, 1);
        let silent = ask_from(&world, "192.0.2.2", asked("ANN@partner.example")).await;
        assert_eq!((silent.status, &silent.body), (other.status, &other.body));
        assert_eq!(to().await, 0, "in whatever case it is written");
        world.advance_ms(WINDOW_MS - 1);
        ask(&world, "ann@partner.example").await;
        assert_eq!(to().await, 0);
        world.advance_ms(1);
        ask(&world, "ann@partner.example").await;
        assert_eq!(to().await, 1);
    }
}

#[tokio::test]
async fn a_caller_asks_so_often_within_an_hour_and_no_more() {
    for world in open_worlds().await {
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..MAX_OF_CALLER + 3 {
            let anon = world.anon();
            asking.spawn(async move {
                let body = asked(&format!("ann{number}@partner.example"));
                anon.send(Method::POST, ASK, &[("x-address", "192.0.2.1")], Some(body)).await.status
            });
        }
        let statuses = asking.join_all().await;
        let taken = statuses.iter().filter(|status| **status == 202).count();
        assert_eq!(taken as i64, MAX_OF_CALLER, "also at the same moment: {statuses:?}");
        let refused = ask_from(&world, "192.0.2.1", asked("ann@partner.example")).await;
        assert_eq!(refused.header("retry-after"), Some("3600"));
        refused.problem(429, "too_many_registrations");
        ask_from(&world, "192.0.2.2", asked("ann@partner.example")).await.expect(202);
        world.advance_ms(WINDOW_MS);
        ask_from(&world, "192.0.2.1", asked("ann@partner.example")).await.expect(202);
    }
}

#[tokio::test]
async fn all_together_ask_so_often_within_an_hour_and_no_more() {
    for world in open_worlds().await {
        let now = world.app.now().0;
        for number in 1..MAX_IN_ALL {
            world
                .sql(&format!(
                    "INSERT INTO registration_attempts (id, caller, email_sha256, mailed, asked_at)
                     VALUES ('ra_{number}', 'c{number}', 'e{number}', 1, {now})"
                ))
                .await;
        }
        ask(&world, "ann@partner.example").await;
        let refused = ask_from(&world, "192.0.2.2", asked("bob@partner.example")).await;
        refused.problem(429, "too_many_registrations");
        assert_eq!(world.mailed().await.len(), 1);
        world.advance_ms(WINDOW_MS);
        ask(&world, "bob@partner.example").await;
    }
}

#[tokio::test]
async fn what_cannot_become_a_client_is_refused_by_its_field() {
    for world in open_worlds().await {
        let long = "x".repeat(501);
        for (field, value) in [
            ("name", json!("no blanks")),
            ("name", Value::Null),
            ("display_name", json!("")),
            ("description", json!("")),
            ("description", json!(long)),
            ("emails", json!("nobody")),
            ("emails", Value::Null),
            ("bindings", json!([{ "name": "office", "address": "300.0.0.1/99" }])),
        ] {
            let mut body = asked("ann@partner.example");
            body[field] = value;
            ask_from(&world, "192.0.2.1", body).await.refuses(field);
        }
        assert_eq!(count(&world, "SELECT COUNT(*) FROM registration_attempts").await, 0);
    }
}

#[tokio::test]
async fn a_caller_counts_by_what_the_proxy_wrote_last() {
    let [world, _] = open_worlds().await;
    let ask = async |number: i64, seen: &str| {
        // The first line is the caller's own word.
        let forged = format!("198.51.100.{number}");
        let headers = [("x-address", forged.as_str()), ("x-address", seen)];
        let body = asked(&format!("ann{number}@partner.example"));
        world.anon().send(Method::POST, ASK, &headers, Some(body)).await
    };
    for number in 0..MAX_OF_CALLER {
        ask(number, "192.0.2.1").await.expect(202);
    }
    ask(MAX_OF_CALLER, "192.0.2.1").await.problem(429, "too_many_registrations");
    ask(MAX_OF_CALLER, "192.0.2.2").await.expect(202);
}

#[tokio::test]
async fn a_form_without_signers_is_refused_to_a_visitor_without_their_names() {
    for world in open_worlds().await {
        let (admin, _) = reviewers(&world).await;
        let rolf = world.operator("rolf", &["reviewer_1"]).await;
        let levels = json!({ "levels": [["reviewer_1"], ["reviewer_1"]] });
        admin.put("/api/v1/approval-flows/CR", levels).await.expect(200);
        let path = format!("/api/v1/operators/{}", rolf.id);
        admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        ask(&world, "ann@partner.example").await;
        let (token, _) = mailed_token(&world).await;
        let refused = world.anon().post(CONFIRM, json!({ "token": token })).await.problem(409, "no_signer");
        let told = refused.to_string();
        assert!(!told.contains("rita") && !told.contains("reviewer_1"), "{told}");
    }
}

/// Of a name that is taken a visitor learns when it hands in, and of so many names only.
#[tokio::test]
async fn a_visitor_does_not_try_out_names_by_editing() {
    for world in open_worlds().await {
        let (_, [rita, _]) = reviewers(&world).await;
        world.client("taken").await;
        let (visitor, filed) = confirmed(&world, "ann@partner.example").await;
        let id = filed["application"]["id"].as_str().expect("an id");
        review(&rita, &visitor, id, "return").await;
        let mut edited = asked("ann@partner.example");
        edited["name"] = json!("taken");
        let resubmit = async || visitor.send(Method::POST, &format!("{FORM}/resubmit"), &[], None).await;
        for _ in 3..MAX_VERSIONS_OF_VISITOR {
            visitor.put(FORM, edited.clone()).await.expect(200);
        }
        resubmit().await.refuses("name");
        visitor.put(FORM, edited).await.problem(409, "too_many_versions");
        resubmit().await.refuses("name");
    }
}

#[tokio::test]
async fn what_is_mailed_to_nobody_keeps_nobody_from_asking() {
    for world in open_worlds().await {
        let now = world.app.now().0;
        for number in 0..MAX_IN_ALL {
            world
                .sql(&format!(
                    "INSERT INTO registration_attempts (id, caller, email_sha256, mailed, asked_at)
                     VALUES ('ra_{number}', 'c{number}', 'e', 0, {now})"
                ))
                .await;
        }
        ask(&world, "ann@partner.example").await;
        assert_eq!(world.mailed().await.len(), 1);
    }
}

#[tokio::test]
async fn the_networks_of_one_caller_count_together() {
    for world in open_worlds().await {
        let ask = async |address: String| {
            let number = count(&world, "SELECT COUNT(*) FROM registration_attempts").await;
            ask_from(&world, &address, asked(&format!("ann{number}@partner.example"))).await
        };
        for number in 0..MAX_OF_NETWORK {
            ask(format!("2001:db8:1:{number:x}::1")).await.expect(202);
        }
        ask("2001:db8:1:ffff::1".into()).await.problem(429, "too_many_registrations");
        ask("2001:db8:10:1::1".into()).await.expect(202);
    }
}

#[tokio::test]
async fn a_token_that_was_guessed_begins_no_writing() {
    let [world, _] = open_worlds().await;
    // Whoever wants to write waits until this ends.
    let writing = world.app.db.write("test.write").await.expect("a transaction");
    world.anon().post(CONFIRM, json!({ "token": "kgr_guessed" })).await.refuses("token");
    drop(writing);
}

/// Whether a name is taken is told to who has confirmed an address, and to nobody before.
#[tokio::test]
async fn a_name_that_is_taken_is_told_at_the_confirmation_which_stays() {
    for world in open_worlds().await {
        let (admin, _) = reviewers(&world).await;
        world.client("partner").await;
        ask(&world, "ann@partner.example").await;
        let (token, _) = mailed_token(&world).await;
        world.anon().post(CONFIRM, json!({ "token": token })).await.refuses("name");
        assert_eq!(count(&world, "SELECT COUNT(*) FROM applications").await, 0);
        admin.patch("/api/v1/clients/partner", json!({ "name": "another" })).await.expect(200);
        world.anon().post(CONFIRM, json!({ "token": token })).await.expect(201);
    }
}

#[tokio::test]
async fn a_visitors_token_follows_its_own_form_and_opens_nothing_else() {
    for world in open_worlds().await {
        let (admin, _) = reviewers(&world).await;
        let (ann, filed) = confirmed(&world, "ann@partner.example").await;
        world.mailed().await;
        let mut body = asked("bob@partner.example");
        body["name"] = json!("other");
        body["display_name"] = json!("Other");
        ask_from(&world, "192.0.2.1", body).await.expect(202);
        let (token, _) = mailed_token(&world).await;
        let other = world.anon().post(CONFIRM, json!({ "token": token })).await.expect(201);
        let bob = world.bearer(other["token"].as_str().expect("a token"));
        assert_eq!(ann.get(FORM).await.expect(200)["id"], filed["application"]["id"]);
        assert_eq!(bob.get(FORM).await.expect(200)["id"], other["application"]["id"]);
        let session = world.client("acme").await;
        for (caller, path) in [
            (&ann, "/client/v1/session"),
            (&ann, "/client/v1/applications"),
            (&ann, "/api/v1/session"),
            (&session, FORM),
            (&admin, FORM),
        ] {
            caller.get(path).await.problem(401, "unauthenticated");
        }
    }
}
