//! What Envoy's own code and the filter make of Bearer tokens before and without the manager.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::client::{Call, Connection, Protocol};
use e2e::world::{Plan, World};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// For the end of a connection that Envoy gives up: it lets a caller read for a second.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Of the client whose calls are pipelined.
const TPS: u32 = 2;

/// One worker, so that what it knows of a token all know, and a client `acme` that obtains tokens.
async fn world(name: &str, tps: u32) -> Result<World> {
    let world = World::start(name, Plan { workers: 1, ..Plan::default() }).await?;
    let orders = world.api("orders", "/orders", json!({ "accepts": ["bearer"] })).await?;
    let group = world.group("partners", &[&orders]).await?;
    world.client("acme", json!({ "id": "acme", "groups": [group], "tps": tps })).await?;
    world.may_obtain_tokens("acme", json!({ "validity": 1, "unit": "hours", "uses": 0 })).await?;
    world.until_known(&Call::get("/orders")).await?;
    Ok(world)
}

fn bearing(token: &str) -> Call {
    Call::get("/orders/7").bearing(token)
}

#[test]
fn each_token_is_asked_about_once_and_one_that_is_nobodys_any_more_too() -> Result<()> {
    e2e::run(async {
        let world = world("bearer", 0).await?;
        let (first, second) = (world.token("acme").await?, world.token("acme").await?);
        for _ in 0..3 {
            let answer = world.call(&bearing(&first)).await?;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let jti = answer.echo()?.header("x-keygate-credential").concat();
            assert!(jti.starts_with("tk_"), "{jti}");
        }
        assert_eq!(world.manager.metric("keygate_resolves_total").await?, 1);

        // Signed by the right key, and yet nobody's: that only the manager knows.
        world.admin.delete("/api/v1/clients/acme?confirm=acme").await?;
        for _ in 0..3 {
            let answer = world.call(&bearing(&second)).await?;
            assert_eq!((answer.status, answer.code().as_str()), (401, "credential_unknown"));
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge, Some("Bearer realm=\"keygate\", error=\"invalid_token\""));
        }
        assert_eq!(world.manager.metric("keygate_resolves_total").await?, 2);
        Ok(())
    })
}

/// Envoy itself closes an HTTP/1.1 connection on which it has more than two answers of its own to queue at
/// once ("Too many responses queued", with any filter): what it does not answer, it must not leave hanging.
#[test]
fn pipelined_requests_are_answered_in_order_until_envoy_closes_the_connection() -> Result<()> {
    e2e::run(async {
        let world = world("bearer-pipelined", TPS).await?;
        let token = world.token("acme").await?;
        assert_eq!(world.call(&bearing(&token)).await?.status, 200);
        let address = world.envoy().address;
        let line = |path: &str| {
            format!("GET /orders/{path} HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {token}\r\n")
        };
        for count in [3, 8, 30] {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            let mut stream = TcpStream::connect(address).await?;
            let requests = (1..count).map(|n| line(&n.to_string()) + "\r\n").collect::<String>();
            let last = line("last") + "connection: close\r\n\r\n";
            stream.write_all((requests + &last).as_bytes()).await?;
            let mut read = String::new();
            let ended = tokio::time::timeout(END_LIMIT, stream.read_to_string(&mut read)).await;
            ended.with_context(|| {
                format!("{count} requests, and the connection stays open after:\n{read}")
            })??;
            let statuses: Vec<&str> =
                read.split("HTTP/1.1 ").skip(1).filter_map(|head| head.get(..3)).collect();
            let (admitted, refused) = statuses.split_at(statuses.partition_point(|status| *status == "200"));
            assert!(admitted.len() >= TPS as usize, "{count}: {statuses:?}");
            assert!(
                !refused.is_empty() && refused.iter().all(|status| *status == "429"),
                "{count}: {statuses:?}"
            );
        }
        // One after the other, all are answered on one connection.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let mut connection = Connection::open(address, Protocol::Http1).await?;
        let mut refused = 0;
        for _ in 0..10 {
            refused += usize::from(connection.send(&bearing(&token)).await?.status == 429);
        }
        assert!(refused >= 4, "{refused}: at most two seconds' worth was admitted");
        Ok(())
    })
}
