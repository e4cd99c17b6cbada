//! What may stand in `error_description` (RFC 6749, sections 4.1.2.1 and 5.2), which programs and logs of
//! others read: visible ASCII and blanks, without `"` and `\`, and of what the caller itself has sent
//! no more than it takes to recognise it.

use std::borrow::Cow;

/// Characters of what was sent that are repeated at most: the longest id of a client.
const MAX_ECHO_CHARS: usize = 40;
/// Instead of a character that may not stand there.
const INSTEAD: char = '?';

/// The text, with [`INSTEAD`] for each character that may not stand there.
pub fn text(text: impl Into<Cow<'static, str>>) -> Cow<'static, str> {
    let text = text.into();
    match text.chars().all(is_allowed) {
        true => text,
        false => Cow::Owned(text.chars().map(allowed).collect()),
    }
}

/// The beginning of what was sent.
pub fn echo(sent: &str) -> String {
    let mut chars = sent.chars();
    let start: String = chars.by_ref().take(MAX_ECHO_CHARS).map(allowed).collect();
    match chars.next() {
        Some(_) => start + "...",
        None => start,
    }
}

fn allowed(c: char) -> char {
    if is_allowed(c) { c } else { INSTEAD }
}

fn is_allowed(c: char) -> bool {
    matches!(c, ' '..='~') && c != '"' && c != '\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_repeated_in_bounds_and_visible_ascii() {
        let long = "x".repeat(MAX_ECHO_CHARS);
        for (sent, told) in [
            ("acme", "acme"),
            (long.as_str(), long.as_str()),
            (format!("{long}y").as_str(), format!("{long}...").as_str()),
            ("a\r\nSet-Cookie: x", "a??Set-Cookie: x"),
            ("\0\u{7f}\u{85}\u{2028}é", "?????"),
            ("\"a\\b\"", "?a?b?"),
            ("", ""),
        ] {
            assert_eq!(echo(sent), told, "{sent:?}");
        }
        assert_eq!(text("'x' User \"locked\""), "'x' User ?locked?");
        assert!(matches!(text("Missing grant type"), Cow::Borrowed(_)));
    }
}
