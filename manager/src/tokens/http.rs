//! `/oauth/token`, and where programs find out about it.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, Issued};
use super::endpoints;
use super::keys;
use super::model;
use super::operators_http;
use super::owners;
use super::presented::{Credentials, Parameters};
use super::refresh;
use super::refusal::{OAuthError, Refusal};
use crate::app::App;
use crate::caller_address::CallerAddress;
use crate::clients::token_settings::GrantType;
use crate::http::{Confidential, Json, Routes};

/// Everything about tokens.
pub fn routes() -> Routes {
    Routes::of("tokens")
        .open(routes!(issue_token))
        .open(routes!(metadata))
        .merge(endpoints::routes())
        .merge(keys::routes())
        .merge(operators_http::routes())
}

/// What the token endpoint takes, in the query or the body, as a form or as multipart.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, read by name")]
struct TokenRequest {
    /// `client_credentials`, `password`, `refresh_token` or `authorization_code`.
    grant_type: String,
    /// Of the user, with the grant `password`.
    username: Option<String>,
    /// Of the user, with the grant of that name; plain or in Base64.
    password: Option<String>,
    /// With the grant `authorization_code`.
    code: Option<String>,
    /// As the code was asked for.
    redirect_uri: Option<String>,
    /// Proves the code (PKCE).
    code_verifier: Option<String>,
    /// With the grant of that name.
    refresh_token: Option<String>,
    /// With `client_secret`: before what stands in the header `Authorization`.
    client_id: Option<String>,
    /// The password, plain or in Base64.
    client_secret: Option<String>,
}

/// A token, shown this once. The members are digiRunner's.
#[derive(Serialize, ToSchema)]
struct TokenAnswer {
    access_token: String,
    /// Seconds.
    expires_in: i64,
    jti: String,
    node: String,
    /// The user's organisation. Absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    org_id: Option<String>,
    /// Absent: none goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// Ids of the client's groups, separated by blanks.
    scope: String,
    /// When it was issued, UTC ms.
    stime: i64,
    token_type: &'static str,
}

impl From<Issued> for TokenAnswer {
    fn from(issued: Issued) -> Self {
        let Issued { token, claims, text, refresh } = issued;
        Self {
            access_token: text,
            expires_in: claims.exp - claims.iat - 1,
            jti: token.id.clone(),
            node: claims.node,
            org_id: claims.org_id,
            refresh_token: refresh,
            scope: model::scope_text(&token.scope),
            stime: claims.stime,
            token_type: "bearer",
        }
    }
}

/// What the OAuth endpoints answer.
pub(super) struct Reply<T>(Result<Confidential<Json<T>>, Response>);

impl<T> Reply<T> {
    pub fn of(app: &App, path: &str, result: Result<T, Refusal>) -> Self {
        Self(match result {
            Ok(answer) => Ok(Confidential(Json(answer))),
            Err(refusal) => Err(refusal.answer(app, path)),
        })
    }
}

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(answer) => {
                let mut response = answer.into_response();
                response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
                response
            }
            Err(refusal) => refusal,
        }
    }
}

impl<T: ToSchema> IntoResponses for Reply<T> {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut responses = Json::<T>::responses();
        for (status, means) in [
            ("400", "`invalid_request`, `unsupported_grant_type`, `invalid_grant`, `invalid_scope`."),
            ("401", "`invalid_client`, `unauthorized`, `invalid_token`."),
            ("403", "`unauthorized_client`: an operator has stopped the client."),
            ("413", "The body is too large."),
            ("415", "The body is no form."),
            ("429", "Too many wrong passwords came from the caller's address."),
            ("503", "`temporarily_unavailable`: nothing was changed; repeat after `Retry-After`."),
        ] {
            for (_, mut response) in Json::<OAuthError>::responses() {
                if let RefOr::T(response) = &mut response {
                    response.description = means.into();
                }
                responses.insert(status.into(), response);
            }
        }
        responses
    }
}

/// Issue a token.
///
/// The client proves itself by its id and password, in the header `Authorization` (Basic) or in the body.
#[utoipa::path(
    post,
    path = "/oauth/token",
    request_body(content(
        (TokenRequest = "application/x-www-form-urlencoded"), (TokenRequest = "multipart/form-data")
    )),
)]
async fn issue_token(State(app): State<App>, from: CallerAddress, request: Request) -> Reply<TokenAnswer> {
    let path = request.uri().path().to_owned();
    let issued = answer(&app, &from, request).await;
    Reply::of(&app, &path, issued.map(TokenAnswer::from))
}

async fn answer(app: &App, from: &CallerAddress, request: Request) -> Result<Issued, Refusal> {
    let (headers, parameters) = Parameters::read(request).await?;
    let grant = match parameters.get("grant_type") {
        None => return Err(Refusal::invalid_request("Missing grant type")),
        Some("") => return Err(Refusal::unauthenticated()),
        Some(grant) => match GrantType::parse(grant) {
            Ok(grant) => grant,
            Err(_) => return Err(Refusal::unsupported_grant(grant)),
        },
    };
    match grant {
        GrantType::ClientCredentials => {
            let credentials = Credentials::read(&headers, &parameters)?;
            actions::by_client_credentials(app, from, &credentials).await
        }
        GrantType::RefreshToken => {
            let presented = parameters.get("refresh_token").filter(|text| !text.is_empty());
            let presented = presented.ok_or_else(Refusal::no_refresh_token)?;
            let credentials = Credentials::read(&headers, &parameters)?;
            refresh::ask_again(app, from, &credentials, presented).await
        }
        GrantType::Password => owners::by_password(app, from, &headers, &parameters).await,
        GrantType::AuthorizationCode => owners::by_code(app, from, &headers, &parameters).await,
    }
}

/// What this server can do (RFC 8414).
#[derive(Serialize, ToSchema)]
struct ServerMetadata {
    issuer: String,
    token_endpoint: String,
    jwks_uri: String,
    revocation_endpoint: String,
    introspection_endpoint: String,
    authorization_endpoint: String,
    response_types_supported: [&'static str; 1],
    code_challenge_methods_supported: [&'static str; 1],
    authorization_response_iss_parameter_supported: bool,
    grant_types_supported: [&'static str; 4],
    token_endpoint_auth_methods_supported: [&'static str; 2],
    revocation_endpoint_auth_methods_supported: [&'static str; 2],
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
}

/// Show where tokens are obtained, and how.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server")]
async fn metadata(State(app): State<App>) -> Json<ServerMetadata> {
    let issuer = app.config.issuer();
    Json(ServerMetadata {
        token_endpoint: format!("{issuer}/oauth/token"),
        jwks_uri: format!("{issuer}/oauth/jwks"),
        revocation_endpoint: format!("{issuer}/oauth2/revoke"),
        introspection_endpoint: format!("{issuer}/oauth2/introspect"),
        authorization_endpoint: format!("{issuer}/oauth/authorize"),
        response_types_supported: ["code"],
        code_challenge_methods_supported: ["S256"],
        authorization_response_iss_parameter_supported: true,
        grant_types_supported: GrantType::ALL.map(GrantType::as_str),
        token_endpoint_auth_methods_supported: AUTHENTICATION,
        revocation_endpoint_auth_methods_supported: AUTHENTICATION,
        introspection_endpoint_auth_methods_supported: AUTHENTICATION,
        issuer,
    })
}

/// By what clients prove themselves.
const AUTHENTICATION: [&str; 2] = ["client_secret_basic", "client_secret_post"];
