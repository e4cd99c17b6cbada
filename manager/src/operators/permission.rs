//! Permissions: what an action asks for and a role lists.

use std::collections::BTreeSet;

use crate::openapi::schema::schema_of;

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
    /// Give withheld units to others, which raises a limit.
    QuotasReclaim = "quotas.reclaim",
    /// See gateways.
    GatewaysRead = "gateways.read",
    /// Register gateways, issue and revoke their tokens.
    GatewaysWrite = "gateways.write",
    /// See usage.
    UsageRead = "usage.read",
    /// See why requests were refused, and ask what would be decided.
    DecisionsRead = "decisions.read",
    /// See tokens, without their text, and the keys that sign them.
    TokensRead = "tokens.read",
    /// Revoke tokens, rotate the key that signs them.
    TokensWrite = "tokens.write",
    /// See users, on whose behalf clients obtain tokens.
    UsersRead = "users.read",
    /// Create and change users, set their passwords.
    UsersWrite = "users.write",
    /// See scheduled work.
    TasksRead = "tasks.read",
    /// Have scheduled work tried again, cancel it.
    TasksWrite = "tasks.write",
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

    /// What [`Self::parse_set`] reads.
    pub fn text_of(set: &BTreeSet<Self>) -> String {
        set.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// Permissions as they are told: `a, b`.
pub(super) fn names<'a>(permissions: impl IntoIterator<Item = &'a Permission>) -> String {
    permissions.into_iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_back_and_unknown_ones_do_not() {
        for permission in Permission::ALL {
            assert_eq!(Permission::parse(permission.as_str()), Some(*permission));
        }
        assert_eq!(Permission::parse_set("*").map(|set| set.len()), Some(Permission::ALL.len()));
        let two = Permission::parse_set("keys.read catalog.read").expect("known ones");
        assert_eq!(Permission::text_of(&two), "catalog.read keys.read");
        assert_eq!(Permission::parse_set("catalog.read nonsense"), None);
    }
}
