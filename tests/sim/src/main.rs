//! Searches for seeds that break a promise: `cargo run --release -p sim -- FROM TO`. A seed that
//! does belongs into `tests/seeds.rs`.

use std::process::ExitCode;

use sim::faults::Fault;
use sim::scenario::Weather;
use sim::world::run;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(from)), Some(Ok(to)), None) = (numbers.next(), numbers.next(), numbers.next()) else {
        eprintln!("usage: sim FROM TO (two seeds; every seed between them is run in every weather)");
        return ExitCode::from(2);
    };
    let mut broken = false;
    let (mut exact, mut admitted) = (0, 0);
    for seed in from..=to {
        for weather in [Weather::Fair, Weather::Rough, Weather::Stormy] {
            let outcome = run(seed, weather, Fault::None);
            exact += outcome.exact;
            admitted += outcome.admitted;
            for violation in outcome.violations {
                println!("{weather:?}, seed {seed}: {}: {}", violation.check, violation.detail);
                broken = true;
            }
        }
    }
    println!("{admitted} admitted, {exact} meters spent to the last unit");
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
