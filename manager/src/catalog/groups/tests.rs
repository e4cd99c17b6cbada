//! Groups through the router, as operators, on both databases.

use serde_json::json;

use crate::testing::World;

#[tokio::test]
async fn groups_have_unique_names_and_known_apis() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let made = admin.post("/api/v1/groups", json!({ "name": "partners" })).await.expect(201);
        assert_eq!(
            (&made["alias"], &made["security_level"], &made["apis"]),
            (&json!("partners"), &json!("SYSTEM"), &json!([]))
        );
        for (body, status, field) in [
            (json!({ "name": "partners", "alias": "x" }), 409, "name"),
            (json!({ "name": "others", "alias": "partners" }), 409, "alias"),
            (json!({ "name": "a b" }), 422, "name"),
            (json!({ "name": "" }), 422, "name"),
            (json!({ "name": "x".repeat(51) }), 422, "name"),
            (json!({ "name": "x", "alias": "" }), 422, "alias"),
            (json!({ "name": "x", "security_level": "Z" }), 422, "security_level"),
            (json!({ "name": "x", "apis": ["api_nowhere"] }), 422, "apis"),
            (json!({ "alias": "x" }), 422, "name"),
        ] {
            let answer = admin.post("/api/v1/groups", body.clone()).await;
            assert_eq!(answer.status, status, "{body}");
            answer.refuses(field);
        }
        admin
            .post("/api/v1/groups", json!({ "name": "x".repeat(50), "security_level": "A" }))
            .await
            .expect(201);
        let path = format!("/api/v1/groups/{}", made["id"].as_str().expect("an id"));
        admin.delete(&path).await.expect(204);
        admin.get(&path).await.problem(404, "not_found");
    }
}
