//! Where programs find out what this server can do: RFC 8414, and where digiRunner's programs look for it.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::model::Form;
use crate::app::App;
use crate::clients::token_settings::GrantType;
use crate::http::{Json, Path, Routes};
use crate::problem::Problem;

/// All of it, for everybody.
pub(super) fn routes() -> Routes {
    Routes::of("tokens")
        .open(routes!(metadata))
        .open(routes!(metadata_as_digirunner))
        .open(routes!(metadata_of_second_form))
}

/// By what clients prove themselves; `none`: one that has no password names itself.
const AUTHENTICATION: [&str; 3] = ["client_secret_basic", "client_secret_post", "none"];
/// Where digiRunner has users sign in, each with a document of its own. Here all do so at one page.
const IDENTITY_PROVIDERS: [&str; 8] = ["GOOGLE", "MS", "OIDC", "LDAP", "MLDAP", "API", "JDBC", "CUS"];

/// What this server can do (RFC 8414). Absent: what the token endpoint does not need.
#[derive(Serialize, ToSchema)]
struct ServerMetadata {
    issuer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_endpoint: Option<String>,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_types_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_modes_supported: Vec<&'static str>,
    grant_types_supported: Vec<&'static str>,
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ui_locales_supported: Vec<&'static str>,
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    code_challenge_methods_supported: Vec<&'static str>,
    authorization_response_iss_parameter_supported: bool,
}

impl ServerMetadata {
    fn of(app: &App, form: Form) -> Self {
        let issuer = app.config.issuer();
        let first = Self {
            authorization_endpoint: Some(format!("{issuer}/oauth/authorize")),
            token_endpoint: format!("{issuer}/oauth/token"),
            jwks_uri: format!("{issuer}/oauth/jwks"),
            response_types_supported: vec!["code"],
            response_modes_supported: vec!["query"],
            grant_types_supported: GrantType::ALL.map(GrantType::as_str).to_vec(),
            token_endpoint_auth_methods_supported: AUTHENTICATION.to_vec(),
            ui_locales_supported: vec!["en", "zh-TW"],
            revocation_endpoint: format!("{issuer}/oauth2/revoke"),
            revocation_endpoint_auth_methods_supported: AUTHENTICATION.to_vec(),
            introspection_endpoint: format!("{issuer}/oauth2/introspect"),
            introspection_endpoint_auth_methods_supported: AUTHENTICATION.to_vec(),
            code_challenge_methods_supported: vec!["S256"],
            authorization_response_iss_parameter_supported: true,
            issuer,
        };
        match form {
            Form::First => first,
            // It takes a client's own password, and no code.
            Form::Second => Self {
                token_endpoint: format!("{}/oauth/v2/token", first.issuer),
                grant_types_supported: vec![GrantType::ClientCredentials.as_str()],
                token_endpoint_auth_methods_supported: AUTHENTICATION[..2].to_vec(),
                authorization_endpoint: None,
                response_types_supported: Vec::new(),
                response_modes_supported: Vec::new(),
                ui_locales_supported: Vec::new(),
                code_challenge_methods_supported: Vec::new(),
                authorization_response_iss_parameter_supported: false,
                ..first
            },
        }
    }
}

/// Show where tokens are obtained, and how.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server")]
async fn metadata(State(app): State<App>) -> Json<ServerMetadata> {
    Json(ServerMetadata::of(&app, Form::First))
}

/// Show where tokens are obtained, where digiRunner's programs look for it.
///
/// `idp_type` is one of digiRunner's: all users sign in at one page. There are no ID tokens, and nothing
/// is said of them.
#[utoipa::path(get, path = "/dgrv4/ssotoken/{idp_type}/.well-known/openid-configuration")]
async fn metadata_as_digirunner(
    State(app): State<App>,
    Path(idp_type): Path<String>,
) -> Result<Json<ServerMetadata>, Problem> {
    of_identity_provider(&app, &idp_type, Form::First)
}

/// Show where tokens of digiRunner's second form are obtained.
#[utoipa::path(get, path = "/dgrv4/ssotoken/v2/{idp_type}/.well-known/openid-configuration")]
async fn metadata_of_second_form(
    State(app): State<App>,
    Path(idp_type): Path<String>,
) -> Result<Json<ServerMetadata>, Problem> {
    of_identity_provider(&app, &idp_type, Form::Second)
}

fn of_identity_provider(app: &App, idp_type: &str, form: Form) -> Result<Json<ServerMetadata>, Problem> {
    match IDENTITY_PROVIDERS.contains(&idp_type) {
        true => Ok(Json(ServerMetadata::of(app, form))),
        false => {
            let known = IDENTITY_PROVIDERS.join(", ");
            Err(Problem::not_found(format!("there is no such type of identity provider; there are {known}")))
        }
    }
}
