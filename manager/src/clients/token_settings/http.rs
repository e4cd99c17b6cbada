//! `/api/v1/clients/{id}/token-settings`.

use std::collections::BTreeSet;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, TokenSettingsError};
use super::model::{GrantType, RedirectUrl, TokenSettings, TokenSettingsFault, TokenTerms, Unit};
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

/// What a client's tokens are like, from the next one on.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenSettings)]
struct TokenSettingsView {
    #[schema(value_type = Vec<GrantType>)]
    grant_types: Vec<&'static str>,
    access_token: Terms,
    refresh_token: Terms,
    redirect_urls: Vec<RedirectUrl>,
    /// Null: never saved, these are the settings of a new client.
    updated_at: Option<i64>,
    version: i64,
}

/// How long and how often a token serves: whichever ends first ends it.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = TokenTerms)]
#[serde(deny_unknown_fields)]
struct Terms {
    /// 0 = the default, 10 minutes; 3,650 days at most.
    #[schema(maximum = 315_360_000)]
    validity: u64,
    unit: Unit,
    /// 0 = unlimited.
    #[schema(maximum = 2_147_483_647)]
    uses: u64,
}

impl From<TokenTerms> for Terms {
    fn from(terms: TokenTerms) -> Self {
        Self {
            validity: terms.validity.count().into(),
            unit: terms.validity.unit(),
            uses: terms.uses_number().into(),
        }
    }
}

impl Terms {
    fn parse(&self, token: &'static str) -> Result<TokenTerms, TokenSettingsFault> {
        TokenTerms::parse(token, self.validity, self.unit, self.uses)
    }
}

impl From<Saved> for TokenSettingsView {
    fn from(saved: Saved) -> Self {
        let settings = saved.settings;
        Self {
            grant_types: settings.grant_types.iter().map(|grant| grant.as_str()).collect(),
            access_token: settings.access.into(),
            refresh_token: settings.refresh.into(),
            redirect_urls: settings.redirect_urls,
            updated_at: saved.updated_at.map(|at| at.0),
            version: saved.version,
        }
    }
}

/// Show which tokens a client may obtain.
#[utoipa::path(get, path = "/api/v1/clients/{id}/token-settings")]
async fn show_token_settings(
    State(app): State<App>,
    Path(client): Path<String>,
) -> Result<Versioned<TokenSettingsView>, Problem> {
    let saved = actions::get(&app, &client).await?;
    Ok(Versioned(saved.version, saved.into()))
}

/// The whole page: nothing is left out.
#[derive(Deserialize, ToSchema)]
#[schema(as = TokenSettingsPut)]
#[serde(deny_unknown_fields)]
struct Set {
    #[schema(value_type = Vec<GrantType>)]
    grant_types: Vec<String>,
    access_token: Terms,
    refresh_token: Terms,
    /// Six at most; the first is the default.
    #[schema(value_type = Vec<RedirectUrl>, max_items = 6)]
    redirect_urls: Vec<String>,
}

/// Set which tokens a client may obtain, from the next one on.
#[utoipa::path(put, path = "/api/v1/clients/{id}/token-settings", params(IfMatch))]
async fn set_token_settings(
    State(app): State<App>,
    actor: Actor,
    Path(client): Path<String>,
    expected: IfMatch,
    Json(body): Json<Set>,
) -> Result<Versioned<TokenSettingsView>, Problem> {
    let settings = body.parse()?;
    let saved = actions::set(&app, &actor.audit_name(), &client, expected.0, settings).await?;
    Ok(Versioned(saved.version, saved.into()))
}

impl Set {
    fn parse(self) -> Result<TokenSettings, TokenSettingsFault> {
        let grants = self.grant_types.iter().map(|grant| GrantType::parse(grant));
        Ok(TokenSettings {
            grant_types: grants.collect::<Result<BTreeSet<_>, _>>()?,
            access: self.access_token.parse("access_token")?,
            refresh: self.refresh_token.parse("refresh_token")?,
            redirect_urls: RedirectUrl::parse_all(&self.redirect_urls)?,
        })
    }
}
