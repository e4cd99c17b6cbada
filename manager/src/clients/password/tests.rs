//! Passwords of clients through the router, and the mails about them.

use serde_json::{Value, json};

use super::actions::{RESET_TTL_MS, count_wrong};
use super::{NewPassword, PasswordCheck, Purpose, check_password, still_right};
use crate::clients::{self, Fields, NewClient, store};
use crate::db::Dialect;
use crate::password::Password;
use crate::testing::{Answer, Caller, World, by_link};

const CLIENTS: &str = "/api/v1/clients";
const ACME: &str = "/api/v1/clients/acme";
const OWN: &str = "/client/v1/password";

async fn acme(admin: &Caller, more: Value) -> Value {
    let mut body = json!({
        "id": "acme", "name": "acme", "display_name": "Acme Ltd.", "note": "Ann",
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    admin.post(CLIENTS, body).await.expect(201)
}

/// What a password credential gets with it: `right` or `wrong`.
async fn tried(world: &World, password: &str) -> &'static str {
    match check_password(&world.app, "acme", password).await.expect("an answer") {
        PasswordCheck::Right(_) => "right",
        PasswordCheck::Wrong => "wrong",
    }
}

/// The client sets `new` with `old`.
async fn replaced(world: &World, old: &str, new: &str) -> Answer {
    let body = json!({
        "client": "acme", "password": old, "new_password": new, "password_confirmation": new,
    });
    world.anon().post(OWN, body).await
}

/// Sends what is due, and returns subject and text of each mail.
async fn mailed(world: &World) -> Vec<(String, String)> {
    world.mailed().await.into_iter().map(|mail| (mail.subject, mail.text)).collect()
}

/// What stands after `label` in a mail.
fn told(text: &str, label: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.unwrap_or_else(|| panic!("{label} in {text}")).trim().to_owned()
}

async fn audited(world: &World, action: &str) -> Vec<Value> {
    let auditor = world.operator("aud", &["auditor"]).await;
    let page = auditor.get("/api/v1/audit?subject=client:acme&limit=200").await.expect(200);
    let items = page["items"].as_array().expect("items").clone();
    items.into_iter().filter(|item| item["action"] == action).collect()
}

#[tokio::test]
async fn the_length_of_a_password_is_counted_in_characters() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    acme(&admin, json!({})).await;
    let set = async |password: &str, confirmation: &str| {
        let body = json!({ "password": password, "password_confirmation": confirmation });
        admin.put(&format!("{ACME}/password"), body).await
    };
    for (password, fits) in [
        ("ééééé".to_owned(), false),
        ("éééééé".to_owned(), true),
        ("界".repeat(128), true),
        ("界".repeat(129), false),
        ("  , ; \u{1}\n".to_owned(), true),
    ] {
        let answer = set(&password, &password).await;
        if fits {
            answer.expect(200);
            assert_eq!(tried(&world, &password).await, "right", "{password:?}");
        } else {
            let refused = answer.refuses("password");
            assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("6 to 128 characters")));
        }
    }
    let refused = set("secret-2", "secret-3").await.refuses("password_confirmation");
    assert_eq!(refused["detail"], "The password does not match the reconfirmed password");
    let refused = set("", "").await.refuses("password");
    assert_eq!(refused["detail"], "Please fill in the password");
}

#[tokio::test]
async fn an_operator_sets_a_password_and_the_trail_shows_none() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({})).await;
        assert_eq!(tried(&world, "secret-2").await, "wrong");
        let body = json!({ "password": "secret-2", "password_confirmation": "secret-2" });
        let path = format!("{ACME}/password");
        world.operator("rob", &["reviewer_1"]).await.put(&path, body.clone()).await.problem(403, "forbidden");
        let stale =
            admin.send(axum::http::Method::PUT, &path, &[("if-match", "\"7\"")], Some(body.clone())).await;
        stale.problem(412, "version_mismatch");
        let made = admin.put(&path, body).await.expect(200);
        assert_eq!((&made["version"], &made["failed_attempts"]), (&json!(2), &json!(0)));
        assert_eq!(tried(&world, "secret-1").await, "wrong");
        assert_eq!(tried(&world, "secret-2").await, "right");
        let entries = audited(&world, "clients.set_password").await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0]["detail"]["changed"]["failed_attempts"], json!({ "before": 1, "after": 0 }));
        let trail =
            world.operator("max", &["auditor"]).await.get("/api/v1/audit?limit=200").await.expect(200);
        assert!(!trail.to_string().contains("secret-"), "{trail:#}");
        assert!(!trail.to_string().contains("argon2"), "{trail:#}");
    }
}

#[tokio::test]
async fn a_reset_password_only_sets_a_new_one() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({ "emails": "it@acme.example" })).await;
        let reset = admin.post(&format!("{ACME}/password/reset"), json!({})).await.expect(200);
        let until = World::START.0 + 24 * 3_600_000;
        assert_eq!(
            (&reset["password_state"], &reset["password_reset_expires_at"]),
            (&json!("reset"), &json!(until))
        );
        let mails = mailed(&world).await;
        let [(subject, text)] = mails.as_slice() else { panic!("{mails:?}") };
        assert_eq!(subject, "【Keygate】A new password for Acme Ltd. is to be set");
        assert!(text.contains("until 2026-01-16 00:00:00"), "{text}");
        let drawn = told(text, "Password:");

        // The old one stops at once, the mailed one opens nothing.
        assert_eq!(tried(&world, "secret-1").await, "wrong");
        assert_eq!(tried(&world, &drawn).await, "wrong");
        replaced(&world, "secret-1", "secret-2").await.problem(403, "wrong_password");
        replaced(&world, &drawn, &drawn).await.refuses("new_password");
        replaced(&world, &drawn, "secret-2").await.expect(204);
        assert_eq!(tried(&world, &drawn).await, "wrong");
        assert_eq!(tried(&world, "secret-2").await, "right");
        replaced(&world, &drawn, "secret-3").await.problem(403, "wrong_password");
        let client = admin.get(ACME).await.expect(200);
        assert_eq!(
            (&client["password_state"], &client["password_reset_expires_at"]),
            (&json!("set"), &Value::Null)
        );
        let by: Vec<Value> = audited(&world, "clients.replace_password").await;
        assert_eq!(by[0]["actor"], "client:acme");
    }
}

#[tokio::test]
async fn a_reset_password_serves_for_24_hours() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({ "emails": "it@acme.example" })).await;
        admin.post(&format!("{ACME}/password/reset"), json!({})).await.expect(200);
        let drawn = told(&mailed(&world).await[0].1, "Password:");
        world.advance_ms(24 * 3_600_000 - 1);
        // In force still: what is wrong counts.
        replaced(&world, "secret-1", "secret-2").await.problem(403, "wrong_password");
        assert_eq!(admin.get(ACME).await.expect(200)["failed_attempts"], 1);
        replaced(&world, &drawn, &drawn).await.refuses("new_password");
        world.advance_ms(1);
        replaced(&world, &drawn, "secret-2").await.problem(403, "wrong_password");
        // Nothing is left that could be guessed: nothing is counted.
        assert_eq!(admin.get(ACME).await.expect(200)["failed_attempts"], 0);
        admin.post(&format!("{ACME}/password/reset"), json!({})).await.expect(200);
        let again = told(&mailed(&world).await[0].1, "Password:");
        assert_ne!(again, drawn);
        replaced(&world, &again, "secret-2").await.expect(204);
    }
}

#[tokio::test]
async fn by_link_a_first_password_is_shown_once_on_a_page() {
    for world in World::both_with(by_link).await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({ "emails": "it@acme.example,ops@acme.example,it@acme.example" })).await;
        world.advance_ms(600_000);
        let mails = world.mailed().await;
        assert_eq!(mails.len(), 2, "one link for each address");
        assert!(mails.iter().all(|mail| !mail.text.contains("secret-1")), "{mails:?}");
        let (status, page) = world.page_behind(mails[0].link()).await;
        assert!(status == 200 && page.contains("Your password") && page.contains("secret-1"), "{page}");
        assert_eq!(world.page_behind(mails[0].link()).await.0, 410, "once");
        let shown = audited(&world, "credential_links.reveal").await;
        assert_eq!(shown.len(), 1, "it is told of the client");
        let body = json!({ "password": "secret-2", "password_confirmation": "secret-2" });
        admin.put(&format!("{ACME}/password"), body).await.expect(200);
        assert_eq!(world.page_behind(mails[1].link()).await.0, 410, "another password is in force");
    }
}

#[tokio::test]
async fn by_link_a_reset_password_is_shown_for_as_long_as_it_serves() {
    for world in World::both_with(by_link).await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({ "emails": "it@acme.example" })).await;
        world.advance_ms(600_000);
        let first = world.mailed().await.remove(0);
        let reset = async || {
            admin.post(&format!("{ACME}/password/reset"), json!({})).await.expect(200);
            world.mailed().await.remove(0)
        };
        let (mail, late) = (reset().await, reset().await);
        for ended in [&first, &mail] {
            assert_eq!(world.page_behind(ended.link()).await.0, 410, "another reset followed");
        }
        world.advance_ms(RESET_TTL_MS);
        assert_eq!(world.page_behind(late.link()).await.0, 410, "it serves no more");
        let (_, page) = world.page_behind(reset().await.link()).await;
        let password = page.split("<code class=\"value\">").nth(1).and_then(|rest| rest.split('<').next());
        replaced(&world, password.expect("a password"), "my own one").await.expect(204);
        assert_eq!(tried(&world, "my own one").await, "right");
    }
}

#[tokio::test]
async fn a_reset_needs_an_address_on_file() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({})).await;
        let refused = admin.post(&format!("{ACME}/password/reset"), json!({})).await;
        refused.problem(409, "client_without_address");
        assert_eq!(tried(&world, "secret-1").await, "right", "nothing was changed");
    }
}

#[tokio::test]
async fn a_client_changes_its_own_password_and_wrong_ones_lock_it_out() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({})).await;
        replaced(&world, "secret-1", "secret-2").await.expect(204);
        // What is wrong with the new one does not count.
        let body = json!({
            "client": "acme", "password": "x", "new_password": "secret-3", "password_confirmation": "secret-4",
        });
        let refused = world.anon().post(OWN, body).await.refuses("password_confirmation");
        assert_eq!(refused["detail"], "The new password does not match the reconfirmed password");
        let wrong = replaced(&world, "secret-1", "secret-3").await.problem(403, "wrong_password");
        assert_eq!(wrong["title"], "Original password is incorrect");
        let body = json!({
            "client": "nobody", "password": "secret-1", "new_password": "secret-3", "password_confirmation": "secret-3",
        });
        let unknown = world.anon().post(OWN, body).await.problem(403, "wrong_password");
        assert_eq!((&unknown["title"], &unknown["detail"]), (&wrong["title"], &wrong["detail"]));
        for _ in 0..2 {
            replaced(&world, "secret-1", "secret-3").await.problem(403, "wrong_password");
        }
        replaced(&world, "secret-2", "secret-3").await.problem(403, "wrong_password");
        assert_eq!(admin.get(ACME).await.expect(200)["locked_by"], "wrong_passwords");
    }
}

#[tokio::test]
async fn a_client_that_is_not_active_sets_no_password() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    acme(&admin, json!({})).await;
    for status in ["disabled", "locked"] {
        admin.patch(ACME, json!({ "status": status })).await.expect(200);
        replaced(&world, "secret-1", "secret-2").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_client_without_a_password_has_no_password_credential_until_one_is_set() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let fields = Fields {
            name: Some("acme".into()),
            display_name: Some("Acme".into()),
            note: Some("Ann".into()),
            emails: Some(Some("it@acme.example".into())),
            ..Fields::default()
        };
        let id = clients::ClientName::parse_id("acme").expect("an id");
        let new = NewClient { id: Some(id), fields, password: None };
        clients::create(&world.app, "test", new).await.expect("a client");
        for guess in ["", "secret-1", "secret-1", "secret-1", "secret-1"] {
            assert_eq!(tried(&world, guess).await, "wrong");
        }
        let client = admin.get(ACME).await.expect(200);
        assert_eq!((&client["password_state"], &client["failed_attempts"]), (&json!("none"), &json!(0)));
        world.advance_ms(3_600_000);
        assert_eq!(mailed(&world).await, [], "without a password there is nothing to hand over");
        let body = json!({ "password": "secret-1", "password_confirmation": "secret-1" });
        admin.put(&format!("{ACME}/password"), body).await.expect(200);
        assert_eq!(tried(&world, "secret-1").await, "right");
    }
}

#[tokio::test]
async fn a_new_client_is_told_by_mail_and_the_log_shows_no_password() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let more = json!({
            "emails": "it@acme.example, ops@acme.example", "quota": 10, "start_date": "2026-01-01",
            "expiry_date": "2026-12-31", "time_zone": "Asia/Taipei",
            "bindings": [{ "name": "office", "address": "192.0.2.7" }],
        });
        acme(&admin, more).await;
        assert_eq!(mailed(&world).await, [], "credentials are mailed with a delay");
        world.advance_ms(600_000);
        let mails = mailed(&world).await;
        assert_eq!(mails.len(), 2);
        for (label, value) in [
            ("Client ID:", "acme"),
            ("Password:", "secret-1"),
            ("Valid:", "2026-01-01 to 2026-12-31 (Asia/Taipei)"),
            ("API quota:", "10 per day"),
            ("Calls per second and node:", "10"),
            ("  -", "192.0.2.7 (office)"),
        ] {
            assert_eq!(told(&mails[0].1, label), value);
        }
        let log = admin.get("/api/v1/mails?about=client:acme").await.expect(200);
        for mail in log["items"].as_array().expect("items") {
            let id = mail["id"].as_str().expect("an id");
            let shown = admin.get(&format!("/api/v1/mails/{id}")).await.expect(200).to_string();
            assert!(!shown.contains("secret-1"), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_program_that_sends_the_old_password_does_not_lock_the_mailed_one_out() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({ "emails": "it@acme.example" })).await;
        admin.post(&format!("{ACME}/password/reset"), json!({})).await.expect(200);
        let drawn = told(&mailed(&world).await[0].1, "Password:");
        for _ in 0..5 {
            assert_eq!(tried(&world, "secret-1").await, "wrong");
        }
        assert_eq!(tried(&world, &drawn).await, "wrong", "it opens nothing");
        assert_eq!(admin.get(ACME).await.expect(200)["failed_attempts"], 0);
        // Who guesses at the mailed one is counted.
        replaced(&world, "secret-1", "secret-2").await.problem(403, "wrong_password");
        assert_eq!(admin.get(ACME).await.expect(200)["failed_attempts"], 1);
        replaced(&world, &drawn, "secret-2").await.expect(204);
        assert_eq!(tried(&world, "secret-2").await, "right");
    }
}

#[tokio::test]
async fn a_present_password_that_is_too_long_is_refused_before_anybody_is_looked_up() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    acme(&admin, json!({})).await;
    for client in ["acme", "nobody"] {
        let body = json!({
            "client": client, "password": "x".repeat(129), "new_password": "secret-2",
            "password_confirmation": "secret-2",
        });
        world.anon().post(OWN, body).await.refuses("password");
    }
    assert_eq!(admin.get(ACME).await.expect(200)["failed_attempts"], 0);
}

/// Template, state and error of each mail about the client, by template.
async fn outbox(admin: &Caller) -> Vec<(String, String, String)> {
    let log = admin.get("/api/v1/mails?about=client:acme&limit=200").await.expect(200);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = log["items"].as_array().expect("items").iter();
    let mut mails: Vec<_> =
        items.map(|mail| (text(&mail["template"]), text(&mail["state"]), text(&mail["error"]))).collect();
    mails.sort();
    mails
}

#[tokio::test]
async fn a_password_that_ended_is_not_mailed_any_more() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let set = json!({ "password": "secret-2", "password_confirmation": "secret-2" });
        acme(&admin, json!({ "emails": "it@acme.example" })).await;
        admin.put(&format!("{ACME}/password"), set.clone()).await.expect(200);
        let left = outbox(&admin).await;
        let [(template, state, why)] = left.as_slice() else { panic!("{left:?}") };
        assert_eq!((template.as_str(), state.as_str()), ("client_created", "failed"));
        assert!(why.starts_with("withdrawn: "), "{why}");
        world.advance_ms(3_600_000);
        assert_eq!(mailed(&world).await, []);
        assert_eq!(world.sql("DELETE FROM mails WHERE context_sealed IS NOT NULL").await, 0);

        // One that was mailed anew ends the one before, and ends itself where one is set.
        let reset = format!("{ACME}/password/reset");
        admin.post(&reset, json!({})).await.expect(200);
        admin.post(&reset, json!({})).await.expect(200);
        let mails = mailed(&world).await;
        let [(_, text)] = mails.as_slice() else { panic!("{mails:?}") };
        replaced(&world, &told(text, "Password:"), "secret-3").await.expect(204);
        admin.post(&reset, json!({})).await.expect(200);
        admin.put(&format!("{ACME}/password"), set).await.expect(200);
        world.advance_ms(3_600_000);
        assert_eq!(mailed(&world).await, []);
    }
}

#[tokio::test]
async fn a_password_that_its_client_replaced_is_not_mailed_any_more() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({ "emails": "it@acme.example" })).await;
        replaced(&world, "secret-1", "secret-2").await.expect(204);
        world.advance_ms(3_600_000);
        assert_eq!(mailed(&world).await, []);
        assert_eq!(outbox(&admin).await[0].1, "failed");
    }
}

#[tokio::test]
async fn a_lock_is_announced_though_fewer_attempts_were_allowed_meanwhile() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({})).await;
        // A check has read the client while three were allowed …
        let hash = async || {
            let mut conn = world.app.db.read().await.expect("a connection");
            let now = world.app.now();
            let known = store::with_password_hash(&mut conn, "acme", Purpose::Calls, now).await;
            known.expect("an answer").expect("the client").1.expect("a hash")
        };
        let read = hash().await;
        // … and finds its password wrong when it is but one.
        admin.patch(&format!("{ACME}/status"), json!({ "allowed_attempts": 1 })).await.expect(200);
        count_wrong(&world.app, "acme", Some(&read)).await.expect("counted");
        assert_eq!(admin.get(ACME).await.expect(200)["password_locked"], true);
        assert_eq!(audited(&world, "clients.lock_password").await.len(), 1);
        // What was wrong for a password that was replaced meanwhile is no guess at the new one.
        let body = json!({ "password": "secret-2", "password_confirmation": "secret-2" });
        admin.put(&format!("{ACME}/password"), body).await.expect(200);
        count_wrong(&world.app, "acme", Some(&read)).await.expect("not counted");
        assert_eq!(admin.get(ACME).await.expect(200)["failed_attempts"], 0);
    }
}

/// bcrypt of the Base64 text of `secret-1`, as digiRunner has it.
const IMPORTED: &str = "$2b$10$pSLSwReV1cRzgs.1DJs4h.TJ7qK4iLiAAnEN2CVg6IgzT86nnRniu";

#[tokio::test]
async fn a_password_that_was_brought_along_is_hashed_anew_when_it_is_right_first() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({})).await;
        let path = format!("{ACME}/password/imported");
        for (hash, why) in
            [("secret-1", "begins with none"), (&IMPORTED.replace("$10$", "$31$"), "its cost is 31")]
        {
            let refused = admin.put(&path, json!({ "password_hash": hash })).await.refuses("password_hash");
            assert!(refused["detail"].as_str().expect("a text").contains(why), "{refused}");
        }
        admin.put(&path, json!({ "password_hash": IMPORTED })).await.expect(200);
        let stored = async |begin: &str| {
            let touched = format!("UPDATE clients SET version = version WHERE password_hash LIKE '{begin}%'");
            world.sql(&touched).await
        };
        assert_eq!(tried(&world, "secret-2").await, "wrong");
        assert_eq!(
            (stored("$2b$10$").await, admin.get(ACME).await.expect(200)["failed_attempts"].as_i64()),
            (1, Some(1))
        );
        // Several workers of a gateway may ask at once: none is refused because another was first.
        let app = &world.app;
        let check = || check_password(app, "acme", "secret-1");
        let (one, two, three) = tokio::join!(check(), check(), check());
        for checked in [one, two, three] {
            let Ok(PasswordCheck::Right(verified)) = checked else { panic!("{checked:?}") };
            let mut read = world.app.db.snapshot().await.expect("a connection");
            assert!(still_right(&mut read, &verified).await.expect("an answer").is_some());
        }
        assert_eq!((stored("$2").await, stored("$argon2id$").await), (0, 1));
        assert_eq!(tried(&world, "secret-1").await, "right");
        let trail = admin.get("/api/v1/audit?action=clients.").await.expect(200).to_string();
        assert!(!trail.contains("$2b$") && !trail.contains("argon2"), "{trail}");
    }
}

/// A stranger who compares what is done, or how long it takes, learns nothing of who is a client.
#[tokio::test]
async fn what_is_done_for_a_wrong_password_is_the_same_whosever_id_it_is() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        acme(&admin, json!({})).await;
        world.client("closed").await;
        for _ in 0..3 {
            assert!(matches!(check_password(&world.app, "closed", "x").await, Ok(PasswordCheck::Wrong)));
        }
        let mut all = Vec::new();
        for (id, password) in [
            ("acme", "secret-2"),
            ("nobody", "secret-2"),
            ("closed", "secret-2"),
            ("closed", World::CLIENT_PASSWORD),
        ] {
            let (checked, done) = world.done(check_password(&world.app, id, password)).await;
            assert!(matches!(checked, Ok(PasswordCheck::Wrong)), "{id}");
            all.push((format!("{id} {password}"), done));
        }
        let expected = all[0].1.clone();
        for part in ["keygate_password_checks_total{lane=\"gateways\"} 1", "clients.password_wrong"] {
            assert!(expected.iter().any(|line| line.contains(part)), "{expected:?}");
        }
        let statements = expected.iter().filter(|line| line.starts_with("-- ")).count();
        assert_eq!(statements > 0, world.app.db.dialect() == Dialect::Postgres, "{expected:?}");
        for (whose, done) in all {
            assert_eq!(done, expected, "{whose}");
        }
    }
}

#[tokio::test]
async fn a_new_password_shows_neither_itself_nor_its_hash() {
    let world = World::sqlite().await;
    let new = NewPassword::new(&world.app, Password::parse("secret-1").expect("long enough")).await;
    let client = NewClient { password: Some(new.clone()), ..NewClient::default() };
    let shown = format!("{new:?} {client:?}");
    assert!(!shown.contains("argon2") && !shown.contains("secret-1"), "{shown}");
}
