//! The developer's and newcomer's commands: `cargo xtask --help`.
//!
//! This crate stays small so that the first command answers at once: it knows how to obtain tools
//! ([`envoy`], [`postgres`], [`wasm`], [`tools`]) and in which order things are built and run. The
//! story of the demo, the harness and the tests themselves live in `tests/e2e`.

mod api;
mod checks;
mod demo;
mod envoy;
mod postgres;
mod process;
mod tools;
mod wasm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, shows and tests Keygate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the filter into target/keygate.wasm, with whichever toolchain can.
    Wasm {
        /// Which toolchain to take instead of the first that works.
        #[arg(long, value_enum)]
        toolchain: Option<wasm::Source>,
        /// Build the variant for tests that traps on demand, into target/keygate-trap.wasm.
        #[arg(long)]
        trap: bool,
    },
    /// Start everything and play the story from a client to an enforced call; then stay up.
    Demo {
        /// Exit with a status when the story is told.
        #[arg(long)]
        once: bool,
    },
    /// Everything that .ci/run checks.
    Test {
        /// Format, gate, manager on SQLite's and PostgreSQL's quick paths, tidy: under a minute when warm.
        #[arg(long)]
        quick: bool,
        /// Run only the named stages, in the order of the full run.
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<checks::Stage>,
    },
    /// Search for runs of the lease protocol that break a promise; what is found is shrunk and kept
    /// in tests/sim/seeds.txt.
    Sim {
        /// For how long.
        #[arg(long, default_value_t = 1.0)]
        hours: f64,
        /// The first seed; another one searches elsewhere.
        #[arg(long, default_value_t = 1_000_000)]
        from: u64,
    },
    /// Rounds of mishaps drawn from seeds: processes killed and frozen, connections cut, answers late and
    /// lost, while callers use their quotas up. What was admitted is counted at the upstream.
    Chaos {
        /// How many rounds, of about fifteen seconds each.
        #[arg(long, default_value_t = 100)]
        rounds: u64,
        /// The first one's seed; the others follow.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The measurements that take minutes: revocations, a flood of unknown keys, workers that share a quota,
    /// short-lived tokens.
    Measure {
        /// Only those whose names contain this (`refuses`, `flood`, `workers`, `tokens`); all of them otherwise.
        #[arg(default_value = "")]
        only: String,
    },
    /// The benchmarks, side by side, as one table of ratios.
    Bench {
        /// Passed on to the benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Obtain Envoy and print where it is.
    Envoy,
    /// Start a PostgreSQL for tests, print its URL and keep it until Ctrl-C.
    Postgres {
        /// Which binaries to take instead of the first that are found.
        #[arg(long, value_enum)]
        source: Option<postgres::Source>,
    },
    /// Obtain the runner of wasm tests and print where it is.
    WasmRunner,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = process::stop_everything_on_a_signal().and_then(|()| run(cli.command)) {
        eprintln!("\nxtask: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Wasm { toolchain, trap } => {
            let variant = if trap { wasm::Variant::Trap } else { wasm::Variant::Shipped };
            wasm::build(toolchain, variant).map(drop)
        }
        Command::Demo { once } => demo::run(once),
        Command::Test { quick, only } => checks::run(quick, &only),
        Command::Sim { hours, from } => checks::search(hours, from),
        Command::Chaos { rounds, seed } => checks::chaos(rounds, seed),
        Command::Measure { only } => checks::measure(&only),
        Command::Bench { args } => checks::bench(&args),
        Command::Envoy => {
            println!("{}", envoy::obtain()?.display());
            Ok(())
        }
        Command::Postgres { source } => postgres::keep(source),
        Command::WasmRunner => {
            println!("{}", tools::wasm_test_runner()?.display());
            Ok(())
        }
    }
}
