//! Tokens that one manager issues in a second, each durable before it is answered.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client;
use e2e::tokens::{asking, form};
use e2e::world::{Database, Plan, World};
use serde_json::json;

use crate::figures::{self, Samples};
use crate::load::{self, Load, Pace};
use crate::{cpu, postgres_is_there};

/// How many ask at the same time.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Refresh tokens that are renewed in turn: renewals of one wait for each other.
const FAMILIES: usize = 128;

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
        "\ntokens issued, each durable before it is answered, by one manager that has seen the client's password before; \
         who asks runs on the same cores"
    );
    let headings =
        ["database", "grant", "connections", "tokens/s", "manager, µs per token", "p50 ms", "p99 ms"];
    figures::print(&headings, &rows);
    Ok(())
}

/// What asks for tokens by each grant. The password of a user is hashed each time, and measured nowhere: with
/// it the hash is what takes the time.
async fn grants(world: &World) -> Result<[(&'static str, Vec<Vec<u8>>); 2]> {
    let client = world.client("tokens", json!({})).await?;
    let terms = json!({ "validity": 10, "unit": "minutes", "uses": 0 });
    let settings = json!({
        "grant_types": ["client_credentials", "password", "refresh_token"], "redirect_urls": [],
        "access_token": terms, "refresh_token": { "validity": 1, "unit": "days", "uses": 0 },
    });
    world.admin.write("PUT", &format!("/api/v1/clients/{client}/token-settings"), "", settings).await?;
    world.admin.post("/api/v1/users", json!({ "name": "ann", "password": "secret-of-ann" })).await?;
    let signs_in = form(&client, "/oauth/token", "grant_type=password&username=ann&password=secret-of-ann");
    let mut renewals = Vec::new();
    for _ in 0..FAMILIES {
        let answer = client::http1(world.manager.address, &signs_in).await?;
        let token = answer.json()["refresh_token"].as_str().map(str::to_owned);
        let token = token.with_context(|| answer.text())?;
        let renews =
            form(&client, "/oauth/token", &format!("grant_type=refresh_token&refresh_token={token}"));
        renewals.push(load::wire(&renews));
    }
    // From here on the client's password is known to be right.
    Ok([("client_credentials", vec![load::wire(&asking(&client))]), ("refresh_token", renewals)])
}

async fn on(database: Database, name: &str, rounds: usize, lasts: Duration) -> Result<Vec<Vec<String>>> {
    // A caller of fixed bytes renews by the same text each time.
    let settings = vec![("refresh_token_reuse", "\"allow\"".to_owned())];
    let plan = Plan { envoys: 0, database, settings, ..Plan::default() };
    let world = World::start(&format!("bench_tokens_{}", name.to_lowercase()), plan).await?;
    let grants = grants(&world).await?;
    let manager = world.manager.process().context("the manager runs")?.id();
    let mut figures = [(); 2].map(|()| CONNECTIONS.map(|_| Figures::new()));
    for round in 0..rounds {
        for ((_, calls), figures) in grants.iter().zip(&mut figures) {
            for (connections, figures) in CONNECTIONS.into_iter().zip(figures) {
                let load = Load {
                    address: world.manager.address,
                    from: None,
                    calls: calls.clone(),
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
        }
        eprintln!("tokens on {name}: round {} of {rounds} done", round + 1);
    }
    let row = |grant: &str, connections: usize, figures: &Figures| {
        vec![
            name.to_owned(),
            grant.to_owned(),
            connections.to_string(),
            figures.rate.spread(0),
            figures.manager_us.spread(0),
            figures.p50_ms.spread(1),
            figures.p99_ms.spread(1),
        ]
    };
    let mut rows = Vec::new();
    for ((grant, _), figures) in grants.iter().zip(&figures) {
        rows.extend(
            CONNECTIONS.into_iter().zip(figures).map(|(connections, of)| row(grant, connections, of)),
        );
    }
    Ok(rows)
}

impl Figures {
    fn new() -> Self {
        let [rate, manager_us, p50_ms, p99_ms] = [(); 4].map(|()| Samples::default());
        Self { rate, manager_us, p50_ms, p99_ms }
    }
}
