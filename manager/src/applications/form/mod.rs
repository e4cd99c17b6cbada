//! What a form says: its fields and the rules they obey.
//!
//! Rules that a form can be asked alone are held by its types ([`Form::parse`]); rules about the
//! world around it are asked again whenever it moves on ([`Form::check`]).

mod check;
mod fault;
mod fields;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use gate::id::{ApiUid, ClientId, CredentialId};
use jiff::civil::Date;

use crate::approvals::FormKind;
use crate::clients::Registration;
use crate::openapi::schema::schema_of;

pub use check::{ClientFacts, KeyFacts, Moment, World};
pub use fault::FieldFault;
pub use fields::Fields;

/// Characters of a key's name at most.
pub const MAX_NAME_CHARS: usize = 255;
/// Characters of a description at most.
pub const MAX_DESCRIPTION_CHARS: usize = 500;
/// The highest use quota: what digiRunner keeps in a signed 32-bit number.
pub const MAX_QUOTA: i64 = i32::MAX as i64;
/// APIs of one form at most. A key's grant lists them all; 1,000 keep it within one answer.
pub const MAX_APIS: usize = 1_000;

/// What a new key is to be called.
pub enum Name {}

/// Why it is asked for; may have lines.
pub enum Description {}

/// Uses; −1 = unlimited.
pub enum Quota {}

/// The uids of the APIs that it is to open, none twice.
pub enum Apis {}

schema_of! { Name as FormKeyName: line(MAX_NAME_CHARS) }
schema_of! { Description as FormDescription: lines(MAX_DESCRIPTION_CHARS) }
schema_of! { Quota as FormQuota: either([number(-1, -1), number(1, MAX_QUOTA)]) }
schema_of! { Apis as FormApis: list::<String>(1, MAX_APIS).unique_items(true) }

/// What a form asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A new key for a client.
    Apply {
        /// Whose key it becomes.
        client: ClientId,
        /// The key's terms.
        terms: Terms,
    },
    /// Other terms for a key that exists.
    Change {
        /// Whose key it is.
        client: ClientId,
        /// Which key.
        key: CredentialId,
        /// The terms from the effective date on.
        terms: Terms,
        /// Uses so far no longer count; otherwise what was used stays used.
        reset_usage: bool,
    },
    /// The end of a key.
    Revoke {
        /// Whose key it is.
        client: ClientId,
        /// Which key.
        key: CredentialId,
        /// The day from which it is refused.
        effective_date: Date,
        /// Why.
        description: String,
    },
    /// A new client.
    Client {
        /// Which.
        registration: Registration,
        /// Why.
        description: String,
    },
}

/// What a key may do and for how long, and why it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What people call the key.
    pub name: String,
    /// First day: of the key (apply) or of the change. Inclusive.
    pub effective_date: Date,
    /// Last day on which the key is accepted. Inclusive.
    pub expiry_date: Date,
    /// How often the key may be used; none: as often as it likes.
    pub quota: Option<u32>,
    /// Why it is wanted.
    pub description: String,
    /// What it may call: at least one, sorted.
    pub apis: BTreeSet<ApiUid>,
}

impl Form {
    /// Which kind it is.
    pub fn kind(&self) -> FormKind {
        match self {
            Self::Apply { .. } => FormKind::Apply,
            Self::Change { .. } => FormKind::Change,
            Self::Revoke { .. } => FormKind::Revoke,
            Self::Client { .. } => FormKind::Client,
        }
    }

    /// Whose key it is about, if it is about one.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Apply { client, .. } | Self::Change { client, .. } | Self::Revoke { client, .. } => {
                Some(client)
            }
            Self::Client { .. } => None,
        }
    }

    /// The key that it changes or revokes.
    pub fn key(&self) -> Option<&CredentialId> {
        match self {
            Self::Apply { .. } | Self::Client { .. } => None,
            Self::Change { key, .. } | Self::Revoke { key, .. } => Some(key),
        }
    }

    /// The terms it asks for; only a new or changed key has any.
    pub fn terms(&self) -> Option<&Terms> {
        match self {
            Self::Apply { terms, .. } | Self::Change { terms, .. } => Some(terms),
            Self::Revoke { .. } | Self::Client { .. } => None,
        }
    }

    /// The client it asks for.
    pub fn registration(&self) -> Option<&Registration> {
        match self {
            Self::Client { registration, .. } => Some(registration),
            Self::Apply { .. } | Self::Change { .. } | Self::Revoke { .. } => None,
        }
    }

    /// The day from which what it asks for holds; none: from the last signature on.
    pub fn effective_date(&self) -> Option<Date> {
        match self {
            Self::Apply { terms, .. } | Self::Change { terms, .. } => Some(terms.effective_date),
            Self::Revoke { effective_date, .. } => Some(*effective_date),
            Self::Client { .. } => None,
        }
    }

    /// Why it is asked for.
    pub fn description(&self) -> &str {
        match self {
            Self::Apply { terms, .. } | Self::Change { terms, .. } => &terms.description,
            Self::Revoke { description, .. } | Self::Client { description, .. } => description,
        }
    }
}
