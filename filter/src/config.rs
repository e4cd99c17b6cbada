//! The plugin's configuration, as `envoy.yaml` gives it: read once, refused as a whole if it is
//! not understood. The token of the gateway is not part of it, because `/config_dump` shows it.

use gate::address::Block;
use gate::credential::Fingerprint;
use gate::decide::Origin;
use gate::gate::{DEFAULT_CACHE_ENTRIES, OriginRule, SHARED_LAYOUT, Setup};
use serde::Deserialize;

/// The only version there is.
const VERSION: u32 = 1;
/// Grants that a worker may be told to hold: at about 1 KiB each.
const CACHE_ENTRIES: std::ops::RangeInclusive<usize> = 16..=1_000_000;

/// What the operator wrote. `docs/operations.md` and `envoy/README.md` explain each setting.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    manager_cluster: String,
    #[serde(default = "default_authority")]
    manager_authority: String,
    #[serde(default = "default_token_env")]
    token_env: Option<String>,
    #[serde(default)]
    installation: String,
    #[serde(default)]
    origin: WrittenOrigin,
    #[serde(default)]
    internal_ranges: Vec<String>,
    #[serde(default)]
    health_path: Option<String>,
    #[serde(default = "default_cache_entries")]
    cache_entries: usize,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenOrigin {
    Internal,
    #[default]
    External,
    ByAddress,
}

fn default_authority() -> String {
    String::from("keygate-manager")
}

fn default_token_env() -> Option<String> {
    Some(String::from("KEYGATE_GATEWAY_TOKEN"))
}

fn default_cache_entries() -> usize {
    DEFAULT_CACHE_ENTRIES
}

/// A configuration that makes sense.
#[derive(Debug)]
pub struct Config {
    /// Envoy's cluster of the manager.
    pub manager_cluster: String,
    /// `:authority` of calls to it.
    pub manager_authority: String,
    /// Environment variable with the gateway's token; None: the cluster's client certificate
    /// tells who we are.
    pub token_env: Option<String>,
    /// For the gate.
    pub setup: Setup,
}

impl Config {
    /// Reads the configuration of the plugin. The error says what to do.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.is_empty() {
            return Err(String::from(
                "the plugin has no `configuration`: give it JSON with `version` and `manager_cluster`",
            ));
        }
        let written: Written = gate::json::from_slice(json).map_err(|error| error.to_string())?;
        if written.version != VERSION {
            return Err(format!("`version` is {}: this filter understands {VERSION}", written.version));
        }
        for (name, value) in
            [("manager_cluster", &written.manager_cluster), ("manager_authority", &written.manager_authority)]
        {
            if value.is_empty() {
                return Err(format!("`{name}` is empty"));
            }
        }
        if written.token_env.as_ref().is_some_and(String::is_empty) {
            return Err(String::from("`token_env` is empty: name a variable, or write null for mTLS alone"));
        }
        if let Some(path) = written.health_path.as_ref().filter(|path| !path.starts_with('/')) {
            return Err(format!("`health_path` is `{path}`: it begins with a slash"));
        }
        if !CACHE_ENTRIES.contains(&written.cache_entries) {
            let (least, most) = (CACHE_ENTRIES.start(), CACHE_ENTRIES.end());
            return Err(format!(
                "`cache_entries` is {}: {least} to {most} are possible",
                written.cache_entries
            ));
        }
        Ok(Self {
            setup: Setup {
                namespace: namespace(&written),
                origin: origin(&written)?,
                health_path: written.health_path,
                cache_entries: written.cache_entries,
                filter_version: String::from(env!("CARGO_PKG_VERSION")),
            },
            manager_cluster: written.manager_cluster,
            manager_authority: written.manager_authority,
            token_env: written.token_env,
        })
    }
}

fn origin(written: &Written) -> Result<OriginRule, String> {
    match (written.origin, written.internal_ranges.is_empty()) {
        (WrittenOrigin::Internal, true) => Ok(OriginRule::Always(Origin::Internal)),
        (WrittenOrigin::External, true) => Ok(OriginRule::Always(Origin::External)),
        (WrittenOrigin::ByAddress, false) => {
            let blocks: Result<Vec<Block>, _> =
                written.internal_ranges.iter().map(|t| Block::parse(t)).collect();
            blocks.map(OriginRule::InternalFrom).map_err(|error| format!("`internal_ranges`: {error}"))
        }
        (WrittenOrigin::ByAddress, true) => {
            Err(String::from("`origin` is by_address: `internal_ranges` must list the internal addresses"))
        }
        (WrittenOrigin::Internal | WrittenOrigin::External, false) => {
            Err(String::from("`internal_ranges` is given: it needs `origin`: by_address"))
        }
    }
}

/// Shared records of one layout, manager and installation begin with this.
fn namespace(written: &Written) -> Vec<u8> {
    let parts = [&written.manager_cluster, &written.manager_authority, &written.installation];
    let named: String = parts.into_iter().flat_map(|part| [part.as_str(), "\0"]).collect();
    let hash = Fingerprint::of(named.as_bytes()).to_hex();
    format!("kg:{SHARED_LAYOUT}:{}:", hash.get(..16).unwrap_or(&hash)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"{"version": 1, "manager_cluster": "keygate_manager"}"#;

    #[test]
    fn the_least_configuration_is_enough() {
        let config = Config::parse(LEAST.as_bytes()).unwrap();
        assert_eq!(config.manager_cluster, "keygate_manager");
        assert_eq!(config.token_env.as_deref(), Some("KEYGATE_GATEWAY_TOKEN"));
        assert_eq!(config.setup.origin, OriginRule::Always(Origin::External));
        let layout = format!("kg:{SHARED_LAYOUT}:");
        assert!(config.setup.namespace.starts_with(layout.as_bytes()));
    }

    #[test]
    fn what_is_not_understood_is_refused_and_named() {
        for (json, named) in [
            ("", "`version` and `manager_cluster`"),
            ("{", "ends too early"),
            ("{}", "version"),
            (r#"{"version": 2, "manager_cluster": "m"}"#, "understands 1"),
            (r#"{"version": 1}"#, "manager_cluster"),
            (r#"{"version": 1, "manager_cluster": ""}"#, "manager_cluster"),
            (r#"{"version": 1, "manager_cluster": "m", "tokn_env": "X"}"#, "tokn_env"),
            (r#"{"version": 1, "manager_cluster": "m", "token_env": ""}"#, "token_env"),
            (r#"{"version": 1, "manager_cluster": "m", "origin": "inside"}"#, "inside"),
            (r#"{"version": 1, "manager_cluster": "m", "origin": "by_address"}"#, "internal_ranges"),
            (r#"{"version": 1, "manager_cluster": "m", "internal_ranges": ["10.0.0.0/8"]}"#, "by_address"),
            (
                r#"{"version": 1, "manager_cluster": "m", "origin": "by_address", "internal_ranges": ["x"]}"#,
                "no IP address",
            ),
            (r#"{"version": 1, "manager_cluster": "m", "health_path": "up"}"#, "health_path"),
            (r#"{"version": 1, "manager_cluster": "m", "cache_entries": 1}"#, "cache_entries"),
        ] {
            let error = Config::parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{json}: {error}");
        }
    }

    #[test]
    fn another_manager_or_installation_shares_nothing() {
        let namespace = |json: &str| Config::parse(json.as_bytes()).unwrap().setup.namespace;
        let first = namespace(LEAST);
        assert_ne!(first, namespace(r#"{"version": 1, "manager_cluster": "other"}"#));
        assert_ne!(
            first,
            namespace(r#"{"version": 1, "manager_cluster": "keygate_manager", "installation": "b"}"#)
        );
    }
}
