//! Inspecting and revoking: `/oauth/…` as digiRunner has it, `/oauth2/…` as the standards (RFC 7662,
//! RFC 7009). It is one flow; where they differ is a [`Dialect`].

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::call::{Call, Reply};
use super::identity;
use super::inspection::{self, Found, Kind, OnRecord};
use super::model::Claims;
use super::presented::TwoWays;
use super::refusal::Refusal;
use super::{refresh, revocation};
use crate::clients::Client;
use crate::http::Routes;

/// All four.
pub(super) fn routes() -> Routes {
    Routes::of("tokens")
        .open(routes!(revoke_as_digirunner))
        .open(routes!(introspect_as_digirunner))
        .open(routes!(revoke_by_standard))
        .open(routes!(introspect_by_standard))
}

/// A token, and the client that asks about it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, read by name")]
struct TokenQuestion {
    token: String,
    /// `access_token` or `refresh_token`; below `/oauth2` it may be left out.
    token_type_hint: Option<String>,
    client_id: Option<String>,
    /// The password, plain or in Base64. A client that has none leaves it out.
    client_secret: Option<String>,
}

/// In whose words a token is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// What kind of token it is must be said, and be so. What is wrong with it is told.
    Digirunner,
    /// Of a token that is nobody's, or another client's, nothing is told. A hint spares a search, and
    /// there is none: the token itself says what it is.
    Standard,
}

/// A token that a client may ask about.
struct Asked {
    client: Client,
    text: String,
    /// None: there is none that it may be told of.
    found: Option<Found>,
}

async fn asked(call: &Call, dialect: Dialect) -> Result<Asked, Refusal> {
    let text = call.parameter("token");
    let hint = call.parameters.get("token_type_hint");
    let (kind, two_ways) = match dialect {
        Dialect::Digirunner => {
            if text.is_none() {
                return Err(Refusal::no_token());
            }
            let kind = hint.and_then(Kind::parse).ok_or_else(|| Refusal::unsupported_hint(hint))?;
            (Some(kind), TwoWays::BodyFirst)
        }
        Dialect::Standard => (None, TwoWays::Refused),
    };
    let client = identity::proven_or_public(call, two_ways).await?;
    let text = text.ok_or_else(|| Refusal::invalid_request("Missing token"))?.to_owned();
    let found = inspection::find(&call.app, &text).await?;
    let own = |found: &Found| found.claims.client_id == client.id.as_str();
    let found = match kind {
        None => found.filter(own),
        Some(kind) => match found {
            None => return Err(Refusal::unreadable()),
            Some(found) if !own(&found) => return Err(Refusal::of_another_client("token", &text)),
            Some(found) if found.kind() != kind => return Err(Refusal::unsupported_hint(hint)),
            Some(found) => Some(found),
        },
    };
    Ok(Asked { client, text, found })
}

/// Ends the token. With it, whether it had not ended before.
async fn revoke(call: &Call, dialect: Dialect) -> Result<(Option<Found>, bool), Refusal> {
    let Asked { client, found, .. } = asked(call, dialect).await?;
    let by = format!("client:{}", client.id.as_str());
    let first = match found.as_ref().and_then(|found| found.record.as_ref()) {
        Some(OnRecord::Access(token)) => revocation::revoke(&call.app, token, &by).await?,
        Some(OnRecord::Refresh(token)) => {
            let with_access = dialect == Dialect::Standard;
            revocation::revoke_refresh(&call.app, token, &by, with_access).await?
        }
        None => false,
    };
    Ok((found, first))
}

/// What became of it, in digiRunner's words.
#[derive(Serialize, ToSchema)]
struct RevocationAnswer {
    /// `token_revoke_success` or `token_already_revoked`.
    code: &'static str,
    message: String,
}

/// Revoke a token, as digiRunner does.
///
/// Gateways refuse an access token within a second. The access token of a refresh token lives on.
#[utoipa::path(
    post,
    path = "/oauth/revocation",
    request_body(content(
        (TokenQuestion = "application/x-www-form-urlencoded"), (TokenQuestion = "multipart/form-data")
    )),
)]
async fn revoke_as_digirunner(call: Call) -> Reply<RevocationAnswer> {
    let revoked = revoke(&call, Dialect::Digirunner).await.map(|(found, first)| {
        let kind = found.as_ref().map_or("token", |found| found.kind().in_words());
        let jti = found.as_ref().map_or("", |found| &found.claims.jti);
        match first {
            true => RevocationAnswer {
                code: "token_revoke_success",
                message: format!("{kind} revoke success, jti: {jti}"),
            },
            false => RevocationAnswer {
                code: "token_already_revoked",
                message: format!("{kind} already revoked, jti: {jti}"),
            },
        }
    });
    call.reply(revoked)
}

/// Nothing: a token that there is not is revoked already.
#[derive(Serialize, ToSchema)]
struct RevokedAnswer {}

/// Revoke a token (RFC 7009).
///
/// With a refresh token the access tokens that came from it are revoked too. Gateways refuse them within a
/// second. What is no token of the client is answered alike.
#[utoipa::path(
    post,
    path = "/oauth2/revoke",
    request_body(content(
        (TokenQuestion = "application/x-www-form-urlencoded"), (TokenQuestion = "multipart/form-data")
    )),
)]
async fn revoke_by_standard(call: Call) -> Reply<RevokedAnswer> {
    let revoked = revoke(&call, Dialect::Standard).await.map(|_| RevokedAnswer {});
    call.reply(revoked)
}

/// What is known of a token. Absent: not said of this one. The default is all that is said of a token that
/// does not serve, or is not the caller's.
#[derive(Default, Serialize, ToSchema)]
struct Introspection {
    /// Whether it serves.
    active: bool,
    /// Group ids, separated by blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// Separated by blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// Uses that are left; absent: they are not counted. What a gateway holds for calls to come is not left.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_uses: Option<u64>,
}

impl Introspection {
    fn of(claims: Claims, active: bool, token_type: &'static str, remaining_uses: Option<u64>) -> Self {
        Self {
            active,
            scope: Some(claims.scope.join(" ")),
            username: claims.user_name.clone(),
            // A token of the client itself is about the client.
            sub: Some(claims.user_name.unwrap_or_else(|| claims.client_id.clone())),
            client_id: Some(claims.client_id),
            token_type: Some(token_type),
            exp: Some(claims.exp),
            iat: Some(claims.iat),
            nbf: Some(claims.iat),
            aud: Some(claims.aud.join(" ")),
            iss: Some(claims.iss),
            jti: Some(claims.jti),
            remaining_uses,
        }
    }
}

async fn introspect(call: &Call, dialect: Dialect) -> Result<Introspection, Refusal> {
    let Asked { client, text, found } = asked(call, dialect).await?;
    let Some(found) = found else { return Ok(Introspection::default()) };
    let now = call.app.now();
    let mut read = call.app.db.read().await?;
    let remaining = found.remaining_uses(&mut read).await?;
    let (live, kind) = (found.is_live(now), found.kind());
    if dialect == Dialect::Digirunner {
        return Ok(Introspection::of(found.claims, live, kind.as_str(), remaining));
    }
    let serves = live
        && remaining != Some(0)
        && (found.is_text(&text) || kind == Kind::Refresh && refresh::serves_again(&call.app, &client))
        && found.is_open(&mut read, &client, now).await?;
    let token_type = match kind {
        Kind::Access => "Bearer",
        Kind::Refresh => kind.as_str(),
    };
    Ok(match serves {
        true => Introspection::of(found.claims, true, token_type, remaining),
        false => Introspection::default(),
    })
}

/// Show what a token is, as digiRunner does.
///
/// One that is used up is active still.
#[utoipa::path(
    post,
    path = "/oauth/introspection",
    request_body(content(
        (TokenQuestion = "application/x-www-form-urlencoded"), (TokenQuestion = "multipart/form-data")
    )),
)]
async fn introspect_as_digirunner(call: Call) -> Reply<Introspection> {
    let seen = introspect(&call, Dialect::Digirunner).await;
    call.reply(seen)
}

/// Show whether a token serves, and what it is (RFC 7662).
///
/// A client is told of its own. One that has ended, or is used up, or whose user or client may not use it
/// now, is inactive.
#[utoipa::path(
    post,
    path = "/oauth2/introspect",
    request_body(content(
        (TokenQuestion = "application/x-www-form-urlencoded"), (TokenQuestion = "multipart/form-data")
    )),
)]
async fn introspect_by_standard(call: Call) -> Reply<Introspection> {
    let seen = introspect(&call, Dialect::Standard).await;
    call.reply(seen)
}
