//! A request as it is described, and the verdict on it.

use std::net::IpAddr;

use gate::decide::{Call, Origin, Proven, decide, decide_enabled, decide_kind, decide_open};
use gate::denial::Denial;
use gate::directory::{Directory, DirectoryError};
use gate::grant::HeldGrant;
use gate::id::{Generation, MeterId, Revision};
use gate::request::CredentialKind;
use gate::time::UnixMillis;
use gate::wire::directory::{ApiEntry, DirectoryAnswer, Settings, Unregistered};
use gate::wire::exchange::{Grant, MeterKind};

use crate::feed::Named;
use crate::gateways::Envoy;

/// Characters of a text of a described request at most.
const MAX_TEXT: usize = 8_192;
/// Its first instant, UTC ms.
const YEAR_9000: i64 = 221_845_392_000_000;

/// A request that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// As sent.
    pub method: String,
    /// As sent; empty = one that no API names.
    pub host: String,
    /// As sent, with or without its query.
    pub path: String,
    /// Of the caller.
    pub address: Option<IpAddr>,
    /// From which side it comes.
    pub origin: Origin,
    /// None: it presents nothing.
    pub credential: Option<Named>,
    /// Whose view of the changes is told, by id or name.
    pub gateway: Option<String>,
    /// The moment; none = now.
    pub at: Option<UnixMillis>,
}

/// Why no gate could be asked about a request as it is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undescribed {
    /// Requests have no such text.
    #[error("{0} is 1 to {MAX_TEXT} visible ASCII characters, as a request has it")]
    Text(&'static str),
    /// A path that is none.
    #[error("path begins with a slash; the host goes into host")]
    Path,
    /// Calendars end somewhere.
    #[error("at is an instant from 1970 to 9000 in UTC milliseconds")]
    At,
}

impl Undescribed {
    /// Which part of the description it is.
    pub fn field(self) -> &'static str {
        match self {
            Self::Text(field) => field,
            Self::Path => "path",
            Self::At => "at",
        }
    }
}

impl Described {
    /// Itself, if a request can be like that.
    pub fn checked(self) -> Result<Self, Undescribed> {
        let sendable =
            |text: &str| text.len() <= MAX_TEXT && text.bytes().all(|byte| byte.is_ascii_graphic());
        for (field, text) in [("method", &self.method), ("path", &self.path)] {
            if text.is_empty() || !sendable(text) {
                return Err(Undescribed::Text(field));
            }
        }
        if !sendable(&self.host) {
            return Err(Undescribed::Text("host"));
        }
        if !self.path.starts_with('/') {
            return Err(Undescribed::Path);
        }
        if self.at.is_some_and(|at| !(0..YEAR_9000).contains(&at.0)) {
            return Err(Undescribed::At);
        }
        Ok(self)
    }
}

/// The verdict, and all that led to it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The moment it is about.
    pub at: UnixMillis,
    /// The API that is meant.
    pub api: Option<ApiEntry>,
    /// None: it is admitted.
    pub denial: Option<Denial>,
    /// What was looked at; there is no secret in it.
    pub grant: Option<(CredentialKind, Grant)>,
    /// Limits of the grant.
    pub limits: Limits,
    /// Requests in flight that one worker takes.
    pub capacity: u32,
    /// The directory.
    pub directory: Revision,
    /// The newest change.
    pub feed: Revision,
    /// Envoys of the gateway that was named.
    pub envoys: Vec<Envoy>,
}

/// How limits stand by the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Each meter, in the order of the grant.
    pub meters: Vec<MeterState>,
}

/// One meter by the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterState {
    /// Which.
    pub meter: MeterId,
    /// Whose limit.
    pub kind: MeterKind,
    /// In force.
    pub limit: u64,
    /// limit − debited.
    pub remaining: u64,
    /// In leases that nodes may still spend or give back.
    pub leased: u64,
    /// In leases whose nodes have never reported.
    pub withheld: u64,
    /// Life of the counter.
    pub generation: Generation,
    /// When it begins again.
    pub window_ends_at: Option<UnixMillis>,
}

/// What the gate's functions say of a request under a grant.
pub struct Judged {
    /// The API that is meant.
    pub api: Option<ApiEntry>,
    /// None: admitted.
    pub denial: Option<Denial>,
    /// Revision of the directory.
    pub directory: Revision,
    /// Settings in it.
    pub settings: Settings,
}

/// In the order of a gate: the API, the credential, [`decide`], then the limits by the ledger.
pub fn judge(
    directory: DirectoryAnswer,
    described: &Described,
    grant: Option<(CredentialKind, &HeldGrant)>,
    limits: &Limits,
    now: UnixMillis,
) -> Result<Judged, DirectoryError> {
    let directory = Directory::from_snapshot(directory)?;
    let settings = directory.settings().clone();
    let meant =
        directory.meant(described.host.as_bytes(), described.method.as_bytes(), described.path.as_bytes());
    let (api, verdict) = match meant {
        Ok(api) => (Some((**api).clone()), permit(api, described, grant, limits, &settings, now)),
        Err(Denial::ApiNotFound) if settings.unregistered == Unregistered::Pass => (None, Ok(())),
        Err(denial) => (None, Err(denial)),
    };
    Ok(Judged { api, denial: verdict.err(), directory: directory.revision(), settings })
}

fn permit(
    api: &ApiEntry,
    described: &Described,
    grant: Option<(CredentialKind, &HeldGrant)>,
    limits: &Limits,
    settings: &Settings,
    now: UnixMillis,
) -> Result<(), Denial> {
    decide_enabled(api)?;
    if api.no_auth {
        return decide_open(api, described.origin).map(drop);
    }
    let Some((kind, grant)) = grant else {
        return Err(Denial::CredentialMissing { accepts: api.accepts.clone() });
    };
    decide_kind(api, kind)?;
    // As if the secret had been proven: that is the caller's business, and its own refusal.
    let proven = Proven::by_presentation(&grant.wire).ok_or(Denial::Internal)?;
    let call = Call { kind, address: described.address, origin: described.origin, in_flight: 0 };
    decide(proven, grant, api, &call, settings.capacity, now)?;
    limits.meters.iter().try_for_each(|meter| meter.permit(now))
}

impl MeterState {
    /// By the ledger alone. Units that nodes hold let a request in: where they are at once, elsewhere when they
    /// have been collected. It is refused (`quota_contended`) only where others spend them meanwhile, which no
    /// ledger knows beforehand.
    fn permit(&self, now: UnixMillis) -> Result<(), Denial> {
        if self.remaining > 0 || self.leased > 0 {
            return Ok(());
        }
        let wait_ms = self.window_ends_at.map(|end| u64::try_from(end.0.saturating_sub(now.0)).unwrap_or(0));
        let retry_after_s = wait_ms.map(|ms| ms.div_ceil(1_000));
        Err(Denial::QuotaExhausted { kind: self.kind, limit: self.limit, retry_after_s })
    }
}
