//! Searches for runs that break a promise, and plays one again.
//!
//! ```text
//! sim search SECONDS [FIRST SEED]     new seeds; what is found is shrunk and kept in tests/sim/seeds.txt
//! sim play WEATHER SEED [..]          one run, as a line of that file says it
//! sim shrink WEATHER SEED             the smallest case found that breaks the same promise
//! sim faults                          after how many seeds each deliberate fault is found
//! ```

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sim::case::Case;
use sim::faults::{CATALOGUE, Fault};
use sim::scenario::Weather;
use sim::seeds::{ci_seeds, find};
use sim::world::run;

const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds.txt");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words.as_slice() {
        ["search", seconds] => number(seconds).map_or_else(usage, |seconds| search(seconds, 1_000_000)),
        ["search", seconds, first] => match (number(seconds), number(first)) {
            (Some(seconds), Some(first)) => search(seconds, first),
            _ => usage(),
        },
        ["play", rest @ ..] => rest.join(" ").parse().map_or_else(|_| usage(), |case| play(&case)),
        ["shrink", rest @ ..] => rest.join(" ").parse().map_or_else(
            |_| usage(),
            |case: Case| {
                println!("{}", case.shrunk(Fault::None));
                ExitCode::SUCCESS
            },
        ),
        ["faults"] => faults(),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: sim search SECONDS [FIRST SEED] | sim play|shrink WEATHER SEED [..] | sim faults");
    ExitCode::from(2)
}

fn play(case: &Case) -> ExitCode {
    let outcome = run(case, Fault::None);
    println!("{case}: {outcome:#?}");
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "how long the search lasts is no matter of the simulation")]
fn search(seconds: u64, first: u64) -> ExitCode {
    let end = Instant::now() + Duration::from_secs(seconds);
    let (next, runs, exact) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
    let (broken, report) = (AtomicBool::new(false), Mutex::new(()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while Instant::now() < end {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // The large ones take as long as a hundred others.
                    let weather = match seed % 100 {
                        0 => Weather::Wide,
                        1..=10 => Weather::Crowded,
                        11..=12 => Weather::Fair,
                        13..=14 => Weather::ClearGates,
                        15..=24 => Weather::Gates,
                        25..=30 => Weather::StormyGates,
                        31..=60 => Weather::Rough,
                        _ => Weather::Stormy,
                    };
                    let case = Case::whole(weather, seed);
                    let outcome = run(&case, Fault::None);
                    runs.fetch_add(1, Ordering::Relaxed);
                    exact.fetch_add(outcome.exact, Ordering::Relaxed);
                    if let Some(violation) = outcome.violations.first() {
                        broken.store(true, Ordering::Relaxed);
                        println!("{case}: {}: {}", violation.check, violation.detail);
                        let small = case.shrunk(Fault::None);
                        let _alone = report.lock();
                        keep(&small, violation.check);
                    }
                }
            });
        }
    });
    let (runs, exact) = (runs.into_inner(), exact.into_inner());
    println!("{runs} seeds from {first} on; {exact} meters were spent to the last unit");
    if broken.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn keep(case: &Case, promise: &str) {
    println!("kept as: {case}");
    let file = std::fs::OpenOptions::new().append(true).open(SEEDS);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "# {promise}\n{case}")) {
        eprintln!("{SEEDS}: {error}");
    }
}

fn faults() -> ExitCode {
    println!("{:<22} {:<8} {:>6}  promise", "fault", "weather", "seeds");
    for (fault, weather, _) in CATALOGUE {
        match find(*fault, *weather) {
            Some((seeds, violation)) => {
                println!(
                    "{:<22} {:<8} {seeds:>6}  {}",
                    format!("{fault:?}"),
                    weather.to_string(),
                    violation.check
                );
            }
            None => {
                println!("{:<22} {weather} not within {}", format!("{fault:?}"), ci_seeds(*weather).count())
            }
        }
    }
    ExitCode::SUCCESS
}
