//! Workers whose host ends them.

use super::*;
use crate::gate::leaving::{LEAVE_MS, OTHERS_MS};
use crate::wire::exchange::Renewal;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const HEADERS: [(&str, &str); 1] = [("x-api-key", "good")];

/// Workers that have served, of a node that holds four of five units.
fn world_that_holds(workers: usize) -> World {
    let mut world = World::new(workers);
    let meter =
        Meter { id: MeterId(7), kind: MeterKind::ClientQuota, limit: 500, window_s: None, horizon_s: 30 };
    world.manager.known.get_mut(&hex("good")).unwrap().meters = vec![meter];
    world.manager.ledger = RenewalOutcome::Granted {
        lease: LeaseId(1),
        generation: Generation(1),
        units: 5,
        ttl_ms: 60_000,
        window_left_ms: None,
        opens_in_ms: None,
        remaining: 400,
    };
    world.get(0, 1, &HEADERS);
    world.answer_all();
    assert!(world.steps.last().is_some_and(|(_, _, step)| is_admitted(step)), "{:?}", world.steps);
    world.end(0, 1, Some(200));
    for worker in 1..workers {
        // A request of nobody wakes the others without taking a unit.
        world.get(worker, 9, &[("x-api-key", "nobody")]);
        world.answer_all();
        world.end(worker, 9, None);
    }
    world.manager.ledger = RenewalOutcome::Closed;
    let all: Vec<usize> = (0..workers).collect();
    world.pass(200, &all);
    world.answer_all();
    world.calls.clear();
    world
}

fn retire(world: &mut World, worker: usize) {
    let now = world.now().mono;
    assert!(!world.gates[worker].retire(&mut world.process, now), "it has served");
}

/// Renewals that are on their way, with the worker that sent them.
fn renewals(world: &World) -> Vec<(usize, Renewal)> {
    let exchanges = world.calls.iter().filter(|(_, call)| call.path == EXCHANGE_PATH);
    let read = exchanges.flat_map(|(worker, call)| {
        let request: ExchangeRequest = serde_json::from_slice(&call.body).unwrap();
        request.renew.into_iter().map(|renewal| (*worker, renewal)).collect::<Vec<_>>()
    });
    read.collect()
}

#[test]
fn who_leaves_last_gives_back_what_the_node_holds() {
    let mut world = world_that_holds(1);
    retire(&mut world, 0);
    world.carry_out(0);
    assert!(world.calls.is_empty() && !world.gates[0].has_left(), "nothing is sent before the next tick");
    world.pass(100, &[0]);
    let sent = renewals(&world);
    let [(0, renewal)] = sent[..] else { panic!("{sent:?}") };
    assert_eq!((renewal.want, renewal.closed_lease, renewal.unspent), (0, Some(LeaseId(1)), 4));
    assert!(world.calls.iter().all(|(_, call)| !call.path.starts_with(CHANGES_PATH)), "others lead");
    assert!(!world.gates[0].has_left(), "it is not acknowledged yet");
    world.answer_all();
    world.pass(100, &[0]);
    assert!(world.gates[0].has_left() && !world.gates[0].is_active());
}

#[test]
fn who_leaves_while_another_goes_on_gives_nothing_back() {
    let mut world = world_that_holds(2);
    retire(&mut world, 0);
    world.pass(300, &[1, 0]);
    world.answer_all();
    world.pass(100, &[1, 0]);
    assert_eq!(renewals(&world), []);
    assert!(world.gates[0].has_left() && world.gates[1].is_active());
}

#[test]
fn a_worker_that_trapped_counts_as_gone_although_its_last_sign_is_fresh() {
    let mut world = world_that_holds(2);
    retire(&mut world, 0);
    world.pass(OTHERS_MS - 100, &[0]);
    assert_eq!(renewals(&world), [], "it may be busy");
    world.pass(100, &[0]);
    assert_eq!(renewals(&world).len(), 1);
}

#[test]
fn workers_that_leave_together_give_back_once() {
    let mut world = world_that_holds(2);
    retire(&mut world, 0);
    retire(&mut world, 1);
    world.pass(OTHERS_MS, &[0, 1]);
    assert_eq!(renewals(&world).len(), 1, "{:?}", renewals(&world));
    world.answer_all();
    world.pass(200, &[0, 1]);
    assert!(world.gates.iter().all(|gate| gate.has_left()));
}

#[test]
fn without_a_manager_a_gate_leaves_all_the_same() {
    let mut world = world_that_holds(1);
    retire(&mut world, 0);
    world.pass(LEAVE_MS - 100, &[0]);
    assert!(!world.gates[0].has_left());
    world.pass(100, &[0]);
    assert!(world.gates[0].has_left());
}

#[test]
fn what_was_counted_last_is_told_before_a_gate_leaves() {
    let mut world = world_that_holds(2);
    world.manager.known.get_mut(&hex("good")).unwrap().meters.clear();
    world.get(1, 3, &HEADERS);
    world.answer_all();
    world.end(1, 3, Some(200));
    let before = world.manager.usage.get("admitted").copied().unwrap_or(0);
    retire(&mut world, 1);
    world.pass(300, &[0, 1]);
    world.answer_all();
    world.pass(100, &[0, 1]);
    assert!(world.gates[1].has_left());
    assert_eq!(world.manager.usage["admitted"], before + 1);
}

#[test]
fn a_report_that_was_sent_before_a_gate_leaves_is_repeated_under_its_number() {
    let mut world = world_that_holds(2);
    world.manager.known.get_mut(&hex("good")).unwrap().meters.clear();
    world.get(1, 3, &HEADERS);
    world.answer_all();
    world.end(1, 3, Some(200));
    let reported = |world: &mut World| loop {
        while !world.calls.iter().any(|(worker, call)| *worker == 1 && call.path == EXCHANGE_PATH) {
            world.pass(100, &[0, 1]);
        }
        let (worker, call) = world.take_call(EXCHANGE_PATH);
        let request: ExchangeRequest = serde_json::from_slice(&call.body).unwrap();
        if let (1, Some(usage)) = (worker, &request.usage) {
            let number = (request.slot, usage.boot, usage.seq);
            // The manager has counted it, and its answer is lost.
            world.deliver(worker, call.id, Answer::Failed);
            break number;
        }
        let answer = world.manager.answer(&call);
        world.deliver(worker, call.id, answer);
    };
    let first = reported(&mut world);
    retire(&mut world, 1);
    assert_eq!(reported(&mut world), first);
}

#[test]
fn who_never_served_has_nothing_to_do() {
    let mut world = World::new(1);
    let now = world.now().mono;
    assert!(world.gates[0].retire(&mut world.process, now));
}
