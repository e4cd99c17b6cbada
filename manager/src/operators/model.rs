//! Accounts, their names and states.

use std::collections::BTreeSet;

use gate::time::UnixMillis;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::permission::Permission;
use crate::openapi::schema::schema_of;

/// Characters of an operator's or a role's name at most.
pub const MAX_NAME: usize = 50;
/// Characters of a display name at most.
pub const MAX_DISPLAY_NAME: usize = 100;
/// Characters of an e-mail address at most (RFC 5321: 64 + @ + 255, less in practice).
pub const MAX_EMAIL: usize = 254;
/// Roles of one operator at most.
pub const MAX_ROLES: usize = 32;

/// A name for people, without blanks around it. The error says what is expected.
pub fn display_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > MAX_DISPLAY_NAME || name.chars().any(char::is_control) {
        return Err(format!("must be 1 to {MAX_DISPLAY_NAME} characters without control characters"));
    }
    Ok(name.to_owned())
}

/// An operator as stored.
#[derive(Clone, Debug)]
pub struct Operator {
    /// `op_…`
    pub id: String,
    /// What is typed to sign in.
    pub name: OperatorName,
    /// For people.
    pub display_name: String,
    /// Where mails go.
    pub email: Option<Email>,
    /// Whether a sign-in is possible.
    pub status: OperatorStatus,
    /// Its password was set by somebody else: it serves only to set an own one.
    pub must_change_password: bool,
    /// Wrong passwords since the last right one.
    pub failed_attempts: i64,
    /// Role names, sorted.
    pub roles: Vec<RoleName>,
    /// When.
    pub created_at: UnixMillis,
    /// When.
    pub updated_at: UnixMillis,
    /// For `If-Match`.
    pub version: i64,
}

/// An active operator with all that its roles are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveOperator {
    /// `op_…`
    pub id: String,
    /// What is typed to sign in.
    pub name: String,
    /// For people.
    pub display_name: String,
    /// Where mails go.
    pub email: Option<String>,
    /// Active without a break since then.
    pub active_since: UnixMillis,
    /// Names of roles.
    pub roles: BTreeSet<String>,
    /// What the roles permit together.
    pub permissions: BTreeSet<Permission>,
}

impl Operator {
    /// As the audit trail tells it, before and after.
    pub(super) fn view(&self) -> Value {
        json!({
            "name": self.name,
            "display_name": self.display_name,
            "email": self.email,
            "status": self.status,
            "must_change_password": self.must_change_password,
            "failed_attempts": self.failed_attempts,
            "roles": self.roles,
            "version": self.version,
        })
    }
}

/// State of an operator's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperatorStatus {
    /// May sign in.
    Active,
    /// Neither signs in nor uses tokens.
    Disabled,
}

impl OperatorStatus {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "active" => Some(Self::Active),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $chars:literal, $class:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// Checks and folds to lower case. The error says what is expected.
            pub fn parse(text: &str) -> Result<Self, String> {
                let allowed: fn(u8) -> bool = $allowed;
                if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(allowed) {
                    return Err(format!(concat!("must be 1 to {} characters of ", $chars), MAX_NAME));
                }
                Ok(Self(text.to_ascii_lowercase()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        schema_of! { $type: text_of($class, 1, MAX_NAME) }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// What an operator signs in with: letters of both cases are the same.
    OperatorName, "a-z, 0-9, `.`, `_`, `-` and `@`", "A-Za-z0-9._@-", |b| b.is_ascii_alphanumeric() || b"._-@".contains(&b)
}
name! {
    /// The name of a role.
    RoleName, "a-z, 0-9, `_` and `-`", "A-Za-z0-9_-", |b| b.is_ascii_alphanumeric() || b"_-".contains(&b)
}

/// An address that a mail can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// Checks the form with the mail library that will send to it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > MAX_EMAIL {
            return Err(format!("must be {MAX_EMAIL} characters at most"));
        }
        text.parse::<lettre::Address>()
            .map_err(|_| format!("{text:?} is no e-mail address, e.g. name@example.com"))?;
        Ok(Self(text.to_string()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

schema_of! { Email: email(MAX_EMAIL) }

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn names_and_addresses_at_their_edges() {
        for (text, fits) in [("a", true), ("Ann.B@x", true), ("", false), ("a b", false), ("ä", false)] {
            assert_eq!(OperatorName::parse(text).is_ok(), fits, "{text}");
        }
        assert!(OperatorName::parse(&"a".repeat(MAX_NAME)).is_ok());
        assert!(OperatorName::parse(&"a".repeat(MAX_NAME + 1)).is_err());
        for (text, fits) in [("a@b.example", true), ("a", false), ("a@", false), ("a@b\r\nBcc: c@d", false)] {
            assert_eq!(Email::parse(text).is_ok(), fits, "{text}");
        }
    }
}
