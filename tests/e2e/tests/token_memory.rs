//! Short-lived tokens by the thousand: what a gateway holds of them, and the manager, goes with them. The long
//! form (`cargo xtask measure tokens`) has 20,000.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::client::{Call, Connection, Protocol};
use e2e::envoy::Envoy;
use e2e::tokens::asking;
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::json;
use tokio::task::JoinSet;

const FEW: u64 = 1_500;
const MANY: u64 = 20_000;
/// Who asks for a token and presents it once, again and again.
const CALLERS: usize = 8;
const VALIDITY_S: u64 = 2;
/// A token that has expired is held as long as an "unknown" is believed; then it leaves as the cache is swept.
const LEAVES: Duration = Duration::from_secs(40);
/// Forgetting begins by itself, and takes what there is batch by batch.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Grants that all workers hold.
async fn held(envoy: &Envoy) -> Result<u64> {
    let stats = envoy.stats().await?;
    let gauges: Vec<u64> = stats
        .iter()
        .filter(|(name, _)| name.contains("keygate_grants_held"))
        .map(|(_, value)| *value)
        .collect();
    ensure!(!gauges.is_empty(), "no worker tells what it holds");
    Ok(gauges.iter().sum())
}

#[test]
fn thousands_of_short_lived_tokens_leave_nothing_behind() -> Result<()> {
    e2e::run(async {
        let count = if e2e::measures() { MANY } else { FEW };
        let settings = vec![("token_retention_h", "1".to_owned())];
        let mut world = World::start("token_memory", Plan { settings, ..Plan::default() }).await?;
        let orders = world.api("orders", "/orders", json!({ "accepts": ["bearer"] })).await?;
        let group = world.group("partners", &[&orders]).await?;
        let client = world.client("acme", json!({ "groups": [group] })).await?;
        let terms = json!({ "validity": VALIDITY_S, "unit": "seconds", "uses": 0 });
        world.may_obtain_tokens(&client, terms).await?;
        world.until_known(&Call::get("/orders")).await?;

        let (manager, gateway) = (world.manager.address, world.envoy().address);
        let (rss, started) = (world.envoy().rss_kib()?, wait::now());
        let next = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (next, asks) = (next.clone(), asking(&client));
            callers.spawn(async move {
                let mut asking = Connection::open(manager, Protocol::Http1).await?;
                let mut calling = Connection::open(gateway, Protocol::Http1).await?;
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let issued = asking.send(&asks).await?;
                    let token = issued.json()["access_token"].as_str().map(str::to_owned);
                    let token = token.with_context(|| issued.text())?;
                    let answer = calling.send(&Call::get("/orders/1").bearing(&token)).await?;
                    // On a busy machine two seconds may pass in between.
                    ensure!(matches!(answer.code().as_str(), "" | "credential_expired"), "{}", answer.text());
                }
                anyhow::Ok(())
            });
        }
        let (mut most, mut greatest_rss) = (0, rss);
        while next.load(Ordering::Relaxed) < count {
            most = most.max(held(world.envoy()).await?);
            greatest_rss = greatest_rss.max(world.envoy().rss_kib()?);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while let Some(caller) = callers.join_next().await {
            caller??;
        }
        let took = started.elapsed();
        wait::until("the last token to leave the gateway", LEAVES, async || {
            (held(world.envoy()).await.ok()? == 0).then_some(())
        })
        .await?;
        println!(
            "{count} tokens of {VALIDITY_S} s in {:.0} s: held at most {most} at once, 0 in the end; Envoy grew by {} KiB",
            took.as_secs_f64(),
            greatest_rss - rss
        );
        ensure!(most > 0, "they were held");
        ensure!(count < MANY || most < count / 2, "{most} of {count} are held at once");

        // At the manager: an hour after their end they are forgotten.
        let list = format!("/api/v1/clients/{client}/tokens?limit=1");
        let there = world.admin.get(&list).await?["items"].as_array().context("a list")?.len();
        ensure!(there == 1, "they are on record");
        world.manager.stop().await?;
        world.manager.set_day(1);
        world.manager.start().await?;
        let begun = wait::now();
        wait::until("the last token to be forgotten", FORGOTTEN, async || {
            let listed = world.admin.get(&list).await.ok()?;
            listed["items"].as_array()?.is_empty().then_some(())
        })
        .await?;
        println!("forgotten by the manager in {:?}", begun.elapsed());
        Ok(())
    })
}
