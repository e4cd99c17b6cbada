//! The first request, credentials that are not held, and how long grants are.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_gate_does_nothing_before_its_first_request() {
    let mut world = World::new(1);
    world.pass(1_000, &[0]);
    assert!(world.process.values.is_empty() && world.calls.is_empty());
}

#[test]
fn the_first_request_waits_for_the_directory_and_is_admitted() {
    let mut world = World::new(1);
    assert_eq!(world.get(0, 1, &[("x-api-key", "good")]), Step::Wait);
    world.answer_all();
    assert_eq!(world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(), ["wait", "admitted"]);
    assert!(is_admitted(&world.get(0, 2, &[("x-api-key", "good")])), "and the next one does not wait");
}

#[test]
fn without_a_manager_the_first_request_is_refused_in_time() {
    let mut world = World::new(1);
    assert_eq!(world.get(0, 1, &[("x-api-key", "good")]), Step::Wait);
    world.pass(DIRECTORY_WAIT_MS - 100, &[0]);
    assert!(world.steps.is_empty());
    world.pass(200, &[0]);
    assert_eq!(
        world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(),
        ["directory_unavailable"]
    );
}

#[test]
fn requests_for_the_same_unknown_are_asked_for_once() {
    let mut world = World::warm(1);
    world.manager.resolves = 0;
    for stream in 10..40 {
        assert_eq!(world.get(0, stream, &[("x-api-key", "nobody")]), Step::Wait);
    }
    world.answer_all();
    assert_eq!(world.steps.len(), 30);
    assert!(world.steps.iter().all(|(_, _, step)| code(step) == "credential_unknown"));
    assert_eq!(world.manager.resolves, 1);
    assert_eq!(code(&world.get(0, 50, &[("x-api-key", "nobody")])), "credential_unknown");
    assert_eq!(world.manager.resolves, 1, "and an unknown is remembered");
}

#[test]
fn a_source_of_unknown_credentials_is_throttled_and_known_ones_are_not() {
    let mut world = World::warm(1);
    let mut throttled = 0;
    for n in 0..FAILED_LOOKUPS_PER_S as u32 + 10 {
        let step = world.get(0, 100 + n, &[("x-api-key", &format!("nobody{n}"))]);
        world.answer_all();
        throttled += usize::from(code(&step) == "lookups_throttled");
    }
    assert_eq!(throttled, 10);
    assert!(is_admitted(&world.get(0, 900, &[("x-api-key", "good")])));
    world.now += 1_000;
    assert_eq!(world.get(0, 901, &[("x-api-key", "nobody-at-last")]), Step::Wait);
}

#[test]
fn a_source_of_wrong_passwords_is_throttled_sooner() {
    let mut world = World::warm(1);
    let tried = FAILED_LOOKUPS_PER_S / WRONG_PASSWORD_LOOKUPS;
    let (mut throttled, before) = (0, world.manager.resolves);
    for n in 0..tried as u32 + 10 {
        let basic = format!("Basic {}", STANDARD.encode(format!("acme:wrong-{n}")));
        let step = world.get(0, 100 + n, &[("authorization", &basic)]);
        world.answer_all();
        throttled += usize::from(code(&step) == "lookups_throttled");
    }
    assert_eq!(((world.manager.resolves - before) as u64, throttled), (tried, 10));
    assert!(is_admitted(&world.get(0, 900, &[("x-api-key", "good")])));
}

#[test]
fn a_late_answer_does_not_undo_a_revocation() {
    let mut world = World::warm(1);
    world.manager.known.insert(hex("late"), grant("xk_2", Proof::Presented));
    assert_eq!(world.get(0, 10, &[("x-api-key", "late")]), Step::Wait);
    let (worker, exchange) = world.take_call(EXCHANGE_PATH);
    let answer = world.manager.answer(&exchange);
    world.manager.revoke("late");
    world.answer_all();
    world.deliver(worker, exchange.id, answer);
    assert!(world.steps.is_empty(), "the answer is of before the revocation");
    world.pass(100, &[0]);
    world.answer_all();
    assert_eq!(world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(), ["credential_unknown"]);
}

#[test]
fn a_lookup_that_nobody_answers_is_given_up() {
    let mut world = World::warm(1);
    assert_eq!(world.get(0, 10, &[("x-api-key", "new")]), Step::Wait);
    world.pass(1_900, &[0]);
    assert!(world.steps.is_empty());
    world.pass(200, &[0]);
    assert_eq!(world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(), ["lookup_unavailable"]);
}

#[test]
fn a_grant_that_does_not_ask_a_dgrk_key_for_its_secret_is_not_used() {
    let mut world = World::warm(1);
    world.manager.known.insert("b3Blbg==".into(), grant("dk_2", Proof::Presented));
    let authorization = dgrk::sign("b3Blbg==", "whatever", b"");
    assert_eq!(world.get(0, 10, &[("authorization", &authorization)]), Step::Wait);
    let (worker, exchange) = world.take_call(EXCHANGE_PATH);
    let answer = world.manager.answer(&exchange);
    let now = world.now();
    world.gates[worker].handle_answer(exchange.id, answer, &mut world.process, now);
    let mut notices = 0;
    while let Some(effect) = world.gates[worker].poll(&mut world.process, now) {
        match effect {
            Effect::Notice(_) => notices += 1,
            Effect::Decide(stream) => {
                let step = world.decide(worker, stream);
                assert_eq!(code(&step), "credential_unknown");
            }
            Effect::Call(_)
            | Effect::Register { .. }
            | Effect::Wake { .. }
            | Effect::Count { .. }
            | Effect::Gauge { .. } => {}
        }
    }
    assert_eq!(notices, 1);
}

/// Its service times reach further than it is kept (`manager/src/feed/grant.rs`), so that they are
/// renewed before they run out, although nothing has changed.
#[test]
fn a_grant_is_asked_for_anew_when_it_has_been_kept_for_its_time() {
    let mut world = World::new(1);
    let keep_ms = 3_600_000;
    let serve_until = |world: &mut World, after_ms: i64| {
        let begin = world.now().unix;
        let interval = Interval { from: begin, until: UnixMillis(begin.0 + after_ms) };
        world.manager.known.get_mut(&hex("good")).unwrap().service_time = Some(vec![interval]);
    };
    serve_until(&mut world, 2 * keep_ms);
    world.get(0, 1, &[("x-api-key", "good")]);
    world.answer_all();
    assert_eq!(world.manager.resolves, 1);
    for round in 1..=5_usize {
        let stream = 10 * round as u32;
        // Polls go on without news.
        for _ in 0..keep_ms / 10_000 - 1 {
            world.now += 10_000;
            let now = world.now();
            world.gates[0].handle_tick(&mut world.process, now);
            world.carry_out(0);
            let polls = core::mem::take(&mut world.calls);
            for (worker, call) in polls {
                let answer = world.manager.answer(&call);
                world.deliver(worker, call.id, answer);
            }
            world.answer_all();
        }
        world.now += 9_999;
        assert_eq!(code(&world.get(0, stream, &[("x-api-key", "good")])), "admitted", "round {round}");
        assert_eq!(world.manager.resolves, round, "what is held is not asked for again");
        world.now += 1;
        serve_until(&mut world, 2 * keep_ms);
        assert_eq!(code(&world.get(0, stream + 1, &[("x-api-key", "good")])), "wait", "round {round}");
        world.steps.clear();
        world.answer_all();
        assert_eq!(world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(), ["admitted"]);
        assert_eq!(world.manager.resolves, round + 1);
    }
}

#[test]
fn who_waits_for_room_among_the_meters_of_its_client_goes_on_as_soon_as_there_is_some() {
    let mut world = World::warm(1);
    world.manager.ledger = RenewalOutcome::Granted {
        lease: LeaseId(1),
        generation: Generation(1),
        units: 10,
        ttl_ms: 60_000,
        window_left_ms: None,
        opens_in_ms: None,
        remaining: 10,
    };
    for n in 0..MAX_METERS as u64 + 5 {
        let name = format!("key{n}");
        let meter = Meter {
            id: MeterId(100 + n),
            kind: MeterKind::KeyUses,
            limit: 10,
            window_s: None,
            horizon_s: 30,
        };
        world
            .manager
            .known
            .insert(hex(&name), Grant { meters: vec![meter], ..grant("xk", Proof::Presented) });
        world.now += EVICT_IDLE_MS;
        assert_eq!(world.get(0, 100 + n as u32, &[("x-api-key", &name)]), Step::Wait);
        world.answer_all();
        assert_eq!(world.steps.pop().map(|(_, _, step)| is_admitted(&step)), Some(true), "{n}");
    }
}
