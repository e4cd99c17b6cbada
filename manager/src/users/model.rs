//! Accounts of users, their names and states.

use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::openapi::schema::schema_of;
use crate::operators::Email;

/// Characters of a user's name at most.
pub const MAX_NAME: usize = 100;
/// Characters of an organisation's id at most: digiRunner's column.
pub const MAX_ORG_ID: usize = 255;

/// A user as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `us_…`
    pub id: String,
    /// What is typed to sign in.
    pub name: UserName,
    /// For people.
    pub display_name: String,
    /// Where the user is written to.
    pub email: Option<Email>,
    /// The organisation, as tokens tell it.
    pub org_id: Option<OrgId>,
    /// At an OpenID provider: its issuer, and its name for the user.
    pub identity: Option<(String, String)>,
    /// Set by an operator.
    pub status: UserStatus,
    /// Whether there is a password.
    pub has_password: bool,
    /// Wrong passwords since the last right one.
    pub failed_attempts: i64,
    /// When.
    pub created_at: UnixMillis,
    /// When.
    pub updated_at: UnixMillis,
    /// For `If-Match`.
    pub version: i64,
    /// Of the tokens that serve: those of another one have ended.
    pub token_epoch: i64,
}

impl User {
    /// As the audit trail tells it, before and after.
    pub(super) fn view(&self) -> Value {
        json!({
            "name": self.name,
            "display_name": self.display_name,
            "email": self.email,
            "org_id": self.org_id,
            "issuer": self.identity.as_ref().map(|(issuer, _)| issuer),
            "subject": self.identity.as_ref().map(|(_, subject)| subject),
            "status": self.status,
            "failed_attempts": self.failed_attempts,
            "version": self.version,
        })
    }

    /// Whether so many wrong passwords (0 = any number) leave its password without effect.
    pub fn password_locked(&self, allowed: u32) -> bool {
        allowed > 0 && self.failed_attempts >= i64::from(allowed)
    }

    /// What a search looks in.
    pub(super) fn search(&self) -> String {
        let email = self.email.as_ref().map(Email::as_str).unwrap_or_default();
        format!("{}\n{}\n{email}", self.name, self.display_name).to_lowercase()
    }
}

/// State of a user's account. Each but `active` stops everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// May sign in.
    Active,
    /// Switched off.
    Disabled,
    /// Locked by an operator, as digiRunner tells apart.
    Locked,
}

impl UserStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Disabled, Self::Locked];

    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What a user signs in with: letters of both cases are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct UserName(String);

impl UserName {
    /// Checks and folds to lower case. The error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(allowed) {
            return Err(format!(
                "must be 1 to {MAX_NAME} characters of a-z, 0-9, `.`, `_`, `-`, `+` and `@`"
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for UserName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

schema_of! { UserName: text_of("A-Za-z0-9._@+-", 1, MAX_NAME) }

/// The organisation of a user, as tokens tell it to upstreams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OrgId(String);

impl OrgId {
    /// Checks it. The error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_ORG_ID || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("must be 1 to {MAX_ORG_ID} visible ASCII characters without blanks"));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

schema_of! { OrgId: text_of("!-~", 1, MAX_ORG_ID) }

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn names_and_organisations_at_their_edges() {
        for (text, fits) in
            [("a", true), ("Ann.B+x@y-z_1", true), ("", false), ("a b", false), ("ä", false), ("a/b", false)]
        {
            assert_eq!(UserName::parse(text).is_ok(), fits, "{text}");
        }
        assert_eq!(UserName::parse("ANN").expect("a name").as_str(), "ann");
        assert!(UserName::parse(&"a".repeat(MAX_NAME)).is_ok());
        assert!(UserName::parse(&"a".repeat(MAX_NAME + 1)).is_err());
        for (text, fits) in [("100000", true), ("", false), ("a b", false), ("é", false)] {
            assert_eq!(OrgId::parse(text).is_ok(), fits, "{text}");
        }
        assert!(OrgId::parse(&"a".repeat(MAX_ORG_ID)).is_ok());
        assert!(OrgId::parse(&"a".repeat(MAX_ORG_ID + 1)).is_err());
    }

    #[test]
    fn so_many_wrong_passwords_lock_and_zero_never_does() {
        let user = |failed_attempts| User {
            id: "us_1".into(),
            name: UserName::parse("ann").expect("a name"),
            display_name: "Ann".into(),
            email: None,
            org_id: None,
            identity: None,
            status: UserStatus::Active,
            has_password: true,
            failed_attempts,
            created_at: UnixMillis(0),
            updated_at: UnixMillis(0),
            version: 1,
            token_epoch: 0,
        };
        for (failed, allowed, locked) in [(2, 3, false), (3, 3, true), (4, 3, true), (99, 0, false)] {
            assert_eq!(user(failed).password_locked(allowed), locked, "{failed} of {allowed}");
        }
    }
}
