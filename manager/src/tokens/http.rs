//! `/oauth/token` and `/oauth/v2/token`.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, Issued};
use super::call::{Call, Reply};
use super::model::Form;
use super::refusal::Refusal;
use super::{consents, discovery, endpoints, keys, operators_http, owners, refresh};
use crate::clients::token_settings::GrantType;
use crate::http::Routes;

/// Everything about tokens.
pub fn routes() -> Routes {
    Routes::of("tokens")
        .open(routes!(issue_token))
        .open(routes!(issue_token_of_second_form))
        .merge(discovery::routes())
        .merge(endpoints::routes())
        .merge(keys::routes())
        .merge(operators_http::routes())
        .merge(consents::routes())
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
    /// The password, plain or in Base64. A client that has none leaves it out.
    client_secret: Option<String>,
}

/// What the second token endpoint takes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, read by name")]
struct ClientTokenRequest {
    /// `client_credentials`.
    grant_type: String,
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
    /// What the token says, separated by blanks: ids of the client's groups.
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
            scope: claims.scope.join(" "),
            stime: claims.stime,
            token_type: "bearer",
        }
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
async fn issue_token(call: Call) -> Reply<TokenAnswer> {
    let issued = issue(&call, Form::First).await;
    call.reply(issued.map(TokenAnswer::from))
}

/// Issue a token of digiRunner's second form.
///
/// With `client_credentials` alone: `aud` is `digiRunner`, `sub` the client, `ver` 2.0.
#[utoipa::path(
    post,
    path = "/oauth/v2/token",
    request_body(content(
        (ClientTokenRequest = "application/x-www-form-urlencoded"), (ClientTokenRequest = "multipart/form-data")
    )),
)]
async fn issue_token_of_second_form(call: Call) -> Reply<TokenAnswer> {
    let issued = issue(&call, Form::Second).await;
    call.reply(issued.map(TokenAnswer::from))
}

async fn issue(call: &Call, form: Form) -> Result<Issued, Refusal> {
    let grant = match call.parameters.get("grant_type") {
        None => return Err(Refusal::invalid_request("Missing grant type")),
        Some("") => return Err(Refusal::unauthenticated()),
        Some(grant) if form == Form::Second && grant != GrantType::ClientCredentials.as_str() => {
            return Err(Refusal::only_client_credentials(&call.path, grant));
        }
        Some(grant) => GrantType::parse(grant).map_err(|_| Refusal::unsupported_grant(grant))?,
    };
    match grant {
        GrantType::ClientCredentials => actions::by_client_credentials(call, form).await,
        GrantType::RefreshToken => {
            let presented = call.parameter("refresh_token").ok_or_else(Refusal::no_refresh_token)?;
            refresh::ask_again(call, presented).await
        }
        GrantType::Password => owners::by_password(call).await,
        GrantType::AuthorizationCode => owners::by_code(call).await,
    }
}
