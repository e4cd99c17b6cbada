//! How a client proves itself: one way, one client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{ENCODED, PASSWORD, form, refused, shop};
use crate::testing::World;

const ONE_WAY: &str =
    "The client proves itself in two ways: leave out client_secret, or the header Authorization";

#[tokio::test]
async fn the_client_in_the_body_is_the_one_in_the_header() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.client("other").await;
        let basic = format!("acme:{ENCODED}");
        for grant in ["client_credentials", "refresh_token", "authorization_code", "password"] {
            let fields = [
                ("grant_type", grant),
                ("client_id", "other"),
                ("refresh_token", "x"),
                ("code", "x"),
                ("redirect_uri", "x"),
                ("username", "ann"),
                ("password", "secret-of-ann"),
            ];
            refused(
                shop.ask(&form(&fields), Some(&basic)).await,
                400,
                "invalid_request",
                "client_id is not the client of the header Authorization",
            );
        }
        shop.ask("grant_type=client_credentials&client_id=acme", Some(&basic)).await.expect(200);
        shop.ask("grant_type=client_credentials&client_id=", Some(&basic)).await.expect(200);
    }
}

#[tokio::test]
async fn two_ways_at_once_are_refused_but_where_digirunner_takes_the_body_first() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let token = shop.token().await;
        let token = token["access_token"].as_str().expect("a text");
        let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("acme:{secret}")));
        let own = [("client_id", "acme"), ("client_secret", PASSWORD)];
        let about = [("token", token), ("token_type_hint", "access_token")];
        let with = |fields: &[(&str, &str)]| form(&[&own[..], fields].concat());
        for header in [basic(ENCODED), basic("wrong-word"), "Bearer x".into()] {
            let header = Some(header.as_str());
            for path in ["/oauth2/introspect", "/oauth2/revoke"] {
                refused(shop.call(path, &with(&about), header).await, 400, "invalid_request", ONE_WAY);
            }
            for grant in [
                &[("grant_type", "refresh_token"), ("refresh_token", "x")][..],
                &[("grant_type", "password"), ("username", "ann"), ("password", "secret-of-ann")],
            ] {
                refused(
                    shop.call("/oauth/token", &with(grant), header).await,
                    400,
                    "invalid_request",
                    ONE_WAY,
                );
            }
            for (path, fields) in [
                ("/oauth/token", &[("grant_type", "client_credentials")][..]),
                ("/oauth/v2/token", &[("grant_type", "client_credentials")]),
                ("/oauth/introspection", &about),
            ] {
                shop.call(path, &with(fields), header).await.expect(200);
            }
        }
        let seen = shop.call("/oauth2/introspect", &with(&about), None).await.expect(200);
        assert_eq!(seen["active"], true);
    }
}

#[tokio::test]
async fn a_header_that_stands_twice_proves_nobody() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let (right, wrong) = (STANDARD.encode(format!("acme:{ENCODED}")), STANDARD.encode("other:x"));
        let (right, wrong) = (format!("Basic {right}"), format!("Basic {wrong}"));
        for pair in [[&right, &wrong], [&wrong, &right], [&right, &right]] {
            let headers = [
                ("content-type", "application/x-www-form-urlencoded"),
                ("authorization", pair[0]),
                ("authorization", pair[1]),
            ];
            let body = axum::body::Body::from("grant_type=client_credentials");
            let answer = shop.anon.raw(axum::http::Method::POST, "/oauth/token", &headers, body).await;
            refused(answer, 400, "invalid_request", "The header Authorization stands twice");
        }
    }
}

#[tokio::test]
async fn a_token_of_a_stopped_user_or_beyond_its_clients_days_is_inactive_by_the_standard() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let terms = json!({ "validity": 10, "unit": "days", "uses": 0 });
        shop.settings("acme", &["password", "refresh_token"], terms.clone(), terms).await;
        let user = json!({ "name": "rosa", "password": "secret-of-rosa" });
        let user = shop.admin.post("/api/v1/users", user).await.expect(201);
        let user = format!("/api/v1/users/{}", user["id"].as_str().expect("an id"));
        let issued = shop.signed_in(&world).await;
        let (access, refresh) = (issued.text, issued.refresh.expect("a refresh token"));
        let active = async |path: &str, token: &str, hint: &str| {
            let fields = [
                ("client_id", "acme"),
                ("client_secret", PASSWORD),
                ("token", token),
                ("token_type_hint", hint),
            ];
            let seen = shop.call(path, &form(&fields), None).await.expect(200);
            if seen["active"] == json!(false) && path == "/oauth2/introspect" {
                assert_eq!(seen, json!({ "active": false }));
            }
            seen["active"] == json!(true)
        };
        for status in ["disabled", "locked"] {
            shop.admin.patch(&user, json!({ "status": status })).await.expect(200);
            for (token, hint) in [(&access, "access_token"), (&refresh, "refresh_token")] {
                assert!(!active("/oauth2/introspect", token, hint).await, "{status} {hint}");
            }
        }
        shop.admin.patch(&user, json!({ "status": "active" })).await.expect(200);
        assert!(active("/oauth2/introspect", &access, "access_token").await);
        // The world begins on 15 January 2026: these days are over, or to come.
        for (start, expiry, open) in [
            ("2025-01-01", "2026-01-13", false),
            ("2026-01-17", "2026-12-31", false),
            ("2026-01-14", "2026-01-16", true),
        ] {
            let days = json!({ "start_date": start, "expiry_date": expiry });
            shop.admin.patch("/api/v1/clients/acme", days).await.expect(200);
            assert_eq!(active("/oauth2/introspect", &access, "access_token").await, open, "{start}");
        }
    }
}
