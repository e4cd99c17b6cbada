//! Signatures that are wrong over 1 MiB, a hundred times a second: what they do to the other clients of
//! the same worker.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cast::{Pair, Terms};
use e2e::client::Call;
use e2e::envoy::{Envoy, Wiring};
use e2e::provision;
use e2e::world::{Plan, World};
use serde_json::json;

use crate::figures::{self, Samples};
use crate::filters::{self, json_of_bytes};
use crate::load::{self, Load, Pace};

const BODY_BYTES: usize = 1_048_576;
const WRONG_PER_SECOND: f64 = 100.0;
const OTHERS_PER_SECOND: f64 = 1_000.0;
const LASTS: Duration = Duration::from_secs(3);
/// Failed signatures are budgeted by address.
const STRANGER: [u8; 4] = [127, 0, 0, 9];

/// Measures and prints.
pub async fn run(rounds: usize) -> Result<()> {
    let world = World::start("bench_bodies", Plan { envoys: 0, ..Plan::default() }).await?;
    let api = world.api("bench", "/bench", json!({})).await?;
    let group = world.group("bench", &[&api]).await?;
    let terms = json!({ "groups": [group], "tps": 1_000_000, "quota": 1_000_000_000_u64 });
    let client = world.client("acme", terms).await?;
    let key = world.x_api_key(&client, &[&group], json!({})).await?;
    let signing = world.import(Pair::named("bench"), "bench", &Terms::new(&client, &[&api]))?;
    let wiring = Wiring {
        workers: 1,
        filter: provision::filter()?,
        upstream: world.upstream.address,
        manager: world.manager.address,
        token: world.gateway_token("bench")?,
        listeners: Vec::new(),
        replicas: Vec::new(),
    };
    let mut envoy = Envoy::configure(&world.folder.join("edge"), wiring)?;
    filters::edit(&mut envoy, |rendered| Ok(rendered.to_owned()))?;
    envoy.start().await?;

    let good = load::wire(&Call::get("/bench").x_api_key(&key.text));
    let signed = signing.sign(Call::post("/bench", "{}"));
    let wrong = load::wire(&signed.body(json_of_bytes(BODY_BYTES - 1)));
    let others = Load {
        address: envoy.address,
        from: None,
        calls: vec![good],
        connections: 16,
        lasts: LASTS,
        pace: Pace::PerSecond(OTHERS_PER_SECOND),
    };
    let strangers = Load {
        from: Some(IpAddr::from(STRANGER)),
        calls: vec![wrong],
        connections: 8,
        pace: Pace::PerSecond(WRONG_PER_SECOND),
        ..others.clone()
    };
    others.run().context("warm up")?;
    let mut alone = [Samples::default(), Samples::default()];
    let mut beside = [Samples::default(), Samples::default()];
    let mut refused = Samples::default();
    for _ in 0..rounds {
        let undisturbed = others.run()?;
        let (disturbed, failed) = std::thread::scope(|scope| {
            let failing = scope.spawn(|| strangers.run());
            let disturbed = others.run();
            let failed = failing.join().map_err(|_| anyhow::anyhow!("the strangers panicked"))?;
            anyhow::Ok((disturbed?, failed?))
        })?;
        for taken in [&undisturbed, &disturbed] {
            ensure!(taken.of(200) == taken.answers(), "others were refused: {:?}", taken.statuses);
        }
        ensure!(failed.of(200) == 0, "a wrong signature was let in");
        for (samples, taken) in [(&mut alone, &undisturbed), (&mut beside, &disturbed)] {
            let [p50, p99] = samples;
            p50.add(taken.quantile_us(0.5));
            p99.add(taken.quantile_us(0.99));
        }
        refused.add(failed.rate());
    }
    println!(
        "\n{OTHERS_PER_SECOND} calls a second of known clients on one worker, alone and beside {} wrong \
         signatures over 1 MiB a second from one address",
        refused.spread(0)
    );
    let row = |name: &str, [p50, p99]: &[Samples; 2]| vec![name.to_owned(), p50.spread(0), p99.spread(0)];
    figures::print(
        &["known clients", "p50 µs", "p99 µs"],
        &[row("alone", &alone), row("beside them", &beside)],
    );
    Ok(())
}
