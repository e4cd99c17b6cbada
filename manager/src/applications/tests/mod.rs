//! Forms through the router, as the people who file and sign them, on both databases.

mod applicants;
mod credentials;
mod effects;
mod filing;
mod mailed;
mod meanwhile;
mod migration;
mod picking;
mod properties;
mod races;
mod registration;
mod review;
mod reviewing;
mod signing;
mod stories;
mod trail;
mod waiting;
mod worklist;

use axum::http::Method;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::apply_due;
use crate::config::{Config, CredentialRecipients};
use crate::testing::{Answer, Caller, World};

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;
const FORMS: &str = "/api/v1/applications";

/// A world with those who take part in a form, a client, two APIs and two levels of approval.
struct Stage {
    world: World,
    admin: Caller,
    anna: Caller,
    rita: Caller,
    ralph: Caller,
    client: String,
    apis: [String; 2],
}

impl Stage {
    async fn both() -> Vec<Self> {
        Self::both_with(|_| {}).await
    }

    async fn both_with(adjust: impl Fn(&mut Config)) -> Vec<Self> {
        let mut stages = Vec::new();
        for world in World::both_with(adjust).await {
            let stage = Self::set(world).await;
            for kind in ["KA", "KU", "KR", "CR"] {
                stage.flow(kind, json!([["reviewer_1"], ["reviewer_2"]])).await;
            }
            stages.push(stage);
        }
        stages
    }

    /// Without any flow.
    async fn set(world: World) -> Self {
        let admin = world.operator("ann", &["admin"]).await;
        let anna = world.operator("anna", &["applicant"]).await;
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ralph = world.operator("ralph", &["reviewer_2"]).await;
        let client = client(&admin, "acme").await;
        let apis = [api(&admin, "orders").await, api(&admin, "invoices").await];
        Self { world, admin, anna, rita, ralph, client, apis }
    }

    async fn flow(&self, kind: &str, levels: Value) {
        let path = format!("/api/v1/approval-flows/{kind}");
        self.admin.put(&path, json!({ "levels": levels })).await.expect(200);
    }

    /// An application as it should be, from today to the end of the year.
    fn form(&self) -> Value {
        json!({
            "type": "KA",
            "client": self.client,
            "name": "orders key",
            "effective_date": "2026-01-15",
            "expiry_date": "2026-12-31",
            "quota": 1000,
            "description": "to order",
            "apis": [self.apis[0]],
        })
    }

    async fn draft(&self, form: Value) -> String {
        let saved = self.anna.post(FORMS, form).await.expect(201);
        saved["id"].as_str().expect("an id").to_owned()
    }

    async fn submitted(&self, form: Value) -> String {
        let id = self.draft(form).await;
        self.act(&self.anna, &id, "submit").await.expect(200);
        id
    }

    /// A key that went through both levels.
    async fn key(&self) -> String {
        let id = self.submitted(self.form()).await;
        self.act(&self.rita, &id, "approve").await.expect(200);
        let approved = self.act(&self.ralph, &id, "approve").await.expect(200);
        approved["key"].as_str().expect("a key").to_owned()
    }

    /// Takes an action on the version that is there.
    async fn act(&self, who: &Caller, id: &str, action: &str) -> Answer {
        let seen = self.admin.get(&path(id, "")).await.header("etag").expect("a version").to_owned();
        self.act_on(who, id, action, &seen, "").await
    }

    async fn act_on(&self, who: &Caller, id: &str, action: &str, seen: &str, comment: &str) -> Answer {
        let body = (!action.ends_with("submit")).then(|| json!({ "comment": comment }));
        who.send(Method::POST, &path(id, action), &[("if-match", seen)], body).await
    }

    async fn read(&self, id: &str) -> Value {
        self.admin.get(&path(id, "")).await.expect(200)
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let mut read = self.world.app.db.read().await.expect("a connection");
        let row = sqlx::query(sql).fetch_one(&mut *read).await.expect("a count");
        row.try_get(0).expect("a number")
    }

    /// Recipient, template and earliest instant of every mail, oldest first.
    async fn mails(&self) -> Vec<(String, String, i64)> {
        let mut read = self.world.app.db.read().await.expect("a connection");
        // That the client was created it was told before the story begins.
        let sql = "SELECT recipient, template, next_attempt_at FROM mails WHERE template <> 'client_created'
                    ORDER BY created_at, template, recipient";
        let rows = sqlx::query(sql).fetch_all(&mut *read).await.expect("mails");
        let column = |row: &sqlx::any::AnyRow| {
            Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        rows.iter().map(|row| column(row).expect("a mail")).collect()
    }
}

async fn client(admin: &Caller, name: &str) -> String {
    let body = json!({
        "id": name, "name": name, "display_name": name, "note": "Ann", "emails": format!("{name}@example.com"),
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    let made = admin.post("/api/v1/clients", body).await.expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

async fn api(admin: &Caller, name: &str) -> String {
    let body = json!({
        "module": "shop", "id": name, "name": name, "path": { "exact": format!("/{name}") }, "accepts": ["dgrk"],
    });
    let made = admin.post("/api/v1/apis", body).await.expect(201);
    made["uid"].as_str().expect("a uid").to_owned()
}

fn path(id: &str, action: &str) -> String {
    if action.is_empty() { format!("{FORMS}/{id}") } else { format!("{FORMS}/{id}/{action}") }
}

fn with(mut form: Value, field: &str, value: Value) -> Value {
    form[field] = value;
    form
}

fn without(mut form: Value, field: &str) -> Value {
    form.as_object_mut().expect("an object").remove(field);
    form
}
