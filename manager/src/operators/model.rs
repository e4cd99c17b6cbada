//! Operators, roles, permissions, tokens.

use std::collections::BTreeSet;

use gate::time::UnixMillis;
use serde::Serialize;
use utoipa::ToSchema;

use crate::openapi::schema::schema_of;

/// Characters of an operator's or a role's name at most.
pub const MAX_NAME: usize = 50;
/// Characters of a display name at most.
pub const MAX_DISPLAY_NAME: usize = 100;
/// Characters of an e-mail address at most (RFC 5321: 64 + @ + 255, less in practice).
pub const MAX_EMAIL: usize = 254;
/// Roles of one operator at most.
pub const MAX_ROLES: usize = 32;
/// Live API tokens of one operator at most.
pub const MAX_API_TOKENS: i64 = 20;

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

macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// What an action asks for. A role lists permissions by their text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Permission {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Permission {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its text.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

permissions! {
    /// See operators and roles.
    OperatorsRead = "operators.read",
    /// Create and change operators and roles, issue their tokens.
    OperatorsManage = "operators.manage",
    /// See APIs and groups.
    CatalogRead = "catalog.read",
    /// Change APIs and groups.
    CatalogWrite = "catalog.write",
    /// See clients.
    ClientsRead = "clients.read",
    /// Change clients.
    ClientsWrite = "clients.write",
    /// See keys, without secrets.
    KeysRead = "keys.read",
    /// Create, change, revoke keys and X-Api-Keys.
    KeysWrite = "keys.write",
    /// Have issued credentials sent again.
    KeysResend = "keys.resend",
    /// Fill in and submit forms, see one's own.
    ApplicationsApply = "applications.apply",
    /// See all forms.
    ApplicationsRead = "applications.read",
    /// Approve, return, reject forms (with the role of the level).
    ApplicationsReview = "applications.review",
    /// Change the approval flow.
    ApprovalsConfigure = "approvals.configure",
    /// See the mail log.
    MailRead = "mail.read",
    /// Send mails again.
    MailWrite = "mail.write",
    /// See meters.
    QuotasRead = "quotas.read",
    /// Reset meters.
    QuotasWrite = "quotas.write",
    /// See gateways.
    GatewaysRead = "gateways.read",
    /// Register gateways, issue and revoke their tokens.
    GatewaysWrite = "gateways.write",
    /// See usage.
    UsageRead = "usage.read",
    /// Read the audit trail.
    AuditRead = "audit.read",
}

schema_of! { Permission: one_of(Permission::ALL.iter().map(|permission| permission.as_str())) }

impl Permission {
    /// The permission of that text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == text)
    }

    /// What a role's stored text permits; `*` is everything. None: an unknown name.
    pub fn parse_set(text: &str) -> Option<BTreeSet<Self>> {
        let mut set = BTreeSet::new();
        for name in text.split_ascii_whitespace() {
            match name {
                "*" => set.extend(Self::ALL),
                name => {
                    set.insert(Self::parse(name)?);
                }
            }
        }
        Some(set)
    }
}

/// An authenticated operator, as every handler takes it.
#[derive(Clone, Debug)]
pub struct Actor {
    /// `op_…`
    pub operator: String,
    /// The name signed in with.
    pub name: String,
    /// For people.
    pub display_name: String,
    /// Where mails go.
    pub email: Option<String>,
    /// Role names, sorted.
    pub roles: Vec<String>,
    /// What the roles permit together.
    pub permissions: BTreeSet<Permission>,
    /// The token presented, `ot_…`.
    pub token: String,
}

impl Actor {
    /// How the audit trail names it.
    pub fn audit_name(&self) -> String {
        format!("operator:{}", self.operator)
    }

    /// Whether its roles permit it.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Whether it has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

/// What kind of Bearer token an operator presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// From a sign-in, runs out.
    Session,
    /// Made for a program, runs until revoked.
    Api,
}

impl TokenKind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Api => "api",
        }
    }

    /// What the token's text begins with, so that a found one is recognised.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Session => "kgs",
            Self::Api => "kgt",
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn permissions_read_back_and_unknown_ones_do_not() {
        for permission in Permission::ALL {
            assert_eq!(Permission::parse(permission.as_str()), Some(*permission));
        }
        assert_eq!(Permission::parse_set("*").map(|set| set.len()), Some(Permission::ALL.len()));
        assert_eq!(Permission::parse_set("catalog.read nonsense"), None);
    }

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
