//! Token settings through the router, on both databases.

use axum::http::Method;
use serde_json::{Value, json};

use crate::testing::{Caller, World};

const SETTINGS: &str = "/api/v1/clients/acme/token-settings";

async fn acme(world: &World) -> Caller {
    let admin = world.operator("ann", &["admin"]).await;
    let client = json!({
        "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann",
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    admin.post("/api/v1/clients", client).await.expect(201);
    admin
}

/// The example of the customer's document: 3 times within 1 day, both tokens.
fn three_times_a_day() -> Value {
    let terms = json!({ "validity": 1, "unit": "days", "uses": 3 });
    json!({
        "grant_types": ["password", "client_credentials", "refresh_token", "authorization_code"],
        "access_token": terms, "refresh_token": terms,
        "redirect_urls": ["https://app.acme.example/callback", "http://127.0.0.1:51004/callback"],
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut body = three_times_a_day();
    body[field] = value;
    body
}

#[tokio::test]
async fn a_new_client_has_the_documented_token_settings() {
    for world in World::both().await {
        let admin = acme(&world).await;
        let shown = admin.get(SETTINGS).await;
        assert_eq!(shown.header("etag"), Some("\"0\""));
        let ten_minutes = json!({ "validity": 10, "unit": "minutes", "uses": 0 });
        assert_eq!(
            shown.expect(200),
            json!({
                "grant_types": ["client_credentials", "password", "refresh_token", "authorization_code"],
                "access_token": ten_minutes, "refresh_token": ten_minutes,
                "redirect_urls": [], "updated_at": null, "version": 0,
            })
        );
        // As they stand they can be saved, and one field of them changed.
        let mut same = three_times_a_day();
        same["redirect_urls"] = json!([]);
        admin.put(SETTINGS, same).await.expect(200);
    }
}

#[tokio::test]
async fn three_times_within_a_day_is_kept_as_entered_and_recorded() {
    for world in World::both().await {
        let admin = acme(&world).await;
        let saved = admin.put(SETTINGS, three_times_a_day()).await.expect(200);
        let shown = admin.get(SETTINGS).await.expect(200);
        assert_eq!(shown, saved);
        for field in ["access_token", "refresh_token", "redirect_urls"] {
            assert_eq!(shown[field], three_times_a_day()[field], "{field}");
        }
        assert_eq!((&shown["version"], &shown["updated_at"]), (&json!(1), &json!(World::START.0)));
        let again = admin.put(SETTINGS, with("grant_types", json!([]))).await.expect(200);
        assert_eq!((&again["grant_types"], &again["version"]), (&json!([]), &json!(2)));

        let trail = admin.get("/api/v1/audit?subject=client:acme").await.expect(200);
        let [second, first, _created] = trail["items"].as_array().expect("entries").as_slice() else {
            panic!("{trail:#}")
        };
        assert_eq!(first["action"], "clients.set_token_settings");
        assert_eq!(first["detail"]["changed"]["access.uses"], json!({ "before": 0, "after": 3 }));
        assert_eq!(
            first["detail"]["changed"]["access.unit"],
            json!({ "before": "minutes", "after": "days" })
        );
        assert_eq!(second["detail"]["changed"]["grant_types"]["after"], json!([]));
    }
}

#[tokio::test]
async fn what_a_token_endpoint_could_not_follow_is_refused_when_saved() {
    let world = World::sqlite().await;
    let admin = acme(&world).await;
    let terms = |validity: Value, unit: &str, uses: Value| json!({ "validity": validity, "unit": unit, "uses": uses });
    for (field, body, part) in [
        ("grant_types", with("grant_types", json!(["implicit"])), "Grant Type of unknown type: [implicit]"),
        ("grant_types", with("grant_types", json!(["smsotp"])), "Grant Type of unknown type: [smsotp]"),
        ("grant_types", with("grant_types", json!(["group"])), "Grant Type of unknown type: [group]"),
        ("grant_types", with("grant_types", json!(["passwort"])), "Grant Type of unknown type: [passwort]"),
        ("grant_types", with("grant_types", json!(["refresh_token"])), "needs password or"),
        (
            "redirect_urls",
            with("redirect_urls", json!(["app.example"])),
            "Redirect URI is incomplete: app.example",
        ),
        (
            "redirect_urls",
            with("redirect_urls", json!(["https://app.example/", "https://*.example/"])),
            "Redirect URI 1 is incorrect, cannot have * sign: https://*.example/",
        ),
        (
            "redirect_urls",
            with("redirect_urls", json!(["app://callback"])),
            "Redirect URI is incorrect, must have * sign: app://callback",
        ),
        (
            "access_token.validity",
            with("access_token", terms(json!(3_651), "days", json!(0))),
            "1 second to 3650 days",
        ),
        (
            "refresh_token.uses",
            with("refresh_token", terms(json!(1), "days", json!(1_u64 << 31))),
            "0 (unlimited) to 2147483647",
        ),
        ("access_token.validity", with("access_token", terms(json!(-1), "days", json!(0))), "-1"),
        ("access_token.unit", with("access_token", terms(json!(1), "weeks", json!(0))), "weeks"),
    ] {
        let refused = admin.put(SETTINGS, body).await.refuses(field);
        assert!(refused["detail"].as_str().expect("a detail").contains(part), "{refused:#}");
    }
    for field in ["grant_types", "access_token", "refresh_token", "redirect_urls"] {
        let mut body = three_times_a_day();
        body.as_object_mut().expect("an object").remove(field);
        admin.put(SETTINGS, body).await.refuses(field);
    }
    assert_eq!(admin.get(SETTINGS).await.expect(200)["version"], 0, "nothing half-written");
    // Nobody takes the last URL from under the grant.
    admin.put(SETTINGS, three_times_a_day()).await.expect(200);
    let refused = admin.put(SETTINGS, with("redirect_urls", json!([]))).await.refuses("redirect_urls");
    assert!(refused["detail"].as_str().expect("a detail").contains("needs a redirect URL"), "{refused:#}");
}

#[tokio::test]
async fn a_stale_version_sets_nothing() {
    for world in World::both().await {
        let admin = acme(&world).await;
        let put = async |version: &str, uses: u32| {
            let terms = json!({ "validity": 1, "unit": "hours", "uses": uses });
            let body = with("access_token", terms);
            admin.send(Method::PUT, SETTINGS, &[("if-match", version)], Some(body)).await
        };
        put("\"0\"", 1).await.expect(200);
        put("\"0\"", 2).await.problem(412, "version_mismatch");
        put("\"1\"", 3).await.expect(200);
        put("\"1\"", 4).await.problem(412, "version_mismatch");
        assert_eq!(admin.get(SETTINGS).await.expect(200)["access_token"]["uses"], 3);
    }
}

#[tokio::test]
async fn token_settings_are_a_clients_and_for_who_may() {
    let world = World::sqlite().await;
    let admin = acme(&world).await;
    let nobody = "/api/v1/clients/nobody/token-settings";
    admin.get(nobody).await.problem(404, "not_found");
    admin.put(nobody, three_times_a_day()).await.problem(404, "not_found");
    let reviewer = world.operator("rob", &["reviewer_1"]).await;
    reviewer.get(SETTINGS).await.expect(200);
    reviewer.put(SETTINGS, three_times_a_day()).await.problem(403, "forbidden");
}
