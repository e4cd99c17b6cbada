//! One Envoy whose workers share a client's quota: how much goes through with 1, 2 and 8 of them, and that
//! exactly the limit does.

use std::time::Duration;

use anyhow::Result;
use e2e::client::Call;
use e2e::load;
use e2e::world::{Plan, World};
use serde_json::json;

const CONNECTIONS: usize = 32;
const LARGE: u64 = 100_000_000;
const LIMIT: u64 = 5_000;

async fn measured(workers: u32) -> Result<()> {
    let world = World::start(&format!("sharing_{workers}"), Plan { workers, ..Plan::default() }).await?;
    let orders = world.api("orders", "/orders", json!({})).await?;
    let group = world.group("partners", &[&orders]).await?;
    world.until_known(&Call::get("/orders")).await?;
    let addresses = [world.envoy().address];
    let mut calls = Vec::new();
    for (name, quota) in [("free", 0), ("large", LARGE), ("small", LIMIT)] {
        let quota = json!({ "groups": [group], "quota": quota, "quota_period": "total" });
        let client = world.client(name, quota).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        calls.push(Call::get(&format!("/orders/{name}")).x_api_key(&key.text));
    }
    let span = Duration::from_secs(if e2e::measures() { 5 } else { 1 });
    for (call, what) in calls.iter().zip(["no quota", "one quota"]) {
        let call = call.clone();
        let outcome = load::run_for(&addresses, CONNECTIONS, span, move |_| call.clone());
        let outcome = outcome.await?;
        let per_s = outcome.answered() as f64 / outcome.took.as_secs_f64();
        println!("{workers} workers, {what}: {per_s:.0} calls a second; {}", outcome.latency);
        assert_eq!(outcome.of("200"), outcome.answered(), "{:?}", outcome.verdicts);
    }
    let call = calls.pop().expect("three calls");
    load::run(&addresses, CONNECTIONS, 3 * LIMIT, move |_| call.clone()).await?;
    let reached = world.upstream.count("/orders/small");
    println!("{workers} workers, a quota of {LIMIT}: {reached} of {} let in", 3 * LIMIT);
    assert_eq!(reached, LIMIT);
    Ok(())
}

#[test]
fn at_1_2_and_8_workers_a_shared_quota_is_exact() -> Result<()> {
    e2e::run(async {
        let (all, most) = ([1, 2, 8].as_slice(), [8].as_slice());
        for workers in if e2e::measures() { all } else { most } {
            measured(*workers).await?;
        }
        Ok(())
    })
}
