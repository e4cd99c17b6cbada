//! Where a browser may be sent back to: digiRunner's rules, and what would never be safe.
//!
//! `http` and `https` are compared character by character. Any other scheme belongs to an app on the
//! user's own machine (RFC 8252, section 7.1) and has a `*`, which stands for any characters.

use serde::Serialize;
use url::Url;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::model::TokenSettingsFault;
use crate::openapi::schema;

/// Redirect URLs of one client at most: digiRunner's default and its five more.
pub const MAX_REDIRECT_URLS: usize = 6;
/// Characters of a redirect URL at most.
pub const MAX_REDIRECT_URL_CHARS: usize = 255;
/// Schemes that a browser carries out itself, or that read from the user's machine: no app's.
const NO_APPS: [&str; 13] = [
    "about",
    "blob",
    "chrome",
    "data",
    "file",
    "filesystem",
    "ftp",
    "intent",
    "javascript",
    "vbscript",
    "view-source",
    "ws",
    "wss",
];

/// A registered redirect URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RedirectUrl(String);

impl RedirectUrl {
    /// Reads the one at `place`: 0 is the default, then 1 to 5 as digiRunner counts them.
    pub fn parse(text: &str, place: usize) -> Result<Self, TokenSettingsFault> {
        let name = match place {
            0 => "Redirect URI".to_owned(),
            place => format!("Redirect URI {place}"),
        };
        let fault = |reason: String| {
            Err(TokenSettingsFault::RedirectUrl { told: format!("{name} {reason}: {}", shortened(text)) })
        };
        if text.chars().count() > MAX_REDIRECT_URL_CHARS {
            return fault(format!("is longer than {MAX_REDIRECT_URL_CHARS} characters"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return fault("is incomplete".into());
        };
        let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        if web && (rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
            return fault("is incomplete".into());
        }
        if web && rest.contains('*') {
            return fault("is incorrect, cannot have * sign".into());
        }
        if !web && !rest.contains('*') {
            return fault("is incorrect, must have * sign".into());
        }
        let Ok(url) = Url::parse(text) else {
            return fault(
                "is incorrect, cannot be read as a URL such as https://app.example/callback".into(),
            );
        };
        if text.chars().any(|c| c.is_ascii_control() || c.is_whitespace()) {
            return fault("is incorrect, cannot have blanks or control characters".into());
        }
        if url.fragment().is_some() {
            return fault("is incorrect, cannot have a fragment (#…)".into());
        }
        if !url.username().is_empty() || url.password().is_some() || rest.contains('@') && !web {
            return fault("is incorrect, cannot have a user name or a password".into());
        }
        if NO_APPS.contains(&url.scheme()) {
            return fault("is incorrect, no app has that scheme".into());
        }
        // What a browser is sent to is the normal form: another one would never compare equal.
        let normal = url.as_str();
        if web && normal != text && normal.strip_suffix('/') != Some(text) {
            return fault(format!("is incorrect, is written {normal}"));
        }
        if !web && scheme != url.scheme() {
            return fault("is incorrect, a scheme has small letters".into());
        }
        Ok(Self(text.into()))
    }

    /// Several, each once, at most [`MAX_REDIRECT_URLS`].
    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, TokenSettingsFault> {
        if texts.len() > MAX_REDIRECT_URLS {
            return Err(TokenSettingsFault::RedirectUrls { given: texts.len() });
        }
        let mut urls: Vec<Self> = Vec::with_capacity(texts.len());
        for (place, text) in texts.iter().enumerate() {
            let url = Self::parse(text, place)?;
            if urls.contains(&url) {
                return Err(TokenSettingsFault::RedirectUrlTwice { url: url.0 });
            }
            urls.push(url);
        }
        Ok(urls)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a browser may be sent to `asked`, which a request names, on account of this one.
    pub fn matches(&self, asked: &str) -> bool {
        // Neither may what is asked for have a fragment, nor break out of a header.
        if asked.len() > 4 * MAX_REDIRECT_URL_CHARS
            || !asked.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
        {
            return false;
        }
        match self.0.split_once('*') {
            None => self.0 == asked,
            Some((start, rest)) => {
                // The star is behind the scheme, which is compared with the start.
                let Some(mut left) = asked.strip_prefix(start) else { return false };
                let mut parts = rest.split('*').peekable();
                while let Some(part) = parts.next() {
                    if parts.peek().is_none() {
                        return left.ends_with(part);
                    }
                    let Some(at) = left.find(part) else { return false };
                    left = &left[at + part.len()..];
                }
                true
            }
        }
    }
}

impl PartialSchema for RedirectUrl {
    fn schema() -> RefOr<Schema> {
        schema::text(1, MAX_REDIRECT_URL_CHARS).pattern(Some(r"^[a-z][a-z0-9+.-]*://[^#@\s]+$")).into()
    }
}

impl ToSchema for RedirectUrl {}

/// Enough of a text to recognise it in a refusal.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN).filter(|c| !c.is_control()).collect();
    if chars.next().is_some() { format!("{start}…") } else { start }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn redirect_urls_at_their_edges() {
        let long = |n: usize| format!("https://app.example/{}", "a".repeat(n - 20));
        for (text, refused) in [
            ("https://app.example/callback", None),
            ("https://app.example", None),
            ("https://app.example:8443/callback?from=keygate", None),
            (long(MAX_REDIRECT_URL_CHARS).as_str(), None),
            (long(MAX_REDIRECT_URL_CHARS + 1).as_str(), Some("is longer than 255")),
            ("http://127.0.0.1:51004/callback", None),
            ("http://[::1]/callback", None),
            ("http://app.example/callback", None),
            ("com.example.app://callback*", None),
            ("com.example.app://*", None),
            (
                "com.example.app://callback",
                Some("is incorrect, must have * sign: com.example.app://callback"),
            ),
            ("com.example.app:/callback*", Some("is incomplete")),
            ("Com.Example://*", Some("small letters")),
            ("*://app.example/", Some("must have * sign")),
            ("*://app.example/*", Some("cannot be read")),
            ("http*://app.example/", Some("must have * sign")),
            ("http*://app.example/*", Some("cannot be read")),
            ("javascript:alert(1)", Some("is incomplete")),
            ("javascript://*%0aalert(1)", Some("no app has that scheme")),
            ("JavaScript://*", Some("no app has that scheme")),
            ("data://text/html,*", Some("no app has that scheme")),
            ("file://*", Some("no app has that scheme")),
            ("app://ann@*", Some("user name")),
            ("app://callback*#part", Some("fragment")),
            ("https://app.example/*", Some("is incorrect, cannot have * sign: https://app.example/*")),
            ("https://*.example/callback", Some("cannot have * sign")),
            ("https://app.example/callback#part", Some("cannot have a fragment")),
            ("https://app.example/callback#", Some("cannot have a fragment")),
            ("https://ann@app.example/callback", Some("cannot have a user name")),
            ("https://app.example/a/../callback", Some("is written https://app.example/callback")),
            ("HTTPS://App.Example/callback", Some("is written https://app.example/callback")),
            ("https://app.example:443/callback", Some("is written https://app.example/callback")),
            ("https://app.example\\callback", Some("is written https://app.example/callback")),
            ("https://app.example/call back", Some("blanks")),
            (" https://app.example/callback", Some("is incorrect")),
            ("https:/app.example/callback", Some("is incomplete")),
            ("https:///callback", Some("is incomplete")),
            ("app.example/callback", Some("is incomplete")),
            ("https://", Some("Redirect URI is incomplete: https://")),
            ("http://", Some("Redirect URI is incomplete: http://")),
            ("", Some("Redirect URI is incomplete")),
        ] {
            match (RedirectUrl::parse(text, 0), refused) {
                (Ok(url), None) => assert_eq!(url.as_str(), text),
                (Err(fault), Some(part)) => {
                    let told = fault.to_string();
                    assert!(told.starts_with("Redirect URI "), "{told}");
                    assert!(told.contains(part), "{text:?}: {told}");
                }
                (result, _) => panic!("{text:?}: {result:?}"),
            }
        }
        let third = RedirectUrl::parse("https://", 3).expect_err("no host").to_string();
        assert_eq!(third, "Redirect URI 3 is incomplete: https://");
        let urls = |n: usize| (0..n).map(|n| format!("https://app.example/{n}")).collect::<Vec<_>>();
        assert!(RedirectUrl::parse_all(&urls(MAX_REDIRECT_URLS)).is_ok());
        assert!(RedirectUrl::parse_all(&urls(MAX_REDIRECT_URLS + 1)).is_err());
        let twice = ["https://app.example/".to_string(), "https://app.example/".to_string()];
        assert!(matches!(RedirectUrl::parse_all(&twice), Err(TokenSettingsFault::RedirectUrlTwice { .. })));
    }

    #[test]
    fn the_known_tricks_with_redirect_urls_open_nothing() {
        for (registered, asked, opens) in [
            ("https://app.example/callback", "https://app.example/callback", true),
            ("https://app.example/callback", "https://app.example/callback/", false),
            ("https://app.example/callback", "https://app.example/callback?x=1", false),
            ("https://app.example/callback", "https://app.example/callback#", false),
            ("https://app.example/callback", "https://app.example/callback#x", false),
            ("https://app.example/callback", "https://app.example/callback%2f", false),
            ("https://app.example/callback", "https://app.example/%63allback", false),
            ("https://app.example/callback", "https://app.example/x/../callback", false),
            ("https://app.example/callback", "https://app.example//callback", false),
            ("https://app.example/callback", "https://app.example/Callback", false),
            ("https://app.example/callback", "HTTPS://app.example/callback", false),
            ("https://app.example/callback", "https://APP.example/callback", false),
            ("https://app.example/callback", "http://app.example/callback", false),
            ("https://app.example/callback", "https://app.example:443/callback", false),
            ("https://app.example/callback", "https://app.example:8443/callback", false),
            ("https://app.example/callback", "https://app.example./callback", false),
            ("https://app.example/callback", "https://app.example.evil.example/callback", false),
            ("https://app.example/callback", "https://evil-app.example/callback", false),
            ("https://app.example/callback", "https://app.example@evil.example/callback", false),
            ("https://app.example/callback", "https://evil.example/https://app.example/callback", false),
            ("https://app.example/callback", "https://app.example\\@evil.example/callback", false),
            ("https://app.example/callback", "//app.example/callback", false),
            ("https://app.example/callback", "javascript:alert(1)//https://app.example/callback", false),
            ("https://app.example/callback", " https://app.example/callback", false),
            ("https://app.example/callback", "https://app.example/callback\r\nX: y", false),
            ("https://app.example/callback", "https://app.example/callback\0", false),
            ("https://app.example/callback", "", false),
            ("https://app.example", "https://app.example", true),
            ("https://app.example", "https://app.example/", false),
            // A star stands in schemes of apps alone, behind the scheme.
            ("com.example.app://*", "com.example.app://callback?x=1", true),
            ("com.example.app://*", "com.example.app2://callback", false),
            ("com.example.app://*", "Com.example.app://callback", false),
            ("com.example.app://*", "https://com.example.app://callback", false),
            ("com.example.app://*", "javascript:com.example.app://", false),
            ("com.example.app://*", "com.example.app://x#y", false),
            ("com.example.app://*", "com.example.app://x\ny", false),
            ("com.example.app://call*back", "com.example.app://call-me-back", true),
            ("com.example.app://call*back", "com.example.app://callback", true),
            ("com.example.app://call*back", "com.example.app://callbac", false),
            ("com.example.app://a*b*c", "com.example.app://a1b2c", true),
            ("com.example.app://a*b*c", "com.example.app://a1c2b", false),
            ("com.example.app://ab*ba", "com.example.app://aba", false),
        ] {
            let registered = RedirectUrl::parse(registered, 0).expect(registered);
            assert_eq!(registered.matches(asked), opens, "{} {asked:?}", registered.as_str());
        }
        let long = format!("com.example.app://{}", "a".repeat(4 * MAX_REDIRECT_URL_CHARS));
        assert!(!RedirectUrl::parse("com.example.app://*", 0).expect("one").matches(&long));
    }
}
