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
            ("lease_horizon_s", json!(null)),
            ("max_lease_percent", json!(null)),
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
async fn every_field_is_kept_and_an_update_changes_what_it_names() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let retail = group(&admin, "retail", "SYSTEM").await;
        let all = acme_with(json!({
            "application_number": "A-17",
            "bindings": [{ "name": "office", "address": "192.0.2.0/24" }, { "name": "home", "address": "2001:db8::1" }],
            "start_date": "2026-01-01", "expiry_date": "2026-12-31",
            "service_from": "08:30", "service_until": "18:00", "time_zone": "Asia/Taipei",
            "quota": 1000, "quota_period": "month", "lease_horizon_s": 300, "max_lease_percent": 7, "tps": 0, "priority": 0, "audience": "external",
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

/// Both sides of each edge of each field: what is taken, and what is refused in which words.
#[tokio::test]
async fn every_field_has_its_limits_and_messages() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let group_a = group(&admin, "top", "A").await;
    let text = |n: usize| "é".repeat(n);
    let code = |n: usize| "a".repeat(n);
    let emails = |n: usize| format!("{}a@example.com", "ab@example.com,".repeat((n - 13) / 15));
    let bindings = |n: usize| -> Vec<Value> {
        (0..n).map(|n| json!({ "name": format!("h{n}"), "address": format!("192.0.2.{n}") })).collect()
    };
    let dates =
        |start: &str, expiry: &str| json!({ "start_date": start, "expiry_date": expiry, "time_zone": "UTC" });
    let hours =
        |from: &str, until: &str| json!({ "service_from": from, "service_until": until, "time_zone": "UTC" });
    let pair = |password: String| json!({ "password": password, "password_confirmation": password });
    const OK: (&str, &str) = ("", "");
    let length = "length limit";
    for (fields, (field, says)) in [
        (json!({ "id": code(40) }), OK),
        (json!({ "id": "aZ09_-=" }), OK),
        (
            json!({ "id": code(41) }),
            ("id", "Client account: length limit [40] characters, you enter [41] characters"),
        ),
        (json!({ "id": "a b" }), ("id", "Only alphanumeric characters, '_', '-' and '=' are accepted")),
        (json!({ "id": "ü" }), ("id", "Only alphanumeric characters")),
        (json!({ "name": code(50) }), OK),
        (json!({ "name": "Az09_-" }), OK),
        (json!({ "name": "" }), ("name", "Client code: Required parameters")),
        (
            json!({ "name": code(51) }),
            ("name", "Client code: length limit [50] characters, you enter [51] characters"),
        ),
        (json!({ "name": "Acme Ltd" }), ("name", "Client code: only English letters a~z, A~Z, numbers")),
        (json!({ "name": "acme=" }), ("name", "Client code: only")),
        (json!({ "application_number": text(100) }), OK),
        (json!({ "application_number": text(101) }), ("application_number", length)),
        (json!({ "display_name": text(50) }), OK),
        (json!({ "display_name": text(51) }), ("display_name", "Client name: length limit [50]")),
        (json!({ "display_name": "" }), ("display_name", "Client name: Required parameters")),
        (json!({ "display_name": " " }), ("display_name", "Client name: Required parameters")),
        (json!({ "display_name": "a\u{1}b" }), ("display_name", "control characters")),
        (pair(text(6)), OK),
        (pair(text(128)), OK),
        (pair(text(5)), ("password", "6 to 128 characters")),
        (pair(text(129)), ("password", "6 to 128 characters")),
        (pair(String::new()), ("password", "Please fill in the password")),
        (
            json!({ "password_confirmation": "secret-2" }),
            ("password_confirmation", "The password does not match the reconfirmed password"),
        ),
        (json!({ "bindings": bindings(64) }), OK),
        (json!({ "bindings": bindings(65) }), ("bindings", "64 rows at most")),
        (json!({ "bindings": [{ "name": text(30), "address": "2001:db8::1" }] }), OK),
        (json!({ "bindings": [{ "name": text(31), "address": "::1" }] }), ("bindings", "name")),
        (json!({ "bindings": [{ "name": "", "address": "::1" }] }), ("bindings", "name")),
        (json!({ "bindings": [{ "name": "x", "address": "192.0.2.0/24" }] }), OK),
        (json!({ "bindings": [{ "name": "x", "address": "192.0.2.300" }] }), ("bindings", "")),
        (json!({ "bindings": [{ "name": "x", "address": "" }] }), ("bindings", "")),
        (
            json!({ "bindings": [{ "name": "x", "address": "::1" }, { "name": "X", "address": "::2" }] }),
            ("bindings", "Host name duplicated: X"),
        ),
        (
            json!({ "bindings": [{ "name": "x", "address": "::a" }, { "name": "y", "address": "::A" }] }),
            ("bindings", "Host IP duplicated: ::A"),
        ),
        (dates("2026-01-01", "2026-01-01"), OK),
        (
            dates("2026-01-02", "2026-01-01"),
            ("expiry_date", "The expiration date cannot be less than the start date"),
        ),
        (dates("01/01/2026", "2026-01-02"), ("start_date", "Start date:Only date format")),
        (dates("2026-01-01", "2026-02-30"), ("expiry_date", "End date:Only date format")),
        (
            json!({ "start_date": "2026-01-01", "time_zone": "UTC" }),
            ("expiry_date", "Start date and due date must be filled in"),
        ),
        (
            json!({ "expiry_date": "2026-01-01", "time_zone": "UTC" }),
            ("start_date", "Start date and due date must be filled in"),
        ),
        (hours("10:00", "10:00"), OK),
        (
            hours("10:00", "09:59"),
            ("service_until", "The expiration time cannot be less than the start time"),
        ),
        (hours("10", "11:00"), ("service_from", "Service time:Only time format")),
        (hours("10:00", "24:00"), ("service_until", "Service time:Only time format")),
        (
            json!({ "service_from": "10:00", "time_zone": "UTC" }),
            ("service_until", "Start time and expiration time must be filled in"),
        ),
        (
            json!({ "start_date": "2026-01-01", "expiry_date": "2026-01-02" }),
            ("time_zone", "Time zone must be filled in"),
        ),
        (
            json!({ "service_from": "08:00", "service_until": "09:00" }),
            ("time_zone", "Time zone must be filled in"),
        ),
        (json!({ "time_zone": "Mars/Base" }), ("time_zone", "none of the IANA database")),
        (json!({ "quota": 1_u64 << 53 }), OK),
        (json!({ "quota": (1_u64 << 53) + 1 }), ("quota", "API quota: 0 (unlimited) to 9007199254740992")),
        (json!({ "quota": -1 }), ("quota", "")),
        (json!({ "quota": 1, "quota_period": "none" }), OK),
        (json!({ "quota": 1, "quota_period": "hour" }), ("quota_period", "day, week, month or total")),
        (json!({ "lease_horizon_s": 1 }), OK),
        (json!({ "lease_horizon_s": 86_400 }), OK),
        (
            json!({ "lease_horizon_s": 0 }),
            ("lease_horizon_s", "Lease horizon in seconds: 1 to 86400, you enter 0"),
        ),
        (json!({ "lease_horizon_s": 86_401 }), ("lease_horizon_s", "1 to 86400, you enter 86401")),
        (json!({ "lease_horizon_s": -1 }), ("lease_horizon_s", "")),
        (json!({ "max_lease_percent": 1 }), OK),
        (json!({ "max_lease_percent": 100 }), OK),
        (
            json!({ "max_lease_percent": 0 }),
            ("max_lease_percent", "Largest lease in percent: 1 to 100, you enter 0"),
        ),
        (json!({ "max_lease_percent": 101 }), ("max_lease_percent", "1 to 100, you enter 101")),
        (json!({ "max_lease_percent": 0.5 }), ("max_lease_percent", "")),
        (json!({ "tps": u32::MAX }), OK),
        (json!({ "tps": u64::from(u32::MAX) + 1 }), ("tps", "")),
        (json!({ "tps": -1 }), ("tps", "")),
        (json!({ "priority": 0 }), OK),
        (json!({ "priority": 9 }), OK),
        (json!({ "priority": 10 }), ("priority", "0 (highest) to 9 (lowest)")),
        (json!({ "note": text(50) }), OK),
        (json!({ "note": text(51) }), ("note", "Owner: length limit [50]")),
        (json!({ "note": "" }), ("note", "Owner: Required parameters")),
        (json!({ "status": "disabled" }), OK),
        (json!({ "status": "asleep" }), ("status", "")),
        (json!({ "audience": "internal" }), OK),
        (json!({ "audience": "external" }), OK),
        (json!({ "audience": "nobody" }), ("audience", "")),
        (json!({ "emails": "a@example.com, b@example.com" }), OK),
        (json!({ "emails": emails(500) }), OK),
        (
            json!({ "emails": format!("{}{}", emails(500), code(500)) }),
            ("emails", "Email account: length limit [500]"),
        ),
        (json!({ "emails": "a@example.com;b@example.com" }), ("emails", "Email account:Email format only")),
        (json!({ "emails": "a@example.com,b" }), ("emails", "Email account:Email format only")),
        (json!({ "remark": text(300) }), OK),
        (json!({ "remark": "two\nlines" }), OK),
        (json!({ "remark": text(301) }), ("remark", "Remark: length limit [300]")),
        (json!({ "allowed_attempts": 1 }), OK),
        (json!({ "allowed_attempts": 0 }), ("allowed_attempts", "at least 1")),
        (json!({ "groups": ["none"] }), ("groups", "Group none does not exist")),
        (json!({ "groups": [group_a], "security_level": "A" }), OK),
        (
            json!({ "groups": [group_a], "security_level": "B" }),
            ("groups", "group top has the security level A, above the client's B"),
        ),
        (json!({ "security_level": "E" }), ("security_level", "")),
        (json!({ "tpss": 1 }), ("tpss", "")),
    ] {
        let answer = admin.post(CLIENTS, acme_with(fields.clone())).await;
        if field.is_empty() {
            assert_eq!(answer.status, 201, "{fields}: {:#}", answer.body);
            world.sql("DELETE FROM client_groups").await;
            world.sql("DELETE FROM client_bindings").await;
            world.sql("DELETE FROM clients").await;
            continue;
        }
        let refused = answer.refuses(field);
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "{fields}: {detail}");
        assert_eq!(admin.get(CLIENTS).await.expect(200)["items"], json!([]), "{fields}");
    }
    for missing in ["name", "display_name", "note", "password", "password_confirmation"] {
        let mut body = acme();
        body.as_object_mut().expect("an object").remove(missing);
        admin.post(CLIENTS, body).await.refuses(missing);
    }
}

/// The bound of the list of addresses, to the character.
#[test]
fn emails_have_500_characters_at_most() {
    let list = |more: usize| {
        format!("{}a@example.com", format!("{}@example.com,", "a".repeat(10)).repeat(20) + &"a".repeat(more))
    };
    let most = list(500 - list(0).len());
    assert_eq!(most.chars().count(), 500);
    assert!(crate::clients::model::parse_emails(&most).is_ok());
    assert!(crate::clients::model::parse_emails(&format!("{most},")).is_err());
}

#[tokio::test]
async fn what_is_left_empty_resets_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let retail = group(&admin, "retail", "SYSTEM").await;
        let full = acme_with(json!({
            "application_number": "A-17", "status": "disabled",
            "bindings": [{ "name": "office", "address": "192.0.2.0/24" }],
            "start_date": "2026-01-01", "expiry_date": "2026-12-31",
            "service_from": "08:30", "service_until": "18:00", "time_zone": "Asia/Taipei",
            "quota": 1000, "quota_period": "month", "lease_horizon_s": 60, "max_lease_percent": 5, "tps": 7, "priority": 1, "audience": "external",
            "security_level": "B", "groups": [retail], "emails": "a@example.com", "remark": "vip",
            "allowed_attempts": 5,
        }));
        let made = admin.post(CLIENTS, full).await.expect(201);
        let path = "/api/v1/clients/acme";
        // Field, what an empty text gets, what null gets.
        for (field, empty, null) in [
            ("name", 422, "stays"),
            ("display_name", 422, "stays"),
            ("application_number", 422, "goes"),
            ("status", 422, "stays"),
            ("bindings", 422, "stays"),
            ("start_date", 422, "pair"),
            ("expiry_date", 422, "pair"),
            ("service_from", 422, "pair"),
            ("service_until", 422, "pair"),
            ("time_zone", 422, "stays"),
            ("quota", 422, "stays"),
            ("quota_period", 422, "stays"),
            ("lease_horizon_s", 422, "goes"),
            ("max_lease_percent", 422, "goes"),
            ("tps", 422, "stays"),
            ("priority", 422, "stays"),
            ("audience", 422, "stays"),
            ("security_level", 422, "stays"),
            ("groups", 422, "stays"),
            ("note", 422, "stays"),
            ("emails", 422, "goes"),
            ("remark", 422, "goes"),
            ("allowed_attempts", 422, "stays"),
        ] {
            let answer = admin.patch(path, json!({ field: "" })).await;
            assert_eq!(answer.status, empty, "{field}");
            answer.refuses(field);
            assert_eq!(admin.get(path).await.expect(200), made, "{field} was empty");
            let answer = admin.patch(path, json!({ field: null })).await;
            match null {
                "stays" => assert_eq!(answer.expect(200), made, "{field} was null"),
                "pair" => drop(answer.problem(422, "invalid_field")),
                _ => {
                    assert_eq!(answer.expect(200)[field], Value::Null, "{field}");
                    world.sql("UPDATE clients SET version = 1, application_number = 'A-17', emails = 'a@example.com', remark = 'vip', lease_horizon_s = 60, max_lease_percent = 5").await;
                }
            }
        }
        // The form's fields and the table's are the same ones.
        let fields = made.as_object().expect("an object").keys().filter(|field| {
            ![
                "id",
                "hosts",
                "created_at",
                "updated_at",
                "version",
                "failed_attempts",
                "password_locked",
                "password_state",
                "password_reset_expires_at",
                "locked_by",
                "quota_usage",
            ]
            .contains(&field.as_str())
        });
        assert_eq!(fields.count(), 23);
        let both =
            json!({ "start_date": null, "expiry_date": null, "service_from": null, "service_until": null });
        let without = admin.patch(path, both).await.expect(200);
        assert_eq!((&without["start_date"], &without["service_until"]), (&Value::Null, &Value::Null));
        // An empty list is a list: it is what was asked for.
        let open = admin.patch(path, json!({ "bindings": [], "groups": [] })).await.expect(200);
        assert_eq!((&open["bindings"], &open["groups"]), (&json!([]), &json!([])));
        // 0 is no limit, and not the default.
        let unlimited = admin.patch(path, json!({ "tps": 0, "quota": 0 })).await.expect(200);
        assert_eq!((&unlimited["tps"], &unlimited["quota_period"]), (&json!(0), &json!("month")));
    }
}

#[tokio::test]
async fn the_id_never_changes_and_an_update_knows_no_password() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    admin.post(CLIENTS, acme()).await.expect(201);
    for field in ["id", "password"] {
        admin.patch("/api/v1/clients/acme", json!({ field: "another" })).await.refuses(field);
    }
}

#[tokio::test]
async fn a_client_without_an_id_gets_its_name_in_base64() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let named = async |name: &str| {
            let body = acme_with(json!({ "id": null, "name": name, "display_name": name }));
            admin.post(CLIENTS, body).await.expect(201)["id"].as_str().expect("an id").to_owned()
        };
        assert_eq!(named("Partner_One").await, "UGFydG5lcl9PbmU=");
        assert_eq!(named(&"a".repeat(30)).await, "YWFh".repeat(10));
        // Longer than an id may be, or taken: one is drawn.
        assert!(named(&"b".repeat(31)).await.starts_with("cl_"));
        admin.post(CLIENTS, acme_with(json!({ "id": "Y29ycA==" }))).await.expect(201);
        assert!(named("corp").await.starts_with("cl_"));
    }
}

#[tokio::test]
async fn the_zone_of_a_client_is_the_installations_unless_it_is_named() {
    for world in World::both_with(|config| config.time_zone = "Asia/Tokyo".into()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let made = admin.post(CLIENTS, acme()).await.expect(201);
        assert_eq!(made["time_zone"], "Asia/Tokyo");
        // It is on record, so that dates may follow without it.
        let dates = json!({ "start_date": "2026-01-01", "expiry_date": "2026-12-31" });
        assert_eq!(admin.patch("/api/v1/clients/acme", dates).await.expect(200)["time_zone"], "Asia/Tokyo");
    }
}

#[tokio::test]
async fn the_view_tells_what_is_used_of_the_quota_in_this_window() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let made = admin.post(CLIENTS, acme()).await.expect(201);
        assert_eq!(made["quota_usage"], Value::Null, "0 is no limit");
        let path = "/api/v1/clients/acme";
        admin.patch(path, json!({ "quota": 10, "time_zone": "UTC" })).await.expect(200);
        world.sql("UPDATE meters SET debited = 4").await;
        let day = 86_400_000;
        let usage = |used: u64, start: i64| {
            json!({
                "limit": 10, "reclaimed": 0, "used": used, "held": 0, "withheld": 0, "remaining": 10 - used, "calls_per_hour": 0, "exhausted_at": null,
                "lease_horizon_s": 30, "max_lease": 1, "window_start": start, "window_end": start + day
            })
        };
        assert_eq!(admin.get(path).await.expect(200)["quota_usage"], usage(4, World::START.0));
        world.advance_ms(day);
        assert_eq!(admin.get(path).await.expect(200)["quota_usage"], usage(0, World::START.0 + day));
    }
}

#[tokio::test]
async fn an_update_is_on_record_with_what_it_changed() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        admin.post(CLIENTS, acme()).await.expect(201);
        let path = "/api/v1/clients/acme";
        admin.patch(path, json!({ "tps": 20, "emails": "a@example.com" })).await.expect(200);
        let same = admin.patch(path, json!({ "tps": 20 })).await.expect(200);
        assert_eq!(same["version"], 2, "what changes nothing leaves no trace");
        let page = admin.get("/api/v1/audit?subject=client:acme").await.expect(200);
        let entries = page["items"].as_array().expect("items");
        assert_eq!(entries.len(), 2);
        assert_eq!(
            entries[0]["detail"]["changed"],
            json!({
                "tps": { "before": 10, "after": 20 },
                "emails": { "before": null, "after": "a@example.com" },
            })
        );
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

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item["id"].as_str().expect("an id").into()).collect()
}

#[tokio::test]
async fn a_keyword_finds_clients_by_their_own_names_and_those_of_their_groups() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let retail = group(&admin, "Retail_EU", "SYSTEM").await;
        for (id, display, number, groups) in [
            ("a1", "100% Früchte", "X-7", json!([])),
            ("b2", "Bread", "X-8", json!([retail])),
            ("c3", "Cake", "Y-9", json!([])),
        ] {
            let body = acme_with(json!({
                "id": id, "name": format!("code_{id}"), "display_name": display,
                "application_number": number, "groups": groups,
            }));
            admin.post(CLIENTS, body).await.expect(201);
        }
        let found = async |query: &str| ids(&admin.get(&format!("{CLIENTS}?{query}")).await.expect(200));
        for (keyword, who) in [
            ("B2", vec!["b2"]),
            ("CODE_", vec!["a1", "b2", "c3"]),
            ("fr%C3%9CCHTE", vec!["a1"]),
            ("BREAD", vec!["b2"]),
            ("100%25", vec!["a1"]),
            ("%25", vec!["a1"]),
            ("x-", vec!["a1", "b2"]),
            ("RETAIL_e", vec!["b2"]),
            ("retail-", vec![]),
            ("", vec!["a1", "b2", "c3"]),
        ] {
            assert_eq!(found(&format!("keyword={keyword}")).await, who, "{keyword}");
        }
        admin.patch(&format!("/api/v1/groups/{retail}"), json!({ "name": "Wholesale" })).await.expect(200);
        assert_eq!(found("keyword=retail").await, Vec::<String>::new());
        assert_eq!(found("keyword=WHOLESALE").await, ["b2"], "a renamed group is found by its new name");
        admin
            .patch("/api/v1/clients/c3", json!({ "status": "locked", "display_name": "Pie" }))
            .await
            .expect(200);
        assert_eq!(found("keyword=cake").await, Vec::<String>::new());
        assert_eq!(found("keyword=x&status=locked").await, Vec::<String>::new());
        assert_eq!(found("keyword=pie&status=locked").await, ["c3"]);
    }
}

#[tokio::test]
async fn default_status_filter_is_all() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (id, status) in [("a1", "active"), ("b2", "disabled"), ("c3", "locked")] {
            let body = acme_with(json!({ "id": id, "name": id, "display_name": id, "status": status }));
            admin.post(CLIENTS, body).await.expect(201);
        }
        for (query, who) in [
            ("", vec!["a1", "b2", "c3"]),
            ("?status=active", vec!["a1"]),
            ("?status=disabled", vec!["b2"]),
            ("?status=locked", vec!["c3"]),
        ] {
            assert_eq!(ids(&admin.get(&format!("{CLIENTS}{query}")).await.expect(200)), who, "{query}");
        }
        admin.get(&format!("{CLIENTS}?status=asleep")).await.problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn pages_neither_repeat_nor_miss_a_client_when_others_come_meanwhile() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let make = async |id: &str| {
            let body = acme_with(json!({ "id": id, "name": id, "display_name": id }));
            admin.post(CLIENTS, body).await.expect(201);
        };
        for id in ["b1", "b3", "b5"] {
            make(id).await;
        }
        let first = admin.get(&format!("{CLIENTS}?limit=2")).await.expect(200);
        assert_eq!(ids(&first), ["b1", "b3"]);
        make("b0").await; // before the page
        make("b2").await; // within it
        make("b4").await; // after it
        let next = first["next"].as_str().expect("more");
        let second = admin.get(&format!("{CLIENTS}?limit=2&cursor={next}")).await.expect(200);
        assert_eq!((ids(&second), &second["next"]), (vec!["b4".into(), "b5".into()], &Value::Null));
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
