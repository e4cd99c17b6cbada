//! What a request costs, row by row: CPU of Envoy and of what it asks, throughput, latency; once with
//! each connection always busy, once at a steady rate.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cpu;
use crate::figures::{self, Samples};
use crate::filters::{Row, Yard};
use crate::load::{self, Load, Pace};

/// CPU of a direct response without any filter on the machine that the budget was written on, µs.
const REFERENCE_BASELINE_US: f64 = 10.4;
/// Calls a second of the steady rate.
const STEADY: f64 = 1_000.0;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rounds; the first is not counted.
    pub rounds: usize,
    /// Of each row in each round, saturated and steady each.
    pub lasts: Duration,
    /// Connections of the saturated load.
    pub connections: usize,
}

/// Figures of a row under one load.
#[derive(Default)]
struct Figures {
    /// µs per request.
    envoy: Samples,
    /// µs per request.
    service: Samples,
    /// Answers a second.
    rate: Samples,
    /// µs.
    p50: Samples,
    /// µs.
    p99: Samples,
}

/// Measures and prints.
pub async fn run(extent: Extent) -> Result<()> {
    let yard = Yard::start().await?;
    let loads = [("saturated", Pace::Saturated), ("steady", Pace::PerSecond(STEADY))];
    let mut figures: Vec<[Figures; 2]> = yard.rows.iter().map(|_| Default::default()).collect();
    for round in 0..extent.rounds {
        for (row, figures) in yard.rows.iter().zip(&mut figures) {
            for ((_, pace), figures) in loads.iter().zip(figures) {
                let measured = measure(row, *pace, extent)?;
                if round > 0 {
                    figures.add(&measured);
                }
            }
        }
        eprintln!("round {} of {} done", round + 1, extent.rounds);
    }
    for (place, (name, pace)) in loads.iter().enumerate() {
        let of_load: Vec<&Figures> = figures.iter().filter_map(|row| row.get(place)).collect();
        match pace {
            Pace::Saturated => println!("\n{name}: {} connections, each always busy", extent.connections),
            Pace::PerSecond(rate) => println!("\n{name}: {rate} requests a second, whatever the answers do"),
        }
        print(&yard.rows, &of_load);
    }
    Ok(())
}

struct Measured {
    envoy: f64,
    service: Option<f64>,
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Figures {
    fn add(&mut self, measured: &Measured) {
        self.envoy.add(measured.envoy);
        if let Some(service) = measured.service {
            self.service.add(service);
        }
        self.rate.add(measured.rate);
        self.p50.add(measured.p50);
        self.p99.add(measured.p99);
    }
}

fn measure(row: &Row, pace: Pace, extent: Extent) -> Result<Measured> {
    let service_ns = || row.service.map(cpu::process_ns).transpose();
    let load = Load {
        address: row.address,
        from: None,
        calls: vec![load::wire(&row.call)],
        connections: extent.connections,
        lasts: extent.lasts,
        pace,
    };
    let (envoy, service) = (cpu::worker_ns(row.envoy)?, service_ns()?);
    let taken = load.run()?;
    let answers = taken.answers();
    ensure!(
        answers > 0 && taken.of(200) == answers,
        "{}: not every call was let in: {:?}",
        row.name,
        taken.statuses
    );
    let each = |ns: u64| ns as f64 / 1_000.0 / answers as f64;
    Ok(Measured {
        envoy: each(cpu::worker_ns(row.envoy)? - envoy),
        service: service_ns()?.zip(service).map(|(after, before)| each(after - before)),
        rate: taken.rate(),
        p50: taken.quantile_us(0.5),
        p99: taken.quantile_us(0.99),
    })
}

fn print(rows: &[Row], figures: &[&Figures]) {
    let Some(plain) = figures.first() else { return };
    let shown: Vec<Vec<String>> = rows
        .iter()
        .zip(figures)
        .map(|(row, figures)| {
            let added = figures.envoy.least() - plain.envoy.least();
            vec![
                row.name.to_owned(),
                figures.envoy.spread(2),
                format!("{:.2}", figures.envoy.median() / plain.envoy.median()),
                format!("{:.2}", added * REFERENCE_BASELINE_US / plain.envoy.least()),
                if row.service.is_some() { figures.service.spread(2) } else { "–".into() },
                figures.rate.spread(0),
                figures.p50.spread(0),
                figures.p99.spread(0),
            ]
        })
        .collect();
    let headings = [
        "row",
        "Envoy's worker, µs per request",
        "ratio",
        "added, normalised",
        "manager or service, µs per request",
        "requests/s",
        "p50 µs",
        "p99 µs",
    ];
    figures::print(&headings, &shown);
    println!(
        "\nMedian (least–most) of the rounds. Ratio: of the medians, to the first row. Normalised: what is \
         added to the first row (of the least) where that one takes {REFERENCE_BASELINE_US} µs."
    );
}
