//! A client's token settings.

use serde::{Deserialize, Serialize};

use crate::clients::token_settings::{
    self, GrantType, RedirectUrl, TokenSettings, TokenSettingsError, TokenSettingsFault, TokenTerms, Unit,
};
use crate::db::Conn;
use crate::definitions::work::{Refusal, Work};

/// A client's token settings, as `PUT /api/v1/clients/{id}/token-settings` takes them: whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettingsSpec {
    grant_types: Vec<String>,
    access_token: Terms,
    refresh_token: Terms,
    redirect_urls: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Terms {
    /// 0 = the default.
    validity: u64,
    unit: Unit,
    /// 0 = unlimited.
    uses: u64,
}

impl TokenSettingsSpec {
    /// As they are kept.
    pub fn of(settings: &TokenSettings) -> Self {
        let TokenSettings { grant_types, access, refresh, redirect_urls } = settings;
        Self {
            grant_types: grant_types.iter().map(|grant| grant.as_str().to_owned()).collect(),
            access_token: Terms::of(*access),
            refresh_token: Terms::of(*refresh),
            redirect_urls: redirect_urls.iter().map(|url| url.as_str().to_owned()).collect(),
        }
    }

    /// Sets them. `expected` is the version that was read.
    pub async fn set(
        &self,
        conn: &mut Conn,
        work: &Work<'_>,
        client: &str,
        expected: Option<i64>,
    ) -> Result<(), Refusal> {
        token_settings::set_in(conn, work.by, client, expected, self.parse()?, work.now).await?;
        Ok(())
    }

    fn parse(&self) -> Result<TokenSettings, TokenSettingsFault> {
        let grants = self.grant_types.iter().map(|grant| GrantType::parse(grant));
        Ok(TokenSettings {
            grant_types: grants.collect::<Result<_, _>>()?,
            access: self.access_token.parse("access_token")?,
            refresh: self.refresh_token.parse("refresh_token")?,
            redirect_urls: RedirectUrl::parse_all(&self.redirect_urls)?,
        })
    }
}

impl Terms {
    fn of(terms: TokenTerms) -> Self {
        Self {
            validity: terms.validity.count().into(),
            unit: terms.validity.unit(),
            uses: terms.uses_number().into(),
        }
    }

    fn parse(&self, token: &'static str) -> Result<TokenTerms, TokenSettingsFault> {
        TokenTerms::parse(token, self.validity, self.unit, self.uses)
    }
}

impl From<TokenSettingsFault> for Refusal {
    fn from(fault: TokenSettingsFault) -> Self {
        Self::Field("token_settings", fault.to_string())
    }
}

impl From<TokenSettingsError> for Refusal {
    fn from(error: TokenSettingsError) -> Self {
        match error {
            TokenSettingsError::Fault(fault) => fault.into(),
            TokenSettingsError::UnknownClient { .. } | TokenSettingsError::Version { .. } => {
                Self::changed_meanwhile()
            }
            TokenSettingsError::Db(error) => Self::Db(error),
        }
    }
}
