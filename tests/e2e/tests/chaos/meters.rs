//! What is at stake in a round: credentials with meters that will end in it.

use anyhow::Result;
use e2e::cast::{Pair, Terms};
use e2e::client::Call;
use e2e::upstream::Upstream;
use e2e::world::World;
use serde_json::json;

/// Of these, one per cent is the largest lease.
const CLIENT_LIMIT: u64 = 2_400;
const KEY_LIMIT: u64 = 1_200;
const SMALL_KEY_LIMIT: u64 = 800;

/// A meter, and where what it admitted shows.
pub struct Meter {
    pub name: &'static str,
    pub limit: u64,
    /// Paths of all credentials that it counts.
    paths: Vec<String>,
    /// Whether demand is sure to reach its limit.
    used_up: bool,
}

impl Meter {
    pub fn admitted(&self, upstream: &Upstream) -> u64 {
        self.paths.iter().map(|path| upstream.count(path)).sum()
    }

    /// What is admitted at least when demand has gone on to the end. A killed Envoy takes its two leases
    /// with it, and what it had let in and not sent on: a call of each credential, for each has one
    /// connection to it.
    pub fn least(&self, crashes: u64) -> Option<u64> {
        let lost = crashes * (2 * (self.limit / 100).max(1) + self.paths.len() as u64);
        self.used_up.then_some(self.limit - lost)
    }
}

pub struct Stake {
    pub meters: Vec<Meter>,
    /// One call for each credential.
    pub calls: Vec<Call>,
    /// Of a client without quota.
    pub witness: Call,
}

impl Stake {
    /// Makes the round's clients and keys.
    pub async fn place(world: &World, orders: &str, group: &str, round: u64) -> Result<Self> {
        let path = |name: &str| format!("/orders/{round}/{name}");
        let name = |name: &str| format!("{name}-{round}");
        let quota = |limit: u64| json!({ "groups": [group], "quota": limit, "quota_period": "total" });
        let get = |name: &str, key: &str| Call::get(&path(name)).x_api_key(key);
        let post = |name: &str, pair: &Pair| pair.sign(Call::post(&path(name), r#"{ "order": 1 }"#));

        let shared = world.client(&name("shared"), quota(CLIENT_LIMIT)).await?;
        let one = world.x_api_key(&shared, &[group], json!({})).await?;
        let other = world.x_api_key(&shared, &[group], json!({})).await?;

        let keyed = world.client(&name("keyed"), json!({})).await?;
        let terms = Terms::new(&keyed, &[orders]).quota(i64::try_from(KEY_LIMIT)?);
        let pair = world.import(Pair::named(&name("pair")), &name("pair"), &terms)?;

        let both = world.client(&name("both"), quota(CLIENT_LIMIT)).await?;
        let terms = Terms::new(&both, &[orders]).quota(i64::try_from(SMALL_KEY_LIMIT)?);
        let metered_twice = world.import(Pair::named(&name("twice")), &name("twice"), &terms)?;
        let metered_once = world.x_api_key(&both, &[group], json!({})).await?;

        let witness = world.client(&name("witness"), json!({ "groups": [group] })).await?;
        let witness = world.x_api_key(&witness, &[group], json!({})).await?;

        let meter = |name, limit, paths: &[&str], used_up| Meter {
            name,
            limit,
            paths: paths.iter().map(|name| path(name)).collect(),
            used_up,
        };
        Ok(Self {
            meters: vec![
                meter("a client's quota, two keys", CLIENT_LIMIT, &["one", "other"], true),
                meter("a key's quota", KEY_LIMIT, &["key"], true),
                meter("a client's quota, one key metered too", CLIENT_LIMIT, &["twice", "once"], true),
                // The client's other key may have used the client's quota up before.
                meter("that key's quota", SMALL_KEY_LIMIT, &["twice"], false),
            ],
            calls: vec![
                get("one", &one.text),
                get("other", &other.text),
                post("key", &pair),
                post("twice", &metered_twice),
                get("once", &metered_once.text),
            ],
            witness: get("witness", &witness.text),
        })
    }
}
