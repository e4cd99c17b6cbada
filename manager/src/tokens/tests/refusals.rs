//! `tests/vectors/tokens/errors.json`, case by case.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gate::wire::directory::DenialFormat;
use serde_json::{Value, json};

use super::{ENCODED, Shop, claims, shop};
use crate::testing::World;

const VECTORS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/tokens/errors.json"));

const USERS_PASSWORD: &str = "secret-of-a-user";
const REDIRECT: &str = "https://app.example/callback";

/// What the cases presuppose, and what stands in them for a token.
async fn prepared(world: &World) -> (Shop, BTreeMap<String, String>) {
    let shop = shop(world).await;
    for id in ["off", "shut", "keyless", "narrow", "once", "brief"] {
        shop.client(id).await;
    }
    let terms = |validity, uses| json!({ "validity": validity, "unit": "minutes", "uses": uses });
    for (id, refresh) in [("acme", terms(60, 0)), ("once", terms(60, 1)), ("brief", terms(1, 0))] {
        let settings = json!({
            "grant_types": ["client_credentials", "password", "refresh_token", "authorization_code"],
            "access_token": terms(60, 0), "refresh_token": refresh, "redirect_urls": [REDIRECT],
        });
        shop.admin.put(&format!("/api/v1/clients/{id}/token-settings"), settings).await.expect(200);
    }
    let mut users = BTreeMap::new();
    for name in ["ann", "gone", "shut"] {
        let user =
            shop.admin.post("/api/v1/users", json!({ "name": name, "password": USERS_PASSWORD })).await;
        users.insert(name, format!("/api/v1/users/{}", text(&user.expect(201), "id")));
    }

    let mut tokens = BTreeMap::new();
    for (name, client, user) in [
        ("live", "acme", "ann"),
        ("ended", "acme", "ann"),
        ("lost", "acme", "ann"),
        ("of_gone", "acme", "gone"),
        ("of_shut", "acme", "shut"),
        ("once", "once", "ann"),
        ("brief", "brief", "ann"),
    ] {
        // Two minutes ago: brief's has expired since.
        world.advance_ms(-120_000);
        let form = format!("grant_type=password&username={user}&password={USERS_PASSWORD}");
        let pair = format!("{client}:{ENCODED}");
        let mut issued = shop.ask(&form, Some(&pair)).await.expect(200);
        world.advance_ms(120_000);
        let refresh = text(&issued, "refresh_token").to_owned();
        match name {
            "ended" => {
                let basic = format!("Basic {}", STANDARD.encode(&pair));
                let revoked = shop.call("/oauth2/revoke", &format!("token={refresh}"), Some(&basic)).await;
                revoked.expect(200);
            }
            "lost" => {
                let jti = text(&claims(&refresh), "jti").to_owned();
                assert_eq!(world.sql(&format!("DELETE FROM refresh_tokens WHERE id = '{jti}'")).await, 1);
            }
            "once" => {
                let form = format!("grant_type=refresh_token&refresh_token={refresh}");
                issued = shop.ask(&form, Some(&pair)).await.expect(200);
            }
            _ => {}
        }
        for (kind, member) in [("refresh", "refresh_token"), ("access", "access_token")] {
            let token = text(&issued, member);
            tokens.insert(format!("{{jti:{kind}.{name}}}"), text(&claims(token), "jti").to_owned());
            tokens.insert(format!("{{{kind}.{name}}}"), token.to_owned());
        }
    }

    for id in ["keyless", "narrow"] {
        shop.settings(id, &["password"], terms(0, 0), terms(0, 0)).await;
    }
    for (path, change) in [
        // The cases have several wrong passwords of acme.
        ("/api/v1/clients/acme", json!({ "allowed_attempts": 100 })),
        ("/api/v1/clients/off", json!({ "status": "disabled" })),
        ("/api/v1/clients/narrow", json!({ "status": "disabled" })),
        ("/api/v1/clients/shut", json!({ "status": "locked" })),
        (&users["gone"], json!({ "status": "disabled" })),
        (&users["shut"], json!({ "status": "locked" })),
    ] {
        shop.admin.patch(path, change).await.expect(200);
    }
    (shop, tokens)
}

fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().expect("a text")
}

/// With the tokens in their places.
fn filled(case: &Value, tokens: &BTreeMap<String, String>) -> Value {
    let text = tokens.iter().fold(case.to_string(), |text, (name, token)| text.replace(name, token));
    let left = ["{refresh.", "{access.", "{jti:"].into_iter().find(|name| text.contains(name));
    assert_eq!(left, None, "no such token: {text}");
    serde_json::from_str(&text).expect("tokens need no escape")
}

#[tokio::test]
async fn refusals_of_the_token_endpoint_are_those_of_the_reference() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
    let cases = vectors["cases"].as_array().expect("a list");
    for format in [DenialFormat::Digirunner, DenialFormat::Problem] {
        for world in World::both_with(|config| config.denial_format = format).await {
            let (shop, tokens) = prepared(&world).await;
            for case in cases.iter().map(|case| filled(case, &tokens)) {
                let text = |member: &str| case[member].as_str();
                let basic = text("basic").map(|basic| format!("Basic {}", STANDARD.encode(basic)));
                let authorization = text("authorization").or(basic.as_deref());
                let form = text("form").expect("a form");
                let path = text("path").unwrap_or("/oauth/token");
                let answer = shop.call(path, form, authorization).await;
                let expected = match (format, &case["problem"]) {
                    (DenialFormat::Problem, Value::Object(_)) => &case["problem"],
                    _ => &case["body"],
                };
                assert_eq!(json!(answer.status), case["status"], "{case:#}\n{:#}", answer.body);
                assert_eq!(&answer.body, expected, "{case:#}");
                assert_eq!(answer.header("cache-control"), Some("no-store"), "{case:#}");
                assert_eq!(answer.header("pragma"), Some("no-cache"), "{case:#}");
                assert_eq!(answer.header("content-type"), Some("application/json"), "{case:#}");
                let asked = answer.header("www-authenticate").is_some();
                assert_eq!(asked, answer.status == 401, "{case:#}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_too_large_or_no_form_is_refused() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let form = format!("grant_type=client_credentials&x={}", "x".repeat(64 << 10));
        let answer = shop.ask(&form, None).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (413, Some("invalid_request")));
        let many = "x=1&".repeat(70);
        assert_eq!(shop.ask(&many, None).await.status, 400);
        let answer = shop.anon.post("/oauth/token", json!({ "grant_type": "client_credentials" })).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (415, Some("invalid_request")));
    }
}
