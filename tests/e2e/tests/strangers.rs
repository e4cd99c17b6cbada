//! Strangers who try passwords: through the real Envoy, where all come from one address as the manager sees
//! it, and what they stop and what not.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::cast::{CLIENT_PASSWORD, Pair, Terms, XApiKey};
use e2e::client::{self, Answer, Call, Protocol};
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::json;

/// Of what an operator changes, on every worker that is connected.
const PROMISED: Duration = Duration::from_secs(1);
/// Of one address within ten minutes, at the manager.
const MAX_WRONG: u32 = 30;

/// An address of this machine.
fn from(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 7, last))
}

/// A client with one of each credential, and live tokens.
struct Partner {
    id: String,
    pair: Pair,
    key: XApiKey,
    token: String,
}

impl Partner {
    async fn prepare(world: &World) -> Result<Self> {
        let accepts = json!({ "accepts": ["dgrk", "x_api_key", "bearer", "basic"] });
        let orders = world.api("orders", "/orders", accepts).await?;
        let group = world.group("partners", &[&orders]).await?;
        let id = world.client("acme", json!({ "groups": [group] })).await?;
        world.may_obtain_tokens(&id, json!({ "validity": 1, "unit": "days", "uses": 0 })).await?;
        let pair = world.import(Pair::named("strangers"), "strangers", &Terms::new(&id, &[&orders]))?;
        let key = world.x_api_key(&id, &[&group], json!({})).await?;
        world.until_known(&Call::get("/orders")).await?;
        let asked = world.call(&asking(&id, CLIENT_PASSWORD)).await?;
        ensure!(asked.status == 200, "{}", asked.text());
        let token = asked.json()["access_token"].as_str().context("a token")?.to_owned();
        Ok(Self { id, pair, key, token })
    }

    /// What calls with anything but the password are told.
    async fn without_password(&self, world: &World) -> Result<Vec<String>> {
        let call = || Call::get("/orders/1");
        let mut told = Vec::new();
        for call in [self.pair.sign(call()), call().x_api_key(&self.key.text), call().bearing(&self.token)] {
            told.push(world.call(&call).await?.verdict());
        }
        Ok(told)
    }

    /// What its own password is told where it serves.
    async fn with_password(&self, world: &World) -> Result<[u16; 3]> {
        let mut told = [0; 3];
        let calls = [
            asking(&self.id, CLIENT_PASSWORD),
            basic(&self.id, CLIENT_PASSWORD),
            introspecting(&self.id, CLIENT_PASSWORD, &self.token),
        ];
        for (told, call) in told.iter_mut().zip(&calls) {
            *told = world.call(call).await?.status;
        }
        Ok(told)
    }
}

fn form(path: &str, body: String) -> Call {
    Call::new("POST", path).body(body).header("content-type", "application/x-www-form-urlencoded")
}

fn asking(client: &str, password: &str) -> Call {
    form("/oauth/token", format!("grant_type=client_credentials&client_id={client}&client_secret={password}"))
}

fn introspecting(client: &str, password: &str, token: &str) -> Call {
    form(
        "/oauth/introspection",
        format!("client_id={client}&client_secret={password}&token={token}&token_type_hint=access_token"),
    )
}

fn basic(client: &str, password: &str) -> Call {
    let pair = STANDARD.encode(format!("{client}:{password}"));
    Call::get("/orders/1").header("authorization", format!("Basic {pair}"))
}

/// A hundred wrong passwords of the client at each of the three places, from a few addresses.
async fn hundred_wrong_ones(world: &World, partner: &Partner) -> Result<()> {
    for number in 0..100_u8 {
        let wrong = format!("wrong-{number}");
        // Ten of each place from one address: fewer than it may try.
        let stranger = from(10 + number / 10);
        for call in [
            asking(&partner.id, &wrong),
            basic(&partner.id, &wrong),
            introspecting(&partner.id, &wrong, &partner.token),
        ] {
            let answer = world.call(&call.from(stranger)).await?;
            ensure!(matches!(answer.status, 401 | 429), "{number}: {} {}", answer.status, answer.text());
        }
    }
    Ok(())
}

async fn unlock(world: &World, client: &str) -> Result<Instant> {
    let path = format!("/api/v1/clients/{client}");
    world.operator().write("PATCH", &path, "/status", json!({ "reset_failed_attempts": true })).await?;
    Ok(wait::now())
}

#[test]
fn strangers_close_a_client_s_password_and_nothing_else() -> Result<()> {
    e2e::run(async {
        let world = World::start("strangers-password", Plan::default()).await?;
        let partner = Partner::prepare(&world).await?;
        hundred_wrong_ones(&world, &partner).await?;
        assert_eq!(partner.without_password(&world).await?, ["200", "200", "200"]);
        assert_eq!(partner.with_password(&world).await?, [401, 401, 401]);
        let client = world.operator().get(&format!("/api/v1/clients/{}", partner.id)).await?;
        assert_eq!(
            (&client["failed_attempts"], &client["locked_by"]),
            (&json!(3), &json!("wrong_passwords"))
        );

        let unlocked = unlock(&world, &partner.id).await?;
        // The three answers within a second; what a worker knows as wrong it forgets by then.
        while partner.with_password(&world).await? != [200, 200, 200] {
            ensure!(unlocked.elapsed() < PROMISED, "{:?}", partner.with_password(&world).await?);
        }
        println!("unlocked, and let in after {:?}", unlocked.elapsed());

        // A right one begins anew: two wrong ones are allowed each time.
        for _ in 0..3 {
            for number in 0..2 {
                let wrong = asking(&partner.id, &format!("wrong-{number}")).from(from(40));
                assert_eq!(world.call(&wrong).await?.status, 401);
            }
            assert_eq!(world.call(&asking(&partner.id, CLIENT_PASSWORD)).await?.status, 200);
        }
        assert_eq!(partner.without_password(&world).await?, ["200", "200", "200"]);
        Ok(())
    })
}

#[test]
fn with_lockout_scope_all_strangers_close_everything_until_an_operator_opens_it() -> Result<()> {
    e2e::run(async {
        let settings = vec![("lockout_scope", "\"all\"".to_owned())];
        let world = World::start("strangers-all", Plan { settings, ..Plan::default() }).await?;
        let partner = Partner::prepare(&world).await?;
        assert_eq!(partner.without_password(&world).await?, ["200", "200", "200"]);
        for number in 0..3 {
            let wrong = asking(&partner.id, &format!("wrong-{number}")).from(from(10));
            assert_eq!(world.call(&wrong).await?.status, 401);
        }
        let closed = wait::now();
        while partner.without_password(&world).await?.iter().any(|verdict| verdict == "200") {
            ensure!(closed.elapsed() < PROMISED, "{:?}", partner.without_password(&world).await?);
        }
        assert_eq!(partner.with_password(&world).await?, [401, 401, 401]);
        let unlocked = unlock(&world, &partner.id).await?;
        while partner.without_password(&world).await? != ["200", "200", "200"] {
            ensure!(unlocked.elapsed() < PROMISED, "{:?}", partner.without_password(&world).await?);
        }
        Ok(())
    })
}

/// Strangers by way of Envoy, and past it: only Envoy's word about an address counts, whatever else is sent.
#[test]
fn addresses_are_counted_as_envoy_sees_them_and_nobody_chooses_his_own() -> Result<()> {
    e2e::run(async {
        let world = World::start("strangers-addresses", Plan::default()).await?;
        let partner = Partner::prepare(&world).await?;
        let manager = world.manager.address;
        let forged = |call: Call, number: u32| {
            let made_up = format!("192.0.2.{}", number % 250);
            ["x-keygate-caller-address", "x-envoy-external-address", "x-forwarded-for"]
                .into_iter()
                .fold(call, |call, name| call.header(name, &made_up))
        };
        let by_envoy = async |call: Call| world.call(&call).await;
        let past_envoy = async |call: Call| client::send(manager, Protocol::Http1, &call).await;
        // Each names somebody else each time, who has nothing to do with the one before.
        let guess = |number: u32| asking(&format!("client{number}"), "wrong-1");
        for number in 0..MAX_WRONG {
            let answer: Answer = by_envoy(forged(guess(number), number).from(from(1))).await?;
            ensure!(answer.status == 401, "by Envoy {number}: {} {}", answer.status, answer.text());
            let answer = past_envoy(forged(guess(number), number).from(from(2))).await?;
            ensure!(answer.status == 401, "past Envoy {number}: {} {}", answer.status, answer.text());
        }
        for (stranger, answer) in [
            (1, by_envoy(forged(guess(MAX_WRONG), MAX_WRONG).from(from(1))).await?),
            (2, past_envoy(forged(guess(MAX_WRONG), MAX_WRONG).from(from(2))).await?),
        ] {
            ensure!(answer.status == 429, "stranger {stranger}: {} {}", answer.status, answer.text());
            let retry_after: u32 = answer.header("retry-after").context("Retry-After")?.parse()?;
            assert!((1..=600).contains(&retry_after), "{retry_after}");
        }
        // Nobody else is: neither who comes by Envoy, nor Envoy itself, nor those who were named.
        for other in [by_envoy(guess(99).from(from(3))).await?, past_envoy(guess(99)).await?] {
            assert_eq!(other.status, 401, "{}", other.text());
        }
        assert_eq!(by_envoy(asking(&partner.id, CLIENT_PASSWORD).from(from(3))).await?.status, 200);
        // A right one that is remembered costs nothing, and is let in from there too.
        assert_eq!(by_envoy(asking(&partner.id, CLIENT_PASSWORD).from(from(1))).await?.status, 200);
        Ok(())
    })
}
