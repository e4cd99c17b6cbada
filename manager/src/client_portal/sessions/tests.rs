//! Sessions of clients through the router.

use axum::http::Method;
use serde_json::{Value, json};

use super::model::{MAX_SESSIONS, MAX_SLIDING_MS};
use crate::config::LockoutScope;
use crate::testing::{Answer, Caller, World};
use crate::wrong_passwords::{MAX_WRONG, WINDOW_MS};

const SESSION: &str = "/client/v1/session";
const PASSWORD: &str = World::CLIENT_PASSWORD;

async fn sign_in(world: &World, client: &str, password: &str) -> Answer {
    world.anon().post(SESSION, json!({ "client": client, "password": password })).await
}

async fn goes_on(session: &Caller) -> bool {
    let answer = session.get(SESSION).await;
    if answer.status == 200 {
        return true;
    }
    answer.problem(401, "unauthenticated");
    false
}

/// The refusal as everybody reads it, without the id of the call.
fn read(mut refused: Value) -> Value {
    refused["instance"] = Value::Null;
    refused
}

#[tokio::test]
async fn a_client_signs_in_is_told_who_it_is_and_signs_out() {
    for world in World::both().await {
        world.client("acme").await;
        let opened = sign_in(&world, "acme", PASSWORD).await;
        assert_eq!(opened.header("cache-control"), Some("no-store"));
        let opened = opened.expect(201);
        let end = World::START.0 + 3_600_000;
        assert_eq!((&opened["client"], &opened["expires_at"]), (&json!("acme"), &json!(end)));
        let token = opened["token"].as_str().expect("a token");
        let session = world.bearer(token);
        let shown = session.get(SESSION).await.expect(200);
        assert_eq!(shown["display_name"], "acme Ltd.");
        assert_eq!(shown["token"], Value::Null);
        assert_eq!(
            world
                .sql(&format!("UPDATE client_sessions SET expires_at = 0 WHERE sha256 LIKE '%{token}%'"))
                .await,
            0,
            "the token is not on record"
        );
        assert!(goes_on(&session).await);
        session.delete(SESSION).await.expect(204);
        assert!(!goes_on(&session).await);
        let auditor = world.operator("aud", &["auditor"]).await;
        let trail = auditor.get("/api/v1/audit?actor=client:acme&limit=200").await.expect(200);
        let actions: Vec<_> =
            trail["items"].as_array().expect("entries").iter().map(|entry| &entry["action"]).collect();
        assert_eq!(
            actions,
            ["client_portal.sign_out", "client_portal.sign_in", "client_portal.sign_in"],
            "{trail:#}"
        );
        assert!(!trail.to_string().contains(token));
    }
}

#[tokio::test]
async fn an_unknown_client_and_closed_credentials_read_as_a_wrong_password() {
    for world in World::both().await {
        world.client("acme").await;
        let wrong = read(sign_in(&world, "acme", "wrong").await.problem(401, "wrong_password"));
        let unknown = read(sign_in(&world, "nobody", "wrong").await.problem(401, "wrong_password"));
        assert_eq!(wrong, unknown);
        // No id at all is nobody's either.
        assert_eq!(read(sign_in(&world, "no id", "x").await.problem(401, "wrong_password")), wrong);
        // Two more, at either door: they count together.
        let replaced = json!({
            "client": "acme", "password": "wrong", "new_password": "secret-2", "password_confirmation": "secret-2",
        });
        world.anon().post("/client/v1/password", replaced).await.problem(403, "wrong_password");
        assert_eq!(read(sign_in(&world, "acme", "").await.problem(401, "wrong_password")), wrong);
        let locked = read(sign_in(&world, "acme", PASSWORD).await.problem(401, "wrong_password"));
        assert_eq!(locked, wrong, "the right one is taken no more, and nobody is told why");
        let admin = world.operator("ann", &["admin"]).await;
        let client = admin.get("/api/v1/clients/acme").await.expect(200);
        assert_eq!((&client["password_locked"], &client["failed_attempts"]), (&json!(true), &json!(3)));
        sign_in(&world, "acme", &"x".repeat(129)).await.refuses("password");
    }
}

#[tokio::test]
async fn a_right_password_begins_the_count_anew() {
    let world = World::sqlite().await;
    world.client("acme").await;
    for _ in 0..3 {
        for _ in 0..2 {
            sign_in(&world, "acme", "wrong").await.problem(401, "wrong_password");
        }
        sign_in(&world, "acme", PASSWORD).await.expect(201);
    }
}

/// A stranger who knows a client's id can bring the lock about: as with keys and tokens, what is
/// open already goes on.
#[tokio::test]
async fn too_many_wrong_passwords_close_sign_in_and_a_session_only_where_all_is_to_be_closed() {
    for (scope, open) in [(LockoutScope::Password, true), (LockoutScope::All, false)] {
        for world in World::both_with(|config| config.lockout_scope = scope).await {
            let session = world.client("acme").await;
            for _ in 0..3 {
                assert!(goes_on(&session).await);
                sign_in(&world, "acme", "wrong").await.problem(401, "wrong_password");
            }
            sign_in(&world, "acme", PASSWORD).await.problem(401, "wrong_password");
            assert_eq!(goes_on(&session).await, open);
        }
    }
}

#[tokio::test]
async fn what_keeps_a_client_out_ends_its_sessions_and_lets_it_open_none() {
    let dates = |start, expiry| json!({ "start_date": start, "expiry_date": expiry, "time_zone": "UTC" });
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let session = world.client("acme").await;
        let change = async |body: Value| admin.patch("/api/v1/clients/acme", body).await.expect(200);
        for (body, told) in [
            (json!({ "status": "disabled" }), "disabled"),
            (json!({ "status": "locked" }), "locked"),
            (json!({ "status": "active" }), ""),
            (dates("2026-01-16", "2026-12-31"), "first day is 2026-01-16"),
            (dates("2026-01-01", "2026-01-14"), "last day was 2026-01-14"),
            (dates("2026-01-15", "2026-01-15"), ""),
        ] {
            change(body.clone()).await;
            assert_eq!(goes_on(&session).await, told.is_empty(), "{body}");
            let answer = sign_in(&world, "acme", PASSWORD).await;
            if told.is_empty() {
                answer.expect(201);
            } else {
                let refused = answer.problem(403, "client_not_active");
                assert!(refused["detail"].as_str().is_some_and(|text| text.contains(told)), "{refused:#}");
                // Who does not know the password is not told.
                let other = sign_in(&world, "acme", "wrong").await.problem(401, "wrong_password");
                assert!(!other.to_string().contains(told));
                world.sql("UPDATE clients SET failed_attempts = 0").await;
            }
        }
        // The last day ends, and with it the session.
        world.advance_ms(86_400_000 - 1);
        let last = world.client_session("acme").await;
        assert!(goes_on(&last).await);
        world.advance_ms(1);
        assert!(!goes_on(&last).await);
        sign_in(&world, "acme", PASSWORD).await.problem(403, "client_not_active");
    }
}

#[tokio::test]
async fn a_deleted_client_is_nobody() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let (session, other) = (world.client("acme").await, world.client("other").await);
        admin.delete("/api/v1/clients/acme?confirm=acme").await.expect(204);
        assert!(!goes_on(&session).await);
        assert!(goes_on(&other).await);
        sign_in(&world, "acme", PASSWORD).await.problem(401, "wrong_password");
        assert_eq!(world.sql("UPDATE client_sessions SET client_id = client_id").await, 1);
    }
}

#[tokio::test]
async fn sessions_end_with_the_password_that_opened_them() {
    const CHANGES: [(&str, &str); 3] = [
        ("PUT", "/api/v1/clients/acme/password"),
        ("POST", "/api/v1/clients/acme/password/reset"),
        ("POST", "/client/v1/password"),
    ];
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let mut session = world.client("acme").await;
        for (method, path) in CHANGES {
            let body = match path {
                // The same text again is another password.
                "/api/v1/clients/acme/password" => {
                    json!({ "password": PASSWORD, "password_confirmation": PASSWORD })
                }
                "/client/v1/password" => json!({
                    "client": "acme", "password": PASSWORD,
                    "new_password": "secret-2", "password_confirmation": "secret-2",
                }),
                _ => json!({}),
            };
            assert!(goes_on(&session).await, "{path}");
            let method: Method = method.parse().expect("a method");
            let answer = admin.send(method, path, &[], Some(body)).await;
            assert!(answer.status < 300, "{path}: {:#}", answer.body);
            assert!(!goes_on(&session).await, "{path}");
            if path.ends_with("reset") {
                sign_in(&world, "acme", PASSWORD).await.problem(401, "wrong_password");
                let body = json!({ "password": PASSWORD, "password_confirmation": PASSWORD });
                admin.put("/api/v1/clients/acme/password", body).await.expect(200);
            }
            if path != "/client/v1/password" {
                session = world.client_session("acme").await;
            }
        }
        sign_in(&world, "acme", "secret-2").await.expect(201);
    }
}

#[tokio::test]
async fn a_mailed_password_opens_no_session_and_guesses_at_it_count() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        world.client("acme").await;
        admin.post("/api/v1/clients/acme/password/reset", json!({})).await.expect(200);
        let mailed = world.mailed().await;
        let password = mailed
            .iter()
            .flat_map(|mail| mail.text.lines())
            .find_map(|line| line.strip_prefix("Password:"))
            .expect("a password in the mail")
            .trim()
            .to_owned();
        let refused = sign_in(&world, "acme", &password).await.problem(403, "password_change_required");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("/client/v1/password")));
        for _ in 0..3 {
            sign_in(&world, "acme", "wrong").await.problem(401, "wrong_password");
        }
        sign_in(&world, "acme", &password).await.problem(401, "wrong_password");
    }
}

#[tokio::test]
async fn a_session_that_slides_lives_as_long_as_it_is_used_and_a_day_at_most() {
    for world in World::both().await {
        let session = world.client("acme").await;
        let idle = world.client_session("acme").await;
        let mut passed = 0;
        while passed + 3_000_000 < MAX_SLIDING_MS {
            world.advance_ms(3_000_000);
            passed += 3_000_000;
            assert!(goes_on(&session).await, "{passed}");
        }
        assert!(!goes_on(&idle).await, "an hour without use");
        world.advance_ms(MAX_SLIDING_MS - passed);
        assert!(goes_on(&session).await);
        world.advance_ms(1);
        assert!(!goes_on(&session).await);
        world.run_due().await;
        assert_eq!(world.sql("DELETE FROM client_sessions").await, 0);
    }
}

#[tokio::test]
async fn a_session_of_a_fixed_length_ends_however_much_it_is_used() {
    let worlds = World::both_with(|config| {
        config.client_session_sliding = false;
        config.client_session_ttl_s = 60;
    });
    for world in worlds.await {
        let session = world.client("acme").await;
        for _ in 0..6 {
            assert!(goes_on(&session).await);
            world.advance_ms(10_000);
        }
        assert!(goes_on(&session).await, "the last instant");
        world.advance_ms(1);
        assert!(!goes_on(&session).await);
    }
}

#[tokio::test]
async fn a_session_too_many_ends_the_oldest() {
    let world = World::sqlite().await;
    let oldest = world.client("acme").await;
    let mut sessions = Vec::new();
    for _ in 1..MAX_SESSIONS {
        world.advance_ms(1);
        sessions.push(world.client_session("acme").await);
    }
    assert!(goes_on(&oldest).await, "as many as there may be");
    world.advance_ms(1);
    sessions.push(world.client_session("acme").await);
    assert!(!goes_on(&oldest).await);
    for session in &sessions {
        assert!(goes_on(session).await);
    }
}

#[tokio::test]
async fn an_operators_token_is_no_clients_session_and_the_other_way_round() {
    let world = World::sqlite().await;
    let (session, admin) = (world.client("acme").await, world.operator("ann", &["admin"]).await);
    admin.get(SESSION).await.problem(401, "unauthenticated");
    session.get("/api/v1/session").await.problem(401, "unauthenticated");
    session.get("/api/v1/clients/acme").await.problem(401, "unauthenticated");
}

/// Each account allows some wrong ones; who tries those of many accounts is stopped by the address.
#[tokio::test]
async fn an_address_tries_so_many_passwords_and_no_more() {
    let worlds = World::both_with(|config| config.behind_proxy("x-address"));
    for world in worlds.await {
        world.client("acme").await;
        let post = async |path: &str, address: &str, client: &str, password: &str| {
            let mut body = json!({ "client": client, "password": password });
            if path != SESSION {
                body["new_password"] = json!("secret-2");
                body["password_confirmation"] = json!("secret-2");
            }
            world.anon().send(Method::POST, path, &[("x-address", address)], Some(body)).await
        };
        // Right ones do not count, nor what is refused for another reason.
        post(SESSION, "192.0.2.1", "acme", PASSWORD).await.expect(201);
        let long = "x".repeat(129);
        post(SESSION, "192.0.2.1", "acme", &long).await.refuses("password");
        for number in 0..MAX_WRONG {
            let (path, status) = if number % 2 == 0 { (SESSION, 401) } else { ("/client/v1/password", 403) };
            let client = format!("client{number}");
            post(path, "192.0.2.1", &client, "wrong-1").await.problem(status, "wrong_password");
        }
        let as_operator = json!({ "operator": "root", "password": "wrong-1" });
        let from = [("x-address", "192.0.2.1")];
        for answer in [
            post(SESSION, "192.0.2.1", "acme", PASSWORD).await,
            post("/client/v1/password", "192.0.2.1", "acme", PASSWORD).await,
            world.anon().send(Method::POST, "/api/v1/session", &from, Some(as_operator)).await,
        ] {
            assert_eq!(answer.header("retry-after"), Some("600"));
            answer.problem(429, "too_many_wrong_passwords");
        }
        post(SESSION, "192.0.2.2", "acme", PASSWORD).await.expect(201);
        world.advance_ms(WINDOW_MS);
        post(SESSION, "192.0.2.1", "acme", PASSWORD).await.expect(201);
    }
}
