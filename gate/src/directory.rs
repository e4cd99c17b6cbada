//! Which API a request means: validated, indexed APIs and settings; host, method and path
//! matching.
//!
//! Paths are compared in their normal form ([`normal_path`]); what could be read in two ways
//! never gets here ([`guard_path`]). Of the APIs whose host, path and method fit, the first is meant
//! in this order: a named host before any host; then, segment by segment from the left, a literal
//! before a parameter, and a parameter before what a prefix leaves open; then an exact or template
//! path before a prefix of the same segments; then a named method before any method. The manager
//! registers no two APIs that this does not tell apart, so that nothing else (the order of
//! registration, the uid) decides.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::denial::Denial;
use crate::id::{ApiUid, Epoch, Revision};
use crate::request::{guard_path, normal_host, normal_path};
use crate::sorted::Sorted;
use crate::wire::directory::{ApiEntry, DirectoryAnswer, PathRule, Settings, TokenKey};

/// Segments of a rule's path at most: matching visits each with every combination of literals and
/// parameters that fits it. A request may have more, which only prefixes fit.
pub const MAX_SEGMENTS: usize = 64;

/// The snapshot that every worker holds.
#[derive(Debug)]
pub struct Directory {
    epoch: Epoch,
    revision: Revision,
    settings: Settings,
    token_keys: TokenKeys,
    apis: Sorted<ApiUid, Rc<ApiEntry>>,
    index: Index,
}

/// Why an answer of the manager cannot be taken. The directory held before stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryError {
    /// A delta on another revision or epoch than the one held: fetch a snapshot.
    NotOurDelta,
    /// An API whose path no request could have.
    UnusablePath {
        /// Which.
        api: ApiUid,
        /// Its path.
        path: String,
    },
    /// A key of tokens that is no Base64.
    UnusableKey {
        /// Its name.
        kid: String,
    },
}

/// Keys that sign tokens: by their name, the DER of their `SubjectPublicKeyInfo`.
type TokenKeys = Sorted<String, Vec<u8>>;

fn token_keys(sent: Vec<TokenKey>) -> Result<TokenKeys, DirectoryError> {
    let read = |TokenKey { kid, spki }| match STANDARD.decode(spki) {
        Ok(der) => Ok((kid, der)),
        Err(_) => Err(DirectoryError::UnusableKey { kid }),
    };
    sent.into_iter().map(read).collect()
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurDelta => f.write_str("the delta is for another revision than the one held"),
            Self::UnusablePath { api, path } => {
                write!(f, "API {api} has the path `{path}`, which no request could have")
            }
            Self::UnusableKey { kid } => write!(f, "the key {kid} of tokens is no Base64"),
        }
    }
}

impl Directory {
    /// Takes a snapshot.
    pub fn from_snapshot(answer: DirectoryAnswer) -> Result<Self, DirectoryError> {
        if answer.since.is_some() {
            return Err(DirectoryError::NotOurDelta);
        }
        let apis = answer.apis.into_iter().map(|api| (api.uid.clone(), Rc::new(api))).collect();
        let index = Index::build(&apis)?;
        let token_keys = token_keys(answer.token_keys)?;
        let (epoch, revision, settings) = (answer.epoch, answer.revision, answer.settings);
        Ok(Self { epoch, revision, settings, token_keys, apis, index })
    }

    /// Takes a snapshot or a delta; on an error everything stays as it was.
    pub fn apply(&mut self, answer: DirectoryAnswer) -> Result<(), DirectoryError> {
        let Some(since) = answer.since else {
            *self = Self::from_snapshot(answer)?;
            return Ok(());
        };
        if since != self.revision || answer.epoch != self.epoch {
            return Err(DirectoryError::NotOurDelta);
        }
        let mut apis = self.apis.clone();
        for uid in &answer.removed {
            apis.remove(uid);
        }
        for api in answer.apis {
            apis.insert(api.uid.clone(), Rc::new(api));
        }
        let token_keys = token_keys(answer.token_keys)?;
        self.index = Index::build(&apis)?;
        self.apis = apis;
        self.token_keys = token_keys;
        self.settings = answer.settings;
        self.revision = answer.revision;
        Ok(())
    }

    /// Life of the database it came from.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What to ask for a delta on.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Settings of the installation.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The DER of the key of that name, if it signs tokens.
    pub fn token_key(&self, kid: &str) -> Option<&[u8]> {
        self.token_keys.get(kid).map(Vec::as_slice)
    }

    /// Number of APIs.
    pub fn len(&self) -> usize {
        self.apis.len()
    }

    /// Whether no API is registered.
    pub fn is_empty(&self) -> bool {
        self.apis.is_empty()
    }

    /// The API that a request means, from its head as it was sent.
    pub fn meant(&self, host: &[u8], method: &[u8], path_and_query: &[u8]) -> Result<&Rc<ApiEntry>, Denial> {
        let path = normal_path(guard_path(path_and_query)?);
        let method = core::str::from_utf8(method).unwrap_or_default();
        self.find(&normal_host(host), method, &path)
    }

    /// The API that a request means.
    ///
    /// `host` is normalised by [`crate::request::normal_host`], `path` guarded, without its query
    /// and in its normal form, `method` as received.
    pub fn find(&self, host: &str, method: &str, path: &str) -> Result<&Rc<ApiEntry>, Denial> {
        let mut search = Search { method, found: None, allow: Vec::new() };
        // No rule is as deep as one more than the most: what is left out could fit none.
        let segments: Vec<&str> = segments(path).take(MAX_SEGMENTS + 1).collect();
        for root in [self.index.hosts.get(host), Some(&self.index.any_host)].into_iter().flatten() {
            search.descend(root, &segments);
        }
        match (search.found, search.allow) {
            (Some(api), _) => Ok(api),
            (None, allow) if allow.is_empty() => Err(Denial::ApiNotFound),
            (None, allow) => {
                let allow: Sorted<&str, ()> = allow.into_iter().map(|method| (method, ())).collect();
                Err(Denial::MethodNotAllowed {
                    allow: allow.iter().map(|(method, ())| method.to_string()).collect(),
                })
            }
        }
    }
}

/// `/a/b/` → `a`, `b`, and an empty one: a trailing slash is a difference.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// One tree of segments for each named host, and one for the APIs of every host.
#[derive(Debug, Default)]
struct Index {
    hosts: Named,
    any_host: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: Named,
    parameter: Option<alloc::boxed::Box<Node>>,
    /// Exact and template paths that end here.
    ends: Vec<Rc<ApiEntry>>,
    /// Prefixes that begin here.
    prefixes: Vec<Rc<ApiEntry>>,
}

/// Nodes by name. Names are looked for by their hash: among thousands, comparing texts would fetch
/// each of them from memory. Who registers APIs chooses the names, so that a hash need not be keyed.
#[derive(Debug, Default)]
struct Named(BTreeMap<u64, Vec<(String, Node)>>);

impl Named {
    fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(&hash(name))?.iter().find(|(other, _)| other == name).map(|(_, node)| node)
    }

    fn entry(&mut self, name: &str) -> &mut Node {
        let nodes = self.0.entry(hash(name)).or_default();
        let at = nodes.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            nodes.push((name.to_string(), Node::default()));
            nodes.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found there, or pushed")]
        &mut nodes[at].1
    }
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Index {
    fn build(apis: &Sorted<ApiUid, Rc<ApiEntry>>) -> Result<Self, DirectoryError> {
        let mut index = Self::default();
        for (_, api) in apis.iter() {
            if api.hosts.is_empty() {
                index.any_host.insert(api)?;
            }
            for host in &api.hosts {
                index.hosts.entry(host).insert(api)?;
            }
        }
        Ok(index)
    }
}

impl Node {
    fn insert(&mut self, api: &Rc<ApiEntry>) -> Result<(), DirectoryError> {
        let (PathRule::Exact(path) | PathRule::Prefix(path) | PathRule::Template(path)) = &api.path;
        let unusable = || DirectoryError::UnusablePath { api: api.uid.clone(), path: path.clone() };
        let guarded = guard_path(path.as_bytes()).map_err(|_| unusable())?;
        if guarded != path.as_str() || segments(path).count() > MAX_SEGMENTS {
            return Err(unusable());
        }
        let mut node = self;
        // A prefix is written without its trailing slash inside: `/` is the prefix of everything.
        let rule = if matches!(api.path, PathRule::Prefix(_)) { path.trim_end_matches('/') } else { path };
        if !(rule.is_empty() && matches!(api.path, PathRule::Prefix(_))) {
            for segment in segments(rule) {
                let parameter = matches!(api.path, PathRule::Template(_))
                    && segment.starts_with('{')
                    && segment.ends_with('}');
                node = if parameter {
                    node.parameter.get_or_insert_default()
                } else {
                    node.literals.entry(&normal_path(segment))
                };
            }
        }
        let here = if matches!(api.path, PathRule::Prefix(_)) { &mut node.prefixes } else { &mut node.ends };
        // Named methods before every method: the first that fits is meant.
        here.insert(if api.methods.is_empty() { here.len() } else { 0 }, api.clone());
        Ok(())
    }
}

/// Collects the first API whose methods fit, and the methods of those whose path alone does.
struct Search<'d, 'm> {
    method: &'m str,
    found: Option<&'d Rc<ApiEntry>>,
    allow: Vec<&'d str>,
}

impl<'d> Search<'d, '_> {
    fn descend(&mut self, node: &'d Node, rest: &[&str]) {
        match rest.split_first() {
            None => self.consider(&node.ends),
            Some((segment, below)) => {
                if let Some(child) = node.literals.get(segment) {
                    self.descend(child, below);
                }
                if let (None, Some(child), false) = (self.found, &node.parameter, segment.is_empty()) {
                    self.descend(child, below);
                }
            }
        }
        self.consider(&node.prefixes);
    }

    fn consider(&mut self, apis: &'d [Rc<ApiEntry>]) {
        if self.found.is_some() {
            return;
        }
        let fits =
            |api: &&Rc<ApiEntry>| api.methods.is_empty() || api.methods.iter().any(|m| m == self.method);
        match apis.iter().find(fits) {
            Some(api) => self.found = Some(api),
            None => self.allow.extend(apis.iter().flat_map(|api| api.methods.iter().map(String::as_str))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WIRE_VERSION;
    use crate::wire::directory::Audience;
    use alloc::vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn api(uid: &str, hosts: &[&str], methods: &[&str], path: PathRule) -> ApiEntry {
        ApiEntry {
            uid: uid.into(),
            module: "shop".into(),
            id: uid.into(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            methods: methods.iter().map(ToString::to_string).collect(),
            path,
            accepts: vec![],
            no_auth: false,
            enabled: true,
            audience: Audience::Both,
            groups: vec![],
            unsigned_forms: false,
        }
    }

    fn snapshot(apis: Vec<ApiEntry>) -> DirectoryAnswer {
        DirectoryAnswer {
            version: WIRE_VERSION,
            epoch: Epoch(1),
            revision: Revision(7),
            since: None,
            settings: Settings::default(),
            apis,
            token_keys: vec![],
            removed: vec![],
        }
    }

    fn shop() -> Directory {
        let exact = |p: &str| PathRule::Exact(p.into());
        let prefix = |p: &str| PathRule::Prefix(p.into());
        let template = |p: &str| PathRule::Template(p.into());
        Directory::from_snapshot(snapshot(vec![
            api("orders", &[], &["GET", "POST"], exact("/orders")),
            api("order", &[], &["GET"], template("/orders/{id}")),
            api("today", &[], &["GET"], exact("/orders/today")),
            api("lines", &[], &["GET"], template("/orders/{id}/lines")),
            api("below", &[], &["PUT"], prefix("/orders")),
            api("deep", &[], &[], prefix("/orders/archive/")),
            api("host", &["api.example.com"], &["GET"], exact("/orders")),
            api("slash", &[], &["GET"], exact("/slash/")),
        ]))
        .unwrap()
    }

    #[test]
    fn the_most_specific_api_is_meant() {
        let directory = shop();
        for (host, method, path, meant) in [
            ("", "GET", "/orders", Some("orders")),
            ("", "POST", "/orders", Some("orders")),
            ("", "PUT", "/orders", Some("below")),
            ("", "GET", "/orders/7", Some("order")),
            ("", "GET", "/orders/today", Some("today")),
            ("", "PUT", "/orders/today", Some("below")),
            ("", "GET", "/orders/7/lines", Some("lines")),
            ("", "PUT", "/orders/7/lines/9", Some("below")),
            ("", "GET", "/orders/archive/2020", Some("deep")),
            ("", "GET", "/orders/archive", Some("deep")),
            ("", "POST", "/orders/archive", Some("deep")),
            ("", "GET", "/orders7", None),
            ("", "GET", "/orders/", None),
            ("", "PUT", "/orders/", Some("below")),
            ("", "GET", "/slash/", Some("slash")),
            ("", "GET", "/slash", None),
            ("", "GET", "/ORDERS", None),
            ("api.example.com", "GET", "/orders", Some("host")),
            ("api.example.com", "POST", "/orders", Some("orders")),
            ("", "get", "/orders", None),
        ] {
            let found = directory.find(host, method, path).ok().map(|api| api.uid.as_str());
            assert_eq!(found, meant, "{method} {path} at {host:?}");
        }
    }

    #[test]
    fn a_named_method_comes_before_every_method() {
        for (named, every) in [("a", "b"), ("b", "a")] {
            let apis = [(named, &["GET"][..]), (every, &[])];
            for rule in [PathRule::Exact, PathRule::Prefix] {
                let apis = apis.map(|(uid, methods)| api(uid, &[], methods, rule("/x".into()))).to_vec();
                let directory = Directory::from_snapshot(snapshot(apis)).unwrap();
                let meant = |method| directory.find("", method, "/x").unwrap().uid.clone();
                assert_eq!((meant("GET").as_str(), meant("PUT").as_str()), (named, every));
            }
        }
    }

    #[test]
    fn another_method_is_told_from_another_path() {
        let directory = shop();
        assert_eq!(directory.find("", "GET", "/nothing").unwrap_err(), Denial::ApiNotFound);
        assert_eq!(
            directory.find("", "DELETE", "/orders").unwrap_err(),
            Denial::MethodNotAllowed { allow: ["GET", "POST", "PUT"].map(String::from).to_vec() }
        );
    }

    #[test]
    fn every_spelling_of_a_path_means_the_same_api() {
        let apis =
            [("strict", PathRule::Exact("/admin/items:all".into())), ("open", PathRule::Prefix("/".into()))];
        let apis = apis.map(|(uid, path)| api(uid, &[], &[], path)).to_vec();
        let directory = Directory::from_snapshot(snapshot(apis)).unwrap();
        for path in ["/admin/items:all", "/%61dmin/items:all", "/admin/items%3Aall", "/admin/items%3aall"] {
            let found = directory.find("", "GET", &normal_path(path)).unwrap();
            assert_eq!(found.uid.as_str(), "strict", "{path}");
        }
    }

    #[test]
    fn the_prefix_of_everything_is_a_slash() {
        let all =
            Directory::from_snapshot(snapshot(vec![api("all", &[], &[], PathRule::Prefix("/".into()))]))
                .unwrap();
        for path in ["/", "/a", "/a/b/"] {
            assert!(all.find("", "GET", path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_path_deeper_than_any_rule_is_still_below_its_prefixes() {
        let path = |segments: usize| "/a".repeat(segments);
        let apis = [
            ("below", PathRule::Prefix("/a".into())),
            ("deepest", PathRule::Exact(path(MAX_SEGMENTS))),
            ("open", PathRule::Template(path(MAX_SEGMENTS - 1) + "/{id}")),
        ];
        let apis = apis.map(|(uid, rule)| api(uid, &[], &["GET"], rule)).to_vec();
        let directory = Directory::from_snapshot(snapshot(apis)).unwrap();
        for (path, meant) in [
            (path(MAX_SEGMENTS - 1), "below"),
            (path(MAX_SEGMENTS), "deepest"),
            (path(MAX_SEGMENTS - 1) + "/b", "open"),
            (path(MAX_SEGMENTS) + "/", "below"),
            (path(MAX_SEGMENTS + 1), "below"),
            (path(10 * MAX_SEGMENTS), "below"),
        ] {
            assert_eq!(directory.find("", "GET", &path).unwrap().uid.as_str(), meant, "{path}");
            let refused = directory.find("", "PUT", &path).unwrap_err();
            assert_eq!(refused, Denial::MethodNotAllowed { allow: vec!["GET".into()] }, "{path}");
        }
        let deep = path(MAX_SEGMENTS + 1);
        assert_eq!(directory.find("", "GET", &("/b".to_string() + &deep)).unwrap_err(), Denial::ApiNotFound);
        let too_deep = snapshot(vec![api("bad", &[], &[], PathRule::Prefix(deep.clone()))]);
        let refused = DirectoryError::UnusablePath { api: "bad".into(), path: deep };
        assert_eq!(Directory::from_snapshot(too_deep).unwrap_err(), refused);
    }

    #[test]
    fn a_delta_applies_to_its_own_revision_alone() {
        let mut directory = shop();
        let delta = |since, epoch| DirectoryAnswer {
            since: Some(Revision(since)),
            revision: Revision(8),
            epoch: Epoch(epoch),
            token_keys: vec![],
            removed: vec!["today".into()],
            ..snapshot(vec![api("new", &[], &["GET"], PathRule::Exact("/new".into()))])
        };
        assert_eq!(directory.apply(delta(6, 1)), Err(DirectoryError::NotOurDelta));
        assert_eq!(directory.apply(delta(7, 2)), Err(DirectoryError::NotOurDelta));
        assert_eq!(directory.apply(delta(7, 1)), Ok(()));
        assert_eq!(directory.revision(), Revision(8));
        assert_eq!(directory.find("", "GET", "/orders/today").unwrap().uid.as_str(), "order");
        assert!(directory.find("", "GET", "/new").is_ok());
    }

    #[test]
    fn paths_no_request_could_have_are_refused_and_change_nothing() {
        let mut directory = shop();
        for path in ["orders", "/a//b", "/a/../b", "/a;b", "/a%2fb", "/a?b=c", ""] {
            let answer = snapshot(vec![api("bad", &[], &[], PathRule::Exact(path.into()))]);
            let refused = DirectoryError::UnusablePath { api: "bad".into(), path: path.into() };
            assert_eq!(directory.apply(answer), Err(refused));
        }
        assert!(directory.find("", "GET", "/orders").is_ok());
    }
}
