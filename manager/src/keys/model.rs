//! A DGRK key: a public text that requests name, one or two secrets that sign them, and terms.
//!
//! Pairs have the form that existing clients expect: Base64 of the lower-case hex of 20 bytes (56
//! characters) and of 32 bytes (88 characters). There the bytes are hashes of a random UUID; here
//! they are random themselves, 160 and 256 bits.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gate::credential::MAX_API_KEY_BYTES;
use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::{Interval, UnixMillis};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::clock::Random;
use crate::openapi::schema::schema_of;
use crate::validity::ValidityError;

/// Characters of a key's name at most.
pub const MAX_NAME_CHARS: usize = 255;
/// The highest use quota: what digiRunner keeps in a signed 32-bit number.
pub const MAX_USES: u32 = i32::MAX as u32;
/// APIs of one key at most. Its grant lists them all.
pub const MAX_APIS: usize = 1_000;
/// Bytes of a secret that is brought in, at most (ours have 88).
pub const MAX_SECRET_BYTES: usize = 1_024;
/// Secrets of one key that work at the same time: the present one, and its successor while the
/// client changes over.
pub const MAX_LIVE_SECRETS: usize = 2;

/// A key on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// `key_…`.
    pub id: CredentialId,
    /// Whose.
    pub client: ClientId,
    /// The public half.
    pub api_key: ApiKey,
    /// Its secrets, newest first, sealed.
    pub secrets: Vec<SealedSecret>,
    /// What people call it.
    pub name: KeyName,
    /// First and last instant at which it works.
    pub validity: Interval,
    /// How often it may be used in all.
    pub uses: UseQuota,
    /// What it may call.
    pub apis: BTreeSet<ApiUid>,
    /// Whether it works at all.
    pub state: KeyState,
    /// Where the pair was made.
    pub origin: Origin,
    /// Goes up with every change: what `If-Match` compares.
    pub version: i64,
    /// When it came on record.
    pub created_at: UnixMillis,
    /// When it was changed last.
    pub updated_at: UnixMillis,
}

/// Whether a key works at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It does, within its validity.
    Active,
    /// Switched off, and can be switched on again.
    Inactive,
    /// Ended for good.
    Revoked {
        /// When.
        revoked_at: UnixMillis,
    },
}

impl KeyState {
    /// Every [`KeyState::name`].
    pub const NAMES: [&str; 3] = ["active", "inactive", "revoked"];

    /// As it stands in the table and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Revoked { .. } => "revoked",
        }
    }
}

impl Key {
    /// The state in words, as people know it: `Active`, `Dormant`, `Revoked`, and whether the last day is over.
    pub fn label(&self, now: UnixMillis) -> String {
        let overdue = if now > self.validity.until { " (Overdue)" } else { "" };
        match self.state {
            KeyState::Active => format!("Active{overdue}"),
            KeyState::Inactive => format!("Dormant{overdue}"),
            KeyState::Revoked { .. } => "Revoked".into(),
        }
    }
}

/// Where a pair was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Here.
    Issued,
    /// Elsewhere, and brought in.
    Imported,
}

impl Origin {
    /// As it stands in the table and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Imported => "imported",
        }
    }
}

/// A secret as it lies in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSecret {
    /// `sec_…`; usage reports name it.
    pub id: String,
    /// Opens with the purpose of its id.
    pub sealed: String,
    /// When it came on record.
    pub created_at: UnixMillis,
    /// Last use that a gateway reported.
    pub last_used_at: Option<UnixMillis>,
    /// When it ends by itself, its successor being there.
    pub ends_at: Option<UnixMillis>,
}

impl SealedSecret {
    /// Whether it no longer signs, though it is still on record.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.ends_at.is_some_and(|at| at <= now)
    }
}

/// The public half of a pair: what an `Authorization` header names before the dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiKey(String);

/// The secret half, as text: HMAC takes the characters themselves. `Debug` shows none of them.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<String>);

/// What people call a key: not blank, at most [`MAX_NAME_CHARS`], printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

/// How often a key may be used in all, over all its APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseQuota {
    /// As often as it likes; −1 on the outside.
    Unlimited,
    /// So often, 1 to [`MAX_USES`].
    Uses(u32),
}

/// What a key may do and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What people call it.
    pub name: KeyName,
    /// First and last instant at which it works.
    pub validity: Interval,
    /// How often it may be used in all.
    pub uses: UseQuota,
    /// What it may call: at least one, at most [`MAX_APIS`].
    pub apis: BTreeSet<ApiUid>,
}

/// The uids of the APIs that a key opens.
pub enum ApiUids {}

schema_of! { ApiKey as DgrkApiKey: text(4, MAX_API_KEY_BYTES).pattern(Some("^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")) }
schema_of! { SecretKey as DgrkSecretKey: text_of("!-~", 1, MAX_SECRET_BYTES) }
schema_of! { KeyName: line(MAX_NAME_CHARS) }
schema_of! { UseQuota: either([number(-1, -1), number(1, i64::from(MAX_USES))]) }
schema_of! { ApiUids: list::<String>(1, MAX_APIS) }
schema_of! { KeyState: one_of(KeyState::NAMES) }
schema_of! { Origin as KeyOrigin: one_of(["issued", "imported"]) }

/// What is wrong with a value that describes a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Blank or too long, or not printable.
    #[error("a name has 1 to {MAX_NAME_CHARS} printable characters")]
    Name,
    /// 0, or out of range.
    #[error("{given} uses: give -1 for unlimited, or 1 to {MAX_USES}")]
    Uses {
        /// As given.
        given: i64,
    },
    /// None, or too many.
    #[error("{given} APIs: a key opens 1 to {MAX_APIS}")]
    Apis {
        /// How many.
        given: usize,
    },
    /// The days.
    #[error(transparent)]
    Validity(#[from] ValidityError),
    /// Not the text of an API key.
    #[error("an API key has 1 to {MAX_API_KEY_BYTES} characters of Base64 with its padding")]
    ApiKey,
    /// Not the text of a secret key.
    #[error("a secret key has 1 to {MAX_SECRET_BYTES} printable ASCII characters without blanks")]
    SecretKey,
}

impl ApiKey {
    /// A new one.
    pub fn generate(random: &Random) -> Self {
        Self(STANDARD.encode(lower_hex(&random.bytes::<20>())))
    }

    /// One that was made elsewhere.
    pub fn parse(text: &str) -> Result<Self, TermsError> {
        // The grammar of the header itself: what it refuses could never be presented.
        let bare = text.trim_end_matches('=');
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
        let whole = text.len().is_multiple_of(4) && text.len() - bare.len() <= 2;
        if text.is_empty() || text.len() > MAX_API_KEY_BYTES || !whole || !bare.bytes().all(base64) {
            return Err(TermsError::ApiKey);
        }
        Ok(Self(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SecretKey {
    /// A new one.
    pub fn generate(random: &Random) -> Self {
        Self(Zeroizing::new(STANDARD.encode(lower_hex(&random.bytes::<32>()))))
    }

    /// One that was made elsewhere.
    pub fn parse(text: &str) -> Result<Self, TermsError> {
        if text.is_empty()
            || text.len() > MAX_SECRET_BYTES
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(TermsError::SecretKey);
        }
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// First and last five characters; those between are stars. A short one shows nothing.
    pub fn mask(&self) -> String {
        const SHOWN: usize = 5;
        let chars: Vec<char> = self.0.chars().collect();
        let hidden = chars.len().saturating_sub(2 * SHOWN);
        // Less than half hidden would be no mask.
        let shown = if hidden < 2 * SHOWN { 0 } else { SHOWN };
        let stars = |(at, char): (usize, &char)| {
            if at < shown || at >= chars.len() - shown { *char } else { '*' }
        };
        chars.iter().enumerate().map(stars).collect()
    }
}

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretKey {}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey([redacted])")
    }
}

impl KeyName {
    /// Blanks around it do not count.
    pub fn parse(text: &str) -> Result<Self, TermsError> {
        let printable = text.chars().count() <= MAX_NAME_CHARS && !text.chars().any(char::is_control);
        match text.trim() {
            "" => Err(TermsError::Name),
            text if printable => Ok(Self(text.into())),
            _ => Err(TermsError::Name),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UseQuota {
    /// −1 is unlimited; 0 would make a key that nobody can use.
    pub fn parse(given: i64) -> Result<Self, TermsError> {
        match given {
            -1 => Ok(Self::Unlimited),
            _ => match u32::try_from(given) {
                Ok(uses @ 1..=MAX_USES) => Ok(Self::Uses(uses)),
                Ok(_) | Err(_) => Err(TermsError::Uses { given }),
            },
        }
    }

    /// −1 or the number.
    pub fn as_number(self) -> i64 {
        match self {
            Self::Unlimited => -1,
            Self::Uses(uses) => i64::from(uses),
        }
    }
}

impl fmt::Display for UseQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Uses(1) => f.write_str("1 call"),
            Self::Uses(uses) => write!(f, "{uses} calls"),
        }
    }
}

/// The APIs of a key: at least one, at most [`MAX_APIS`].
pub fn parse_apis(uids: impl IntoIterator<Item = String>) -> Result<BTreeSet<ApiUid>, TermsError> {
    let apis: Vec<ApiUid> = uids.into_iter().map(ApiUid).collect();
    if apis.is_empty() || apis.len() > MAX_APIS {
        return Err(TermsError::Apis { given: apis.len() });
    }
    Ok(apis.into_iter().collect())
}

fn lower_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_pairs_have_the_form_that_clients_expect() {
        let random = Random::seeded(1);
        let (api_key, secret) = (ApiKey::generate(&random), SecretKey::generate(&random));
        assert_eq!((api_key.as_str().len(), secret.reveal().len()), (56, 88));
        for (text, digits) in [(api_key.as_str(), 40), (secret.reveal(), 64)] {
            let hex = String::from_utf8(STANDARD.decode(text).expect("Base64")).expect("text");
            assert_eq!(hex.len(), digits);
            assert!(hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{hex}");
        }
        assert_eq!(ApiKey::parse(api_key.as_str()), Ok(api_key.clone()));
        assert_ne!(ApiKey::generate(&random), api_key);
        assert!(!format!("{secret:?}").contains(&secret.reveal()[..10]));
    }

    #[test]
    fn a_mask_shows_five_characters_at_each_end_of_a_long_secret() {
        let mask = |text| SecretKey::parse(text).expect("a secret").mask();
        let long =
            mask("YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==");
        assert_eq!(long, format!("YTk2M{}kYw==", "*".repeat(78)));
        assert_eq!(mask("short"), "*****");
        assert_eq!(mask("nineteen-characters"), "*".repeat(19));
        assert_eq!(mask("twenty-characters-20"), "twent**********rs-20");
    }

    #[test]
    fn quotas_at_their_edges() {
        for (given, expected) in [
            (-2, None),
            (-1, Some(UseQuota::Unlimited)),
            (0, None),
            (1, Some(UseQuota::Uses(1))),
            (i64::from(MAX_USES), Some(UseQuota::Uses(MAX_USES))),
            (i64::from(MAX_USES) + 1, None),
            (i64::MAX, None),
        ] {
            let quota = UseQuota::parse(given).ok();
            assert_eq!(quota, expected, "{given}");
            assert_eq!(quota.map_or(given, UseQuota::as_number), given);
        }
    }

    #[test]
    fn texts_at_their_edges() {
        let long = |n: usize| "a".repeat(n);
        for (text, fits) in [
            (long(MAX_API_KEY_BYTES / 4 * 4), true),
            (long(MAX_API_KEY_BYTES / 4 * 4 + 4), false),
            ("aaaaa".into(), false),
            ("a===".into(), false),
            (String::new(), false),
            ("a.bc".into(), false),
            ("a bc".into(), false),
            ("YjQx+/==".into(), true),
        ] {
            assert_eq!(ApiKey::parse(&text).is_ok(), fits, "{text}");
        }
        for (text, fits) in
            [(long(MAX_SECRET_BYTES), true), (long(MAX_SECRET_BYTES + 1), false), ("a\n".into(), false)]
        {
            assert_eq!(SecretKey::parse(&text).is_ok(), fits);
        }
        for (text, fits) in [
            ("ü".repeat(MAX_NAME_CHARS), true),
            ("ü".repeat(MAX_NAME_CHARS + 1), false),
            ("  ".into(), false),
            ("a\tb".into(), false),
        ] {
            assert_eq!(KeyName::parse(&text).is_ok(), fits, "{text}");
        }
        assert!(parse_apis((0..MAX_APIS).map(|n| n.to_string())).is_ok());
        assert!(parse_apis((0..=MAX_APIS).map(|n| n.to_string())).is_err());
        assert!(parse_apis([]).is_err());
    }
}
