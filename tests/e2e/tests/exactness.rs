//! Exact over a fleet: two Envoys of two workers each, 64 connections, 30,000 requests against a
//! limit of 10,000. Exactly 10,000 reach the upstream, whatever the interleaving, also when every
//! third answer of the manager is lost after its debit.

use std::sync::Mutex;

use anyhow::Result;
use e2e::cast::{Pair, Terms};
use e2e::client::Call;
use e2e::faulty_proxy::Faults;
use e2e::load;
use e2e::world::{Database, Plan, World};
use serde_json::json;

const LIMIT: u64 = 10_000;
const CONNECTIONS: usize = 64;
const REQUESTS: u64 = 30_000;
/// Each kind of limit is run that often.
const ROUNDS: u32 = 5;
/// Share of the manager's answers that are lost in the round with faults.
const LOSS: f64 = 0.3;

/// One at a time: they measure the same machine.
static TURN: Mutex<()> = Mutex::new(());

struct Fleet {
    world: World,
    orders: String,
    group: String,
}

impl Fleet {
    async fn start(name: &str, database: Database) -> Result<Self> {
        let world = World::start(name, Plan { envoys: 2, workers: 2, database, ..Plan::default() }).await?;
        let accepts = json!({ "accepts": ["dgrk", "x_api_key", "bearer"] });
        let orders = world.api("orders", "/orders", accepts).await?;
        let group = world.group("partners", &[&orders]).await?;
        world.until_known(&Call::get("/orders")).await?;
        Ok(Self { world, orders, group })
    }

    /// A DGRK key with a use quota, called by signed POSTs.
    async fn key_uses(&self, round: &str) -> Result<Call> {
        let client = self.world.client(&format!("key-{round}"), json!({})).await?;
        let name = format!("key {round}");
        let terms = Terms::new(&client, &[&self.orders]).quota(i64::try_from(LIMIT)?);
        let pair = self.world.import(Pair::named(&name), &name, &terms)?;
        Ok(pair.sign(Call::post(&format!("/orders/key-{round}"), r#"{ "order": 1, "price": 9.90 }"#)))
    }

    /// A client with a daily quota, called with an X-Api-Key.
    async fn client_quota(&self, round: &str) -> Result<Call> {
        let client = json!({ "groups": [self.group], "quota": LIMIT, "quota_period": "total" });
        let client = self.world.client(&format!("client-{round}"), client).await?;
        let key = self.world.x_api_key(&client, &[&self.group], json!({})).await?;
        Ok(Call::get(&format!("/orders/client-{round}")).x_api_key(&key.text))
    }

    /// A token that serves so many calls.
    async fn token_uses(&self, round: &str) -> Result<Call> {
        let client = json!({ "groups": [self.group] });
        let client = self.world.client(&format!("token-{round}"), client).await?;
        let terms = json!({ "validity": 1, "unit": "days", "uses": LIMIT });
        self.world.may_obtain_tokens(&client, terms).await?;
        let token = self.world.token(&client).await?;
        Ok(Call::get(&format!("/orders/token-{round}")).bearing(&token))
    }

    async fn exactly_the_limit_is_let_in(&self, call: Call) -> Result<()> {
        let path = call.path.clone();
        let addresses: Vec<_> = self.world.envoys.iter().map(|envoy| envoy.address).collect();
        let outcome = load::run(&addresses, CONNECTIONS, REQUESTS, move |_| call.clone()).await?;
        let reached = self.world.upstream.count(&path);
        println!(
            "{path}: {reached} of {REQUESTS} in {:.1} s: {:?}",
            outcome.took.as_secs_f64(),
            outcome.verdicts
        );
        assert_eq!(reached, LIMIT, "{path}: {outcome:?}");
        assert_eq!(outcome.of("200"), LIMIT, "who was let in was answered: {outcome:?}");
        assert_eq!(outcome.unanswered, 0, "{outcome:?}");
        Ok(())
    }
}

#[test]
fn key_use_quota_is_exact() -> Result<()> {
    let _turn = TURN.lock();
    e2e::run(async {
        let fleet = Fleet::start("exact-key", Database::Sqlite).await?;
        for round in 1..=ROUNDS {
            fleet.exactly_the_limit_is_let_in(fleet.key_uses(&round.to_string()).await?).await?;
        }
        fleet.world.proxy.set(Faults { lose: LOSS, ..Faults::default() });
        fleet.exactly_the_limit_is_let_in(fleet.key_uses("lossy").await?).await?;
        assert!(fleet.world.proxy.lost() > 5, "answers were lost: {}", fleet.world.proxy.lost());
        Ok(())
    })
}

#[test]
fn client_quota_is_exact() -> Result<()> {
    let _turn = TURN.lock();
    e2e::run(async {
        let fleet = Fleet::start("exact-client", Database::Sqlite).await?;
        for round in 1..=ROUNDS {
            fleet.exactly_the_limit_is_let_in(fleet.client_quota(&round.to_string()).await?).await?;
        }
        fleet.world.proxy.set(Faults { lose: LOSS, ..Faults::default() });
        fleet.exactly_the_limit_is_let_in(fleet.client_quota("lossy").await?).await?;
        assert!(fleet.world.proxy.lost() > 5, "answers were lost: {}", fleet.world.proxy.lost());
        Ok(())
    })
}

#[test]
fn token_use_count_is_exact() -> Result<()> {
    let _turn = TURN.lock();
    e2e::run(async {
        let fleet = Fleet::start("exact-token", Database::Sqlite).await?;
        for round in 1..=ROUNDS {
            fleet.exactly_the_limit_is_let_in(fleet.token_uses(&round.to_string()).await?).await?;
        }
        fleet.world.proxy.set(Faults { lose: LOSS, ..Faults::default() });
        fleet.exactly_the_limit_is_let_in(fleet.token_uses("lossy").await?).await?;
        assert!(fleet.world.proxy.lost() > 5, "answers were lost: {}", fleet.world.proxy.lost());
        Ok(())
    })
}

#[test]
fn client_quota_is_exact_on_postgres() -> Result<()> {
    let _turn = TURN.lock();
    e2e::run(async {
        let fleet = Fleet::start("exact_postgres", Database::Postgres).await?;
        fleet.exactly_the_limit_is_let_in(fleet.client_quota("postgres").await?).await
    })
}
