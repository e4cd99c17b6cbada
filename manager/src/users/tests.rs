//! Users through the router and their passwords, on both databases.

use axum::http::Method;
use serde_json::json;

use super::{IdentityCheck, PasswordCheck, Spelling, by_identity, check_password};
use crate::config::{Config, NewUsers};
use crate::db::Dialect;
use crate::identity_provider::Identity;
use crate::testing::{Answer, Caller, World};
use crate::wrong_passwords::MAX_WRONG;

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

/// A stranger who compares what is done, or how long it takes, learns nothing of who has an account.
#[tokio::test]
async fn what_is_done_for_a_wrong_password_is_the_same_whosever_name_it_is() {
    for world in World::both().await {
        let (admin, _) = ann(&world).await;
        for (name, more) in [
            ("bare", json!({})),
            ("closed", json!({ "password": PASSWORD })),
            ("stopped", json!({ "password": PASSWORD })),
        ] {
            let mut body = more;
            body["name"] = json!(name);
            let made = admin.post("/api/v1/users", body).await.expect(201);
            let path = format!("/api/v1/users/{}", made["id"].as_str().expect("an id"));
            if name == "stopped" {
                admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
            }
        }
        for _ in 0..3 {
            checked(&world, "closed", "secret-2").await;
        }
        let mut all = Vec::new();
        for (name, password) in [
            ("ann", "secret-2"),
            ("nobody", "secret-2"),
            ("a b", "secret-2"),
            ("bare", "secret-2"),
            ("closed", "secret-2"),
            ("stopped", "secret-2"),
            // The right one of an account that takes none is nobody's either.
            ("closed", PASSWORD),
        ] {
            let (said, done) = world.done(checked(&world, name, password)).await;
            assert_eq!(said, "wrong", "{name}");
            all.push((name, done));
        }
        let expected = all[0].1.clone();
        for part in ["keygate_password_checks_total{lane=\"people\"} 1", "users.password_attempt"] {
            assert!(expected.iter().any(|line| line.contains(part)), "{expected:?}");
        }
        let statements = expected.iter().filter(|line| line.starts_with("-- ")).count();
        assert_eq!(statements > 0, world.app.db.dialect() == Dialect::Postgres, "{expected:?}");
        for (name, done) in all {
            assert_eq!(done, expected, "{name}");
        }
    }
}

/// bcrypt of the Base64 text of [`PASSWORD`], as digiRunner has it.
const IMPORTED: &str = "$2b$10$pSLSwReV1cRzgs.1DJs4h.TJ7qK4iLiAAnEN2CVg6IgzT86nnRniu";

#[tokio::test]
async fn a_password_that_was_brought_along_is_hashed_anew_when_it_is_right_first() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let both = json!({ "name": "bob", "password": PASSWORD, "password_hash": IMPORTED });
        admin.post("/api/v1/users", both).await.refuses("password_hash");
        for hash in
            ["secret-1", &IMPORTED.replace("$10$", "$31$"), "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaA"]
        {
            admin
                .post("/api/v1/users", json!({ "name": "bob", "password_hash": hash }))
                .await
                .refuses("password_hash");
            admin.patch(&path, json!({ "password_hash": hash })).await.refuses("password_hash");
        }
        let bob = json!({ "name": "bob", "password_hash": IMPORTED });
        let made = admin.post("/api/v1/users", bob).await.expect(201);
        assert_eq!(made["has_password"], true);
        admin.patch(&path, json!({ "password_hash": IMPORTED })).await.expect(200);
        let stored = async |begin: &str| {
            let touched = format!("UPDATE users SET version = version WHERE password_hash LIKE '{begin}%'");
            world.sql(&touched).await
        };
        for name in ["ann", "bob"] {
            assert_eq!(checked(&world, name, "secret-2").await, "wrong");
            assert_eq!(checked(&world, name, "c2VjcmV0LTE=").await, "right");
        }
        assert_eq!((stored("$2").await, stored("$argon2id$").await), (0, 2));
        assert_eq!(checked(&world, "bob", PASSWORD).await, "right");
        let trail = admin.get("/api/v1/audit?action=users.").await.expect(200).to_string();
        assert!(!trail.contains("$2b$") && !trail.contains("argon2"), "{trail}");
    }
}

const OWN: &str = "/oauth/user/password";

/// The user sets `new` with `old`.
async fn replaced(world: &World, name: &str, old: &str, new: &str) -> Answer {
    let body = json!({ "user": name, "password": old, "new_password": new, "password_confirmation": new });
    world.anon().post(OWN, body).await
}

#[tokio::test]
async fn a_user_changes_its_own_password_and_wrong_ones_close_it() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        // Remembered, until it is another one.
        assert_eq!(checked(&world, "ann", PASSWORD).await, "right");
        replaced(&world, "Ann", PASSWORD, "secret-2").await.expect(204);
        assert_eq!(checked(&world, "ann", PASSWORD).await, "wrong");
        assert_eq!(checked(&world, "ann", "secret-2").await, "right");
        // What is wrong with the new one does not count.
        replaced(&world, "ann", "x", "short").await.refuses("new_password");
        replaced(&world, "ann", &"x".repeat(129), "secret-3").await.refuses("password");
        replaced(&world, "ann", "secret-2", "secret-2").await.refuses("new_password");
        let body = json!({ "user": "ann", "password": "x", "new_password": "secret-3", "password_confirmation": "secret-4" });
        world.anon().post(OWN, body).await.refuses("password_confirmation");
        assert_eq!(admin.get(&path).await.expect(200)["failed_attempts"], 0);
        let wrong = replaced(&world, "ann", PASSWORD, "secret-3").await.problem(403, "wrong_password");
        let unknown = replaced(&world, "nobody", PASSWORD, "secret-3").await.problem(403, "wrong_password");
        assert_eq!((&unknown["title"], &unknown["detail"]), (&wrong["title"], &wrong["detail"]));
        for _ in 0..2 {
            replaced(&world, "ann", PASSWORD, "secret-3").await.problem(403, "wrong_password");
        }
        replaced(&world, "ann", "secret-2", "secret-3").await.problem(403, "wrong_password");
        assert_eq!(admin.get(&path).await.expect(200)["password_locked"], true);
        for status in ["disabled", "locked"] {
            admin.patch(&path, json!({ "status": status, "unlock": true })).await.expect(200);
            replaced(&world, "ann", "secret-2", "secret-3").await.problem(403, "forbidden");
        }
        let trail = admin.get("/api/v1/audit?action=users.replace_password").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(1), "{trail}");
        let by = trail["items"][0]["actor"].as_str().expect("an actor");
        assert!(by.starts_with("user:us_"), "{by}");
    }
}

#[tokio::test]
async fn an_address_tries_so_many_users_passwords_and_no_more() {
    for world in World::both_with(|config| config.behind_proxy("x-address")).await {
        for number in 0..MAX_WRONG {
            replaced(&world, &format!("user{number}"), PASSWORD, "secret-2")
                .await
                .problem(403, "wrong_password");
        }
        let refused = replaced(&world, "nobody", PASSWORD, "secret-2").await;
        assert_eq!(refused.header("retry-after"), Some("600"));
        refused.problem(429, "too_many_wrong_passwords");
    }
}

#[tokio::test]
async fn a_password_that_a_client_has_presented_costs_no_hash_until_it_or_its_user_changes() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let costs = async |password: &str| {
            let (said, done) = world.done(checked(&world, "ann", password)).await;
            (said, done.iter().any(|line| line.contains("keygate_password_checks_total")))
        };
        assert_eq!(costs(PASSWORD).await, ("right", true));
        assert_eq!(costs(PASSWORD).await, ("right", false));
        assert_eq!(costs("secret-2").await, ("wrong", true));
        assert_eq!(costs(PASSWORD).await, ("right", false));
        let forgotten = admin.get(&path).await.expect(200);
        assert_eq!(forgotten["failed_attempts"], 0, "a right one begins anew");
        // What a person types is checked.
        let typed = check_password(&world.app, "ann", PASSWORD, Spelling::Plain);
        let (typed, done) = world.done(typed).await;
        assert!(matches!(typed, Ok(PasswordCheck::Right(_))));
        assert!(done.iter().any(|line| line.contains("keygate_password_checks_total")), "{done:?}");
        admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        assert_eq!(costs(PASSWORD).await, ("disabled", true));
        admin.patch(&path, json!({ "status": "active" })).await.expect(200);
        for _ in 0..3 {
            checked(&world, "ann", "secret-2").await;
        }
        assert_eq!(costs(PASSWORD).await, ("wrong", true));
        admin.patch(&path, json!({ "password": "secret-3" })).await.expect(200);
        assert_eq!(costs(PASSWORD).await, ("wrong", true));
        assert_eq!(costs("secret-3").await, ("right", true));
        world.advance_ms(crate::right_passwords::KEPT_MS);
        assert_eq!(costs("secret-3").await, ("right", true));
    }
}

const ISSUER: &str = "https://id.example";

fn with_provider(config: &mut Config) {
    config.oidc_issuer = Some(ISSUER.into());
    config.oidc_client_id = Some("keygate".into());
}

fn there(subject: &str, name: &str) -> Identity {
    Identity {
        issuer: ISSUER.into(),
        subject: subject.into(),
        preferred_name: Some(name.into()),
        display_name: Some("Ann\u{7} Lee".into()),
        email: Some("ann@example.com".into()),
    }
}

/// What the check says, in a word.
async fn identified(world: &World, identity: &Identity) -> String {
    match by_identity(&world.app, identity).await.expect("checked") {
        IdentityCheck::Known(user) => user.name.to_string(),
        IdentityCheck::Unknown => "unknown".into(),
        IdentityCheck::Stopped(status) => status.as_str().into(),
    }
}

#[tokio::test]
async fn an_operator_links_a_user_to_a_provider_s_subject_and_to_no_two() {
    for world in World::both_with(with_provider).await {
        let (admin, path) = ann(&world).await;
        // Neither the name nor the address makes anybody ann.
        assert_eq!(identified(&world, &there("s-1", "ann")).await, "unknown");
        let linked = admin.patch(&path, json!({ "subject": "s-1" })).await.expect(200);
        assert_eq!((&linked["issuer"], &linked["subject"]), (&json!(ISSUER), &json!("s-1")));
        assert_eq!(identified(&world, &there("s-1", "other")).await, "ann");
        let elsewhere = Identity { issuer: "https://evil.example".into(), ..there("s-1", "ann") };
        assert_eq!(identified(&world, &elsewhere).await, "unknown");
        let twice = json!({ "name": "bob", "subject": "s-1" });
        admin.post("/api/v1/users", twice).await.problem(409, "identity_taken");
        let bob = admin.post("/api/v1/users", json!({ "name": "bob" })).await.expect(201);
        let bob = format!("/api/v1/users/{}", bob["id"].as_str().expect("an id"));
        admin.patch(&bob, json!({ "subject": "s-1" })).await.problem(409, "identity_taken");
        admin.patch(&bob, json!({ "subject": "" })).await.refuses("subject");
        admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        assert_eq!(identified(&world, &there("s-1", "ann")).await, "disabled");
        admin.patch(&path, json!({ "subject": null })).await.expect(200);
        assert_eq!(identified(&world, &there("s-1", "ann")).await, "unknown");
    }
    let world = World::sqlite().await;
    let (admin, path) = ann(&world).await;
    admin.patch(&path, json!({ "subject": "s-1" })).await.refuses("subject");
}

#[tokio::test]
async fn somebody_new_gets_a_user_and_never_another_s_name() {
    let create = |config: &mut Config| {
        with_provider(config);
        config.oidc_new_users = NewUsers::Create;
    };
    for world in World::both_with(create).await {
        let (admin, _) = ann(&world).await;
        let made = identified(&world, &there("s-1", "ann")).await;
        assert!(made.starts_with("user_"), "ann is somebody else: {made}");
        assert_eq!(identified(&world, &there("s-1", "ann")).await, made, "the same the next time");
        assert_eq!(identified(&world, &there("s-2", "Berta")).await, "berta");
        let addressed = identified(&world, &there("s-3", "no name")).await;
        assert_eq!(addressed, "ann@example.com");
        let listed = admin.get("/api/v1/users?keyword=berta").await.expect(200);
        assert_eq!(listed["items"][0]["display_name"], "Ann Lee");
        assert_eq!(listed["items"][0]["has_password"], false);
    }
}
