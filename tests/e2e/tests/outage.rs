//! When the manager is away, late or back, and when a worker's VM dies.

use std::time::Duration;

use anyhow::Result;
use e2e::client::{self, Call};
use e2e::faulty_proxy::Faults;
use e2e::provision;
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::json;

/// A world with one API, one group and one client with that group.
async fn world(name: &str, plan: Plan, client: serde_json::Value) -> Result<(World, String, String)> {
    let world = World::start(name, plan).await?;
    let orders = world.api("orders", "/orders", json!({})).await?;
    let group = world.group("partners", &[&orders]).await?;
    let mut fields = json!({ "groups": [group] });
    if let (Some(fields), Some(more)) = (fields.as_object_mut(), client.as_object()) {
        fields.extend(more.clone());
    }
    let client = world.client("acme", fields).await?;
    if !world.envoys.is_empty() && world.envoy().is_running() {
        world.until_known(&Call::get("/orders")).await?;
    }
    Ok((world, group, client))
}

#[test]
fn known_callers_go_on_while_the_manager_is_away() -> Result<()> {
    e2e::run(async {
        let (mut world, group, client) = world("outage", Plan::default(), json!({ "quota": 1_000 })).await?;
        let known = world.x_api_key(&client, &[&group], json!({})).await?;
        let unseen = world.x_api_key(&client, &[&group], json!({})).await?;
        let call = Call::get("/orders/outage").x_api_key(&known.text);
        // Until both workers hold the grant; demand fetches a lease of some size.
        for _ in 0..50 {
            assert_eq!(world.call(&call).await?.status, 200);
        }
        world.manager.stop().await?;
        let before = world.upstream.count("/orders/outage");
        assert_eq!(world.call(&call).await?.status, 200, "a cached grant and a held lease go on");
        let answer = world.call(&Call::get("/orders/outage").x_api_key(&unseen.text)).await?;
        assert_eq!(answer.verdict(), "503 lookup_unavailable");
        // The lease is spent down, then nothing more is let in.
        let mut last = String::new();
        for _ in 0..1_000 {
            last = world.call(&call).await?.verdict();
            if last != "200" {
                break;
            }
        }
        assert_eq!(last, "503 quota_unavailable");
        let during = world.upstream.count("/orders/outage") - before;
        assert!(during > 0 && before + during < 1_000, "{during} let in during the outage");

        world.manager.start().await?;
        let recovered = || async { (world.call(&call).await.ok()?.status == 200).then_some(()) };
        wait::until("recovery", Duration::from_secs(5), recovered).await?;
        let answer = world.call(&Call::get("/orders/outage").x_api_key(&unseen.text)).await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // All in all exactly the limit.
        for _ in 0..1_100 {
            let answer = world.call(&call).await?;
            if answer.verdict() == "429 quota_exhausted" {
                break;
            }
        }
        assert_eq!(world.upstream.count("/orders/outage"), 1_000);
        Ok(())
    })
}

#[test]
fn cut_off_filter_refuses_after_its_staleness() -> Result<()> {
    e2e::run(async {
        let plan = Plan { settings: vec![("max_staleness_s", "2".into())], ..Plan::default() };
        let (world, group, client) = world("stale", plan, json!({})).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        let call = Call::get("/orders/stale").x_api_key(&key.text);
        // Until both workers hold the grant.
        for _ in 0..50 {
            assert_eq!(world.call(&call).await?.status, 200);
        }
        world.proxy.set(Faults { refuse: true, ..Faults::default() });
        // A poll on its way still brings what happens until it ends.
        tokio::time::sleep(Duration::from_millis(700)).await;
        // Revoked behind its back: it cannot know, and must not trust what it holds for long.
        world.operator().delete(&format!("/api/v1/x-api-keys/{}", key.id)).await?;
        let cut = wait::now();
        loop {
            let answer = world.call(&call).await?;
            if answer.status != 200 {
                assert_eq!(answer.verdict(), "503 stale");
                break;
            }
            assert!(cut.elapsed() < Duration::from_secs(4), "still let in after {:?}", cut.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.proxy.set(Faults::default());
        let refused =
            || async { (world.call(&call).await.ok()?.verdict() == "401 credential_unknown").then_some(()) };
        wait::until("the refusal by name", Duration::from_secs(5), refused).await
    })
}

#[test]
fn late_answer_does_not_undo_a_revocation() -> Result<()> {
    e2e::run(async {
        let (world, group, client) = world("late", Plan::default(), json!({})).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        let call = Call::get("/orders/late").x_api_key(&key.text);
        // The manager answers "known", and the answer is held back.
        world.proxy.hold("/gateway/v1/exchange");
        let address = world.envoy().address;
        let waiting = tokio::spawn({
            let call = call.clone();
            async move { client::http1(address, &call).await }
        });
        wait::until("the held answer", Duration::from_secs(5), || async {
            (world.proxy.held() > 0).then_some(())
        })
        .await?;
        world.operator().delete(&format!("/api/v1/x-api-keys/{}", key.id)).await?;
        // The deletion travels by the poll, which is not held.
        tokio::time::sleep(Duration::from_millis(800)).await;
        world.proxy.release();
        let answer = waiting.await??;
        assert_ne!(answer.status, 200, "the late answer was used: {}", answer.text());
        assert_eq!(world.call(&call).await?.verdict(), "401 credential_unknown");
        assert_eq!(world.upstream.count("/orders/late"), 0);
        Ok(())
    })
}

#[test]
fn first_requests_to_a_fresh_envoy_wait_and_succeed() -> Result<()> {
    e2e::run(async {
        let plan = Plan { start_envoys: false, ..Plan::default() };
        let (mut world, group, client) = world("fresh", plan, json!({})).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        let address = world.envoy().address;
        let envoy = world.envoys.first_mut().expect("the plan has one");
        envoy.launch()?;
        // As soon as it listens, traffic is there.
        wait::until("the listener", Duration::from_secs(30), || async {
            tokio::net::TcpStream::connect(address).await.ok().map(drop)
        })
        .await?;
        let call = Call::get("/orders/fresh").x_api_key(&key.text);
        let outcome = e2e::load::run(&[address], 16, 1_000, move |_| call.clone()).await?;
        assert_eq!(outcome.of("200"), 1_000, "{outcome:?}");
        Ok(())
    })
}

#[test]
fn probe_tells_readiness_from_local_state() -> Result<()> {
    e2e::run(async {
        let plan = Plan { start_envoys: false, ..Plan::default() };
        let (mut world, _, _) = world("probe", plan, json!({})).await?;
        let probe = Call::get("/keygate/health");
        world.proxy.set(Faults { refuse: true, ..Faults::default() });
        world.envoys.first_mut().expect("the plan has one").start().await?;
        assert_eq!(world.call(&probe).await?.status, 503, "no directory yet");
        world.proxy.set(Faults::default());
        let ready = || async { (world.call(&probe).await.ok()?.status == 200).then_some(()) };
        wait::until("readiness", Duration::from_secs(5), ready).await?;
        assert_eq!(world.upstream.total(), 0, "the probe goes nowhere");
        Ok(())
    })
}

#[test]
fn trap_does_not_open_the_gate() -> Result<()> {
    e2e::run(async {
        let plan = Plan { filter: Some(provision::trap_filter()?), workers: 1, ..Plan::default() };
        let (world, group, client) = world("trap", plan, json!({ "quota": 1_000 })).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        let good = Call::get("/orders/good").x_api_key(&key.text);
        let trapping = Call::get("/orders/trap").x_api_key(&key.text).header("x-keygate-test-trap", "1");
        assert_eq!(world.call(&good).await?.status, 200);
        let unauthenticated = Call::get("/orders/trap");
        for _ in 0..5 {
            assert_eq!(world.call(&trapping).await?.status, 503, "the request that traps");
            // The VM is down: until a new one stands, nobody is let in, with or without a key.
            assert_ne!(world.call(&unauthenticated).await?.status, 200);
            let back = || async { (world.call(&good).await.ok()?.status == 200).then_some(()) };
            wait::until("the new VM", Duration::from_secs(10), back).await?;
        }
        assert_eq!(world.upstream.count("/orders/trap"), 0);
        let stats = world.envoy().stats().await?;
        let reloads =
            stats.iter().filter(|(name, _)| name.contains("vm_reload_success")).map(|(_, n)| n).sum::<u64>();
        assert!(reloads >= 5, "{stats:?}");
        Ok(())
    })
}

#[test]
fn killed_envoy_never_lets_more_in_than_the_limit() -> Result<()> {
    e2e::run(async {
        let (mut world, group, client) = world("crash", Plan::default(), json!({ "quota": 300 })).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        let call = Call::get("/orders/crash").x_api_key(&key.text);
        for _ in 0..100 {
            assert_eq!(world.call(&call).await?.status, 200);
        }
        let envoy = world.envoys.first_mut().expect("the plan has one");
        envoy.kill();
        envoy.start().await?;
        let mut verdict = String::new();
        for _ in 0..400 {
            verdict = world.call(&call).await?.verdict();
            match verdict.as_str() {
                // 503: the ledger's word did not come in time; asked again.
                "200" | "503 quota_unavailable" => (),
                _ => break,
            }
        }
        let admitted = world.upstream.count("/orders/crash");
        assert!(verdict.starts_with("429 quota_"), "ends with {verdict:?} after {admitted}");
        // What the killed process held is withheld: at most one lease of the demand's size.
        assert!((200..=300).contains(&admitted), "{admitted}");
        Ok(())
    })
}
