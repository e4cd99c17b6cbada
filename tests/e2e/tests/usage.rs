//! What was called through the real Envoy stands in the reports, exactly once though the manager is
//! killed while it counts; and a client is told of 80 % and of 100 % of its quota, once each.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::client::Call;
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// Rows of a report.
async fn rows(world: &World, path: &str) -> Vec<Value> {
    let report = world.admin.get(path).await.unwrap_or_default();
    report["items"].as_array().cloned().unwrap_or_default()
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().filter_map(|row| row[field].as_u64()).sum()
}

#[tokio::test]
async fn calls_are_counted_once_though_the_manager_is_killed_while_it_counts() -> Result<()> {
    let mut world = World::start("usage-counts", Plan::default()).await?;
    let orders = world.api("orders", "/orders", json!({})).await?;
    world.api("stock", "/stock", json!({})).await?;
    let group = world.group("partners", &[&orders]).await?;
    let client = world.client("acme", json!({ "groups": [group] })).await?;
    let key = world.x_api_key(&client, &[&group], json!({})).await?;
    let call = |path: &str| Call::get(path).x_api_key(&key.text);
    world.until_known(&call("/orders")).await?;
    let ours = format!("/api/v1/usage?group_by=credential,api,result&client={client}");
    // What it took until the key was known is counted too.
    let settle = async |world: &World| {
        let mut last = Vec::new();
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let now = rows(world, &ours).await;
            if now == last && !now.is_empty() {
                return now;
            }
            last = now;
        }
        last
    };
    let before = settle(&world).await;
    let of = |rows: &[Value], result: &str| {
        let rows: Vec<_> = rows.iter().filter(|row| row["result"] == result).cloned().collect();
        sum(&rows, "calls")
    };
    let (mut admitted, mut refused) = (0, 0);
    for round in 0..6u64 {
        for _ in 0..20 {
            let answer = world.call(&call("/orders")).await?;
            assert_eq!(answer.status, 200, "a cached key is served: {}", answer.text());
            admitted += 1;
        }
        let answer = world.call(&call("/stock")).await?;
        assert_eq!(answer.code(), "permission_denied");
        refused += 1;
        // At another moment of the report each time.
        tokio::time::sleep(Duration::from_millis(170 * round + 60)).await;
        world.manager.kill();
        world.manager.until_dead(LIMIT).await?;
        world.manager.start().await?;
    }
    let counted = async || {
        let now = rows(&world, &ours).await;
        (of(&now, "admitted") >= of(&before, "admitted") + admitted).then_some(())
    };
    wait::until("all calls to be counted", LIMIT, counted).await?;
    let after = settle(&world).await;
    assert_eq!(of(&after, "admitted") - of(&before, "admitted"), admitted, "{after:?}");
    assert_eq!(of(&after, "permission_denied") - of(&before, "permission_denied"), refused, "{after:?}");
    assert!(after.iter().all(|row| row["credential"] == key.id.as_str()), "{after:?}");

    // Every call that was let in was answered, and its time falls into a bucket.
    let answers = format!("/api/v1/usage/answers?group_by=client,api,status&client={client}&api={orders}");
    let answered = async || {
        let rows = rows(&world, &answers).await;
        (sum(&rows, "answers") == of(&after, "admitted")).then_some(rows)
    };
    let rows = wait::until("all answers to be counted", LIMIT, answered).await?;
    assert_eq!(
        (rows.len(), &rows[0]["status"], &rows[0]["failed"]),
        (1, &json!("2xx"), &json!(0)),
        "{rows:?}"
    );
    let latency = rows[0]["latency"].as_array().context("a histogram")?;
    assert_eq!(sum(latency, "answers"), of(&after, "admitted"));
    assert!(rows[0]["mean_ms"].is_u64(), "{rows:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_is_mailed_once_at_80_percent_and_once_when_its_quota_is_used_up() -> Result<()> {
    let world = World::start("usage-warnings", Plan::default()).await?;
    let orders = world.api("orders", "/orders", json!({})).await?;
    let group = world.group("partners", &[&orders]).await?;
    let quota = json!({ "groups": [group], "quota": 10, "quota_period": "month" });
    let client = world.client("metered", quota).await?;
    let key = world.x_api_key(&client, &[&group], json!({})).await?;
    let call = Call::get("/orders").x_api_key(&key.text);
    let spend = async |units: u32| -> Result<()> {
        let started = wait::now();
        let mut admitted = 0;
        while admitted < units {
            anyhow::ensure!(started.elapsed() < LIMIT, "{admitted} calls were let in");
            match world.call(&call).await?.status {
                200 => admitted += 1,
                // The key is not known yet, or a unit has not arrived.
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        Ok(())
    };
    spend(8).await?;
    world.mail.mail_to("metered@example.com", "80%", LIMIT).await?;
    spend(2).await?;
    world.mail.mail_to("metered@example.com", "is used up", LIMIT).await?;
    assert_eq!(world.call(&call).await?.code(), "quota_exhausted");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let notices = world.mail.mails().into_iter().filter(|mail| mail.subject.contains("Quota Notice")).count();
    assert_eq!(notices, 2);
    let events = world.admin.get("/api/v1/audit?action=quotas.warn").await?;
    assert_eq!(events["items"].as_array().map(Vec::len), Some(2), "{events}");
    Ok(())
}
