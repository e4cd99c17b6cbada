//! `tests/vectors/tokens/errors.json`, case by case.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gate::wire::directory::DenialFormat;
use serde_json::{Value, json};

use super::{Shop, shop};
use crate::testing::World;

const VECTORS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/tokens/errors.json"));

async fn prepared(world: &World) -> Shop {
    let shop = shop(world).await;
    for id in ["off", "shut", "keyless"] {
        shop.client(id).await;
    }
    for (id, status) in [("off", "disabled"), ("shut", "locked")] {
        shop.admin.patch(&format!("/api/v1/clients/{id}"), json!({ "status": status })).await.expect(200);
    }
    let terms = json!({ "validity": 0, "unit": "minutes", "uses": 0 });
    shop.settings("keyless", &["password"], terms.clone(), terms).await;
    shop
}

#[tokio::test]
async fn refusals_of_the_token_endpoint_are_those_of_the_reference() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
    let cases = vectors["cases"].as_array().expect("a list");
    for format in [DenialFormat::Digirunner, DenialFormat::Problem] {
        for world in World::both_with(|config| config.denial_format = format).await {
            let shop = prepared(&world).await;
            for case in cases {
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
