//! Paths of a document as gates compare them.

use gate::request::{guard_path, normal_path};
use gate::wire::directory::PathRule;

use crate::catalog::apis::path::check_path;

/// The path of an operation below its base path, as gates compare it.
pub(super) fn path_rule(base_path: &str, path: &str) -> Result<PathRule, String> {
    if !path.starts_with('/') {
        return Err("its path must begin with `/`".into());
    }
    if path.contains(['?', '#']) {
        return Err(
            "its path has `?` or `#`: an API is known by its path alone, whatever the query says".into()
        );
    }
    let mut whole = String::new();
    for segment in base_path.split('/').skip(1) {
        whole.push('/');
        whole.push_str(&literal(segment)?);
    }
    let mut names = Vec::new();
    for segment in path.split('/').skip(1) {
        whole.push('/');
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if !name.contains(['{', '}']) => {
                let name = parameter_name(name, &names);
                whole.push_str(&format!("{{{name}}}"));
                names.push(name);
            }
            _ if segment.contains(['{', '}']) => {
                return Err(format!(
                    "segment `{segment}` is a parameter and more, and a gate knows whole segments alone: register \
                     an API with a parameter in place of the segment by hand, or change the document"
                ));
            }
            _ => whole.push_str(&literal(segment)?),
        }
    }
    let rule = if names.is_empty() { PathRule::Exact(whole) } else { PathRule::Template(whole) };
    check_path(&rule)?;
    Ok(rule)
}

/// A segment as it travels and is compared: what may not stand in a URL is encoded.
fn literal(segment: &str) -> Result<String, String> {
    let mut encoded = String::with_capacity(segment.len());
    for character in segment.chars() {
        if matches!(character, '!'..='~') {
            encoded.push(character);
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    guard_path(format!("/{encoded}").as_bytes())
        .map_err(|_| format!("segment `{segment}` is one that gates refuse in requests"))?;
    Ok(normal_path(&encoded).into_owned())
}

/// A parameter's name within our rules; it stands for the same requests whatever it is called.
fn parameter_name(name: &str, taken: &[String]) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    while name.is_empty() || taken.contains(&name) {
        name.push('_');
    }
    name
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn paths_are_held_as_gates_match_them() {
        for (path, held) in [
            ("/", PathRule::Exact("/".into())),
            ("/a/", PathRule::Exact("/a/".into())),
            ("/items:search", PathRule::Exact("/items:search".into())),
            ("/caf%c3%a9", PathRule::Exact("/caf%C3%A9".into())),
            ("/%61", PathRule::Exact("/a".into())),
            ("/{a}/{b}", PathRule::Template("/{a}/{b}".into())),
            ("/{a.b}/{a~b}", PathRule::Template("/{a_b}/{a_b_}".into())),
            ("/{}", PathRule::Template("/{_}".into())),
            ("/{ключ}", PathRule::Template("/{____}".into())),
        ] {
            assert_eq!(path_rule("", path), Ok(held), "{path}");
        }
        for (path, told) in [
            ("a", "begin with `/`"),
            ("/a?x={x}", "`?` or `#`"),
            ("/a#get", "`?` or `#`"),
            ("/a//b", "empty segment"),
            ("/a/../b", "gates refuse"),
            ("/a;v=1", "gates refuse"),
            ("/a%2Fb", "gates refuse"),
            ("/100%", "gates refuse"),
            ("/a%zz41", "gates refuse"),
            ("/{a}-{b}", "`{a}-{b}` is a parameter and more"),
            ("/v{a}", "`v{a}` is a parameter and more"),
            ("/{a", "`{a` is a parameter and more"),
            ("/{{a}}", "`{{a}}` is a parameter and more"),
        ] {
            let reason = path_rule("", path).expect_err(path);
            assert!(reason.contains(told), "{path}: {reason}");
        }
    }

    #[test]
    fn a_base_path_is_text_whatever_it_holds() {
        assert_eq!(path_rule("/v1", "/"), Ok(PathRule::Exact("/v1/".into())));
        assert_eq!(path_rule("/v1", "/{a}"), Ok(PathRule::Template("/v1/{a}".into())));
        assert_eq!(path_rule("/{x}", "/a"), Ok(PathRule::Exact("/%7Bx%7D/a".into())));
        assert!(path_rule("/a;b", "/c").is_err());
    }
}
