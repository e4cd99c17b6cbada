//! What a request means and why other APIs do not answer it.

use std::rc::Rc;

use gate::denial::Denial;
use gate::directory::{Directory, DirectoryError};
use gate::id::{Epoch, Revision};
use gate::request::{MAX_PATH_BYTES, guard_path, normal_host, normal_path};
use gate::wire::WIRE_VERSION;
use gate::wire::directory::{ApiEntry, DirectoryAnswer, PathRule, Settings, Unregistered};

use crate::catalog::apis::model::parse_methods;
use crate::catalog::apis::path::path_key;
use crate::catalog::apis::place::{Pattern, Segment};

/// Near misses that are told at most.
pub const MAX_NEAR: usize = 5;
/// Differences that make a miss a far one.
const FAR: u32 = 3;

/// A request, as far as it chooses an API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Upper case.
    pub method: String,
    /// As gates compare hosts; empty: none was named, and APIs with hosts do not fit.
    pub host: String,
    /// Without query, as written.
    pub path: String,
}

/// What becomes of a request before its credential is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The request.
    pub target: Target,
    /// The path as it is compared; None: refused before.
    pub normal_path: Option<String>,
    /// The API that is meant.
    pub meant: Option<ApiEntry>,
    /// Why it is refused all the same.
    pub refusal: Option<Refusal>,
    /// Other APIs that nearly answer, the nearest first.
    pub near: Vec<NearMiss>,
}

/// Why gates refuse it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, where refusals are problem documents.
    pub status: u16,
    /// The denial's code.
    pub code: &'static str,
    /// In words.
    pub reason: String,
}

/// An API that nearly answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// Which.
    pub api: ApiEntry,
    /// Why it does not.
    pub reasons: Vec<String>,
}

impl Target {
    /// Upper case, as gates compare methods.
    pub fn parse_method(text: &str) -> Result<String, String> {
        Ok(parse_methods(&[text.to_string()])?.concat())
    }

    /// `https://host[:port]/path`, `http://…`, or a path alone. Query, fragment, port and user are
    /// no part of what chooses an API.
    pub fn parse_url(text: &str) -> Result<Self, String> {
        let scheme =
            |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let (authority, rest) =
            if let Some(name) = ["https://", "http://"].into_iter().find(|name| scheme(name)) {
                let rest = text.get(name.len()..).unwrap_or_default();
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                rest.split_at(end)
            } else if text.starts_with('/') {
                ("", text)
            } else {
                return Err(format!("{text:?} is neither https://host/path nor a /path"));
            };
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self {
            method: String::new(),
            host: normal_host(authority.as_bytes()).into_owned(),
            path: path.into(),
        })
    }
}

/// What a gate with these APIs does with `target`.
pub fn explain(
    apis: Vec<ApiEntry>,
    unregistered: Unregistered,
    target: Target,
) -> Result<Explanation, DirectoryError> {
    let Ok(guarded) = guard_path(target.path.as_bytes()) else {
        let reason = why_ambiguous(&target.path);
        let refusal = Some(Refusal { status: 400, code: Denial::PathAmbiguous.code(), reason });
        return Ok(Explanation { target, normal_path: None, meant: None, refusal, near: Vec::new() });
    };
    let path = normal_path(guarded).into_owned();
    let directory = Directory::from_snapshot(DirectoryAnswer {
        version: WIRE_VERSION,
        epoch: Epoch(0),
        revision: Revision(0),
        since: None,
        settings: Settings::default(),
        apis: apis.clone(),
        token_keys: Vec::new(),
        removed: Vec::new(),
    })?;
    let (meant, refusal) = match directory.find(&target.host, &target.method, &path) {
        Ok(api) => {
            let disabled = || Refusal {
                status: 503,
                code: Denial::ApiDisabled.code(),
                reason: "the API is disabled".into(),
            };
            (Some(Rc::unwrap_or_clone(Rc::clone(api))), (!api.enabled).then(disabled))
        }
        Err(Denial::ApiNotFound) if unregistered == Unregistered::Pass => (None, None),
        Err(denial) => {
            let (status, reason) = match &denial {
                Denial::MethodNotAllowed { allow } => {
                    (405, format!("only {} are answered there", allow.join(", ")))
                }
                _ => (404, "no API is registered there".to_string()),
            };
            (None, Some(Refusal { status, code: denial.code(), reason }))
        }
    };
    let near = near_misses(apis, &target, &path, meant.as_ref());
    Ok(Explanation { target, normal_path: Some(path), meant, refusal, near })
}

fn near_misses(apis: Vec<ApiEntry>, target: &Target, path: &str, meant: Option<&ApiEntry>) -> Vec<NearMiss> {
    let others = apis.into_iter().filter(|api| meant.is_none_or(|meant| meant.uid != api.uid));
    let mut near: Vec<(u32, NearMiss)> = others
        .filter_map(|api| {
            let (mut far, mut reasons) = path_differences(&api.path, path);
            if !api.hosts.is_empty() && !api.hosts.contains(&target.host) {
                far += 1;
                reasons.push(format!("it answers at {} only", api.hosts.join(", ")));
            }
            if !api.methods.is_empty() && !api.methods.contains(&target.method) {
                far += 1;
                reasons.push(format!("it answers to {} only", api.methods.join(", ")));
            }
            if reasons.is_empty() {
                reasons.push(outranked(&api, meant));
            }
            (far < FAR).then_some((far, NearMiss { api, reasons }))
        })
        .collect();
    near.sort_by(|(far, a), (other, b)| {
        (far, &a.api.module, &a.api.id).cmp(&(other, &b.api.module, &b.api.id))
    });
    near.into_iter().take(MAX_NEAR).map(|(_, miss)| miss).collect()
}

/// Why an API that fits is not the one that is meant.
fn outranked(api: &ApiEntry, meant: Option<&ApiEntry>) -> String {
    let Some(meant) = meant else { return "it fits".into() };
    let why = if api.hosts.is_empty() && !meant.hosts.is_empty() {
        "names the host"
    } else if path_key(&api.path) != path_key(&meant.path) {
        "has the more specific path"
    } else {
        "names the method"
    };
    format!("it fits too, but {}/{} {why}", meant.module, meant.id)
}

/// How far a rule is from fitting `path`, and in what.
fn path_differences(rule: &PathRule, path: &str) -> (u32, Vec<String>) {
    let pattern = Pattern::of(rule);
    let requested: Vec<&str> = path.split('/').skip(1).collect();
    let (mut far, mut common, mut reasons) = (0, 0, Vec::new());
    for (ours, theirs) in pattern.segments.iter().zip(&requested) {
        match ours {
            Segment::Literal(literal) if literal == theirs => common += 1,
            Segment::Literal(literal) if literal.eq_ignore_ascii_case(theirs) => {
                far += 1;
                reasons.push(format!("it has `{literal}` where the request has `{theirs}`: case counts"));
            }
            Segment::Literal(literal) => {
                far += if is_slip(literal, theirs) { 1 } else { FAR };
                reasons.push(format!("it has `{literal}` where the request has `{theirs}`"));
            }
            Segment::Parameter if theirs.is_empty() => {
                far += 1;
                reasons.push("a parameter of it stands for a segment that is not empty".into());
            }
            Segment::Parameter => {}
        }
    }
    // What only one of them has is near where they begin alike.
    let surplus = if common > 0 || far == 0 && !pattern.segments.is_empty() { 1 } else { FAR };
    let (ours, theirs) = (pattern.segments.len(), requested.len());
    if theirs > ours && !pattern.open {
        far += surplus;
        match requested.get(ours..).unwrap_or_default() {
            [""] => reasons.push("the request ends with a slash, its path does not".into()),
            rest => reasons.push(format!("its path ends before /{}", rest.join("/"))),
        }
    } else if ours > theirs {
        far += surplus;
        let rest: Vec<_> =
            pattern.segments.iter().skip(theirs).map(|s| s.literal().unwrap_or("{…}")).collect();
        match rest.as_slice() {
            [""] => reasons.push("its path ends with a slash, the request does not".into()),
            rest => reasons.push(format!("its path goes on with /{}", rest.join("/"))),
        }
    }
    (far, reasons)
}

/// Whether one could have been meant for the other: one more at the end, or two letters at most.
fn is_slip(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let begins = short.len() >= 3 && long.starts_with(short);
    begins || (short.len() >= 3 && long.len() <= 64 && edits(short.as_bytes(), long.as_bytes()) <= 2)
}

/// Letters to insert, remove or replace (Levenshtein).
fn edits(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, a) in one.iter().enumerate() {
        let mut diagonal = n;
        let mut left = n + 1;
        let mut next = vec![left];
        for (b, above) in other.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(a != b)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// What of a path that [`guard_path`] refuses could be read in two ways.
fn why_ambiguous(path: &str) -> String {
    let escapes: Vec<&str> = path.split('%').skip(1).map(|rest| rest.get(..2).unwrap_or(rest)).collect();
    let byte = |escape: &&str| u8::from_str_radix(escape, 16).ok().filter(|_| escape.len() == 2);
    let segment = path.split('/').find(|segment| matches!(*segment, "." | ".."));
    let forbidden = path.chars().find(|c| matches!(c, '\\' | ';' | '#') || !c.is_ascii_graphic());
    let encoded = escapes.iter().find(|e| matches!(byte(e), Some(0x00 | 0x2e | 0x2f | 0x3b | 0x5c)));
    if path.len() > MAX_PATH_BYTES {
        format!("the path has {} bytes, {MAX_PATH_BYTES} at most", path.len())
    } else if path.contains("//") {
        "the path has an empty segment (`//`)".into()
    } else if let Some(segment) = segment {
        format!(
            "the path has the segment `{segment}`; a connection manager with normalize_path, as in the shipped \
             envoy.yaml, resolves it before the filter sees it"
        )
    } else if let Some(c) = forbidden {
        format!("the path has the character {c:?}, which must be encoded or is read in several ways")
    } else if let Some(escape) = escapes.iter().find(|escape| byte(escape).is_none()) {
        format!("the path has the broken escape `%{escape}`")
    } else if let Some(escape) = encoded {
        format!(
            "the path has `%{escape}`, an encoded `/`, `.`, `;`, `\\` or NUL, which some back ends decode"
        )
    } else {
        "the path could be read as another one".into()
    }
}
