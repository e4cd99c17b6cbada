//! What does not depend on the number of keys, and what does: a manager's start, memory and look-ups with
//! a thousand to a million keys on record, and Envoy's memory and CPU with many of them cached.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client::Call;
use e2e::envoy::{Envoy, Wiring};
use e2e::world::{Plan, World};
use e2e::{provision, wait};
use gate::credential::x_api_key;
use gate::id::{HolderId, Revision};
use gate::wire::exchange::{ExchangeRequest, Presented};
use gate::wire::{EXCHANGE_PATH, WIRE_VERSION};
use serde_json::json;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use crate::figures;
use crate::load::{self, Load, Pace};
use crate::{cpu, filters};

/// So many keys are on record, step by step.
const STEPS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// So many of them a worker is given to cache.
const CACHED: u32 = 10_000;
/// Credentials in one exchange, as when many callers come at once.
const BATCH: usize = 64;
const LASTS: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 8;

/// Measures and prints.
pub async fn run() -> Result<()> {
    let mut yard = Yard::start().await?;
    let mut rows = Vec::new();
    for keys in STEPS {
        rows.push(yard.with_keys(keys).await?);
    }
    println!("\nthe manager, by keys on record (X-Api-Keys, SQLite)");
    let headings = [
        "keys",
        "start to ready, ms",
        "memory at start, MiB",
        "after look-ups, MiB",
        "look-ups/s",
        "…64 per call",
    ];
    figures::print(&headings, &rows);
    yard.caching().await
}

struct Yard {
    world: World,
    token: String,
    on_record: u32,
    /// The key that the others are copies of.
    model: String,
}

/// The text of the n-th key.
fn text(n: u32) -> String {
    format!("bench-key-{n:08}-b4d7f1c2a9e84c3d")
}

/// How an exchange names the key of this text.
pub fn sha256(text: &str) -> Result<String> {
    let key = x_api_key::parse(text.as_bytes()).context("a key's text")?;
    Ok(key.fingerprint().to_hex())
}

impl Yard {
    async fn start() -> Result<Self> {
        let world = World::start("bench_keys", Plan { envoys: 0, ..Plan::default() }).await?;
        let api = world.api("bench", "/bench", json!({})).await?;
        let group = world.group("bench", &[&api]).await?;
        let counted = json!({ "groups": [group], "tps": 1_000_000, "quota": 1_000_000_000_u64 });
        let client = world.client("acme", counted).await?;
        let model = world.x_api_key(&client, &[&group], json!({})).await?.id;
        let token = world.gateway_token("bench")?;
        Ok(Self { world, token, on_record: 0, model })
    }

    /// Puts keys on record until there are so many, and measures.
    async fn with_keys(&mut self, keys: u32) -> Result<Vec<String>> {
        eprintln!("{keys} keys");
        self.world.manager.stop().await?;
        self.copy_model(keys).await?;
        let begun = wait::now();
        self.world.manager.start().await?;
        let ready = begun.elapsed();
        let at_start = self.manager_mib()?;
        let one_each = self.look_ups(keys, 1)?;
        let batched = self.look_ups(keys, BATCH)?;
        Ok(vec![
            keys.to_string(),
            ready.as_millis().to_string(),
            format!("{at_start:.0}"),
            format!("{:.0}", self.manager_mib()?),
            format!("{one_each:.0}"),
            format!("{batched:.0}"),
        ])
    }

    /// A million calls of the API would take most of an hour, so keys are multiplied where they lie.
    async fn copy_model(&mut self, keys: u32) -> Result<()> {
        let file = self.world.manager.folder().join("keygate.db");
        let mut database = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await?;
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info('x_api_keys')")
            .fetch_all(&mut database)
            .await?;
        let copied: Vec<&str> = columns
            .iter()
            .map(|column| match column.as_str() {
                "id" => "$1",
                "sha256" => "$2",
                other => other,
            })
            .collect();
        let key = format!(
            "INSERT INTO x_api_keys ({}) SELECT {} FROM x_api_keys WHERE id = $3",
            columns.join(", "),
            copied.join(", ")
        );
        let groups =
            "INSERT INTO x_api_key_groups SELECT $1, group_id FROM x_api_key_groups WHERE x_api_key_id = $2";
        let mut writing = database.begin().await?;
        for n in self.on_record..keys {
            let id = format!("xak_bench{n:021}");
            sqlx::query(sqlx::AssertSqlSafe(key.clone()))
                .bind(&id)
                .bind(sha256(&text(n))?)
                .bind(&self.model)
                .execute(&mut *writing)
                .await?;
            sqlx::query(groups).bind(&id).bind(&self.model).execute(&mut *writing).await?;
        }
        writing.commit().await?;
        self.on_record = keys;
        Ok(())
    }

    fn manager_mib(&self) -> Result<f64> {
        let process = self.world.manager.process().context("the manager runs")?;
        Ok(process.rss_kib()? as f64 / 1024.0)
    }

    /// Credentials looked up in a second, spread over all that are on record.
    fn look_ups(&self, keys: u32, batch: usize) -> Result<f64> {
        let mut spread = (0_u32..).map(|n| n.wrapping_mul(2_654_435_761) % keys);
        let calls = (0..1_000)
            .map(|_| {
                let resolve =
                    spread.by_ref().take(batch).map(|n| Ok(Presented::XApiKey { sha256: sha256(&text(n))? }));
                Ok(load::wire(&self.exchange(resolve.collect::<Result<_>>()?)?))
            })
            .collect::<Result<_>>()?;
        let load = Load {
            address: self.world.manager.address,
            from: None,
            calls,
            connections: CONNECTIONS,
            lasts: LASTS,
            pace: Pace::Saturated,
        };
        let taken = load.run()?;
        ensure!(taken.of(200) == taken.answers(), "exchanges were refused: {:?}", taken.statuses);
        Ok(taken.rate() * batch as f64)
    }

    fn exchange(&self, resolve: Vec<Presented>) -> Result<Call> {
        let request = ExchangeRequest {
            version: WIRE_VERSION,
            holder: HolderId([7; 16]),
            slot: 0,
            filter_version: "bench".into(),
            directory: Revision(0),
            feed: Revision(0),
            leases_held: 0,
            resolve,
            renew: Vec::new(),
            usage: None,
        };
        let body = serde_json::to_string(&request)?;
        Ok(Call::post(EXCHANGE_PATH, body).header("authorization", format!("Bearer {}", self.token)))
    }

    /// What cached keys cost Envoy.
    async fn caching(&self) -> Result<()> {
        let wiring = Wiring {
            workers: 1,
            filter: provision::filter()?,
            upstream: self.world.upstream.address,
            manager: self.world.manager.address,
            token: self.token.clone(),
            listeners: Vec::new(),
            replicas: Vec::new(),
        };
        let mut envoy = Envoy::configure(&self.world.folder.join("edge"), wiring)?;
        filters::edit(&mut envoy, |rendered| Ok(rendered.to_owned()))?;
        envoy.start().await?;
        let process = envoy.process_id().context("it was just started")?;
        let (mut rows, mut with_one) = (Vec::new(), None);
        for cached in [1, 100, 1_000, CACHED] {
            let calls: Vec<Vec<u8>> =
                (0..cached).map(|n| load::wire(&Call::get("/bench").x_api_key(&text(n)))).collect();
            let load = |connections, pace, lasts| Load {
                address: envoy.address,
                from: None,
                calls: calls.clone(),
                connections,
                lasts,
                pace,
            };
            // Each of them is asked for once; from the second turn on all are cached.
            let filling = Duration::from_secs(20);
            let filled = load(
                CONNECTIONS,
                Pace::PerSecond(2_000.0),
                filling.mul_f64(f64::from(cached).max(1_000.0) / 20_000.0),
            )
            .run()?;
            ensure!(filled.of(200) == filled.answers(), "keys were refused: {:?}", filled.statuses);
            let before = cpu::worker_ns(process)?;
            let taken = load(16, Pace::Saturated, LASTS).run()?;
            ensure!(taken.of(200) == taken.answers(), "keys were refused: {:?}", taken.statuses);
            let us = (cpu::worker_ns(process)? - before) as f64 / 1_000.0 / taken.answers() as f64;
            let mib = envoy.rss_kib()? as f64 / 1024.0;
            let more = mib - *with_one.get_or_insert(mib);
            rows.push(vec![
                cached.to_string(),
                format!("{mib:.1}"),
                format!("{more:.1}"),
                format!("{us:.2}"),
                format!("{:.0}", taken.quantile_us(0.5)),
                format!("{:.0}", taken.quantile_us(0.99)),
            ]);
        }
        println!("\nEnvoy with one worker, by keys cached, of {} on record (TPS + meter)", self.on_record);
        figures::print(
            &[
                "keys called in turn",
                "memory of Envoy, MiB",
                "more than with one, MiB",
                "worker, µs per request",
                "p50 µs",
                "p99 µs",
            ],
            &rows,
        );
        Ok(())
    }
}
