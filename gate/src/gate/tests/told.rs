//! What the manager is told, and what an operator is: usage, refusals, counters.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

impl World {
    /// The next exchange with a report of usage, answered with that status and fault. What comes before it, as
    /// a manager does.
    fn refuse_report(&mut self, status: u16, field: &str) {
        loop {
            while !self.calls.iter().any(|(_, call)| call.path == EXCHANGE_PATH) {
                self.pass(100, &[0]);
            }
            let (worker, call) = self.take_call(EXCHANGE_PATH);
            let request: ExchangeRequest = serde_json::from_slice(&call.body).unwrap();
            if request.usage.is_none() {
                let answer = self.manager.answer(&call);
                self.deliver(worker, call.id, answer);
                continue;
            }
            let body = format!("{{\"status\":{status},\"field\":\"{field}\"}}").into_bytes();
            return self.deliver(worker, call.id, Answer::Received { status, marked: true, body });
        }
    }

    /// Of one call, with which a look-up goes out.
    fn with_usage() -> Self {
        let mut world = Self::warm(1);
        world.tolerant = true;
        world.pass(2_000, &[0]);
        world.answer_all();
        world.manager.usage.clear();
        assert!(is_admitted(&world.get(0, 10, &[("x-api-key", "good")])));
        world.get(0, 20, &[("x-api-key", "nobody")]);
        world
    }

    fn settle(&mut self) -> (Option<u64>, u64) {
        for _ in 0..10 {
            self.pass(300, &[0]);
            self.answer_all();
        }
        let given_up = self.metrics.get("keygate_usage_given_up_total").copied();
        (given_up, self.manager.usage.get("admitted").copied().unwrap_or_default())
    }
}

#[test]
fn a_report_of_usage_that_is_refused_is_given_up_and_the_next_is_delivered() {
    for status in [400, 413] {
        let mut world = World::with_usage();
        world.refuse_report(status, "usage.rows[0].result");
        assert_eq!(world.settle(), (Some(2), 0), "{status}: one let in, and one of nobody");
        assert!(is_admitted(&world.get(0, 30, &[("x-api-key", "good")])));
        assert_eq!(world.settle(), (Some(2), 1), "{status}");
    }
}

#[test]
fn a_report_waits_where_something_else_of_its_call_is_wrong() {
    for (status, field) in [(400, "version"), (400, "renew[0].seq"), (413, ""), (500, "usage")] {
        let mut world = World::with_usage();
        world.refuse_report(status, field);
        assert_eq!(world.settle(), (None, 1), "{status} {field}");
    }
}

#[test]
fn limits_are_told_where_a_meter_is_gone_and_the_grant_is_asked_for_anew() {
    let mut world = World::warm(1);
    world.manager.ledger = RenewalOutcome::Gone;
    let meter = Meter { id: MeterId(7), kind: MeterKind::KeyUses, limit: 9, window_s: None, horizon_s: 30 };
    let with_meter = Grant { meters: vec![meter], ..grant("xk_2", Proof::Presented) };
    world.manager.known.insert(hex("metered"), with_meter);
    assert_eq!(world.get(0, 10, &[("x-api-key", "metered")]), Step::Wait);
    world.answer_all();
    let step = world.steps.pop().unwrap().2;
    assert_eq!(code(&step), "quota_unavailable");
    let Step::Respond(response) = step else { panic!("it was refused") };
    let policy = response.headers.iter().find(|(name, _)| *name == "ratelimit-policy");
    assert_eq!(policy.map(|(_, value)| value.as_str()), Some("\"key-uses\";q=9"));
    let resolves = world.manager.resolves;
    assert_eq!(world.get(0, 11, &[("x-api-key", "metered")]), Step::Wait);
    world.answer_all();
    assert_eq!(world.manager.resolves, resolves + 1);
}

#[test]
fn refusals_that_are_not_reported_are_counted_wherever_they_are_lost() {
    let mut world = World::warm(1);
    world.pass(2_000, &[0]);
    world.answer_all();
    world.metrics.clear();
    // Two causes in turn: one displaces the other's once the places are taken.
    for n in 0..400 {
        let key = if n < 300 { "good" } else { "nobody" };
        world.path = if n < 300 { "/nowhere".into() } else { "/orders".into() };
        world.get(0, 1_000 + n, &[("x-api-key", key)]);
        world.answer_all();
    }
    world.steps.clear();
    world.pass(3_000, &[0]);
    world.answer_all();
    let total = world.metrics["keygate_decisions_total.code.api_not_found"]
        + world.metrics["keygate_decisions_total.code.credential_unknown"];
    assert_eq!(total, 400);
    let not_kept = world.metrics["keygate_decisions_not_kept_total"];
    assert_eq!(world.manager.decisions.len() as u64 + not_kept, total);
}

#[test]
fn usage_is_reported_once_and_nothing_is_lost_with_a_cached_grant() {
    let mut world = World::warm(1);
    for stream in 10..15 {
        world.get(0, stream, &[("x-api-key", "good")]);
    }
    world.manager.revoke("good");
    world.answer_all();
    world.pass(1_100, &[0]);
    world.answer_all();
    world.pass(1_100, &[0]);
    world.answer_all();
    assert_eq!(world.manager.usage.get("admitted"), Some(&6));
}

#[test]
fn an_answer_is_timed_from_the_head_of_its_request_though_that_waited() {
    let mut world = World::warm(1);
    assert!(is_admitted(&world.get(0, 10, &[("x-api-key", "good")])));
    world.now += 30;
    world.end(0, 10, Some(503));
    world.manager.known.insert(hex("new"), grant("xk_2", Proof::Presented));
    assert_eq!(world.get(0, 11, &[("x-api-key", "new")]), Step::Wait);
    world.now += 40;
    world.answer_all();
    assert!(is_admitted(&world.steps[0].2));
    world.now += 5;
    world.end(0, 11, Some(200));
    // Nobody answered this one, and a refused one is nobody's answer.
    world.get(0, 12, &[("x-api-key", "good")]);
    world.end(0, 12, None);
    world.get(0, 13, &[]);
    world.end(0, 13, Some(401));
    world.pass(1_100, &[0]);
    world.answer_all();
    let mut told: Vec<_> =
        world.manager.answers.iter().map(|row| (row.result.as_str(), row.latency.clone())).collect();
    told.sort();
    let expected = [
        ("answered_2xx", vec![[5, 1, 45]]),
        ("answered_5xx", vec![[5, 1, 30]]),
        ("answered_not", vec![[0, 1, 0]]),
    ];
    assert_eq!(told, expected);
    assert!(world.manager.answers.iter().all(|row| row.client.is_some() && row.api.is_some()));
}

/// What the manager was told of refusals, in order.
fn explained(world: &mut World) -> Vec<Decision> {
    world.pass(1_000, &[0]);
    world.answer_all();
    core::mem::take(&mut world.manager.decisions)
}

fn decision_header(step: &Step) -> String {
    let Step::Respond(response) = step else { panic!("{step:?}") };
    let header = response.headers.iter().find(|(name, _)| *name == DECISION_HEADER).unwrap();
    assert_eq!(response.decision.as_ref(), Some(&header.1));
    let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(body["decision"], header.1);
    header.1.clone()
}

#[test]
fn what_led_to_a_refusal_reaches_the_manager_under_the_id_that_the_caller_was_told() {
    let mut world = World::warm(1);
    let disabled = Grant { client_status: ClientStatus::Disabled, ..grant("xk_2", Proof::Presented) };
    world.manager.known.insert(hex("other"), disabled);
    world.get(0, 20, &[("x-api-key", "other")]);
    world.answer_all();
    let (_, _, step) = world.steps.pop().unwrap();
    let told = decision_header(&step);
    let missing = decision_header(&world.get(0, 21, &[]));
    let signed = dgrk::sign(API_KEY, "d3Jvbmc=", b"");
    world.get(0, 22, &[("authorization", &signed)]);
    world.answer_all();
    let (_, _, step) = world.steps.pop().unwrap();
    let incorrect = decision_header(&step);

    let explained = explained(&mut world);
    let find = |id: &str| explained.iter().find(|decision| decision.id == id).unwrap();
    let found = find(&told);
    assert_eq!((found.code.as_str(), found.path.as_str()), ("client_disabled", "/orders"));
    assert_eq!((found.method.as_str(), found.host.as_str()), ("GET", "api.example.com"));
    assert_eq!(found.api, Some("orders".into()));
    assert_eq!((found.client.clone(), found.credential.clone()), (Some("shop".into()), Some("xk_2".into())));
    assert_eq!(found.kind, Some(CredentialKind::XApiKey));
    assert_eq!(found.address.as_deref(), Some("192.0.2.1"));
    assert_eq!((found.directory, found.feed), (Revision(10), Revision(10)));
    assert_eq!(found.grant_held_ms, Some(0));
    let found = find(&missing);
    assert_eq!((found.code.as_str(), found.client.clone()), ("credential_missing", None));
    let found = find(&incorrect);
    assert_eq!(found.code, "signature_incorrect");
    assert_eq!(found.credential, Some("dk_1".into()), "named for operators, proven or not");
    let text = serde_json::to_string(&explained).unwrap();
    for secret in ["other", "q=1", API_KEY, SECRET, signed.rsplit('.').next().unwrap()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn a_report_of_refusals_that_is_lost_is_sent_again_as_it_was() {
    let mut world = World::warm(1);
    let told = decision_header(&world.get(0, 20, &[]));
    world.pass(1_000, &[0]);
    let (_, first) = world.take_call(DECISIONS_PATH);
    world.deliver(0, first.id, Answer::Failed);
    world.get(0, 21, &[]);
    world.pass(1_000, &[0]);
    let (_, second) = world.take_call(DECISIONS_PATH);
    assert_eq!(second.body, first.body);
    let answer = world.manager.answer(&second);
    world.deliver(0, second.id, answer);
    assert_eq!(world.manager.decisions.iter().map(|found| &found.id).collect::<Vec<_>>(), [&told]);
    assert_eq!(explained(&mut world).len(), 2, "the next one follows");
}

#[test]
fn metrics_are_told_with_the_tick_and_say_what_was_decided_called_and_waited_for() {
    let mut world = World::warm(1);
    for stream in 20..25 {
        world.get(0, stream, &[("x-api-key", "good")]);
    }
    world.get(0, 30, &[]);
    let before = world.metrics.clone();
    world.pass(100, &[0]);
    world.answer_all();
    let of = |name: &str| world.metrics.get(name).copied().unwrap_or(0);
    assert!(!before.contains_key("keygate_decisions_total.code.credential_missing"));
    assert_eq!(of("keygate_decisions_total.code.admitted"), 6);
    assert_eq!(of("keygate_decisions_total.code.credential_missing"), 1);
    assert_eq!(of("keygate_lookups_total.result.known"), 1);
    assert_eq!(of("keygate_waits_total.reason.directory"), 1);
    assert_eq!(of("keygate_waits_total.reason.lookup"), 1);
    assert_eq!(of("keygate_manager_calls_total.kind.directory.outcome.answered"), 1);
    assert!(of("keygate_manager_calls_total.kind.exchange.outcome.answered") >= 1);
    assert_eq!(of("keygate_grants_held.worker.0"), 1);
    assert_eq!(of("keygate_requests_in_flight.worker.0"), 6);
    assert_eq!(of("keygate_feed_revision"), 10);
}
