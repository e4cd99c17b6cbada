//! What a refusal says to people: its title, and a sentence.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Denial;
use crate::request::CredentialKind;
use crate::wire::exchange::MeterKind;

impl Denial {
    /// What happened, in some words.
    pub fn title(&self) -> &'static str {
        match self {
            Self::PathAmbiguous => "The path could be read in two ways",
            Self::ApiNotFound => "No such API",
            Self::MethodNotAllowed { .. } => "Method not allowed",
            Self::ApiDisabled => "The API is disabled",
            Self::CredentialMissing { .. } => "A credential is needed",
            Self::CredentialMalformed { .. } => "The credential is malformed",
            Self::CredentialDuplicated => "More than one credential",
            Self::CredentialNotAccepted { .. } => "This kind of credential is not accepted",
            Self::CredentialUnknown { .. } | Self::TokenUnverified { .. } => "The credential is not known",
            Self::SignatureIncorrect { .. } => "The signature is incorrect",
            Self::ClientDisabled => "The client is disabled",
            Self::ClientLocked => "The client is locked",
            Self::ClientNotStarted { .. } => "The client's start date has not come",
            Self::ClientExpired { .. } => "The client has expired",
            Self::OutsideServiceTime { .. } => "Outside the client's service time",
            Self::AddressNotAllowed { .. } => "Not from one of the client's addresses",
            Self::CredentialInactive { .. } => "The credential is switched off",
            Self::CredentialNotEffective { .. } => "The credential is not yet effective",
            Self::CredentialRevoked { .. } => "The credential was revoked",
            Self::CredentialExpired { .. } => "The credential has expired",
            Self::PermissionDenied { .. } => "The credential may not call this API",
            Self::AudienceDenied => "Not open to this side",
            Self::Overloaded => "Overloaded",
            Self::RateExceeded { .. } => "Too many requests per second",
            Self::QuotaExhausted { kind: MeterKind::TokenUses, .. } => "The token is used up",
            Self::QuotaExhausted { .. } => "The quota is used up",
            Self::QuotaContended { .. } => "The last units of the quota are in use elsewhere",
            Self::QuotaUnavailable { .. } => "The quota could not be checked in time",
            Self::Capacity => "No room to count this client",
            Self::LookupUnavailable => "The credential could not be looked up",
            Self::LookupsThrottled => "Too many unknown credentials",
            Self::DirectoryUnavailable => "Not ready",
            Self::Stale => "Cut off for too long",
            Self::BodyTooLarge { .. } => "The signed body is too large",
            Self::BodyNotSignable => "This request cannot be signed",
            Self::SignaturesThrottled => "Too many incorrect signatures",
            Self::Internal => "Internal error",
        }
    }

    /// What the caller is told, in a sentence.
    pub fn detail(&self, client: &str) -> String {
        match self {
            Self::PathAmbiguous => {
                "Send the path without dot segments, doubled or encoded slashes, \\ or ; and \
                without broken escapes."
                    .into()
            }
            Self::ApiNotFound => "No API is registered for this host and path.".into(),
            Self::MethodNotAllowed { allow } => format!("This path answers {}.", allow.join(", ")),
            Self::ApiDisabled => "An operator has switched this API off.".into(),
            Self::CredentialMissing { accepts } => format!("This API accepts {}.", forms(accepts)),
            Self::CredentialMalformed { kind } => match kind {
                Some(kind) => format!("Expected {}.", form(*kind)),
                None => "The Authorization header has no scheme that is known here.".into(),
            },
            Self::CredentialDuplicated => "Send one Authorization header, or one X-Api-Key header.".into(),
            Self::CredentialNotAccepted { kind, accepts } => {
                format!("{} is not accepted here; this API accepts {}.", name(*kind), forms(accepts))
            }
            Self::CredentialUnknown { kind: CredentialKind::Basic } => {
                "The client id or the password is incorrect.".into()
            }
            Self::CredentialUnknown { kind } => format!("No such {}.", name(*kind)),
            Self::TokenUnverified { fault } => format!("This token {fault}."),
            Self::SignatureIncorrect { .. } => {
                "The signature fits neither the body as received nor its minified \
                form. Compare the SHA-256 values with those of what you signed."
                    .into()
            }
            Self::ClientDisabled => format!("Client {client} was disabled by an operator."),
            Self::ClientLocked => format!("Client {client} is locked; an operator can unlock it."),
            Self::ClientNotStarted { from } => format!("Client {client} starts at {from} UTC."),
            Self::ClientExpired { until } => format!("Client {client} expired at {until} UTC."),
            Self::OutsideServiceTime { next: Some(next) } => {
                format!("Client {client} is served again from {} UTC.", next.from)
            }
            Self::OutsideServiceTime { next: None } => format!("Client {client} is not served at this time."),
            Self::AddressNotAllowed { address } => {
                format!("Client {client} may not call from {address}.")
            }
            Self::CredentialInactive { kind } => format!("This {} is switched off.", name(*kind)),
            Self::CredentialNotEffective { kind, at } => {
                format!("This {} can be used from {at} UTC.", name(*kind))
            }
            Self::CredentialRevoked { kind, at } => format!("This {} was revoked at {at} UTC.", name(*kind)),
            Self::CredentialExpired { kind, at } => format!("This {} expired at {at} UTC.", name(*kind)),
            Self::PermissionDenied { kind } => {
                format!("This API is not among those that this {} may call.", name(*kind))
            }
            Self::AudienceDenied => {
                "The client or the API is not open to the side this request came from.".into()
            }
            Self::Overloaded => "Requests of a better priority go first; try again.".into(),
            Self::RateExceeded { tps } => format!("Client {client} may send {tps} requests per second."),
            Self::QuotaExhausted { kind, limit, .. } => {
                format!("All {limit} calls of {} are used.", meter(*kind))
            }
            Self::QuotaContended { kind } => {
                format!("The last calls of {} are being collected; try again.", meter(*kind))
            }
            Self::QuotaUnavailable { kind } => {
                format!("{} could not be checked; try again.", capitalised(meter(*kind)))
            }
            Self::Capacity => "Too many clients are active at once; try again.".into(),
            Self::LookupUnavailable => "This credential is not known here and the manager does not answer; \
                try again."
                .into(),
            Self::LookupsThrottled => "Too many requests with unknown credentials; try again later.".into(),
            Self::DirectoryUnavailable => "The list of APIs has not arrived yet; try again.".into(),
            Self::Stale => "The manager has not been reached for too long to decide safely.".into(),
            Self::BodyTooLarge { max } => format!("A signed body may have {max} bytes."),
            Self::BodyNotSignable => {
                "A stream or upgrade has no body to sign: use another kind of credential.".into()
            }
            Self::SignaturesThrottled => "Too many bytes with incorrect signatures from this address.".into(),
            Self::Internal => "The request was refused because it could not be decided.".into(),
        }
    }
}

fn name(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Dgrk => "API key",
        CredentialKind::XApiKey => "X-Api-Key",
        CredentialKind::Bearer => "token",
        CredentialKind::Basic => "Basic credential",
    }
}

fn form(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Dgrk => "`Authorization: DGRK <API key>.<signature>`",
        CredentialKind::XApiKey => "`X-Api-Key: <key>`",
        CredentialKind::Bearer => "`Authorization: Bearer <token>`",
        CredentialKind::Basic => "`Authorization: Basic <base64 of id:password>`",
    }
}

fn forms(kinds: &[CredentialKind]) -> String {
    if kinds.is_empty() {
        return "no credential at present".into();
    }
    list(kinds, form, " or ")
}

pub(super) fn list(
    kinds: &[CredentialKind],
    named: impl Fn(CredentialKind) -> &'static str,
    between: &str,
) -> String {
    kinds.iter().map(|kind| named(*kind)).collect::<Vec<_>>().join(between)
}

fn meter(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::ClientQuota => "the client's quota",
        MeterKind::KeyUses => "this API key",
        MeterKind::TokenUses => "this token",
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + characters.as_str())
}
