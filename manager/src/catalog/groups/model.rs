//! Groups and the rules of their fields.

use gate::id::{ApiUid, GroupId};
use gate::time::UnixMillis;

use crate::catalog::SecurityLevel;

/// Characters of a group's name and alias at most.
pub const MAX_GROUP_NAME: usize = 50;
/// APIs of one group at most.
pub const MAX_GROUP_APIS: usize = 2_000;

/// A set of APIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `gr_…`
    pub id: GroupId,
    /// Letters, digits, `_` and `-`; unique.
    pub name: String,
    /// For people; unique.
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

/// What other capabilities ask of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Which clients may be given it.
    pub security_level: SecurityLevel,
}

/// Checks a group's name.
pub fn parse_group_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if text.is_empty() || text.len() > MAX_GROUP_NAME || !text.bytes().all(fits) {
        return Err(format!("must be 1 to {MAX_GROUP_NAME} characters of a-z, A-Z, 0-9, `_` and `-`"));
    }
    Ok(text.into())
}
