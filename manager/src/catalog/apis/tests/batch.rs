//! Many APIs switched at once.

use serde_json::{Value, json};

use super::{registered, revision, titles};
use crate::testing::{Caller, World};

const BATCH: &str = "/api/v1/apis/batch";

async fn three(admin: &Caller) -> Vec<String> {
    let mut uids = Vec::new();
    for id in ["a", "b", "c"] {
        let place = json!({ "id": id, "path": { "exact": format!("/{id}") }, "labels": [id] });
        uids.push(registered(admin, place).await);
    }
    uids
}

#[tokio::test]
async fn many_apis_change_in_one_step_that_gates_hear_of_once() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let uids = three(&admin).await;
        admin.patch(&format!("/api/v1/apis/{}", uids[0]), json!({ "enabled": false })).await.expect(200);
        let before = revision(&world).await;
        let done = admin
            .post(BATCH, json!({ "uids": [uids[2], uids[0], uids[1], uids[1]], "enabled": false }))
            .await
            .expect(200);
        // One was disabled already: its version stays.
        assert_eq!(done, json!({ "matched": 3, "changed": [uids[1], uids[2]] }));
        assert_eq!(revision(&world).await, before + 1);
        let mut stale = super::delta(&world, Some(before)).await.0;
        stale.sort();
        let mut expected = vec![uids[1].clone(), uids[2].clone()];
        expected.sort();
        assert_eq!(stale, expected);
        assert_eq!(titles(&admin.get("/api/v1/apis?enabled=false").await.expect(200)).len(), 3);
        let trail = admin.get(&format!("/api/v1/audit?subject=api:{}", uids[1])).await.expect(200);
        let entry = &trail["items"][0];
        assert_eq!(entry["action"], "catalog.update_api");
        assert_eq!(entry["detail"]["changed"], json!({ "enabled": { "before": true, "after": false } }));

        let done = admin
            .post(BATCH, json!({ "filter": { "module": "shop", "label": "B" }, "accepts": ["bearer"], "enabled": true }))
            .await
            .expect(200);
        assert_eq!(done, json!({ "matched": 1, "changed": [uids[1]] }));
        let shown = admin.get(&format!("/api/v1/apis/{}", uids[1])).await.expect(200);
        assert_eq!((&shown["accepts"], &shown["enabled"]), (&json!(["bearer"]), &json!(true)));
        let none = json!({ "filter": { "module": "nowhere" }, "enabled": true });
        assert_eq!(admin.post(BATCH, none).await.expect(200), json!({ "matched": 0, "changed": [] }));
    }
}

#[tokio::test]
async fn a_batch_that_cannot_be_done_whole_changes_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let uids = three(&admin).await;
        let open = json!({ "accepts": [], "no_auth": true });
        admin.patch(&format!("/api/v1/apis/{}", uids[1]), open).await.expect(200);
        let before = revision(&world).await;
        let too_many: Vec<String> = (0..1_001).map(|n| format!("api_{n}")).collect();
        for (body, field, text) in [
            (
                json!({ "uids": [uids[0], "api_y", "api_x"], "enabled": false }),
                "uids",
                "API not found: api_x, api_y",
            ),
            (json!({ "uids": too_many, "enabled": false }), "uids", "1 to 1000"),
            (json!({ "uids": [], "enabled": false }), "uids", "1 to 1000"),
            (json!({ "enabled": false }), "uids", "one of them"),
            (
                json!({ "uids": uids, "filter": { "module": "shop" }, "enabled": false }),
                "uids",
                "one of them",
            ),
            (json!({ "filter": {}, "enabled": false }), "filter", "every API"),
            (json!({ "uids": uids }), "enabled", "say what to change"),
            (json!({ "uids": uids, "accepts": ["bearer"] }), "accepts", "of shop/b"),
            (json!({ "uids": uids, "accepts": [], "no_auth": false }), "accepts", "of shop/a"),
            (json!({ "uids": uids, "name": "x" }), "name", "name"),
        ] {
            let refusal = admin.post(BATCH, body.clone()).await.refuses(field);
            assert!(refusal["detail"].as_str().is_some_and(|detail| detail.contains(text)), "{refusal}");
        }
        for field in ["keyword", "module", "group", "label"] {
            for blank in ["", " "] {
                // Beside a condition that fits too: each is said to narrow.
                for filter in [json!({ field: blank }), json!({ field: blank, "enabled": true })] {
                    let body = json!({ "filter": filter, "enabled": false });
                    admin.post(BATCH, body).await.refuses(&format!("filter.{field}"));
                }
            }
        }
        assert_eq!(revision(&world).await, before);
        let page = admin.get("/api/v1/apis?enabled=true").await.expect(200);
        assert_eq!(titles(&page), ["shop/a", "shop/b", "shop/c"]);
        let reader = world.operator("rex", &["reviewer_1"]).await;
        reader.post(BATCH, json!({ "uids": uids, "enabled": false })).await.problem(403, "forbidden");
        assert_eq!(admin.get("/api/v1/apis").await.expect(200)["items"][0]["version"], Value::from(1));
    }
}

#[tokio::test]
async fn a_thousand_apis_are_a_batch_and_one_more_is_none() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let first = registered(&admin, json!({ "id": "0", "path": { "exact": "/0" } })).await;
    // Rows as the first one's, so that a thousand calls are not what this test waits for.
    let columns = "name, description, hosts, methods, path_kind, path, accepts, no_auth, enabled, audience, \
                   unsigned_forms, source, search";
    world
        .sql(&format!(
            "INSERT INTO apis (uid, module, api_id, sort_key, revision, created_at, updated_at, version, {columns})
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             SELECT 'api_' || i, 'many', i, 'many/' || i, 0, 0, 0, 1, {columns} FROM apis, n WHERE uid = '{first}'"
        ))
        .await;
    let all = json!({ "filter": { "enabled": true }, "enabled": false });
    admin.post(BATCH, all).await.refuses("filter");
    let many = json!({ "filter": { "module": "many" }, "enabled": false });
    let done = admin.post(BATCH, many).await.expect(200);
    assert_eq!((&done["matched"], done["changed"].as_array().map(Vec::len)), (&json!(1_000), Some(1_000)));
}
