//! X-Api-Keys through the router, on both databases.

use serde_json::{Value, json};

use super::find_by_sha256;
use crate::testing::{Caller, World};

const PATH: &str = "/api/v1/x-api-keys";

/// A client `acme` with one of two groups; its id, then the other's.
async fn shop(admin: &Caller, emails: &str) -> [String; 2] {
    let mut groups = Vec::new();
    for name in ["retail", "partners"] {
        let body = json!({ "name": name, "alias": name });
        let group = admin.post("/api/v1/groups", body).await.expect(201);
        groups.push(group["id"].as_str().expect("an id").to_string());
    }
    let groups: [String; 2] = groups.try_into().expect("two");
    let client = json!({
        "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann", "emails": emails,
        "password": "secret-1", "password_confirmation": "secret-1", "groups": [groups[0]],
    });
    admin.post("/api/v1/clients", client).await.expect(201);
    groups
}

fn wanted(group: &str) -> Value {
    json!({ "client": "acme", "alias": "back office", "expiry_date": "2026-02-01", "groups": [group] })
}

#[tokio::test]
async fn a_key_is_shown_once_and_found_by_its_hash() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "it@acme.example").await;
        let made = admin.post(PATH, wanted(&own)).await.expect(201);
        let text = made["x_api_key"].as_str().expect("the text");
        assert_eq!(text.len(), 48);
        assert!(made["warning"].as_str().expect("a warning").contains("in clear"));
        // Today to the end of the last day.
        assert_eq!(
            (&made["effective_at"], &made["expires_at"]),
            (&json!(World::START.0), &json!(1_769_990_399_999_i64))
        );

        let path = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
        let read = admin.get(&path).await.expect(200);
        assert!(!read.to_string().contains(text) && read.get("x_api_key").is_none());
        assert_eq!(read["mask"], format!("{}***{}", &text[..3], &text[45..]));
        assert_eq!(admin.get(&format!("{PATH}?client=acme")).await.expect(200)["items"], json!([read]));
        assert_eq!(admin.get(&format!("{PATH}?client=other")).await.expect(200)["items"], json!([]));

        let sha256 = gate::credential::Fingerprint::of(text.as_bytes()).to_hex();
        let mut conn = world.app.db.read().await.expect("a connection");
        let found = find_by_sha256(&mut conn, &sha256).await.expect("an answer").expect("a key");
        assert_eq!(found.id.as_str(), made["id"]);
        drop(conn);

        // One mail is written, which the log shows without the key.
        let mails = admin.get("/api/v1/mails?template=x_api_key_issued").await.expect(200);
        assert_eq!(mails["items"].as_array().map(Vec::len), Some(1));
        assert!(!mails.to_string().contains(text));
    }
}

#[tokio::test]
async fn a_deleted_key_is_gone_and_gateways_are_told() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "").await;
        let made = admin.post(PATH, wanted(&own)).await.expect(201);
        let path = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
        let mut conn = world.app.db.read().await.expect("a connection");
        let before = crate::changes::head(&mut conn).await.expect("a head").revision;
        drop(conn);
        admin.delete(&path).await.expect(204);
        admin.delete(&path).await.problem(404, "not_found");
        admin.get(&path).await.problem(404, "not_found");
        let mut conn = world.app.db.read().await.expect("a connection");
        let after = crate::changes::head(&mut conn).await.expect("a head").revision;
        assert_eq!(after.0, before.0 + 1, "one change, and none for a delete that found nothing");
    }
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused_by_field() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let [own, foreign] = shop(&admin, "").await;
    for (field, change) in [
        ("client", json!({ "client": "nobody" })),
        ("alias", json!({ "alias": " " })),
        ("alias", json!({ "alias": "x".repeat(101) })),
        ("groups", json!({ "groups": [] })),
        ("groups", json!({ "groups": [foreign] })),
        ("groups", json!({ "groups": ["none"] })),
        ("expiry_date", json!({ "expiry_date": "2026-01-14" })),
        ("expiry_date", json!({ "effective_date": "2026-02-02" })),
        ("expiry_date", json!({ "expiry_date": "tomorrow" })),
        ("effective_date", json!({ "effective_date": "2026/01/20" })),
    ] {
        let mut body = wanted(&own);
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        admin.post(PATH, body).await.refuses(field);
    }
    assert_eq!(admin.get(PATH).await.expect(200)["items"], json!([]));
    let reviewer = world.operator("rob", &["reviewer_1"]).await;
    reviewer.post(PATH, wanted(&own)).await.problem(403, "forbidden");
}
