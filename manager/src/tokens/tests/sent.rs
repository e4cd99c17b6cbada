//! What is sent, and how: too much, twice, elsewhere, or not text at all.

use axum::body::Body;
use axum::http::{Method, header};
use serde_json::json;

use super::{ENCODED, PASSWORD, form, refused, shop};
use crate::testing::World;

const ENDPOINTS: [&str; 6] = [
    "/oauth/token",
    "/oauth/v2/token",
    "/oauth/revocation",
    "/oauth/introspection",
    "/oauth2/revoke",
    "/oauth2/introspect",
];
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[tokio::test]
async fn nothing_but_post_is_taken() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let query = format!(
            "?grant_type=client_credentials&client_id=acme&client_secret={PASSWORD}&token=x\
             &token_type_hint=access_token"
        );
        for path in ENDPOINTS {
            for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
                let answer =
                    shop.anon.raw(method.clone(), &format!("{path}{query}"), &[], Body::empty()).await;
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_no_form_is_refused() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let body = format!("grant_type=client_credentials&client_id=acme&client_secret={PASSWORD}");
        for path in ENDPOINTS {
            for content_type in ["application/json", "text/plain", "application/x-www-form-urlencoded2", ""] {
                let headers = [("content-type", content_type)];
                let answer = shop.anon.raw(Method::POST, path, &headers, Body::from(body.clone())).await;
                assert_eq!(
                    (answer.status, &answer.body["error"]),
                    (415, &json!("invalid_request")),
                    "{path}"
                );
                assert_eq!(answer.header("cache-control"), Some("no-store"));
            }
            let answer = shop.anon.raw(Method::POST, path, &[], Body::from(body.clone())).await;
            assert_eq!(answer.status, 415, "{path}: a body without a type");
            for content_type in ["multipart/form-data", "multipart/form-data; boundary=b"] {
                let headers = [("content-type", content_type)];
                let answer = shop.anon.raw(Method::POST, path, &headers, Body::from("--c\r\nx")).await;
                refused(answer, 400, "invalid_request", "The multipart body cannot be read");
            }
        }
        // Letters of both cases, and what stands behind the type, are the same form.
        let headers = [("content-type", "Application/X-WWW-Form-Urlencoded; charset=UTF-8")];
        shop.anon.raw(Method::POST, "/oauth/token", &headers, Body::from(body)).await.expect(200);
    }
}

#[tokio::test]
async fn what_is_sent_has_a_bound() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let own = format!("client_id=acme&client_secret={PASSWORD}");
        for path in ENDPOINTS {
            let long = format!("{own}&x={}", "x".repeat(64 << 10));
            let answer = shop.call(path, &long, None).await;
            assert_eq!((answer.status, &answer.body["error"]), (413, &json!("invalid_request")), "{path}");
            let many = format!("{own}{}", "&x=1".repeat(63));
            refused(shop.call(path, &many, None).await, 400, "invalid_request", "Too many parameters");
            // Those of query and body count together.
            let (query, body) = ("x=1&".repeat(40), "x=1&".repeat(25));
            let answer = shop.call(&format!("{path}?{query}"), &body, None).await;
            refused(answer, 400, "invalid_request", "Too many parameters");
        }
        let most = format!("grant_type=client_credentials&{own}{}", "&x=1".repeat(61));
        shop.ask(&most, None).await.expect(200);

        // Texts that are longer than any token, and headers than any pair.
        let token = "x".repeat(60_000);
        for text in [token.clone(), format!("{}.{}.{}", &token[..20_000], &token[..20_000], &token[..9_000])]
        {
            let about = format!("{own}&token_type_hint=access_token&token={text}");
            let unreadable = "Cannot convert access token to JSON";
            refused(shop.call("/oauth/introspection", &about, None).await, 400, "invalid_token", unreadable);
            let seen = shop.call("/oauth2/introspect", &about, None).await.expect(200);
            assert_eq!(seen, json!({ "active": false }));
        }
        let basic = format!("{}:{}", "a".repeat(20_000), "b".repeat(20_000));
        let answer = shop.ask("grant_type=client_credentials", Some(&basic)).await;
        assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_client")));
        assert!(answer.body["error_description"].as_str().expect("a text").len() < 200);
    }
}

#[tokio::test]
async fn of_a_parameter_that_stands_twice_the_first_one_counts_everywhere() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.client("other").await;
        let token = shop.token().await;
        let token = token["access_token"].as_str().expect("a text");
        // Who is checked and who is served is the same.
        let twice = form(&[
            ("client_id", "acme"),
            ("client_id", "other"),
            ("client_secret", PASSWORD),
            ("client_secret", "wrong-word"),
            ("grant_type", "client_credentials"),
            ("grant_type", "password"),
            ("token", token),
            ("token", "x"),
            ("token_type_hint", "access_token"),
            ("token_type_hint", "x"),
        ]);
        let issued = shop.ask(&twice, None).await.expect(200);
        assert_eq!(super::claims(super::text(&issued, "access_token"))["client_id"], "acme");
        for path in ["/oauth/introspection", "/oauth2/introspect"] {
            let seen = shop.call(path, &twice, None).await.expect(200);
            assert_eq!((&seen["active"], &seen["client_id"]), (&json!(true), &json!("acme")), "{path}");
        }
        // What stands in the query comes before the body.
        let seen = shop.call("/oauth2/introspect?client_id=other", &twice, None).await.expect(200);
        assert_eq!(seen, json!({ "active": false }));
    }
}

#[tokio::test]
async fn what_is_not_visible_is_not_sent_back() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let nasty = "a\r\nSet-Cookie: x=1\0\u{1b}[31m\"\\é\u{2028}";
        let own = [("client_id", "acme"), ("client_secret", PASSWORD)];
        let long = "z".repeat(5_000);
        for sent in [nasty, long.as_str()] {
            let grants = [("grant_type", sent)];
            let clients =
                [("grant_type", "client_credentials"), ("client_id", sent), ("client_secret", "wrong-word")];
            let hints = [&own[..], &[("token", "x"), ("token_type_hint", sent)]].concat();
            let answers = [
                shop.ask(&form(&grants), None).await,
                shop.call("/oauth/v2/token", &form(&grants), None).await,
                shop.ask(&form(&clients), None).await,
                shop.ask("grant_type=client_credentials", Some(&format!("{sent}:x"))).await,
                shop.call("/oauth/revocation", &form(&hints), None).await,
                shop.call("/oauth/introspection", &form(&hints), None).await,
            ];
            for answer in answers {
                assert!(matches!(answer.status, 400 | 401), "{:#}", answer.body);
                let told = answer.body["error_description"].as_str().expect("a text");
                // RFC 6749, section 5.2.
                let visible = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
                assert!(told.chars().all(visible), "{told:?}");
                assert!(told.len() < 200, "{told}");
                assert!(answer.header("set-cookie").is_none());
            }
        }
        // Neither is a password that no text is, nor a header that is none.
        for (name, value) in [("client_id", "%00"), ("client_secret", "%ff%fe"), ("grant_type", "%0d%0a")] {
            let body = format!("{name}={value}&grant_type=client_credentials&client_id=acme&client_secret=x");
            let answer = shop.call("/oauth/token", &body, None).await;
            assert!(matches!(answer.status, 400 | 401), "{name}: {}", answer.status);
        }
        let headers = [FORM, (header::AUTHORIZATION.as_str(), "Basic YWNtZQ0KeDp5")];
        let answer = shop.anon.raw(
            Method::POST,
            "/oauth/token",
            &headers,
            Body::from("grant_type=client_credentials"),
        );
        assert_eq!(answer.await.status, 401);
    }
}

#[tokio::test]
async fn the_header_alone_proves_a_client_at_every_endpoint_of_the_standards() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let token = shop.token().await;
        let fields = form(&[("token", token["access_token"].as_str().expect("a text"))]);
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("acme:{ENCODED}"));
        let basic = format!("Basic {basic}");
        let seen = shop.call("/oauth2/introspect", &fields, Some(&basic)).await.expect(200);
        assert_eq!(seen["active"], true);
        shop.call("/oauth2/revoke", &fields, Some(&basic)).await.expect(200);
        let seen = shop.call("/oauth2/introspect", &fields, Some(&basic)).await.expect(200);
        assert_eq!(seen, json!({ "active": false }));
    }
}
