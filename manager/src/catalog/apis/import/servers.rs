//! Where the operations of a document answer: hosts and base path of its servers.

use std::collections::BTreeSet;

use gate::request::normal_host;
use serde_json::Value;

use super::model::{Options, Refused};
use crate::catalog::apis::model::{MAX_HOSTS, parse_hosts};

/// URLs that the variables of one server may stand for at most.
pub(super) const MAX_SERVER_URLS: usize = 64;

/// Where operations answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Normalised; empty = every host.
    pub hosts: Vec<String>,
    /// Without a slash at its end; may be empty.
    pub base_path: String,
}

/// What an option puts in place of what the document says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    hosts: Option<Vec<String>>,
    base_path: Option<String>,
}

impl Chosen {
    /// Checks the options.
    pub(super) fn parse(options: &Options) -> Result<Self, Refused> {
        let refused = |option| move |reason| Refused::Option { option, reason };
        let hosts = options.hosts.as_deref().map(parse_hosts).transpose().map_err(refused("hosts"))?;
        let base_path = match options.base_path.as_deref() {
            Some(path) if !path.is_empty() && !path.starts_with('/') => {
                let reason = format!("{path:?} must begin with `/`, or be empty for none");
                return Err(Refused::Option { option: "base_path", reason });
            }
            path => path.map(|path| path.trim_end_matches('/').to_string()),
        };
        Ok(Self { hosts, base_path })
    }
}

/// Where the operations of these `servers` answer; the error says why an API cannot answer there.
/// `warnings` gets what the document says and an API cannot hold.
pub(super) fn place(
    servers: Option<&Value>,
    chosen: &Chosen,
    warnings: &mut BTreeSet<String>,
) -> Result<Place, String> {
    if let Chosen { hosts: Some(hosts), base_path: Some(base_path) } = chosen {
        return Ok(Place { hosts: hosts.clone(), base_path: base_path.clone() });
    }
    let servers = match servers {
        None | Some(Value::Null) => &[],
        Some(Value::Array(servers)) => servers.as_slice(),
        Some(_) => return Err("`servers` is no list".into()),
    };
    let (mut hosts, mut every_host, mut base_paths) = (BTreeSet::new(), servers.is_empty(), BTreeSet::new());
    if servers.is_empty() {
        base_paths.insert(String::new());
    }
    for server in servers {
        for url in urls(server, warnings)? {
            let (host, base_path) = parse_url(&url)?;
            base_paths.insert(base_path);
            every_host |= host.is_none();
            hosts.extend(host);
        }
    }
    if every_host && !hosts.is_empty() && chosen.hosts.is_none() {
        let named: Vec<_> = hosts.iter().map(String::as_str).collect();
        warnings.insert(format!(
            "a server is relative: its operations are held for every host, not only for {}",
            named.join(", ")
        ));
    }
    let hosts = match &chosen.hosts {
        Some(hosts) => hosts.clone(),
        None if every_host => Vec::new(),
        None if hosts.len() > MAX_HOSTS => {
            return Err(format!("its servers have {} hosts, {MAX_HOSTS} at most: name `hosts`", hosts.len()));
        }
        None => hosts.into_iter().collect(),
    };
    match (&chosen.base_path, base_paths.pop_first(), base_paths.is_empty()) {
        (Some(base_path), _, _) => Ok(Place { hosts, base_path: base_path.clone() }),
        (None, Some(base_path), true) => Ok(Place { hosts, base_path }),
        (None, first, _) => {
            let all: Vec<_> = first.iter().chain(&base_paths).map(|path| format!("{path:?}")).collect();
            let all = all.join(", ");
            Err(format!("its servers have several base paths ({all}), an API has one: name `base_path`"))
        }
    }
}

/// The URLs that a server stands for.
fn urls(server: &Value, warnings: &mut BTreeSet<String>) -> Result<Vec<String>, String> {
    let url = server["url"].as_str().ok_or("a server has no `url` that is a text")?;
    let mut urls = vec![String::new()];
    let mut rest = url;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| format!("server {url:?} has a brace that is not closed"))?;
        let values = variable(&server["variables"][name])
            .map_err(|reason| format!("server {url:?}: variable {name:?} {reason}"))?;
        if values.open {
            warnings.insert(format!(
                "server {url:?}: {{{name}}} may be anything; the default {:?} alone is held",
                values.values.concat()
            ));
        }
        if urls.len() * values.values.len() > MAX_SERVER_URLS {
            return Err(format!("server {url:?} stands for more than {MAX_SERVER_URLS} URLs: name `hosts`"));
        }
        urls = urls
            .iter()
            .flat_map(|url| values.values.iter().map(move |value| format!("{url}{before}{value}")))
            .collect();
        rest = after;
    }
    for url in &mut urls {
        url.push_str(rest);
    }
    Ok(urls)
}

struct Values<'d> {
    values: Vec<&'d str>,
    /// These are not all that the document allows.
    open: bool,
}

fn variable(variable: &Value) -> Result<Values<'_>, String> {
    let text = |value: &Value| format!("has the value {value}, which is no text: write it in quotes");
    match (&variable["enum"], &variable["default"]) {
        (Value::Array(values), _) if !values.is_empty() => {
            let values = values.iter().map(|value| value.as_str().ok_or_else(|| text(value)));
            Ok(Values { values: values.collect::<Result<_, _>>()?, open: false })
        }
        (Value::Null, Value::String(default)) => Ok(Values { values: vec![default], open: true }),
        (Value::Null, Value::Null) => Err("has neither default nor enum under `variables`".into()),
        (Value::Null, other) => Err(text(other)),
        _ => Err("has an enum that is no list of texts".into()),
    }
}

/// Host (None: relative) and base path.
fn parse_url(url: &str) -> Result<(Option<String>, String), String> {
    let (authority, path) = match url.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
                return Err(format!("server {url:?}: {scheme:?} is not a scheme of HTTP"));
            }
            split_authority(rest)
        }
        Some(_) | None => match url.strip_prefix("//") {
            Some(rest) => split_authority(rest),
            None if url.is_empty() || url.starts_with('/') => (None, url),
            None => {
                return Err(format!(
                    "server {url:?} is relative to the place of the document, which is not known here: write a \
                     whole URL or a path that begins with `/`, or name `hosts` and `base_path`"
                ));
            }
        },
    };
    if url.contains(['?', '#']) {
        return Err(format!("server {url:?} has a query or fragment, which an API cannot have"));
    }
    let host = match authority {
        None => None,
        Some(authority) if authority.contains('@') => {
            return Err(format!("server {url:?} has a user name, which an API cannot have"));
        }
        Some(authority) => {
            let host = normal_host(authority.as_bytes()).into_owned();
            let hosts = parse_hosts(&[host]).map_err(|reason| format!("server {url:?}: {reason}"))?;
            hosts.into_iter().next()
        }
    };
    Ok((host, path.trim_end_matches('/').to_string()))
}

fn split_authority(rest: &str) -> (Option<&str>, &str) {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (Some(authority), path)
}

#[cfg(test)]
mod unit {
    use super::*;
    use serde_json::json;

    fn placed(servers: &Value) -> (Result<Place, String>, Vec<String>) {
        let mut warnings = BTreeSet::new();
        let place = place(Some(servers), &Chosen::default(), &mut warnings);
        (place, warnings.into_iter().collect())
    }

    #[test]
    fn servers_are_hosts_and_a_base_path() {
        let of = |urls: &[&str]| json!(urls.iter().map(|url| json!({ "url": url })).collect::<Vec<_>>());
        for (urls, hosts, base_path) in [
            (&["https://API.Example.com/v1/"][..], &["api.example.com"][..], "/v1"),
            (&["https://api.example.com:8443"], &["api.example.com"], ""),
            (&["http://[2001:DB8::1]:80/a/b"], &["2001:db8::1"], "/a/b"),
            (&["//api.example.com/v1"], &["api.example.com"], "/v1"),
            (&["WSS://api.example.com./v1"], &["api.example.com"], "/v1"),
            (
                &["https://b.example/v1", "https://a.example/v1/", "https://a.example:8443/v1"],
                &["a.example", "b.example"],
                "/v1",
            ),
            (&["/"], &[], ""),
            (&["/v2"], &[], "/v2"),
            (&[""], &[], ""),
            (&[], &[], ""),
        ] {
            let expected =
                Place { hosts: hosts.iter().map(ToString::to_string).collect(), base_path: base_path.into() };
            assert_eq!(placed(&of(urls)), (Ok(expected), vec![]), "{urls:?}");
        }
        for (urls, reason) in [
            (&["https://a.example/v1", "https://b.example"][..], "several base paths (\"\", \"/v1\")"),
            (&["ftp://a.example"], "scheme"),
            (&["api.example.com/v1"], "relative to the place of the document"),
            (&["../v1"], "relative to the place of the document"),
            (&["https://user:secret@a.example"], "user name"),
            (&["https://a.example/v1?x=1"], "query or fragment"),
            (&["https://a.example#x"], "query or fragment"),
            (&["https://*.example.com"], "is no host"),
            (&["https:///v1"], "is no host"),
            (&["https://{host}/v1"], "neither default nor enum"),
            (&["https://{host"], "not closed"),
        ] {
            let error = placed(&of(urls)).0.expect_err(urls[0]);
            assert!(error.contains(reason), "{urls:?}: {error}");
        }
        for (servers, reason) in [
            (json!({}), "no list"),
            (json!([{}]), "no `url`"),
            (json!([7]), "no `url`"),
            (json!([{ "url": 7 }]), "no `url`"),
        ] {
            assert!(placed(&servers).0.expect_err("no servers").contains(reason), "{servers}");
        }
    }

    #[test]
    fn variables_stand_for_all_their_values() {
        let server = |variables: Value| json!([{ "url": "https://{region}.example.com/{version}", "variables": variables }]);
        let (place, warnings) = placed(&server(json!({
            "region": { "default": "eu", "enum": ["eu", "us"] }, "version": { "default": "v1" }
        })));
        let place = place.expect("placed");
        assert_eq!(
            (place.hosts, place.base_path.as_str()),
            (vec!["eu.example.com".into(), "us.example.com".into()], "/v1")
        );
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("{version}") && warnings[0].contains("\"v1\""), "{warnings:?}");

        for (variables, reason) in [
            (json!({ "region": { "default": "eu" }, "version": { "default": 1 } }), "in quotes"),
            (json!({ "region": { "default": "eu" }, "version": { "enum": ["1", 2] } }), "in quotes"),
            (json!({ "region": { "default": "eu" } }), "neither default nor enum"),
            (json!({ "region": { "enum": "eu" }, "version": { "default": "1" } }), "no list of texts"),
            (
                json!({ "region": { "default": "eu" }, "version": { "default": "1", "enum": ["1", "2"] } }),
                "several base paths",
            ),
        ] {
            let error = placed(&server(variables)).0.expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn urls_and_hosts_of_servers_are_bounded() {
        let server = |values: usize| {
            let values: Vec<_> = (0..values).map(|n| format!("{n}")).collect();
            json!([{ "url": "https://a.example:{port}", "variables": { "port": { "default": "0", "enum": values } } }])
        };
        assert!(placed(&server(MAX_SERVER_URLS)).0.is_ok());
        assert!(placed(&server(MAX_SERVER_URLS + 1)).0.expect_err("too many").contains("64 URLs"));
        let servers = |hosts: usize| {
            json!((0..hosts).map(|n| json!({ "url": format!("https://h{n}.example") })).collect::<Vec<_>>())
        };
        assert!(placed(&servers(MAX_HOSTS)).0.is_ok());
        assert!(placed(&servers(MAX_HOSTS + 1)).0.expect_err("too many").contains("33 hosts"));
    }

    #[test]
    fn a_relative_server_beside_others_is_told() {
        let (place, warnings) = placed(&json!([{ "url": "https://a.example/v1" }, { "url": "/v1" }]));
        assert_eq!(place, Ok(Place { hosts: vec![], base_path: "/v1".into() }));
        assert!(warnings[0].contains("every host, not only for a.example"), "{warnings:?}");
    }

    #[test]
    fn options_stand_instead_of_servers() {
        let options = |hosts: Option<&str>, base_path: Option<&str>| Options {
            hosts: hosts.map(|host| vec![host.to_string()]),
            base_path: base_path.map(str::to_string),
            ..Options::default()
        };
        let servers = json!([{ "url": "https://a.example/v1" }, { "url": "https://b.example" }]);
        let place = |hosts, base_path| {
            let chosen = Chosen::parse(&options(hosts, base_path)).expect("valid");
            super::place(Some(&servers), &chosen, &mut BTreeSet::new())
        };
        let of = |hosts: &[&str], base_path: &str| {
            Ok(Place { hosts: hosts.iter().map(ToString::to_string).collect(), base_path: base_path.into() })
        };
        assert_eq!(place(None, Some("/v2/")), of(&["a.example", "b.example"], "/v2"));
        assert_eq!(place(Some("C.example"), Some("")), of(&["c.example"], ""));
        assert!(place(Some("c.example"), None).expect_err("two").contains("several base paths"));
        for (options, name) in
            [(options(Some("https://c.example"), None), "hosts"), (options(None, Some("v1")), "base_path")]
        {
            let error = Chosen::parse(&options).expect_err(name).to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
