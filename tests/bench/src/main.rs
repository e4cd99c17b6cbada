//! Benchmarks, side by side in one run: `cargo xtask bench`.
//!
//! Quote ratios, not absolute times: rounds alternate between what is compared, so that a machine
//! that slows down slows all of it. CPU is what the kernel counts for a thread or process.

mod authz;
mod bodies;
mod cpu;
mod figures;
mod filters;
mod fleet;
mod keys;
mod load;
mod matching;
mod node;
mod renewals;
mod requests;
mod tokens;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

/// Benchmarks, side by side in one run.
#[derive(Parser)]
struct Arguments {
    /// What is measured; without: everything.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of what is compared; the first is not counted.
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Milliseconds of each row and load in a round.
    #[arg(long, default_value_t = 1_000)]
    lasts_ms: u64,
    /// Connections of the saturated load.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[command(subcommand)]
    service: Option<Service>,
}

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The finding of an API, which needs no Envoy.
    Matching,
    /// Filters and services, row by row.
    Requests,
    /// Wrong signatures over large bodies beside other clients.
    Bodies,
    /// A thousand to a million keys.
    Keys,
    /// Lease renewals that a manager makes durable in a second.
    Renewals,
    /// Hundreds of connected nodes at one manager.
    Fleet,
    /// Tokens that a manager issues in a second.
    Tokens,
}

#[derive(Subcommand)]
enum Service {
    /// Serves what Envoy asks in some rows; started by them.
    #[command(hide = true)]
    Authz(authz::Settings),
}

/// Whether there is a server for the rows that want one.
fn postgres_is_there() -> bool {
    std::env::var_os(e2e::postgres::URL_VARIABLE).is_some()
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Service::Authz(settings)) = arguments.service {
        return e2e::run(authz::serve(settings));
    }
    ensure!(arguments.rounds >= 2, "--rounds must be at least 2: the first warms up");
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    if wanted(Part::Matching) {
        matching::run()?;
    }
    if wanted(Part::Requests) {
        let lasts = Duration::from_millis(arguments.lasts_ms);
        let (rounds, connections) = (arguments.rounds, arguments.connections);
        e2e::run(requests::run(requests::Extent { rounds, lasts, connections }))?;
    }
    if wanted(Part::Bodies) {
        e2e::run(bodies::run(arguments.rounds))?;
    }
    if wanted(Part::Keys) {
        e2e::run(keys::run())?;
    }
    if wanted(Part::Renewals) {
        e2e::run(renewals::run(arguments.rounds, Duration::from_millis(arguments.lasts_ms)))?;
    }
    if wanted(Part::Fleet) {
        e2e::run(fleet::run())?;
    }
    if wanted(Part::Tokens) {
        e2e::run(tokens::run(arguments.rounds, Duration::from_millis(arguments.lasts_ms)))?;
    }
    Ok(())
}
