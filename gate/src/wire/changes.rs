//! The change feed: what changed, by number. A filter polls it with the last number it knows.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::id::{ClientId, CredentialId, Epoch, MeterId, Revision};

/// How long the manager holds a poll open when nothing changes.
pub const POLL_WAIT_MS: u64 = 500;
/// When the filter gives a poll up; longer than [`POLL_WAIT_MS`] by the time of a round trip.
pub const POLL_TIMEOUT_MS: u64 = 900;
/// Changes in one answer at most; the rest follows with the next poll.
pub const MAX_CHANGES: usize = 1_000;

/// Answer of `GET /gateway/v1/changes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesAnswer {
    /// [`super::WIRE_VERSION`].
    pub version: u32,
    /// Life of the database. Another epoch than the one known means `reset`.
    pub epoch: Epoch,
    /// The newest revision that this answer covers; the next poll's `since`.
    pub revision: Revision,
    /// `since` is too old or of another epoch: everything held is to be asked for anew.
    #[serde(default)]
    pub reset: bool,
    /// In order of their revision.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// One numbered change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its number.
    pub revision: Revision,
    /// What it is about.
    pub subject: Subject,
}

/// What changed. The filter forgets what it holds about it and asks again when needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A client: all grants of all its credentials are stale.
    Client {
        /// Which.
        client: ClientId,
    },
    /// A credential (key, X-Api-Key, token): created, changed, revoked or deleted.
    Credential {
        /// Which.
        credential: CredentialId,
        /// How a request presents it, so that a cached "unknown" is forgotten too.
        fingerprint: Fingerprint,
    },
    /// A meter's limit was raised or it was reset: cached "exhausted" answers are stale.
    Meter {
        /// Which.
        meter: MeterId,
    },
    /// Leases of this meter go back at once: another holder waits for units, or the limit was lowered.
    Recall {
        /// Which.
        meter: MeterId,
        /// The limit was lowered: leases that are on their way are meant, too.
        #[serde(default)]
        lowered: bool,
    },
    /// The directory has a new revision.
    Directory,
}

/// How a credential is looked up: what of it a request shows, secrets only as a hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fingerprint {
    /// The public API key text of a DGRK pair.
    Dgrk(alloc::string::String),
    /// Lower-case hex SHA-256 of an X-Api-Key's text.
    XApiKey(alloc::string::String),
    /// Lower-case hex SHA-256 of a Bearer token's text.
    Bearer(alloc::string::String),
    /// A client id presented by Basic. (The VM's own cache key is an HMAC that covers the
    /// password; this names the client, whose passwords are all forgotten.)
    Basic(alloc::string::String),
}
