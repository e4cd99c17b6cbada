//! Clients through the router, on both databases.

use serde_json::{Value, json};

use super::{PasswordCheck, check_password};
use crate::testing::{Caller, World};

const CLIENTS: &str = "/api/v1/clients";

/// The fields that are required, and nothing else.
fn acme() -> Value {
    json!({
        "id": "acme", "name": "acme", "display_name": "Acme Ltd.", "note": "Ann",
        "password": "secret-1", "password_confirmation": "secret-1",
    })
}

/// `acme`, with some fields replaced or added.
fn acme_with(fields: Value) -> Value {
    let mut body = acme();
    for (name, value) in fields.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

async fn group(admin: &Caller, name: &str, level: &str) -> String {
    let body = json!({ "name": name, "alias": name, "security_level": level });
    let group = admin.post("/api/v1/groups", body).await.expect(201);
    group["id"].as_str().expect("an id").into()
}

#[tokio::test]
async fn a_new_client_has_the_documented_defaults() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let made = admin.post(CLIENTS, acme()).await.expect(201);
        for (field, value) in [
            ("tps", json!(10)),
            ("priority", json!(5)),
            ("quota", json!(0)),
            ("quota_period", json!("day")),
            ("status", json!("active")),
            ("audience", json!("both")),
            ("security_level", json!("SYSTEM")),
            ("allowed_attempts", json!(3)),
            ("bindings", json!([])),
            ("groups", json!([])),
            ("version", json!(1)),
        ] {
            assert_eq!(made[field], value, "{field}");
        }
        assert!(made.get("password").is_none() && made.get("password_hash").is_none());
        let read = admin.get("/api/v1/clients/acme").await;
        assert_eq!(read.header("etag"), Some("\"1\""));
        assert_eq!(read.expect(200), made);
    }
}

#[tokio::test]
async fn without_an_id_one_is_generated() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let made = admin.post(CLIENTS, acme_with(json!({ "id": "" }))).await.expect(201);
    let id = made["id"].as_str().expect("an id");
    admin.get(&format!("/api/v1/clients/{id}")).await.expect(200);
}

#[tokio::test]
async fn every_field_is_kept_and_an_update_changes_what_it_names() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let retail = group(&admin, "retail", "SYSTEM").await;
        let all = acme_with(json!({
            "application_number": "A-17",
            "bindings": [{ "name": "office", "address": "192.0.2.0/24" }, { "name": "home", "address": "2001:db8::1" }],
            "start_date": "2026-01-01", "expiry_date": "2026-12-31",
            "service_from": "08:30", "service_until": "18:00", "time_zone": "Asia/Taipei",
            "quota": 1000, "quota_period": "month", "tps": 0, "priority": 0, "audience": "external",
            "security_level": "B", "groups": [retail], "emails": "a@example.com,b@example.com", "remark": "vip",
        }));
        let made = admin.post(CLIENTS, all.clone()).await.expect(201);
        for (field, value) in all.as_object().expect("an object") {
            if !field.starts_with("password") {
                assert_eq!(&made[field], value, "{field}");
            }
        }
        let path = "/api/v1/clients/acme";
        let same = admin.patch(path, json!({})).await.expect(200);
        for field in ["quota", "tps", "priority", "bindings", "start_date", "emails", "remark", "groups"] {
            assert_eq!(same[field], made[field], "an absent field resets nothing: {field}");
        }
        let change =
            json!({ "start_date": null, "expiry_date": null, "tps": 7, "status": "disabled", "groups": [] });
        let changed = admin.patch(path, change).await.expect(200);
        assert_eq!(changed["start_date"], Value::Null);
        assert_eq!((&changed["tps"], &changed["status"]), (&json!(7), &json!("disabled")));
        assert_eq!((&changed["groups"], &changed["version"]), (&json!([]), &json!(2)));
    }
}

#[tokio::test]
async fn bad_fields_are_refused_by_name_and_leave_nothing() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let group_a = group(&admin, "top", "A").await;
    for (field, body) in [
        ("id", json!({ "id": "a b" })),
        ("id", json!({ "id": "a".repeat(41) })),
        ("name", json!({ "name": "Acme Ltd" })),
        ("name", json!({ "name": "" })),
        ("display_name", json!({ "display_name": "" })),
        ("display_name", json!({ "display_name": "é".repeat(51) })),
        ("note", json!({ "note": "" })),
        ("remark", json!({ "remark": "x".repeat(301) })),
        ("password", json!({ "password": "short", "password_confirmation": "short" })),
        ("password", json!({ "password": "x".repeat(129), "password_confirmation": "x".repeat(129) })),
        ("password_confirmation", json!({ "password_confirmation": "secret-2" })),
        ("expiry_date", json!({ "start_date": "2026-01-01", "time_zone": "UTC" })),
        (
            "expiry_date",
            json!({ "start_date": "2026-01-02", "expiry_date": "2026-01-01", "time_zone": "UTC" }),
        ),
        ("time_zone", json!({ "start_date": "2026-01-01", "expiry_date": "2026-01-02" })),
        ("time_zone", json!({ "time_zone": "Mars/Base" })),
        ("service_until", json!({ "service_from": "10:00", "service_until": "09:00", "time_zone": "UTC" })),
        ("quota_period", json!({ "quota": 1, "quota_period": "hour" })),
        ("quota", json!({ "quota": (1_u64 << 53) + 1 })),
        ("priority", json!({ "priority": 10 })),
        ("allowed_attempts", json!({ "allowed_attempts": 0 })),
        ("emails", json!({ "emails": "a@example.com;b" })),
        ("bindings", json!({ "bindings": [{ "name": "x", "address": "192.0.2.300" }] })),
        ("bindings", json!({ "bindings": [{ "name": "", "address": "192.0.2.3" }] })),
        (
            "bindings",
            json!({ "bindings": [{ "name": "x", "address": "::1" }, { "name": "X", "address": "::2" }] }),
        ),
        ("groups", json!({ "groups": ["none"] })),
        ("groups", json!({ "groups": [group_a], "security_level": "B" })),
    ] {
        admin.post(CLIENTS, acme_with(body.clone())).await.refuses(field);
        assert_eq!(admin.get(CLIENTS).await.expect(200)["items"], json!([]), "{body}");
    }
    // Unknown, missing and mistyped fields.
    for body in
        [acme_with(json!({ "tpss": 1 })), json!({ "name": "acme" }), acme_with(json!({ "tps": "many" }))]
    {
        let answer = admin.post(CLIENTS, body).await;
        assert!((400..500).contains(&answer.status), "{:#}", answer.body);
        assert!(answer.body["field"].is_string(), "{:#}", answer.body);
    }
}

#[tokio::test]
async fn ids_and_names_are_unique() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        admin.post(CLIENTS, acme()).await.expect(201);
        let other = |id, name, display| acme_with(json!({ "id": id, "name": name, "display_name": display }));
        for (field, body) in [
            ("id", other("acme", "other", "Other")),
            ("name", other("other", "acme", "Other")),
            ("display_name", other("other", "other", "Acme Ltd.")),
        ] {
            let refused = admin.post(CLIENTS, body).await.problem(409, "client_exists");
            assert_eq!(refused["field"], field);
        }
        admin.post(CLIENTS, other("other", "other", "Other")).await.expect(201);
        let refused = admin.patch("/api/v1/clients/other", json!({ "name": "acme" })).await;
        assert_eq!(refused.problem(409, "client_exists")["field"], "name");
    }
}

#[tokio::test]
async fn a_stale_version_changes_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        admin.post(CLIENTS, acme()).await.expect(201);
        let path = "/api/v1/clients/acme";
        let patch = |version: &'static str, tps: u32| {
            let admin = admin.clone();
            async move {
                let body = Some(json!({ "tps": tps }));
                admin.send(axum::http::Method::PATCH, path, &[("if-match", version)], body).await
            }
        };
        patch("\"1\"", 20).await.expect(200);
        patch("\"1\"", 30).await.problem(412, "version_mismatch");
        assert_eq!(admin.get(path).await.expect(200)["tps"], 20);
    }
}

#[tokio::test]
async fn lists_are_searched_and_paged() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let retail = group(&admin, "retail", "SYSTEM").await;
        for (id, display, groups) in
            [("a1", "100% Fruit", json!([])), ("b2", "Bread", json!([retail])), ("c3", "Cake", json!([]))]
        {
            let body = acme_with(json!({ "id": id, "name": id, "display_name": display, "groups": groups }));
            admin.post(CLIENTS, body).await.expect(201);
        }
        admin.patch("/api/v1/clients/c3", json!({ "status": "locked" })).await.expect(200);
        let ids = |body: &Value| -> Vec<String> {
            let items = body["items"].as_array().expect("items");
            items.iter().map(|item| item["id"].as_str().expect("an id").into()).collect()
        };
        for (query, found) in [
            (String::new(), vec!["a1", "b2", "c3"]),
            ("?keyword=BREAD".into(), vec!["b2"]),
            ("?keyword=100%25".into(), vec!["a1"]),
            ("?keyword=_".into(), vec![]),
            ("?keyword=RETAI".into(), vec!["b2"]),
            ("?status=locked".into(), vec!["c3"]),
            ("?status=active&keyword=a".into(), vec!["a1", "b2"]),
        ] {
            let page = admin.get(&format!("{CLIENTS}{query}")).await.expect(200);
            assert_eq!(ids(&page), found, "{query}");
        }
        let first = admin.get(&format!("{CLIENTS}?limit=2")).await.expect(200);
        assert_eq!(ids(&first), ["a1", "b2"]);
        let next = first["next"].as_str().expect("more");
        let second = admin.get(&format!("{CLIENTS}?limit=2&cursor={next}")).await.expect(200);
        assert_eq!((ids(&second), &second["next"]), (vec!["c3".to_string()], &Value::Null));
        admin.get(&format!("{CLIENTS}?status=asleep")).await.refuses("status");
    }
}

#[tokio::test]
async fn only_who_may_reads_and_writes() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let reviewer = world.operator("rob", &["reviewer_1"]).await;
    admin.post(CLIENTS, acme()).await.expect(201);
    reviewer.get(CLIENTS).await.expect(200);
    reviewer.patch("/api/v1/clients/acme", json!({ "tps": 1 })).await.problem(403, "forbidden");
    reviewer.post(CLIENTS, acme()).await.problem(403, "forbidden");
    world.anon().get(CLIENTS).await.problem(401, "unauthenticated");
    admin.get("/api/v1/clients/nobody").await.problem(404, "not_found");
}

#[tokio::test]
async fn wrong_passwords_close_password_credentials_until_an_operator_opens_them() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        admin.post(CLIENTS, acme()).await.expect(201);
        let check = async |password: &str| {
            let result = check_password(&world.app, "acme", password).await.expect("an answer");
            matches!(result, PasswordCheck::Right(_))
        };
        assert!(check("secret-1").await);
        assert!(!check("secret-2").await && !check("secret-2").await);
        assert!(check("secret-1").await, "two wrong ones are allowed, and a right one forgets them");
        for _ in 0..3 {
            assert!(!check("secret-2").await);
        }
        assert!(!check("secret-1").await, "after three the right one is refused too");
        let client = admin.get("/api/v1/clients/acme").await.expect(200);
        assert_eq!((&client["password_locked"], &client["status"]), (&json!(true), &json!("active")));
        let path = "/api/v1/clients/acme/status";
        admin.patch(path, json!({ "reset_failed_attempts": true })).await.expect(200);
        assert!(check("secret-1").await);
        assert!(matches!(
            check_password(&world.app, "nobody", "secret-1").await.expect("an answer"),
            PasswordCheck::Wrong
        ));
    }
}

#[tokio::test]
async fn a_group_that_a_client_has_cannot_be_deleted() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let group = group(&admin, "partners", "SYSTEM").await;
        admin.post(CLIENTS, acme_with(json!({ "groups": [group] }))).await.expect(201);
        let path = format!("/api/v1/groups/{group}");
        admin.delete(&path).await.problem(409, "group_in_use");
        admin.patch("/api/v1/clients/acme", json!({ "groups": [] })).await.expect(200);
        admin.delete(&path).await.expect(204);
    }
}

#[tokio::test]
async fn the_lock_after_wrong_passwords_reaches_gateways() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        admin.post(CLIENTS, acme()).await.expect(201);
        let head = async || {
            let mut conn = world.app.db.read().await.expect("a connection");
            crate::changes::head(&mut conn).await.expect("a head").revision.0
        };
        let before = head().await;
        for expected in [before, before, before + 1, before + 1] {
            check_password(&world.app, "acme", "secret-2").await.expect("an answer");
            assert_eq!(head().await, expected);
        }
    }
}

#[tokio::test]
async fn another_time_zone_gives_no_total_back() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let used_up = acme_with(json!({ "quota": 1000, "quota_period": "total" }));
        admin.post(CLIENTS, used_up).await.expect(201);
        world.sql("UPDATE meters SET debited = limit_units").await;
        admin.patch("/api/v1/clients/acme", json!({ "time_zone": "Asia/Tokyo" })).await.expect(200);
        let mut conn = world.app.db.read().await.expect("a connection");
        let meter =
            crate::quotas::meter_of(&mut conn, gate::wire::exchange::MeterKind::ClientQuota, "acme").await;
        assert_eq!(meter.expect("an answer").expect("a meter").remaining(), 0);
    }
}

#[tokio::test]
async fn a_group_raised_above_its_clients_does_not_keep_them_from_being_disabled() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let retail = group(&admin, "retail", "SYSTEM").await;
    admin.post(CLIENTS, acme_with(json!({ "groups": [retail] }))).await.expect(201);
    admin.patch(&format!("/api/v1/groups/{retail}"), json!({ "security_level": "A" })).await.expect(200);
    admin.patch("/api/v1/clients/acme", json!({ "status": "disabled" })).await.expect(200);
    admin.patch("/api/v1/clients/acme", json!({ "security_level": "D" })).await.refuses("groups");
}
