//! A client's token settings and their rules.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::redirect_url::{MAX_REDIRECT_URLS, RedirectUrl};
use crate::openapi::schema;

/// The longest validity: ten years. Beyond that a token is a key, and keys have pages of their own.
pub const MAX_VALIDITY_S: u64 = 10 * 365 * 86_400;
/// The highest use count: what digiRunner keeps in a signed 32-bit number.
pub const MAX_USES: u32 = i32::MAX as u32;

/// Everything that is set about a client's tokens. The default is a new client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// By which ways it may obtain tokens; none = it obtains none.
    pub grant_types: BTreeSet<GrantType>,
    /// What an access token gets.
    pub access: TokenTerms,
    /// What a refresh token gets.
    pub refresh: TokenTerms,
    /// Where a browser may be sent back to; the first is the default.
    pub redirect_urls: Vec<RedirectUrl>,
}

/// A way to obtain a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantType {
    /// By the client's own id and password. Also opens Basic on APIs.
    ClientCredentials,
    /// By a user's name and password beside the client's.
    Password,
    /// By a refresh token.
    RefreshToken,
    /// By a code that a browser brings back after a sign-in.
    AuthorizationCode,
}

/// How long and how often a token serves: whichever ends first ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// From its issue on.
    pub validity: Validity,
    /// How often; None = unlimited.
    pub uses: Option<NonZeroU32>,
}

/// A length of time as it was entered, at least a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    count: u32,
    unit: Unit,
}

/// What a validity is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ValidityUnit)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 1 s.
    Seconds,
    /// 60 s.
    Minutes,
    /// 3,600 s.
    Hours,
    /// 86,400 s.
    Days,
}

/// What is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenSettingsFault {
    /// Not one of those that there are.
    #[error("Grant Type of unknown type: [{given}]; {}", reason(given))]
    GrantType {
        /// As given.
        given: String,
    },
    /// Nothing that a refresh token could come from.
    #[error(
        "refresh_token needs password or authorization_code beside it: no other grant issues a refresh token"
    )]
    RefreshAlone,
    /// Nowhere to send the browser back to.
    #[error("authorization_code needs a redirect URL: enter one in redirect_urls, or leave the grant out")]
    NoRedirectUrl,
    /// Out of range.
    #[error("a validity is 1 second to {} days; 0 is the default of 10 minutes", MAX_VALIDITY_S / 86_400)]
    Validity {
        /// `access_token` or `refresh_token`.
        token: &'static str,
    },
    /// Out of range.
    #[error("the number of uses is 0 (unlimited) to {MAX_USES}")]
    Uses {
        /// `access_token` or `refresh_token`.
        token: &'static str,
    },
    /// Not a URL that a browser may be sent to.
    #[error("{told}")]
    RedirectUrl {
        /// Which one, what is wrong with it, and its beginning.
        told: String,
    },
    /// One stands twice.
    #[error("the redirect URL {url} stands twice")]
    RedirectUrlTwice {
        /// Which.
        url: String,
    },
    /// Too many.
    #[error("{given} redirect URLs: a client has {MAX_REDIRECT_URLS} at most")]
    RedirectUrls {
        /// How many.
        given: usize,
    },
}

impl Default for TokenSettings {
    fn default() -> Self {
        let terms = TokenTerms { validity: Validity::DEFAULT, uses: None };
        Self { grant_types: GrantType::ALL.into(), access: terms, refresh: terms, redirect_urls: Vec::new() }
    }
}

impl TokenSettings {
    /// What one field alone cannot tell. `present` are the settings that these would replace.
    pub fn check(&self, present: &Self) -> Result<(), TokenSettingsFault> {
        let has = |grant| self.grant_types.contains(&grant);
        if has(GrantType::RefreshToken) && !has(GrantType::Password) && !has(GrantType::AuthorizationCode) {
            return Err(TokenSettingsFault::RefreshAlone);
        }
        // A new client has the grant without a URL, as in digiRunner, and cannot use it. That may
        // stay so while other fields are changed; nobody brings it about.
        if self.lacks_redirect_url() && !present.lacks_redirect_url() {
            return Err(TokenSettingsFault::NoRedirectUrl);
        }
        Ok(())
    }

    /// Whether it names `authorization_code` without anywhere to send the browser back to.
    fn lacks_redirect_url(&self) -> bool {
        self.grant_types.contains(&GrantType::AuthorizationCode) && self.redirect_urls.is_empty()
    }
}

impl GrantType {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] =
        [Self::ClientCredentials, Self::Password, Self::RefreshToken, Self::AuthorizationCode];

    /// As requests, the table and answers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Password => "password",
            Self::RefreshToken => "refresh_token",
            Self::AuthorizationCode => "authorization_code",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Result<Self, TokenSettingsFault> {
        Self::ALL
            .into_iter()
            .find(|grant| grant.as_str() == text)
            .ok_or_else(|| TokenSettingsFault::GrantType { given: text.into() })
    }
}

impl PartialSchema for GrantType {
    fn schema() -> RefOr<Schema> {
        schema::one_of(Self::ALL.map(Self::as_str)).into()
    }
}

impl ToSchema for GrantType {}

/// Why a grant is none of ours. Those named are digiRunner's.
fn reason(given: &str) -> &'static str {
    match given {
        "implicit" => {
            "it would hand tokens to whoever sees the browser's address line: use authorization_code"
        }
        "smsotp" | "group" => "no token endpoint takes it: use password or authorization_code",
        "public" => "a client without a password is public by itself, and one with a password never is",
        _ => "choose among client_credentials, password, refresh_token, authorization_code",
    }
}

impl TokenTerms {
    /// The terms of `token` (`access_token` or `refresh_token`) as they were entered: a validity of
    /// 0 is the default, 0 uses are unlimited.
    pub fn parse(
        token: &'static str,
        validity: u64,
        unit: Unit,
        uses: u64,
    ) -> Result<Self, TokenSettingsFault> {
        let validity = match validity {
            0 => Validity::DEFAULT,
            count => Validity::new(count, unit).ok_or(TokenSettingsFault::Validity { token })?,
        };
        let uses = u32::try_from(uses).ok().filter(|uses| *uses <= MAX_USES);
        Ok(Self { validity, uses: NonZeroU32::new(uses.ok_or(TokenSettingsFault::Uses { token })?) })
    }

    /// 0 = unlimited.
    pub fn uses_number(self) -> u32 {
        self.uses.map_or(0, NonZeroU32::get)
    }
}

impl Validity {
    /// Ten minutes.
    pub const DEFAULT: Self = Self { count: 10, unit: Unit::Minutes };

    /// 1 second to [`MAX_VALIDITY_S`].
    fn new(count: u64, unit: Unit) -> Option<Self> {
        let seconds = count.checked_mul(unit.seconds())?;
        let validity = Self { count: u32::try_from(count).ok()?, unit };
        (1..=MAX_VALIDITY_S).contains(&seconds).then_some(validity)
    }

    /// How many units.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Of what.
    pub fn unit(self) -> Unit {
        self.unit
    }

    /// In seconds.
    pub fn seconds(self) -> u64 {
        u64::from(self.count) * self.unit.seconds()
    }
}

impl Unit {
    const ALL: [Self; 4] = [Self::Seconds, Self::Minutes, Self::Hours, Self::Days];

    fn seconds(self) -> u64 {
        match self {
            Self::Seconds => 1,
            Self::Minutes => 60,
            Self::Hours => 3_600,
            Self::Days => 86_400,
        }
    }

    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
            Self::Days => "days",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == text)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn with(grants: &[GrantType], urls: &[&str]) -> TokenSettings {
        let urls: Vec<String> = urls.iter().map(|url| url.to_string()).collect();
        TokenSettings {
            grant_types: grants.iter().copied().collect(),
            redirect_urls: RedirectUrl::parse_all(&urls).expect("URLs"),
            ..TokenSettings::default()
        }
    }

    #[test]
    fn a_new_client_has_all_grants_ten_minutes_and_no_count() {
        let new = TokenSettings::default();
        assert_eq!(
            new.grant_types.iter().map(|grant| grant.as_str()).collect::<Vec<_>>(),
            ["client_credentials", "password", "refresh_token", "authorization_code"]
        );
        assert_eq!((new.access.validity.seconds(), new.access.uses), (600, None));
        assert_eq!(new.refresh, new.access);
        assert!(new.redirect_urls.is_empty());
        assert_eq!(new.check(&new), Ok(()));
    }

    #[test]
    fn grants_that_cannot_work_are_refused_when_they_are_brought_about() {
        use GrantType::{AuthorizationCode, ClientCredentials, Password, RefreshToken};
        const URL: &str = "https://app.example/callback";
        let (new, closed) = (TokenSettings::default(), with(&[], &[]));
        for (settings, present, expected) in [
            (with(&[], &[]), &new, Ok(())),
            (with(&[ClientCredentials], &[]), &new, Ok(())),
            (with(&[RefreshToken], &[]), &new, Err(TokenSettingsFault::RefreshAlone)),
            (with(&[RefreshToken, ClientCredentials], &[]), &new, Err(TokenSettingsFault::RefreshAlone)),
            (with(&[RefreshToken, Password], &[]), &new, Ok(())),
            (with(&[RefreshToken, AuthorizationCode], &[URL]), &new, Ok(())),
            (with(&[AuthorizationCode], &[]), &closed, Err(TokenSettingsFault::NoRedirectUrl)),
            (
                with(&[AuthorizationCode], &[]),
                &with(&[AuthorizationCode], &[URL]),
                Err(TokenSettingsFault::NoRedirectUrl),
            ),
            (with(&[AuthorizationCode], &[URL]), &closed, Ok(())),
            (with(&[AuthorizationCode, Password], &[]), &new, Ok(())),
        ] {
            assert_eq!(settings.check(present), expected, "{settings:?}");
        }
    }

    #[test]
    fn validities_and_counts_at_their_edges() {
        for (count, unit, seconds) in [
            (0, Unit::Days, Some(600)),
            (1, Unit::Seconds, Some(1)),
            (90, Unit::Minutes, Some(5_400)),
            (1, Unit::Hours, Some(3_600)),
            (1, Unit::Days, Some(86_400)),
            (3_650, Unit::Days, Some(MAX_VALIDITY_S)),
            (3_651, Unit::Days, None),
            (MAX_VALIDITY_S, Unit::Seconds, Some(MAX_VALIDITY_S)),
            (MAX_VALIDITY_S + 1, Unit::Seconds, None),
            (u64::MAX, Unit::Days, None),
        ] {
            let terms = TokenTerms::parse("access_token", count, unit, 0);
            assert_eq!(terms.ok().map(|terms| terms.validity.seconds()), seconds, "{count} {unit:?}");
        }
        for (uses, kept) in [
            (0, Some(None)),
            (1, Some(NonZeroU32::new(1))),
            (u64::from(MAX_USES), Some(NonZeroU32::new(MAX_USES))),
            (u64::from(MAX_USES) + 1, None),
        ] {
            let terms = TokenTerms::parse("access_token", 1, Unit::Days, uses);
            assert_eq!(terms.ok().map(|terms| terms.uses), kept, "{uses}");
        }
    }

    #[test]
    fn other_grants_are_refused_by_name_with_the_reason() {
        for given in ["implicit", "smsotp", "group", "public", "", "Password"] {
            let told = GrantType::parse(given).expect_err(given).to_string();
            assert!(told.starts_with(&format!("Grant Type of unknown type: [{given}]")), "{told}");
        }
        for grant in GrantType::ALL {
            assert_eq!(GrantType::parse(grant.as_str()), Ok(grant));
        }
    }
}
