//! Why an action on the catalogue was refused.

use gate::id::ApiUid;

use super::apis::{Clash, ClashKind};
use super::groups::{GroupKind, Holder, name_holders};
use crate::db::DbError;

/// Why an action on the catalogue was refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A field cannot be taken.
    #[error("{field} {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An API of that module and id exists.
    #[error("API {title} exists: choose another id, or change that one")]
    ApiExists {
        /// `module/id`
        title: String,
    },
    /// Keys list the API, and would lose it or be left with none.
    #[error("{title} is listed by keys that are not revoked: {}; change or revoke them first", some_of(keys))]
    ApiInUse {
        /// `module/id`
        title: String,
        /// Which, for people.
        keys: Vec<String>,
    },
    /// It could not be told from another API.
    #[error("{}", describe_clash(title, clash))]
    Clash {
        /// The API that was to be saved, `module/id`.
        title: String,
        /// The one that is there.
        clash: Box<Clash>,
    },
    /// The name or alias of a group or scope is taken.
    #[error("{}: {field} {value:?} is taken by a group or scope; choose another one", match (kind, *field) {
        (GroupKind::Group, "name") => "Group code exists",
        (GroupKind::Group, _) => "Group name exists",
        (GroupKind::Scope, "name") => "Scope code exists",
        (GroupKind::Scope, _) => "Scope name exists",
    })]
    GroupExists {
        /// Which of them was to be saved.
        kind: GroupKind,
        /// `name` or `alias`.
        field: &'static str,
        /// The value.
        value: String,
    },
    /// APIs are named that do not exist.
    #[error("API not found: {}", list(uids))]
    UnknownApis {
        /// Where they are named.
        field: &'static str,
        /// Which.
        uids: Vec<ApiUid>,
    },
    /// Somebody has been given the group or scope.
    #[error("{} {name} is given to {}: take it from them first", kind.as_str(), match name_holders(holders) {
        none if none.is_empty() => "a client since this moment".into(),
        names => names,
    })]
    GroupInUse {
        /// Which of them.
        kind: GroupKind,
        /// Its name.
        name: String,
        /// To whom.
        holders: Vec<Holder>,
    },
    /// No such API or group.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// Changed meanwhile.
    #[error("version {expected} was named, {present} is present")]
    Version {
        /// By the caller.
        expected: i64,
        /// In the database.
        present: i64,
    },
    /// What is stored is nothing that gates could hold.
    #[error("{reason}")]
    Unusable {
        /// Why.
        reason: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

pub(super) fn invalid(field: &'static str) -> impl Fn(String) -> CatalogError {
    move |reason| CatalogError::Invalid { field, reason }
}

pub(super) fn require_version(expected: Option<i64>, present: i64) -> Result<(), CatalogError> {
    match expected {
        Some(expected) if expected != present => Err(CatalogError::Version { expected, present }),
        Some(_) | None => Ok(()),
    }
}

fn describe_clash(title: &str, clash: &Clash) -> String {
    let Clash { rival, rival_title, host, method, kind } = clash;
    let method = if method.is_empty() { "every method" } else { method };
    let host = if host.is_empty() { String::new() } else { format!(" at {host}") };
    match kind {
        ClashKind::SamePlace => format!(
            "{title} would answer at the same place as {rival_title} ({rival}): {method}{host} with the same path; \
             change host, method or path of one of them"
        ),
        ClashKind::Ambiguous { path } => format!(
            "the paths of {title} and {rival_title} ({rival}) both fit {path} ({method}{host}), and each is the more \
             specific one in some segment, so that nobody could say which is meant; change one of the paths, or tell \
             them apart by host or method"
        ),
    }
}

/// A few of many, and how many more there are.
fn some_of(names: &[String]) -> String {
    const MAX_NAMED: usize = 5;
    let some = names.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}

fn list(uids: &[ApiUid]) -> String {
    uids.iter().map(ApiUid::as_str).collect::<Vec<_>>().join(", ")
}
