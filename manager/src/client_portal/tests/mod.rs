//! The portal through the router, as the clients that use it.

mod bounds;
mod fences;
mod filed_for;
mod forms;
mod namelessness;
mod reading;
mod tokens;

use serde_json::{Value, json};

use crate::testing::{Answer, Caller, World};

/// A world with two clients that know nothing of each other, APIs, and the levels of approval.
struct Stage {
    world: World,
    admin: Caller,
    rita: Caller,
    ralph: Caller,
    acme: Caller,
    other: Caller,
    /// `orders`, open to all; `inside`, to callers from inside alone.
    apis: [String; 2],
}

impl Stage {
    async fn both() -> Vec<Self> {
        let mut stages = Vec::new();
        for world in World::both().await {
            stages.push(Self::set(world).await);
        }
        stages
    }

    async fn set(world: World) -> Self {
        let admin = world.operator("ann", &["admin"]).await;
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ralph = world.operator("ralph", &["reviewer_2"]).await;
        for kind in ["KA", "KU", "KR"] {
            let levels = json!({ "levels": [["reviewer_1"], ["reviewer_2"]] });
            admin.put(&format!("/api/v1/approval-flows/{kind}"), levels).await.expect(200);
        }
        let (acme, other) = (world.client("acme").await, world.client("other").await);
        admin.patch("/api/v1/clients/other", json!({ "audience": "external" })).await.expect(200);
        let apis = [api(&admin, "orders", "both").await, api(&admin, "inside", "internal").await];
        Self { world, admin, rita, ralph, acme, other, apis }
    }

    /// A form for a key, as a client writes it.
    fn form(&self) -> Value {
        json!({
            "type": "KA", "name": "orders key", "effective_date": "2026-01-15", "expiry_date": "2026-12-31",
            "quota": 1000, "description": "to order", "apis": [self.apis[0]],
        })
    }

    async fn draft(&self, client: &Caller, form: Value) -> String {
        id_in(&client.post("/client/v1/applications", form).await.expect(201))
    }

    async fn submitted(&self, client: &Caller, form: Value) -> String {
        let id = self.draft(client, form).await;
        self.act(client, &id, "submit").await.expect(200);
        id
    }

    async fn act(&self, client: &Caller, id: &str, action: &str) -> Answer {
        let path = format!("/client/v1/applications/{id}/{action}");
        match action {
            "submit" | "resubmit" => client.send(axum::http::Method::POST, &path, &[], None).await,
            _ => client.post(&path, json!({ "comment": "of the client" })).await,
        }
    }

    async fn review(&self, reviewer: &Caller, id: &str, action: &str) -> Value {
        let shown = self.admin.get(&format!("/api/v1/applications/{id}")).await;
        let seen = shown.header("etag").expect("a version").to_owned();
        let path = format!("/api/v1/applications/{id}/{action}");
        let body = json!({ "comment": "of the reviewer" });
        reviewer
            .send(axum::http::Method::POST, &path, &[("if-match", seen.as_str())], Some(body))
            .await
            .expect(200)
    }

    /// An access token of a client, as the token endpoint answers it.
    async fn token(&self, client: &str) -> Value {
        let form = format!(
            "grant_type=client_credentials&client_id={client}&client_secret={}",
            World::CLIENT_PASSWORD
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = axum::body::Body::from(form);
        let anon = self.world.anon();
        anon.raw(axum::http::Method::POST, "/oauth/token", &headers, body).await.expect(200)
    }

    /// A key of a client that went through both levels.
    async fn key(&self, client: &Caller) -> String {
        let id = self.submitted(client, self.form()).await;
        self.review(&self.rita, &id, "approve").await;
        let approved = self.review(&self.ralph, &id, "approve").await;
        approved["key"].as_str().expect("a key").to_owned()
    }
}

async fn api(admin: &Caller, name: &str, audience: &str) -> String {
    let body = json!({
        "module": "shop", "id": name, "name": format!("{name} of the shop"), "description": "Sells",
        "path": { "exact": format!("/{name}") }, "methods": ["POST"], "hosts": ["api.example.com"],
        "accepts": ["dgrk", "x_api_key"], "audience": audience,
    });
    let made = admin.post("/api/v1/apis", body).await.expect(201);
    made["uid"].as_str().expect("a uid").to_owned()
}

fn id_in(view: &Value) -> String {
    view["id"].as_str().expect("an id").to_owned()
}

fn id_of_token(answer: &Value) -> String {
    answer["jti"].as_str().expect("an id").to_owned()
}

fn with(mut form: Value, field: &str, value: Value) -> Value {
    form[field] = value;
    form
}

/// What stands in a field of each item of a page.
fn each<'v>(page: &'v Value, field: &str) -> Vec<&'v str> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item[field].as_str().expect("a text")).collect()
}
