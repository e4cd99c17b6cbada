//! What a client asks for, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::error_description::{self, echo};

/// How long somebody may take to sign in and to decide.
pub(super) const PENDING_MS: i64 = 10 * 60_000;
/// Characters of `state` at most.
pub(super) const MAX_STATE: usize = 1_024;
/// Bytes of a query or a form at most.
pub(super) const MAX_BYTES: usize = 32_768;
/// Characters of a code challenge: 256 bits in Base64 (RFC 7636, section 4.2).
const CHALLENGE_CHARS: usize = 43;

/// The parameters of a request. A parameter that stands twice is none (RFC 6749, section 3.1).
#[derive(Debug, Default)]
pub(super) struct Parameters {
    values: BTreeMap<String, String>,
    twice: BTreeSet<String>,
}

impl Parameters {
    /// Reads a query or a form.
    pub fn parse(encoded: &[u8]) -> Self {
        let mut parameters = Self::default();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            if parameters.values.contains_key(name.as_ref()) {
                parameters.twice.insert(name.into_owned());
            } else {
                parameters.values.insert(name.into_owned(), value.into_owned());
            }
        }
        parameters
    }

    /// A value; an empty one is absent (RFC 6749, section 3.1).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A parameter that stands twice.
    pub fn twice(&self) -> Option<&str> {
        self.twice.first().map(String::as_str)
    }

    /// Whether this one stands twice.
    pub fn is_twice(&self, name: &str) -> bool {
        self.twice.contains(name)
    }
}

/// What a client may be told through the browser (RFC 6749, section 4.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    AccessDenied,
    InvalidRequest,
    InvalidScope,
    UnauthorizedClient,
    UnsupportedResponseType,
}

impl ErrorCode {
    /// As the standard writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidScope => "invalid_scope",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedResponseType => "unsupported_response_type",
        }
    }
}

/// Why a request is not carried out, in words for the client's developer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: ErrorCode,
    pub reason: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self { code, reason: error_description::text(reason.into()).into_owned() }
    }
}

/// What does not depend on the client: the kind of the answer, the state, the proof of the code.
pub(super) fn check(parameters: &Parameters, needs_proof: bool) -> Result<Option<String>, Refusal> {
    let invalid = |reason: &str| Err(Refusal::new(ErrorCode::InvalidRequest, reason));
    if let Some(name) = parameters.twice() {
        return invalid(&format!("The parameter {} stands twice", echo(name)));
    }
    match parameters.get("response_type") {
        Some("code") => {}
        Some(other) => {
            let reason = format!("Unsupported response type: {}; it is code", echo(other));
            return Err(Refusal::new(ErrorCode::UnsupportedResponseType, reason));
        }
        None => return invalid("Missing required parameter: response_type"),
    }
    let (challenge, method) = (parameters.get("code_challenge"), parameters.get("code_challenge_method"));
    match (challenge, method) {
        (None, None) if needs_proof => invalid(
            "Missing required parameter: code_challenge; a client without a password proves its codes (PKCE)",
        ),
        (None, None) => Ok(None),
        (None, Some(_)) => invalid("Missing required parameter: code_challenge"),
        (Some(challenge), Some("S256")) if is_challenge(challenge) => Ok(Some(challenge.to_owned())),
        (Some(_), Some("S256")) => {
            invalid("code_challenge must be the Base64url of a SHA-256, 43 characters without padding")
        }
        (Some(_), _) => invalid("code_challenge_method must be S256: plain proves nothing"),
    }
}

fn is_challenge(text: &str) -> bool {
    text.len() == CHALLENGE_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// What a browser is in the middle of, as it stands sealed in the form.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    pub client: String,
    pub redirect_uri: String,
    pub scope: Vec<String>,
    pub state: Option<String>,
    pub code_challenge: Option<String>,
    /// The end of the name of the cookie, one for each tab.
    pub tab: String,
    /// SHA-256 of the cookie's value. Another one when the user has signed in.
    pub cookie_sha256: String,
    /// Who has signed in.
    pub user: Option<String>,
    /// Of which epoch that user's tokens were then.
    #[serde(default)]
    pub user_epoch: Option<i64>,
    pub began_at: i64,
}

impl Pending {
    /// Whether there is time left.
    pub fn is_live(&self, now: UnixMillis) -> bool {
        (0..=PENDING_MS).contains(&now.0.saturating_sub(self.began_at))
    }
}

/// Where the browser goes with `answers` (names and values).
pub(super) fn target(redirect_uri: &str, answers: &[(&str, &str)]) -> Option<String> {
    let mut url = url::Url::parse(redirect_uri).ok()?;
    url.query_pairs_mut().extend_pairs(answers);
    Some(url.into())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_is_asked_for_at_its_edges() {
        use ErrorCode::{InvalidRequest, UnsupportedResponseType};
        let proof = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        for (query, needs_proof, expected) in [
            ("response_type=code", false, Ok(None)),
            ("response_type=code", true, Err(InvalidRequest)),
            ("", false, Err(InvalidRequest)),
            ("response_type=", false, Err(InvalidRequest)),
            ("response_type=token", false, Err(UnsupportedResponseType)),
            ("response_type=code+token", false, Err(UnsupportedResponseType)),
            ("response_type=code&response_type=code", false, Err(InvalidRequest)),
            ("response_type=code&x=1&x=2", false, Err(InvalidRequest)),
            (
                &format!("response_type=code&code_challenge={proof}&code_challenge_method=S256"),
                true,
                Ok(Some(proof)),
            ),
            (
                &format!("response_type=code&code_challenge={proof}&code_challenge_method=plain"),
                false,
                Err(InvalidRequest),
            ),
            (&format!("response_type=code&code_challenge={proof}"), false, Err(InvalidRequest)),
            (
                &format!("response_type=code&code_challenge={proof}&code_challenge_method=s256"),
                false,
                Err(InvalidRequest),
            ),
            ("response_type=code&code_challenge_method=S256", false, Err(InvalidRequest)),
            (
                "response_type=code&code_challenge=short&code_challenge_method=S256",
                false,
                Err(InvalidRequest),
            ),
            (
                &format!("response_type=code&code_challenge={proof}A&code_challenge_method=S256"),
                false,
                Err(InvalidRequest),
            ),
            (
                &format!("response_type=code&code_challenge={}&code_challenge_method=S256", "=".repeat(43)),
                false,
                Err(InvalidRequest),
            ),
        ] {
            let told = check(&Parameters::parse(query.as_bytes()), needs_proof);
            let told = told.as_ref().map(|proof| proof.as_deref()).map_err(|refusal| refusal.code);
            assert_eq!(told, expected, "{query}");
        }
    }

    #[test]
    fn the_answer_joins_what_the_url_says_already() {
        for (redirect, expected) in [
            ("https://app.example/callback", "https://app.example/callback?code=a%26b"),
            ("https://app.example:8443/c?x=1", "https://app.example:8443/c?x=1&code=a%26b"),
            ("http://[::1]:5/c", "http://[::1]:5/c?code=a%26b"),
            ("com.example.app://back", "com.example.app://back?code=a%26b"),
        ] {
            assert_eq!(target(redirect, &[("code", "a&b")]).as_deref(), Some(expected));
        }
    }
}
