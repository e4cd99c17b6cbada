//! Refusals in the words of digiRunner, for clients that compare texts: statuses, fields and
//! spelling (`Deactived`) are literally its own, in our order of checks.
//!
//! Refusals that digiRunner does not know keep our status and say our title.

use alloc::format;
use alloc::string::{String, ToString};

use serde::Serialize;

use super::{Circumstances, Denial, json};
use crate::id::{ClientId, CredentialId};
use crate::request::CredentialKind;
use crate::time::UnixMillis;
use crate::wire::exchange::MeterKind;

const UNAUTHORIZED: &str = "Unauthorized";
const FORBIDDEN: &str = "Forbidden";

/// Status and body.
pub(super) fn body(denial: &Denial, circumstances: &Circumstances<'_>) -> (u16, String) {
    use CredentialKind::{Basic, Bearer, Dgrk, XApiKey};
    let client = circumstances.client.map_or("", ClientId::as_str);
    let local =
        |at: UnixMillis| UnixMillis(at.0.saturating_add(i64::from(circumstances.utc_offset_min) * 60_000));
    let answer = |status, error: &str, message: &str, layout| {
        let body = Flat {
            timestamp: circumstances.now.0.to_string(),
            status,
            error,
            message,
            path: circumstances.path,
        };
        (status, body.write(layout))
    };
    let unauthorized = |message: &str| answer(401, UNAUTHORIZED, message, Layout::Compact);
    let forbidden = |message: &str| answer(403, FORBIDDEN, message, Layout::Compact);
    match denial {
        Denial::ApiNotFound => (404, NOT_FOUND.into()),
        Denial::ApiDisabled => answer(503, "disabled", "API was disabled", Layout::Pretty),
        Denial::RateExceeded { .. } => {
            let message = format!("Client requests exceeds TPS limit. client:{client}");
            answer(429, "tps", &message, Layout::Pretty)
        }

        Denial::CredentialMissing { .. }
        | Denial::CredentialMalformed { .. }
        | Denial::CredentialNotAccepted { .. } => unauthorized(UNAUTHORIZED),
        Denial::CredentialUnknown { kind: Dgrk } => unauthorized("API Key Not Found"),
        Denial::CredentialUnknown { kind: XApiKey } => unauthorized("X-Api-Key Not Found"),
        Denial::CredentialUnknown { kind: Basic } => unauthorized(&format!(
            "The client(application) account or password is incorrect. clientId: {client}"
        )),
        Denial::CredentialRevoked { kind: Bearer, .. } => {
            let jti = circumstances.credential.map_or("", CredentialId::as_str);
            (403, oauth("invalid_token", &format!("Access token revoked, jti: {jti}")))
        }
        // Its `jti` is nobody's.
        Denial::CredentialUnknown { kind: Bearer } => (403, oauth("invalid_token", "Access token revoked")),
        // Whose token it is, and which of the two an operator has set, is not known here.
        Denial::CredentialInactive { kind: Bearer } => forbidden("User disable"),
        Denial::TokenUnverified { .. } => {
            (400, oauth("invalid_token", "Cannot convert access token to JSON"))
        }
        Denial::SignatureIncorrect { .. } => unauthorized("API Key Signature Incorrect"),

        Denial::ClientDisabled => forbidden(&format!("'{client}' Client(application) disable")),
        Denial::ClientLocked => forbidden(&format!("'{client}' Client(application) locked")),
        Denial::AddressNotAllowed { address } => {
            forbidden(&format!("ip({address}) does not match host list, the clientId is '{client}'"))
        }
        Denial::ClientNotStarted { from } => {
            let error = "Client before start day";
            let day = day(local(*from), circumstances.utc_offset_min);
            answer(403, error, &format!("{error}, start day(yyyy-MM-ddZ): {day}"), Layout::Compact)
        }
        Denial::ClientExpired { until } => {
            let error = "Client expired";
            let day = day(local(*until), circumstances.utc_offset_min);
            answer(403, error, &format!("{error}, end day(yyyy-MM-ddZ): {day}"), Layout::Compact)
        }
        Denial::OutsideServiceTime { next } => {
            let error = "Client(application) service time not available";
            let clock = |at: UnixMillis| clock(local(at), circumstances.utc_offset_min);
            let times = next.map_or_else(String::new, |next| {
                format!(", Start Time(HH:mmZ): {}, End Time(HH:mmZ): {}", clock(next.from), clock(next.until))
            });
            let message = format!("{error}{times}, Now(HH:mmZ): {}", clock(circumstances.now));
            answer(403, error, &message, Layout::Compact)
        }

        Denial::CredentialInactive { kind: Dgrk } => unauthorized("API Key Status is Deactived"),
        Denial::CredentialRevoked { kind: Dgrk, at } => {
            unauthorized(&format!("API Key Has Revoked, revoked at: {}", local(*at)))
        }
        Denial::CredentialExpired { kind: Dgrk, at } => {
            unauthorized(&format!("API Key Has Expired, expired at: {}", local(*at)))
        }
        Denial::CredentialNotEffective { kind: XApiKey, at } => {
            unauthorized(&format!("X-Api-Key is not valid, effective date is {}", local(*at)))
        }
        Denial::CredentialExpired { kind: XApiKey, at } => {
            unauthorized(&format!("X-Api-Key Has Expired, expired at: {}", local(*at)))
        }
        Denial::CredentialExpired { kind: Bearer, .. } => {
            (401, oauth("invalid_token", "Access token expired"))
        }
        Denial::CredentialNotEffective { at, .. } => {
            unauthorized(&format!("API Key is not valid, effective date is {}", local(*at)))
        }
        Denial::PermissionDenied { kind: Dgrk } => forbidden("Client Permission Denied, Api Key Deny"),
        Denial::PermissionDenied { kind: XApiKey } => {
            forbidden("X-Api-Key Violates Scope Authorization Access Settings")
        }
        Denial::PermissionDenied { kind: Bearer | Basic } => {
            forbidden("Token Violates Scope Authorization Access Settings")
        }

        Denial::QuotaExhausted { kind: MeterKind::KeyUses, .. } => unauthorized("API Key Times Quota is 0"),
        Denial::QuotaExhausted { kind: MeterKind::ClientQuota, .. } => {
            let error = "Client(application) quota ran out";
            answer(403, error, &format!("{error}, client_id: {client}"), Layout::Compact)
        }
        Denial::QuotaExhausted { kind: MeterKind::TokenUses, .. } => {
            let text = "Over Access Token Allow Times";
            (403, oauth(text, text))
        }

        Denial::Internal => answer(500, "Internal Server Error", "Internal Server Error", Layout::Compact),

        Denial::PathAmbiguous
        | Denial::MethodNotAllowed { .. }
        | Denial::CredentialDuplicated
        | Denial::CredentialInactive { .. }
        | Denial::CredentialRevoked { .. }
        | Denial::CredentialExpired { .. }
        | Denial::AudienceDenied
        | Denial::Overloaded
        | Denial::QuotaContended { .. }
        | Denial::QuotaUnavailable { .. }
        | Denial::Capacity
        | Denial::LookupUnavailable
        | Denial::LookupsThrottled
        | Denial::DirectoryUnavailable
        | Denial::Stale
        | Denial::BodyTooLarge { .. }
        | Denial::BodyNotSignable
        | Denial::SignaturesThrottled => {
            let status = denial.status();
            answer(status, reason(status), denial.title(), Layout::Compact)
        }
    }
}

/// The header object with which digiRunner answers an unknown path.
const NOT_FOUND: &str = "{\n  \"txSN\" : null,\n  \"txDate\" : null,\n  \"txID\" : null,\n  \
    \"rtnCode\" : \"0125\",\n  \"rtnMsg\" : \"0125 - API not found\"\n}";

/// The body of every other refusal.
#[derive(Serialize)]
struct Flat<'a> {
    /// Milliseconds since 1970, as text.
    timestamp: String,
    status: u16,
    error: &'a str,
    message: &'a str,
    path: &'a str,
}

/// digiRunner prints what its servlet filter refuses over several lines, the rest on one.
#[derive(Clone, Copy)]
enum Layout {
    Compact,
    Pretty,
}

impl Flat<'_> {
    fn write(&self, layout: Layout) -> String {
        match layout {
            Layout::Compact => json(self),
            Layout::Pretty => format!(
                "{{\n  \"timestamp\" : {},\n  \"status\" : {},\n  \"error\" : {},\n  \"message\" : {},\n  \"path\" : {}\n}}",
                json(&self.timestamp),
                self.status,
                json(&self.error),
                json(&self.message),
                json(&self.path),
            ),
        }
    }
}

#[derive(Serialize)]
struct Oauth<'a> {
    error: &'a str,
    error_description: &'a str,
}

fn oauth(error: &str, error_description: &str) -> String {
    json(&Oauth { error, error_description })
}

/// `yyyy-MM-ddZ`, as in `2026-01-31+0800`.
fn day(local: UnixMillis, utc_offset_min: i32) -> String {
    let text = local.to_string();
    format!("{}{}", text.get(..10).unwrap_or_default().replace('/', "-"), offset(utc_offset_min))
}

/// `HH:mmZ`, as in `18:00+0800`.
fn clock(local: UnixMillis, utc_offset_min: i32) -> String {
    let text = local.to_string();
    format!("{}{}", text.get(11..16).unwrap_or_default(), offset(utc_offset_min))
}

fn offset(minutes: i32) -> String {
    let (sign, minutes) = if minutes < 0 { ('-', minutes.saturating_neg()) } else { ('+', minutes) };
    format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => UNAUTHORIZED,
        403 => FORBIDDEN,
        405 => "Method Not Allowed",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
