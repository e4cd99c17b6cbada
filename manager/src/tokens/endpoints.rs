//! Inspecting and revoking: `/oauth/…` as digiRunner has it, `/oauth2/…` as the standards (RFC 7662,
//! RFC 7009).

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions;
use super::http::Reply;
use super::inspection::{self, Found, OnRecord};
use super::model::Claims;
use super::presented::{Credentials, Parameters};
use super::refusal::Refusal;
use super::revocation;
use crate::app::App;
use crate::caller_address::CallerAddress;
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
    /// The password, plain or in Base64.
    client_secret: Option<String>,
}

/// Who asks, and about what.
struct Asked {
    client: String,
    token: String,
}

async fn who(
    app: &App,
    from: &CallerAddress,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<String, Refusal> {
    let credentials = Credentials::read(headers, parameters)?;
    Ok(actions::authenticate(app, from, &credentials).await?.id.as_str().to_owned())
}

/// As digiRunner checks it: what kind of token is asked about must be said, and be so.
async fn asked_as_digirunner(
    app: &App,
    from: &CallerAddress,
    request: Request,
) -> Result<(Asked, Found, &'static str), Refusal> {
    let (headers, parameters) = Parameters::read(request).await?;
    let Some(token) = parameters.get("token").filter(|token| !token.is_empty()) else {
        return Err(Refusal::no_token());
    };
    let hint = match parameters.get("token_type_hint") {
        Some("access_token") => "access_token",
        Some("refresh_token") => "refresh_token",
        other => return Err(Refusal::unsupported_hint(other)),
    };
    let client = who(app, from, &headers, &parameters).await?;
    let found = inspection::find(app, token).await?.ok_or_else(Refusal::unreadable)?;
    if found.claims.client_id != client {
        return Err(Refusal::of_another_client("token", token));
    }
    if found.is_refresh() != (hint == "refresh_token") {
        return Err(Refusal::unsupported_hint(Some(hint)));
    }
    Ok((Asked { client, token: token.to_owned() }, found, hint))
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
async fn revoke_as_digirunner(
    State(app): State<App>,
    from: CallerAddress,
    request: Request,
) -> Reply<RevocationAnswer> {
    let path = request.uri().path().to_owned();
    let work = async {
        let (asked, found, hint) = asked_as_digirunner(&app, &from, request).await?;
        let kind = if hint == "refresh_token" { "refresh token" } else { "access token" };
        let jti = &found.claims.jti;
        Ok(match end(&app, &asked, &found, false).await? {
            true => RevocationAnswer {
                code: "token_revoke_success",
                message: format!("{kind} revoke success, jti: {jti}"),
            },
            false => RevocationAnswer {
                code: "token_already_revoked",
                message: format!("{kind} already revoked, jti: {jti}"),
            },
        })
    };
    let result = work.await;
    Reply::of(&app, &path, result)
}

async fn end(app: &App, asked: &Asked, found: &Found, with_access: bool) -> Result<bool, Refusal> {
    let by = format!("client:{}", asked.client);
    Ok(match &found.record {
        Some(OnRecord::Access(token)) => revocation::revoke(app, token, &by).await?,
        Some(OnRecord::Refresh(token)) => revocation::revoke_refresh(app, token, &by, with_access).await?,
        None => false,
    })
}

/// What is known of a token. Absent: not said of this one.
#[derive(Serialize, ToSchema)]
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
    /// All that is said of a token that does not serve, or is not the caller's.
    const INACTIVE: Self = Self {
        active: false,
        scope: None,
        client_id: None,
        username: None,
        token_type: None,
        exp: None,
        iat: None,
        nbf: None,
        sub: None,
        aud: None,
        iss: None,
        jti: None,
        remaining_uses: None,
    };

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
async fn introspect_as_digirunner(
    State(app): State<App>,
    from: CallerAddress,
    request: Request,
) -> Reply<Introspection> {
    let path = request.uri().path().to_owned();
    let work = async {
        let (_, found, hint) = asked_as_digirunner(&app, &from, request).await?;
        let remaining = found.remaining_uses(&mut *app.db.read().await?).await?;
        let active = found.is_live(app.now());
        Ok(Introspection::of(found.claims, active, hint, remaining))
    };
    let result = work.await;
    Reply::of(&app, &path, result)
}

/// As the standards have it: of a token that is nobody's, or another client's, nothing is told.
async fn asked_by_standard(
    app: &App,
    from: &CallerAddress,
    request: Request,
) -> Result<(Asked, Option<Found>), Refusal> {
    let (headers, parameters) = Parameters::read(request).await?;
    let client = who(app, from, &headers, &parameters).await?;
    let Some(token) = parameters.get("token").filter(|token| !token.is_empty()) else {
        return Err(Refusal::invalid_request("Missing token"));
    };
    // The hint spares a search, and there is none: the token itself says what it is.
    let found = inspection::find(app, token).await?.filter(|found| found.claims.client_id == client);
    Ok((Asked { client, token: token.to_owned() }, found))
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
async fn revoke_by_standard(
    State(app): State<App>,
    from: CallerAddress,
    request: Request,
) -> Reply<RevokedAnswer> {
    let path = request.uri().path().to_owned();
    let work = async {
        let (asked, found) = asked_by_standard(&app, &from, request).await?;
        if let Some(found) = found {
            end(&app, &asked, &found, true).await?;
        }
        Ok(RevokedAnswer {})
    };
    let result = work.await;
    Reply::of(&app, &path, result)
}

/// Show whether a token serves, and what it is (RFC 7662).
///
/// A client is told of its own. One that has ended, or is used up, is inactive.
#[utoipa::path(
    post,
    path = "/oauth2/introspect",
    request_body(content(
        (TokenQuestion = "application/x-www-form-urlencoded"), (TokenQuestion = "multipart/form-data")
    )),
)]
async fn introspect_by_standard(
    State(app): State<App>,
    from: CallerAddress,
    request: Request,
) -> Reply<Introspection> {
    let path = request.uri().path().to_owned();
    let work = async {
        let (asked, found) = asked_by_standard(&app, &from, request).await?;
        let Some(found) = found else { return Ok(Introspection::INACTIVE) };
        let remaining = found.remaining_uses(&mut *app.db.read().await?).await?;
        if !found.is_live(app.now()) || remaining == Some(0) || !found.is_text(&asked.token) {
            return Ok(Introspection::INACTIVE);
        }
        let token_type = if found.is_refresh() { "refresh_token" } else { "Bearer" };
        Ok(Introspection::of(found.claims, true, token_type, remaining))
    };
    let result = work.await;
    Reply::of(&app, &path, result)
}
