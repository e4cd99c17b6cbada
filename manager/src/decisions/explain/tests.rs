//! What is said of described requests, on both databases.

use serde_json::{Value, json};

use crate::feed;
use crate::gateways;
use crate::testing::{Caller, World};

const API_KEY: &str = "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==";
const SECRET: &str =
    "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==";
const HOLDER: &str = "0123456789abcdef0123456789abcdef";

struct Shop {
    admin: Caller,
    edge: Caller,
    group: String,
    orders: String,
    key: String,
    x_api_key: String,
}

impl Shop {
    /// A client with a quota of 7 a day, a key with 5 uses for `/orders`, an X-Api-Key for its group.
    async fn open(world: &World) -> Self {
        let admin = world.operator("ann", &["admin"]).await;
        let issued = gateways::add(&world.app, "edge", "test").await.expect("a gateway");
        let edge = world.bearer(issued.token.reveal());
        let mut apis = Vec::new();
        for id in ["orders", "reports"] {
            let api = json!({
                "module": "shop", "id": id, "name": id, "path": { "prefix": format!("/{id}") },
                "methods": ["GET"], "accepts": ["dgrk", "x_api_key"],
            });
            let made = admin.post("/api/v1/apis", api).await.expect(201);
            apis.push(made["uid"].as_str().expect("a uid").to_owned());
        }
        let [orders, _] = apis.try_into().expect("two");
        let group = json!({ "name": "retail", "alias": "retail", "apis": [orders] });
        let group =
            admin.post("/api/v1/groups", group).await.expect(201)["id"].as_str().expect("an id").to_owned();
        let client = json!({
            "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann", "emails": "it@acme.example",
            "password": "secret-1", "password_confirmation": "secret-1", "groups": [group],
            "quota": 7, "quota_period": "day", "time_zone": "UTC", "tps": 3, "priority": 2,
        });
        admin.post("/api/v1/clients", client).await.expect(201);
        let key = json!({
            "client": "acme", "api_key": API_KEY, "secret_key": SECRET, "name": "from before",
            "expiry_date": "2026-12-31", "quota": 5, "apis": [orders],
        });
        let key = admin.post("/api/v1/keys/import", key).await.expect(201)["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let wanted = json!({ "client": "acme", "alias": "back office", "expiry_date": "2026-02-01", "groups": [group] });
        let made = admin.post("/api/v1/x-api-keys", wanted).await.expect(201);
        let x_api_key = made["id"].as_str().expect("an id").to_owned();
        Self { admin, edge, group, orders, key, x_api_key }
    }

    async fn ask(&self, question: Value) -> Value {
        let mut asked = json!({ "method": "GET", "path": "/orders/7" });
        for (name, value) in question.as_object().expect("an object") {
            asked[name] = value.clone();
        }
        self.admin.post("/api/v1/explain", asked).await.expect(200)
    }

    /// Code and deciding rule.
    async fn verdict(&self, question: Value) -> (String, Value) {
        let said = self.ask(question).await;
        assert_eq!(said["admitted"], said["code"] == "admitted");
        (said["code"].as_str().expect("a code").into(), said["rule"].clone())
    }
}

fn dgrk() -> Value {
    json!({ "credential": { "api_key": API_KEY } })
}

#[tokio::test]
async fn an_admitted_request_is_told_with_its_grant_and_what_remains_of_each_limit() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let said = shop.ask(dgrk()).await;
        assert_eq!((&said["admitted"], &said["rule"]), (&json!(true), &Value::Null));
        assert_eq!(said["api"]["uid"], json!(shop.orders));
        let grant = &said["grant"];
        for (field, value) in [
            ("kind", json!("dgrk")),
            ("credential", json!(shop.key)),
            ("client", json!("acme")),
            ("client_status", json!("active")),
            ("apis", json!([shop.orders])),
            ("groups", Value::Null),
            ("addresses", Value::Null),
            ("priority", json!(2)),
            ("tps", json!(3)),
        ] {
            assert_eq!(grant[field], value, "{field}");
        }
        let limits: Vec<(&Value, &Value, &Value)> = said["meters"]
            .as_array()
            .expect("meters")
            .iter()
            .map(|meter| (&meter["kind"], &meter["limit"], &meter["remaining"]))
            .collect();
        assert_eq!(
            limits,
            [(&json!("client_quota"), &json!(7), &json!(7)), (&json!("key_uses"), &json!(5), &json!(5))]
        );
        assert!(said["feed"].as_u64() >= said["directory"].as_u64());
        // The same credential, named by its id; and no secret in either answer.
        let by_id = shop.ask(json!({ "credential": { "id": shop.key } })).await;
        assert_eq!(by_id, said);
        assert!(!said.to_string().contains(SECRET) && !said.to_string().contains(API_KEY));
    }
}

#[tokio::test]
async fn each_rule_decides_in_its_turn() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let with = |more: Value| {
            let mut question = dgrk();
            for (name, value) in more.as_object().expect("an object") {
                question[name] = value.clone();
            }
            question
        };
        let x_api_key = json!({ "id": shop.x_api_key });
        for (question, code, rule) in [
            (with(json!({ "path": "/orders//7" })), "path_ambiguous", "path"),
            (with(json!({ "path": "/nothing" })), "api_not_found", "api"),
            (with(json!({ "method": "POST" })), "method_not_allowed", "api"),
            (json!({}), "credential_missing", "credential_header"),
            (json!({ "credential": { "id": "basic:acme" } }), "credential_not_accepted", "credential_header"),
            (with(json!({ "path": "/reports" })), "permission_denied", "permission"),
            (json!({ "credential": x_api_key, "path": "/reports" }), "permission_denied", "permission"),
        ] {
            assert_eq!(shop.verdict(question.clone()).await, (code.into(), json!(rule)), "{question}");
        }
        assert_eq!(shop.verdict(json!({ "credential": x_api_key })).await.0, "admitted");
        // Its expiry is the end of that day in the client's zone.
        let later = json!({ "credential": x_api_key, "at": 1_801_000_000_000_i64 });
        assert_eq!(shop.verdict(later).await, ("credential_expired".into(), json!("credential")));

        let change = async |fields: Value| {
            shop.admin.patch("/api/v1/clients/acme", fields).await.expect(200);
        };
        change(json!({ "bindings": [{ "name": "office", "address": "198.51.100.0/24" }] })).await;
        let elsewhere = with(json!({ "address": "203.0.113.7" }));
        assert_eq!(shop.verdict(elsewhere).await, ("address_not_allowed".into(), json!("client")));
        let nowhere = json!({ "method": "GET", "path": "/orders/7", "credential": { "api_key": API_KEY } });
        let problem = shop.admin.post("/api/v1/explain", nowhere).await.problem(422, "invalid_field");
        assert_eq!(problem["field"], "address", "{problem}");
        assert_eq!(shop.verdict(with(json!({ "address": "198.51.100.9" }))).await.0, "admitted");
        change(json!({ "bindings": [], "audience": "internal" })).await;
        assert_eq!(shop.verdict(dgrk()).await, ("audience_denied".into(), json!("audience")));
        assert_eq!(shop.verdict(with(json!({ "origin": "internal" }))).await.0, "admitted");
        change(json!({ "audience": "both", "status": "disabled" })).await;
        assert_eq!(shop.verdict(dgrk()).await, ("client_disabled".into(), json!("client")));
        change(json!({ "status": "active", "groups": [] })).await;
        let lost = json!({ "credential": x_api_key });
        assert_eq!(shop.verdict(lost).await, ("permission_denied".into(), json!("permission")));
        change(json!({ "groups": [shop.group] })).await;
        shop.admin.post(&format!("/api/v1/keys/{}/revoke", shop.key), json!({})).await.expect(200);
        assert_eq!(shop.verdict(dgrk()).await, ("credential_revoked".into(), json!("credential")));
    }
}

#[tokio::test]
async fn limits_are_judged_by_the_ledger() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let said = shop.ask(dgrk()).await;
        let meter = said["meters"][1]["meter"].clone();
        let mut left = 5;
        let mut seq = 0;
        let mut closed: Option<(Value, u64)> = None;
        // One node takes lease after lease and spends each, until nothing remains.
        while left > 0 {
            seq += 1;
            let mut renewal = json!({ "meter": meter, "rec": 1, "seq": seq, "want": 9 });
            if let Some((lease, _)) = &closed {
                renewal["closed_lease"] = lease.clone();
                renewal["epoch"] = json!(shop.epoch(&world).await);
            }
            let outcome = shop.renew(renewal).await;
            let units = outcome["granted"]["units"].as_u64().expect("units");
            closed = Some((outcome["granted"]["lease"].clone(), units));
            left -= units;
            let said = shop.ask(dgrk()).await;
            assert_eq!(said["meters"][1]["remaining"], json!(left));
            assert_eq!(said["meters"][1]["leased"], json!(units));
            assert_eq!(said["code"], json!("admitted"), "a node may spend, or give back, what it holds");
        }
        seq += 1;
        let (lease, _) = closed.expect("a lease");
        let epoch = shop.epoch(&world).await;
        shop.renew(json!({
            "meter": meter, "rec": 1, "seq": seq, "want": 0, "closed_lease": lease, "epoch": epoch,
        }))
        .await;
        let said = shop.ask(dgrk()).await;
        assert_eq!((&said["code"], &said["rule"]), (&json!("quota_exhausted"), &json!("quota")));
        assert_eq!(said["detail"], json!("All 5 calls of this API key are used."));
        assert_eq!(said["meters"][1]["leased"], json!(0));
        // The other credential of the client has its own.
        assert_eq!(shop.verdict(json!({ "credential": { "id": shop.x_api_key } })).await.0, "admitted");
    }
}

#[tokio::test]
async fn a_gateway_is_shown_with_what_it_has_not_heard() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        shop.renew(json!({ "meter": 1, "rec": 1, "seq": 1, "want": 1 })).await;
        let said = shop.ask(json!({ "gateway": "edge" })).await;
        let envoy = &said["envoys"][0];
        assert_eq!((&envoy["holder"], &envoy["feed_revision"]), (&json!(HOLDER), &json!(0)));
        assert_eq!(envoy["feed_lag"], said["feed"]);
    }
}

/// A command has its own settings, such as those of the shell that it is called from.
#[tokio::test]
async fn whoever_asks_hands_no_settings_to_the_gates() {
    for mut world in World::both().await {
        let shop = Shop::open(&world).await;
        let given = shop.edge.get("/gateway/v1/directory").await.expect(200);
        let mut config = (*world.app.config).clone();
        config.max_staleness_s += 1;
        world.app.config = config.into();
        world.app.feed = feed::Shared::default();
        let elsewhere = world.replica(&shop.admin).await;
        let asked = json!({ "method": "GET", "path": "/orders/7", "credential": { "api_key": API_KEY } });
        elsewhere.post("/api/v1/explain", asked).await.expect(200);
        assert_eq!(shop.edge.get("/gateway/v1/directory").await.expect(200), given);
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_says_what_is_wrong() {
    let world = World::sqlite().await;
    let shop = Shop::open(&world).await;
    for (field, question) in [
        ("credential", json!({ "method": "GET", "path": "/", "credential": { "id": "key_none" } })),
        ("credential", json!({ "method": "GET", "path": "/", "credential": { "api_key": "none" } })),
        ("credential", json!({ "method": "GET", "path": "/", "credential": {} })),
        ("credential", json!({ "method": "GET", "path": "/", "credential": { "id": "a", "api_key": "b" } })),
        ("path", json!({ "method": "GET", "path": "orders" })),
        ("path", json!({ "method": "GET", "path": "/a b" })),
        ("method", json!({ "method": "", "path": "/" })),
        ("host", json!({ "method": "GET", "path": "/", "host": "a b" })),
        ("address", json!({ "method": "GET", "path": "/", "address": "here" })),
        ("gateway", json!({ "method": "GET", "path": "/", "gateway": "none" })),
        ("at", json!({ "method": "GET", "path": "/", "at": i64::MAX })),
    ] {
        let problem =
            shop.admin.post("/api/v1/explain", question.clone()).await.problem(422, "invalid_field");
        assert_eq!(problem["field"], field, "{question}");
    }
}

impl Shop {
    async fn renew(&self, renewal: Value) -> Value {
        let request = json!({
            "version": 1, "holder": HOLDER, "slot": 0, "filter_version": "0.1.0", "directory": 0, "feed": 0,
            "renew": [renewal],
        });
        self.edge.post("/gateway/v1/exchange", request).await.expect(200)["renewed"][0]["outcome"].clone()
    }

    async fn epoch(&self, world: &World) -> u64 {
        let mut read = world.app.db.read().await.expect("a connection");
        crate::changes::head(&mut read).await.expect("read").epoch.0
    }
}
