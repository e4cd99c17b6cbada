//! The seeds of every run, and the faults that the reference must notice.

use sim::faults::Fault;
use sim::scenario::Weather;
use sim::world::{Outcome, run};

fn run_all(weather: Weather, seeds: impl Iterator<Item = u64>) -> Outcome {
    let mut sum = Outcome::default();
    for seed in seeds {
        let outcome = run(seed, weather, Fault::None);
        assert_eq!(outcome.violations, [], "{weather:?}, seed {seed}");
        sum.admitted += outcome.admitted;
        sum.exact += outcome.exact;
        sum.calls += outcome.calls;
        for (reason, count) in outcome.refused {
            *sum.refused.entry(reason).or_default() += count;
        }
    }
    println!("{weather:?}: {sum:?}");
    sum
}

#[test]
fn in_fair_weather_everybody_is_admitted() {
    let sum = run_all(Weather::Fair, 1..=3);
    assert!(sum.admitted > 10_000, "{sum:?}");
}

#[test]
fn whatever_the_network_does_no_unit_is_lost_or_spent_twice() {
    let sum = run_all(Weather::Rough, 100..=139);
    assert!(sum.exact >= 30, "meters that ended exhausted: {sum:?}");
}

#[test]
fn crashes_lose_units_and_never_invent_them() {
    let sum = run_all(Weather::Stormy, 1_000..=1_039);
    assert!(sum.exact >= 30, "meters that ended exhausted: {sum:?}");
}

#[test]
fn a_seed_is_always_the_same_run() {
    let runs = [(); 2].map(|()| run(7, Weather::Stormy, Fault::None));
    assert_eq!(format!("{:?}", runs[0]), format!("{:?}", runs[1]));
}

/// Runs a few seeds until the reference notices `fault`, and says which promise it broke.
fn check(fault: Fault, weather: Weather, promise: &str) {
    let mut seeds = (1..=40).map(|seed| run(seed, weather, fault).violations);
    let noticed = seeds.find_map(|violations| violations.first().map(|first| first.check));
    assert_eq!(noticed, Some(promise), "{fault:?}");
}

#[test]
fn faults_of_nodes_are_noticed() {
    check(Fault::BlindWrites, Weather::Rough, "admitted takes one of each, refused takes nothing");
    check(Fault::ClosedLeaseStays, Weather::Rough, "spent + credited <= units");
    check(Fault::ExpiryFromArrival, Weather::Rough, "no spend in another window");
    check(Fault::ImpatientNode, Weather::Rough, "demand uses the limit up");
}

#[test]
fn faults_of_the_ledger_and_the_feed_are_noticed() {
    check(Fault::ForgottenAnswers, Weather::Rough, "a repeat gets the same answer");
    check(Fault::CreditPerRepeat, Weather::Rough, "debited is what was handed out and not returned");
    check(Fault::CreditOnExpiry, Weather::Stormy, "debited is what was handed out and not returned");
    check(Fault::CreditAcrossGenerations, Weather::Rough, "debited is what was handed out and not returned");
    check(Fault::StaleDebits, Weather::Rough, "admitted <= debited <= limit");
    check(Fault::SilentFeed, Weather::Rough, "no refusal while units are free");
}
