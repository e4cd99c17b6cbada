//! Tokens and their kinds.

use std::collections::BTreeSet;

use gate::time::UnixMillis;

use crate::operators::permission::Permission;

/// Live API tokens of one operator at most.
pub const MAX_API_TOKENS: usize = 20;

/// A token as stored: its text is not.
#[derive(Clone, Debug)]
pub struct Token {
    /// `ot_…`
    pub id: String,
    /// Whose it is.
    pub operator: String,
    /// From a sign-in, or made for a program.
    pub kind: TokenKind,
    /// What the owner calls it; empty for sessions.
    pub name: String,
    /// What it is limited to; None: it goes as far as the roles.
    pub scope: Option<BTreeSet<Permission>>,
    /// When.
    pub created_at: UnixMillis,
    /// Last instant; None: until revoked.
    pub expires_at: Option<UnixMillis>,
    /// To the minute; None: never.
    pub last_used_at: Option<UnixMillis>,
    /// None: not.
    pub revoked_at: Option<UnixMillis>,
}

impl Token {
    /// Whether it opens anything.
    pub fn is_live(&self, now: UnixMillis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|last| now <= last)
    }
}

/// What kind of Bearer token an operator presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// From a sign-in, runs out.
    Session,
    /// Made for a program.
    Api,
}

impl TokenKind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Api => "api",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "session" => Some(Self::Session),
            "api" => Some(Self::Api),
            _ => None,
        }
    }

    /// What the token's text begins with, so that a found one is recognised.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Session => "kgs",
            Self::Api => "kgt",
        }
    }
}
