//! Every way to say no: code, status, title, message, in both formats.
//!
//! [`Denial`] is what was decided; [`Denial::respond`] is how it is told: as
//! `application/problem+json` (RFC 9457), or with the statuses, texts and bodies of digiRunner
//! for clients written against those. Codes are stable: `docs/denials.md` lists them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use serde::Serialize;

use crate::credential::jwt;
use crate::id::{ApiUid, ClientId, CredentialId};
use crate::request::CredentialKind;
use crate::time::{Interval, UnixMillis};
use crate::wire::directory::DenialFormat;
use crate::wire::exchange::MeterKind;

mod digirunner;
mod text;

use text::list;

/// Why a request is refused. Being unable to decide is a denial too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The path could mean another one to somebody behind us.
    PathAmbiguous,
    /// No API is registered there.
    ApiNotFound,
    /// The path is known, the method is not.
    MethodNotAllowed {
        /// What is.
        allow: Vec<String>,
    },
    /// Switched off.
    ApiDisabled,
    /// No credential, where one is needed.
    CredentialMissing {
        /// What would do.
        accepts: Vec<CredentialKind>,
    },
    /// A credential header that is not one.
    CredentialMalformed {
        /// Its kind, if the scheme tells.
        kind: Option<CredentialKind>,
    },
    /// More than one credential header of a name.
    CredentialDuplicated,
    /// A kind that this API does not take.
    CredentialNotAccepted {
        /// What was presented.
        kind: CredentialKind,
        /// What would do.
        accepts: Vec<CredentialKind>,
    },
    /// Nobody has it, or (Basic) its password is wrong.
    CredentialUnknown {
        /// What was presented.
        kind: CredentialKind,
    },
    /// A Bearer that is no token of ours, as it tells itself: the manager is not asked.
    TokenUnverified {
        /// Why not.
        fault: jwt::Fault,
    },
    /// The DGRK signature fits none of the live secrets.
    SignatureIncorrect {
        /// SHA-256 of the body as received.
        received_sha256: [u8; 32],
        /// SHA-256 of its minified form.
        minified_sha256: [u8; 32],
    },
    /// An operator switched the client off.
    ClientDisabled,
    /// Too many wrong passwords, or an operator.
    ClientLocked,
    /// Before its start date.
    ClientNotStarted {
        /// The first instant.
        from: UnixMillis,
    },
    /// After its expiry date.
    ClientExpired {
        /// The last instant.
        until: UnixMillis,
    },
    /// Outside its daily service time.
    OutsideServiceTime {
        /// When it opens next, as far as the grant tells.
        next: Option<Interval>,
    },
    /// Not from one of its addresses.
    AddressNotAllowed {
        /// From where.
        address: String,
    },
    /// The credential is switched off.
    CredentialInactive {
        /// Its kind.
        kind: CredentialKind,
    },
    /// Before its effective date.
    CredentialNotEffective {
        /// Its kind.
        kind: CredentialKind,
        /// The first instant.
        at: UnixMillis,
    },
    /// Revoked.
    CredentialRevoked {
        /// Its kind.
        kind: CredentialKind,
        /// When.
        at: UnixMillis,
    },
    /// After its expiry.
    CredentialExpired {
        /// Its kind.
        kind: CredentialKind,
        /// The last instant.
        at: UnixMillis,
    },
    /// The API is not among what the credential may call.
    PermissionDenied {
        /// Its kind.
        kind: CredentialKind,
    },
    /// Not from this side.
    AudienceDenied,
    /// The worker is full, for this priority.
    Overloaded,
    /// More than the client's requests per second.
    RateExceeded {
        /// Requests per second and node.
        tps: u32,
    },
    /// A limit is used up, on the ledger's word.
    QuotaExhausted {
        /// Which.
        kind: MeterKind,
        /// Its limit.
        limit: u64,
        /// Seconds until the window turns; absent = a total.
        retry_after_s: Option<u64>,
    },
    /// The last units are with other holders, being recalled.
    QuotaContended {
        /// Which.
        kind: MeterKind,
    },
    /// The ledger did not answer in time.
    QuotaUnavailable {
        /// Which.
        kind: MeterKind,
    },
    /// No room for another record in the shared bucket.
    Capacity,
    /// The credential is not known here and the manager does not answer.
    LookupUnavailable,
    /// Too many requests wait for unknown credentials, or too many from this address.
    LookupsThrottled,
    /// No directory yet.
    DirectoryUnavailable,
    /// Cut off from the manager for longer than `max_staleness_s`.
    Stale,
    /// A signed body over the limit.
    BodyTooLarge {
        /// The limit in bytes.
        max: u32,
    },
    /// A stream or upgrade has no end to sign.
    BodyNotSignable,
    /// Too many bytes with wrong signatures from this address.
    SignaturesThrottled,
    /// The gate itself failed.
    Internal,
}

/// What a refusal tells beside its reason.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// In whose format.
    pub format: DenialFormat,
    /// The path without its query.
    pub path: &'a str,
    /// The client, once it is proven, or as a Basic header claims it.
    pub client: Option<&'a ClientId>,
    /// The credential, once it is proven; of a token its `jti`.
    pub credential: Option<&'a CredentialId>,
    /// The moment.
    pub now: UnixMillis,
    /// The client's zone, for printed dates.
    pub utc_offset_min: i32,
    /// The caller speaks gRPC.
    pub grpc: bool,
    /// Names this refusal: whoever has it can ask what led to it.
    pub decision: &'a str,
}

/// Header of every refusal, in both formats: its id.
pub const DECISION_HEADER: &str = "x-keygate-decision";

/// A refusal, ready to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// In lower case; `content-type` among them.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
    /// For callers that speak gRPC: a status instead of the body, which becomes the message.
    pub grpc_status: Option<u32>,
    /// The denial's code, for access logs and usage.
    pub code: &'static str,
    /// The refusal's id, for access logs; absent = nothing was refused.
    pub decision: Option<String>,
    /// The client, for access logs, as [`Circumstances::client`].
    pub client: Option<ClientId>,
    /// What was called, for access logs; absent = nothing that is registered.
    pub api: Option<ApiUid>,
}

/// Every [`Denial::code`] there is, and its HTTP status.
pub const CODES: [(&str, u16); 37] = [
    ("path_ambiguous", 400),
    ("api_not_found", 404),
    ("method_not_allowed", 405),
    ("api_disabled", 503),
    ("credential_missing", 401),
    ("credential_malformed", 401),
    ("credential_duplicated", 400),
    ("credential_not_accepted", 401),
    ("credential_unknown", 401),
    ("signature_incorrect", 401),
    ("client_disabled", 403),
    ("client_locked", 403),
    ("client_not_started", 403),
    ("client_expired", 403),
    ("outside_service_time", 403),
    ("address_not_allowed", 403),
    ("credential_inactive", 401),
    ("credential_not_effective", 401),
    ("credential_revoked", 401),
    ("credential_expired", 401),
    ("permission_denied", 403),
    ("audience_denied", 403),
    ("overloaded", 503),
    ("rate_exceeded", 429),
    ("quota_exhausted", 429),
    ("token_used_up", 401),
    ("quota_contended", 429),
    ("quota_unavailable", 503),
    ("capacity", 503),
    ("lookup_unavailable", 503),
    ("lookups_throttled", 429),
    ("directory_unavailable", 503),
    ("stale", 503),
    ("body_too_large", 413),
    ("body_not_signable", 403),
    ("signatures_throttled", 429),
    ("internal", 500),
];

/// The HTTP status of the denial of that code, as problem documents have it; None: no denial has it.
pub fn status_of(code: &str) -> Option<u16> {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, status)| *status)
}

impl Denial {
    /// Stable name, as documents, logs and reports use it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PathAmbiguous => "path_ambiguous",
            Self::ApiNotFound => "api_not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::ApiDisabled => "api_disabled",
            Self::CredentialMissing { .. } => "credential_missing",
            Self::CredentialMalformed { .. } => "credential_malformed",
            Self::CredentialDuplicated => "credential_duplicated",
            Self::CredentialNotAccepted { .. } => "credential_not_accepted",
            Self::CredentialUnknown { .. } | Self::TokenUnverified { .. } => "credential_unknown",
            Self::SignatureIncorrect { .. } => "signature_incorrect",
            Self::ClientDisabled => "client_disabled",
            Self::ClientLocked => "client_locked",
            Self::ClientNotStarted { .. } => "client_not_started",
            Self::ClientExpired { .. } => "client_expired",
            Self::OutsideServiceTime { .. } => "outside_service_time",
            Self::AddressNotAllowed { .. } => "address_not_allowed",
            Self::CredentialInactive { .. } => "credential_inactive",
            Self::CredentialNotEffective { .. } => "credential_not_effective",
            Self::CredentialRevoked { .. } => "credential_revoked",
            Self::CredentialExpired { .. } => "credential_expired",
            Self::PermissionDenied { .. } => "permission_denied",
            Self::AudienceDenied => "audience_denied",
            Self::Overloaded => "overloaded",
            Self::RateExceeded { .. } => "rate_exceeded",
            // It never comes back: no quota to wait for.
            Self::QuotaExhausted { kind: MeterKind::TokenUses, .. } => "token_used_up",
            Self::QuotaExhausted { kind: MeterKind::ClientQuota | MeterKind::KeyUses, .. } => {
                "quota_exhausted"
            }
            Self::QuotaContended { .. } => "quota_contended",
            Self::QuotaUnavailable { .. } => "quota_unavailable",
            Self::Capacity => "capacity",
            Self::LookupUnavailable => "lookup_unavailable",
            Self::LookupsThrottled => "lookups_throttled",
            Self::DirectoryUnavailable => "directory_unavailable",
            Self::Stale => "stale",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyNotSignable => "body_not_signable",
            Self::SignaturesThrottled => "signatures_throttled",
            Self::Internal => "internal",
        }
    }

    /// The refusal as it goes to the caller.
    pub fn respond(&self, circumstances: &Circumstances<'_>) -> Response {
        let (status, body, media_type) = match circumstances.format {
            DenialFormat::Problem => (self.status(), self.problem(circumstances), "application/problem+json"),
            DenialFormat::Digirunner => {
                let (status, body) = digirunner::body(self, circumstances);
                (status, body, "application/json")
            }
        };
        let mut headers =
            vec![("content-type", media_type.to_string()), ("cache-control", "no-store".to_string())];
        // RFC 6750 names the lack of a scope, too; and a status of digiRunner's changes nothing in that.
        let lacks_scope = matches!(self, Self::PermissionDenied { kind: CredentialKind::Bearer });
        if status == 401 || self.status() == 401 || lacks_scope {
            headers.push(("www-authenticate", self.challenge()));
        }
        if let Self::MethodNotAllowed { allow } = self {
            headers.push(("allow", allow.join(", ")));
        }
        if let Some(seconds) = self.retry_after_s(circumstances.now) {
            headers.push(("retry-after", seconds.to_string()));
        }
        headers.push((DECISION_HEADER, circumstances.decision.to_string()));
        let grpc_status = circumstances.grpc.then(|| grpc_status(status));
        let decision = Some(circumstances.decision.to_string());
        let client = circumstances.client.cloned();
        Response { status, headers, body, grpc_status, code: self.code(), decision, client, api: None }
    }

    /// Which of the checks refused it, as `docs/denials.md` orders them.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::PathAmbiguous => "path",
            Self::ApiNotFound | Self::MethodNotAllowed { .. } | Self::ApiDisabled => "api",
            Self::CredentialMissing { .. }
            | Self::CredentialMalformed { .. }
            | Self::CredentialDuplicated
            | Self::CredentialNotAccepted { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyNotSignable => "credential_header",
            Self::CredentialUnknown { .. } | Self::TokenUnverified { .. } => "look_up",
            Self::SignatureIncorrect { .. } => "proof",
            Self::ClientDisabled
            | Self::ClientLocked
            | Self::ClientNotStarted { .. }
            | Self::ClientExpired { .. }
            | Self::OutsideServiceTime { .. }
            | Self::AddressNotAllowed { .. } => "client",
            Self::CredentialInactive { .. }
            | Self::CredentialNotEffective { .. }
            | Self::CredentialRevoked { .. }
            | Self::CredentialExpired { .. } => "credential",
            Self::PermissionDenied { .. } => "permission",
            Self::AudienceDenied => "audience",
            Self::Overloaded => "room",
            Self::RateExceeded { .. } => "rate",
            Self::QuotaExhausted { .. } | Self::QuotaContended { .. } | Self::QuotaUnavailable { .. } => {
                "quota"
            }
            Self::Capacity
            | Self::LookupUnavailable
            | Self::LookupsThrottled
            | Self::DirectoryUnavailable
            | Self::Stale
            | Self::SignaturesThrottled
            | Self::Internal => "node",
        }
    }

    /// Whether a limit of the grant refused it, or the lack of news about one: the caller is told
    /// how its limits stand.
    pub fn is_of_a_limit(&self) -> bool {
        matches!(
            self,
            Self::RateExceeded { .. }
                | Self::QuotaExhausted { .. }
                | Self::QuotaContended { .. }
                | Self::QuotaUnavailable { .. }
        )
    }

    /// HTTP status, in our format.
    pub fn status(&self) -> u16 {
        status_of(self.code()).unwrap_or(500)
    }

    fn problem(&self, circumstances: &Circumstances<'_>) -> String {
        let client = circumstances.client.map_or("", ClientId::as_str);
        let (received_sha256, minified_sha256) = match self {
            Self::SignatureIncorrect { received_sha256, minified_sha256 } => {
                (Some(hex(received_sha256)), Some(hex(minified_sha256)))
            }
            _ => (None, None),
        };
        json(&Problem {
            r#type: format!("urn:keygate:denial:{}", self.code()),
            title: self.title(),
            status: self.status(),
            detail: self.detail(client),
            code: self.code(),
            instance: circumstances.path,
            decision: circumstances.decision,
            received_sha256,
            minified_sha256,
        })
    }

    /// `WWW-Authenticate`: what would have done, or the scheme that failed (Bearer: RFC 6750, section 3).
    fn challenge(&self) -> String {
        let kind = match self {
            Self::CredentialMissing { accepts } | Self::CredentialNotAccepted { accepts, .. } => {
                return list(accepts, challenge, ", ");
            }
            Self::CredentialMalformed { kind: Some(kind) }
            | Self::CredentialUnknown { kind }
            | Self::CredentialInactive { kind }
            | Self::CredentialNotEffective { kind, .. }
            | Self::CredentialRevoked { kind, .. }
            | Self::CredentialExpired { kind, .. }
            | Self::PermissionDenied { kind } => *kind,
            Self::TokenUnverified { .. } | Self::QuotaExhausted { kind: MeterKind::TokenUses, .. } => {
                CredentialKind::Bearer
            }
            _ => CredentialKind::Dgrk,
        };
        let mut text = challenge(kind).to_string();
        if kind == CredentialKind::Bearer {
            text.push_str(match self {
                Self::PermissionDenied { .. } => ", error=\"insufficient_scope\"",
                _ => ", error=\"invalid_token\"",
            });
        }
        text
    }

    fn retry_after_s(&self, now: UnixMillis) -> Option<u64> {
        match self {
            Self::RateExceeded { .. }
            | Self::QuotaContended { .. }
            | Self::QuotaUnavailable { .. }
            | Self::Overloaded
            | Self::Capacity
            | Self::LookupUnavailable
            | Self::LookupsThrottled
            | Self::DirectoryUnavailable
            | Self::SignaturesThrottled => Some(1),
            Self::Stale => Some(5),
            Self::QuotaExhausted { retry_after_s, .. } => *retry_after_s,
            Self::OutsideServiceTime { next } => {
                next.map(|next| seconds_up(next.from.0.saturating_sub(now.0)))
            }
            Self::ClientNotStarted { from: at } | Self::CredentialNotEffective { at, .. } => {
                Some(seconds_up(at.0.saturating_sub(now.0)))
            }
            _ => None,
        }
    }
}

/// RFC 9457. `received_sha256` and `minified_sha256` (lower-case hex) let a partner's developer
/// find what differs from what was signed.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    code: &'a str,
    instance: &'a str,
    decision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minified_sha256: Option<String>,
}

fn json(value: &impl Serialize) -> String {
    // Strings and numbers alone: nothing that could fail to serialise.
    serde_json::to_string(value).unwrap_or_default()
}

fn seconds_up(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0).div_ceil(1_000)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn challenge(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Dgrk => "DGRK realm=\"keygate\"",
        CredentialKind::XApiKey => "X-Api-Key realm=\"keygate\"",
        CredentialKind::Bearer => "Bearer realm=\"keygate\"",
        CredentialKind::Basic => "Basic realm=\"keygate\", charset=\"UTF-8\"",
    }
}

/// The gRPC status that says what an HTTP status says.
fn grpc_status(status: u16) -> u32 {
    match status {
        400 => 3,        // INVALID_ARGUMENT
        401 => 16,       // UNAUTHENTICATED
        403 => 7,        // PERMISSION_DENIED
        404 | 405 => 12, // UNIMPLEMENTED
        413 | 429 => 8,  // RESOURCE_EXHAUSTED
        503 => 14,       // UNAVAILABLE
        _ => 13,         // INTERNAL
    }
}
