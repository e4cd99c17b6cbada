//! What a filter costs: CPU that Envoy's worker spends on a request, with and without it, side by
//! side in one run. `cargo xtask bench`.
//!
//! Each variant is an Envoy of its own with one worker and a direct response behind the filters,
//! so that nothing but Envoy and the filter is measured. Rounds alternate between the variants, so
//! that a machine that slows down slows all of them. Figures are the worker thread's run time as
//! the kernel counts it; quote ratios and differences, not absolute times.

mod cpu;
mod matching;
mod variants;

use anyhow::{Result, ensure};
use clap::Parser;

use variants::{Variant, Yard};

/// CPU per request, with and without the filter.
#[derive(Parser)]
struct Arguments {
    /// Requests of each variant in each round.
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Rounds; the first is not counted.
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Measure the finding of an API alone, which needs no Envoy.
    #[arg(long)]
    matching_only: bool,
}

/// CPU of a direct response without any filter on the machine that the budget was written on, µs.
const REFERENCE_BASELINE_US: f64 = 10.4;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds >= 2, "--rounds must be at least 2: the first warms up");
    matching::run()?;
    if arguments.matching_only {
        return Ok(());
    }
    println!();
    e2e::run(async {
        let yard = Yard::start().await?;
        let mut samples: Vec<Vec<f64>> = vec![Vec::new(); yard.variants.len()];
        for round in 0..arguments.rounds {
            for (variant, samples) in yard.variants.iter().zip(&mut samples) {
                let us = measure(variant, &arguments).await?;
                if round > 0 {
                    samples.push(us);
                }
            }
            eprintln!("round {} of {} done", round + 1, arguments.rounds);
        }
        print(&yard.variants, &samples);
        Ok(())
    })
}

/// Microseconds of the worker for one request.
async fn measure(variant: &Variant, arguments: &Arguments) -> Result<f64> {
    let before = cpu::worker_ns(variant.envoy_process)?;
    let call = variant.call.clone();
    let outcome =
        e2e::load::run(&[variant.address], arguments.connections, arguments.requests, move |_| call.clone())
            .await?;
    let spent = cpu::worker_ns(variant.envoy_process)? - before;
    ensure!(
        outcome.of("200") == arguments.requests,
        "{}: not every call was let in: {:?}, {} unanswered",
        variant.name,
        outcome.verdicts,
        outcome.unanswered
    );
    Ok(spent as f64 / 1_000.0 / arguments.requests as f64)
}

fn print(variants: &[Variant], samples: &[Vec<f64>]) {
    let summary = |samples: &[f64]| {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        (
            sorted.first().copied().unwrap_or(f64::NAN),
            sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN),
        )
    };
    let (baseline_min, baseline_median) =
        samples.first().map_or((f64::NAN, f64::NAN), |plain| summary(plain));
    println!(
        "{:<42} {:>8} {:>8} {:>8} {:>8} {:>12}",
        "CPU of the worker per request", "min µs", "median", "added", "ratio", "normalised"
    );
    for (variant, samples) in variants.iter().zip(samples) {
        let (min, median) = summary(samples);
        println!(
            "{:<42} {min:>8.2} {median:>8.2} {:>8.2} {:>8.2} {:>12.2}",
            variant.name,
            median - baseline_median,
            median / baseline_median,
            (min - baseline_min) * REFERENCE_BASELINE_US / baseline_min,
        );
    }
    println!(
        "normalised: added µs (of the minima) on a machine where the first row takes {REFERENCE_BASELINE_US} µs"
    );
}
