//! Users through the router and their passwords, on both databases.

use axum::http::Method;
use serde_json::json;

use super::{PasswordCheck, Spelling, check_password};
use crate::testing::{Caller, World};

const PASSWORD: &str = "secret-1";

/// An administrator, and the user ann with [`PASSWORD`].
async fn ann(world: &World) -> (Caller, String) {
    let admin = world.operator("root", &["admin"]).await;
    let body = json!({ "name": "Ann", "display_name": "Ann Lee", "email": "ann@example.com",
                       "org_id": "100000", "password": PASSWORD });
    let made = admin.post("/api/v1/users", body).await.expect(201);
    assert_eq!((&made["name"], &made["org_id"]), (&json!("ann"), &json!("100000")));
    assert!(!made.to_string().contains(PASSWORD));
    (admin, format!("/api/v1/users/{}", made["id"].as_str().expect("an id")))
}

/// What the check says, in a word.
async fn checked(world: &World, name: &str, password: &str) -> &'static str {
    match check_password(&world.app, name, password, Spelling::PlainOrBase64).await.expect("checked") {
        PasswordCheck::Right(_) => "right",
        PasswordCheck::Wrong => "wrong",
        PasswordCheck::Disabled(_) => "disabled",
        PasswordCheck::Locked(_) => "locked",
    }
}

#[tokio::test]
async fn bad_users_are_refused_by_field() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        for (body, field) in [
            (json!({}), "name"),
            (json!({ "name": "a b" }), "name"),
            (json!({ "name": "x".repeat(101) }), "name"),
            (json!({ "name": "ANN" }), "name"),
            (json!({ "name": "bob", "email": "bob" }), "email"),
            (json!({ "name": "bob", "org_id": "a b" }), "org_id"),
            (json!({ "name": "bob", "password": "12345" }), "password"),
            (json!({ "name": "bob", "password": "x".repeat(129) }), "password"),
            (json!({ "name": "bob", "display_name": "x".repeat(101) }), "display_name"),
            (json!({ "name": "bob", "roles": [] }), "roles"),
        ] {
            admin.post("/api/v1/users", body).await.refuses(field);
        }
        for (body, field) in [
            (json!({ "status": "gone" }), "status"),
            (json!({ "display_name": "" }), "display_name"),
            (json!({ "password": "12345" }), "password"),
            (json!({ "name": "bob" }), "name"),
        ] {
            admin.patch(&path, body).await.refuses(field);
        }
        admin.get("/api/v1/users/us_none").await.problem(404, "not_found");
        admin.get("/api/v1/users?status=gone").await.refuses("status");
    }
}

#[tokio::test]
async fn users_are_found_changed_and_told_in_the_audit_trail() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        for name in ["bob", "carl"] {
            admin.post("/api/v1/users", json!({ "name": name })).await.expect(201);
        }
        let names = async |query: &str| {
            let page = admin.get(&format!("/api/v1/users?{query}")).await.expect(200);
            let names = page["items"].as_array().expect("items").iter();
            names.map(|user| user["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("").await, ["ann", "bob", "carl"]);
        assert_eq!(names("keyword=LEE%20example").await, ["ann"]);
        assert_eq!(names("keyword=%25").await, [""; 0]);
        let first = admin.get("/api/v1/users?limit=2").await.expect(200);
        let next = first["next"].as_str().expect("more").to_owned();
        assert_eq!(names(&format!("limit=2&cursor={next}")).await, ["carl"]);

        let stale = admin
            .send(Method::PATCH, &path, &[("if-match", "\"9\"")], Some(json!({ "status": "disabled" })))
            .await;
        stale.problem(412, "version_mismatch");
        let changed = admin
            .patch(
                &path,
                json!({ "status": "disabled", "email": null, "org_id": null, "password": "another-1" }),
            )
            .await
            .expect(200);
        assert_eq!((&changed["email"], &changed["org_id"]), (&json!(null), &json!(null)));
        assert_eq!(names("status=disabled").await, ["ann"]);
        assert_eq!(names("status=active").await, ["bob", "carl"]);
        // The address is no longer searched.
        assert_eq!(names("keyword=example").await, [""; 0]);

        let trail = admin.get("/api/v1/audit?action=users.").await.expect(200).to_string();
        assert!(trail.contains("users.create") && trail.contains("users.update"), "{trail}");
        assert!(!trail.contains(PASSWORD) && !trail.contains("another-1") && !trail.contains("argon2"));
    }
}

#[tokio::test]
async fn users_are_seen_and_changed_by_permission_alone() {
    for world in World::both().await {
        let (_, path) = ann(&world).await;
        let auditor = world.operator("aud", &["auditor"]).await;
        auditor.get(&path).await.expect(200);
        auditor.patch(&path, json!({ "unlock": true })).await.problem(403, "forbidden");
        auditor.post("/api/v1/users", json!({ "name": "x" })).await.problem(403, "forbidden");
        let applicant = world.operator("app", &["applicant"]).await;
        applicant.get("/api/v1/users").await.problem(403, "forbidden");
        world.anon().get("/api/v1/users").await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_repeated_creation_makes_one_user() {
    for world in World::both().await {
        let (admin, _) = ann(&world).await;
        let key = [("idempotency-key", "\"k-1\"")];
        let make = async || {
            let body = json!({ "name": "bob" });
            admin.send(Method::POST, "/api/v1/users", &key, Some(body)).await.expect(201)
        };
        assert_eq!(make().await["id"], make().await["id"]);
    }
}

#[tokio::test]
async fn a_password_is_right_as_it_is_and_in_base64() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        for (name, password, expected) in [
            ("ann", PASSWORD, "right"),
            ("ANN", PASSWORD, "right"),
            ("ann", "c2VjcmV0LTE=", "right"),
            ("ann", "secret-2", "wrong"),
            ("ann", "", "wrong"),
            ("nobody", PASSWORD, "wrong"),
            ("a b", PASSWORD, "wrong"),
        ] {
            assert_eq!(checked(&world, name, password).await, expected, "{name} {password}");
        }
        let plain = check_password(&world.app, "ann", "c2VjcmV0LTE=", Spelling::Plain).await;
        assert!(matches!(plain, Ok(PasswordCheck::Wrong)), "a page takes it as it is typed");
        for status in ["disabled", "locked"] {
            admin.patch(&path, json!({ "status": status, "unlock": true })).await.expect(200);
            assert_eq!(checked(&world, "ann", PASSWORD).await, status);
            assert_eq!(checked(&world, "ann", "secret-2").await, "wrong", "strangers are not told");
        }
        admin.patch(&path, json!({ "status": "active", "password": null })).await.expect(200);
        assert_eq!(checked(&world, "ann", PASSWORD).await, "wrong");
    }
}

#[tokio::test]
async fn wrong_passwords_in_a_row_lock_until_somebody_unlocks() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        for _ in 0..2 {
            assert_eq!(checked(&world, "ann", "secret-2").await, "wrong");
        }
        assert_eq!(checked(&world, "ann", PASSWORD).await, "right");
        for _ in 0..3 {
            assert_eq!(checked(&world, "ann", "secret-2").await, "wrong");
        }
        assert_eq!(checked(&world, "ann", PASSWORD).await, "wrong", "locked looks like wrong");
        let shown = admin.get(&path).await.expect(200);
        assert_eq!((&shown["password_locked"], &shown["failed_attempts"]), (&json!(true), &json!(3)));
        let trail = admin.get("/api/v1/audit?action=users.lock_password").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(1), "{trail}");
        admin.patch(&path, json!({ "unlock": true })).await.expect(200);
        assert_eq!(checked(&world, "ann", PASSWORD).await, "right");
    }
}

#[tokio::test]
async fn guesses_in_parallel_are_never_more_than_the_lock_allows() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let guesses: Vec<_> = (0..8)
            .map(|_| {
                let app = world.app.clone();
                tokio::spawn(async move { check_password(&app, "ann", "guess-1", Spelling::Plain).await })
            })
            .collect();
        for guess in guesses {
            assert!(matches!(guess.await.expect("no panic"), Ok(PasswordCheck::Wrong)));
        }
        assert_eq!(admin.get(&path).await.expect(200)["failed_attempts"], 3);
        assert_eq!(checked(&world, "ann", PASSWORD).await, "wrong");
    }
}
