use gate::time::UnixMillis;
use serde_json::{Value, json};

use crate::schedule::{About, NewTask, plan};
use crate::testing::World;

#[tokio::test]
async fn tasks_and_switches_of_apis_stand_in_one_list_by_time() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let at = |ms: i64| World::START.0 + ms;
        let api = json!({
            "module": "shop", "id": "orders", "name": "orders", "hosts": ["api.example"], "methods": ["POST"],
            "accepts": ["dgrk"], "path": { "exact": "/orders" }, "enabled": true, "disable_at": at(2_000),
        });
        let api = admin.post("/api/v1/apis", api).await.expect(201);
        let mut tx = world.app.db.write("test.plan").await.expect("a transaction");
        for due in [1_000, 3_000] {
            let task = NewTask {
                kind: "test.do",
                about: About::new("thing", format!("{due}")),
                key: format!("test.do:{due}"),
                due_at: UnixMillis(at(due)),
                detail: json!({}),
            };
            plan(&mut tx, &world.app, task, world.app.now()).await.expect("planned");
        }
        tx.commit().await.expect("committed");
        let (mut told, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/api/v1/planned?limit=2{cursor}")).await.expect(200);
            for item in page["items"].as_array().expect("items") {
                told.push((
                    item["due_at"].as_i64().expect("when"),
                    item["about"].as_str().expect("what").to_owned(),
                ));
            }
            match &page["next"] {
                Value::String(next) => cursor = format!("&cursor={next}"),
                _ => break,
            }
        }
        let api = format!("api:{}", api["uid"].as_str().expect("a uid"));
        let expected = [(1_000, "thing:1000"), (2_000, api.as_str()), (3_000, "thing:3000")];
        assert_eq!(told, expected.map(|(due, about)| (at(due), about.to_owned())));
        admin.get("/api/v1/planned?cursor=eA").await.refuses("cursor");
    }
}
