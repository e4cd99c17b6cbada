//! Accounts through the router, on both databases, and what the tests of roles, sessions and
//! tokens share.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use super::{By, actions};
use crate::testing::{Answer, Caller, World};

pub(super) async fn sign_in(world: &World, name: &str, password: &str) -> Answer {
    world.anon().post("/api/v1/session", json!({ "operator": name, "password": password })).await
}

/// Whoever presents the token in this answer.
pub(super) fn with_token_of(world: &World, answer: &Value) -> Caller {
    world.bearer(answer["token"].as_str().expect("a token"))
}

/// An administrator, and ann, whose password is given-1 and who applies.
pub(super) async fn ann(world: &World) -> (Caller, String) {
    let admin = world.operator("root", &["admin"]).await;
    let body =
        json!({ "name": "Ann", "email": "ann@example.com", "password": "given-1", "roles": ["applicant"] });
    let made = admin.post("/api/v1/operators", body).await.expect(201);
    assert_eq!((&made["name"], &made["display_name"]), (&json!("ann"), &json!("ann")));
    assert!(!made.to_string().contains("given-1"));
    (admin, format!("/api/v1/operators/{}", made["id"].as_str().expect("an id")))
}

/// [`ann`], who has set her own password, secret-1, and is signed in.
pub(super) async fn ann_settled(world: &World) -> (Caller, String, Caller) {
    let (admin, path) = ann(world).await;
    let session = with_token_of(world, &sign_in(world, "ann", "given-1").await.expect(201));
    change_password(&session, "given-1", "secret-1").await.expect(204);
    (admin, path, session)
}

pub(super) async fn change_password(session: &Caller, old: &str, new: &str) -> Answer {
    let body = json!({ "old_password": old, "new_password": new, "new_password_confirmation": new });
    session.put("/api/v1/session/password", body).await
}

/// An operator who manages operators and reads the audit trail, and may do nothing else.
pub(super) async fn clerk(world: &World, admin: &Caller) -> Caller {
    let permissions = json!({ "permissions": ["operators.read", "operators.manage", "audit.read"] });
    admin.put("/api/v1/roles/clerk", permissions).await.expect(200);
    world.operator("clara", &["clerk"]).await
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

#[tokio::test]
async fn the_first_start_makes_one_admin_and_no_other_start_does() {
    for world in World::both().await {
        let (operator, password) =
            super::ensure_first(&world.app).await.expect("created").expect("the first");
        assert_eq!(operator.name.as_str(), "admin");
        assert!(super::ensure_first(&world.app).await.expect("looked").is_none());
        let session = with_token_of(&world, &sign_in(&world, "admin", &password).await.expect(201));
        session.get("/api/v1/operators").await.problem(403, "password_change_required");
        change_password(&session, &password, "secret-1").await.expect(204);
        session.get("/api/v1/operators").await.expect(200);
    }
}

#[tokio::test]
async fn of_two_managers_who_disable_each_other_at_once_one_is_left() {
    for world in World::both().await {
        let (ann, bob) = (world.operator("ann", &["admin"]).await, world.operator("bob", &["admin"]).await);
        let paths = [&ann, &bob].map(|operator| format!("/api/v1/operators/{}", operator.id));
        for _ in 0..5 {
            let off = json!({ "status": "disabled" });
            let (first, second) = tokio::join!(ann.patch(&paths[1], off.clone()), bob.patch(&paths[0], off));
            let done = [&first, &second].iter().filter(|answer| answer.status == 200).count();
            assert_eq!(done, 1, "{first:?} {second:?}");
            let refused = if first.status == 200 { second } else { first };
            // The one who came second was disabled before it was let in, or is the last one.
            assert!([401, 409].contains(&refused.status), "{refused:?}");
            for caller in [&ann, &bob] {
                let on = actions::Changes {
                    status: Some(super::OperatorStatus::Active),
                    ..actions::Changes::default()
                };
                actions::update(&world.app, By::Machine("test"), &caller.id, None, on)
                    .await
                    .expect("enabled");
            }
        }
    }
}

#[tokio::test]
async fn the_last_manager_is_neither_disabled_nor_stripped_of_the_role_or_the_roles_permission() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let own = format!("/api/v1/operators/{}", admin.id);
        // A manager who is disabled does not count.
        let other = world.operator("other", &["admin"]).await;
        let path = format!("/api/v1/operators/{}", other.id);
        admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        for body in [json!({ "roles": [] }), json!({ "status": "disabled" })] {
            admin.patch(&own, body).await.problem(409, "last_manager");
        }
        let harmless = json!({ "permissions": ["audit.read"] });
        admin.put("/api/v1/roles/admin", harmless).await.problem(409, "last_manager");
        admin.delete("/api/v1/roles/admin").await.problem(409, "role_in_use");
        admin.patch(&path, json!({ "status": "active" })).await.expect(200);
        admin.patch(&own, json!({ "roles": [] })).await.expect(200);
    }
}

#[tokio::test]
async fn nobody_manages_an_operator_who_holds_more() {
    for world in World::both().await {
        let (admin, ann) = ann(&world).await;
        let clara = clerk(&world, &admin).await;
        let root = format!("/api/v1/operators/{}", admin.id);
        let refused = |answer: Answer, lacking: &str| {
            let problem = answer.problem(403, "forbidden");
            let detail = problem["detail"].as_str().expect("a text");
            assert!(detail.contains(lacking) && !detail.contains("operators.manage,"), "{detail}");
        };
        // Neither made nor given to others or oneself …
        for roles in [json!(["admin"]), json!(["clerk", "applicant"])] {
            refused(
                clara.post("/api/v1/operators", json!({ "name": "x", "roles": roles })).await,
                "catalog.read",
            );
        }
        let own = format!("/api/v1/operators/{}", clara.id);
        refused(clara.patch(&own, json!({ "roles": ["clerk", "admin"] })).await, "clients.write");
        // … nor changed, signed in for, or ended.
        for body in [json!({ "password": "mine-now" }), json!({ "roles": [] }), json!({ "email": null })] {
            refused(clara.patch(&root, body.clone()).await, "clients.write");
            refused(clara.patch(&ann, body).await, "applications.apply");
        }
        refused(clara.post(&format!("{root}/tokens"), json!({ "name": "x" })).await, "clients.write");
        let token = admin.get(&format!("{root}/tokens")).await.expect(200)["items"][0]["id"].clone();
        let token = format!("{root}/tokens/{}", token.as_str().expect("an id"));
        refused(clara.delete(&token).await, "clients.write");
        refused(clara.delete(&format!("{root}/sessions")).await, "clients.write");
        // Within her own she is free.
        let body = json!({ "name": "dan", "password": "given-1", "roles": ["clerk"] });
        let dan = clara.post("/api/v1/operators", body).await.expect(201);
        let dan = format!("/api/v1/operators/{}", dan["id"].as_str().expect("an id"));
        clara.patch(&dan, json!({ "roles": [], "status": "disabled" })).await.expect(200);
        clara.patch(&own, json!({ "display_name": "Clara" })).await.expect(200);
        admin.patch(&own, json!({ "roles": ["clerk", "applicant"] })).await.expect(200);
    }
}

#[tokio::test]
async fn the_trail_tells_what_changed_and_nothing_secret() {
    for world in World::both().await {
        let (admin, path, session) = ann_settled(&world).await;
        let issued = admin.post(&format!("{path}/tokens"), json!({ "name": "ci" })).await.expect(201);
        let changes = json!({
            "display_name": "Ann B", "email": null, "password": "given-2", "roles": ["applicant", "auditor"],
        });
        admin.patch(&path, changes).await.expect(200);
        session.get("/api/v1/session").await.problem(401, "unauthenticated");
        admin.put("/api/v1/roles/guest", json!({ "permissions": ["catalog.read"] })).await.expect(200);
        admin.put("/api/v1/roles/guest", json!({ "permissions": ["audit.read"] })).await.expect(200);

        let trail = admin.get("/api/v1/audit?limit=200").await.expect(200);
        let newest = |action: &str| {
            let entries = trail["items"].as_array().expect("items");
            entries.iter().find(|entry| entry["action"] == action).expect("an entry")["detail"].clone()
        };
        assert_eq!(
            newest("operators.update"),
            json!({
                "name": "ann",
                "password_reset": true,
                "tokens_ended": 1,
                "changed": {
                    "display_name": { "before": "ann", "after": "Ann B" },
                    "email": { "before": "ann@example.com", "after": null },
                    "must_change_password": { "before": false, "after": true },
                    "roles": { "before": ["applicant"], "after": ["applicant", "auditor"] },
                },
            })
        );
        assert_eq!(
            newest("operators.change_password"),
            json!({ "changed": { "must_change_password": { "before": true, "after": false } } })
        );
        assert_eq!(
            newest("roles.put"),
            json!({ "changed": { "permissions": { "before": ["catalog.read"], "after": ["audit.read"] } } })
        );
        let text = trail.to_string();
        for secret in
            ["given-1", "given-2", "secret-1", "$argon2", issued["token"].as_str().expect("a token")]
        {
            assert!(!text.contains(secret), "{secret} stands in the trail");
        }
    }
}
