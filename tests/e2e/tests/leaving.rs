//! What comes back of leases when a listener is removed, when traffic has drained, and when a process ends.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use e2e::client::Call;
use e2e::world::{Plan, World};
use e2e::{load, wait};
use serde_json::{Value, json};

/// Calls that make a node hold some.
const CALLS: u64 = 300;
const QUOTA: u64 = 10_000;
/// For so long a listener drains that is replaced: less than after which an idle lease goes back by itself.
const SHORT_DRAIN_S: u32 = 1;
/// And longer than that. (Envoy's default is 600 s.)
const DRAIN_S: u32 = 4;
/// How long units may take to come back: draining, what the gate allows itself, and a slow machine.
const BACK: Duration = Duration::from_secs(10);

struct Stage {
    world: World,
    meter: String,
    call: Call,
}

impl Stage {
    async fn start(name: &str, drain_s: u32) -> Result<Self> {
        let mut world = World::start(name, Plan { start_envoys: false, ..Plan::default() }).await?;
        let envoy = world.envoys.first_mut().expect("one");
        envoy.watch_listeners(drain_s)?;
        envoy.start().await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("partners", &[&orders]).await?;
        world.until_known(&Call::get("/orders")).await?;
        let quota = json!({ "groups": [group], "quota": QUOTA, "quota_period": "total", "tps": 0 });
        let client = world.client("shop", quota).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        let meter = format!("/api/v1/meters/client_quota/{client}");
        Ok(Self { world, meter, call: Call::get("/orders/1").x_api_key(&key.text) })
    }

    /// Calls on both workers, until the moment of return.
    async fn calls(&self) -> Result<()> {
        let (call, envoy) = (self.call.clone(), self.world.envoy());
        let outcome = load::run(&[envoy.address], 8, CALLS, move |_| call.clone()).await?;
        assert_eq!(outcome.of("200"), CALLS, "{:?}", outcome.verdicts);
        Ok(())
    }

    async fn meter(&self) -> Result<Value> {
        self.world.admin.get(&self.meter).await
    }

    /// Nothing is held, and exactly what was let in is used.
    async fn all_is_back(&self) -> Result<()> {
        let started = wait::now();
        loop {
            let meter = self.meter().await?;
            if meter["held"] == 0 {
                println!("back after {:?}: {meter}", started.elapsed());
                let reached = self.world.upstream.count("/orders/1");
                assert_eq!((&meter["used"], &meter["withheld"]), (&json!(reached), &json!(0)), "{meter}");
                return Ok(());
            }
            assert!(started.elapsed() < BACK, "after {:?}: {meter}", started.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn crashed(log: &Path) -> bool {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    ["Segmentation fault", "Caught ", "assert failure"].iter().any(|sign| text.contains(sign))
}

#[test]
fn units_of_a_removed_listener_come_back() -> Result<()> {
    e2e::run(async {
        let stage = Stage::start("removed_listener", DRAIN_S).await?;
        stage.calls().await?;
        let held = stage.meter().await?["held"].as_u64();
        assert!(held > Some(0), "{held:?}");
        stage.world.envoy().remove_listeners()?;
        stage.all_is_back().await?;
        let mut stage = stage;
        let envoy = stage.world.envoys.first_mut().expect("one");
        let log = envoy.log_file();
        envoy.stop().await?;
        assert!(!crashed(&log), "{}", log.display());
        Ok(())
    })
}

/// The new configuration has no request yet, and the old one is gone before its leases are idle.
#[test]
fn units_of_a_replaced_configuration_come_back() -> Result<()> {
    e2e::run(async {
        let stage = Stage::start("replaced_configuration", SHORT_DRAIN_S).await?;
        stage.calls().await?;
        stage.world.envoy().change_listeners("/keygate/health", "/keygate/alive")?;
        stage.all_is_back().await?;
        // And whoever comes then is let in.
        assert_eq!(stage.world.call(&stage.call).await?.status, 200);
        Ok(())
    })
}

#[test]
fn idle_units_are_back_before_a_drained_process_ends() -> Result<()> {
    e2e::run(async {
        let mut stage = Stage::start("drained_process", DRAIN_S).await?;
        stage.calls().await?;
        stage.all_is_back().await?;
        stage.world.envoys.first_mut().expect("one").stop().await?;
        let meter = stage.meter().await?;
        assert_eq!((&meter["held"], &meter["withheld"]), (&json!(0), &json!(0)), "{meter}");
        Ok(())
    })
}

#[test]
fn a_process_that_ends_under_traffic_keeps_two_leases_at_most_and_does_not_crash() -> Result<()> {
    e2e::run(async {
        let mut stage = Stage::start("ended_process", DRAIN_S).await?;
        stage.calls().await?;
        let envoy = stage.world.envoys.first_mut().expect("one");
        let log = envoy.log_file();
        envoy.stop().await?;
        assert!(!crashed(&log), "{}", log.display());
        let meter = stage.meter().await?;
        let (used, held, lease) =
            (meter["used"].as_u64(), meter["held"].as_u64(), meter["max_lease"].as_u64());
        let [Some(used), Some(held), Some(lease)] = [used, held, lease] else { panic!("{meter}") };
        let reached = stage.world.upstream.count("/orders/1");
        assert!(used >= reached && used <= reached + 2 * lease && held <= 2 * lease, "{reached}: {meter}");
        Ok(())
    })
}
