//! Groups and scopes, and the rules of their fields.

use gate::id::{ApiUid, GroupId};
use gate::time::UnixMillis;

use crate::catalog::SecurityLevel;
use crate::openapi::schema::schema_of;

/// Characters of a group's name and alias at most.
pub const MAX_GROUP_NAME: usize = 50;
/// APIs of one group at most.
pub const MAX_GROUP_APIS: usize = 2_000;

/// The name of a group or a scope.
pub enum GroupName {}
/// What people call a group or a scope.
pub enum GroupAlias {}
/// The uids of the APIs of a group or a scope.
pub enum GroupApis {}

schema_of! { GroupName: text_of("A-Za-z0-9_-", 1, MAX_GROUP_NAME) }
schema_of! { GroupAlias: lines(MAX_GROUP_NAME) }
schema_of! { GroupApis: list::<String>(0, MAX_GROUP_APIS) }

/// A set of APIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `gr_…` or `sc_…`
    pub id: GroupId,
    /// What it is for.
    pub kind: GroupKind,
    /// Letters, digits, `_` and `-`; unique over groups and scopes.
    pub name: String,
    /// For people; unique over groups and scopes.
    pub alias: String,
    /// For people.
    pub description: String,
    /// Which clients may be given it.
    pub security_level: SecurityLevel,
    /// Its APIs, in order of their uids.
    pub apis: Vec<ApiUid>,
    /// When.
    pub created_at: UnixMillis,
    /// When.
    pub updated_at: UnixMillis,
    /// For `If-Match`.
    pub version: i64,
}

/// Two kinds of sets that differ in whom they are for, and in nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Given to clients, and to their X-Api-Keys and tokens.
    Group,
    /// A virtual group: what a user may delegate to a client. Reaches tokens that a user consented
    /// to and nothing else.
    Scope,
}

/// What other capabilities ask of a group or a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Which clients may be given it.
    pub security_level: SecurityLevel,
}

/// Somebody who has been given a group or a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A client.
    Client {
        /// Its id.
        id: String,
    },
    /// An X-Api-Key.
    XApiKey {
        /// Its id.
        id: String,
        /// Its name.
        alias: String,
        /// Whose.
        client: String,
    },
}

impl GroupKind {
    /// As stored, and as people say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Scope => "scope",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Group, Self::Scope].into_iter().find(|kind| kind.as_str() == text)
    }

    /// What ids begin with.
    pub fn id_prefix(self) -> &'static str {
        match self {
            Self::Group => "gr",
            Self::Scope => "sc",
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client { id } => write!(f, "client {id}"),
            Self::XApiKey { id, alias, client } => write!(f, "X-Api-Key {id} ({alias:?} of client {client})"),
        }
    }
}

/// Names the first holders, and says how many more there are.
pub fn name_holders(holders: &[Holder]) -> String {
    const NAMED: usize = 20;
    let mut text: Vec<String> = holders.iter().take(NAMED).map(ToString::to_string).collect();
    if let Some(more) = holders.len().checked_sub(NAMED).filter(|more| *more > 0) {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

/// Checks the name of a group or a scope.
pub fn parse_group_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if text.is_empty() || text.len() > MAX_GROUP_NAME || !text.bytes().all(fits) {
        return Err(format!("must be 1 to {MAX_GROUP_NAME} characters of a-z, A-Z, 0-9, `_` and `-`"));
    }
    Ok(text.into())
}
