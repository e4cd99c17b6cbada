//! Lease renewals that one manager makes durable in a second: many nodes, each of which sends its next
//! exchange as soon as the last one is answered.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::histogram::Histogram;
use e2e::wait;
use e2e::world::{Database, Plan, World};

use crate::figures::{self, Samples};
use crate::node::{Fleet, Node};
use crate::{cpu, postgres_is_there};

/// Nodes that renew at the same time.
const NODES: usize = 64;
/// Clients whose quotas they share: each node holds a lease of each.
const CLIENTS: usize = 64;
/// Renewals in one exchange: a filter sends all that are due in one.
const BATCHES: [usize; 3] = [1, 8, 32];

struct Figures {
    renewals: Samples,
    exchanges: Samples,
    manager_us: Samples,
    p50_ms: Samples,
    p99_ms: Samples,
}

/// Measures and prints.
pub async fn run(rounds: usize, lasts: Duration) -> Result<()> {
    let mut rows = on(Database::Sqlite, "SQLite", rounds, lasts).await?;
    if postgres_is_there() {
        rows.extend(on(Database::Postgres, "PostgreSQL", rounds, lasts).await?);
    }
    println!(
        "\nlease renewals, each durable before it is answered: {NODES} nodes, {CLIENTS} clients with a quota, \
         one manager; whoever asks runs on the same cores"
    );
    let headings = [
        "database",
        "renewals per exchange",
        "renewals/s",
        "exchanges/s",
        "manager, µs per renewal",
        "p50 ms",
        "p99 ms",
    ];
    figures::print(&headings, &rows);
    Ok(())
}

async fn on(database: Database, name: &str, rounds: usize, lasts: Duration) -> Result<Vec<Vec<String>>> {
    let plan = Plan { envoys: 0, database, ..Plan::default() };
    let world = World::start(&format!("bench_renewals_{}", name.to_lowercase()), plan).await?;
    let fleet = Fleet::on_record(&world, CLIENTS).await?;
    let mut nodes = Vec::new();
    for n in 0..NODES {
        nodes.push(fleet.node(&world, n).await?);
    }
    let manager = world.manager.process().context("the manager runs")?.id();
    let mut figures = BATCHES.map(|_| Figures::new());
    for round in 0..rounds {
        for (batch, figures) in BATCHES.into_iter().zip(&mut figures) {
            let before = cpu::process_ns(manager)?;
            let started = wait::now();
            let (exchanges, latency);
            (nodes, exchanges, latency) = saturate(nodes, batch, lasts).await?;
            let (took, used) = (started.elapsed().as_secs_f64(), cpu::process_ns(manager)? - before);
            let renewals = (exchanges * batch) as f64;
            if round > 0 {
                figures.renewals.add(renewals / took);
                figures.exchanges.add(exchanges as f64 / took);
                figures.manager_us.add(used as f64 / 1_000.0 / renewals);
                figures.p50_ms.add(latency.quantile(0.5).as_secs_f64() * 1_000.0);
                figures.p99_ms.add(latency.quantile(0.99).as_secs_f64() * 1_000.0);
            }
        }
        eprintln!("renewals on {name}: round {} of {rounds} done", round + 1);
    }
    let row = |(batch, figures): (usize, &Figures)| {
        vec![
            name.to_owned(),
            batch.to_string(),
            figures.renewals.spread(0),
            figures.exchanges.spread(0),
            figures.manager_us.spread(1),
            figures.p50_ms.spread(1),
            figures.p99_ms.spread(1),
        ]
    };
    Ok(BATCHES.into_iter().zip(&figures).map(row).collect())
}

/// All nodes at once; they come back with how many exchanges they made.
async fn saturate(nodes: Vec<Node>, batch: usize, lasts: Duration) -> Result<(Vec<Node>, usize, Histogram)> {
    let started = wait::now();
    let running: Vec<_> = nodes
        .into_iter()
        .map(|mut node| {
            tokio::spawn(async move {
                let mut latency = Histogram::default();
                while started.elapsed() < lasts {
                    let sent = wait::now();
                    node.exchange(batch, false).await?;
                    latency.record(sent.elapsed());
                }
                anyhow::Ok((node, latency))
            })
        })
        .collect();
    let (mut nodes, mut all) = (Vec::new(), Histogram::default());
    for node in running {
        let (node, latency) = node.await??;
        nodes.push(node);
        all.merge(latency);
    }
    Ok((nodes, all.count(), all))
}

impl Figures {
    fn new() -> Self {
        let [renewals, exchanges, manager_us, p50_ms, p99_ms] = [(); 5].map(|()| Samples::default());
        Self { renewals, exchanges, manager_us, p50_ms, p99_ms }
    }
}
