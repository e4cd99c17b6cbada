//! An X-Api-Key: a text that travels in clear and opens every API of its groups. Its form is the
//! one that existing clients expect: Base64url without padding of a random UUID's 36 characters,
//! which are 48. Kept are its SHA-256 and a mask; the text itself is shown once.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gate::id::{ClientId, CredentialId, GroupId};
use gate::time::{Interval, UnixMillis};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Random;
use crate::validity::ValidityError;

/// Characters of an alias at most.
pub const MAX_ALIAS_CHARS: usize = 100;
/// Groups of one key at most: as many as a client may have.
pub const MAX_GROUPS: usize = 205;

/// A key on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XApiKey {
    /// `xak_…`.
    pub id: CredentialId,
    /// Whose.
    pub client: ClientId,
    /// What people call it.
    pub alias: Alias,
    /// Lower-case hex SHA-256 of the text.
    pub sha256: String,
    /// `abc***xyz`.
    pub mask: String,
    /// First and last instant at which it works.
    pub validity: Interval,
    /// What it opens, as far as the client still has it.
    pub groups: BTreeSet<GroupId>,
    /// When it was created.
    pub created_at: UnixMillis,
    /// By whom.
    pub created_by: String,
}

/// The text itself. `Debug` shows the mask.
#[derive(Clone)]
pub struct XApiKeyText(Zeroizing<String>);

/// What people call a key: not blank, at most [`MAX_ALIAS_CHARS`], printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias(String);

/// What is wrong with a value that describes a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XApiKeyFault {
    /// Blank, too long or not printable.
    #[error("an alias has 1 to {MAX_ALIAS_CHARS} printable characters")]
    Alias,
    /// None, or too many.
    #[error("{given} groups: an X-Api-Key opens 1 to {MAX_GROUPS}")]
    Groups {
        /// How many.
        given: usize,
    },
    /// The days.
    #[error(transparent)]
    Validity(#[from] ValidityError),
}

impl XApiKeyText {
    /// A new one.
    pub fn generate(random: &Random) -> Self {
        let uuid = Zeroizing::new(uuid_v4(random.bytes()));
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(uuid.as_bytes())))
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Lower-case hex, as filters ask for it.
    pub fn sha256(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// First three characters, `***`, last three.
    pub fn mask(&self) -> String {
        let chars: Vec<char> = self.0.chars().collect();
        let ends = |range: &[char]| range.iter().collect::<String>();
        match (chars.first_chunk::<3>(), chars.last_chunk::<3>()) {
            (Some(first), Some(last)) if chars.len() > 6 => format!("{}***{}", ends(first), ends(last)),
            _ => "***".into(),
        }
    }
}

impl fmt::Debug for XApiKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XApiKeyText({})", self.mask())
    }
}

impl Alias {
    /// Blanks around it do not count.
    pub fn parse(text: &str) -> Result<Self, XApiKeyFault> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > MAX_ALIAS_CHARS || text.chars().any(char::is_control) {
            return Err(XApiKeyFault::Alias);
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// At least one group, at most [`MAX_GROUPS`].
pub fn parse_groups(ids: impl IntoIterator<Item = String>) -> Result<BTreeSet<GroupId>, XApiKeyFault> {
    let groups: BTreeSet<GroupId> = ids.into_iter().map(GroupId).collect();
    if groups.is_empty() || groups.len() > MAX_GROUPS {
        return Err(XApiKeyFault::Groups { given: groups.len() });
    }
    Ok(groups)
}

/// A random UUID (RFC 9562, version 4) of these bytes, 122 of whose bits are kept.
fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_has_its_hash_and_mask() {
        let text = XApiKeyText(Zeroizing::new("YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm".into()));
        assert_eq!(text.sha256(), "ddddfcd2af735b009c9f689402e990eb5deba4a3f7a5d343b04ed48f7063c1f3");
        assert_eq!(text.mask(), "YjN***GJm");
        assert_eq!(format!("{text:?}"), "XApiKeyText(YjN***GJm)");
    }

    #[test]
    fn new_texts_have_the_form_that_clients_expect() {
        let random = Random::seeded(1);
        let text = XApiKeyText::generate(&random);
        assert_eq!(text.reveal().len(), 48);
        let uuid =
            String::from_utf8(URL_SAFE_NO_PAD.decode(text.reveal()).expect("Base64url")).expect("text");
        let at = |n: usize| uuid.as_bytes()[n];
        assert_eq!((uuid.len(), at(8), at(13), at(14), at(18), at(23)), (36, b'-', b'-', b'4', b'-', b'-'));
        assert!(b"89ab".contains(&at(19)));
        assert_ne!(XApiKeyText::generate(&random).reveal(), text.reveal());
    }

    #[test]
    fn texts_at_their_edges() {
        for (text, fits) in [
            ("ü".repeat(MAX_ALIAS_CHARS), true),
            ("ü".repeat(MAX_ALIAS_CHARS + 1), false),
            (" ".into(), false),
            ("a\nb".into(), false),
        ] {
            assert_eq!(Alias::parse(&text).is_ok(), fits, "{text}");
        }
        assert!(parse_groups((0..MAX_GROUPS).map(|n| n.to_string())).is_ok());
        assert!(parse_groups((0..=MAX_GROUPS).map(|n| n.to_string())).is_err());
        assert!(parse_groups([]).is_err());
    }
}
