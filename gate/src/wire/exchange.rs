//! `POST /gateway/v1/exchange`: credentials to resolve, leases to renew or return and usage to
//! report, in one batched call; answers in the order of the questions.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

use super::directory::Audience;
use crate::id::{
    ApiUid, ClientId, CredentialId, Epoch, Generation, GroupId, HolderId, LeaseId, MeterId, Rec, Revision,
};
use crate::time::{Interval, UnixMillis};

/// Credentials in one exchange at most.
pub const MAX_RESOLVES: usize = 256;
/// Renewals in one exchange at most.
pub const MAX_RENEWALS: usize = 1_024;
/// Usage rows in one exchange at most.
pub const MAX_USAGE: usize = 1_024;
/// Milliseconds that the answers of one bucket of a histogram took together at most: over 200,000 years.
pub const MAX_LATENCY_SUM_MS: u64 = 1 << 53;
/// Bytes of one exchange, either way.
pub const MAX_EXCHANGE_BYTES: usize = 2 << 20;

/// What a filter's VM asks and reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeRequest {
    /// [`super::WIRE_VERSION`].
    pub version: u32,
    /// The Envoy process.
    pub holder: HolderId,
    /// The VM within it.
    pub slot: u32,
    /// The filter's own version, for the operator's eyes.
    pub filter_version: String,
    /// The directory revision it works with.
    pub directory: Revision,
    /// The last change it knows.
    pub feed: Revision,
    /// Leases it holds now, for the operator's eyes.
    #[serde(default)]
    pub leases_held: u32,
    /// Credentials it does not know.
    #[serde(default)]
    pub resolve: Vec<Presented>,
    /// Lease streams to move on.
    #[serde(default)]
    pub renew: Vec<Renewal>,
    /// What was admitted and refused since the last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
}

/// A credential as presented. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Presented {
    /// A DGRK key by its public text.
    Dgrk {
        /// 56 characters of Base64 in pairs made by us; at most [`crate::credential::MAX_API_KEY_BYTES`].
        api_key: String,
    },
    /// An X-Api-Key by the lower-case hex SHA-256 of its text.
    XApiKey {
        /// 64 hex digits.
        sha256: String,
    },
    /// A token by the lower-case hex SHA-256 of its text.
    Bearer {
        /// 64 hex digits.
        sha256: String,
    },
    /// Id and password: only the manager can check a password.
    Basic {
        /// The client id.
        client: String,
        /// The password in clear, over TLS.
        password: String,
    },
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dgrk { api_key } => write!(f, "Dgrk({api_key})"),
            Self::XApiKey { .. } => f.write_str("XApiKey([redacted])"),
            Self::Bearer { .. } => f.write_str("Bearer([redacted])"),
            Self::Basic { client, .. } => write!(f, "Basic({client}, [redacted])"),
        }
    }
}

/// What the manager answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeAnswer {
    /// [`super::WIRE_VERSION`].
    pub version: u32,
    /// Life of the database.
    pub epoch: Epoch,
    /// The newest change visible when the resolved rows were read, read before them in the same
    /// transaction: a resolve older than a revocation that names it must not be used.
    pub as_of: Revision,
    /// One per [`ExchangeRequest::resolve`].
    #[serde(default)]
    pub resolved: Vec<Resolved>,
    /// One per [`ExchangeRequest::renew`].
    #[serde(default)]
    pub renewed: Vec<RenewalAnswer>,
    /// The usage report that is now counted, and will not be again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_seq: Option<u64>,
}

/// Whether a credential exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolved {
    /// It does: what it may do. (Boxed: a grant is large, an "unknown" is not.)
    Known {
        /// The grant.
        grant: alloc::boxed::Box<Grant>,
    },
    /// It does not, or its password is wrong.
    Unknown,
}

/// What the manager says a credential may do. Cached by the filter until a change names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The credential.
    pub credential: CredentialId,
    /// Its client.
    pub client: ClientId,
    /// How a caller proves to hold the secret.
    pub proof: Proof,
    /// Whether the client is active.
    pub client_status: ClientStatus,
    /// The client's start and expiry, in UTC; absent = always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_validity: Option<Interval>,
    /// Daily service time over the next 48 h, in UTC; absent = all day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_time: Option<Vec<Interval>>,
    /// CIDR blocks or single addresses from which the client may call; empty = from everywhere.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Some binding is a host name: if none of `addresses` resolved, nobody matches.
    #[serde(default)]
    pub bound: bool,
    /// Whether the credential is switched on.
    pub active: bool,
    /// First instant at which the credential works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_at: Option<UnixMillis>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<UnixMillis>,
    /// Last instant at which it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMillis>,
    /// What may be called.
    pub permission: Permission,
    /// From where.
    #[serde(default)]
    pub audience: Audience,
    /// 0 (best) to 9.
    pub priority: u8,
    /// Requests per second and node; 0 = unlimited.
    pub tps: u32,
    /// Every limit that one call takes a unit of.
    #[serde(default)]
    pub meters: Vec<Meter>,
    /// The client's zone as minutes east of UTC, for the instants that a refusal prints.
    #[serde(default)]
    pub utc_offset_min: i32,
    /// How long the filter may keep this without asking again, even if no change names it
    /// (service times run out after 48 h).
    pub keep_s: u32,
}

/// How a caller proves to hold the secret of what it presents. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It was found by the hash of the secret (X-Api-Key, token), or the manager checked the
    /// password (Basic).
    Presented,
    /// A DGRK signature with one of these secrets, newest first; two while rotating.
    Signature {
        /// The Base64 texts of the secret keys.
        secrets: Vec<Secret>,
    },
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Presented => f.write_str("Presented"),
            Self::Signature { secrets } => write!(f, "Signature({} secrets)", secrets.len()),
        }
    }
}

/// One live secret of a DGRK key. `Debug` shows its id alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Names it in "last used" reports.
    pub id: String,
    /// The Base64 text, as HMAC uses it.
    pub text: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, [redacted])", self.id)
    }
}

/// State of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientStatus {
    /// Calls are let in.
    Active,
    /// Switched off by an operator.
    Disabled,
    /// Closed after too many wrong passwords, or by an operator.
    Locked,
}

/// What a credential may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Exactly these APIs (DGRK).
    Apis {
        /// Their uids.
        apis: Vec<ApiUid>,
    },
    /// Every API of these groups (X-Api-Key, token, Basic): the credential's groups that the
    /// client still has.
    Groups {
        /// Their ids.
        groups: Vec<GroupId>,
    },
}

/// One counted limit of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Which counter.
    pub id: MeterId,
    /// Whose limit it is.
    pub kind: MeterKind,
    /// Units per generation, for `RateLimit-Policy`.
    pub limit: u64,
    /// Length of the window in seconds; absent = a total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u64>,
    /// Seconds of demand one lease should last for.
    pub horizon_s: u32,
}

/// Whose limit a meter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// The client's API quota of the period, over all its credentials.
    ClientQuota,
    /// The use quota of one DGRK key.
    KeyUses,
    /// The use count of one token.
    TokenUses,
}

/// One step of a lease stream (holder, meter, rec). `seq` starts at 1. The same step, sent
/// again, gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewal {
    /// Which counter.
    pub meter: MeterId,
    /// Names the stream.
    pub rec: Rec,
    /// Number of this step.
    pub seq: u64,
    /// The epoch in which the stream began; absent at seq 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Units that the demand of the lease horizon asks for; 0 = none, the stream ends.
    pub want: u32,
    /// The lease that this step closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_lease: Option<LeaseId>,
    /// Its units that no request will ever spend.
    #[serde(default)]
    pub unspent: u32,
    /// Requests stand waiting for a unit: worth a recall from other holders.
    #[serde(default)]
    pub waiting: bool,
    /// The lease is to be of the next window, and is of no use before.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub ahead: bool,
}

/// What a renewal got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalAnswer {
    /// Echoed.
    pub meter: MeterId,
    /// Echoed.
    pub rec: Rec,
    /// Echoed.
    pub seq: u64,
    /// The answer itself.
    pub outcome: RenewalOutcome,
}

/// See [`RenewalAnswer`]. All durations count from the moment the call was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalOutcome {
    /// A lease.
    Granted {
        /// Its id.
        lease: LeaseId,
        /// The life of the counter that it was taken from.
        generation: Generation,
        /// Its units, at least 1.
        units: u32,
        /// How long it may be spent; 0 when a repeated answer is already past.
        ttl_ms: u64,
        /// How long its window lasts; absent = a total. A lease never outlives its window.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window_left_ms: Option<u64>,
        /// It is of the next window, which begins then; absent = of the present one. Only a renewal
        /// that says `ahead` is answered so, and perhaps with a lease of the present window.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opens_in_ms: Option<u64>,
        /// limit − debited after this grant.
        remaining: u64,
    },
    /// Nothing now, but another holder has an unexpired lease that is being recalled.
    Pending {
        /// Ask again after this.
        retry_ms: u64,
    },
    /// Nothing until the window turns or the limit is raised.
    Exhausted {
        /// The window's rest; absent = a total.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window_left_ms: Option<u64>,
    },
    /// The step is on record and brings nothing: the final one (`want` = 0), after which the node may
    /// forget the stream, or one that asked `ahead` for what is not to be had.
    Closed,
    /// Neither the step on record nor the one after it, or another epoch: the node drops the
    /// record, whose units count as withheld, and begins a new stream.
    Refused,
    /// The meter is gone (its key or client was deleted).
    Gone,
}

/// Usage of one VM since its last report. `seq` numbers the reports of a (holder, slot, boot):
/// a repeat counts once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageReport {
    /// 63 random bits drawn when the VM started: a reused slot counts from 1 again.
    pub boot: u64,
    /// Number of this report.
    pub seq: u64,
    /// What happened; the same may come in several rows.
    pub rows: Vec<UsageRow>,
}

/// Calls of one credential to one API with one result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageRow {
    /// Of which client; absent when the caller is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// Whose; absent when the caller is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialId>,
    /// Which secret of the key was used (DGRK).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Which API; absent when none matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiUid>,
    /// `admitted`, the code of the denial, or for how a call that was let in was answered one of
    /// [`ANSWERED`]: then `credential` and `secret` are absent.
    pub result: String,
    /// How many.
    pub count: u64,
    /// Of answers: index of the bucket ([`LATENCY_MS`]), how many, and the milliseconds from the
    /// head of the request to the end of the stream that they took together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<[u64; 3]>,
}

/// Results of calls that were let in, by the first digit of the status; the first one: the stream
/// ended without an answer.
pub const ANSWERED: [&str; 6] =
    ["answered_not", "answered_1xx", "answered_2xx", "answered_3xx", "answered_4xx", "answered_5xx"];

/// The last milliseconds of all buckets of a latency histogram but the last one, which has no end.
pub const LATENCY_MS: [u64; 15] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];

/// The bucket of a latency histogram that an answer after `ms` falls into: 0 to 15.
pub fn latency_bucket(ms: u64) -> u64 {
    LATENCY_MS.partition_point(|last| *last < ms) as u64
}
