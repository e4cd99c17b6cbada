//! APIs and the rules of their fields.

use gate::id::{ApiUid, GroupId};
use gate::request::{CredentialKind, normal_host};
use gate::time::UnixMillis;
use gate::wire::directory::{ApiEntry, Audience, PathRule};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::catalog::model::{folded, parse_text};
use crate::openapi::schema::schema_of;

/// Characters of a module's name at most.
pub const MAX_MODULE: usize = 150;
/// Characters of an API's id at most.
pub const MAX_API_ID: usize = 255;
/// Characters of an API's name at most.
pub const MAX_API_NAME: usize = 255;
/// Hosts of one API at most.
pub const MAX_HOSTS: usize = 32;
/// Methods of one API at most.
pub const MAX_METHODS: usize = 16;
/// Characters of a host at most, brackets of an address and a trailing dot among them.
const MAX_HOST: usize = 254;
/// Characters of a method at most.
const MAX_METHOD: usize = 32;
/// Labels of one API at most.
pub const MAX_LABELS: usize = 10;
/// Characters of a label at most.
pub const MAX_LABEL: usize = 50;

/// A module's name.
pub enum Module {}
/// An API's id within its module.
pub enum ApiId {}
/// An API's name.
pub enum ApiTitle {}
/// A host name or address, without scheme, port and path.
pub enum Host {}
/// Empty: every host.
pub enum Hosts {}
/// An HTTP method.
pub enum Method {}
/// Empty: every method.
pub enum Methods {}
/// A label.
pub enum Label {}
/// Each once, whatever its case.
pub enum Labels {}

schema_of! { Module: text_of("A-Za-z0-9_.-", 1, MAX_MODULE) }
schema_of! { ApiId: text_of("A-Za-z0-9_.-", 1, MAX_API_ID) }
schema_of! { ApiTitle: lines(MAX_API_NAME) }
schema_of! { Host: text(1, MAX_HOST) }
schema_of! { Hosts: list::<Host>(0, MAX_HOSTS) }
schema_of! { Method as HttpMethod: text_of("A-Za-z-", 1, MAX_METHOD) }
schema_of! { Methods: list::<Method>(0, MAX_METHODS) }
schema_of! { Label: line(MAX_LABEL) }
schema_of! { Labels: list::<Label>(0, MAX_LABELS) }

/// A registered API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// `api_…`
    pub uid: ApiUid,
    /// Groups the APIs of one back end.
    pub module: ApiName,
    /// Unique within the module.
    pub id: ApiName,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Normalised; empty = every host.
    pub hosts: Vec<String>,
    /// Upper case; empty = every method.
    pub methods: Vec<String>,
    /// Where it answers.
    pub path: PathRule,
    /// Which credentials it accepts.
    pub accepts: Vec<CredentialKind>,
    /// No credential is asked for.
    pub no_auth: bool,
    /// false: calls are answered 503.
    pub enabled: bool,
    /// From where it may be called.
    pub audience: Audience,
    /// Form and multipart bodies go unsigned.
    pub unsigned_forms: bool,
    /// For people, and for lists to be narrowed by.
    pub labels: Vec<String>,
    /// When it becomes enabled by itself.
    pub enable_at: Option<UnixMillis>,
    /// When it becomes disabled by itself.
    pub disable_at: Option<UnixMillis>,
    /// How it came here.
    pub source: ApiSource,
    /// The groups that contain it, in order of their ids.
    pub groups: Vec<GroupId>,
    /// The scopes that contain it, in order of their ids.
    pub scopes: Vec<GroupId>,
    /// When.
    pub created_at: UnixMillis,
    /// When.
    pub updated_at: UnixMillis,
    /// For `If-Match`.
    pub version: i64,
}

/// How an API came into the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiSource {
    /// An operator entered it.
    Registered,
    /// It was taken over from an OpenAPI document.
    Imported,
}

impl ApiSource {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Imported => "imported",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Registered, Self::Imported].into_iter().find(|source| source.as_str() == text)
    }
}

/// A module's name or an API's id: letters, digits, `_`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ApiName(String);

impl ApiName {
    /// Checks a module's name.
    pub fn module(text: &str) -> Result<Self, String> {
        Self::parse(text, MAX_MODULE)
    }

    /// Checks an API's id.
    pub fn api_id(text: &str) -> Result<Self, String> {
        Self::parse(text, MAX_API_ID)
    }

    fn parse(text: &str, max: usize) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if text.is_empty() || text.len() > max || !text.bytes().all(fits) {
            return Err(format!("must be 1 to {max} characters of a-z, A-Z, 0-9, `_`, `-` and `.`"));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ApiName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Api {
    /// Whether it asks for credentials, and this is none that it accepts.
    pub fn refuses(&self, kind: CredentialKind) -> bool {
        !self.no_auth && !self.accepts.contains(&kind)
    }

    /// As gates hold it. A scope is a group to them: which credential has which is told by its grant.
    pub fn entry(&self) -> ApiEntry {
        ApiEntry {
            uid: self.uid.clone(),
            module: self.module.to_string(),
            id: self.id.to_string(),
            hosts: self.hosts.clone(),
            methods: self.methods.clone(),
            path: self.path.clone(),
            accepts: self.accepts.clone(),
            no_auth: self.no_auth,
            enabled: self.enabled,
            audience: self.audience,
            groups: self.groups.iter().chain(&self.scopes).cloned().collect(),
            unsigned_forms: self.unsigned_forms,
        }
    }

    /// Every (host, method) at which it answers; empty text = every one.
    pub fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        let (hosts, methods) = (every(&self.hosts), every(&self.methods));
        hosts.into_iter().flat_map(move |host| methods.clone().into_iter().map(move |method| (host, method)))
    }

    /// Where it is called: below `gateway_url` (setting), else at its first host; None: neither is
    /// known. A path of a template has its variables as they are written.
    pub fn url(&self, gateway_url: Option<&str>) -> Option<String> {
        let base = match (gateway_url, self.hosts.first()) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            // A wildcard host is no address.
            (None, Some(host)) if !host.contains('*') => format!("https://{host}"),
            (None, _) => return None,
        };
        Some(format!("{base}{}", self.path_text()))
    }

    /// Its path as text.
    pub fn path_text(&self) -> &str {
        match &self.path {
            PathRule::Exact(path) | PathRule::Prefix(path) | PathRule::Template(path) => path,
        }
    }

    /// How people name it: `shop/orders`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.module, self.id)
    }
}

fn every(names: &[String]) -> Vec<&str> {
    if names.is_empty() { vec![""] } else { names.iter().map(String::as_str).collect() }
}

/// As stored, and as people write it.
pub fn credential_name(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Dgrk => "dgrk",
        CredentialKind::XApiKey => "x_api_key",
        CredentialKind::Bearer => "bearer",
        CredentialKind::Basic => "basic",
    }
}

/// Normalises hosts: lower case, no trailing dot, no port; sorted, each once.
pub fn parse_hosts(hosts: &[String]) -> Result<Vec<String>, String> {
    if hosts.len() > MAX_HOSTS {
        return Err(format!("has {} entries, {MAX_HOSTS} at most", hosts.len()));
    }
    let mut normal = hosts.iter().map(|host| parse_host(host)).collect::<Result<Vec<_>, _>>()?;
    normal.sort();
    normal.dedup();
    Ok(normal)
}

fn parse_host(text: &str) -> Result<String, String> {
    let expected = || {
        format!(
            "{text:?} is no host: write a name or an address without scheme, port and path, e.g. api.example.com"
        )
    };
    // An IPv6 address may come in brackets, as in a URL, or without.
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.contains(':') {
        let address: std::net::Ipv6Addr = bare.parse().map_err(|_| expected())?;
        return Ok(address.to_string());
    }
    let host = normal_host(text.as_bytes()).into_owned();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(expected());
    }
    Ok(host)
}

/// Checks methods (RFC 9110 tokens, upper case); sorted, each once.
pub fn parse_methods(methods: &[String]) -> Result<Vec<String>, String> {
    if methods.len() > MAX_METHODS {
        return Err(format!("has {} entries, {MAX_METHODS} at most", methods.len()));
    }
    let mut upper = Vec::with_capacity(methods.len());
    for method in methods {
        let text = method.to_ascii_uppercase();
        if text.is_empty()
            || text.len() > MAX_METHOD
            || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            return Err(format!("{method:?} is no HTTP method, e.g. GET"));
        }
        upper.push(text);
    }
    upper.sort();
    upper.dedup();
    Ok(upper)
}

/// Checks labels: each once, whatever its case, in the order given.
pub fn parse_labels(labels: &[String]) -> Result<Vec<String>, String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("has {} entries, {MAX_LABELS} at most", labels.len()));
    }
    let mut parsed: Vec<String> = Vec::with_capacity(labels.len());
    for label in labels {
        let label = parse_text(label, 1, MAX_LABEL).map_err(|reason| format!("{label:?} {reason}"))?;
        if label.contains('\n') {
            return Err(format!("{label:?} has a line break"));
        }
        if parsed.iter().any(|other| folded(&[other]) == folded(&[&label])) {
            return Err(format!("has {label:?} twice"));
        }
        parsed.push(label);
    }
    Ok(parsed)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn hosts_are_normalised_and_what_is_none_is_refused() {
        let parse = |host: &str| parse_hosts(&[host.to_string()]).map(|hosts| hosts.concat()).ok();
        for (text, normal) in [
            ("API.Example.com.", Some("api.example.com")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[2001:DB8::1]", Some("2001:db8::1")),
            ("a_b.internal", Some("a_b.internal")),
            ("api.example.com:443", None),
            ("https://api.example.com", None),
            ("api.example.com/x", None),
            ("", None),
            ("a..b", None),
            ("-a.b", None),
            ("*.example.com", None),
            ("ä.example", None),
        ] {
            assert_eq!(parse(text).as_deref(), normal, "{text}");
        }
        assert!(parse_hosts(&vec!["a".to_string(); MAX_HOSTS]).is_ok());
        assert!(parse_hosts(&vec!["a".to_string(); MAX_HOSTS + 1]).is_err());
    }

    #[test]
    fn methods_are_upper_case_tokens() {
        let parse = |method: &str| parse_methods(&[method.to_string()]);
        assert_eq!(parse("get"), Ok(vec!["GET".to_string()]));
        assert_eq!(parse("M-SEARCH"), Ok(vec!["M-SEARCH".to_string()]));
        for wrong in ["", "GET POST", "G*", &"A".repeat(33)] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_are_short_and_each_stands_once() {
        let parse =
            |labels: &[&str]| parse_labels(&labels.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(parse(&[" Payments ", "v2"]), Ok(vec!["Payments".to_string(), "v2".to_string()]));
        for wrong in [&[""][..], &["Ä", "ä"], &["a\nb"], &[&"x".repeat(MAX_LABEL + 1)], &["a\tb"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let many: Vec<String> = (0..=MAX_LABELS).map(|n| n.to_string()).collect();
        assert!(parse_labels(&many).is_err());
        assert!(parse_labels(many.get(..MAX_LABELS).expect("that many")).is_ok());
    }
}
