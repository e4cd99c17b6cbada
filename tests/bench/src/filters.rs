//! What stands before the direct response of an Envoy: the rows that are measured against each other,
//! one Envoy each, made from the shipped configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use e2e::cast::{Pair, Terms};
use e2e::client::Call;
use e2e::envoy::{Envoy, Wiring};
use e2e::process::Process;
use e2e::provision;
use e2e::world::{Plan, World};
use serde_json::json;

use crate::authz;

/// One row of the table.
pub struct Row {
    /// As printed.
    pub name: &'static str,
    /// Where its calls go.
    pub address: SocketAddr,
    /// Its Envoy.
    pub envoy: u32,
    /// What Envoy asks, if it does.
    pub service: Option<u32>,
    /// The call, which must be let in.
    pub call: Call,
}

/// Everything, running. The first row is the baseline.
pub struct Yard {
    /// Rows in order.
    pub rows: Vec<Row>,
    _envoys: Vec<Envoy>,
    _services: Vec<Process>,
    _world: World,
}

/// Whoever knows one key alone takes it from its configuration.
const ONE_KEY: &str = "YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm";
/// Stands in the shipped configuration; each Envoy answers by itself instead.
const UPSTREAM_ROUTE: &str = "route: { cluster: upstream, timeout: 60s }";
const DIRECT_RESPONSE: &str = "direct_response: { status: 200 }";
/// Begins and ends the filter's part of the shipped configuration.
const FILTER_BEGIN: &str = "          - name: keygate\n            typed_config:";
const FILTER_END: &str = "          - name: envoy.filters.http.router";

/// Envoy's own: a list of keys in its configuration, a bucket of tokens per process.
const NATIVE: &str = r#"          - name: envoy.filters.http.api_key_auth
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth
              credentials: [{ key: "ONE_KEY", client: acme }]
              key_sources: [{ header: x-api-key }]
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: native
              token_bucket: { max_tokens: 1000000000, tokens_per_fill: 1000000000, fill_interval: 1s }
              filter_enabled: { default_value: { numerator: 100 } }
              filter_enforced: { default_value: { numerator: 100 } }
"#;
/// A service is asked for each request, over connections that stay open.
const EXTERNAL: &str = r#"          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              allowed_headers: { patterns: [{ exact: x-api-key }] }
              http_service:
                server_uri: { uri: "http://AUTHZ", cluster: authz, timeout: 5s }
                authorization_response:
                  allowed_upstream_headers: { patterns: [{ exact: x-client-id }] }
"#;
const EXTERNAL_CLUSTER: &str = r#"  clusters:
  - name: authz
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: authz
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address: { address: 127.0.0.1, port_value: AUTHZ_PORT }
"#;

/// What stands before the direct response.
#[derive(Clone, Copy)]
enum Filter {
    Nothing,
    /// On the raw ABI, lets everything pass.
    ContinueOnly,
    /// The same on the SDK.
    SdkContinueOnly,
    /// One key and one counter, on the SDK.
    SdkMinimal,
    Native,
    External {
        debits: bool,
    },
    Keygate,
}

impl Yard {
    /// Starts a manager, puts a client with keys on record, and starts one Envoy per row.
    pub async fn start() -> Result<Self> {
        let world = World::start("bench", Plan { envoys: 0, ..Plan::default() }).await?;
        let accepts = json!({ "accepts": ["dgrk", "x_api_key", "bearer"] });
        let api = world.api("bench", "/bench", accepts).await?;
        let group = world.group("bench", &[&api]).await?;
        // A rate and a quota that count each call and never end: the usual client.
        let counted = json!({ "groups": [group], "tps": 1_000_000, "quota": 1_000_000_000_u64 });
        let counted_client = world.client("counted", counted).await?;
        let free_client = world.client("free", json!({ "groups": [group] })).await?;
        let bound = json!({ "groups": [group], "tps": 1_000_000, "quota": 1_000_000_000_u64,
            "bindings": [{ "name": "here", "address": "127.0.0.0/8" }] });
        let bound_client = world.client("bound", bound).await?;
        let counted_key = world.x_api_key(&counted_client, &[&group], json!({})).await?;
        let free_key = world.x_api_key(&free_client, &[&group], json!({})).await?;
        let bound_key = world.x_api_key(&bound_client, &[&group], json!({})).await?;
        world.may_obtain_tokens(&counted_client, json!({ "validity": 1, "unit": "days", "uses": 0 })).await?;
        let token = world.token(&counted_client).await?;
        let signing = world.import(Pair::named("bench"), "bench", &Terms::new(&counted_client, &[&api]))?;

        let get = Call::get("/bench");
        let keyed = |key: &str| get.clone().x_api_key(key);
        let signed = |bytes| signing.sign(Call::post("/bench", json_of_bytes(bytes)));
        // A direct response without a filter does not wait for a body and closes the connection: there
        // is no baseline for signed bodies, whose figures hold the reading of the body too.
        let rows = [
            ("Envoy alone", Filter::Nothing, get.clone()),
            ("wasm that only continues, raw ABI", Filter::ContinueOnly, get.clone()),
            ("wasm that only continues, SDK", Filter::SdkContinueOnly, get.clone()),
            ("wasm, one key and one counter, SDK", Filter::SdkMinimal, keyed(ONE_KEY)),
            ("native api_key_auth + local_ratelimit", Filter::Native, keyed(ONE_KEY)),
            ("Keygate: X-Api-Key, no limit", Filter::Keygate, keyed(&free_key.text)),
            ("Keygate: X-Api-Key, TPS + meter", Filter::Keygate, keyed(&counted_key.text)),
            ("Keygate: the same, bound to addresses", Filter::Keygate, keyed(&bound_key.text)),
            ("Keygate: DGRK, TPS + meter, no body", Filter::Keygate, signing.sign(get.clone())),
            ("Keygate: DGRK, TPS + meter, 1 KiB", Filter::Keygate, signed(1_024)),
            ("Keygate: DGRK, TPS + meter, 64 KiB", Filter::Keygate, signed(65_536)),
            ("Keygate: Bearer, TPS + meter", Filter::Keygate, get.clone().bearing(&token)),
            ("ext_authz, a map", Filter::External { debits: false }, keyed(ONE_KEY)),
            ("ext_authz, a map + SQLite", Filter::External { debits: true }, keyed(ONE_KEY)),
        ];
        let manager = world.manager.process().context("it was just started")?.id();
        let mut yard = Self { rows: Vec::new(), _envoys: Vec::new(), _services: Vec::new(), _world: world };
        for (number, (name, filter, call)) in rows.into_iter().enumerate() {
            let started = filter.start(&yard._world, number).await;
            let (envoy, service) = started.with_context(|| format!("start “{name}”"))?;
            let asked = match filter {
                Filter::Keygate => Some(manager),
                _ => service.as_ref().map(Process::id),
            };
            let process = envoy.process_id().context("it was just started")?;
            yard.rows.push(Row { name, address: envoy.address, envoy: process, service: asked, call });
            yard._envoys.push(envoy);
            yard._services.extend(service);
        }
        Ok(yard)
    }
}

impl Filter {
    async fn start(self, world: &World, number: usize) -> Result<(Envoy, Option<Process>)> {
        let gateway = format!("bench-{number}");
        let wiring = Wiring {
            workers: 1,
            filter: match self {
                Self::ContinueOnly => built("KEYGATE_BENCH_CONTINUE_ONLY")?,
                Self::SdkContinueOnly | Self::SdkMinimal => built("KEYGATE_BENCH_SDK_BASELINE")?,
                Self::Nothing | Self::Native | Self::External { .. } | Self::Keygate => provision::filter()?,
            },
            upstream: world.upstream.address,
            manager: world.manager.address,
            token: world.gateway_token(&gateway)?,
            listeners: Vec::new(),
            replicas: Vec::new(),
        };
        let mut envoy = Envoy::configure(&world.folder.join(&gateway), wiring)?;
        let mut service = None;
        let mut authz = None;
        if let Self::External { debits } = self {
            let address = e2e::free_address()?;
            service = Some(authz::start(envoy.folder(), address, ONE_KEY, debits).await?);
            authz = Some(address);
        }
        edit(&mut envoy, |rendered| self.put_into(rendered, authz))?;
        envoy.start().await?;
        Ok((envoy, service))
    }

    fn put_into(self, rendered: &str, authz: Option<SocketAddr>) -> Result<String> {
        match self {
            Self::Keygate => Ok(rendered.to_owned()),
            Self::Nothing => instead_of_keygate(rendered, ""),
            Self::Native => instead_of_keygate(rendered, &NATIVE.replace("ONE_KEY", ONE_KEY)),
            Self::External { .. } => {
                let authz = authz.context("a service to ask")?;
                let filter = EXTERNAL.replace("AUTHZ", &authz.to_string());
                let cluster = EXTERNAL_CLUSTER.replace("AUTHZ_PORT", &authz.port().to_string());
                Ok(instead_of_keygate(rendered, &filter)?.replacen("  clusters:\n", &cluster, 1))
            }
            Self::SdkMinimal => with_configuration(rendered, ONE_KEY),
            Self::ContinueOnly | Self::SdkContinueOnly => with_configuration(rendered, ""),
        }
    }
}

/// Changes the configuration of an Envoy that is not started yet: a direct response instead of the
/// upstream, no access log, and what `change` makes of it.
pub fn edit(envoy: &mut Envoy, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let file = envoy.folder().join("envoy.yaml");
    let rendered = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    ensure!(rendered.matches(UPSTREAM_ROUTE).count() == 1, "envoy.yaml has no `{UPSTREAM_ROUTE}`");
    let answering = rendered.replace(UPSTREAM_ROUTE, DIRECT_RESPONSE);
    // The access log costs the same everywhere, and is not ours: without it the difference shows.
    let edited = change(&without_access_log(&answering)?)?;
    std::fs::write(&file, edited).with_context(|| format!("write {}", file.display()))
}

fn instead_of_keygate(rendered: &str, filters: &str) -> Result<String> {
    let (begin, end) = place_of(rendered, FILTER_BEGIN)?;
    let mut edited = rendered.to_owned();
    edited.replace_range(begin..end, filters);
    Ok(edited)
}

fn with_configuration(rendered: &str, configuration: &str) -> Result<String> {
    let (begin, end) = place_of(rendered, "value: |")?;
    let mut edited = rendered.to_owned();
    edited.replace_range(begin..end, &format!("value: \"{configuration}\"\n"));
    Ok(edited)
}

/// From `begin` to where the filters after ours begin.
fn place_of(rendered: &str, begin: &str) -> Result<(usize, usize)> {
    let begin = rendered.find(begin).with_context(|| format!("envoy.yaml has no `{begin}`"))?;
    let end = rendered.find(FILTER_END).context("envoy.yaml has no router")?;
    ensure!(begin < end, "envoy.yaml has its router before our filter");
    Ok((begin, end))
}

/// Cuts the `access_log` list: it stands between the filters and the clusters.
fn without_access_log(yaml: &str) -> Result<String> {
    let begin = yaml.find("          access_log:\n").context("envoy.yaml has no access log")?;
    let end = yaml.find("  clusters:\n").context("envoy.yaml has no clusters")?;
    Ok(format!("{}\n{}", yaml.get(..begin).unwrap_or_default(), yaml.get(end..).unwrap_or_default()))
}

/// A filter that `cargo xtask bench` built to compare with.
fn built(variable: &str) -> Result<PathBuf> {
    let file = std::env::var_os(variable);
    Ok(file.with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))?.into())
}

/// A JSON object of that many bytes, minified.
pub fn json_of_bytes(bytes: usize) -> String {
    let frame = json!({ "order": 17, "note": "" }).to_string();
    json!({ "order": 17, "note": "x".repeat(bytes.saturating_sub(frame.len())) }).to_string()
}
