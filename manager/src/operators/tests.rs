//! Operators through the router, on both databases.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ensure_first;
use crate::testing::{Caller, World};

async fn sign_in(caller: &Caller, name: &str, password: &str) -> crate::testing::Answer {
    caller.post("/api/v1/session", json!({ "operator": name, "password": password })).await
}

async fn ann(world: &World) -> (Caller, String) {
    let admin = world.operator("root", &["admin"]).await;
    let body =
        json!({ "name": "Ann", "email": "ann@example.com", "password": "secret-1", "roles": ["applicant"] });
    let made = admin.post("/api/v1/operators", body).await.expect(201);
    assert_eq!((&made["name"], &made["display_name"]), (&json!("ann"), &json!("ann")));
    assert!(!made.to_string().contains("secret"));
    (admin, format!("/api/v1/operators/{}", made["id"].as_str().expect("an id")))
}

#[tokio::test]
async fn a_sign_in_opens_a_session_that_ends() {
    for world in World::both_with(|config| config.session_ttl_s = 60).await {
        ann(&world).await;
        let answer = sign_in(&world.anon(), "ANN", "secret-1").await.expect(201);
        let token = answer["token"].as_str().expect("a token");
        let session = world.bearer(token);
        let me = session.get("/api/v1/session").await.expect(200);
        assert_eq!((&me["name"], &me["roles"]), (&json!("ann"), &json!(["applicant"])));
        assert!(me["permissions"].as_array().is_some_and(|all| all.contains(&json!("applications.apply"))));

        world.advance_ms(60_000);
        session.get("/api/v1/session").await.expect(200);
        world.advance_ms(1);
        session.get("/api/v1/session").await.problem(401, "unauthenticated");

        let answer = sign_in(&world.anon(), "ann", "secret-1").await.expect(201);
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

#[tokio::test]
async fn wrong_passwords_lock_and_say_nothing_to_strangers() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let unknown = sign_in(&world.anon(), "nobody", "secret-1").await.problem(401, "wrong_password");
        for _ in 0..3 {
            let wrong = sign_in(&world.anon(), "ann", "wrong-1").await.problem(401, "wrong_password");
            assert_eq!(
                wrong["detail"], unknown["detail"],
                "an unknown name and a wrong password read the same"
            );
        }
        sign_in(&world.anon(), "ann", "wrong-1").await.problem(401, "wrong_password");
        sign_in(&world.anon(), "ann", "secret-1").await.problem(403, "account_locked");
        admin.patch(&path, json!({ "unlock": true })).await.expect(200);
        sign_in(&world.anon(), "ann", "secret-1").await.expect(201);
        // A right one forgets the wrong ones.
        for _ in 0..2 {
            sign_in(&world.anon(), "ann", "wrong-1").await.problem(401, "wrong_password");
        }
        sign_in(&world.anon(), "ann", "secret-1").await.expect(201);
        sign_in(&world.anon(), "ann", "wrong-1").await.problem(401, "wrong_password");
        sign_in(&world.anon(), "ann", "secret-1").await.expect(201);
    }
}

#[tokio::test]
async fn a_new_password_or_a_disabled_account_ends_sessions() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let session = |answer: Value| world.bearer(answer["token"].as_str().expect("a token"));
        let first = session(sign_in(&world.anon(), "ann", "secret-1").await.expect(201));
        admin.patch(&path, json!({ "password": "secret-2" })).await.expect(200);
        first.get("/api/v1/session").await.problem(401, "unauthenticated");
        sign_in(&world.anon(), "ann", "secret-1").await.problem(401, "wrong_password");
        let second = session(sign_in(&world.anon(), "ann", "secret-2").await.expect(201));
        let token = admin.post(&format!("{path}/tokens"), json!({ "name": "ci" })).await.expect(201);
        let program = session(token);
        program.get("/api/v1/session").await.expect(200);
        admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        for caller in [&second, &program] {
            caller.get("/api/v1/session").await.problem(401, "unauthenticated");
        }
        sign_in(&world.anon(), "ann", "secret-2").await.problem(403, "account_disabled");
    }
}

#[tokio::test]
async fn api_tokens_are_shown_once_listed_and_revoked() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let tokens = format!("{path}/tokens");
        let made = admin.post(&tokens, json!({ "name": "ci" })).await.expect(201);
        let text = made["token"].as_str().expect("a token");
        assert!(text.starts_with("kgt_"));
        let listed = admin.get(&tokens).await.expect(200);
        assert_eq!(listed["items"][0]["name"], "ci");
        assert!(!listed.to_string().contains(text));
        let program = world.bearer(text);
        // One's own tokens are one's own affair; another's are not.
        program.get(&tokens).await.expect(200);
        program.get(&format!("/api/v1/operators/{}/tokens", admin.id)).await.problem(403, "forbidden");
        admin.post(&tokens, json!({ "name": " " })).await.refuses("name");
        for n in 1..20 {
            admin.post(&tokens, json!({ "name": format!("t{n}") })).await.expect(201);
        }
        admin.post(&tokens, json!({ "name": "one too many" })).await.problem(409, "too_many_tokens");
        let one = format!("{tokens}/{}", made["id"].as_str().expect("an id"));
        admin.delete(&one).await.expect(204);
        admin.delete(&one).await.problem(404, "not_found");
        program.get("/api/v1/session").await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn bad_operators_are_refused_by_field() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        for (body, field) in [
            (json!({ "roles": ["admin"] }), "name"),
            (json!({ "name": "a b" }), "name"),
            (json!({ "name": "" }), "name"),
            (json!({ "name": "x".repeat(51) }), "name"),
            (json!({ "name": "ann" }), "name"),
            (json!({ "name": "ANN" }), "name"),
            (json!({ "name": "bob", "email": "bob" }), "email"),
            (json!({ "name": "bob", "password": "12345" }), "password"),
            (json!({ "name": "bob", "password": "x".repeat(129) }), "password"),
            (json!({ "name": "bob", "roles": ["king"] }), "roles"),
            (json!({ "name": "bob", "roles": "admin" }), "roles"),
            (json!({ "name": "bob", "display_name": "x".repeat(101) }), "display_name"),
            (json!({ "name": "bob", "admin": true }), "admin"),
        ] {
            admin.post("/api/v1/operators", body).await.refuses(field);
        }
        for (body, field) in [
            (json!({ "email": "x" }), "email"),
            (json!({ "status": "gone" }), "status"),
            (json!({ "display_name": "" }), "display_name"),
            (json!({ "name": "bob" }), "name"),
            (json!({ "roles": ["king"] }), "roles"),
        ] {
            admin.patch(&path, body).await.refuses(field);
        }
        let unchanged = admin.get(&path).await.expect(200);
        assert_eq!((&unchanged["version"], &unchanged["email"]), (&json!(1), &json!("ann@example.com")));
        assert_eq!(admin.patch(&path, json!({ "email": null })).await.expect(200)["email"], Value::Null);
        let kept = admin.patch(&path, json!({ "display_name": "Ann B" })).await.expect(200);
        assert_eq!((&kept["roles"], &kept["display_name"]), (&json!(["applicant"]), &json!("Ann B")));
        admin
            .send(Method::PATCH, &path, &[("if-match", "\"1\"")], Some(json!({})))
            .await
            .problem(412, "version_mismatch");
    }
}

#[tokio::test]
async fn somebody_who_manages_operators_is_always_left() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let own = format!("/api/v1/operators/{}", admin.id);
        admin.patch(&own, json!({ "roles": ["applicant"] })).await.problem(409, "last_manager");
        admin.patch(&own, json!({ "status": "disabled" })).await.problem(409, "last_manager");
        admin
            .put("/api/v1/roles/admin", json!({ "permissions": ["catalog.read"] }))
            .await
            .problem(409, "last_manager");
        world.operator("other", &["admin"]).await;
        admin.patch(&own, json!({ "roles": ["applicant"] })).await.expect(200);
        admin.post("/api/v1/operators", json!({ "name": "x" })).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn roles_are_free_names_with_known_permissions() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let role =
            json!({ "description": "Third level", "permissions": ["applications.review", "audit.read"] });
        admin.put("/api/v1/roles/reviewer_3", role).await.expect(200);
        let third = world.operator("third", &["reviewer_3"]).await;
        third.get("/api/v1/audit").await.expect(200);
        third.get("/api/v1/operators").await.problem(403, "forbidden");
        admin.put("/api/v1/roles/x", json!({ "permissions": ["fly"] })).await.refuses("permissions");
        admin.put("/api/v1/roles/a%20b", json!({ "permissions": [] })).await.refuses("name");
        let names = admin.get("/api/v1/roles").await.expect(200);
        let names: Vec<_> =
            names["items"].as_array().expect("roles").iter().map(|role| &role["name"]).collect();
        assert!(
            ["admin", "applicant", "reviewer_1", "reviewer_2", "reviewer_3"]
                .iter()
                .all(|name| names.contains(&&json!(name)))
        );
        let mut conn = world.app.db.read().await.expect("a connection");
        let signers = super::with_role(&mut conn, "reviewer_3").await.expect("operators");
        assert_eq!(signers.iter().map(|signer| signer.name.as_str()).collect::<Vec<_>>(), ["third"]);
    }
}

#[tokio::test]
async fn a_client_manager_holds_partners_and_not_operators() {
    for world in World::both().await {
        let manager = world.operator("mia", &["client_manager"]).await;
        for path in ["/api/v1/clients", "/api/v1/apis", "/api/v1/keys", "/api/v1/applications"] {
            manager.get(path).await.expect(200);
        }
        // Permitted, and refused for what it says.
        manager.post("/api/v1/clients", json!({ "name": 7 })).await.refuses("name");
        for path in ["/api/v1/operators", "/api/v1/roles", "/api/v1/audit"] {
            manager.get(path).await.problem(403, "forbidden");
        }
        manager.post("/api/v1/operators", json!({ "name": "x" })).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn the_first_start_makes_one_admin_and_no_other_start_does() {
    for world in World::both().await {
        let (operator, password) = ensure_first(&world.app).await.expect("created").expect("the first");
        assert_eq!(operator.name.as_str(), "admin");
        assert!(ensure_first(&world.app).await.expect("looked").is_none());
        let token = sign_in(&world.anon(), "admin", &password).await.expect(201);
        world.bearer(token["token"].as_str().expect("a token")).get("/api/v1/operators").await.expect(200);
    }
}

#[tokio::test]
async fn every_refusal_of_the_router_is_a_problem_document() {
    for world in World::both().await {
        let anon = world.anon();
        let json_type = [("content-type", "application/json")];
        let post = |headers, body: &str| {
            let (anon, body) = (anon.clone(), Body::from(body.to_string()));
            async move { anon.raw(Method::POST, "/api/v1/session", headers, body).await }
        };
        anon.get("/api/v1/nothing").await.problem(404, "not_found");
        let wrong_method = anon.delete("/api/v1/roles").await;
        assert!(wrong_method.header("allow").is_some_and(|allow| allow.contains("GET")));
        wrong_method.problem(405, "method_not_allowed");
        post(&[("content-type", "text/plain")], "{}").await.problem(415, "unsupported_media_type");
        post(&[], "{}").await.problem(415, "unsupported_media_type");
        post(&json_type, "{").await.problem(400, "malformed_json");
        post(&json_type, "{}").await.problem(422, "invalid_body");
        let padded = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
        post(&json_type, &padded(crate::http::MAX_BODY_BYTES)).await.problem(422, "invalid_body");
        post(&json_type, &padded(crate::http::MAX_BODY_BYTES + 1)).await.problem(413, "body_too_large");
        for token in ["", "x", "Basic eDp5"] {
            let answer = anon.send(Method::GET, "/api/v1/session", &[("authorization", token)], None).await;
            answer.problem(401, "unauthenticated");
        }
        let named = anon.send(Method::GET, "/api/v1/session", &[("x-request-id", "abc-1")], None).await;
        assert_eq!(named.header("x-request-id"), Some("abc-1"));
        assert_eq!(named.body["instance"], "urn:keygate:request:abc-1");
        let hostile = anon.send(Method::GET, "/healthz", &[("x-request-id", "a b<script>")], None).await;
        assert!(hostile.header("x-request-id").is_some_and(|id| id.starts_with("rq_")));
        hostile.expect(200);
        anon.get("/readyz").await.expect(200);
        let metrics = anon.get("/metrics").await.expect(200);
        assert!(
            metrics
                .as_str()
                .is_some_and(|text| text.contains("keygate_http_requests_total{route=\"/healthz\""))
        );
    }
}
