//! `/api/v1/clients/{id}/token-settings`.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, TokenSettingsError};
use super::form::{TokenSettingsForm, TokenTermsForm};
use super::model::{GrantType, TokenSettingsFault};
use super::redirect_url::RedirectUrl;
use super::store::Saved;
use crate::app::App;
use crate::http::{Actor, IfMatch, Json, Path, Permission, Routes, Versioned};
use crate::problem::Problem;

/// Everything about token settings.
pub fn routes() -> Routes {
    Routes::of("clients")
        .permitted(&[Permission::ClientsRead], routes!(show_token_settings))
        .permitted(&[Permission::ClientsWrite], routes!(set_token_settings))
}

impl From<TokenSettingsError> for Problem {
    fn from(error: TokenSettingsError) -> Self {
        match error {
            TokenSettingsError::Fault(fault) => fault.into(),
            TokenSettingsError::Client(error) => error.into(),
        }
    }
}

impl From<TokenSettingsFault> for Problem {
    fn from(fault: TokenSettingsFault) -> Self {
        let field = match &fault {
            TokenSettingsFault::GrantType { .. } | TokenSettingsFault::RefreshAlone => "grant_types".into(),
            TokenSettingsFault::NoRedirectUrl
            | TokenSettingsFault::RedirectUrl { .. }
            | TokenSettingsFault::RedirectUrlTwice { .. }
            | TokenSettingsFault::RedirectUrls { .. } => "redirect_urls".into(),
            TokenSettingsFault::Validity { token } => format!("{token}.validity"),
            TokenSettingsFault::Uses { token } => format!("{token}.uses"),
        };
        Self::invalid(field, fault.to_string())
    }
}

/// Which tokens a client may obtain, from the next one on.
#[derive(Serialize, ToSchema)]
#[schema(as = SavedTokenSettings)]
struct SavedView {
    #[schema(value_type = Vec<GrantType>)]
    grant_types: Vec<String>,
    access_token: TokenTermsForm,
    refresh_token: TokenTermsForm,
    #[schema(value_type = Vec<RedirectUrl>)]
    redirect_urls: Vec<String>,
    /// Null: never saved, these are the settings of a new client.
    updated_at: Option<i64>,
    version: i64,
}

impl From<Saved> for Versioned<SavedView> {
    fn from(saved: Saved) -> Self {
        let Saved { settings, updated_at, version } = saved;
        let TokenSettingsForm { grant_types, access_token, refresh_token, redirect_urls } =
            (&settings).into();
        let updated_at = updated_at.map(|at| at.0);
        Self(
            version,
            SavedView { grant_types, access_token, refresh_token, redirect_urls, updated_at, version },
        )
    }
}

/// Show which tokens a client may obtain.
#[utoipa::path(get, path = "/api/v1/clients/{id}/token-settings")]
async fn show_token_settings(
    State(app): State<App>,
    Path(client): Path<String>,
) -> Result<Versioned<SavedView>, Problem> {
    Ok(actions::get(&app, &client).await?.into())
}

/// Set which tokens a client may obtain, from the next one on.
#[utoipa::path(put, path = "/api/v1/clients/{id}/token-settings", params(IfMatch))]
async fn set_token_settings(
    State(app): State<App>,
    actor: Actor,
    Path(client): Path<String>,
    expected: IfMatch,
    Json(body): Json<TokenSettingsForm>,
) -> Result<Versioned<SavedView>, Problem> {
    let saved = actions::set(&app, &actor.audit_name(), &client, expected.0, body.parse()?).await?;
    Ok(saved.into())
}
