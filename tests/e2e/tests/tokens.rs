//! Tokens through the real Envoy: obtained there, used there, counted, revoked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::client::Call;
use e2e::tokens::{asking, form};
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::{Value, json};

/// Of a revocation, on every worker that is connected.
const PROMISED: Duration = Duration::from_secs(1);

/// An API that takes tokens, and a client that may call it and obtain tokens of these terms.
async fn prepare(world: &World, access: Value) -> Result<String> {
    let orders = world.api("orders", "/orders", json!({ "accepts": ["bearer"] })).await?;
    let group = world.group("partners", &[&orders]).await?;
    let client = world.client("acme", json!({ "groups": [group] })).await?;
    world.may_obtain_tokens(&client, access).await?;
    world.until_known(&Call::get("/orders")).await?;
    Ok(client)
}

/// Through Envoy.
async fn token(world: &World, client: &str) -> Result<String> {
    let answer = world.call(&asking(client)).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    Ok(answer.json()["access_token"].as_str().context("a token")?.to_owned())
}

fn bearing(token: &str) -> Call {
    Call::get("/orders/1").bearing(token)
}

#[test]
fn a_token_is_obtained_used_three_times_and_no_more() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-counted", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 3 })).await?;
        let token = token(&world, &client).await?;
        for call in 1..=3 {
            let answer = world.call(&bearing(&token)).await?;
            ensure!(answer.status == 200, "call {call}: {}", answer.text());
            assert_eq!(answer.echo()?.header("x-keygate-client-id"), [client.as_str()]);
        }
        for call in 4..=6 {
            let answer = world.call(&bearing(&token)).await?;
            ensure!(answer.status != 200, "call {call} is let in");
            assert_eq!(answer.code(), "token_used_up", "call {call}: {}", answer.text());
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        }
        let metadata = world.call(&Call::get("/.well-known/oauth-authorization-server")).await?;
        assert_eq!(metadata.status, 200, "{}", metadata.text());
        let jwks = world.call(&Call::get("/oauth/jwks")).await?;
        assert_eq!(jwks.json()["keys"].as_array().map(Vec::len), Some(1), "{}", jwks.text());
        Ok(())
    })
}

#[test]
fn a_token_of_the_second_form_opens_what_every_other_one_does() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-second-form", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 2 })).await?;
        let found =
            world.call(&Call::get("/dgrv4/ssotoken/v2/OIDC/.well-known/openid-configuration")).await?;
        ensure!(found.status == 200, "{}", found.text());
        let endpoint = found.json()["token_endpoint"].as_str().context("an endpoint")?.to_owned();
        ensure!(endpoint.ends_with("/oauth/v2/token"), "{endpoint}");
        let answer = world.call(&form(&client, "/oauth/v2/token", "grant_type=client_credentials")).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let token = answer.json()["access_token"].as_str().context("a token")?.to_owned();
        for call in 1..=2 {
            let answer = world.call(&bearing(&token)).await?;
            ensure!(answer.status == 200, "call {call}: {}", answer.text());
        }
        let answer = world.call(&bearing(&token)).await?;
        assert_eq!(answer.code(), "token_used_up", "{}", answer.text());
        Ok(())
    })
}

#[test]
fn a_revoked_token_is_refused_within_a_second() -> Result<()> {
    e2e::run(async {
        let world = World::start("tokens-revoked", Plan::default()).await?;
        let client = prepare(&world, json!({ "validity": 1, "unit": "days", "uses": 0 })).await?;
        let (token, other) = (token(&world, &client).await?, token(&world, &client).await?);
        for text in [&token, &other] {
            let answer = world.call(&bearing(text)).await?;
            ensure!(answer.status == 200, "{}", answer.text());
        }
        let called: Instant = wait::now();
        let answer = world.call(&form(&client, "/oauth2/revoke", &format!("token={token}"))).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        loop {
            let answer = world.call(&bearing(&token)).await?;
            if answer.status != 200 {
                assert_eq!(answer.code(), "credential_revoked", "{}", answer.text());
                break;
            }
            ensure!(wait::now() - called < PROMISED, "it is let in after a second");
        }
        println!("revoked and refused after {:?}", wait::now() - called);
        assert_eq!(world.call(&bearing(&other)).await?.status, 200, "another one lives on");
        Ok(())
    })
}
