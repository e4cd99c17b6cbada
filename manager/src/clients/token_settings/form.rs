//! Token settings as they are entered and shown, over the API and in files.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::{GrantType, TokenSettings, TokenSettingsFault, TokenTerms, Unit};
use super::redirect_url::RedirectUrl;

/// The whole page: nothing is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TokenSettings)]
#[serde(deny_unknown_fields)]
pub struct TokenSettingsForm {
    /// By which ways the client may obtain tokens.
    #[schema(value_type = Vec<GrantType>)]
    pub grant_types: Vec<String>,
    /// What an access token gets: calls are its uses.
    pub access_token: TokenTermsForm,
    /// What a refresh token gets: renewals are its uses.
    pub refresh_token: TokenTermsForm,
    /// Six at most; the first is the default.
    #[schema(value_type = Vec<RedirectUrl>, max_items = 6)]
    pub redirect_urls: Vec<String>,
}

/// How long and how often a token serves: whichever ends first ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TokenTerms)]
#[serde(deny_unknown_fields)]
pub struct TokenTermsForm {
    /// 0 = the default, 10 minutes; 3,650 days at most.
    #[schema(maximum = 315_360_000)]
    pub validity: u64,
    /// What the validity is counted in.
    pub unit: Unit,
    /// 0 = unlimited.
    #[schema(maximum = 2_147_483_647)]
    pub uses: u64,
}

impl From<&TokenSettings> for TokenSettingsForm {
    fn from(settings: &TokenSettings) -> Self {
        Self {
            grant_types: settings.grant_types.iter().map(|grant| grant.as_str().into()).collect(),
            access_token: settings.access.into(),
            refresh_token: settings.refresh.into(),
            redirect_urls: settings.redirect_urls.iter().map(|url| url.as_str().into()).collect(),
        }
    }
}

impl From<TokenTerms> for TokenTermsForm {
    fn from(terms: TokenTerms) -> Self {
        Self {
            validity: terms.validity.count().into(),
            unit: terms.validity.unit(),
            uses: terms.uses_number().into(),
        }
    }
}

impl TokenSettingsForm {
    /// The settings, if each field by itself can be taken.
    pub fn parse(&self) -> Result<TokenSettings, TokenSettingsFault> {
        let grants = self.grant_types.iter().map(|grant| GrantType::parse(grant));
        Ok(TokenSettings {
            grant_types: grants.collect::<Result<_, _>>()?,
            access: self.access_token.parse("access_token")?,
            refresh: self.refresh_token.parse("refresh_token")?,
            redirect_urls: RedirectUrl::parse_all(&self.redirect_urls)?,
        })
    }
}

impl TokenTermsForm {
    fn parse(self, token: &'static str) -> Result<TokenTerms, TokenSettingsFault> {
        TokenTerms::parse(token, self.validity, self.unit, self.uses)
    }
}
