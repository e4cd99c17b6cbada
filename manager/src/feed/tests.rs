//! The gateway API through the router, as a filter calls it.

mod owners;

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use gate::id::{ApiUid, ClientId, GroupId, Revision};
use gate::time::{Interval, UnixMillis};
use gate::wire::changes::{ChangesAnswer, Subject};
use gate::wire::directory::{Audience, DirectoryAnswer};
use gate::wire::exchange::{
    ClientStatus, ExchangeAnswer, Grant, MeterKind, Permission, Presented, Proof, RenewalOutcome, Resolved,
};
use serde_json::{Value, json};

use crate::quotas::{self, Limit};
use crate::testing::{Caller, World};
use crate::{changes, clients, gateways, keys};

const EXCHANGE: &str = "/gateway/v1/exchange";
const HOLDER: &str = "0123456789abcdef0123456789abcdef";

async fn gateway(world: &World, name: &str) -> Caller {
    let issued = gateways::add(&world.app, name, "test").await.expect("a gateway");
    world.bearer(issued.token.reveal())
}

fn request(more: Value) -> Value {
    let mut request = json!({
        "version": 1, "holder": HOLDER, "slot": 0, "filter_version": "0.1.0", "directory": 0, "feed": 0,
    });
    for (name, value) in more.as_object().expect("an object") {
        request[name] = value.clone();
    }
    request
}

async fn exchange(caller: &Caller, more: Value) -> ExchangeAnswer {
    let answer = caller.post(EXCHANGE, request(more)).await;
    assert_eq!(answer.header("x-keygate-manager"), Some("1"));
    serde_json::from_value(answer.expect(200)).expect("an exchange's answer")
}

async fn poll(caller: &Caller, query: &str) -> ChangesAnswer {
    let answer = caller.get(&format!("/gateway/v1/changes?{query}")).await;
    serde_json::from_value(answer.expect(200)).expect("a poll's answer")
}

async fn directory(caller: &Caller, query: &str) -> DirectoryAnswer {
    let answer = caller.get(&format!("/gateway/v1/directory?{query}")).await;
    serde_json::from_value(answer.expect(200)).expect("a directory")
}

async fn record(world: &World, subject: &Subject) -> Revision {
    let mut write = world.app.db.write("test.record").await.expect("a transaction");
    let revision = changes::record(&mut write, subject, world.app.now()).await.expect("recorded");
    write.commit().await.expect("committed");
    revision
}

async fn meter(world: &World, owner: &str, units: u64) -> u64 {
    let mut write = world.app.db.write("test.meter").await.expect("a transaction");
    let limit = Limit::total(units);
    let id = quotas::set_limit(&mut write, MeterKind::KeyUses, owner, limit, world.app.now()).await;
    write.commit().await.expect("committed");
    id.expect("a meter").0
}

fn renewal(meter: u64, rec: u64, seq: u64, want: u32) -> Value {
    json!({"meter": meter, "rec": rec, "seq": seq, "want": want})
}

#[tokio::test]
async fn a_poll_brings_what_changed_and_ends_soon_after_a_commit() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let begun = poll(&caller, "since=0&wait_ms=0").await;
        assert!(begun.epoch.0 > 0 && !begun.reset, "{begun:?}");
        let (epoch, since) = (begun.epoch.0, begun.revision.0);
        let idle = poll(&caller, &format!("epoch={epoch}&since={since}&wait_ms=20")).await;
        assert_eq!((idle.changes, idle.revision.0), (vec![], since));

        let waiting = tokio::spawn({
            let caller = caller.clone();
            async move { poll(&caller, &format!("epoch={epoch}&since={since}&wait_ms=20000")).await }
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        let subject = Subject::Client { client: ClientId::from("acme") };
        let revision = record(&world, &subject).await;
        let woken = tokio::time::timeout(Duration::from_secs(1), waiting).await;
        let woken = woken.expect("within a second").expect("no panic");
        assert_eq!(woken.revision, revision);
        assert_eq!(woken.changes.iter().map(|change| &change.subject).collect::<Vec<_>>(), [&subject]);
    }
}

#[tokio::test]
async fn whoever_knows_another_life_of_the_database_begins_anew() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let begun = poll(&caller, "since=0&wait_ms=0").await;
        let (epoch, revision) = (begun.epoch.0, begun.revision.0);
        for query in [
            format!("epoch={}&since={revision}&wait_ms=20000", epoch ^ 1),
            format!("epoch={epoch}&since={}&wait_ms=20000", revision + 1),
        ] {
            let answer = poll(&caller, &query).await;
            assert!(answer.reset && answer.changes.is_empty(), "{query}");
            assert_eq!((answer.epoch.0, answer.revision.0), (epoch, revision), "{query}");
        }
    }
}

#[tokio::test]
async fn the_directory_travels_whole_then_as_what_changed_then_not_at_all() {
    for world in World::both_with(|config| config.max_staleness_s = 7).await {
        let caller = gateway(&world, "edge").await;
        let admin = world.operator("ann", &["admin"]).await;
        let api = |id: &str| json!({"module": "orders", "id": id, "name": id, "path": {"exact": format!("/{id}")}, "accepts": ["dgrk"]});
        let first = admin.post("/api/v1/apis", api("one")).await.expect(201);
        let whole = directory(&caller, "").await;
        assert_eq!((whole.since, whole.apis.len(), whole.settings.max_staleness_s), (None, 1, 7));

        let known = format!("epoch={}&revision={}", whole.epoch.0, whole.revision.0);
        let same = caller.get(&format!("/gateway/v1/directory?{known}")).await;
        assert_eq!((same.status, same.header("x-keygate-manager")), (304, Some("1")));
        // Changes of other things do not make it travel.
        record(&world, &Subject::Client { client: ClientId::from("acme") }).await;
        assert_eq!(caller.get(&format!("/gateway/v1/directory?{known}")).await.status, 304);

        admin.post("/api/v1/apis", api("two")).await.expect(201);
        let delta = directory(&caller, &known).await;
        assert_eq!(delta.since, Some(whole.revision));
        assert_eq!(delta.apis.iter().map(|api| api.id.as_str()).collect::<Vec<_>>(), ["two"]);
        let uid = first["uid"].as_str().expect("a uid");
        admin.delete(&format!("/api/v1/apis/{uid}")).await.expect(204);
        let delta = directory(&caller, &known).await;
        assert_eq!(delta.removed.iter().map(|uid| uid.as_str()).collect::<Vec<_>>(), [uid]);

        let other_life = format!("epoch={}&revision={}", whole.epoch.0 ^ 1, whole.revision.0);
        assert_eq!(directory(&caller, &other_life).await.since, None);
    }
}

#[tokio::test]
async fn other_settings_are_announced_when_a_manager_starts_with_them() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let before = directory(&caller, "").await;
        let mut restarted = world.app.clone();
        restarted.feed = super::Shared::default();
        let mut config = (*restarted.config).clone();
        config.quota_wait_ms = 77;
        restarted.config = std::sync::Arc::new(config);
        let known = (Some(before.epoch), Some(before.revision));
        let answer = super::actions::directory(&restarted, known.0, known.1).await.expect("an answer");
        let super::actions::Directory::Answer(answer) = answer else { panic!("new settings travel") };
        assert_eq!(answer.settings.quota_wait_ms, 77);
        assert!(answer.revision > before.revision);
        let seen = poll(&caller, &format!("since={}&wait_ms=0", before.revision.0)).await;
        assert_eq!(seen.changes.last().map(|change| &change.subject), Some(&Subject::Directory));
    }
}

#[tokio::test]
async fn leases_are_granted_repeated_returned_and_recalled() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let meter = meter(&world, "key_1", 1_000).await;
        let first = exchange(&caller, json!({"renew": [renewal(meter, 9, 1, 50)]})).await;
        let RenewalOutcome::Granted { lease, units: 10, remaining: 990, .. } = first.renewed[0].outcome
        else {
            panic!("{first:?}");
        };
        let again = exchange(&caller, json!({"renew": [renewal(meter, 9, 1, 50)]})).await;
        assert_eq!(again.renewed, first.renewed, "a repeat is the same lease");

        let mut back = renewal(meter, 9, 2, 0);
        back["closed_lease"] = json!(lease);
        back["unspent"] = json!(4);
        back["epoch"] = json!(first.epoch);
        let closed = exchange(&caller, json!({"renew": [back.clone()]})).await;
        assert_eq!(closed.renewed[0].outcome, RenewalOutcome::Closed);
        assert_eq!(exchange(&caller, json!({"renew": [back]})).await.renewed, closed.renewed);
        let mut write = world.app.db.read().await.expect("a connection");
        let stored =
            quotas::meter_of(&mut write, MeterKind::KeyUses, "key_1").await.expect("read").expect("there");
        assert_eq!(stored.debited, 6, "credited once");
        drop(write);

        let gone = exchange(&caller, json!({"renew": [renewal(999, 9, 1, 1)]})).await;
        assert_eq!(gone.renewed[0].outcome, RenewalOutcome::Gone);
    }
}

#[tokio::test]
async fn metrics_tell_of_exchanges_leases_and_how_far_gateways_are_behind() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let meter = meter(&world, "key_1", 1_000).await;
        let nobody = json!({"kind": "x_api_key", "sha256": "0".repeat(64)});
        exchange(
            &caller,
            json!({"renew": [renewal(meter, 9, 1, 50)], "resolve": [nobody], "leases_held": 1}),
        )
        .await;
        let row = json!({"result": "api_not_found", "count": 4});
        for _ in 0..2 {
            exchange(&caller, json!({"usage": {"boot": 1, "seq": 1, "rows": [row]}})).await;
        }
        let head = record(&world, &Subject::Directory).await;
        let metrics =
            async || world.anon().get("/metrics").await.expect(200).as_str().expect("text").to_owned();
        let lag = format!("keygate_gateway_feed_lag{{gateway=\"edge\"}} {}", head.0);
        let revision = format!("keygate_feed_revision {}", head.0);
        let told = metrics().await;
        for line in [
            "keygate_lease_answers_total{answer=\"granted\"} 1",
            "keygate_resolves_total{answer=\"unknown\"} 1",
            "keygate_usage_rows_total 1",
            "keygate_usage_reports_repeated_total 1",
            "keygate_exchange_seconds_count 3",
            "keygate_leased_units 10",
            "keygate_withheld_units 0",
            &lag,
            &revision,
        ] {
            assert!(told.lines().any(|told| told == line), "{line} in {told}");
        }
        // Read at most once in ten seconds, however often they are asked for.
        record(&world, &Subject::Directory).await;
        let newer = format!("keygate_feed_revision {}", head.0 + 1);
        world.advance_ms(9_999);
        assert!(metrics().await.contains(&revision));
        world.advance_ms(1);
        assert!(metrics().await.contains(&newer));
        world.advance_ms(590_000);
        let later = metrics().await;
        assert!(later.contains("keygate_withheld_units 10\n") && !later.contains("edge"), "{later}");
    }
}

#[tokio::test]
async fn a_waiting_renewal_recalls_from_others_at_most_twice_a_second() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let meter = meter(&world, "key_1", 1).await;
        exchange(&caller, json!({"renew": [renewal(meter, 1, 1, 1)]})).await;
        let since = poll(&caller, "since=0&wait_ms=0").await.revision;
        let other = "ffffffffffffffffffffffffffffffff";
        for (seq, after_ms) in [(1, 0), (2, 100), (3, 399), (4, 1)] {
            world.advance_ms(after_ms);
            let mut waiting = renewal(meter, 2, seq, 1);
            waiting["waiting"] = json!(true);
            let answer = exchange(&caller, json!({"holder": other, "renew": [waiting]})).await;
            let outcome = answer.renewed[0].outcome;
            assert!(matches!(outcome, RenewalOutcome::Pending { .. }), "{outcome:?}");
        }
        let seen = poll(&caller, &format!("since={}&wait_ms=0", since.0)).await;
        let recall = Subject::Recall { meter: gate::id::MeterId(meter), lowered: false };
        let subjects: Vec<_> = seen.changes.into_iter().map(|change| change.subject).collect();
        assert_eq!(subjects, [recall.clone(), recall], "at 0 and at 500 ms");
    }
}

#[tokio::test]
async fn exchanges_that_wait_together_are_answered_apart() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let meter = meter(&world, "key_1", 100_000).await;
        let calls: Vec<_> = (1..=40)
            .map(|rec| {
                let caller = caller.clone();
                tokio::spawn(async move {
                    let answer = exchange(&caller, json!({"renew": [renewal(meter, rec, 1, 3)]})).await;
                    (rec, answer)
                })
            })
            .collect();
        let mut leases = std::collections::BTreeSet::new();
        for call in calls {
            let (rec, answer) = call.await.expect("answered");
            assert_eq!((answer.renewed.len(), answer.renewed[0].rec.0), (1, rec));
            let RenewalOutcome::Granted { lease, units: 3, .. } = answer.renewed[0].outcome else {
                panic!("{answer:?}");
            };
            leases.insert(lease);
        }
        assert_eq!(leases.len(), 40, "each its own lease");
        let mut read = world.app.db.read().await.expect("a connection");
        let stored =
            quotas::meter_of(&mut read, MeterKind::KeyUses, "key_1").await.expect("read").expect("there");
        assert_eq!(stored.debited, 120);
    }
}

#[tokio::test]
async fn an_exchange_that_cannot_be_written_spoils_none_of_its_company() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let held = meter(&world, "held", 100).await;
        let (good, bad) = (meter(&world, "good", 100).await, meter(&world, "bad", 100).await);
        world.sql("UPDATE meters SET zone = 'nowhere' WHERE owner = 'bad'").await;
        exchange(&caller, json!({})).await;

        // While one commit waits for this lock, the two others gather behind it.
        let mut lock = world.app.db.write("test.lock").await.expect("a transaction");
        let (limit, now) = (Limit::total(100), world.app.now());
        quotas::set_limit(&mut lock, MeterKind::KeyUses, "held", limit, now).await.expect("locked");
        let calls: Vec<_> = [held, bad, good]
            .map(|meter| {
                let caller = caller.clone();
                tokio::spawn(async move {
                    caller.post(EXCHANGE, request(json!({"renew": [renewal(meter, 1, 1, 1)]}))).await
                })
            })
            .into_iter()
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        lock.commit().await.expect("released");
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("answered"));
        }
        let [held, bad, good] = answers.try_into().expect("three");
        for answer in [held, good] {
            assert_eq!(answer.expect(200)["renewed"][0]["outcome"]["granted"]["units"], 1);
        }
        bad.problem(500, "internal");
    }
}

#[tokio::test]
async fn a_usage_report_counts_once() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let admin = world.operator("ann", &["admin"]).await;
        let row = |result: &str, count: u64| json!({"credential": "key_1", "api": "api_1", "result": result, "count": count});
        let report = |boot: u64, seq: u64, rows: Vec<Value>| json!({"usage": {"boot": boot, "seq": seq, "rows": rows}});
        let rows = vec![row("admitted", 5), row("admitted", 2), row("key_expired", 1)];
        for _ in 0..2 {
            let answer = exchange(&caller, report(1, 1, rows.clone())).await;
            assert_eq!(answer.usage_seq, Some(1));
        }
        exchange(&caller, report(1, 2, vec![row("admitted", 10)])).await;
        // A reused slot counts from 1 again.
        exchange(&caller, report(2, 1, vec![row("admitted", 100)])).await;
        exchange(
            &caller,
            json!({"usage": {"boot": 3, "seq": 1, "rows": [{"result": "api_not_found", "count": 4}]}}),
        )
        .await;
        let rows = admin.get("/api/v1/usage?group_by=credential,api,result").await.expect(200);
        let of = |index: usize| {
            let row = &rows["items"][index];
            (row["credential"].clone(), row["result"].clone(), row["calls"].clone())
        };
        let expected = [
            (Value::Null, "api_not_found", 4),
            (json!("key_1"), "admitted", 117),
            (json!("key_1"), "key_expired", 1),
        ];
        assert_eq!([of(0), of(1), of(2)], expected.map(|(key, result, n)| (key, json!(result), json!(n))));
    }
}

#[tokio::test]
async fn bad_exchanges_are_refused_by_field_and_leave_nothing() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let meter = meter(&world, "key_1", 100).await;
        let good = renewal(meter, 1, 1, 1);
        let with = |field: &str, value: Value| {
            let mut renewal = good.clone();
            renewal[field] = value;
            json!({"renew": [good.clone(), renewal]})
        };
        let usage =
            |row: Value| json!({"renew": [good.clone()], "usage": {"boot": 1, "seq": 1, "rows": [row]}});
        let beyond = 1_u64 << 63;
        for (more, field) in [
            (json!({"version": 2}), "version"),
            (json!({"holder": "short"}), "holder"),
            (json!({"slot": -1}), "slot"),
            (json!({"surprise": 1}), "surprise"),
            (json!({"filter_version": "x".repeat(65)}), "filter_version"),
            (json!({"feed": beyond}), "feed"),
            (json!({"renew": vec![good.clone(); 1_025]}), "renew"),
            (json!({"resolve": vec![json!({"kind": "bearer", "sha256": "x"}); 257]}), "resolve"),
            (with("rec", json!(beyond)), "renew[1].rec"),
            (with("seq", json!(0)), "renew[1].seq"),
            (with("closed_lease", json!(beyond)), "renew[1].closed_lease"),
            (with("want", json!("many")), "renew[1].want"),
            (usage(json!({"result": "Admitted!", "count": 1})), "usage.rows[0].result"),
            (usage(json!({"result": "admitted", "count": 0})), "usage.rows[0].count"),
            (
                usage(json!({"credential": "a\u{0}b", "result": "admitted", "count": 1})),
                "usage.rows[0].credential",
            ),
            (usage(json!({"client": "", "result": "admitted", "count": 1})), "usage.rows[0].client"),
            (usage(json!({"result": "answered_2xx", "count": 1})), "usage.rows[0].latency"),
            (
                usage(json!({"result": "admitted", "count": 1, "latency": [[0, 1, 1]]})),
                "usage.rows[0].latency",
            ),
            (
                usage(json!({"result": "answered_2xx", "count": 1, "latency": [[16, 1, 1]]})),
                "usage.rows[0].latency",
            ),
            (json!({"usage": {"boot": 1, "seq": 0, "rows": []}}), "usage.seq"),
        ] {
            let answer = caller.post(EXCHANGE, request(more)).await;
            assert_eq!(answer.header("x-keygate-manager"), Some("1"));
            answer.refuses(field);
        }
        let huge = format!("{{\"version\": 1, \"x\": \"{}\"}}", "x".repeat(3 << 20));
        let json_type = [("content-type", "application/json")];
        caller.raw(Method::POST, EXCHANGE, &json_type, Body::from(huge)).await.problem(413, "body_too_large");
        caller.raw(Method::POST, EXCHANGE, &json_type, Body::from("{")).await.problem(400, "malformed_json");
        for (query, field) in [
            ("wait_ms=1", "since"),
            ("since=-1", "since"),
            ("since=9223372036854775808", "since"),
            ("since=0&wait_ms=30001", "wait_ms"),
            ("since=0&holder=x", "holder"),
            ("since=0&sinse=1", "sinse"),
        ] {
            caller.get(&format!("/gateway/v1/changes?{query}")).await.refuses(field);
        }
        let mut read = world.app.db.read().await.expect("a connection");
        let stored =
            quotas::meter_of(&mut read, MeterKind::KeyUses, "key_1").await.expect("read").expect("there");
        assert_eq!(stored.debited, 0, "nothing half-written");
    }
}

#[tokio::test]
async fn a_credential_that_nobody_can_have_is_unknown_and_spoils_nothing() {
    for world in World::both().await {
        let caller = gateway(&world, "edge").await;
        let presented = json!([
            {"kind": "dgrk", "api_key": "a\u{0}b"},
            {"kind": "dgrk", "api_key": "QUFB"},
            {"kind": "x_api_key", "sha256": "xyz"},
            {"kind": "x_api_key", "sha256": "0".repeat(64)},
            {"kind": "bearer", "sha256": "0".repeat(64)},
            {"kind": "basic", "client": "nobody", "password": "x"},
            {"kind": "basic", "client": "a\u{0}b", "password": "x".repeat(1_000)},
        ]);
        let answer = exchange(&caller, json!({"resolve": presented})).await;
        assert!(answer.resolved.iter().all(|one| *one == Resolved::Unknown), "{answer:?}");
        assert_eq!(answer.resolved.len(), 7);
    }
}

const API_KEY: &str = "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==";
const SECRET: &str =
    "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==";
const CLIENT: &str = "/api/v1/clients/acme";

/// A group, a client that has it, an API in it.
struct Shop {
    admin: Caller,
    caller: Caller,
    group: String,
    other_group: String,
    api: String,
}

impl Shop {
    async fn open(world: &World) -> Self {
        let admin = world.operator("ann", &["admin"]).await;
        let api = json!({
            "module": "shop", "id": "orders", "name": "orders", "path": {"exact": "/orders"},
            "accepts": ["dgrk", "x_api_key", "basic"],
        });
        let api =
            admin.post("/api/v1/apis", api).await.expect(201)["uid"].as_str().expect("a uid").to_owned();
        let mut groups = Vec::new();
        for name in ["retail", "partners"] {
            let group = json!({"name": name, "alias": name, "apis": [api]});
            let made = admin.post("/api/v1/groups", group).await.expect(201);
            groups.push(made["id"].as_str().expect("an id").to_owned());
        }
        let client = json!({
            "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann", "emails": "it@acme.example",
            "password": "secret-1", "password_confirmation": "secret-1", "groups": groups,
        });
        admin.post("/api/v1/clients", client).await.expect(201);
        let caller = gateway(world, "edge").await;
        let [group, other_group] = groups.try_into().expect("two");
        Self { admin, caller, group, other_group, api }
    }

    async fn import_key(&self) -> String {
        let key = json!({
            "client": "acme", "api_key": API_KEY, "secret_key": SECRET, "name": "from before",
            "expiry_date": "2026-12-31", "quota": 5, "apis": [self.api],
        });
        let made = self.admin.post("/api/v1/keys/import", key).await.expect(201);
        made["id"].as_str().expect("an id").to_owned()
    }

    /// A new one that opens both groups: its id, and how it is presented.
    async fn x_api_key(&self) -> (String, Value) {
        let wanted = json!({
            "client": "acme", "alias": "back office", "expiry_date": "2026-02-01",
            "groups": [self.group, self.other_group],
        });
        let made = self.admin.post("/api/v1/x-api-keys", wanted).await.expect(201);
        let [id, text] = [&made["id"], &made["x_api_key"]].map(|text| text.as_str().expect("a text"));
        (id.into(), x_api_key(text))
    }

    async fn known(&self, presented: Value) -> Option<Grant> {
        let answer = exchange(&self.caller, json!({"resolve": [presented]})).await;
        match answer.resolved.into_iter().next().expect("one answer") {
            Resolved::Known { grant } => Some(*grant),
            Resolved::Unknown => None,
        }
    }

    async fn grant(&self, presented: Value) -> Grant {
        self.known(presented).await.expect("a known credential")
    }
}

fn dgrk() -> Value {
    json!({"kind": "dgrk", "api_key": API_KEY})
}

fn x_api_key(text: &str) -> Value {
    json!({
        "kind": "x_api_key", "sha256": gate::credential::Fingerprint::of(text.as_bytes()).to_hex(),
    })
}

fn basic(password: &str) -> Value {
    json!({"kind": "basic", "client": "acme", "password": password})
}

#[tokio::test]
async fn a_dgrk_key_is_granted_its_apis_dates_secret_and_both_limits() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let id = shop.import_key().await;
        let change = json!({
            "quota": 100, "quota_period": "day", "time_zone": "Asia/Taipei", "tps": 7, "priority": 2,
            "audience": "external", "bindings": [{"name": "office", "address": "192.0.2.0/24"}],
            "start_date": "2026-01-01", "expiry_date": "2026-06-30",
            "service_from": "08:00", "service_until": "18:00",
        });
        shop.admin.patch(CLIENT, change).await.expect(200);
        let grant = shop.grant(dgrk()).await;
        assert_eq!((grant.credential.as_str(), grant.client.as_str()), (id.as_str(), "acme"));
        let Proof::Signature { secrets } = &grant.proof else { panic!("a signature proves it") };
        assert_eq!(secrets.iter().map(|secret| secret.text.as_str()).collect::<Vec<_>>(), [SECRET]);
        assert_eq!(grant.permission, Permission::Apis { apis: vec![ApiUid::from(shop.api.as_str())] });
        assert_eq!((grant.tps, grant.priority, grant.audience), (7, 2, Audience::External));
        assert_eq!((grant.addresses, grant.bound), (vec!["192.0.2.0/24".to_string()], true));
        assert!(grant.active && grant.revoked_at.is_none());
        assert_eq!(grant.utc_offset_min, 480);
        // 2026-01-01 and 2026-06-30 of Taipei, whole.
        let dates = Interval { from: UnixMillis(1_767_196_800_000), until: UnixMillis(1_782_835_199_999) };
        assert_eq!(grant.client_validity, Some(dates));
        let served = grant.service_time.expect("hours");
        let kept_until = UnixMillis(world.app.now().0 + i64::from(grant.keep_s) * 1_000);
        assert!(served.last().expect("some").until > kept_until, "they last as long as the grant is kept");
        let limits: Vec<_> =
            grant.meters.iter().map(|meter| (meter.kind, meter.limit, meter.window_s)).collect();
        let expected = [(MeterKind::ClientQuota, 100, Some(86_400)), (MeterKind::KeyUses, 5, None)];
        assert_eq!(limits, expected);
    }
}

#[tokio::test]
async fn the_next_lease_is_as_large_as_the_client_then_says() {
    for world in World::both_with(|config| config.max_lease_percent = 2).await {
        let shop = Shop::open(&world).await;
        let id = shop.import_key().await;
        // A key's limit is told by forms alone.
        world.sql("UPDATE meters SET limit_units = 500").await;
        shop.admin.patch(CLIENT, json!({"quota": 1_000})).await.expect(200);
        let mut rec = 0;
        let mut leases = async || {
            rec += 1;
            let meters = shop.grant(dgrk()).await.meters;
            let renewals: Vec<_> = meters.iter().map(|meter| renewal(meter.id.0, rec, 1, 30)).collect();
            let answer = exchange(&shop.caller, json!({"renew": renewals})).await;
            let units = answer.renewed.iter().map(|renewed| match renewed.outcome {
                RenewalOutcome::Granted { units, ttl_ms, .. } => (units, ttl_ms),
                ref other => panic!("granted, not {other:?}"),
            });
            let horizons: Vec<_> = meters.iter().map(|meter| meter.horizon_s).collect();
            (horizons, units.collect::<Vec<_>>())
        };
        assert_eq!(leases().await, (vec![30, 30], vec![(20, 60_000), (10, 60_000)]), "as the installation");
        let terms = json!({"lease_horizon_s": 300, "max_lease_percent": 1});
        shop.admin.patch(CLIENT, terms).await.expect(200);
        assert_eq!(leases().await, (vec![300, 300], vec![(10, 600_000), (5, 600_000)]), "all of its meters");
        let client = shop.admin.get(CLIENT).await.expect(200);
        let usage = &client["quota_usage"];
        assert_eq!((&usage["lease_horizon_s"], &usage["max_lease"]), (&json!(300), &json!(10)), "{usage}");
        let meter = shop.admin.get(&format!("/api/v1/keys/{id}")).await.expect(200)["meter"].clone();
        assert_eq!((&meter["lease_horizon_s"], &meter["max_lease"]), (&json!(300), &json!(5)), "{meter}");
        shop.admin.patch(CLIENT, json!({"lease_horizon_s": null, "max_lease_percent": 3})).await.expect(200);
        assert_eq!(leases().await, (vec![30, 30], vec![(30, 60_000), (15, 60_000)]), "each by itself");
        let entry = &shop.admin.get("/api/v1/audit?action=clients.update").await.expect(200)["items"][0];
        let changed = json!({
            "lease_horizon_s": {"before": 300, "after": null}, "max_lease_percent": {"before": 1, "after": 3},
        });
        assert_eq!(entry["detail"]["changed"], changed);
    }
}

#[tokio::test]
async fn a_grant_names_the_addresses_of_host_names_and_nobody_while_there_are_none() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        shop.import_key().await;
        let granted = async |bindings: Value| {
            shop.admin.patch("/api/v1/clients/acme", json!({ "bindings": bindings })).await.expect(200);
            let grant = shop.grant(dgrk()).await;
            (grant.bound, grant.addresses)
        };
        let name = json!({ "name": "site", "address": "gateway.example.com" });
        let block = json!({ "name": "office", "address": "198.51.100.0/24" });
        assert_eq!(granted(json!([])).await, (false, vec![]), "from everywhere");
        assert_eq!(granted(json!([name])).await, (true, vec![]), "from nowhere");
        assert_eq!(granted(json!([name, block])).await, (true, vec!["198.51.100.0/24".into()]));
        let at = world.app.now().0;
        world
            .sql(&format!("UPDATE host_names SET addresses = '2001:db8::7,203.0.113.7', resolved_at = {at}"))
            .await;
        let both = vec!["2001:db8::7".into(), "203.0.113.7".into()];
        assert_eq!(granted(json!([name])).await, (true, both.clone()));
        world.advance_ms(599_999);
        assert_eq!(granted(json!([name])).await, (true, both), "the last good answer, ten minutes long");
        world.advance_ms(1);
        assert_eq!(granted(json!([name])).await, (true, vec![]), "too old");
    }
}

#[tokio::test]
async fn what_is_revoked_or_switched_off_is_granted_as_such_and_announced() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let id = shop.import_key().await;
        let before = exchange(&shop.caller, json!({"resolve": [dgrk()]})).await;
        shop.admin.post(&format!("/api/v1/keys/{id}/revoke"), json!({})).await.expect(200);
        let after = exchange(&shop.caller, json!({"resolve": [dgrk()]})).await;
        let Resolved::Known { grant } = &after.resolved[0] else { panic!("{after:?}") };
        assert_eq!(grant.revoked_at, Some(world.app.now()));
        // A late answer of before says itself that it is older than the revocation.
        let seen = poll(&shop.caller, &format!("since={}&wait_ms=0", before.as_of.0)).await;
        let names_it = |change: &gate::wire::changes::Change| matches!(&change.subject, Subject::Credential { credential, .. } if credential.as_str() == id);
        let revocation = seen.changes.iter().find(|change| names_it(change)).expect("it is announced");
        assert!(before.as_of < revocation.revision && revocation.revision <= after.as_of);

        for (status, told) in [("disabled", ClientStatus::Disabled), ("locked", ClientStatus::Locked)] {
            shop.admin.patch(&format!("{CLIENT}/status"), json!({"status": status})).await.expect(200);
            assert_eq!(shop.grant(dgrk()).await.client_status, told, "an operator's word stops keys too");
            assert_eq!(shop.grant(basic("secret-1")).await.client_status, told);
        }
    }
}

#[tokio::test]
async fn an_x_api_key_opens_only_what_its_client_still_has() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let (id, presented) = shop.x_api_key().await;
        let groups = async || match shop.grant(presented.clone()).await.permission {
            Permission::Groups { groups } => groups,
            Permission::Apis { .. } => panic!("groups"),
        };
        assert_eq!(groups().await.len(), 2);
        shop.admin.patch(CLIENT, json!({"groups": [shop.other_group]})).await.expect(200);
        assert_eq!(groups().await, [GroupId::from(shop.other_group.as_str())]);
        shop.admin.delete(&format!("/api/v1/x-api-keys/{id}")).await.expect(204);
        assert_eq!(shop.known(presented.clone()).await, None);
    }
}

#[tokio::test]
async fn basic_is_known_by_the_right_password_until_wrong_ones_close_it() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        shop.import_key().await;
        let grant = shop.grant(basic("secret-1")).await;
        assert_eq!((grant.credential.as_str(), &grant.proof), ("basic:acme", &Proof::Presented));
        assert!(matches!(grant.permission, Permission::Groups { groups } if groups.len() == 2));
        for _ in 0..3 {
            assert_eq!(shop.known(basic("secret-2")).await, None);
        }
        assert_eq!(shop.known(basic("secret-1")).await, None, "closed");
        assert_eq!(shop.grant(dgrk()).await.client_status, ClientStatus::Active, "a stranger stops no key");
    }
    for world in World::both_with(|config| config.lockout_scope = crate::config::LockoutScope::All).await {
        let shop = Shop::open(&world).await;
        shop.import_key().await;
        for _ in 0..3 {
            shop.known(basic("secret-2")).await;
        }
        assert_eq!(shop.grant(dgrk()).await.client_status, ClientStatus::Locked);
    }
}

#[tokio::test]
async fn while_a_key_is_unlimited_its_grant_names_no_meter() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let id = gate::id::CredentialId(shop.import_key().await);
        let meters = async || shop.grant(dgrk()).await.meters;
        let before = meters().await;
        assert_eq!(
            before.iter().map(|meter| (meter.kind, meter.limit)).collect::<Vec<_>>(),
            [(MeterKind::KeyUses, 5)]
        );
        for (quota, expected) in [(-1, vec![]), (5, before)] {
            let change = keys::KeyChange {
                name: keys::KeyName::parse("from before").expect("a name"),
                expires_on: jiff::civil::date(2026, 12, 31),
                uses: keys::UseQuota::parse(quota).expect("a quota"),
                reset_usage: false,
                apis: [ApiUid::from(shop.api.as_str())].into(),
                application: None,
            };
            let mut tx = world.app.db.write("test.change").await.expect("a transaction");
            keys::change(&mut tx, &world.app, &id, change, "system", world.app.now()).await.expect("changed");
            tx.commit().await.expect("committed");
            assert_eq!(meters().await, expected, "{quota}");
        }
    }
}

#[tokio::test]
async fn a_secret_past_its_end_is_granted_no_more_even_if_nobody_retires_it() {
    const HOUR_MS: i64 = 3_600_000;
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let id = shop.import_key().await;
        let granted = async || {
            let grant = shop.grant(dgrk()).await;
            let Proof::Signature { secrets } = grant.proof else { panic!("a signature proves it") };
            (secrets.into_iter().map(|secret| secret.text).collect::<Vec<_>>(), grant.keep_s)
        };
        assert_eq!(granted().await, (vec![SECRET.to_owned()], super::grant::KEEP_S));
        world.advance_ms(1);
        let rotation = json!({ "overlap_h": 72 });
        shop.admin.post(&format!("/api/v1/keys/{id}/secrets"), rotation).await.expect(201);
        let tasks = shop.admin.get(&format!("/api/v1/tasks?about=key:{id}")).await.expect(200);
        let task = tasks["items"][0]["id"].as_str().expect("the end is planned");
        shop.admin.post(&format!("/api/v1/tasks/{task}/cancel"), json!({})).await.expect(200);

        assert_eq!(granted().await.1, super::grant::KEEP_S, "the end is far");
        world.advance_ms(71 * HOUR_MS);
        assert_eq!((granted().await.0.len(), granted().await.1), (2, 3_600), "kept until the end alone");
        world.advance_ms(HOUR_MS - 1);
        assert_eq!((granted().await.0.len(), granted().await.1), (2, 1));
        world.advance_ms(1);
        let (left, keep_s) = granted().await;
        assert_eq!((left.len(), keep_s), (1, super::grant::KEEP_S));
        assert_ne!(left, [SECRET], "the new one stays");
    }
}

#[tokio::test]
async fn the_last_use_of_a_secret_is_known_by_the_minute() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let id = shop.import_key().await;
        let Proof::Signature { secrets } = shop.grant(dgrk()).await.proof else { panic!("a signature") };
        world.advance_ms(90_000);
        let row = json!({"credential": id, "secret": secrets[0].id, "result": "admitted", "count": 1});
        exchange(&shop.caller, json!({"usage": {"boot": 1, "seq": 1, "rows": [row]}})).await;
        let key = shop.admin.get(&format!("/api/v1/keys/{id}")).await.expect(200);
        assert_eq!(key["secrets"][0]["last_used_at"], json!(World::START.0 + 60_000), "{key}");
    }
}

#[tokio::test]
async fn the_last_use_of_an_x_api_key_is_known_by_the_minute() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let (id, _) = shop.x_api_key().await;
        let path = format!("/api/v1/x-api-keys/{id}");
        let last_used = async || shop.admin.get(&path).await.expect(200)["last_used_at"].clone();
        let mut seq = 0;
        let mut report = async |result: &str| {
            seq += 1;
            let row = json!({"credential": id, "api": shop.api, "result": result, "count": 2});
            exchange(&shop.caller, json!({"usage": {"boot": 1, "seq": seq, "rows": [row]}})).await;
        };
        world.advance_ms(90_000);
        report("permission_denied").await;
        assert_eq!(last_used().await, Value::Null, "what was refused is no use");
        report("admitted").await;
        assert_eq!(last_used().await, json!(World::START.0 + 60_000));
        world.advance_ms(60_000);
        report("admitted").await;
        assert_eq!(last_used().await, json!(World::START.0 + 120_000));
    }
}

#[tokio::test]
async fn deleted_x_api_keys_are_unknown_and_announced_all_at_once() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let keys = [shop.x_api_key().await, shop.x_api_key().await];
        let resolve = json!({"resolve": keys.iter().map(|(_, presented)| presented).collect::<Vec<_>>()});
        let before = exchange(&shop.caller, resolve.clone()).await;
        assert!(before.resolved.iter().all(|one| *one != Resolved::Unknown), "{before:?}");
        let ids: Vec<&String> = keys.iter().map(|(id, _)| id).collect();
        shop.admin.post("/api/v1/x-api-keys/delete", json!({ "ids": ids })).await.expect(204);
        let after = exchange(&shop.caller, resolve).await;
        assert!(after.resolved.iter().all(|one| *one == Resolved::Unknown), "{after:?}");
        let seen = poll(&shop.caller, &format!("since={}&wait_ms=0", before.as_of.0)).await;
        let mut named: Vec<&str> = seen
            .changes
            .iter()
            .filter_map(|change| match &change.subject {
                Subject::Credential { credential, .. } => Some(credential.as_str()),
                _ => None,
            })
            .collect();
        named.sort_unstable();
        let mut ids: Vec<&str> = ids.into_iter().map(String::as_str).collect();
        ids.sort_unstable();
        assert_eq!(named, ids);
    }
}

#[tokio::test]
async fn an_imported_x_api_key_is_granted_to_its_old_text() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let import = json!({
            "client": "acme", "alias": "from before", "expiry_date": "2026-12-31",
            "groups": [shop.group], "mask": "YjN***GJm",
            "sha256": "DDDDFCD2AF735B009C9F689402E990EB5DEBA4A3F7A5D343B04ED48F7063C1F3",
        });
        let made = shop.admin.post("/api/v1/x-api-keys/import", import).await.expect(201);
        let grant = shop.grant(x_api_key("YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm")).await;
        assert_eq!(made["id"], grant.credential.as_str());
        let days = (grant.effective_at, grant.expires_at);
        // 2026-01-15T00:00Z to 2026-12-31T23:59:59.999Z.
        assert_eq!(days, (Some(World::START), Some(UnixMillis(1_798_761_599_999))));
    }
}

#[tokio::test]
async fn a_mailed_password_opens_no_api() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        shop.grant(basic("secret-1")).await;
        // As if this very password had been mailed: it would be right, and serves for something else.
        let mailed = "UPDATE clients SET reset_hash = password_hash, password_hash = '', reset_expires_at = ";
        world.sql(&format!("{mailed}{}", world.app.now().0 + 1_000)).await;
        assert_eq!(shop.known(basic("secret-1")).await, None);
        let client = shop.admin.get(CLIENT).await.expect(200);
        assert_eq!((&client["password_state"], &client["failed_attempts"]), (&json!("reset"), &json!(0)));
    }
}

#[tokio::test]
async fn basic_is_closed_without_the_grant_client_credentials_and_gateways_are_told() {
    for world in World::both().await {
        let shop = Shop::open(&world).await;
        let before = exchange(&shop.caller, json!({"resolve": [basic("secret-1")]})).await;
        assert!(shop.grant(basic("secret-1")).await.active);
        let terms = json!({"validity": 0, "unit": "days", "uses": 0});
        let mut settings = json!({
            "grant_types": ["password"], "access_token": terms, "refresh_token": terms, "redirect_urls": [],
        });
        let path = format!("{CLIENT}/token-settings");
        shop.admin.put(&path, settings.clone()).await.expect(200);
        assert!(!shop.grant(basic("secret-1")).await.active);
        let seen = poll(&shop.caller, &format!("since={}&wait_ms=0", before.as_of.0)).await;
        let acme = Subject::Client { client: ClientId::from("acme") };
        assert!(seen.changes.iter().any(|change| change.subject == acme), "{seen:?}");
        settings["grant_types"] = json!(["client_credentials"]);
        shop.admin.put(&path, settings).await.expect(200);
        assert!(shop.grant(basic("secret-1")).await.active);
    }
}

/// What a Basic is answered whose password was right when it was checked, before the snapshot.
async fn after_check(world: &World, verified: &clients::Verified) -> Resolved {
    let presented = Presented::Basic { client: "acme".into(), password: "secret-1".into() };
    let mut read = world.app.db.snapshot().await.expect("a snapshot");
    let resolved =
        super::grant::resolve(&mut read, &world.app, &presented, Some(verified), world.app.now()).await;
    resolved.expect("an answer")
}

#[tokio::test]
async fn a_password_that_ended_between_its_check_and_the_snapshot_gets_no_grant() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let password = |text: &str| json!({ "password": text, "password_confirmation": text });
        let mut client = password("secret-1");
        for (name, value) in [
            ("id", "acme"),
            ("name", "acme"),
            ("display_name", "Acme"),
            ("note", "Ann"),
            ("emails", "it@acme.example"),
        ] {
            client[name] = json!(value);
        }
        admin.post("/api/v1/clients", client).await.expect(201);
        let checked = async || match clients::check_password(&world.app, "acme", "secret-1").await {
            Ok(clients::PasswordCheck::Right(verified)) => verified,
            other => panic!("{other:?}"),
        };
        let verified = checked().await;
        assert!(matches!(after_check(&world, &verified).await, Resolved::Known { .. }));
        // What is otherwise done with the client does not end its password.
        admin.patch("/api/v1/clients/acme", json!({ "tps": 7 })).await.expect(200);
        assert!(matches!(after_check(&world, &verified).await, Resolved::Known { .. }));

        admin.put("/api/v1/clients/acme/password", password("secret-2")).await.expect(200);
        assert_eq!(after_check(&world, &verified).await, Resolved::Unknown, "another was set");
        admin.put("/api/v1/clients/acme/password", password("secret-1")).await.expect(200);
        let verified = checked().await;
        for _ in 0..3 {
            clients::check_password(&world.app, "acme", "secret-2").await.expect("an answer");
        }
        assert_eq!(after_check(&world, &verified).await, Resolved::Unknown, "closed after wrong ones");
        let open = json!({ "reset_failed_attempts": true });
        admin.patch("/api/v1/clients/acme/status", open).await.expect(200);
        assert!(matches!(after_check(&world, &verified).await, Resolved::Known { .. }));
        admin.post("/api/v1/clients/acme/password/reset", json!({})).await.expect(200);
        assert_eq!(after_check(&world, &verified).await, Resolved::Unknown, "a reset ended it");
        admin.delete("/api/v1/clients/acme?confirm=acme").await.expect(204);
        assert_eq!(after_check(&world, &verified).await, Resolved::Unknown, "its client is gone");
        assert!(!format!("{verified:?}").contains("argon2"), "{verified:?}");
    }
}
