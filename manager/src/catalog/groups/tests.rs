//! Groups through the router, as operators, on both databases.

use serde_json::{Value, json};

use crate::testing::{Caller, World};

async fn group(admin: &Caller, body: Value) -> String {
    let made = admin.post("/api/v1/groups", body).await.expect(201);
    made["id"].as_str().expect("an id").to_string()
}

#[tokio::test]
async fn groups_have_unique_names_and_known_apis() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let made = admin.post("/api/v1/groups", json!({ "name": "partners" })).await.expect(201);
        assert_eq!(
            (&made["alias"], &made["security_level"], &made["apis"]),
            (&json!("partners"), &json!("SYSTEM"), &json!([]))
        );
        for (body, status, field, text) in [
            (json!({ "name": "partners", "alias": "x" }), 409, "name", "Group code exists"),
            (json!({ "name": "others", "alias": "partners" }), 409, "alias", "Group name exists"),
            (json!({ "name": "a b" }), 422, "name", "1 to 50 characters"),
            (json!({ "name": "" }), 422, "name", "1 to 50 characters"),
            (json!({ "name": "x".repeat(51) }), 422, "name", "1 to 50 characters"),
            (json!({ "name": "x", "alias": "" }), 422, "alias", "1 to 50 characters"),
            (json!({ "name": "x", "alias": "x".repeat(51) }), 422, "alias", "1 to 50 characters"),
            (json!({ "name": "x", "description": "x".repeat(501) }), 422, "description", "500 at most"),
            (json!({ "name": "x", "security_level": "Z" }), 422, "security_level", "SYSTEM"),
            (
                json!({ "name": "x", "apis": ["api_nowhere", "api_never"] }),
                422,
                "apis",
                "API not found: api_never, api_nowhere",
            ),
            (json!({ "alias": "x" }), 422, "name", "name"),
        ] {
            let answer = admin.post("/api/v1/groups", body.clone()).await;
            assert_eq!(answer.status, status, "{body}");
            let refusal = answer.refuses(field);
            assert!(refusal["detail"].as_str().is_some_and(|detail| detail.contains(text)), "{refusal}");
        }
        let longest = json!({
            "name": "x".repeat(50), "alias": "ä".repeat(50), "description": "ä".repeat(500), "security_level": "A"
        });
        admin.post("/api/v1/groups", longest).await.expect(201);
        let path = format!("/api/v1/groups/{}", made["id"].as_str().expect("an id"));
        admin.patch(&path, json!({ "name": "" })).await.refuses("name");
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_group_in_use_stays_and_the_refusal_names_who_has_it() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let retail = group(&admin, json!({ "name": "retail" })).await;
        let path = format!("/api/v1/groups/{retail}");
        for id in ["beta", "acme"] {
            let client = json!({
                "id": id, "name": id, "display_name": id, "password": "secret-1", "password_confirmation": "secret-1",
                "note": "x", "groups": [retail]
            });
            admin.post("/api/v1/clients", client).await.expect(201);
        }
        let key =
            json!({ "client": "acme", "alias": "till", "expiry_date": "2026-12-31", "groups": [retail] });
        let key = admin.post("/api/v1/x-api-keys", key).await.expect(201);
        let key = key["id"].as_str().expect("an id").to_string();

        let refusal = admin.delete(&path).await.problem(409, "group_in_use");
        let detail = refusal["detail"].as_str().expect("a text");
        let named = format!(
            "group retail is given to client acme, client beta, X-Api-Key {key} (\"till\" of client acme)"
        );
        assert!(detail.starts_with(&named), "{detail}");
        admin.get(&path).await.expect(200);

        for id in ["beta", "acme"] {
            admin.patch(&format!("/api/v1/clients/{id}"), json!({ "groups": [] })).await.expect(200);
        }
        // The X-Api-Key opens nothing any more, and still names the group.
        let refusal = admin.delete(&path).await.problem(409, "group_in_use");
        assert!(!refusal["detail"].as_str().expect("a text").contains("client beta"), "{refusal}");
        admin.delete(&format!("/api/v1/x-api-keys/{key}")).await.expect(204);
        admin.delete(&path).await.expect(204);
    }
}

#[tokio::test]
async fn groups_are_found_by_their_texts_their_apis_and_the_level_of_a_client() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let api = json!({
            "module": "m", "id": "a", "path": { "exact": "/a" }, "accepts": ["dgrk"]
        });
        let api = admin.post("/api/v1/apis", api).await.expect(201)["uid"].clone();
        for (name, level, apis) in [
            ("a1", "A", json!([])),
            ("b1", "B", json!([])),
            ("c1", "C", json!([api])),
            ("s1", "SYSTEM", json!([])),
        ] {
            let description = format!("Ärzte {name}");
            let body =
                json!({ "name": name, "security_level": level, "apis": apis, "description": description });
            group(&admin, body).await;
        }
        let uid = api.as_str().expect("a uid");
        for (query, expected) in [
            ("", vec!["a1", "b1", "c1", "s1"]),
            // Level C is not offered groups of A and B.
            ("offered_to=C", vec!["c1", "s1"]),
            ("offered_to=A", vec!["a1", "b1", "c1", "s1"]),
            ("offered_to=SYSTEM", vec!["s1"]),
            ("keyword=%C3%A4RZTE%20B", vec!["b1"]),
            (&format!("api={uid}"), vec!["c1"]),
        ] {
            let page = admin.get(&format!("/api/v1/groups?{query}")).await.expect(200);
            let names: Vec<_> = page["items"].as_array().expect("items").iter().map(|g| &g["name"]).collect();
            assert_eq!(names, expected, "{query}");
        }
        admin.get("/api/v1/groups?offered_to=X").await.refuses("offered_to");
    }
}
