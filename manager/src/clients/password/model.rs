//! What is kept of a password, and what one is checked for.

use crate::bearer;

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

impl PasswordHash {
    /// By which it is known whether a password is still the one that was checked: what was opened
    /// with a password that is in force no more is closed.
    pub fn mark(&self) -> PasswordMark {
        PasswordMark(bearer::sha256_hex(&self.0))
    }
}

/// Tells one password of a client from the next, and nothing else about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordMark(String);

impl PasswordMark {
    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for PasswordMark {
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
    /// To sign in: the client's own. One that was mailed is looked at too, so that whoever has it
    /// is told what it serves for, and whoever guesses at it is counted.
    SignIn,
}

/// A password that was right for calls when it was checked. Grants are given later: whether it is
/// right still is asked again then.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(super) client: String,
    pub(super) hash: PasswordHash,
}
