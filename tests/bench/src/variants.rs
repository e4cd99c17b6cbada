//! What is measured against each other: one Envoy each, made from the shipped configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use e2e::cast::{Pair, Terms};
use e2e::client::Call;
use e2e::envoy::{Envoy, Wiring};
use e2e::provision;
use e2e::world::{Plan, World};
use serde_json::json;

/// One row of the table.
pub struct Variant {
    /// As printed.
    pub name: &'static str,
    /// Where its calls go.
    pub address: SocketAddr,
    /// Its Envoy.
    pub envoy_process: u32,
    /// The call, which must be let in.
    pub call: Call,
}

/// Everything, running. The first variant is the baseline.
pub struct Yard {
    /// Rows in order.
    pub variants: Vec<Variant>,
    _envoys: Vec<Envoy>,
    _world: World,
}

/// The baseline filter takes its one key from its configuration.
const BASELINE_KEY: &str = "YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm";
/// Stands in the shipped configuration; each variant answers by itself instead.
const UPSTREAM_ROUTE: &str = "route: { cluster: upstream, timeout: 60s }";
const DIRECT_RESPONSE: &str = "direct_response: { status: 200 }";
/// Begins and ends the filter's part of the shipped configuration.
const FILTER_BEGIN: &str = "          - name: keygate\n            typed_config:";
const FILTER_END: &str = "          - name: envoy.filters.http.router";

impl Yard {
    /// Starts a manager, puts a client with keys on record, and starts one Envoy per variant.
    pub async fn start() -> Result<Self> {
        let plan = Plan { envoys: 0, ..Plan::default() };
        let world = World::start("bench", plan).await?;
        let api = world.api("bench", "/bench", json!({})).await?;
        let group = world.group("bench", &[&api]).await?;
        // A rate and a quota that count each call and never end: the usual client.
        let counted = json!({ "groups": [group], "tps": 1_000_000, "quota": 1_000_000_000_u64 });
        let counted_client = world.client("counted", counted).await?;
        let free_client = world.client("free", json!({ "groups": [group] })).await?;
        let counted_key = world.x_api_key(&counted_client, &[&group], json!({})).await?;
        let free_key = world.x_api_key(&free_client, &[&group], json!({})).await?;
        let signing = world.import(Pair::named("bench"), "bench", &Terms::new(&counted_client, &[&api]))?;

        let get = Call::get("/bench");
        let body = json_of_bytes(1_024);
        // A direct response without a filter does not wait for a body and closes the connection: there
        // is no baseline for the last row, whose figure holds the reading of its body too.
        let rows = [
            ("no filter", Filter::None, get.clone()),
            ("minimal filter on the SDK", Filter::Sdk, get.clone().x_api_key(BASELINE_KEY)),
            ("Keygate: X-Api-Key, no limit", Filter::Keygate, get.clone().x_api_key(&free_key.text)),
            ("Keygate: X-Api-Key, rate and quota", Filter::Keygate, get.x_api_key(&counted_key.text)),
            (
                "Keygate: DGRK, rate, quota, body of 1 KiB",
                Filter::Keygate,
                signing.sign(Call::post("/bench", body)),
            ),
        ];
        let mut variants = Vec::new();
        let mut envoys = Vec::new();
        for (number, (name, filter, call)) in rows.into_iter().enumerate() {
            let envoy =
                filter.envoy(&world, number).await.with_context(|| format!("start the Envoy of “{name}”"))?;
            let process = envoy.process_id().context("it was just started")?;
            variants.push(Variant { name, address: envoy.address, envoy_process: process, call });
            envoys.push(envoy);
        }
        Ok(Self { variants, _envoys: envoys, _world: world })
    }
}

/// What stands before the direct response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filter {
    None,
    Sdk,
    Keygate,
}

impl Filter {
    async fn envoy(self, world: &World, number: usize) -> Result<Envoy> {
        let gateway = format!("bench-{number}");
        let wiring = Wiring {
            workers: 1,
            filter: match self {
                Self::Sdk => sdk_baseline()?,
                Self::None | Self::Keygate => provision::filter()?,
            },
            upstream: world.upstream.address,
            manager: world.manager.address,
            token: world.gateway_token(&gateway)?,
            listeners: Vec::new(),
        };
        let mut envoy = Envoy::configure(&world.folder.join(&gateway), wiring)?;
        let file = envoy.folder().join("envoy.yaml");
        let rendered = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        std::fs::write(&file, self.edit(rendered)?).with_context(|| format!("write {}", file.display()))?;
        envoy.start().await?;
        Ok(envoy)
    }

    fn edit(self, rendered: String) -> Result<String> {
        ensure!(rendered.matches(UPSTREAM_ROUTE).count() == 1, "envoy.yaml has no `{UPSTREAM_ROUTE}`");
        let mut edited = rendered.replace(UPSTREAM_ROUTE, DIRECT_RESPONSE);
        // The access log is the same cost everywhere, and not ours: without it the difference shows.
        edited = without_access_log(&edited)?;
        match self {
            Self::Keygate => Ok(edited),
            Self::None => {
                let begin = edited.find(FILTER_BEGIN).context("envoy.yaml has no keygate filter")?;
                let end = edited.find(FILTER_END).context("envoy.yaml has no router")?;
                edited.replace_range(begin..end, "");
                Ok(edited)
            }
            Self::Sdk => {
                let begin = edited.find("value: |").context("envoy.yaml has no filter configuration")?;
                let end = edited.find(FILTER_END).context("envoy.yaml has no router")?;
                edited.replace_range(begin..end, &format!("value: \"{BASELINE_KEY}\"\n"));
                Ok(edited)
            }
        }
    }
}

/// Cuts the `access_log` list: it stands between the filters and the clusters.
fn without_access_log(yaml: &str) -> Result<String> {
    let begin = yaml.find("          access_log:\n").context("envoy.yaml has no access log")?;
    let end = yaml.find("  clusters:\n").context("envoy.yaml has no clusters")?;
    Ok(format!("{}\n{}", yaml.get(..begin).unwrap_or_default(), yaml.get(end..).unwrap_or_default()))
}

/// The filter that `cargo xtask bench` built from `tests/bench/sdk-baseline`.
fn sdk_baseline() -> Result<PathBuf> {
    let file = std::env::var_os("KEYGATE_BENCH_SDK_BASELINE")
        .context("KEYGATE_BENCH_SDK_BASELINE is not set: run `cargo xtask bench`")?;
    Ok(PathBuf::from(file))
}

/// A JSON object of that many bytes, minified.
fn json_of_bytes(bytes: usize) -> String {
    let frame = json!({ "order": 17, "note": "" }).to_string();
    json!({ "order": 17, "note": "x".repeat(bytes.saturating_sub(frame.len())) }).to_string()
}
