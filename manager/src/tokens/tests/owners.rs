//! `password` and `authorization_code`: tokens on behalf of users.

use serde_json::{Value, json};

use super::{ENCODED, PASSWORD, Shop, claims, shop};
use crate::bearer;
use crate::testing::{Answer, World};
use crate::wrong_passwords::{MAX_WRONG, MAX_WRONG_BY_CLIENT};

pub(super) const REDIRECT: &str = "https://app.example/callback";
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

impl Shop {
    /// The user ann, by its path, and a client that may use every grant.
    pub(super) async fn ann(&self) -> String {
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        let settings = json!({
            "grant_types": ["client_credentials", "password", "refresh_token", "authorization_code"],
            "access_token": terms, "refresh_token": terms, "redirect_urls": [REDIRECT],
        });
        self.admin.put("/api/v1/clients/acme/token-settings", settings).await.expect(200);
        let user = json!({ "name": "ann", "org_id": "100000", "password": "secret-of-ann" });
        let user = self.admin.post("/api/v1/users", user).await.expect(201);
        format!("/api/v1/users/{}", user["id"].as_str().expect("an id"))
    }

    pub(super) async fn by_password(&self, name: &str, password: &str) -> Answer {
        let form = form(&[("grant_type", "password"), ("username", name), ("password", password)]);
        self.ask(&form, Some(&format!("acme:{ENCODED}"))).await
    }

    pub(super) async fn by_code(&self, code: &str, more: &[(&str, &str)], basic: Option<&str>) -> Answer {
        let mut fields = vec![("grant_type", "authorization_code"), ("code", code)];
        fields.extend(more);
        self.ask(&form(&fields), basic).await
    }
}

pub(super) fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

pub(super) fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().expect("a text")
}

#[track_caller]
pub(super) fn refused(answer: Answer, status: u16, error: &str, description: &str) {
    let expected = json!({ "error": error, "error_description": description });
    assert_eq!((answer.status, answer.body), (status, expected));
}

/// Puts a code on record as the authorization endpoint does.
pub(super) async fn issue_code(world: &World, shop: &Shop, user: &str, challenge: Option<&str>) -> String {
    let code = bearer::draw(&world.app.random, "kgac");
    let (id, now) = (world.app.random.id("ac"), world.app.now().0);
    let (user, sha256) = (user.rsplit('/').next().expect("an id"), bearer::sha256_hex(&code));
    let challenge = challenge.map_or("NULL".into(), |challenge| format!("'{challenge}'"));
    world
        .sql(&format!(
            "INSERT INTO authorization_codes (id, sha256, client_id, user_id, redirect_uri, scope, code_challenge,
                                              created_at, expires_at, user_epoch)
             SELECT '{id}', '{sha256}', 'acme', id, '{REDIRECT}', '{}', {challenge}, {now}, {now} + 60000, token_epoch
               FROM users
              WHERE id = '{user}'",
            shop.group
        ))
        .await;
    code.to_string()
}

/// Why tokens have ended, by their ids' order of issue.
async fn endings(world: &World, why: &str) -> u64 {
    let mut ended = 0;
    for table in ["tokens", "refresh_tokens"] {
        ended += world.sql(&format!("UPDATE {table} SET kid = kid WHERE ended_by = '{why}'")).await;
    }
    ended
}

/// The address is the application's, for all its users: wrong passwords of some do not stop the others, nor the
/// application.
#[tokio::test]
async fn wrong_passwords_of_users_count_against_the_client_that_presents_them() {
    for world in World::both_with(|config| config.behind_proxy("x-address")).await {
        let shop = shop(&world).await;
        shop.ann().await;
        for number in 0..=MAX_WRONG {
            refused(
                shop.by_password(&format!("user{number}"), "wrong-1").await,
                400,
                "invalid_grant",
                "Bad credentials",
            );
        }
        assert_eq!(shop.by_password("ann", "secret-of-ann").await.status, 200);
        let another = json!({ "password": "secret-9", "password_confirmation": "secret-9" });
        shop.admin.put("/api/v1/clients/acme/password", another).await.expect(200);
        let own = form(&[("grant_type", "client_credentials")]);
        assert_eq!(
            shop.ask(&own, Some("acme:secret-9")).await.status,
            200,
            "its own, which is not remembered"
        );
        let before = json!({ "password": PASSWORD, "password_confirmation": PASSWORD });
        shop.admin.put("/api/v1/clients/acme/password", before).await.expect(200);
        for number in MAX_WRONG + 1..MAX_WRONG_BY_CLIENT {
            let tried = world.app.wrong_passwords.begin_by_client("acme", world.app.now());
            drop(tried.unwrap_or_else(|refusal| panic!("{number}: {refusal}")));
        }
        let answer = shop.by_password("bob", "wrong-1").await;
        assert_eq!(answer.header("retry-after"), Some("600"));
        let (error, told) = (
            "too_many_requests",
            "300 wrong passwords came from this client within 10 minutes: none \
                             is taken from there until Retry-After",
        );
        refused(answer, 429, error, told);
        assert_eq!(shop.by_password("ann", "secret-of-ann").await.status, 200, "it is remembered");
    }
}

#[tokio::test]
async fn password_needs_two_pairs_of_values() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.ann().await;
        // One pair of values is enough for the client itself,
        shop.token().await;
        // and is not for a user: neither the user's own nor the client's.
        for (fields, basic, status, error, description) in [
            (
                vec![("grant_type", "password")],
                Some(ENCODED),
                400,
                "invalid_request",
                "Missing required parameter: username",
            ),
            (
                vec![("grant_type", "password"), ("username", "ann")],
                Some(ENCODED),
                400,
                "invalid_request",
                "Missing required parameter: password",
            ),
            (
                vec![("grant_type", "password"), ("username", "ann"), ("password", "secret-of-ann")],
                None,
                401,
                "invalid_client",
                "Missing required parameter: Authorization",
            ),
            (
                vec![("grant_type", "password"), ("username", "ann"), ("password", "secret-of-ann")],
                Some("wrong-word"),
                401,
                "invalid_client",
                "The client(application) account or password is incorrect. clientId: acme",
            ),
            (
                vec![("grant_type", "password"), ("username", "ann"), ("password", "wrong-word")],
                Some(ENCODED),
                400,
                "invalid_grant",
                "Bad credentials",
            ),
            (
                vec![("grant_type", "password"), ("username", "nobody"), ("password", "secret-of-ann")],
                Some(ENCODED),
                400,
                "invalid_grant",
                "Bad credentials",
            ),
        ] {
            let basic = basic.map(|secret| format!("acme:{secret}"));
            refused(shop.ask(&form(&fields), basic.as_deref()).await, status, error, description);
        }
        // Both pairs, plain and as digiRunner's programs write them.
        for password in ["secret-of-ann", "c2VjcmV0LW9mLWFubg=="] {
            let answer = shop.by_password("ann", password).await.expect(200);
            let claims = claims(text(&answer, "access_token"));
            assert_eq!(
                (&claims["user_name"], &claims["org_id"], &claims["client_id"], &claims["scope"]),
                (&json!("ann"), &json!("100000"), &json!("acme"), &json!([shop.group]))
            );
            assert_eq!(answer["org_id"], "100000");
            let refresh =
                form(&[("grant_type", "refresh_token"), ("refresh_token", text(&answer, "refresh_token"))]);
            let again = shop.ask(&refresh, Some(&format!("acme:{PASSWORD}"))).await.expect(200);
            assert_eq!(super::claims(text(&again, "access_token"))["org_id"], "100000");
        }
    }
}

#[tokio::test]
async fn a_user_who_was_stopped_obtains_and_renews_nothing() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let path = shop.ann().await;
        let answer = shop.by_password("ann", "secret-of-ann").await.expect(200);
        let refresh =
            form(&[("grant_type", "refresh_token"), ("refresh_token", text(&answer, "refresh_token"))]);
        let basic = format!("acme:{PASSWORD}");
        shop.admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        refused(shop.by_password("ann", "secret-of-ann").await, 400, "invalid_grant", "User is disabled");
        refused(shop.by_password("ann", "wrong-word").await, 400, "invalid_grant", "Bad credentials");
        refused(shop.ask(&refresh, Some(&basic)).await, 403, "invalid_grant", "'ann' User disable");
        shop.admin.patch(&path, json!({ "status": "locked", "unlock": true })).await.expect(200);
        refused(shop.by_password("ann", "secret-of-ann").await, 403, "invalid_grant", "'ann' User locked");
        refused(shop.ask(&refresh, Some(&basic)).await, 403, "invalid_grant", "'ann' User locked");
        shop.admin.patch(&path, json!({ "status": "active" })).await.expect(200);
        let gone = claims(text(&answer, "refresh_token"))["jti"].clone();
        let gone = format!("Refresh token revoked, jti: {}", gone.as_str().expect("an id"));
        refused(shop.ask(&refresh, Some(&basic)).await, 403, "invalid_token", &gone);
        for _ in 0..3 {
            shop.by_password("ann", "wrong-word").await.expect(400);
        }
        refused(shop.by_password("ann", "secret-of-ann").await, 400, "invalid_grant", "Bad credentials");
    }
}

#[tokio::test]
async fn a_code_becomes_tokens_once_and_its_second_use_ends_them() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let ann = shop.ann().await;
        let basic = format!("acme:{ENCODED}");
        let redirect = ("redirect_uri", REDIRECT);
        let proof = [redirect, ("code_verifier", VERIFIER)];
        let code = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
        let answer = shop.by_code(&code, &proof, Some(&basic)).await.expect(200);
        let said = claims(text(&answer, "access_token"));
        assert_eq!((&said["user_name"], &said["scope"]), (&json!("ann"), &json!([shop.group])));
        let refresh =
            form(&[("grant_type", "refresh_token"), ("refresh_token", text(&answer, "refresh_token"))]);
        shop.ask(&refresh, Some(&basic)).await.expect(200);
        assert_eq!(endings(&world, "reuse").await, 0);
        // Whoever presents it again, the renewed token ends with the first.
        refused(
            shop.by_code(&code, &proof, Some(&basic)).await,
            400,
            "invalid_grant",
            "Invalid authorization code",
        );
        assert_eq!(endings(&world, "reuse").await, 2, "the renewed access token and the refresh token");
        shop.ask(&refresh, Some(&basic)).await.expect(403);
        let trail = shop.admin.get("/api/v1/audit?action=tokens.revoke").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(1), "{trail}");

        for (more, error, description) in [
            (vec![], "invalid_request", "Missing required parameter: redirect_uri"),
            (
                vec![("redirect_uri", "https://app.example/callback/")],
                "invalid_request",
                "The redirect_uri mismatch",
            ),
            (vec![redirect], "invalid_grant", "Invalid authorization code"),
            (vec![redirect, ("code_verifier", CHALLENGE)], "invalid_grant", "Invalid authorization code"),
        ] {
            let code = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
            refused(shop.by_code(&code, &more, Some(&basic)).await, 400, error, description);
        }
        refused(
            shop.by_code("", &proof, Some(&basic)).await,
            400,
            "invalid_request",
            "Missing required parameter: code",
        );
        // Another client has its own password, and nothing of this one's.
        shop.client("other").await;
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        let settings = json!({
            "grant_types": ["authorization_code"], "access_token": terms, "refresh_token": terms,
            "redirect_urls": [REDIRECT],
        });
        shop.admin.put("/api/v1/clients/other/token-settings", settings).await.expect(200);
        let code = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
        let other = shop.by_code(&code, &proof, Some(&format!("other:{ENCODED}"))).await;
        refused(other, 400, "invalid_grant", "Invalid authorization code");
        shop.by_code(&code, &proof, Some(&basic)).await.expect(200);
    }
}

#[tokio::test]
async fn a_client_without_a_password_proves_its_code_instead() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let ann = shop.ann().await;
        let (id, redirect) = (("client_id", "acme"), ("redirect_uri", REDIRECT));
        let proof = [id, redirect, ("code_verifier", VERIFIER)];
        let code = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
        // Who has one, shows it.
        refused(shop.by_code(&code, &proof, None).await, 400, "invalid_request", "Missing client_secret");
        world.sql("UPDATE clients SET password_hash = '' WHERE id = 'acme'").await;
        refused(
            shop.by_code(&code, &[id, redirect], None).await,
            400,
            "invalid_request",
            "Missing client_secret",
        );
        let bare = issue_code(&world, &shop, &ann, None).await;
        let answer = shop.by_code(&bare, &proof, None).await;
        refused(answer, 400, "invalid_grant", "Invalid authorization code");
        shop.by_code(&code, &proof, None).await.expect(200);
        let code = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
        shop.admin.patch("/api/v1/clients/acme/status", json!({ "status": "disabled" })).await.expect(200);
        refused(
            shop.by_code(&code, &proof, None).await,
            403,
            "unauthorized_client",
            "'acme' Client(application) disable",
        );
    }
}
