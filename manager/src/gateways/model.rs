//! What a gateway is called and what it shows to be let in.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gate::id::{HolderId, Revision};
use gate::time::UnixMillis;
use sha2::{Digest, Sha256};

use crate::openapi::schema::schema_of;

/// Characters of a gateway's name at most.
pub const MAX_NAME_CHARS: usize = 64;
/// Tokens of a gateway that are live at once: the old and the new one while it rotates.
pub const MAX_LIVE_TOKENS: usize = 2;
/// What a gateway token begins with, so that a leaked one is recognised for what it is.
const TOKEN_PREFIX: &str = "kggw_";

/// A gateway's name: letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayName(String);

schema_of! { GatewayName: text_of("A-Za-z0-9_.-", 1, MAX_NAME_CHARS) }

impl GatewayName {
    /// Nothing when a character is not allowed, or there are none or too many.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=MAX_NAME_CHARS).contains(&text.len()) && text.chars().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A gateway token in clear: shown once. `Debug` shows nothing of it.
pub struct GatewayToken(String);

impl GatewayToken {
    /// A token of 256 random bits.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text, for the one time that it is shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored. (No salt and no slow hash: 256 random bits cannot be guessed.)
    pub fn hash(&self) -> String {
        hash(&self.0)
    }
}

impl fmt::Debug for GatewayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayToken([redacted])")
    }
}

/// The hash under which a presented token is looked up.
pub fn hash(unverified_token: &str) -> String {
    Sha256::digest(unverified_token.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        hex.push_str(&format!("{byte:02x}"));
        hex
    })
}

/// A gateway and its live tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// `gw_…`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was added.
    pub created_at: UnixMillis,
}

/// One token as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// `gwt_…`; names it for revocation, opens nothing.
    pub id: String,
    /// Whose.
    pub gateway: String,
    /// When it was issued.
    pub created_at: UnixMillis,
}

/// What a filter says of itself with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The Envoy process.
    pub holder: HolderId,
    /// The filter's version, when the call states it.
    pub filter_version: Option<String>,
    /// The directory it works with, when the call states it.
    pub directory: Option<Revision>,
    /// The last change it knows.
    pub feed: Revision,
    /// Leases it holds, when the call states it.
    pub leases_held: Option<u32>,
}

/// An Envoy as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envoy {
    /// Its holder id.
    pub holder: String,
    /// Its gateway.
    pub gateway: String,
    /// When it was first seen.
    pub first_seen_at: UnixMillis,
    /// When it was last seen.
    pub last_seen_at: UnixMillis,
    /// The filter's version.
    pub filter_version: String,
    /// The directory it works with.
    pub directory: Revision,
    /// The last change it knows.
    pub feed: Revision,
    /// Leases it holds.
    pub leases_held: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for (text, fits) in [
            ("edge-1", true),
            ("a", true),
            ("Edge_2.eu", true),
            ("", false),
            ("two words", false),
            ("ümlaut", false),
            ("quo\"te", false),
            (&"x".repeat(MAX_NAME_CHARS), true),
            (&"x".repeat(MAX_NAME_CHARS + 1), false),
        ] {
            assert_eq!(GatewayName::parse(text).is_some(), fits, "{text:?}");
        }
    }

    #[test]
    fn a_token_is_stored_as_its_hash_and_never_printed() {
        let token = GatewayToken::from_random([7; 32]);
        assert_eq!(token.hash(), hash(token.reveal()));
        assert_eq!(token.reveal().len(), TOKEN_PREFIX.len() + 43);
        assert!(!format!("{token:?}").contains(&token.reveal()[5..]));
    }
}
