//! Where an API answers: the rules of a path, and when two of them are the same.

use gate::request::{guard_path, normal_path};
use gate::wire::directory::PathRule;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::openapi::schema;

/// Characters of a path at most: the gate takes more, but nobody should need it.
pub const MAX_PATH: usize = 2_048;

/// The schema of a [`PathRule`], which is a type of `gate`.
pub enum PathRuleSchema {}

impl PartialSchema for PathRuleSchema {
    fn schema() -> RefOr<Schema> {
        let _whole = |rule| match rule {
            PathRule::Exact(_) | PathRule::Prefix(_) | PathRule::Template(_) => {}
        };
        let one = |name: &str, means: &str| {
            ObjectBuilder::new()
                .property(name, schema::text(1, MAX_PATH).pattern(Some("^/")))
                .required(name)
                .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
                .description(Some(means))
        };
        OneOfBuilder::new()
            .item(one("exact", "This path alone."))
            .item(one("prefix", "This path and everything below it."))
            .item(one("template", "Each `{name}` stands for one segment that is not empty."))
            .into()
    }
}

impl ToSchema for PathRuleSchema {
    fn name() -> std::borrow::Cow<'static, str> {
        "PathRule".into()
    }
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
pub fn path_key(rule: &PathRule) -> String {
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

#[cfg(test)]
mod unit {
    use super::*;

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
    fn rules_that_match_the_same_have_the_same_key() {
        let template = |path: &str| path_key(&PathRule::Template(path.into()));
        assert_eq!(template("/a/{id}"), template("/a/{x}"));
        assert_ne!(template("/a/{id}"), template("/{id}/a"));
        let prefix = |path: &str| path_key(&PathRule::Prefix(path.into()));
        assert_eq!(prefix("/a"), prefix("/a/"));
        assert_ne!(prefix("/a"), path_key(&PathRule::Exact("/a".into())));
    }
}
