//! Every way to say no: code, status, title, message, in both formats.

use alloc::string::String;
use alloc::vec::Vec;

use crate::request::CredentialKind;
use crate::time::UnixMillis;
use crate::wire::exchange::MeterKind;

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
    OutsideServiceTime,
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
