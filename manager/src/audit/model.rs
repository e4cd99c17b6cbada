//! Entries and the chain that they form.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What is to be recorded. Nothing secret goes in; what bears the name of a secret is masked.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `operator:<id>`, `client:<id>`, `system` or `cli`.
    pub actor: String,
    /// `capability.action`.
    pub action: &'static str,
    /// `<kind>:<id>` of what was acted on.
    pub subject: String,
    /// What is worth knowing about it, a JSON object; of an update also `changed`, made by
    /// [`super::changed`].
    pub detail: Value,
}

/// An entry on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = AuditEntry)]
pub struct Recorded {
    /// Its place in the chain, from 1.
    pub seq: i64,
    /// When, UTC ms.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// On what.
    pub subject: String,
    /// More about it.
    pub detail: Value,
    /// Lower-case hex SHA-256 over the hash before and all of the above.
    pub hash: String,
}

/// Where the chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An entry's content does not have its hash: it, or the one before, was altered.
    #[error("entry {seq} was altered, or the one before it was")]
    Altered {
        /// Which.
        seq: i64,
    },
    /// Entries are missing.
    #[error("entry {expected} is missing: the next one on record is {found}")]
    Missing {
        /// The first missing one.
        expected: i64,
        /// What stands in its place.
        found: i64,
    },
    /// The end of the trail was cut off.
    #[error("the trail ends at entry {last}, but {head} were recorded")]
    Truncated {
        /// The last entry on record.
        last: i64,
        /// What the head remembers.
        head: i64,
    },
}

/// The hash of an entry: every field with its length in front, so that no two entries read the same.
pub(super) fn chain_hash(before: &str, seq: i64, at: i64, fields: [&str; 4]) -> String {
    let mut hasher = Sha256::new();
    let (seq, at) = (seq.to_string(), at.to_string());
    for field in [before, &seq, &at].into_iter().chain(fields) {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
