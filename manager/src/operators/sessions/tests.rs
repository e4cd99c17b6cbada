//! Sessions through the router, on both databases.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::operators::tests::{ann, ann_settled, change_password, sign_in, with_token_of};
use crate::testing::World;

#[tokio::test]
async fn a_sign_in_opens_a_session_that_ends() {
    for world in World::both_with(|config| config.session_ttl_s = 60).await {
        ann_settled(&world).await;
        let answer = sign_in(&world, "ANN", "secret-1").await.expect(201);
        let token = answer["token"].as_str().expect("a token");
        let session = world.bearer(token);
        let me = session.get("/api/v1/session").await.expect(200);
        assert_eq!((&me["name"], &me["roles"]), (&json!("ann"), &json!(["applicant"])));
        assert!(me["permissions"].as_array().is_some_and(|all| all.contains(&json!("applications.apply"))));

        world.advance_ms(60_000);
        session.get("/api/v1/session").await.expect(200);
        world.advance_ms(1);
        session.get("/api/v1/session").await.problem(401, "unauthenticated");

        let answer = sign_in(&world, "ann", "secret-1").await.expect(201);
        let token = answer["token"].as_str().expect("a token");
        let session = world.bearer(token);
        session.delete("/api/v1/session").await.expect(204);
        let refused = session.get("/api/v1/session").await;
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"keygate\""));
        refused.problem(401, "unauthenticated");
        // What is stored is the hash.
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(world.sql(&format!("DELETE FROM operator_tokens WHERE sha256 = '{hash}'")).await, 1);
    }
}

/// A stranger who compares what is done, or how long it takes, learns nothing of who is an operator.
#[tokio::test]
async fn what_is_done_for_a_wrong_password_is_the_same_whosever_name_it_is() {
    for world in World::both().await {
        world.operator("ann", &["admin"]).await;
        let sign_in = async |name: &str| {
            let body = json!({ "operator": name, "password": "wrong-1" });
            let (answer, done) = world.done(world.anon().post("/api/v1/session", body)).await;
            answer.problem(401, "wrong_password");
            done
        };
        let expected = sign_in("ann").await;
        assert!(expected.iter().any(|line| line.contains("keygate_password_checks_total")), "{expected:?}");
        for name in ["nobody", "a b", ""] {
            assert_eq!(sign_in(name).await, expected, "{name:?}");
        }
        for _ in 0..2 {
            sign_in("ann").await;
        }
        assert_eq!(sign_in("ann").await, expected, "it takes none now");
    }
}

#[tokio::test]
async fn wrong_passwords_lock_and_say_nothing_to_strangers() {
    for world in World::both().await {
        let (admin, path, _) = ann_settled(&world).await;
        let unknown = sign_in(&world, "nobody", "secret-1").await.problem(401, "wrong_password");
        let locked =
            async || admin.get("/api/v1/audit?action=operators.lock").await.expect(200)["items"].clone();
        for attempt in 1..=4 {
            let wrong = sign_in(&world, "ann", "wrong-1").await.problem(401, "wrong_password");
            assert_eq!(
                wrong["detail"], unknown["detail"],
                "unknown, wrong and locked read the same: {attempt}"
            );
        }
        assert_eq!(admin.get(&path).await.expect(200)["failed_attempts"], 3);
        assert_eq!(locked().await.as_array().map(Vec::len), Some(1));
        // Not even the right one tells, or guessing would go on.
        let right = sign_in(&world, "ann", "secret-1").await.problem(401, "wrong_password");
        assert_eq!(right["detail"], unknown["detail"]);
        assert!(right["detail"].as_str().is_some_and(|text| text.contains("operators.manage unlocks it")));
        let unlocked = admin.patch(&path, json!({ "unlock": true })).await.expect(200);
        assert_eq!(unlocked["failed_attempts"], 0);
        sign_in(&world, "ann", "secret-1").await.expect(201);
        // A right one forgets the wrong ones.
        for _ in 0..2 {
            sign_in(&world, "ann", "wrong-1").await.problem(401, "wrong_password");
        }
        sign_in(&world, "ann", "secret-1").await.expect(201);
        sign_in(&world, "ann", "wrong-1").await.problem(401, "wrong_password");
        sign_in(&world, "ann", "secret-1").await.expect(201);
        // An update that was made from an older state does not give attempts back.
        sign_in(&world, "ann", "wrong-1").await.problem(401, "wrong_password");
        admin.patch(&path, json!({ "display_name": "Ann" })).await.expect(200);
        assert_eq!(admin.get(&path).await.expect(200)["failed_attempts"], 1);
    }
}

#[tokio::test]
async fn guesses_in_parallel_are_no_more_than_the_lock_allows() {
    for world in World::both().await {
        let (admin, path, _) = ann_settled(&world).await;
        // People who sign in several times at once do not lock themselves out.
        let rights = (0..6).map(|_| sign_in(&world, "ann", "secret-1"));
        for answer in futures_of(rights).await {
            answer.expect(201);
        }
        sign_in(&world, "ann", "wrong-1").await.problem(401, "wrong_password");
        let wrongs = (0..12).map(|_| sign_in(&world, "ann", "wrong-2"));
        for answer in futures_of(wrongs).await {
            answer.problem(401, "wrong_password");
        }
        assert_eq!(
            admin.get(&path).await.expect(200)["failed_attempts"],
            3,
            "the other ten were not looked at"
        );
        sign_in(&world, "ann", "secret-1").await.problem(401, "wrong_password");
        let lock = admin.get("/api/v1/audit?action=operators.lock").await.expect(200);
        assert_eq!(lock["items"].as_array().map(Vec::len), Some(1), "it was locked once");
    }
}

/// All of them at the same time.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in running.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_password_set_by_somebody_else_serves_only_to_set_an_own_one() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let opened = sign_in(&world, "ann", "given-1").await.expect(201);
        assert_eq!(opened["operator"]["must_change_password"], true);
        let session = with_token_of(&world, &opened);
        // Who one is and the way out; nothing else, be it permitted, one's own or undecided.
        assert_eq!(session.get("/api/v1/session").await.expect(200)["must_change_password"], true);
        for refused in [
            session.get("/api/v1/apis").await,
            session.get("/api/v1/applications").await,
            session.get(&path).await,
            session.get(&format!("{path}/tokens")).await,
            session.post(&format!("{path}/tokens"), json!({ "name": "x" })).await,
            session.delete(&format!("{path}/sessions")).await,
        ] {
            let problem = refused.problem(403, "password_change_required");
            assert!(
                problem["detail"].as_str().is_some_and(|text| text.contains("PUT /api/v1/session/password"))
            );
        }
        for (body, field) in [
            (json!({}), "old_password"),
            (json!({ "old_password": "given-1", "new_password": "secret-1" }), "new_password_confirmation"),
            (fields("given-1", "12345", "12345"), "new_password"),
            (fields("given-1", "secret-1", "secret-2"), "new_password_confirmation"),
            (fields("given-1", "given-1", "given-1"), "new_password"),
            (fields("given-2", "secret-1", "secret-1"), "old_password"),
        ] {
            let refused = session.put("/api/v1/session/password", body).await.refuses(field);
            assert!(!refused.to_string().contains("secret-"), "{refused}");
        }
        session.get("/api/v1/apis").await.problem(403, "password_change_required");
        change_password(&session, "given-1", "secret-1").await.expect(204);
        assert_eq!(session.get("/api/v1/session").await.expect(200)["must_change_password"], false);
        session.get("/api/v1/apis").await.expect(200);
        sign_in(&world, "ann", "given-1").await.problem(401, "wrong_password");
        sign_in(&world, "ann", "secret-1").await.expect(201);
        // A reset begins it again, and ends the sessions.
        admin.patch(&path, json!({ "password": "given-2" })).await.expect(200);
        session.get("/api/v1/session").await.problem(401, "unauthenticated");
        let session = with_token_of(&world, &sign_in(&world, "ann", "given-2").await.expect(201));
        session.get("/api/v1/apis").await.problem(403, "password_change_required");
        // An API token, which the password has nothing to do with, works on.
        let issued = admin.post(&format!("{path}/tokens"), json!({ "name": "ci" })).await.expect(201);
        with_token_of(&world, &issued).get("/api/v1/apis").await.expect(200);
        session.delete("/api/v1/session").await.expect(204);
    }
}

fn fields(old: &str, new: &str, confirmation: &str) -> Value {
    json!({ "old_password": old, "new_password": new, "new_password_confirmation": confirmation })
}

#[tokio::test]
async fn the_confirmation_is_refused_in_the_products_words() {
    let world = World::sqlite().await;
    let (_, _, session) = ann_settled(&world).await;
    let refused = session.put("/api/v1/session/password", fields("secret-1", "secret-2", "secret-3")).await;
    let refused = refused.problem(422, "invalid_field");
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|text| text.starts_with("The password does not match the reconfirmed password"))
    );
}

#[tokio::test]
async fn ones_own_password_is_changed_with_the_old_one_which_cannot_be_guessed() {
    for world in World::both().await {
        let (admin, path, session) = ann_settled(&world).await;
        let other = with_token_of(&world, &sign_in(&world, "ann", "secret-1").await.expect(201));
        // The other sessions end, that which asks stays.
        change_password(&session, "secret-1", "secret-2").await.expect(204);
        other.get("/api/v1/session").await.problem(401, "unauthenticated");
        for _ in 0..3 {
            change_password(&session, "wrong-1", "secret-3").await.refuses("old_password");
        }
        change_password(&session, "secret-2", "secret-3").await.problem(403, "account_locked");
        sign_in(&world, "ann", "secret-2").await.problem(401, "wrong_password");
        admin.patch(&path, json!({ "unlock": true })).await.expect(200);
        change_password(&session, "secret-2", "secret-3").await.expect(204);
        // Not even one who manages operators sets his own without it.
        admin
            .patch(&format!("/api/v1/operators/{}", admin.id), json!({ "password": "secret-4" }))
            .await
            .refuses("password");
        change_password(&admin, "", "secret-4").await.refuses("old_password");
    }
}

#[tokio::test]
async fn a_new_password_or_a_disabled_account_ends_sessions() {
    for world in World::both().await {
        let (admin, path, first) = ann_settled(&world).await;
        admin.patch(&path, json!({ "password": "given-2" })).await.expect(200);
        first.get("/api/v1/session").await.problem(401, "unauthenticated");
        sign_in(&world, "ann", "secret-1").await.problem(401, "wrong_password");
        let second = with_token_of(&world, &sign_in(&world, "ann", "given-2").await.expect(201));
        change_password(&second, "given-2", "secret-2").await.expect(204);
        let token = admin.post(&format!("{path}/tokens"), json!({ "name": "ci" })).await.expect(201);
        let program = with_token_of(&world, &token);
        program.get("/api/v1/session").await.expect(200);
        admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        for caller in [&second, &program] {
            caller.get("/api/v1/session").await.problem(401, "unauthenticated");
        }
        // Only who knows the password is told.
        sign_in(&world, "ann", "secret-2").await.problem(403, "account_disabled");
        sign_in(&world, "ann", "secret-3").await.problem(401, "wrong_password");
    }
}

#[tokio::test]
async fn a_password_reset_by_somebody_else_ends_api_tokens_unless_they_are_to_stay() {
    for world in World::both().await {
        let (admin, path, session) = ann_settled(&world).await;
        let tokens = format!("{path}/tokens");
        let issue = async || {
            let issued = admin.post(&tokens, json!({ "name": "ci" })).await.expect(201);
            with_token_of(&world, &issued)
        };
        let token = issue().await;
        // One's own change ends the other sessions, and leaves programs alone.
        change_password(&session, "secret-1", "secret-2").await.expect(204);
        token.get("/api/v1/session").await.expect(200);
        let keep = json!({ "password": "given-2", "end_tokens": false });
        admin.patch(&path, keep).await.expect(200);
        token.get("/api/v1/session").await.expect(200);
        admin.patch(&path, json!({ "password": "given-3" })).await.expect(200);
        token.get("/api/v1/session").await.problem(401, "unauthenticated");
        assert_eq!(admin.get(&tokens).await.expect(200)["items"], json!([]));
        let reset = admin.get("/api/v1/audit?action=operators.update&limit=1").await.expect(200);
        assert_eq!(reset["items"][0]["detail"]["tokens_ended"], 1);
        // What goes with a password does not go without one.
        let token = issue().await;
        admin.patch(&path, json!({ "end_tokens": true })).await.refuses("end_tokens");
        token.get("/api/v1/session").await.expect(200);
    }
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    for world in World::both_with(|config| config.session_ttl_s = 600).await {
        let (admin, path, first) = ann_settled(&world).await;
        let sessions = format!("{path}/sessions");
        world.advance_ms(1_000);
        let second = with_token_of(&world, &sign_in(&world, "ann", "secret-1").await.expect(201));
        let third = with_token_of(&world, &sign_in(&world, "ann", "secret-1").await.expect(201));
        let start = World::START.0;
        let listed = second.get(&sessions).await.expect(200)["items"].clone();
        let told = |at: usize| {
            let session = &listed[at];
            ["created_at", "expires_at", "last_used_at", "current"].map(|field| session[field].clone())
        };
        assert_eq!(listed.as_array().map(Vec::len), Some(3));
        assert_eq!(told(0), [json!(start), json!(start + 600_000), json!(start), json!(false)]);
        let now = start + 1_000;
        let mut later = [told(1), told(2)];
        later.sort_by_key(|session| session[3] == false);
        assert_eq!(later[0], [json!(now), json!(now + 600_000), json!(now), json!(true)]);
        assert_eq!(later[1], [json!(now), json!(now + 600_000), json!(null), json!(false)]);
        assert!(!listed.to_string().contains("kgs_"));
        // One, then all but this one.
        let one = format!("{sessions}/{}", listed[0]["id"].as_str().expect("an id"));
        second.delete(&one).await.expect(204);
        second.delete(&one).await.problem(404, "not_found");
        first.get("/api/v1/session").await.problem(401, "unauthenticated");
        second.delete(&sessions).await.expect(204);
        third.get("/api/v1/session").await.problem(401, "unauthenticated");
        second.get("/api/v1/session").await.expect(200);
        // A stranger's are nobody's affair, but an administrator's.
        let rex = world.operator("rex", &["auditor"]).await;
        rex.get(&sessions).await.problem(403, "forbidden");
        rex.delete(&sessions).await.problem(403, "forbidden");
        admin.delete(&sessions).await.expect(204);
        second.get("/api/v1/session").await.problem(401, "unauthenticated");
        assert_eq!(admin.get(&sessions).await.expect(200)["items"], json!([]));
        admin.get("/api/v1/operators/op_nobody/sessions").await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_sign_in_beyond_the_twentieth_ends_the_oldest_session() {
    for world in World::both().await {
        let (admin, path, first) = ann_settled(&world).await;
        let id = path.rsplit('/').next().expect("an id");
        for n in 1..20 {
            world
                .sql(&format!(
                    "INSERT INTO operator_tokens (id, operator_id, kind, name, sha256, created_at, expires_at) \
                     SELECT 'ot_{n}', operator_id, kind, name, 'hash {n}', created_at + {n}, expires_at \
                       FROM operator_tokens WHERE operator_id = '{id}' AND id LIKE 'ot\\__________%' ESCAPE '\\'"
                ))
                .await;
        }
        let live = async || {
            let sessions = admin.get(&format!("{path}/sessions")).await.expect(200);
            sessions["items"].as_array().expect("sessions").len()
        };
        assert_eq!(live().await, 20);
        first.get("/api/v1/session").await.expect(200);
        world.advance_ms(1_000);
        sign_in(&world, "ann", "secret-1").await.expect(201);
        assert_eq!(live().await, 20);
        first.get("/api/v1/session").await.problem(401, "unauthenticated");
    }
}
