//! `POST /gateway/v1/decisions`: what led to refusals, for whoever asks why.
//!
//! A call of its own, so that a flood of refusals never stands in the way of leases, and an older
//! manager that does not know it answers 404 to nothing else. A refusal is named by the id that its
//! caller was given; a report is repeated as it was until it is taken, and a decision counts once.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::exchange::MeterKind;
use crate::id::{ApiUid, ClientId, CredentialId, Generation, HolderId, LeaseId, MeterId, Revision};
use crate::request::CredentialKind;
use crate::time::UnixMillis;

/// Decisions in one report at most.
pub const MAX_DECISIONS: usize = 128;
/// Codes of which one report says that decisions were not kept: all there are.
pub const MAX_CODES: usize = 64;
/// Bytes of a path or a host in a decision at most; the rest is cut off.
pub const MAX_TEXT_BYTES: usize = 512;
/// Bytes of one report.
pub const MAX_REPORT_BYTES: usize = 1 << 20;

/// Refusals of one worker since its last report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionsReport {
    /// [`super::WIRE_VERSION`].
    pub version: u32,
    /// The Envoy process.
    pub holder: HolderId,
    /// 63 random bits that name this life of the worker: the first half of its ids.
    pub boot: u64,
    /// Number of this report, from 1.
    pub seq: u64,
    /// What is kept.
    pub decisions: Vec<Decision>,
    /// What is not: counted, by code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_kept: Vec<NotKept>,
}

/// Refusals that were answered, and of which nothing else is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotKept {
    /// Code of the denial.
    pub code: String,
    /// How many.
    pub count: u64,
}

/// What the manager answers: the report is on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionsAnswer {
    /// [`super::WIRE_VERSION`].
    pub version: u32,
    /// Echoed.
    pub seq: u64,
}

/// One refusal with what led to it. Nothing secret is in it: no credential, header, query or body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// As the caller was told.
    pub id: String,
    /// By the wall clock of the node, which dates are compared with.
    pub at: UnixMillis,
    /// Code of the denial: the rule that decided.
    pub code: String,
    /// What the caller could read.
    pub detail: String,
    /// Method of the request.
    pub method: String,
    /// Host as sent.
    pub host: String,
    /// Path without its query.
    pub path: String,
    /// The API that the request means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiUid>,
    /// Kind of the credential that was presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<CredentialKind>,
    /// Whose grant was looked at; not proven where the signature was incorrect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// The credential of that grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialId>,
    /// The caller's address, as the proxy trusts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// From which side it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<OriginSeen>,
    /// Directory that was held.
    pub directory: Revision,
    /// The last change that was known.
    pub feed: Revision,
    /// Milliseconds since the newest answered poll was sent; absent = none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polled_ms_ago: Option<u64>,
    /// Milliseconds for which the grant had been held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_held_ms: Option<u64>,
    /// Milliseconds that the request had waited for what it lacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
    /// Room on the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomSeen>,
    /// The rate of the client, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateSeen>,
    /// Each meter of the grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<MeterSeen>,
}

/// From which side, by the filter's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginSeen {
    /// The internal listener, or an internal address.
    Internal,
    /// Everywhere else.
    External,
}

/// How full the worker was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomSeen {
    /// Priority of the client.
    pub priority: u8,
    /// Requests in flight.
    pub in_flight: u32,
    /// Setting `worker_capacity`.
    pub capacity: u32,
}

/// The client's rate on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSeen {
    /// Requests per second.
    pub tps: u32,
    /// Admitted in that second, over all workers.
    pub admitted: u32,
}

/// One meter as the node knew it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeterSeen {
    /// Which.
    pub meter: MeterId,
    /// Whose limit it is.
    pub kind: MeterKind,
    /// Its limit, by the grant.
    pub limit: u64,
    /// Units held on the node that could be spent.
    pub held: u64,
    /// What the ledger had left when it last granted a lease that is still here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_left: Option<u64>,
    /// Leases on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseSeen>,
    /// The ledger's last word, where it was a "no" that still counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Word>,
    /// A renewal was on its way.
    #[serde(default)]
    pub renewing: bool,
}

/// One lease on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseSeen {
    /// Its id.
    pub lease: LeaseId,
    /// The life of the counter that it was taken from.
    pub generation: Generation,
    /// Units it came with.
    pub units: u32,
    /// Units that nobody had spent.
    pub left: u32,
}

/// A "no" of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Other nodes have the rest.
    Contended,
    /// Nothing is left.
    Exhausted,
    /// The meter was deleted.
    Gone,
}
