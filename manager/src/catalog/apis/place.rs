//! Where APIs answer, and when two of them cannot stand side by side.
//!
//! Gates choose among the APIs that fit a request (`gate/src/directory.rs`): a named host before
//! every host; then the more specific path, segment by segment from the left, where a literal is
//! more specific than a parameter, a parameter than what a prefix leaves open, and an exact path or
//! a template than a prefix of the same segments; then a named method before every method. Two APIs
//! clash where that does not say which is meant: they fit the same request with equally specific
//! hosts, and either their paths are equally specific and so are their methods (they answer at the
//! same place), or each path is the more specific one in some segment (`/a/{x}/b` and `/a/b/{y}`).
//! What does not clash never hides another API wholly: each is reached by some request.

use gate::id::ApiUid;
use gate::wire::directory::PathRule;

use super::model::Api;

/// Where an API answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose place.
    pub uid: ApiUid,
    /// `module/id`
    pub title: String,
    hosts: Vec<String>,
    methods: Vec<String>,
    path: Pattern,
}

/// Why two APIs cannot stand side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The API that is there.
    pub rival: ApiUid,
    /// `module/id` of it.
    pub rival_title: String,
    /// A host that both answer at; empty = every host.
    pub host: String,
    /// A method that both answer to; empty = every method.
    pub method: String,
    /// How their paths are related.
    pub kind: ClashKind,
}

/// How the paths of two APIs that clash are related.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClashKind {
    /// They fit the same requests.
    SamePlace,
    /// Each is the more specific one in some segment.
    Ambiguous {
        /// A path that both fit; `*` is any segment.
        path: String,
    },
}

/// A path rule by its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub segments: Vec<Segment>,
    /// Further segments may follow.
    pub open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    Parameter,
}

/// How two paths that fit a common request are related.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Relation {
    Same,
    /// One is the more specific.
    Ranked,
    Crossing {
        example: String,
    },
}

impl Place {
    /// The place of an API with these hosts, methods (both normalised) and this path.
    pub fn new(
        uid: ApiUid,
        title: String,
        hosts: Vec<String>,
        methods: Vec<String>,
        path: &PathRule,
    ) -> Self {
        Self { uid, title, hosts, methods, path: Pattern::of(path) }
    }

    /// The place of `api`.
    pub fn of(api: &Api) -> Self {
        Self::new(api.uid.clone(), api.title(), api.hosts.clone(), api.methods.clone(), &api.path)
    }

    /// Why an API here and the one at `other` cannot stand side by side, if so.
    pub fn clash(&self, other: &Self) -> Option<Clash> {
        let host = equally_specific(&self.hosts, &other.hosts)?;
        let (method, kind) = match self.path.relation(&other.path)? {
            Relation::Ranked => return None,
            Relation::Same => (equally_specific(&self.methods, &other.methods)?, ClashKind::SamePlace),
            Relation::Crossing { example } => {
                let method = match (self.methods.as_slice(), other.methods.as_slice()) {
                    ([], named) | (named, []) => named.first().map_or("", String::as_str),
                    (ours, theirs) => ours.iter().find(|method| theirs.contains(method))?,
                };
                (method, ClashKind::Ambiguous { path: example })
            }
        };
        Some(Clash {
            rival: other.uid.clone(),
            rival_title: other.title.clone(),
            host: host.into(),
            method: method.into(),
            kind,
        })
    }
}

/// A name that both lists have, or the empty text where both are empty (every one): elsewhere the
/// one that names it is the more specific.
fn equally_specific<'n>(ours: &'n [String], theirs: &[String]) -> Option<&'n str> {
    if ours.is_empty() && theirs.is_empty() {
        return Some("");
    }
    ours.iter().find(|name| theirs.contains(name)).map(String::as_str)
}

impl Pattern {
    pub fn of(rule: &PathRule) -> Self {
        let (path, template, open) = match rule {
            PathRule::Exact(path) => (path.as_str(), false, false),
            PathRule::Template(path) => (path.as_str(), true, false),
            // `/a/` is the prefix `/a`, and `/` that of everything.
            PathRule::Prefix(path) => (path.trim_end_matches('/'), false, true),
        };
        let segments = path.split('/').skip(1).map(|segment| {
            if template && segment.starts_with('{') {
                Segment::Parameter
            } else {
                Segment::Literal(segment.into())
            }
        });
        Self { segments: segments.collect(), open }
    }

    /// None: no request fits both.
    fn relation(&self, other: &Self) -> Option<Relation> {
        let (ours, theirs) = (self.segments.len(), other.segments.len());
        let reaches = |open: bool, from: usize, to: usize| from == to || (open && from < to);
        if !reaches(self.open, ours, theirs) && !reaches(other.open, theirs, ours) {
            return None;
        }
        let (mut we, mut they) = (false, false);
        let mut example = String::new();
        for at in 0..ours.max(theirs) {
            let segment = match (self.segments.get(at), other.segments.get(at)) {
                (Some(Segment::Literal(ours)), Some(Segment::Literal(theirs))) if ours != theirs => {
                    return None;
                }
                // A parameter stands for one segment that is not empty.
                (Some(Segment::Literal(empty)), Some(Segment::Parameter))
                | (Some(Segment::Parameter), Some(Segment::Literal(empty)))
                    if empty.is_empty() =>
                {
                    return None;
                }
                (ours, theirs) => {
                    let rank = |segment: Option<&Segment>| match segment {
                        Some(Segment::Literal(_)) => 2,
                        Some(Segment::Parameter) => 1,
                        None => 0,
                    };
                    we |= rank(ours) > rank(theirs);
                    they |= rank(theirs) > rank(ours);
                    [ours, theirs].into_iter().flatten().find_map(Segment::literal).unwrap_or("*")
                }
            };
            example.push('/');
            example.push_str(segment);
        }
        Some(match (we, they) {
            (true, true) => Relation::Crossing { example },
            (false, false) if self.open == other.open => Relation::Same,
            (true, false) | (false, true) | (false, false) => Relation::Ranked,
        })
    }
}

impl Segment {
    /// Its text, if it is one.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Parameter => None,
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn relation(ours: &str, theirs: &str) -> Option<&'static str> {
        let rule = |text: &str| match text.strip_suffix("**") {
            Some(prefix) => PathRule::Prefix(prefix.into()),
            None if text.contains('{') => PathRule::Template(text.into()),
            None => PathRule::Exact(text.into()),
        };
        let (ours, theirs) = (Pattern::of(&rule(ours)), Pattern::of(&rule(theirs)));
        let (there, back) = (ours.relation(&theirs), theirs.relation(&ours));
        assert_eq!(there, back, "whose turn it is makes no difference");
        there.map(|relation| match relation {
            Relation::Same => "same",
            Relation::Ranked => "ranked",
            Relation::Crossing { .. } => "crossing",
        })
    }

    #[test]
    fn two_paths_are_apart_the_same_ranked_or_crossing() {
        for (ours, theirs, expected) in [
            // Exact paths: a trailing slash and the case of letters are differences.
            ("/a", "/a", Some("same")),
            ("/a", "/a/", None),
            ("/a", "/A", None),
            // `**` ends a prefix; its trailing slash is none.
            ("/a**", "/a/**", Some("same")),
            ("/a**", "/a", Some("ranked")),
            ("/a**", "/a/b", Some("ranked")),
            ("/a**", "/ab", None),
            ("/**", "/a**", Some("ranked")),
            ("/**", "/", Some("ranked")),
            ("/a**", "/b**", None),
            // Templates: the names of parameters make no difference.
            ("/a/{x}", "/a/{y}", Some("same")),
            ("/a/{x}", "/a/b", Some("ranked")),
            ("/a/{x}", "/a", None),
            ("/a/{x}", "/a/", None),
            ("/a/{x}", "/a/b/c", None),
            ("/a/{x}/c", "/a/{x}/{y}", Some("ranked")),
            ("/{x}/b", "/{x}/c", None),
            ("/a/{x}/b", "/a/b/{y}", Some("crossing")),
            ("/{x}/b", "/a/{y}", Some("crossing")),
            ("/{x}/b/{z}", "/a/{y}/c", Some("crossing")),
            ("/{x}/b/c", "/{x}/{y}/c", Some("ranked")),
            // A template and a prefix.
            ("/a/{x}", "/a**", Some("ranked")),
            ("/a/{x}", "/**", Some("ranked")),
            ("/a/{x}", "/a/b**", Some("ranked")),
            ("/a/{x}/c", "/a/b**", Some("crossing")),
            ("/{x}/{y}", "/a**", Some("crossing")),
            ("/a/{x}", "/a/b/c**", None),
        ] {
            assert_eq!(relation(ours, theirs), expected, "{ours} and {theirs}");
        }
    }

    #[test]
    fn equally_specific_hosts_and_methods_clash_and_others_do_not() {
        let place = |hosts: &[&str], methods: &[&str], path: PathRule| {
            let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
            Place::new("api_x".into(), "m/x".into(), names(hosts), names(methods), &path)
        };
        let exact = || PathRule::Exact("/a".into());
        for (ours, theirs, shared) in [
            ((&[][..], &[][..]), (&[][..], &[][..]), Some(("", ""))),
            ((&["h"], &[]), (&[], &[]), None),
            ((&["h", "i"], &["GET"]), (&["i"], &["GET", "PUT"]), Some(("i", "GET"))),
            ((&["h"], &["GET"]), (&["i"], &["GET"]), None),
            ((&[], &["GET"]), (&[], &["PUT"]), None),
            ((&[], &["GET"]), (&[], &[]), None),
        ] {
            let clash = place(ours.0, ours.1, exact()).clash(&place(theirs.0, theirs.1, exact()));
            let names = clash.as_ref().map(|clash| (clash.host.as_str(), clash.method.as_str()));
            assert_eq!(names, shared, "{ours:?} {theirs:?}");
        }
        // Where paths cross, the methods come too late to say which is meant.
        let (left, right) = (PathRule::Template("/{x}/b".into()), PathRule::Template("/a/{y}".into()));
        for (ours, theirs, method) in [
            (&[][..], &[][..], Some("")),
            (&["GET"], &[], Some("GET")),
            (&["GET", "PUT"], &["PUT"], Some("PUT")),
            (&["GET"], &["PUT"], None),
        ] {
            let clash = place(&[], ours, left.clone()).clash(&place(&[], theirs, right.clone()));
            assert_eq!(clash.as_ref().map(|clash| clash.method.as_str()), method, "{ours:?} {theirs:?}");
            if let Some(clash) = clash {
                assert_eq!(clash.kind, ClashKind::Ambiguous { path: "/a/b".into() });
            }
        }
    }
}
