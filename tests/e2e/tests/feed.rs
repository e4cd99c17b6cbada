//! The change feed when the worker that follows it dies: another one follows it, and what changed
//! meanwhile reaches everybody.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client::{Call, Connection};
use e2e::provision;
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::json;

const WORKERS: usize = 4;
/// Of a revocation, on every worker that lives.
const PROMISED: Duration = Duration::from_secs(1);
/// Within which a worker whose VM died has a new one.
const NEW_VM: Duration = Duration::from_secs(10);

/// Asks one worker until it says so.
async fn until_told(
    worker: &mut Connection,
    call: &Call,
    verdict: &str,
    limit: Duration,
) -> Result<Duration> {
    let began = wait::now();
    loop {
        let told = worker.send(call).await?.verdict();
        if told == verdict {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < limit, "{told} after {} ms, not {verdict}", limit.as_millis());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Each worker's VM is trapped in its turn, and so whichever leads.
#[test]
fn when_the_leading_worker_dies_another_leads_and_a_revocation_still_takes_a_second_at_most() -> Result<()> {
    e2e::run(async {
        let filter = Some(provision::trap_filter()?);
        let plan = Plan { filter, workers: u32::try_from(WORKERS)?, ..Plan::default() };
        let world = World::start("leader", plan).await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("partners", &[&orders]).await?;
        let client = world.client("acme", json!({ "groups": [group] })).await?;
        world.until_known(&Call::get("/orders")).await?;
        let mut workers = world.envoy().connection_to_each_worker(WORKERS).await?;
        let trapping = Call::get("/orders/trap").header("x-keygate-test-trap", "1");
        for dying in 0..WORKERS {
            let key = world.x_api_key(&client, &[&group], json!({})).await?;
            let call = Call::get("/orders/1").x_api_key(&key.text);
            for worker in &mut workers {
                until_told(worker, &call, "200", NEW_VM).await.context("before anything dies")?;
            }
            let worker = workers.get_mut(dying).context("a connection to each worker")?;
            ensure!(worker.send(&trapping).await?.status == 503, "the request that traps");
            let called = wait::now();
            world.operator().delete(&format!("/api/v1/x-api-keys/{}", key.id)).await?;
            let mut slowest = Duration::ZERO;
            for (_, worker) in workers.iter_mut().enumerate().filter(|(number, _)| *number != dying) {
                until_told(worker, &call, "401 credential_unknown", PROMISED).await?;
                slowest = slowest.max(called.elapsed());
            }
            println!(
                "worker {dying} trapped: revoked on the others after {} ms at most",
                slowest.as_millis()
            );
            ensure!(slowest <= PROMISED, "{} ms", slowest.as_millis());
            let worker = workers.get_mut(dying).context("a connection to each worker")?;
            until_told(worker, &call, "401 credential_unknown", NEW_VM).await.context("on the new VM")?;
        }
        assert_eq!(world.upstream.count("/orders/trap"), 0);
        Ok(())
    })
}
