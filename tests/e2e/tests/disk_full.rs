//! The disk below SQLite is full: what is asked for is refused by name and leaves nothing behind, what is
//! counted stays within its limit, and when there is room everything goes on by itself.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::client::Call;
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::json;

const LIMIT: u64 = 2_000;
/// Within which everything goes on when there is room.
const RECOVERY: Duration = Duration::from_secs(5);
/// Clients made at most before the disk is to be full: the log of SQLite has room that it has used before.
const MOST_CLIENTS: usize = 2_000;

/// What is asked for to fill the disk.
fn client(name: &str) -> Call {
    let fields = json!({
        "name": name, "display_name": name, "password": "a-password-2026",
        "password_confirmation": "a-password-2026", "note": "x".repeat(50), "emails": "a@example.com",
    });
    Call::post("/api/v1/clients", fields.to_string())
}

#[test]
fn a_full_disk_is_told_by_name_leaves_nothing_half_written_and_over_admits_nobody() -> Result<()> {
    e2e::run(async {
        let mut world = World::start("disk_full", Plan::default()).await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("partners", &[&orders]).await?;
        let quota = json!({ "groups": [group], "quota": LIMIT, "quota_period": "total" });
        let acme = world.client("acme", quota).await?;
        let key = world.x_api_key(&acme, &[&group], json!({})).await?;
        let call = Call::get("/orders/acme").x_api_key(&key.text);
        let disk = world.manager.disk();
        world.manager.stop().await?;
        world.manager.start().await?;
        world.until_known(&Call::get("/orders")).await?;
        for _ in 0..100 {
            assert_eq!(world.call(&call).await?.status, 200);
        }

        for room in [0, 9_000] {
            disk.leave(room)?;
            let mut made = Vec::new();
            let refused = loop {
                let name = format!("client-{room}-{}", made.len());
                let answer = world.operator().call(client(&name)).await?;
                if answer.status != 201 {
                    break answer;
                }
                made.push(name);
                assert!(made.len() < MOST_CLIENTS, "the disk is never full");
            };
            assert_eq!(refused.verdict(), "503 database_full", "{}", refused.text());
            assert!(refused.header("retry-after").is_some(), "{refused:?}");

            // Gateways: what they hold is spent, then refused, by name.
            let mut verdict = String::new();
            for _ in 0..LIMIT {
                verdict = world.call(&call).await?.verdict();
                if verdict != "200" {
                    break;
                }
            }
            assert_eq!(verdict, "503 quota_unavailable", "with room for {room} bytes");
            let list = world.operator().get("/api/v1/clients?limit=1&keyword=client-").await?;
            let unmade = format!("client-{room}-{}", made.len());
            let found = world.operator().get(&format!("/api/v1/clients?keyword={unmade}")).await?;
            assert_eq!(
                found["items"].as_array().map(Vec::len),
                Some(0),
                "{found}: refused, and there: {list}"
            );

            disk.free()?;
            let goes_on = || async { (world.call(&call).await.ok()?.status == 200).then_some(()) };
            wait::until("an admitted call", RECOVERY, goes_on).await?;
            let answer = world.operator().call(client(&unmade)).await?;
            assert_eq!(answer.status, 201, "asked for again: {}", answer.text());
            for name in made {
                let found = world.operator().get(&format!("/api/v1/clients?keyword={name}")).await?;
                let items = found["items"].as_array().context("a list")?;
                assert!(
                    items.iter().any(|client| client["name"] == name.as_str()),
                    "{name} was made: {found}"
                );
            }
        }
        assert!(world.manager.run(&["audit", "verify"])?.contains("whole"));

        let mut verdict = String::new();
        for _ in 0..LIMIT + 100 {
            verdict = world.call(&call).await?.verdict();
            if verdict.starts_with("429 ") {
                break;
            }
        }
        assert_eq!(verdict, "429 quota_exhausted");
        assert_eq!(world.upstream.count("/orders/acme"), LIMIT, "exactly, whatever failed");
        Ok(())
    })
}
