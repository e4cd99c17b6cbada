//! The seeds of every run, and the faults that the reference must notice.

use sim::case::Case;
use sim::faults::{CATALOGUE, Fault};
use sim::scenario::Weather;
use sim::seeds::{ci_seeds, find, kept};
use sim::world::{Outcome, run};

fn run_all(weather: Weather) -> Outcome {
    let mut sum = Outcome::default();
    for seed in ci_seeds(weather) {
        let case = Case::whole(weather, seed);
        let outcome = run(&case, Fault::None);
        assert_eq!(outcome.violations, [], "{case}");
        sum.admitted += outcome.admitted;
        sum.exact += outcome.exact;
        sum.calls += outcome.calls;
        sum.events += outcome.events;
        sum.reused += outcome.reused;
        sum.longest_wait_ms = sum.longest_wait_ms.max(outcome.longest_wait_ms);
        for (reason, count) in outcome.refused {
            *sum.refused.entry(reason).or_default() += count;
        }
    }
    println!("{weather}: {sum:?}");
    sum
}

#[test]
fn in_fair_weather_everybody_is_admitted() {
    let sum = run_all(Weather::Fair);
    assert!(sum.admitted > 10_000, "{sum:?}");
}

#[test]
fn whatever_the_network_does_no_unit_is_lost_or_spent_twice() {
    let sum = run_all(Weather::Rough);
    assert!(sum.exact >= 30, "meters that ended exhausted: {sum:?}");
}

#[test]
fn crashes_lose_units_and_never_invent_them() {
    let sum = run_all(Weather::Stormy);
    assert!(sum.exact >= 30, "meters that ended exhausted: {sum:?}");
}

#[test]
fn a_bucket_with_more_meters_than_places_loses_none() {
    let sum = run_all(Weather::Crowded);
    assert!(sum.exact >= 30, "meters that ended exhausted: {sum:?}");
    assert!(sum.reused > 1_000, "records that were given up and reused: {sum:?}");
}

#[test]
fn two_hundred_nodes_of_four_workers_are_exact() {
    let sum = run_all(Weather::Wide);
    assert!(sum.exact >= 1, "meters that ended exhausted: {sum:?}");
}

#[test]
fn revoked_keys_are_refused_within_a_second_by_whole_gates() {
    let sum = run_all(Weather::ClearGates);
    assert!(sum.refused["credential_unknown"] > 100, "requests of revoked keys: {sum:?}");
    assert!(sum.exact >= 4, "configurations that ended: {sum:?}");
    // A look-up that is gathered with others waits for the answer before it, or a tick.
    assert!(sum.longest_wait_ms < 300, "{sum:?}");
}

#[test]
fn whole_gates_refuse_the_revoked_and_keep_nobody_waiting_whatever_the_network_does() {
    let sum = run_all(Weather::Gates);
    assert!(sum.refused["credential_unknown"] > 1_000, "requests of revoked keys: {sum:?}");
    assert!(sum.exact >= 5, "meters that ended exhausted: {sum:?}");
}

#[test]
fn whole_gates_never_let_too_many_in_whatever_is_killed_restored_or_replaced() {
    let sum = run_all(Weather::StormyGates);
    assert!(sum.admitted > 10_000, "{sum:?}");
}

#[test]
fn past_failures_stay_mended() {
    for case in kept() {
        let case = case.expect("seeds.txt is read");
        assert_eq!(run(&case, Fault::None).violations, [], "{case}");
    }
}

#[test]
fn a_seed_is_always_the_same_run() {
    let case = Case::whole(Weather::Stormy, 7);
    let runs = [(); 2].map(|()| run(&case, Fault::None));
    assert_eq!(format!("{:?}", runs[0]), format!("{:?}", runs[1]));
}

#[test]
fn every_fault_of_the_catalogue_is_noticed_by_the_promise_it_breaks() {
    assert!(CATALOGUE.len() >= 15);
    for (fault, weather, promise) in CATALOGUE {
        let noticed = find(*fault, *weather).map(|(_, violation)| violation.check);
        assert_eq!(noticed, Some(*promise), "{fault:?}");
    }
}

/// docs/quotas.md is what a sceptic reads: it lists what this runs.
#[test]
fn the_document_names_every_fault_with_its_promise() {
    let document = include_str!("../../../docs/quotas.md");
    for (fault, weather, promise) in CATALOGUE {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{fault:?}` |")));
        let row = row.unwrap_or_else(|| panic!("{fault:?} is not in docs/quotas.md"));
        assert!(row.contains(&format!("| {promise} | {weather}, ")), "{row}");
    }
}

#[test]
fn a_failure_is_shrunk_and_its_line_is_the_same_run() {
    let fault = Fault::CreditPerRepeat;
    let broken = |seed: &u64| !run(&Case::whole(Weather::Rough, *seed), fault).violations.is_empty();
    let seed = ci_seeds(Weather::Rough).find(broken).expect("the catalogue finds it");
    let small = Case::whole(Weather::Rough, seed).shrunk(fault);
    let read: Case = small.to_string().parse().expect("a line is read again");
    assert_eq!(read, small);
    assert!(small.workers == 1 && small.without.len() > 5 && small.calm.len() > 2, "{small}");
    assert_eq!(run(&read, fault).violations[0].check, run(&small, fault).violations[0].check);
}
