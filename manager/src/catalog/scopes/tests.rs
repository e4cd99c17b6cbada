//! Scopes through the router, as operators, on both databases.

use serde_json::json;

use crate::testing::World;

#[tokio::test]
async fn scopes_obey_the_rules_of_groups_and_are_none() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let api = json!({ "module": "m", "id": "a", "path": { "exact": "/a" }, "accepts": ["bearer"] });
        let api = admin.post("/api/v1/apis", api).await.expect(201)["uid"].clone();
        admin.post("/api/v1/groups", json!({ "name": "retail" })).await.expect(201);
        let body = json!({
            "name": "read", "alias": "Read orders", "description": "For apps", "security_level": "C", "apis": [api]
        });
        let made = admin.post("/api/v1/scopes", body).await;
        let path = made.header("location").expect("a location").to_string();
        let made = made.expect(201);
        assert!(made["id"].as_str().is_some_and(|id| id.starts_with("sc_")), "{made}");
        assert_eq!(admin.get(&path).await.expect(200), made);

        for (body, status, field, text) in [
            (json!({ "name": "read", "alias": "x" }), 409, "name", "Scope code exists"),
            (json!({ "name": "retail", "alias": "x" }), 409, "name", "Scope code exists"),
            (json!({ "name": "x", "alias": "Read orders" }), 409, "alias", "Scope name exists"),
            (json!({ "name": "a b" }), 422, "name", "1 to 50"),
            (json!({ "name": "x", "apis": ["api_nowhere"] }), 422, "apis", "API not found: api_nowhere"),
        ] {
            let answer = admin.post("/api/v1/scopes", body.clone()).await;
            assert_eq!(answer.status, status, "{body}");
            let refusal = answer.refuses(field);
            assert!(refusal["detail"].as_str().is_some_and(|detail| detail.contains(text)), "{refusal}");
        }

        // Each is seen among its own kind alone.
        let id = made["id"].as_str().expect("an id");
        admin.get(&format!("/api/v1/groups/{id}")).await.problem(404, "not_found");
        let names = |page: serde_json::Value| -> Vec<String> {
            let items = page["items"].as_array().expect("items");
            items.iter().map(|item| item["name"].as_str().expect("a name").to_string()).collect()
        };
        assert_eq!(names(admin.get("/api/v1/groups").await.expect(200)), ["retail"]);
        assert_eq!(names(admin.get("/api/v1/scopes?offered_to=C").await.expect(200)), ["read"]);
        assert_eq!(names(admin.get("/api/v1/scopes?offered_to=D").await.expect(200)), Vec::<String>::new());
        let shown = admin.get(&format!("/api/v1/apis/{}", api.as_str().expect("a uid"))).await.expect(200);
        assert_eq!((&shown["groups"], &shown["scopes"]), (&json!([]), &json!([id])));
        // A client is given groups, and a scope is none.
        let client = json!({
            "id": "acme", "name": "acme", "display_name": "Acme", "password": "secret-1",
            "password_confirmation": "secret-1", "note": "x", "groups": [id]
        });
        admin.post("/api/v1/clients", client).await.refuses("groups");

        // What gates hold changes with it, as with a group.
        let mut conn = world.app.db.snapshot().await.expect("a connection");
        let entry = crate::catalog::entries(&mut conn, None).await.expect("entries").apis.remove(0);
        assert_eq!(entry.groups, vec![gate::id::GroupId(id.into())]);
        drop(conn);
        admin.patch(&path, json!({ "apis": [], "security_level": "A" })).await.expect(200);
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.problem(404, "not_found");
        let trail = admin.get(&format!("/api/v1/audit?subject=scope:{id}")).await.expect(200);
        let actions: Vec<_> =
            trail["items"].as_array().expect("items").iter().map(|e| &e["action"]).collect();
        assert_eq!(actions, ["catalog.delete_scope", "catalog.update_scope", "catalog.create_scope"]);
    }
}
