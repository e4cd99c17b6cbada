//! Tokens that one manager issues in a second, each durable before it is answered.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::tokens::asking;
use e2e::world::{Database, Plan, World};
use serde_json::json;

use crate::figures::{self, Samples};
use crate::load::{self, Load, Pace};
use crate::{cpu, postgres_is_there};

/// How many ask at the same time.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

struct Figures {
    rate: Samples,
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
        "\ntokens issued for client credentials, each durable before it is answered, by one manager; who asks runs on the same cores"
    );
    let headings = ["database", "connections", "tokens/s", "manager, µs per token", "p50 ms", "p99 ms"];
    figures::print(&headings, &rows);
    Ok(())
}

async fn on(database: Database, name: &str, rounds: usize, lasts: Duration) -> Result<Vec<Vec<String>>> {
    let plan = Plan { envoys: 0, database, ..Plan::default() };
    let world = World::start(&format!("bench_tokens_{}", name.to_lowercase()), plan).await?;
    let client = world.client("tokens", json!({})).await?;
    world.may_obtain_tokens(&client, json!({ "validity": 10, "unit": "minutes", "uses": 0 })).await?;
    // From here on the password is known to be right.
    world.token(&client).await?;
    let manager = world.manager.process().context("the manager runs")?.id();
    let mut figures = CONNECTIONS.map(|_| Figures::new());
    for round in 0..rounds {
        for (connections, figures) in CONNECTIONS.into_iter().zip(&mut figures) {
            let load = Load {
                address: world.manager.address,
                from: None,
                calls: vec![load::wire(&asking(&client))],
                connections,
                lasts,
                pace: Pace::Saturated,
            };
            let before = cpu::process_ns(manager)?;
            let taken = load.run()?;
            let used = cpu::process_ns(manager)? - before;
            let tokens = taken.of(200);
            ensure!(
                tokens > 0 && tokens == taken.answers(),
                "not every call got a token: {:?}",
                taken.statuses
            );
            if round > 0 {
                figures.rate.add(taken.rate());
                figures.manager_us.add(used as f64 / 1_000.0 / tokens as f64);
                figures.p50_ms.add(taken.quantile_us(0.5) / 1_000.0);
                figures.p99_ms.add(taken.quantile_us(0.99) / 1_000.0);
            }
        }
        eprintln!("tokens on {name}: round {} of {rounds} done", round + 1);
    }
    let row = |(connections, figures): (usize, &Figures)| {
        vec![
            name.to_owned(),
            connections.to_string(),
            figures.rate.spread(0),
            figures.manager_us.spread(0),
            figures.p50_ms.spread(1),
            figures.p99_ms.spread(1),
        ]
    };
    Ok(CONNECTIONS.into_iter().zip(&figures).map(row).collect())
}

impl Figures {
    fn new() -> Self {
        let [rate, manager_us, p50_ms, p99_ms] = [(); 4].map(|()| Samples::default());
        Self { rate, manager_us, p50_ms, p99_ms }
    }
}
