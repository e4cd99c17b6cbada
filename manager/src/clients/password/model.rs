//! What is kept of a password, and what one is checked for.

/// What is stored of a password. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for PasswordHash {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a password is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::clients) enum Purpose {
    /// To call APIs: only the client's own serves. Where a reset has ended it, its programs go on
    /// sending it for a while; that is no guess at the one that was mailed, and is not counted.
    Calls,
    /// To set another one: the client's own, or the one that was mailed.
    Replacement,
}

/// A password that was right for calls when it was checked. Grants are given later: whether it is
/// right still is asked again then.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(super) client: String,
    pub(super) hash: PasswordHash,
}
