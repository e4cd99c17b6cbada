//! `/oauth/v2/token`: the second form of digiRunner's tokens.

use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};

use super::{ENCODED, PASSWORD, claims, form, refused, shop, text};
use crate::testing::World;
use crate::{bearer, tokens};

const PATH: &str = "/oauth/v2/token";
const CLIENT: &str = "grant_type=client_credentials&client_id=acme&client_secret=tsp123abcd";

#[tokio::test]
async fn the_second_form_says_for_whom_it_is() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let answer = shop.call(PATH, CLIENT, None).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        let answer = answer.expect(200);
        let members: Vec<&str> = answer.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(members, ["access_token", "expires_in", "jti", "node", "scope", "stime", "token_type"]);
        assert_eq!(answer["scope"], format!("{} profile email system/*.cruds", shop.group));
        let iat = World::START.0 / 1_000;
        let expected = json!({
            "ver": "2.0", "iss": "http://127.0.0.1:8080", "sub": "acme", "aud": ["digiRunner"],
            "scope": [shop.group, "profile", "email", "system/*.cruds"], "node": "executor1",
            "stime": World::START.0, "iat": iat, "exp": iat + 600, "authorities": ["client"],
            "jti": answer["jti"], "client_id": "acme",
        });
        let token = text(&answer, "access_token");
        assert_eq!(claims(token), expected);

        // As anybody else reads it.
        let header = jsonwebtoken::decode_header(token).expect("a header");
        assert_eq!(header.alg, jsonwebtoken::Algorithm::RS256);
        let jwks = shop.anon.get("/dgrv4/ssotoken/oauth2/certs").await.expect(200);
        let jwks: JwkSet = serde_json::from_value(jwks).expect("a JWK set");
        let key = jwks.find(header.kid.as_deref().expect("a kid")).expect("published");
        let key = jsonwebtoken::DecodingKey::from_jwk(key).expect("a key");
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        validation.set_audience(&["digiRunner"]);
        validation.set_issuer(&["http://127.0.0.1:8080"]);
        // The clock of the world stands.
        validation.validate_exp = false;
        jsonwebtoken::decode::<Value>(token, &key, &validation).expect("verified");
        validation.set_audience(&["YWRtaW5BUEk"]);
        jsonwebtoken::decode::<Value>(token, &key, &validation).expect_err("it is for another audience");

        // On record like any other: its groups open what they open.
        let mut read = world.app.db.read().await.expect("a connection");
        let kept = tokens::by_sha256(&mut read, &bearer::sha256_hex(token)).await.expect("the database");
        let kept = kept.expect("on record");
        assert_eq!(kept.scope.iter().map(|group| group.as_str()).collect::<Vec<_>>(), [shop.group.as_str()]);
    }
}

#[tokio::test]
async fn a_token_of_the_second_form_is_inspected_and_revoked_like_any_other() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let token = shop.call(PATH, CLIENT, None).await.expect(200);
        let token = text(&token, "access_token");
        let fields = [
            ("client_id", "acme"),
            ("client_secret", PASSWORD),
            ("token", token),
            ("token_type_hint", "access_token"),
        ];
        for path in ["/oauth/introspection", "/oauth2/introspect"] {
            let seen = shop.call(path, &form(&fields), None).await.expect(200);
            assert_eq!(
                (&seen["active"], &seen["aud"], &seen["sub"]),
                (&json!(true), &json!("digiRunner"), &json!("acme"))
            );
        }
        // It renews nothing.
        let renewal = form(&[("grant_type", "refresh_token"), ("refresh_token", token)]);
        let answer = shop.ask(&renewal, Some(&format!("acme:{ENCODED}"))).await;
        assert_eq!((answer.status, &answer.body["error"]), (403, &json!("invalid_token")));
        shop.call("/oauth2/revoke", &form(&fields), None).await.expect(200);
        let seen = shop.call("/oauth2/introspect", &form(&fields), None).await.expect(200);
        assert_eq!(seen, json!({ "active": false }));
    }
}

#[tokio::test]
async fn the_second_form_is_for_client_credentials_alone() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let only = |grant: &str| {
            format!(
                "Currently, '/oauth/v2/token' only supports grant type 'client_credentials', but the requested \
                 grant type is '{grant}'."
            )
        };
        for grant in ["password", "refresh_token", "authorization_code", "implicit", "x"] {
            let answer = shop.call(PATH, &format!("grant_type={grant}"), None).await;
            refused(answer, 400, "invalid_request", &only(grant));
        }
        let long = "g".repeat(41);
        let answer = shop.call(PATH, &format!("grant_type={long}"), None).await;
        refused(answer, 400, "invalid_request", &only(&format!("{}...", &long[..40])));
        refused(shop.call(PATH, "", None).await, 400, "invalid_request", "Missing grant type");
        let unnamed = "Full authentication is required to access this resource";
        refused(shop.call(PATH, "grant_type=", None).await, 401, "unauthorized", unnamed);
        let wrong = CLIENT.replace("tsp123abcd", "wrong-word");
        let answer = shop.call(PATH, &wrong, None).await;
        assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_client")));
    }
}
