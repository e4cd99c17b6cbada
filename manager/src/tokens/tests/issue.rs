//! `client_credentials`.

use axum::body::Body;
use axum::http::Method;
use gate::wire::exchange::MeterKind;
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};

use super::{ENCODED, PASSWORD, claims, shop};
use crate::testing::World;
use crate::{bearer, quotas, tokens};

#[tokio::test]
async fn client_credentials_needs_one_pair_of_values() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let answer = shop.ask("grant_type=client_credentials", Some(&format!("acme:{ENCODED}"))).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        let answer = answer.expect(200);
        let members: Vec<&str> = answer.as_object().expect("an object").keys().map(String::as_str).collect();
        // No refresh token, ever.
        assert_eq!(members, ["access_token", "expires_in", "jti", "node", "scope", "stime", "token_type"]);
        assert_eq!(answer["expires_in"], 599);
        assert_eq!((&answer["node"], &answer["token_type"]), (&json!("executor1"), &json!("bearer")));
        assert_eq!((&answer["scope"], &answer["stime"]), (&json!(shop.group), &json!(World::START.0)));

        let text = answer["access_token"].as_str().expect("a text");
        let iat = World::START.0 / 1_000;
        let expected = json!({
            "node": "executor1", "aud": ["YWRtaW5BUEk"], "scope": [shop.group], "stime": World::START.0,
            "iat": iat, "exp": iat + 600, "authorities": ["client"], "jti": answer["jti"],
            "client_id": "acme", "iss": "http://127.0.0.1:8080",
        });
        assert_eq!(claims(text), expected);
        let header = jsonwebtoken::decode_header(text).expect("a header");
        assert_eq!((header.typ.as_deref(), header.alg), (Some("JWT"), jsonwebtoken::Algorithm::RS256));

        // As anybody else reads it, by the keys that are published.
        let metadata = shop.anon.get("/.well-known/oauth-authorization-server").await.expect(200);
        assert_eq!(metadata["issuer"], expected["iss"]);
        assert_eq!(metadata["token_endpoint"], "http://127.0.0.1:8080/oauth/token");
        assert_eq!(metadata["jwks_uri"], "http://127.0.0.1:8080/oauth/jwks");
        let jwks: JwkSet =
            serde_json::from_value(shop.anon.get("/oauth/jwks").await.expect(200)).expect("a JWK set");
        let key = jwks.find(header.kid.as_deref().expect("a kid")).expect("published");
        let key = jsonwebtoken::DecodingKey::from_jwk(key).expect("a key");
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        validation.set_audience(&["YWRtaW5BUEk"]);
        // The clock of the world stands.
        validation.validate_exp = false;
        let read = jsonwebtoken::decode::<Value>(text, &key, &validation).expect("verified");
        assert_eq!(read.claims, expected);
    }
}

#[tokio::test]
async fn the_pair_is_taken_from_header_body_query_and_multipart_plain_and_encoded() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let grant = "grant_type=client_credentials";
        for (form, basic) in [
            (grant.to_owned(), Some(format!("acme:{ENCODED}"))),
            (grant.to_owned(), Some(format!("acme:{PASSWORD}"))),
            (grant.to_owned(), Some("acme:dHNwMTIzYWJjZA%3D%3D".to_owned())),
            (format!("{grant}&client_id=acme&client_secret=dHNwMTIzYWJjZA%3D%3D"), None),
            (format!("{grant}&client_id=acme&client_secret={PASSWORD}"), None),
            // The body comes first.
            (format!("{grant}&client_id=acme&client_secret={PASSWORD}"), Some("nobody:x".to_owned())),
            // Of two the first one counts.
            (format!("{grant}&client_id=acme&client_id=nobody&client_secret={PASSWORD}"), None),
        ] {
            shop.ask(&form, basic.as_deref()).await.expect(200);
        }
        let query = format!("/oauth/token?{grant}&client_id=acme&client_secret={PASSWORD}");
        shop.anon.raw(Method::POST, &query, &[], Body::empty()).await.expect(200);
        let part = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = [
            part("grant_type", "client_credentials"),
            part("client_id", "acme"),
            part("client_secret", PASSWORD),
            "--b--\r\n".into(),
        ];
        let headers = [("content-type", "multipart/form-data; boundary=b")];
        shop.anon.raw(Method::POST, "/oauth/token", &headers, Body::from(body.concat())).await.expect(200);
    }
}

#[tokio::test]
async fn a_token_is_on_record_with_the_limits_and_groups_of_its_issue() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let unlimited = json!({ "validity": 0, "unit": "minutes", "uses": 0 });
        let thrice = json!({ "validity": 1, "unit": "days", "uses": 3 });
        shop.settings("acme", &["client_credentials"], thrice, unlimited.clone()).await;
        let answer = shop.token().await;
        assert_eq!(answer["expires_in"], 86_399);
        let text = answer["access_token"].as_str().expect("a text");
        // Later ones count for later tokens alone.
        shop.settings("acme", &["client_credentials"], unlimited.clone(), unlimited).await;
        shop.admin.patch("/api/v1/clients/acme", json!({ "groups": [] })).await.expect(200);

        let mut read = world.app.db.read().await.expect("a connection");
        let token = tokens::by_sha256(&mut read, &bearer::sha256_hex(text)).await.expect("the database");
        let token = token.expect("on record");
        assert_eq!(
            (token.id.as_str(), token.client.as_str()),
            (answer["jti"].as_str().expect("an id"), "acme")
        );
        assert_eq!(token.scope.iter().map(|group| group.as_str()).collect::<Vec<_>>(), [shop.group.as_str()]);
        assert_eq!((token.uses, token.expires_at.0), (3, World::START.0 + 86_400_000 - 1));
        let meter = quotas::meter_of(&mut read, MeterKind::TokenUses, &token.id).await.expect("the database");
        assert_eq!(meter.map(|meter| meter.limit.units), Some(3));
        drop(read);

        let next = shop.token().await;
        assert_eq!((&next["expires_in"], &next["scope"]), (&json!(599), &json!("")));
    }
}

#[tokio::test]
async fn tokens_are_issued_without_the_head_of_the_change_feed() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.token().await;
        let before = shop.admin.get("/api/v1/audit").await.expect(200);
        let head = crate::changes::head(&mut world.app.db.read().await.expect("a connection")).await;
        let head = head.expect("the head").revision;
        let mut issued = Vec::new();
        for _ in 0..20 {
            issued.push(shop.token().await["jti"].clone());
        }
        issued.sort_by_key(Value::to_string);
        issued.dedup();
        assert_eq!(issued.len(), 20);
        let after = crate::changes::head(&mut world.app.db.read().await.expect("a connection")).await;
        assert_eq!(after.expect("the head").revision, head);
        assert_eq!(shop.admin.get("/api/v1/audit").await.expect(200), before);
    }
}

#[tokio::test]
async fn what_was_right_is_remembered_until_the_password_changes() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.token().await;
        world.sql("UPDATE clients SET failed_attempts = 2 WHERE id = 'acme'").await;
        shop.token().await;
        // A right one forgets the wrong ones before it, remembered or not.
        let client = shop.admin.get("/api/v1/clients/acme").await.expect(200);
        assert_eq!(client["failed_attempts"], 0, "{client:#}");

        let another = json!({ "password": "another-1", "password_confirmation": "another-1" });
        shop.admin.put("/api/v1/clients/acme/password", another).await.expect(200);
        let old = shop.ask("grant_type=client_credentials", Some(&format!("acme:{ENCODED}"))).await;
        assert_eq!(old.status, 401);
        shop.ask("grant_type=client_credentials", Some("acme:another-1")).await.expect(200);
        // Closed after wrong ones: what is remembered opens nothing either.
        world.sql("UPDATE clients SET failed_attempts = allowed_attempts WHERE id = 'acme'").await;
        assert_eq!(shop.ask("grant_type=client_credentials", Some("acme:another-1")).await.status, 401);
    }
}

#[tokio::test]
async fn wrong_passwords_at_the_token_endpoint_close_password_credentials() {
    for world in World::both().await {
        let shop = shop(&world).await;
        for _ in 0..3 {
            let refused = shop.ask("grant_type=client_credentials", Some("acme:wrong-1")).await;
            assert_eq!(refused.status, 401);
        }
        let right = shop.ask("grant_type=client_credentials", Some(&format!("acme:{ENCODED}"))).await;
        assert_eq!(right.status, 401, "closed, and told as a wrong one");
        let client = shop.admin.get("/api/v1/clients/acme").await.expect(200);
        assert_eq!(client["locked_by"], "wrong_passwords", "{client:#}");
    }
}

#[tokio::test]
async fn calls_that_present_the_same_at_once_cost_one_hash_and_none_is_turned_away() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let mut calls = tokio::task::JoinSet::new();
        // Twice as many as may wait for a hash.
        for _ in 0..64 {
            let anon = shop.anon.clone();
            calls.spawn(async move {
                let path = format!(
                    "/oauth/token?grant_type=client_credentials&client_id=acme&client_secret={PASSWORD}"
                );
                anon.raw(Method::POST, &path, &[], Body::empty()).await.status
            });
        }
        assert_eq!(calls.join_all().await, vec![200; 64]);
    }
}
