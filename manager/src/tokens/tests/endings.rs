//! Revoking and inspecting, by digiRunner's paths and by those of the standards.

use gate::wire::changes::{Fingerprint, Subject};
use serde_json::{Value, json};

use super::{ENCODED, PASSWORD, Shop, shop};
use crate::testing::{Answer, World};
use crate::{bearer, changes};

impl Shop {
    async fn about(&self, path: &str, client: &str, token: &str, hint: Option<&str>) -> Answer {
        let hint = hint.map(|hint| format!("&token_type_hint={hint}")).unwrap_or_default();
        let form = format!("client_id={client}&client_secret={PASSWORD}&token={token}{hint}");
        self.call(path, &form, None).await
    }
}

fn text(token: &Value) -> &str {
    token["access_token"].as_str().expect("a text")
}

async fn last_change(world: &World) -> Subject {
    let mut read = world.app.db.read().await.expect("a connection");
    let head = changes::head(&mut read).await.expect("the head").revision;
    let since = gate::id::Revision(head.0 - 1);
    match changes::page(&mut read, since, head, 1).await.expect("a page") {
        changes::Page::Changes(mut list) => list.remove(0).subject,
        changes::Page::TooOld => panic!("too old"),
    }
}

#[tokio::test]
async fn a_revoked_token_is_told_to_gateways_and_found_inactive() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let (one, other) = (shop.token().await, shop.token().await);
        let jti = one["jti"].as_str().expect("an id");
        let revoked = shop.about("/oauth/revocation", "acme", text(&one), Some("access_token")).await;
        let message = format!("access token revoke success, jti: {jti}");
        assert_eq!(revoked.expect(200), json!({ "code": "token_revoke_success", "message": message }));
        let Subject::Credential { credential, fingerprint } = last_change(&world).await else {
            panic!("a credential")
        };
        assert_eq!(credential.as_str(), jti);
        assert_eq!(fingerprint, Fingerprint::Bearer(bearer::sha256_hex(text(&one))));

        let again = shop.about("/oauth/revocation", "acme", text(&one), Some("access_token")).await;
        let message = format!("access token already revoked, jti: {jti}");
        assert_eq!(again.expect(200), json!({ "code": "token_already_revoked", "message": message }));

        // The other one, as the standard has it: the answer is the same each time, and for what is no token.
        for token in [text(&other), text(&other), "nonsense"] {
            let answer = shop.about("/oauth2/revoke", "acme", token, None).await;
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.expect(200), json!({}));
        }
        for token in [&one, &other] {
            let seen = shop.about("/oauth2/introspect", "acme", text(token), None).await.expect(200);
            assert_eq!(seen, json!({ "active": false }));
            let seen = shop
                .about("/oauth/introspection", "acme", text(token), Some("access_token"))
                .await
                .expect(200);
            assert_eq!((&seen["active"], &seen["jti"]), (&json!(false), &token["jti"]));
        }
        let trail = shop.admin.get("/api/v1/audit?action=tokens.revoke").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(2), "once each: {trail:#}");
        assert_eq!(trail["items"][0]["actor"], "client:acme");
    }
}

#[tokio::test]
async fn introspection_tells_what_a_token_is_and_how_often_it_serves_still() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let none = json!({ "validity": 0, "unit": "minutes", "uses": 0 });
        let thrice = json!({ "validity": 1, "unit": "days", "uses": 3 });
        shop.settings("acme", &["client_credentials"], thrice, none).await;
        let token = shop.token().await;
        let iat = World::START.0 / 1_000;
        let mut expected = json!({
            "active": true, "scope": shop.group, "client_id": "acme", "token_type": "Bearer",
            "exp": iat + 86_400, "iat": iat, "nbf": iat, "sub": "acme", "aud": "YWRtaW5BUEk",
            "iss": "http://127.0.0.1:8080", "jti": token["jti"], "remaining_uses": 3,
        });
        let by_standard =
            async || shop.about("/oauth2/introspect", "acme", text(&token), None).await.expect(200);
        let as_digirunner = async || {
            shop.about("/oauth/introspection", "acme", text(&token), Some("access_token")).await.expect(200)
        };
        assert_eq!(by_standard().await, expected);
        expected["token_type"] = "access_token".into();
        assert_eq!(as_digirunner().await, expected);

        world.sql("UPDATE meters SET debited = 2 WHERE kind = 'token_uses'").await;
        assert_eq!(by_standard().await["remaining_uses"], 1);
        // Used up: it serves no more. To digiRunner it is active still.
        world.sql("UPDATE meters SET debited = 3 WHERE kind = 'token_uses'").await;
        assert_eq!(by_standard().await, json!({ "active": false }));
        let seen = as_digirunner().await;
        assert_eq!((&seen["active"], &seen["remaining_uses"]), (&json!(true), &json!(0)));
        world.advance_ms(86_400_000);
        assert_eq!(as_digirunner().await["active"], false);
    }
}

#[tokio::test]
async fn a_hint_that_is_wrong_or_unknown_hinders_nothing_by_the_standard() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let token = shop.token().await;
        for hint in ["refresh_token", "access_token", "x"] {
            let seen = shop.about("/oauth2/introspect", "acme", text(&token), Some(hint)).await.expect(200);
            assert_eq!(seen["active"], true, "{hint}");
        }
        for hint in ["refresh_token", "x"] {
            let token = shop.token().await;
            shop.about("/oauth2/revoke", "acme", text(&token), Some(hint)).await.expect(200);
            let seen = shop.about("/oauth2/introspect", "acme", text(&token), None).await.expect(200);
            assert_eq!(seen, json!({ "active": false }), "{hint}");
        }
    }
}

#[tokio::test]
async fn with_a_refresh_token_its_access_tokens_go_by_the_standard_alone() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        shop.settings("acme", &["password", "refresh_token"], terms.clone(), terms).await;
        for (path, lives_on) in [("/oauth/revocation", true), ("/oauth2/revoke", false)] {
            let issued = shop.signed_in(&world).await;
            let refresh = issued.refresh.expect("a refresh token");
            shop.about(path, "acme", &refresh, Some("refresh_token")).await.expect(200);
            for (token, serves) in [(&refresh, false), (&issued.text, lives_on)] {
                let seen = shop.about("/oauth2/introspect", "acme", token, None).await.expect(200);
                assert_eq!(seen["active"], serves, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_without_a_token_is_refused_by_the_standard() {
    for world in World::both().await {
        let shop = shop(&world).await;
        for path in ["/oauth2/revoke", "/oauth2/introspect"] {
            for token in ["", "&token="] {
                let form = format!("client_id=acme&client_secret={PASSWORD}{token}");
                let answer = shop.call(path, &form, None).await.expect(400);
                assert_eq!(
                    answer,
                    json!({ "error": "invalid_request", "error_description": "Missing token" })
                );
            }
        }
    }
}

#[tokio::test]
async fn who_asks_must_prove_itself_and_learns_nothing_of_others() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.client("other").await;
        let token = shop.token().await;
        let paths = ["/oauth/revocation", "/oauth/introspection", "/oauth2/revoke", "/oauth2/introspect"];
        for path in paths {
            let form = format!("token={}&token_type_hint=access_token", text(&token));
            let stranger = shop.call(path, &form, None).await;
            assert_eq!(
                (stranger.status, stranger.body["error"].as_str()),
                (401, Some("invalid_client")),
                "{path}"
            );
            let form = format!("{form}&client_id=nobody&client_secret={PASSWORD}");
            assert_eq!(shop.call(path, &form, None).await.status, 401, "{path}");
        }
        for path in ["/oauth/revocation", "/oauth/introspection"] {
            let answer = shop.about(path, "other", text(&token), Some("access_token")).await;
            let wrong = format!("Wrong client(application) for this token: {}", text(&token));
            assert_eq!(answer.expect(400), json!({ "error": "invalid_grant", "error_description": wrong }));
            let answer = shop.about(path, "acme", "x.y.z", Some("access_token")).await.expect(400);
            assert_eq!(answer["error_description"], "Cannot convert access token to JSON");
            for hint in [None, Some("x"), Some("refresh_token")] {
                let answer = shop.about(path, "acme", text(&token), hint).await.expect(400);
                assert_eq!(answer["error"], "unsupported_token_type_hint", "{hint:?}");
            }
            let form = format!("client_id=acme&client_secret={PASSWORD}&token_type_hint=access_token");
            let missing = shop.call(path, &form, None).await.expect(401);
            assert_eq!(missing["error"], "invalid_token");
        }
        let seen = shop.about("/oauth2/introspect", "other", text(&token), None).await.expect(200);
        assert_eq!(seen, json!({ "active": false }));
        shop.about("/oauth2/revoke", "other", text(&token), None).await.expect(200);
        let seen = shop.about("/oauth2/introspect", "acme", text(&token), None).await.expect(200);
        assert_eq!(seen["active"], true, "another client ends nothing");
        // By the header too.
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("acme:{ENCODED}"));
        let form = format!("token={}", text(&token));
        let seen = shop.call("/oauth2/introspect", &form, Some(&format!("Basic {basic}"))).await.expect(200);
        assert_eq!(seen["active"], true);
    }
}
