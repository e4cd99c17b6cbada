use axum::http::Method;
use gate::time::UnixMillis;
use serde_json::{Value, json};

use crate::applications::apply_due;
use crate::schedule::{About, NewTask, plan};
use crate::testing::{Caller, World};

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

/// A key that a form issues, and what is said of it by forms of a later day: each is signed by `rita`.
struct Desk {
    world: World,
    admin: Caller,
    anna: Caller,
    rita: Caller,
    api: Value,
}

impl Desk {
    async fn both() -> Vec<Self> {
        let mut desks = Vec::new();
        for world in World::both().await {
            let admin = world.operator("ann", &["admin"]).await;
            let anna = world.operator("anna", &["applicant"]).await;
            let rita = world.operator("rita", &["reviewer_1"]).await;
            for kind in ["KA", "KU", "KR"] {
                let flow = json!({ "levels": [["reviewer_1"]] });
                admin.put(&format!("/api/v1/approval-flows/{kind}"), flow).await.expect(200);
            }
            world.client("acme").await;
            let api =
                json!({ "module": "shop", "id": "orders", "path": { "exact": "/o" }, "accepts": ["dgrk"] });
            let api = admin.post("/api/v1/apis", api).await.expect(201)["uid"].clone();
            desks.push(Self { world, admin, anna, rita, api });
        }
        desks
    }

    /// The form once it is signed.
    async fn approved(&self, form: Value) -> Value {
        let forms = "/api/v1/applications";
        let draft = self.anna.post(forms, form).await.expect(201);
        let path = format!("{forms}/{}", draft["id"].as_str().expect("an id"));
        self.anna.send(Method::POST, &format!("{path}/submit"), &[], None).await.expect(200);
        let seen = [("if-match", "\"2\"")];
        self.rita.send(Method::POST, &format!("{path}/approve"), &seen, Some(json!({}))).await.expect(200)
    }

    fn terms(&self, kind: &str, from: &str) -> Value {
        json!({
            "type": kind, "name": "orders", "effective_date": from, "expiry_date": "2026-12-31", "quota": 5,
            "description": "x", "apis": [self.api],
        })
    }

    async fn key(&self) -> Value {
        let mut form = self.terms("KA", "2026-01-15");
        form["client"] = json!("acme");
        self.approved(form).await["key"].clone()
    }

    /// Kind, instant and form of each change of a key that is planned, in the order of the list.
    async fn planned(&self) -> Vec<(i64, String)> {
        let page = self.admin.get("/api/v1/planned?limit=200").await.expect(200);
        let items = page["items"].as_array().expect("items").iter();
        let forms = items.filter(|item| item["kind"] == "applications.apply");
        forms
            .map(|item| {
                assert_eq!(item["task"], Value::Null, "a form, no task");
                let about = item["about"].as_str().expect("what").to_owned();
                (item["due_at"].as_i64().expect("when"), about)
            })
            .collect()
    }
}

#[tokio::test]
async fn changes_and_revocations_of_a_later_day_stand_there_until_they_are_made_or_stopped() {
    const DAY_MS: i64 = 86_400_000;
    for desk in Desk::both().await {
        let (one, two, three) = (desk.key().await, desk.key().await, desk.key().await);
        let revoke = json!({ "type": "KR", "key": two, "effective_date": "2026-01-17", "description": "x" });
        let revoke = desk.approved(revoke).await;
        let mut change = desk.terms("KU", "2026-01-16");
        change["key"] = one;
        let change = desk.approved(change).await;
        let stopped =
            json!({ "type": "KR", "key": three, "effective_date": "2026-01-16", "description": "x" });
        let stopped = desk.approved(stopped).await;
        let due = |form: &Value, days: i64| {
            let id = form["id"].as_str().expect("an id");
            (World::START.0 + days * DAY_MS, format!("application:{id}"))
        };
        let mut expected = vec![due(&change, 1), due(&stopped, 1), due(&revoke, 2)];
        expected.sort();
        assert_eq!(desk.planned().await, expected);

        let path = format!("/api/v1/applications/{}/stop", stopped["id"].as_str().expect("an id"));
        desk.anna.post(&path, json!({})).await.expect(200);
        assert_eq!(desk.planned().await, [due(&change, 1), due(&revoke, 2)]);
        desk.world.advance_ms(DAY_MS);
        assert_eq!(apply_due(&desk.world.app).await.expect("a run"), 1);
        assert_eq!(desk.planned().await, [due(&revoke, 2)]);
        desk.world.advance_ms(DAY_MS);
        assert_eq!(apply_due(&desk.world.app).await.expect("a run"), 1);
        assert_eq!(desk.planned().await, []);
    }
}
