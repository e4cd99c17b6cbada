//! Why an action on the catalogue was refused.

use gate::id::ApiUid;

use super::apis::Rival;
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
    /// Another API answers at the same place.
    #[error(
        "{title} would answer at the same place as {} ({}): {}{} with the same path; change host, method or path of one of them",
        rival.title, rival.uid, if rival.method.is_empty() { "every method" } else { &rival.method },
        if rival.host.is_empty() { String::new() } else { format!(" at {}", rival.host) }
    )]
    SamePlace {
        /// The API that was to be saved, `module/id`.
        title: String,
        /// The one that is there.
        rival: Rival,
    },
    /// The group's name or alias is taken.
    #[error("{}: {field} {value:?} is taken", if *field == "name" { "Group code exists" } else { "Group name exists" })]
    GroupExists {
        /// `name` or `alias`.
        field: &'static str,
        /// The value.
        value: String,
    },
    /// The group lists an API that does not exist.
    #[error("API not found: {uid}")]
    UnknownApi {
        /// Which.
        uid: ApiUid,
    },
    /// A client has the group.
    #[error("the group is given to clients: take it from them first")]
    GroupInUse,
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
