//! Outages that last: what goes on, what is refused after how long, and how everything comes back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cast::XApiKey;
use e2e::client::{Call, Connection};
use e2e::faulty_proxy::FaultyProxy;
use e2e::load::{self, Outcome};
use e2e::wait;
use e2e::world::{Plan, World};
use gate::wire::{CHANGES_PATH, DIRECTORY_PATH, EXCHANGE_PATH};
use serde_json::json;

const ENVOYS: usize = 2;
const WORKERS: usize = 2;
/// Far more than two horizons of what these tests can spend, and a lease of a horizon is below one per
/// cent of it.
const LARGE: u64 = 100_000_000;
/// A restart of the manager that nobody with quota notices.
const RESTART: Duration = Duration::from_secs(20);
/// Calls of one worker that are under way at the manager at a time, at most: four exchanges, a poll, and a
/// fetch of the directory.
const UNDER_WAY_PER_WORKER: u64 = 6;
/// Calls of one worker to the manager, in any second of a recovery.
const RECOVERY_CALLS_PER_WORKER: u64 = 60;
/// Within which everybody is served when the manager is back.
const RECOVERY: Duration = Duration::from_secs(5);

async fn world(name: &str, settings: &[(&'static str, &str)]) -> Result<(World, String)> {
    let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let plan = Plan { envoys: ENVOYS, workers: u32::try_from(WORKERS)?, settings, ..Plan::default() };
    let world = World::start(name, plan).await?;
    let orders = world.api("orders", "/orders", json!({})).await?;
    let group = world.group("partners", &[&orders]).await?;
    world.until_known(&Call::get("/orders")).await?;
    Ok((world, group))
}

/// A key of a client with a quota.
async fn metered(world: &World, group: &str, name: &str) -> Result<XApiKey> {
    let quota = json!({ "groups": [group], "quota": LARGE, "quota_period": "total" });
    let client = world.client(name, quota).await?;
    world.x_api_key(&client, &[group], json!({})).await
}

fn addresses(world: &World) -> Vec<SocketAddr> {
    world.envoys.iter().map(|envoy| envoy.address).collect()
}

fn calls_to_the_manager(proxy: &FaultyProxy) -> u64 {
    [CHANGES_PATH, DIRECTORY_PATH, EXCHANGE_PATH].iter().map(|path| proxy.calls(path)).sum()
}

/// The most calls in any of the next `seconds`.
async fn most_calls_in_a_second(proxy: FaultyProxy, seconds: usize) -> u64 {
    let mut counts = vec![calls_to_the_manager(&proxy)];
    for _ in 0..seconds * 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        counts.push(calls_to_the_manager(&proxy));
    }
    counts.iter().zip(counts.iter().skip(10)).map(|(from, to)| to - from).max().unwrap_or(0)
}

async fn ended(load: tokio::task::JoinHandle<Result<Outcome>>) -> Result<Outcome> {
    let outcome = load.await.context("the load")??;
    println!(
        "{} calls in {:.1} s: {:?}, {} unanswered; {}",
        outcome.answered(),
        outcome.took.as_secs_f64(),
        outcome.verdicts,
        outcome.unanswered,
        outcome.latency
    );
    Ok(outcome)
}

/// Holds recovery to its bounds, as the manager saw it.
fn is_no_stampede(most_in_a_second: u64, most_under_way: u64) -> Result<()> {
    let workers = (ENVOYS * WORKERS) as u64;
    println!(
        "recovery of {workers} workers: {most_in_a_second} calls in the worst second, {most_under_way} at a time"
    );
    ensure!(most_in_a_second <= RECOVERY_CALLS_PER_WORKER * workers, "{most_in_a_second} calls in a second");
    ensure!(most_under_way <= UNDER_WAY_PER_WORKER * workers, "{most_under_way} calls at a time");
    Ok(())
}

#[test]
fn a_manager_that_is_away_for_20_s_at_full_load_refuses_nobody_who_has_two_horizons_left() -> Result<()> {
    e2e::run(async {
        // All of it as it is by default.
        let (mut world, group) = world("restart", &[("quota_wait_ms", "300")]).await?;
        let mut calls = Vec::new();
        for name in ["ann", "bob", "eve", "joe"] {
            let key = metered(&world, &group, name).await?;
            calls.push(Call::get(&format!("/orders/{name}")).x_api_key(&key.text));
        }
        // Each first call waits for its look-up, which a busy machine may take longer for than 300 ms.
        for call in &calls {
            for envoy in &world.envoys {
                let known = || async { (envoy.call(call).await.ok()?.status == 200).then_some(()) };
                wait::until("a first lease", RECOVERY, known).await?;
            }
        }
        // That every moment is as good is shown in `gate/src/quota/holder/asking.rs`.
        let (settle, after) = (Duration::from_secs(8), Duration::from_secs(4));
        let pick = move |n: u64| calls[usize::try_from(n).unwrap_or(0) % calls.len()].clone();
        let addresses = addresses(&world);
        let load =
            tokio::spawn(async move { load::run_for(&addresses, 16, settle + RESTART + after, pick).await });
        tokio::time::sleep(settle).await;
        world.manager.kill();
        tokio::time::sleep(RESTART).await;
        world.proxy.most_under_way();
        let counting = tokio::spawn(most_calls_in_a_second(world.proxy.clone(), 4));
        world.manager.start().await?;
        let most = counting.await?;
        let outcome = ended(load).await?;
        assert_eq!(outcome.of("200"), outcome.answered(), "nobody is refused: {:?}", outcome.verdicts);
        assert_eq!(outcome.unanswered, 0);
        is_no_stampede(most, world.proxy.most_under_way())
    })
}

#[test]
fn beyond_its_staleness_everybody_is_refused_by_name_and_then_served_without_a_stampede() -> Result<()> {
    const KEYS: usize = 200;
    const AWAY: Duration = Duration::from_secs(8);
    e2e::run(async {
        let (mut world, group) = world("stampede", &[("max_staleness_s", "3")]).await?;
        let quota = json!({ "groups": [group], "quota": LARGE, "quota_period": "total" });
        let client = world.client("acme", quota).await?;
        let mut calls = Vec::new();
        for _ in 0..KEYS {
            let key = world.x_api_key(&client, &[&group], json!({})).await?;
            calls.push(Call::get("/orders/1").x_api_key(&key.text));
        }
        let pick = move |n: u64| calls[usize::try_from(n).unwrap_or(0) % calls.len()].clone();
        let addresses = addresses(&world);
        for envoy in &world.envoys {
            for mut worker in envoy.connection_to_each_worker(WORKERS).await? {
                for n in 0..KEYS {
                    let answer = worker.send(&pick(n as u64)).await?;
                    ensure!(answer.status == 200, "each worker is to hold each grant: {}", answer.text());
                }
            }
        }
        world.manager.kill();
        let away = load::run_for(&addresses, 32, AWAY, pick.clone()).await?;
        println!("away: {:?}", away.verdicts);
        let expected = ["200", "503 stale", "503 quota_unavailable"];
        assert!(
            away.verdicts.keys().all(|verdict| expected.contains(&verdict.as_str())),
            "{:?}",
            away.verdicts
        );
        assert!(away.of("503 stale") > 0, "{:?}", away.verdicts);
        assert_eq!(away.unanswered, 0);

        // As many as can be wait at the door.
        world.proxy.most_under_way();
        let counting = tokio::spawn(most_calls_in_a_second(world.proxy.clone(), 6));
        let again = pick.clone();
        let load =
            tokio::spawn(async move { load::run_for(&addresses, 32, Duration::from_secs(6), again).await });
        world.manager.start().await?;
        let started = wait::now();
        for envoy in &world.envoys {
            let served = || async { (envoy.call(&pick(0)).await.ok()?.status == 200).then_some(()) };
            wait::until("an admitted call", RECOVERY, served).await?;
        }
        println!("served again {} ms after the manager was ready", started.elapsed().as_millis());
        let most = counting.await?;
        ended(load).await?;
        is_no_stampede(most, world.proxy.most_under_way())?;
        let addresses = world.envoys.iter().map(|envoy| envoy.address).collect::<Vec<_>>();
        let outcome = load::run(&addresses, 32, 2 * KEYS as u64, pick).await?;
        assert_eq!(outcome.of("200"), 2 * KEYS as u64, "{:?}", outcome.verdicts);
        Ok(())
    })
}

/// Envoy's time passes faster while the manager is away. What it demands in its own time stays the same.
#[test]
fn with_horizon_and_staleness_of_4000_s_an_hour_passes_without_a_refusal() -> Result<()> {
    const HASTE: u32 = 120;
    const HOUR: Duration = Duration::from_secs(3_600);
    const STALENESS: Duration = Duration::from_secs(4_000);
    const CONNECTIONS: usize = 4;
    /// Envoy's own patience of 15 s with an upstream, which is in no hurry: an eighth of a second here.
    const SLOW_UPSTREAM: &str = "504";
    /// Between two calls of one of them.
    const PAUSE: Duration = Duration::from_secs(2);
    e2e::run(async {
        let settings = vec![("lease_horizon_s", "4000".into()), ("max_staleness_s", "4000".into())];
        let plan = Plan { settings, start_envoys: false, ..Plan::default() };
        let mut world = World::start("hour", plan).await?;
        let envoy = world.envoys.first_mut().context("the plan has one")?;
        envoy.set_haste(1)?;
        envoy.start().await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("partners", &[&orders]).await?;
        world.until_known(&Call::get("/orders")).await?;
        let key = metered(&world, &group, "acme").await?;
        let unseen = metered(&world, &group, "late").await?;
        let call = Call::get("/orders/hour").x_api_key(&key.text);

        let mut workers = world.envoy().connection_to_each_worker(WORKERS).await?;
        workers.extend(world.envoy().connection_to_each_worker(WORKERS).await?);
        assert_eq!(workers.len(), CONNECTIONS);
        let demand = async |workers: &mut [Connection], span: Duration, pause: Duration| -> Result<Outcome> {
            let mut outcome = Outcome::default();
            let began = wait::now();
            while began.elapsed() < span {
                for worker in &mut *workers {
                    let answer = worker.send(&call).await?;
                    *outcome.verdicts.entry(answer.verdict()).or_default() += 1;
                    tokio::time::sleep(pause / CONNECTIONS as u32).await;
                }
            }
            Ok(outcome)
        };
        // Two calls a second, as measured by the node.
        let before = demand(&mut workers, Duration::from_secs(6), PAUSE).await?;
        assert_eq!(before.of("200"), before.answered(), "{:?}", before.verdicts);

        world.manager.kill();
        let envoy = world.envoys.first_mut().context("the plan has one")?;
        envoy.set_haste(i64::from(HASTE))?;
        let hour = demand(&mut workers, HOUR / HASTE, PAUSE / HASTE).await?;
        println!("an hour: {:?}", hour.verdicts);
        assert_eq!(hour.of("200") + hour.of(SLOW_UPSTREAM), hour.answered(), "{:?}", hour.verdicts);
        assert!(hour.of(SLOW_UPSTREAM) * 20 < hour.answered(), "{:?}", hour.verdicts);
        // A busy machine does not keep up.
        let least = HOUR.as_secs() / PAUSE.as_secs() * CONNECTIONS as u64 / 4;
        assert!(hour.answered() > least, "{} calls in an hour, fewer than {least}", hour.answered());

        // The rest of its staleness, and a little more.
        let beyond = (STALENESS - HOUR) / HASTE + Duration::from_secs(2);
        let beyond = demand(&mut workers, beyond, PAUSE / HASTE).await?;
        println!("beyond: {:?}", beyond.verdicts);
        let expected = ["200", "503 stale", "503 quota_unavailable", SLOW_UPSTREAM];
        assert!(beyond.verdicts.keys().all(|verdict| expected.contains(&verdict.as_str())), "{beyond:?}");
        for worker in &mut workers {
            assert_eq!(worker.send(&call).await?.verdict(), "503 stale");
        }

        let envoy = world.envoys.first_mut().context("the plan has one")?;
        envoy.set_haste(1)?;
        world.manager.start().await?;
        for key in [&key, &unseen] {
            let call = Call::get("/orders/hour").x_api_key(&key.text);
            let served = || async { (world.call(&call).await.ok()?.status == 200).then_some(()) };
            wait::until("an admitted call", RECOVERY, served).await?;
        }
        Ok(())
    })
}
