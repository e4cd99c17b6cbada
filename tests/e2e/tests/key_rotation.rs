//! The key that signs tokens is changed while they are obtained and presented, and while a gateway is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::client::Call;
use e2e::faulty_proxy::FaultyProxy;
use e2e::load;
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::{Value, json};

/// For how long a gateway goes on that is cut off.
const STALENESS_S: u64 = 2;
/// What became known at the manager is known to every gateway that reaches it.
const LIMIT: Duration = Duration::from_secs(10);
/// Beside everything that is done.
const CALLERS: usize = 4;

fn key_of(token: &str) -> Result<String> {
    let head = token.split('.').next().context("a head")?;
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head)?)?;
    Ok(head["kid"].as_str().context("a key")?.to_owned())
}

fn bearing(token: &str) -> Call {
    Call::get("/orders/1").bearing(token)
}

#[test]
fn no_call_fails_while_the_key_of_tokens_is_changed() -> Result<()> {
    e2e::run(async {
        let settings = vec![("max_staleness_s", STALENESS_S.to_string())];
        let mut world = World::start(
            "key_rotation",
            Plan { envoys: 2, settings, start_envoys: false, ..Plan::default() },
        )
        .await?;
        // The second gateway reaches the manager by a way of its own, which is cut.
        let way = FaultyProxy::start(world.manager.address).await?;
        let shared = format!("port_value: {}", world.proxy.address.port());
        let [first, second] = world.envoys.as_mut_slice() else { unreachable!("two were planned") };
        second.change(&shared, &format!("port_value: {}", way.address.port()))?;
        first.start().await?;
        second.start().await?;
        let (connected, cut_off) = (first.address, second.address);

        let orders = world.api("orders", "/orders", json!({ "accepts": ["bearer"] })).await?;
        let group = world.group("partners", &[&orders]).await?;
        let client = world.client("acme", json!({ "groups": [group] })).await?;
        world.may_obtain_tokens(&client, json!({ "validity": 20, "unit": "days", "uses": 0 })).await?;
        world.until_known(&Call::get("/orders")).await?;
        let before = world.token(&client).await?;
        for envoy in &world.envoys {
            assert_eq!(envoy.call(&bearing(&before)).await?.status, 200);
        }

        let going_on = Arc::new(AtomicBool::new(true));
        let load = {
            let (token, going_on) = (before.clone(), going_on.clone());
            tokio::spawn(load::run_while(vec![connected], CALLERS, going_on, move |_| bearing(&token)))
        };
        way.set(e2e::faulty_proxy::Faults { refuse: true, ..Default::default() });
        way.cut();
        let stale = async || {
            let answer = world.envoys.get(1)?.call(&bearing(&before)).await.ok()?;
            (answer.code() == "stale").then_some(())
        };
        wait::until("the gateway that is cut off to be stale", LIMIT, stale).await?;

        // The next key is known to the others long before it signs: two minutes and the staleness. They pass
        // for the manager alone, which is another day's when it comes back.
        world.manager.run(&["keys", "rotate"])?;
        let still = world.token(&client).await?;
        assert_eq!(key_of(&still)?, key_of(&before)?, "it does not sign yet");
        world.manager.stop().await?;
        world.manager.set_day(1);
        world.manager.start().await?;
        let after = world.token(&client).await?;
        assert_ne!(key_of(&after)?, key_of(&before)?, "the next key signs");
        let first_call = world.envoys.first().context("an Envoy")?.call(&bearing(&after)).await?;
        assert_eq!(first_call.status, 200, "{}", first_call.text());

        // Whoever presents the new token where it is not known yet is told to come back, not that it is nobody's.
        let meanwhile = {
            let (token, going_on) = (after.clone(), going_on.clone());
            tokio::spawn(load::run_while(vec![cut_off], CALLERS, going_on, move |_| bearing(&token)))
        };
        way.set(Default::default());
        let back = async || {
            let answer = world.envoys.get(1)?.call(&bearing(&after)).await.ok()?;
            (answer.status == 200).then_some(())
        };
        wait::until("the gateway to be back", LIMIT, back).await?;
        for envoy in &world.envoys {
            assert_eq!(envoy.call(&bearing(&before)).await?.status, 200, "what was signed before serves on");
        }
        going_on.store(false, Ordering::Relaxed);
        let (load, meanwhile) = (load.await??, meanwhile.await??);
        println!("beside it: {:?}; where it was cut off: {:?}", load.verdicts, meanwhile.verdicts);
        ensure!(load.unanswered == 0 && load.answered() == load.of("200"), "{:?}", load.verdicts);
        let allowed = meanwhile.of("200") + meanwhile.of("503 stale");
        ensure!(meanwhile.unanswered == 0 && meanwhile.answered() == allowed, "{:?}", meanwhile.verdicts);
        Ok(())
    })
}
