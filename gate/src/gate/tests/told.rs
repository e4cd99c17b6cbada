//! What the manager is told, and what an operator is: usage, refusals, counters.

use super::*;

impl World {
    /// The next exchange, answered with that status.
    fn refuse_exchange(&mut self, status: u16) -> ExchangeRequest {
        let (worker, call) = self.take_call(EXCHANGE_PATH);
        self.deliver(worker, call.id, Answer::Received { status, marked: true, body: vec![] });
        serde_json::from_slice(&call.body).unwrap()
    }

    fn until_an_exchange(&mut self) {
        while !self.calls.iter().any(|(_, call)| call.path == EXCHANGE_PATH) {
            self.pass(100, &[0]);
        }
    }
}

#[test]
fn a_report_of_usage_that_is_refused_is_given_up_and_the_next_is_delivered() {
    for status in [400, 413] {
        let mut world = World::warm(1);
        world.tolerant = true;
        world.pass(2_000, &[0]);
        world.answer_all();
        world.manager.usage.clear();
        for stream in 10..13 {
            assert!(is_admitted(&world.get(0, stream, &[("x-api-key", "good")])));
        }
        world.get(0, 20, &[("x-api-key", "new")]);
        world.until_an_exchange();
        // Nobody knows which part is the bad one: next, the report goes alone.
        while let mixed = world.refuse_exchange(status)
            && mixed.usage.is_none()
        {
            world.until_an_exchange();
        }
        let mut reports = 0;
        for _ in 0..20 {
            world.until_an_exchange();
            let (worker, call) = world.take_call(EXCHANGE_PATH);
            let request: ExchangeRequest = serde_json::from_slice(&call.body).unwrap();
            let bad = request.usage.as_ref().is_some_and(|usage| usage.seq <= 2 && reports == 0);
            if bad && request.resolve.is_empty() && request.renew.is_empty() {
                reports += 1;
                world.deliver(worker, call.id, Answer::Received { status, marked: true, body: vec![] });
                break;
            }
            let answer = world.manager.answer(&call);
            world.deliver(worker, call.id, answer);
        }
        world.pass(3_000, &[0]);
        world.answer_all();
        let given_up = world.metrics.get("keygate_usage_given_up_total").copied();
        let counted = world.manager.usage.get("admitted").copied().unwrap_or_default();
        assert_eq!((reports, given_up, counted), (1, Some(3), 0), "{status}");
        // And the next one arrives.
        assert!(is_admitted(&world.get(0, 30, &[("x-api-key", "good")])));
        world.pass(1_000, &[0]);
        world.answer_all();
        assert_eq!(world.manager.usage.get("admitted"), Some(&1), "{status}");
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
