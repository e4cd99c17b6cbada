//! Reports of gateways, taken and found again, on both databases.

use serde_json::{Value, json};

use super::model::{self, KEPT_PER_HOUR, KEPT_PER_HOUR_IN_ALL, USUAL_MS};
use crate::gateways;
use crate::testing::{Caller, World};

const REPORT: &str = "/gateway/v1/decisions";
const HOLDER: &str = "0123456789abcdef0123456789abcdef";
const BOOT: u64 = 0x1234;

async fn gateway(world: &World, name: &str) -> Caller {
    let issued = gateways::add(&world.app, name, "test").await.expect("a gateway");
    world.bearer(issued.token.reveal())
}

/// A refusal as a gate reports it.
fn decision(number: u64, code: &str, client: Option<&str>) -> Value {
    json!({
        "id": format!("{BOOT:016x}-{number}"), "at": 1_700_000_000_000_i64, "code": code,
        "detail": "All 5 calls of this API key are used.",
        "method": "GET", "host": "api.example.com", "path": "/orders/7",
        "api": "api_1", "kind": "dgrk", "client": client, "credential": client.map(|_| "key_1"),
        "address": "192.0.2.7", "origin": "external", "directory": 3, "feed": 9,
        "polled_ms_ago": 40, "grant_held_ms": 1_500,
        "room": { "priority": 5, "in_flight": 2, "capacity": 1_000 },
        "rate": { "tps": 10, "admitted": 4 },
        "meters": [{
            "meter": 12, "kind": "key_uses", "limit": 5, "held": 0, "ledger_left": 0,
            "leases": [{ "lease": 3, "generation": 1, "units": 2, "left": 0 }], "word": "exhausted",
        }],
    })
}

fn report(seq: u64, decisions: Vec<Value>, not_kept: Value) -> Value {
    json!({
        "version": 1, "holder": HOLDER, "boot": BOOT, "seq": seq,
        "decisions": decisions, "not_kept": not_kept,
    })
}

#[tokio::test]
async fn a_reported_refusal_is_shown_by_its_id_with_all_that_led_to_it() {
    for world in World::both().await {
        let edge = gateway(&world, "edge").await;
        let ann = world.operator("ann", &["auditor"]).await;
        let told = report(1, vec![decision(1, "quota_exhausted", Some("acme"))], json!([]));
        assert_eq!(edge.post(REPORT, told).await.expect(200), json!({ "version": 1, "seq": 1 }));

        let shown = ann.get("/api/v1/decisions/0000000000001234-1").await.expect(200);
        for (field, value) in [
            ("code", json!("quota_exhausted")),
            ("client", json!("acme")),
            ("credential", json!("key_1")),
            ("address", json!("192.0.2.7")),
            ("origin", json!("external")),
            ("path", json!("/orders/7")),
            ("directory", json!(3)),
            ("feed", json!(9)),
            ("grant_held_ms", json!(1_500)),
            ("waited_ms", Value::Null),
            ("rate", json!({ "tps": 10, "admitted": 4 })),
            ("received_at", json!(world.app.now().0)),
        ] {
            assert_eq!(shown[field], value, "{field}");
        }
        let meter = &shown["meters"][0];
        assert_eq!((&meter["held"], &meter["word"]), (&json!(0), &json!("exhausted")));
        assert_eq!(meter["leases"][0], json!({ "lease": 3, "generation": 1, "units": 2, "left": 0 }));
    }
}

#[tokio::test]
async fn a_report_that_is_repeated_counts_once() {
    for world in World::both().await {
        let edge = gateway(&world, "edge").await;
        let ann = world.operator("ann", &["auditor"]).await;
        let flood = json!([{ "code": "credential_unknown", "count": 70 }]);
        let first = report(1, vec![decision(1, "stale", None)], flood);
        for _ in 0..2 {
            edge.post(REPORT, first.clone()).await.expect(200);
        }
        edge.post(REPORT, report(2, vec![decision(2, "stale", None)], json!([]))).await.expect(200);
        edge.post(REPORT, first).await.expect(200);
        let listed = ann.get("/api/v1/decisions").await.expect(200);
        let ids: Vec<&Value> =
            listed["items"].as_array().expect("items").iter().map(|item| &item["id"]).collect();
        assert_eq!(ids, ["0000000000001234-2", "0000000000001234-1"], "newest first");
        assert_eq!(listed["not_kept"], json!([{ "code": "credential_unknown", "count": 70 }]));
    }
}

#[tokio::test]
async fn the_list_is_narrowed_and_paged() {
    for world in World::both().await {
        let edge = gateway(&world, "edge").await;
        let ann = world.operator("ann", &["auditor"]).await;
        for (number, code, client) in
            [(1, "stale", None), (2, "quota_exhausted", Some("acme")), (3, "quota_exhausted", Some("bolt"))]
        {
            edge.post(REPORT, report(number, vec![decision(number, code, client)], json!([])))
                .await
                .expect(200);
            world.advance_ms(1_000);
        }
        let now = world.app.now().0;
        for (query, expected) in [
            ("code=quota_exhausted".into(), vec![3, 2]),
            ("client=acme".into(), vec![2]),
            ("credential=key_1&address=192.0.2.7&api=api_1".into(), vec![3, 2]),
            ("address=192.0.2.8".into(), vec![]),
            (format!("from={}", now - 2_000), vec![3, 2]),
            (format!("until={}", now - 2_000), vec![1]),
        ] {
            let listed = ann.get(&format!("/api/v1/decisions?{query}")).await.expect(200);
            let expected: Vec<Value> =
                expected.iter().map(|number| json!(format!("{BOOT:016x}-{number}"))).collect();
            let found: Vec<Value> =
                listed["items"].as_array().expect("items").iter().map(|i| i["id"].clone()).collect();
            assert_eq!(found, expected, "{query}");
        }
        let mut seen = 0;
        let mut next = String::new();
        loop {
            let page = ann.get(&format!("/api/v1/decisions?limit=1{next}")).await.expect(200);
            seen += page["items"].as_array().expect("items").len();
            match page["next"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen, 3);
        ann.get("/api/v1/decisions?cursor=bm9uc2Vuc2U").await.problem(400, "invalid_query");
        for (field, query) in [("code", "code=late"), ("address", "address=here"), ("from", "from=2&until=2")]
        {
            let problem = ann.get(&format!("/api/v1/decisions?{query}")).await.problem(400, "invalid_query");
            assert_eq!(problem["field"], field, "{query}");
        }
    }
}

#[tokio::test]
async fn an_id_that_leads_to_nothing_is_answered_with_the_reason_and_what_to_do() {
    for world in World::both().await {
        let edge = gateway(&world, "edge").await;
        let ann = world.operator("ann", &["auditor"]).await;
        let detail = async |id: &str| {
            let problem = ann.get(&format!("/api/v1/decisions/{id}")).await.problem(404, "not_found");
            problem["detail"].as_str().expect("a detail").to_owned()
        };
        for id in ["nonsense", "12-1", "000000000000123G-1", "0000000000001234-", "0000000000001234-x"] {
            assert!(detail(id).await.contains("is no id of a decision"), "{id}");
        }
        let unheard = detail("0000000000001234-1").await;
        assert!(unheard.contains("has reported nothing") && unheard.contains("access log"), "{unheard}");
        let flood = json!([{ "code": "stale", "count": 7 }]);
        edge.post(REPORT, report(1, vec![decision(1, "stale", None)], flood)).await.expect(200);
        let dropped = detail("0000000000001234-2").await;
        assert!(dropped.contains("7 were counted and not kept"), "{dropped}");
    }
}

#[tokio::test]
async fn a_flood_of_one_client_fills_its_own_place_alone() {
    for world in World::both().await {
        let edge = gateway(&world, "edge").await;
        let ann = world.operator("ann", &["auditor"]).await;
        let (mut seq, mut number) = (0, 0);
        let mut tell = async |client: &'static str, count: u64| {
            let mut left = count;
            while left > 0 {
                let part = left.min(100);
                let decisions = (number + 1..=number + part)
                    .map(|n| decision(n, "rate_exceeded", Some(client)))
                    .collect();
                (seq, number, left) = (seq + 1, number + part, left - part);
                edge.post(REPORT, report(seq, decisions, json!([]))).await.expect(200);
            }
        };
        tell("acme", KEPT_PER_HOUR as u64 + 150).await;
        tell("bolt", 3).await;
        let listed = ann.get("/api/v1/decisions?client=bolt").await.expect(200);
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
        assert_eq!(listed["not_kept"], json!([{ "code": "rate_exceeded", "count": 150 }]));
        // And the next hour has room again.
        world.advance_ms(3_600_000);
        tell("acme", 1).await;
        let listed = ann.get(&format!("/api/v1/decisions?from={}", world.app.now().0)).await.expect(200);
        assert_eq!((listed["items"].as_array().map(Vec::len), &listed["not_kept"]), (Some(1), &json!([])));
    }
}

#[tokio::test]
async fn all_clients_together_fill_a_bounded_place() {
    for world in World::both().await {
        let edge = gateway(&world, "edge").await;
        let ann = world.operator("ann", &["auditor"]).await;
        edge.post(REPORT, report(1, vec![decision(1, "stale", Some("acme"))], json!([]))).await.expect(200);
        // As if many others had been refused in that hour too.
        let filled =
            format!("UPDATE decision_hours SET kept = {} WHERE client = ''", KEPT_PER_HOUR_IN_ALL - 2);
        assert_eq!(world.sql(&filled).await, 1);
        let told =
            (2..5).map(|n| decision(n, "stale", Some(["bolt", "core", "dune"][n as usize - 2]))).collect();
        edge.post(REPORT, report(2, told, json!([]))).await.expect(200);
        let listed = ann.get("/api/v1/decisions").await.expect(200);
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
        assert_eq!(listed["not_kept"], json!([{ "code": "stale", "count": 1 }]));
        world.advance_ms(3_600_000);
        edge.post(REPORT, report(3, vec![decision(5, "stale", None)], json!([]))).await.expect(200);
        let listed = ann.get("/api/v1/decisions").await.expect(200);
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(4), "the next hour has room again");
    }
}

#[tokio::test]
async fn a_list_without_a_beginning_is_of_a_day() {
    for world in World::both().await {
        let edge = gateway(&world, "edge").await;
        let ann = world.operator("ann", &["auditor"]).await;
        edge.post(REPORT, report(1, vec![decision(1, "stale", None)], json!([]))).await.expect(200);
        let received_at = world.app.now().0;
        let listed = async |query: &str| {
            let listed = ann.get(&format!("/api/v1/decisions{query}")).await.expect(200);
            listed["items"].as_array().map(Vec::len)
        };
        world.advance_ms(USUAL_MS);
        assert_eq!(listed("").await, Some(1));
        world.advance_ms(1);
        assert_eq!(listed("").await, Some(0));
        assert_eq!(listed("?from=0").await, Some(1));
        assert_eq!(listed(&format!("?until={}", received_at + 1)).await, Some(1));
    }
}

#[tokio::test]
async fn decisions_are_forgotten_when_their_days_are_over() {
    for world in World::both_with(|config| config.decision_retention_days = 2).await {
        let edge = gateway(&world, "edge").await;
        let ann = world.operator("ann", &["auditor"]).await;
        world.run_due().await;
        let flood = json!([{ "code": "stale", "count": 7 }]);
        edge.post(REPORT, report(1, vec![decision(1, "stale", None)], flood)).await.expect(200);
        for (days, kept) in [(1, true), (3, false)] {
            world.advance_ms(days * 86_400_000);
            world.run_due().await;
            let status = ann.get("/api/v1/decisions/0000000000001234-1").await.status;
            assert_eq!(status, if kept { 200 } else { 404 }, "after {days} more days");
        }
        assert_eq!(ann.get("/api/v1/decisions").await.expect(200)["not_kept"], json!([]));
    }
}

#[tokio::test]
async fn a_report_that_is_none_is_refused_whole() {
    for world in World::both().await {
        let edge = gateway(&world, "edge").await;
        let other = gateway(&world, "other").await;
        let with = |field: &str, value: Value| {
            let mut wrong = decision(1, "stale", None);
            wrong[field] = value;
            report(1, vec![wrong], json!([]))
        };
        for (field, body) in [
            ("decisions[0].id", with("id", json!("0000000000009999-1"))),
            ("decisions[0]", with("path", json!("/with a blank"))),
            ("decisions[0]", with("host", json!("h".repeat(600)))),
            ("decisions[0]", with("code", json!("No Code"))),
            ("seq", report(0, vec![], json!([]))),
            ("not_kept.count", report(1, vec![], json!([{ "code": "stale", "count": 0 }]))),
        ] {
            let problem = edge.post(REPORT, body).await.problem(400, "invalid_report");
            assert_eq!(problem["field"], field);
        }
        world.anon().post(REPORT, report(1, vec![], json!([]))).await.problem(401, "unauthenticated");
        // A holder is the gateway's that named it first.
        let seen = json!({
            "version": 1, "holder": HOLDER, "slot": 0, "filter_version": "0.1.0", "directory": 0, "feed": 0,
        });
        edge.post("/gateway/v1/exchange", seen).await.expect(200);
        other.post(REPORT, report(1, vec![], json!([]))).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn only_those_who_may_see_decisions() {
    let world = World::sqlite().await;
    let applicant = world.operator("bob", &["applicant"]).await;
    for path in ["/api/v1/decisions", "/api/v1/decisions/0000000000001234-1"] {
        applicant.get(path).await.problem(403, "forbidden");
    }
    applicant
        .post("/api/v1/explain", json!({ "method": "GET", "path": "/" }))
        .await
        .problem(403, "forbidden");
}

#[test]
fn the_first_half_of_an_id_is_the_life_of_its_worker() {
    for (id, boot) in [
        ("0000000000001234-1", Some(0x1234)),
        ("ffffffffffffffff-18446744073709551615", Some(u64::MAX)),
        ("0000000000001234-", None),
        ("0000000000001234-000000000000000000000", None),
        ("+000000000001234-1", None),
        ("00000000000012345-1", None),
        ("-1", None),
        ("", None),
    ] {
        assert_eq!(model::boot_of(id), boot, "{id}");
    }
}
