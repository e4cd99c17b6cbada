//! Entries: what is recorded, what is on record, what is asked for.

use serde_json::Value;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Which entries are asked for: those that satisfy all of it.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Any of these; none: everybody.
    pub actors: Vec<String>,
    /// The action, or with a dot at its end what it begins with (`clients.`).
    pub action: Option<String>,
    /// On what.
    pub subject: Option<String>,
    /// First instant, UTC ms.
    pub from: Option<i64>,
    /// Last instant, UTC ms.
    pub to: Option<i64>,
    /// In the detail, in whatever case of a to z.
    pub keyword: Option<String>,
    /// Entries before this one.
    pub before: Option<i64>,
}
