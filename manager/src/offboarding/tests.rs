//! The end of a client through the router, as operators see it and as a filter does.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use crate::gateways;
use crate::testing::{Caller, World};

const ACME: &str = "/api/v1/clients/acme";
const API_KEY: &str = "ZjkwMjQ3NTk3N2JhZTk3ZDViYWMxNzRkMTA0NTM3ZjkwZDI1MTQyYw==";
const SECRET: &str =
    "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==";

/// A client with a key, an X-Api-Key, a draft, a form that waits and a revocation to come.
struct Stage {
    admin: Caller,
    anna: Caller,
    key: String,
    x_api_key: String,
    x_api_key_text: String,
    draft: String,
    waiting: String,
    scheduled: String,
}

fn client(id: &str) -> Value {
    json!({
        "id": id, "name": "acme", "display_name": "Acme Ltd.", "note": "Ann", "emails": "it@acme.example",
        "password": "secret-1", "password_confirmation": "secret-1", "quota": 10,
    })
}

impl Stage {
    async fn set(world: &World) -> Self {
        let admin = world.operator("ann", &["admin"]).await;
        let anna = world.operator("anna", &["applicant"]).await;
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let api = json!({
            "module": "shop", "id": "orders", "path": { "exact": "/orders" },
            "accepts": ["dgrk", "x_api_key", "basic"],
        });
        let api = admin.post("/api/v1/apis", api).await.expect(201)["uid"].clone();
        let group = json!({ "name": "retail", "alias": "Retail", "apis": [api] });
        let group = admin.post("/api/v1/groups", group).await.expect(201)["id"].clone();
        let mut acme = client("acme");
        acme["groups"] = json!([group]);
        acme["bindings"] = json!([{ "name": "office", "address": "office.acme.example" }]);
        admin.post("/api/v1/clients", acme).await.expect(201);
        let key = json!({
            "client": "acme", "api_key": API_KEY, "secret_key": SECRET, "name": "orders key",
            "expiry_date": "2026-12-31", "quota": 5, "apis": [api],
        });
        let key = text(&admin.post("/api/v1/keys/import", key).await.expect(201)["id"]);
        let wanted = json!({ "client": "acme", "alias": "back office", "expiry_date": "2026-02-01", "groups": [group] });
        let x_api_key = admin.post("/api/v1/x-api-keys", wanted).await.expect(201);
        for kind in ["KA", "KR"] {
            let flow = json!({ "levels": [["reviewer_1"]] });
            admin.put(&format!("/api/v1/approval-flows/{kind}"), flow).await.expect(200);
        }
        let apply = json!({
            "type": "KA", "client": "acme", "name": "another", "effective_date": "2026-01-15",
            "expiry_date": "2026-12-31", "quota": -1, "description": "to order", "apis": [api],
        });
        let revoke = json!({
            "type": "KR", "key": key, "effective_date": "2026-02-15", "description": "no longer",
        });
        let saved =
            async |form: Value| text(&anna.post("/api/v1/applications", form).await.expect(201)["id"]);
        let (draft, waiting, scheduled) =
            (saved(apply.clone()).await, saved(apply).await, saved(revoke).await);
        for form in [&waiting, &scheduled] {
            let path = format!("/api/v1/applications/{form}/submit");
            anna.send(Method::POST, &path, &[], None).await.expect(200);
        }
        let version = anna.get(&format!("/api/v1/applications/{scheduled}")).await;
        let version = version.header("etag").expect("a version").to_owned();
        let path = format!("/api/v1/applications/{scheduled}/approve");
        rita.send(Method::POST, &path, &[("if-match", &version)], Some(json!({}))).await.expect(200);
        Self {
            key,
            x_api_key_text: text(&x_api_key["x_api_key"]),
            x_api_key: text(&x_api_key["id"]),
            draft,
            waiting,
            scheduled,
            admin,
            anna,
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").into()
}

/// Which of these credentials a gateway gets a grant for.
async fn known(gateway: &Caller, presented: &[Value]) -> Vec<bool> {
    let request = json!({
        "version": 1, "holder": "0123456789abcdef0123456789abcdef", "slot": 0, "filter_version": "0.1.0",
        "directory": 0, "feed": 0, "resolve": presented,
    });
    let answer = gateway.post("/gateway/v1/exchange", request).await.expect(200);
    let resolved = answer["resolved"].as_array().expect("answers");
    resolved.iter().map(|one| one["known"].is_object()).collect()
}

async fn history(stage: &Stage, form: &str) -> (Value, Value) {
    let form = stage.admin.get(&format!("/api/v1/applications/{form}")).await.expect(200);
    let last = form["history"].as_array().expect("a history").last().expect("a step").clone();
    (form, last)
}

#[tokio::test]
async fn deleting_a_client_is_asked_about_with_all_that_ends_with_it() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let pair = "grant_type=client_credentials&client_id=acme&client_secret=secret-1";
        let token = world.anon().raw(Method::POST, "/oauth/token", &form, Body::from(pair)).await.expect(200);
        for path in [ACME.to_owned(), format!("{ACME}?confirm="), format!("{ACME}?confirm=Acme")] {
            let asked = stage.admin.delete(&path).await.problem(409, "confirm_delete");
            assert_eq!(asked["title"], "Confirm Delete?");
            let detail = asked["detail"].as_str().expect("a detail");
            assert!(
                detail.contains("1 key, 1 X-Api-Key, 1 token, 3 open forms")
                    && detail.contains("?confirm=acme"),
                "{detail}"
            );
            let affected = &asked["affected"];
            assert_eq!(affected["keys"], json!([{ "id": stage.key, "name": "orders key" }]));
            assert_eq!(affected["x_api_keys"], json!([{ "id": stage.x_api_key, "name": "back office" }]));
            assert_eq!(affected["tokens"], json!([{ "id": token["jti"], "name": "acme" }]));
            let forms: Vec<&Value> =
                affected["forms"].as_array().expect("forms").iter().map(|form| &form["name"]).collect();
            assert!(
                forms.contains(&&json!("Draft")) && forms.contains(&&json!("KA-20260115-0001")),
                "{forms:?}"
            );
        }
        let confirmed = format!("{ACME}?confirm=acme");
        let stale = stage.admin.send(Method::DELETE, &confirmed, &[("if-match", "\"9\"")], None).await;
        stale.problem(412, "version_mismatch");
        world.operator("rob", &["reviewer_1"]).await.delete(ACME).await.problem(403, "forbidden");
        stage.admin.delete("/api/v1/clients/nobody?confirm=nobody").await.problem(404, "not_found");
        assert_eq!(stage.admin.get(ACME).await.expect(200)["version"], 1, "nothing was changed");
        let key = stage.admin.get(&format!("/api/v1/keys/{}", stage.key)).await.expect(200);
        assert_eq!(key["state"], "active");
    }
}

#[tokio::test]
async fn what_hangs_on_a_client_ends_with_it_and_stays_on_record() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        world.advance_ms(1_000);
        stage.admin.delete(&format!("{ACME}?confirm=acme")).await.expect(204);
        stage.admin.get(ACME).await.problem(404, "not_found");
        stage.admin.delete(&format!("{ACME}?confirm=acme")).await.problem(404, "not_found");

        let key = stage.admin.get(&format!("/api/v1/keys/{}", stage.key)).await.expect(200);
        assert_eq!((&key["state"], &key["client"]), (&json!("revoked"), &json!("acme")));
        stage.admin.get(&format!("/api/v1/x-api-keys/{}", stage.x_api_key)).await.problem(404, "not_found");
        for (form, state, step) in [
            (&stage.draft, "cancelled", "cancel"),
            (&stage.waiting, "cancelled", "cancel"),
            (&stage.scheduled, "approved", "cancel"),
        ] {
            let (form, last) = history(&stage, form).await;
            assert_eq!(form["state"], state, "{form:#}");
            assert_eq!(
                (&last["action"], &last["comment"]),
                (&json!(step), &json!("The client acme was deleted."))
            );
            assert_eq!(form["actions"], json!([]));
        }
        let (scheduled, _) = history(&stage, &stage.scheduled).await;
        assert_eq!(scheduled["effect"]["state"], "stopped");

        // The applicant is told of each form, the client of its key.
        let mails = stage.admin.get("/api/v1/mails?limit=200").await.expect(200);
        let to = |who: &str, template: &str| {
            let items = mails["items"].as_array().expect("items").iter();
            items.filter(|mail| mail["recipient"] == who && mail["template"] == template).count()
        };
        assert_eq!(to("it@acme.example", "key_changed"), 1);
        assert!(to("anna@example.com", "application_step") >= 3);

        let trail = stage.admin.get("/api/v1/audit?subject=client:acme&limit=1").await.expect(200);
        let entry = &trail["items"][0];
        assert_eq!((&entry["action"], &entry["detail"]["name"]), (&json!("clients.delete"), &json!("acme")));
        assert_eq!(entry["detail"]["with"]["keys"], json!([stage.key]));
        // Its forms are the applicant's to read, and no new one can be filed.
        let anna = &stage.anna;
        anna.get(&format!("/api/v1/applications/{}", stage.waiting)).await.expect(200);
        let left = async |sql: &str| world.sql(sql).await;
        for table in
            ["client_bindings", "client_groups", "client_hosts", "x_api_keys", "client_token_settings"]
        {
            assert_eq!(left(&format!("DELETE FROM {table}")).await, 0, "{table}");
        }
        assert_eq!(left("DELETE FROM meters WHERE kind = 'client_quota'").await, 0);
    }
}

#[tokio::test]
async fn a_deleted_client_is_refused_by_gateways() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let gateway = gateways::add(&world.app, "edge", "test").await.expect("a gateway");
        let gateway = world.bearer(gateway.token.reveal());
        let sha256 = gate::credential::Fingerprint::of(stage.x_api_key_text.as_bytes()).to_hex();
        let presented = [
            json!({ "kind": "dgrk", "api_key": API_KEY }),
            json!({ "kind": "x_api_key", "sha256": sha256 }),
            json!({ "kind": "basic", "client": "acme", "password": "secret-1" }),
        ];
        assert_eq!(known(&gateway, &presented).await, [true, true, true]);
        let begun = gateway.get("/gateway/v1/changes?since=0&wait_ms=0").await.expect(200);
        stage.admin.delete(&format!("{ACME}?confirm=acme")).await.expect(204);
        let since = format!("epoch={}&since={}&wait_ms=0", begun["epoch"], begun["revision"]);
        let told = gateway.get(&format!("/gateway/v1/changes?{since}")).await.expect(200).to_string();
        for what in ["acme", &stage.key, &stage.x_api_key] {
            assert!(told.contains(what), "{what} in {told}");
        }
        assert_eq!(known(&gateway, &presented).await, [false, false, false]);
    }
}

#[tokio::test]
async fn names_of_a_deleted_client_are_free_again_and_its_id_is_not() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        admin.post("/api/v1/clients", client("acme")).await.expect(201);
        let asked = admin.delete(ACME).await.problem(409, "confirm_delete");
        assert!(
            asked["detail"].as_str().is_some_and(|detail| detail.contains("nothing but the client itself"))
        );
        admin.delete(&format!("{ACME}?confirm=acme")).await.expect(204);
        let refused = admin.post("/api/v1/clients", client("acme")).await.problem(409, "client_exists");
        assert_eq!(refused["field"], "id");
        admin.post("/api/v1/clients", client("acme-2")).await.expect(201);
        admin.delete("/api/v1/clients/acme-2?confirm=acme").await.expect(204);
        // The id that would be made of the name is not given twice either.
        let mut unnamed = client("");
        let first = text(&admin.post("/api/v1/clients", unnamed.clone()).await.expect(201)["id"]);
        assert_eq!(first, "YWNtZQ==");
        admin.delete(&format!("/api/v1/clients/{first}?confirm=acme")).await.expect(204);
        unnamed["id"] = Value::Null;
        let second = text(&admin.post("/api/v1/clients", unnamed).await.expect(201)["id"]);
        assert!(second.starts_with("cl_"), "{second}");
    }
}

#[tokio::test]
async fn no_mail_hands_over_what_ended_with_its_client() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        stage.admin.delete(&format!("{ACME}?confirm=acme")).await.expect(204);
        let mails = stage.admin.get("/api/v1/mails?limit=200").await.expect(200);
        let secret = ["client_created", "client_password_reset", "x_api_key_issued", "key_credentials"];
        let items: Vec<_> = mails["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter(|mail| secret.iter().any(|template| mail["template"] == *template))
            .collect();
        assert_eq!(items.len(), 2, "the client's password and its X-Api-Key: {items:#?}");
        for mail in items {
            assert_eq!(mail["state"], "failed", "{mail:#}");
        }
    }
}

/// Rounds of creation against deletion: either may come first in any of them.
const ROUNDS: usize = 25;

#[tokio::test]
async fn what_is_created_while_its_client_is_deleted_ends_with_it_or_is_refused() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let anna = world.operator("anna", &["applicant"]).await;
        let thing = |name: &str| json!({ "name": name, "alias": name });
        let group = admin.post("/api/v1/groups", thing("retail")).await.expect(201)["id"].clone();
        let scope = admin.post("/api/v1/scopes", thing("read")).await.expect(201)["id"].clone();
        let api =
            json!({ "module": "shop", "id": "orders", "path": { "exact": "/orders" }, "accepts": ["dgrk"] });
        let api = admin.post("/api/v1/apis", api).await.expect(201)["uid"].clone();
        let terms = json!({ "validity": 1, "unit": "days", "uses": 3 });
        let settings = json!({
            "grant_types": ["client_credentials"], "access_token": terms, "refresh_token": terms, "redirect_urls": [],
        });
        for round in 0..ROUNDS {
            let id = format!("acme-{round}");
            let mut acme = client(&id);
            acme["groups"] = json!([group]);
            admin.post("/api/v1/clients", acme).await.expect(201);
            let x_api_key = json!({ "client": id, "alias": "back office", "expiry_date": "2026-02-01", "groups": [group] });
            let form = json!({
                "type": "KA", "client": id, "name": "another", "effective_date": "2026-01-15",
                "expiry_date": "2026-12-31", "quota": -1, "description": "to order", "apis": [api],
            });
            let own = |of: &str| format!("/api/v1/clients/{id}/{of}");
            let (tokens, scopes, gone) =
                (own("token-settings"), own("scopes"), format!("/api/v1/clients/{id}?confirm=acme"));
            let answers = tokio::join!(
                admin.post("/api/v1/x-api-keys", x_api_key.clone()),
                anna.post("/api/v1/applications", form.clone()),
                admin.put(&tokens, settings.clone()),
                admin.delete(&gone),
                admin.post("/api/v1/x-api-keys", x_api_key.clone()),
                anna.post("/api/v1/applications", form.clone()),
                admin.put(&scopes, json!({ "scopes": [scope] })),
            );
            let statuses = [
                answers.0.status,
                answers.1.status,
                answers.2.status,
                answers.3.status,
                answers.4.status,
                answers.5.status,
                answers.6.status,
            ];
            assert_eq!(statuses[3], 204, "round {round}: {statuses:?} {:#}", answers.3.body);
            assert!(statuses.iter().all(|status| *status < 500), "round {round}: {statuses:?}");
        }
        let nobodys = "NOT IN (SELECT id FROM clients)";
        for left in [
            format!("DELETE FROM x_api_keys WHERE client_id {nobodys}"),
            format!("DELETE FROM client_token_settings WHERE client_id {nobodys}"),
            format!("DELETE FROM client_scopes WHERE client_id {nobodys}"),
            format!("UPDATE applications SET version = version WHERE state = 'draft' AND client {nobodys}"),
        ] {
            assert_eq!(world.sql(&left).await, 0, "{left}");
        }
    }
}

#[tokio::test]
async fn who_may_write_no_keys_deletes_no_client_that_has_some() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let confirmed = format!("{ACME}?confirm=acme");
        for (role, permissions) in [
            ("accounts", json!(["clients.read", "clients.write"])),
            ("credentials", json!(["clients.read", "clients.write", "keys.write"])),
        ] {
            let role_of = json!({ "description": "some of it", "permissions": permissions });
            stage.admin.put(&format!("/api/v1/roles/{role}"), role_of).await.expect(200);
        }
        let accounts = world.operator("adam", &["accounts"]).await;
        for path in [ACME, &confirmed] {
            let refused = accounts.delete(path).await.problem(403, "forbidden");
            let detail = refused["detail"].as_str().expect("a detail");
            assert!(detail.contains("keys.write") && detail.contains("1 key, 1 X-Api-Key"), "{detail}");
        }
        stage.admin.get(ACME).await.expect(200);
        // What the caller may not read is counted and not listed.
        let credentials = world.operator("carl", &["credentials"]).await;
        let asked = credentials.delete(ACME).await.problem(409, "confirm_delete");
        assert_eq!(asked["affected"], json!({}));
        assert!(
            asked["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("1 key, 1 X-Api-Key, 3 open forms"))
        );
        // The ready-made role for those who hold partners suffices.
        let manager = world.operator("mia", &["client_manager"]).await;
        let asked = manager.delete(ACME).await.problem(409, "confirm_delete");
        for (kind, count) in [("keys", 1), ("x_api_keys", 1), ("forms", 3)] {
            assert_eq!(asked["affected"][kind].as_array().map(Vec::len), Some(count), "{kind}");
        }
        manager.delete(&confirmed).await.expect(204);
        // A client without keys is the account alone.
        stage.admin.post("/api/v1/clients", client("acme-2")).await.expect(201);
        accounts.delete("/api/v1/clients/acme-2?confirm=acme").await.expect(204);
    }
}

#[tokio::test]
async fn a_refusal_lists_the_first_hundred_and_counts_all() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let numbers: Vec<String> = (1..=120).map(|number| format!("SELECT {number} AS number")).collect();
        let more = format!(
            "INSERT INTO x_api_keys (id, client_id, alias, sha256, mask, effective_at, expires_at, origin, search,
                                     created_at, created_by)
             SELECT id || '-' || number, client_id, alias, sha256 || '-' || number, mask, effective_at, expires_at,
                    origin, search, created_at, created_by
               FROM x_api_keys
              CROSS JOIN ({}) AS numbers",
            numbers.join(" UNION ALL ")
        );
        assert_eq!(world.sql(&more).await, 120);
        let asked = stage.admin.delete(ACME).await.problem(409, "confirm_delete");
        assert!(asked["detail"].as_str().is_some_and(|detail| detail.contains("121 X-Api-Keys")));
        assert_eq!(asked["affected"]["x_api_keys"].as_array().map(Vec::len), Some(100));
    }
}
