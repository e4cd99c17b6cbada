//! APIs, groups and security levels, and the rules of their fields.

use gate::id::{ApiUid, GroupId};
use gate::request::{CredentialKind, guard_path, normal_host, normal_path};
use gate::time::UnixMillis;
use gate::wire::directory::{ApiEntry, Audience, PathRule};
use serde::{Deserialize, Serialize};

/// Characters of a module's name at most.
pub const MAX_MODULE: usize = 150;
/// Characters of an API's id at most.
pub const MAX_API_ID: usize = 255;
/// Characters of an API's name at most.
pub const MAX_API_NAME: usize = 255;
/// Characters of a description at most.
pub const MAX_DESCRIPTION: usize = 500;
/// Hosts of one API at most.
pub const MAX_HOSTS: usize = 32;
/// Methods of one API at most.
pub const MAX_METHODS: usize = 16;
/// Characters of a path at most: the gate takes more, but nobody should need it.
pub const MAX_PATH: usize = 2_048;
/// Characters of a group's name and alias at most.
pub const MAX_GROUP_NAME: usize = 50;
/// APIs of one group at most.
pub const MAX_GROUP_APIS: usize = 2_000;

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
    /// How it came here.
    pub source: ApiSource,
    /// The groups that contain it, in order of their ids.
    pub groups: Vec<GroupId>,
    /// When.
    pub created_at: UnixMillis,
    /// When.
    pub updated_at: UnixMillis,
    /// For `If-Match`.
    pub version: i64,
}

/// How an API came into the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiSource {
    /// An operator entered it.
    Registered,
}

/// A module's name or an API's id: letters, digits, `_`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ApiName(String);

/// A set of APIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `gr_…`
    pub id: GroupId,
    /// Letters, digits, `_` and `-`; unique.
    pub name: String,
    /// For people; unique.
    pub alias: String,
    /// For people.
    pub description: String,
    /// Which clients may be given it.
    pub security_level: SecurityLevel,
    /// Its APIs, in order of their uids.
    pub apis: Vec<ApiUid>,
    /// When.
    pub created_at: UnixMillis,
    /// When.
    pub updated_at: UnixMillis,
    /// For `If-Match`.
    pub version: i64,
}

/// What other capabilities ask of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Which clients may be given it.
    pub security_level: SecurityLevel,
}

/// Levels are ordered: a client of one level may be given groups of that level and below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SecurityLevel {
    /// The lowest: what clients and groups begin with.
    #[default]
    System,
    /// Above `SYSTEM`.
    D,
    /// Above `D`.
    C,
    /// Above `C`.
    B,
    /// The highest.
    A,
}

impl SecurityLevel {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "SYSTEM",
            Self::D => "D",
            Self::C => "C",
            Self::B => "B",
            Self::A => "A",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::System, Self::D, Self::C, Self::B, Self::A].into_iter().find(|level| level.as_str() == text)
    }

    /// Whether a client of this level may be given a group of level `group`.
    pub fn covers(self, group: Self) -> bool {
        self >= group
    }
}

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
    /// As gates hold it.
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
            groups: self.groups.clone(),
            unsigned_forms: self.unsigned_forms,
        }
    }

    /// Every (host, method) at which it answers; empty text = every one.
    pub fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        let (hosts, methods) = (every(&self.hosts), every(&self.methods));
        hosts.into_iter().flat_map(move |host| methods.clone().into_iter().map(move |method| (host, method)))
    }

    /// How people name it: `shop/orders`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.module, self.id)
    }
}

fn every(names: &[String]) -> Vec<&str> {
    if names.is_empty() { vec![""] } else { names.iter().map(String::as_str).collect() }
}

/// Checks a path rule. The error says what is wrong with which part.
pub fn check_path(rule: &PathRule) -> Result<(), String> {
    let (PathRule::Exact(path) | PathRule::Prefix(path) | PathRule::Template(path)) = rule;
    if !path.starts_with('/') {
        return Err(format!("{path:?} must start with `/`"));
    }
    if path.len() > MAX_PATH {
        return Err(format!("has {} characters, {MAX_PATH} at most", path.len()));
    }
    if path.contains(['?', '#']) {
        return Err(format!("{path:?} must be a path alone, without `?` and `#`"));
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(format!("{path:?} has a segment `.` or `..`, which gates refuse in requests"));
    }
    if path.contains("//") {
        return Err(format!("{path:?} has an empty segment (`//`), which gates refuse in requests"));
    }
    if guard_path(path.as_bytes()).is_err() {
        return Err(format!(
            "{path:?} has a character that gates refuse in requests: `\\`, `;`, white space, what is not \
             ASCII (write it as %XX), or an encoded `/`, `.`, `;`, `\\` or NUL"
        ));
    }
    let plain = |segment: &&str| !(matches!(rule, PathRule::Template(_)) && segment.starts_with('{'));
    if let Some(segment) = path.split('/').filter(plain).find(|segment| normal_path(segment) != **segment)
        && !segment.contains(['{', '}'])
    {
        return Err(format!("write {:?} for {segment:?}, as which it is read", normal_path(segment)));
    }
    let segments = path.split('/').count() - 1;
    if segments > gate::directory::MAX_SEGMENTS {
        return Err(format!("has {segments} segments, {} at most", gate::directory::MAX_SEGMENTS));
    }
    match rule {
        PathRule::Template(path) => check_template(path),
        PathRule::Exact(path) | PathRule::Prefix(path) if path.contains(['{', '}']) => Err(format!(
            "{path:?} has braces: use {{\"template\": {path:?}}} for parameters, %7B and %7D for braces themselves"
        )),
        PathRule::Exact(_) | PathRule::Prefix(_) => Ok(()),
    }
}

fn check_template(path: &str) -> Result<(), String> {
    let mut names = Vec::new();
    for segment in path.split('/').filter(|segment| segment.contains(['{', '}'])) {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || !name.bytes().all(fits) {
            return Err(format!(
                "segment {segment:?}: a parameter is a whole segment `{{name}}` of a-z, A-Z, 0-9, `_` and `-`"
            ));
        }
        if names.contains(&name) {
            return Err(format!("parameter {{{name}}} stands twice"));
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(format!("{path:?} has no parameter `{{name}}`: use {{\"exact\": {path:?}}}"));
    }
    Ok(())
}

/// The rule as `api_routes` compares it: two templates that differ in the names of their
/// parameters alone are the same.
pub(super) fn path_key(rule: &PathRule) -> String {
    match rule {
        PathRule::Exact(path) => format!("exact {path}"),
        PathRule::Prefix(path) => format!("prefix {}", path.trim_end_matches('/')),
        PathRule::Template(path) => {
            let segments: Vec<_> = path
                .split('/')
                .map(|segment| if segment.starts_with('{') { "{}" } else { segment })
                .collect();
            format!("template {}", segments.join("/"))
        }
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
            || text.len() > 32
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

/// Checks a group's name.
pub fn parse_group_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if text.is_empty() || text.len() > MAX_GROUP_NAME || !text.bytes().all(fits) {
        return Err(format!("must be 1 to {MAX_GROUP_NAME} characters of a-z, A-Z, 0-9, `_` and `-`"));
    }
    Ok(text.into())
}

/// Checks a text for people: trimmed, `min` to `max` characters, no control characters but
/// line breaks.
pub fn parse_text(text: &str, min: usize, max: usize) -> Result<String, String> {
    let text = text.trim();
    let chars = text.chars().count();
    if chars < min || chars > max {
        return Err(if min == 0 {
            format!("has {chars} characters, {max} at most")
        } else {
            format!("must be {min} to {max} characters, has {chars}")
        });
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err("has a control character".into());
    }
    Ok(text.into())
}

/// Text as searches compare it.
pub fn folded(parts: &[&str]) -> String {
    parts.join("\n").to_lowercase()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn levels_are_ordered_with_a_on_top() {
        use SecurityLevel::{A, B, C, D, System};
        for (client, group, may) in [
            (A, A, true),
            (A, System, true),
            (B, A, false),
            (C, D, true),
            (D, C, false),
            (System, D, false),
            (System, System, true),
        ] {
            assert_eq!(client.covers(group), may, "{client:?} {group:?}");
        }
    }

    #[test]
    fn paths_that_no_request_could_have_are_refused_with_the_reason() {
        let (exact, prefix, template) = (PathRule::Exact, PathRule::Prefix, PathRule::Template);
        for (rule, reason) in [
            (exact("orders".into()), Some("must start with `/`")),
            (exact("".into()), Some("must start with `/`")),
            (exact("/a/../b".into()), Some("segment `.` or `..`")),
            (exact("/a/./b".into()), Some("segment `.` or `..`")),
            (exact("/a//b".into()), Some("empty segment")),
            (exact("/a?b".into()), Some("without `?`")),
            (exact("/a;b".into()), Some("gates refuse")),
            (exact("/a\\b".into()), Some("gates refuse")),
            (exact("/a%2fb".into()), Some("gates refuse")),
            (exact("/a%2e%2e/b".into()), Some("gates refuse")),
            (exact("/ä".into()), Some("gates refuse")),
            (exact("/a b".into()), Some("gates refuse")),
            (exact("/a/{id}".into()), Some("has braces")),
            (prefix("/a/{id}".into()), Some("has braces")),
            (template("/a".into()), Some("has no parameter")),
            (template("/a/{}".into()), Some("whole segment")),
            (template("/a/x{id}".into()), Some("whole segment")),
            (template("/a/{i d}".into()), Some("gates refuse")),
            (template("/a/{id".into()), Some("whole segment")),
            (template("/{a}/{a}".into()), Some("stands twice")),
            (exact(format!("/{}", "a".repeat(MAX_PATH - 1))), None),
            (exact(format!("/{}", "a".repeat(MAX_PATH))), Some("characters")),
            (exact("/a".repeat(64)), None),
            (exact("/a".repeat(65)), Some("segments")),
            (exact("/".into()), None),
            (prefix("/".into()), None),
            (prefix("/a/".into()), None),
            (template("/a/{id}/b/{x-1}".into()), None),
        ] {
            match (check_path(&rule), reason) {
                (Ok(()), None) => {}
                (Err(error), Some(reason)) => assert!(error.contains(reason), "{rule:?}: {error}"),
                (result, reason) => panic!("{rule:?}: {result:?} instead of {reason:?}"),
            }
        }
    }

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
    fn rules_that_match_the_same_have_the_same_key() {
        let template = |path: &str| path_key(&PathRule::Template(path.into()));
        assert_eq!(template("/a/{id}"), template("/a/{x}"));
        assert_ne!(template("/a/{id}"), template("/{id}/a"));
        let prefix = |path: &str| path_key(&PathRule::Prefix(path.into()));
        assert_eq!(prefix("/a"), prefix("/a/"));
        assert_ne!(prefix("/a"), path_key(&PathRule::Exact("/a".into())));
    }
}
