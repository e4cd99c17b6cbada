use axum::http::Method;
use serde_json::{Value, json};

use super::model::{ANSWER_WITHIN_MS, SECRET_KEPT_MS};
use super::{KEPT_MS, MAX_KEY};
use crate::testing::{Answer, Caller, World};

const HOUR_MS: i64 = 3_600_000;
const GROUPS: &str = "/api/v1/groups";

async fn keyed(caller: &Caller, method: Method, path: &str, key: &str, body: Value) -> Answer {
    caller.send(method, path, &[("idempotency-key", key)], Some(body)).await
}

async fn make(caller: &Caller, key: &str, name: &str) -> Answer {
    keyed(caller, Method::POST, GROUPS, key, json!({ "name": name })).await
}

/// Repeats until it is no longer being carried out.
async fn settled(caller: &Caller, key: &str, name: &str) -> Answer {
    loop {
        let answer = make(caller, key, name).await;
        if answer.body["code"] != "request_in_progress" {
            return answer;
        }
        assert_eq!((answer.status, answer.header("retry-after")), (409, Some("1")));
    }
}

async fn groups(caller: &Caller) -> Vec<String> {
    let list = caller.get(GROUPS).await.expect(200);
    let names = list["items"].as_array().expect("a list").iter();
    names.map(|group| group["name"].as_str().expect("a name").to_string()).collect()
}

#[tokio::test]
async fn a_repeat_gets_the_same_answer_and_is_not_carried_out() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let first = make(&admin, "k-1", "retail").await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (201, None));
        world.advance_ms(KEPT_MS - 1);
        // A structured field has quotes.
        let repeat = make(&admin, "\"k-1\"", "retail").await;
        assert_eq!((repeat.status, repeat.header("idempotency-replayed")), (201, Some("true")));
        assert_eq!(repeat.body, first.body);
        for header in ["location", "etag", "content-type", "cache-control"] {
            assert_eq!(repeat.header(header), first.header(header), "{header}");
        }
        assert_ne!(repeat.header("x-request-id"), first.header("x-request-id"));
        // A day later the key is as good as new: the call is carried out, and refused.
        world.advance_ms(1);
        assert_eq!(make(&admin, "k-1", "retail").await.status, 409);
        assert_eq!(groups(&admin).await, ["retail"]);
    }
}

#[tokio::test]
async fn twenty_at_once_have_one_effect_and_one_answer() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let admin = admin.clone();
            calls.spawn(async move { settled(&admin, "k-20", "retail").await.expect(201) });
        }
        let answers = calls.join_all().await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(groups(&admin).await, ["retail"]);
    }
}

#[tokio::test]
async fn replicas_carry_a_call_out_once() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let replicas = [admin.clone(), world.replica(&admin).await, world.replica(&admin).await];
        for round in 0..5 {
            let (key, name) = (format!("k-{round}"), format!("retail_{round}"));
            let mut calls = tokio::task::JoinSet::new();
            for replica in replicas.iter().chain(&replicas) {
                let (replica, key, name) = (replica.clone(), key.clone(), name.clone());
                calls.spawn(async move { settled(&replica, &key, &name).await.expect(201) });
            }
            let answers = calls.join_all().await;
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        }
        assert_eq!(groups(&admin).await.len(), 5);
    }
}

#[tokio::test]
async fn a_key_stands_for_one_call_of_one_caller() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let made = make(&admin, "k-1", "retail").await.expect(201);
        let path = format!("{GROUPS}/{}", made["id"].as_str().expect("an id"));
        for (method, path, body) in [
            (Method::POST, GROUPS, json!({ "name": "other" })),
            (Method::POST, "/api/v1/scopes", json!({ "name": "retail" })),
            (Method::PATCH, &path, json!({ "name": "retail" })),
        ] {
            let refused =
                keyed(&admin, method, path, "k-1", body).await.problem(422, "idempotency_key_reused");
            assert_eq!(refused["field"], "Idempotency-Key");
        }
        let versioned = [("idempotency-key", "k-1"), ("if-match", "\"1\"")];
        let body = Some(json!({ "name": "retail" }));
        admin.send(Method::POST, GROUPS, &versioned, body).await.problem(422, "idempotency_key_reused");
        assert_eq!(groups(&admin).await, ["retail"]);
        // Another operator's key of the same name is another key.
        let other = world.operator("other", &["admin"]).await;
        make(&other, "k-1", "wholesale").await.expect(201);
    }
}

#[tokio::test]
async fn a_refusal_leaves_the_key_free() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        make(&admin, "k-1", "no blanks").await.refuses("name");
        make(&admin, "k-1", "retail").await.expect(201);
        // Wrong passwords are counted, each of them, and are no answer to be kept.
        let sign_in = json!({ "operator": "root", "password": "not it at all" });
        for _ in 0..2 {
            let refused = keyed(&world.anon(), Method::POST, "/api/v1/session", "k-2", sign_in.clone()).await;
            assert_eq!(refused.header("idempotency-replayed"), None);
            refused.problem(401, "wrong_password");
        }
        assert_eq!(world.sql("DELETE FROM idempotency_keys").await, 1);
    }
}

#[tokio::test]
async fn a_call_that_changes_nothing_is_remembered_too() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let made = make(&admin, "k-1", "retail").await.expect(201);
        let path = format!("{GROUPS}/{}", made["id"].as_str().expect("an id"));
        let as_it_is = json!({ "alias": "retail" });
        keyed(&admin, Method::PATCH, &path, "k-2", as_it_is.clone()).await.expect(200);
        admin.patch(&path, json!({ "alias": "Shops" })).await.expect(200);
        let repeat = keyed(&admin, Method::PATCH, &path, "k-2", as_it_is).await.expect(200);
        assert_eq!(repeat["alias"], "retail");
        assert_eq!(admin.get(&path).await.expect(200)["alias"], "Shops");
    }
}

#[tokio::test]
async fn an_answer_lost_between_commit_and_answer_is_told_in_words() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        make(&admin, "k-1", "retail").await.expect(201);
        // What a process leaves that ends after its commit.
        let lose =
            "UPDATE idempotency_keys SET answered_at = NULL, answer_sealed = NULL, answer_until = NULL";
        assert_eq!(world.sql(lose).await, 1);
        world.advance_ms(ANSWER_WITHIN_MS - 1);
        make(&admin, "k-1", "retail").await.problem(409, "request_in_progress");
        world.advance_ms(1);
        let told = make(&admin, "k-1", "retail").await.problem(409, "already_carried_out");
        let detail = told["detail"].as_str().expect("a detail");
        assert!(detail.contains(GROUPS) && detail.contains(&World::START.0.to_string()), "{detail}");
        make(&admin, "k-1", "other").await.problem(422, "idempotency_key_reused");
        assert_eq!(groups(&admin).await, ["retail"]);
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_finds_its_answer() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let mut rows = 0;
        for round in 0..10 {
            let (key, name) = (format!("k-{round}"), format!("retail_{round}"));
            let call = make(&admin, &key, &name);
            tokio::select! {
                biased;
                _ = call => {}
                () = async { for _ in 0..round { tokio::task::yield_now().await } } => {}
            }
            settled(&admin, &key, &name).await.expect(201);
            rows += 1;
        }
        assert_eq!(groups(&admin).await.len(), rows);
    }
}

#[tokio::test]
async fn an_answer_that_shows_a_secret_is_kept_sealed_and_for_a_short_time() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let path = format!("/api/v1/operators/{}/tokens", admin.id);
        let issue = || keyed(&admin, Method::POST, &path, "k-1", json!({ "name": "robot" }));
        let first = issue().await.expect(201);
        world.advance_ms(SECRET_KEPT_MS - 1);
        assert_eq!(issue().await.expect(201), first);
        let clear = format!("%{}%", first["token"].as_str().expect("a token"));
        let holding = format!("DELETE FROM idempotency_keys WHERE answer_sealed LIKE '{clear}'");
        assert_eq!(world.sql(&holding).await, 0);
        world.advance_ms(1);
        issue().await.problem(409, "already_carried_out");
        world.advance_ms(HOUR_MS);
        world.run_due().await;
        let erased = "UPDATE idempotency_keys SET run = run WHERE answer_sealed IS NULL";
        assert_eq!(world.sql(erased).await, 1);
        issue().await.problem(409, "already_carried_out");
        world.advance_ms(KEPT_MS);
        world.run_due().await;
        assert_eq!(world.sql("DELETE FROM idempotency_keys").await, 0);
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_and_reading_needs_none() {
    let world = World::sqlite().await;
    let admin = world.operator("root", &["admin"]).await;
    let too_long = "k".repeat(MAX_KEY + 1);
    for bad in ["", "a b", &too_long] {
        make(&admin, bad, "retail").await.refuses("Idempotency-Key");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let body = Some(json!({ "name": "retail" }));
    admin.send(Method::POST, GROUPS, &twice, body).await.refuses("Idempotency-Key");
    admin.send(Method::GET, GROUPS, &[("idempotency-key", "a b")], None).await.expect(200);
    make(&admin, &"k".repeat(MAX_KEY), "retail").await.expect(201);
}
