//! Codes, what they open, and when they do not.

use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use crate::mail::About;

/// Refused attempts that are counted and audited for one link. One more wrong code ends the link.
pub(super) const MAX_REFUSALS: i64 = 10;
/// How long it is remembered that there was a link.
pub(super) const REMEMBERED_MS: i64 = 90 * 86_400_000;
/// What an id begins with.
pub(super) const ID_PREFIX: &str = "crl";
/// Characters of a pasted text at most, in which a code is looked for.
const MAX_PASTED: usize = 2_048;

/// What the page shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// What it is for.
    pub secret: Secret,
    /// Whose it is.
    pub client_id: String,
    /// The same for people.
    pub client_name: String,
}

/// A secret with what belongs to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Secret {
    /// Of a DGRK key.
    KeyPair {
        /// The public half.
        api_key: String,
        /// The secret half.
        secret_key: String,
        /// What people call the key.
        key_name: String,
    },
    /// An X-Api-Key.
    XApiKey {
        /// Its text.
        x_api_key: String,
        /// What people call it.
        key_name: String,
    },
    /// A client's password.
    Password {
        /// In clear.
        password: String,
    },
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::KeyPair { .. } => "KeyPair",
            Self::XApiKey { .. } => "XApiKey",
            Self::Password { .. } => "Password",
        };
        write!(f, "{kind}([redacted])")
    }
}

/// What stands behind the `#` of a link: which one, and the proof of having got it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct UnverifiedCode {
    pub id: String,
    secret: String,
}

impl UnverifiedCode {
    /// From a code, or from a whole link that holds one.
    pub fn parse(pasted: &str) -> Option<Self> {
        if pasted.len() > MAX_PASTED {
            return None;
        }
        let code = pasted.rsplit('#').next().unwrap_or_default().trim();
        let (id, secret) = code.split_once('.')?;
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let ours = id.strip_prefix(ID_PREFIX).is_some_and(|rest| rest.starts_with('_'));
        (ours && plain(id) && plain(secret)).then(|| Self { id: id.into(), secret: secret.into() })
    }

    /// Whether it is the code of the link with this hash.
    pub fn opens(&self, secret_sha256: &str) -> bool {
        sha256_hex(&self.secret).as_bytes().ct_eq(secret_sha256.as_bytes()).into()
    }
}

/// What is kept of a code.
pub(super) fn sha256_hex(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A link as it is stored.
pub(super) struct Link {
    pub id: String,
    pub secret_sha256: String,
    pub shows: About,
    pub recipient: String,
    pub content_sealed: Option<String>,
    pub state: State,
    pub refusals: i64,
    pub expires_at: UnixMillis,
}

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Revealed,
    Withdrawn,
    Expired,
    Guessed,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Open, Self::Revealed, Self::Withdrawn, Self::Expired, Self::Guessed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Revealed => "revealed",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Guessed => "guessed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Why a link does not open; for the audit trail, not for who tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    WrongCode,
    Ended(State),
}

impl Refusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::WrongCode => "wrong_code",
            Self::Ended(state) => state.name(),
        }
    }
}

impl Link {
    /// Err: it shows nothing to who presents this code now.
    pub fn check(&self, code: &UnverifiedCode, now: UnixMillis) -> Result<(), Refusal> {
        if !code.opens(&self.secret_sha256) {
            return Err(Refusal::WrongCode);
        }
        match self.state {
            State::Open if now < self.expires_at => Ok(()),
            State::Open => Err(Refusal::Ended(State::Expired)),
            ended => Err(Refusal::Ended(ended)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_in_what_people_paste() {
        for (pasted, found) in [
            ("crl_a.b-_9", true),
            ("  crl_a.b-_9\n", true),
            ("https://keygate.example/credentials#crl_a.b-_9", true),
            ("#crl_a.b-_9", true),
            ("crl_a", false),
            ("ml_a.b", false),
            ("crl_a.b c", false),
            ("crl_a.b<script>", false),
            ("", false),
        ] {
            let code = UnverifiedCode::parse(pasted);
            let whole = code.is_some_and(|code| code.id == "crl_a" && code.secret == "b-_9");
            assert_eq!(whole, found, "{pasted}");
        }
        assert!(UnverifiedCode::parse(&format!("{}#crl_a.b", "x".repeat(MAX_PASTED))).is_none());
    }

    #[test]
    fn a_link_opens_with_its_code_until_it_ends() {
        let link = |state| Link {
            id: "crl_a".into(),
            secret_sha256: sha256_hex("right"),
            shows: About::new("key", "key_1"),
            recipient: "a@example.com".into(),
            content_sealed: None,
            state,
            refusals: 0,
            expires_at: UnixMillis(1_000),
        };
        let code = |text: &str| UnverifiedCode::parse(text).expect("a code");
        let check = |state, text: &str, now| link(state).check(&code(text), UnixMillis(now));
        assert_eq!(check(State::Open, "crl_a.right", 999), Ok(()));
        assert_eq!(check(State::Open, "crl_a.right", 1_000), Err(Refusal::Ended(State::Expired)));
        assert_eq!(check(State::Open, "crl_a.wrong", 999), Err(Refusal::WrongCode));
        for ended in State::ALL.into_iter().filter(|state| *state != State::Open) {
            assert_eq!(check(ended, "crl_a.right", 999), Err(Refusal::Ended(ended)));
            assert_eq!(check(ended, "crl_a.wrong", 999), Err(Refusal::WrongCode));
        }
    }
}
