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
/// Keys that are deleted together at most: one page of a list.
pub const MAX_DELETED_TOGETHER: usize = 200;
/// What the ids of keys begin with.
pub const ID_PREFIX: &str = "xak";
/// Characters of a mask that was made elsewhere, at most.
const MAX_MASK_CHARS: usize = 100;

/// A key on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XApiKey {
    /// `xak_…`.
    pub id: CredentialId,
    /// Whose.
    pub client: ClientId,
    /// What people call it.
    pub alias: Alias,
    /// What is kept of the text.
    pub trace: Trace,
    /// First and last instant at which it works.
    pub validity: Interval,
    /// What it opens, as far as the client still has it.
    pub groups: BTreeSet<GroupId>,
    /// Where its text was made.
    pub origin: Origin,
    /// Last call that a gateway let in, by the minute.
    pub last_used_at: Option<UnixMillis>,
    /// When it was created.
    pub created_at: UnixMillis,
    /// By whom.
    pub created_by: String,
}

/// What is kept of a key's text: enough to know it again, too little to present it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Lower-case hex SHA-256.
    pub sha256: String,
    /// `abc***xyz`.
    pub mask: String,
}

/// Where a key's text was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Here.
    Issued,
    /// Elsewhere: only its hash was brought in.
    Imported,
}

/// Whether a key works at a moment, apart from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XApiKeyState {
    /// Its first day is to come.
    NotEffective,
    /// It does.
    Active,
    /// Its last day is over.
    Expired,
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
    /// Not a hash.
    #[error("the SHA-256 of a key is 64 hexadecimal digits")]
    Sha256,
    /// Not a mask.
    #[error("a mask has 1 to {MAX_MASK_CHARS} printable characters and `***` in it, such as YjN***GJm")]
    Mask,
}

impl XApiKey {
    /// Whether it works at `now`, apart from its client.
    pub fn state(&self, now: UnixMillis) -> XApiKeyState {
        if now < self.validity.from {
            XApiKeyState::NotEffective
        } else if now > self.validity.until {
            XApiKeyState::Expired
        } else {
            XApiKeyState::Active
        }
    }
}

impl XApiKeyState {
    /// As answers name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotEffective => "not_effective",
            Self::Active => "active",
            Self::Expired => "expired",
        }
    }
}

impl Origin {
    /// As it stands in the table and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Imported => "imported",
        }
    }

    /// What [`Self::name`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Issued, Self::Imported].into_iter().find(|origin| origin.name() == text)
    }
}

impl Trace {
    /// Of a text that was made elsewhere. Its hash is hexadecimal of either case: digiRunner keeps
    /// the upper one. Its mask must hide something, lest a text be entered in its place.
    pub fn imported(sha256: &str, mask: &str) -> Result<Self, XApiKeyFault> {
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(XApiKeyFault::Sha256);
        }
        let printable = mask.chars().all(|char| !char.is_control());
        if mask.chars().count() > MAX_MASK_CHARS || !printable || !mask.contains("***") {
            return Err(XApiKeyFault::Mask);
        }
        Ok(Self { sha256: sha256.to_ascii_lowercase(), mask: mask.into() })
    }
}

/// Whether a credential of that id is an X-Api-Key.
pub fn is_x_api_key(id: &CredentialId) -> bool {
    id.as_str().strip_prefix(ID_PREFIX).is_some_and(|rest| rest.starts_with('_'))
}

impl XApiKeyText {
    /// A new one.
    pub fn generate(random: &Random) -> Self {
        let uuid = Zeroizing::new(uuid_v4(random.bytes()));
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(uuid.as_bytes())))
    }

    /// One that somebody has at hand, with the blanks of a careless copy around it.
    pub fn pasted(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().into()))
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn trace(&self) -> Trace {
        Trace { sha256: self.sha256(), mask: self.mask() }
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
    fn a_key_works_from_its_first_instant_to_its_last() {
        let key = XApiKey {
            id: CredentialId(format!("{ID_PREFIX}_1")),
            client: ClientId::from("acme"),
            alias: Alias("back office".into()),
            trace: XApiKeyText::pasted("text").trace(),
            validity: Interval { from: UnixMillis(10), until: UnixMillis(20) },
            groups: BTreeSet::new(),
            origin: Origin::Issued,
            last_used_at: None,
            created_at: UnixMillis(0),
            created_by: "op_1".into(),
        };
        for (now, state) in [
            (9, XApiKeyState::NotEffective),
            (10, XApiKeyState::Active),
            (20, XApiKeyState::Active),
            (21, XApiKeyState::Expired),
        ] {
            assert_eq!(key.state(UnixMillis(now)), state, "{now}");
        }
        assert!(is_x_api_key(&key.id));
        assert!(!is_x_api_key(&CredentialId::from("key_1")) && !is_x_api_key(&CredentialId::from("xaky")));
    }

    #[test]
    fn a_hash_of_either_case_and_a_mask_are_taken_and_a_text_is_not() {
        const HASH: &str = "DDDDFCD2AF735B009C9F689402E990EB5DEBA4A3F7A5D343B04ED48F7063C1F3";
        let trace = Trace::imported(HASH, "YjN***GJm").expect("digiRunner's form");
        assert_eq!(trace, XApiKeyText::pasted(" YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm\n").trace());
        assert_eq!(Trace::imported(&HASH.to_ascii_lowercase(), "YjN***GJm"), Ok(trace));
        let long = "x".repeat(MAX_MASK_CHARS - 3);
        for (sha256, mask, fault) in [
            (&HASH[1..], "YjN***GJm", XApiKeyFault::Sha256),
            (&HASH.replace('D', "G"), "YjN***GJm", XApiKeyFault::Sha256),
            (HASH, "YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm", XApiKeyFault::Mask),
            (HASH, "", XApiKeyFault::Mask),
            (HASH, "a***\nb", XApiKeyFault::Mask),
            (HASH, &format!("{long}x***"), XApiKeyFault::Mask),
        ] {
            assert_eq!(Trace::imported(sha256, mask), Err(fault), "{sha256} {mask}");
        }
        assert!(Trace::imported(HASH, &format!("{long}***")).is_ok());
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
