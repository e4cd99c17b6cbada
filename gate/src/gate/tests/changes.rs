//! The change feed: who polls it, what it reaches, and being cut off.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_change_reaches_every_worker_and_one_alone_polls() {
    let mut world = World::warm(3);
    let polling: Vec<usize> = world.calls.iter().map(|(worker, _)| *worker).collect();
    assert_eq!(polling, [0]);
    for worker in 0..3 {
        assert!(is_admitted(&world.get(worker, 10, &[("x-api-key", "good")])));
    }
    world.manager.revoke("good");
    world.answer_all();
    for worker in 0..3 {
        assert_eq!(world.get(worker, 11, &[("x-api-key", "good")]), Step::Wait, "worker {worker}");
    }
}

#[test]
fn another_worker_leads_when_the_leader_is_gone() {
    let mut world = World::warm(2);
    world.calls.clear();
    world.pass(feed::LEADER_STALE_MS, &[1]);
    assert!(world.calls.iter().all(|(_, call)| !call.path.starts_with(CHANGES_PATH)));
    world.pass(200, &[1]);
    assert!(world.calls.iter().any(|(worker, call)| *worker == 1 && call.path.starts_with(CHANGES_PATH)));
    world.manager.revoke("good");
    world.answer_all();
    assert_eq!(world.get(1, 11, &[("x-api-key", "good")]), Step::Wait);
}

#[test]
fn a_retired_leader_is_followed_at_the_next_tick() {
    let mut world = World::warm(2);
    world.calls.clear();
    let now = world.now().mono;
    assert!(!world.gates[0].retire(&mut world.process, now));
    world.pass(100, &[1]);
    assert!(world.calls.iter().any(|(worker, call)| *worker == 1 && call.path.starts_with(CHANGES_PATH)));
}

#[test]
fn a_worker_behind_the_ring_asks_for_everything_anew() {
    let mut world = World::warm(2);
    for n in 0..=feed::RING_BATCHES {
        world.manager.change(Subject::Client { client: format!("other{n}").as_str().into() });
        let (worker, poll) = world.take_call(CHANGES_PATH);
        let answer = world.manager.answer(&poll);
        world.now += 100;
        world.deliver(worker, poll.id, answer);
    }
    assert!(is_admitted(&world.get(0, 20, &[("x-api-key", "good")])), "the leader saw each of them");
    let now = world.now();
    world.gates[1].handle_wake(&mut world.process, now);
    world.carry_out(1);
    assert_eq!(world.get(1, 20, &[("x-api-key", "good")]), Step::Wait);
}

#[test]
fn a_reset_of_the_feed_ends_a_kept_exhausted() {
    let mut world = World::new(1);
    let meter =
        Meter { id: MeterId(7), kind: MeterKind::ClientQuota, limit: 5, window_s: None, horizon_s: 30 };
    world.manager.known.get_mut(&hex("good")).unwrap().meters = vec![meter];
    let headers = [("x-api-key", "good")];
    world.get(0, 1, &headers);
    world.answer_all();
    assert_eq!(
        world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(),
        ["wait", "wait", "quota_exhausted"]
    );
    // The limit was raised, and the change that says so is among those that were missed.
    world.manager.ledger = RenewalOutcome::Granted {
        lease: LeaseId(1),
        generation: Generation(1),
        units: 5,
        ttl_ms: 60_000,
        window_left_ms: None,
        opens_in_ms: None,
        remaining: 0,
    };
    assert_eq!(code(&world.get(0, 2, &headers)), "quota_exhausted");
    world.manager.resets = true;
    world.manager.change(Subject::Directory);
    world.answer_all();
    world.steps.clear();
    assert_eq!(world.get(0, 3, &headers), Step::Wait);
    world.answer_all();
    assert!(world.steps.last().is_some_and(|(_, _, step)| is_admitted(step)), "{:?}", world.steps);
}

#[test]
fn a_gate_cut_off_refuses_after_the_bound() {
    let mut world = World::warm(1);
    world.calls.clear();
    world.pass(59_000, &[0]);
    assert!(is_admitted(&world.get(0, 10, &[("x-api-key", "good")])));
    world.pass(2_000, &[0]);
    assert_eq!(code(&world.get(0, 11, &[("x-api-key", "good")])), "stale");
}

#[test]
fn the_bound_of_the_settings_holds_from_the_first_poll_on() {
    // The first poll is answered before the settings are known, whose default is longer.
    let mut world = World::new(1);
    world.manager.settings.max_staleness_s = 2;
    world.get(0, 1, &[("x-api-key", "good")]);
    world.answer_all();
    assert!(is_admitted(&world.get(0, 10, &[("x-api-key", "good")])));
    world.calls.clear();
    world.pass(3_000, &[0]);
    assert_eq!(code(&world.get(0, 11, &[("x-api-key", "good")])), "stale");
}

#[test]
fn an_answer_without_the_managers_mark_is_no_answer() {
    let mut world = World::warm(1);
    assert_eq!(world.get(0, 10, &[("x-api-key", "new")]), Step::Wait);
    let (worker, exchange) = world.take_call(EXCHANGE_PATH);
    let Answer::Received { status, body, .. } = world.manager.answer(&exchange) else { panic!() };
    world.deliver(worker, exchange.id, Answer::Received { status, marked: false, body });
    assert!(world.steps.is_empty());
    world.pass(200, &[0]);
    world.answer_all();
    assert_eq!(world.steps.len(), 1, "it is asked again");
}
