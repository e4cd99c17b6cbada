//! Why an action on operators was refused.

use super::permission::{Permission, names};
use super::tokens::MAX_API_TOKENS;
use crate::db::DbError;

/// Why an action was refused.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The name is taken.
    #[error("an operator named {name} exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A field cannot be taken.
    #[error("{field} {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is expected.
        reason: String,
    },
    /// The password and its repetition differ.
    #[error("The password does not match the reconfirmed password: type the same one twice")]
    Unconfirmed,
    /// The role does not exist.
    #[error("role {role} does not exist; roles are listed at /api/v1/roles")]
    UnknownRole {
        /// Which.
        role: String,
    },
    /// No such operator, role, token or session.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// It is worth more than the one who acts holds.
    #[error(
        "{what} goes beyond your own permissions: this needs {} too; nobody grants or manages more than they hold",
        names(lacking)
    )]
    Exceeds {
        /// A role, an operator or a token.
        what: String,
        /// What the one who acts does not hold.
        lacking: Vec<Permission>,
    },
    /// Name and password do not belong together, or the account is locked: strangers are not told.
    #[error("{}", wrong_password(*limit))]
    WrongPassword {
        /// Wrong ones that lock the account; 0 = none do.
        limit: i64,
    },
    /// Too many wrong passwords.
    #[error(
        "the account is locked after {limit} wrong passwords: an operator with operators.manage unlocks it"
    )]
    Locked {
        /// How many.
        limit: i64,
    },
    /// The account is switched off.
    #[error("the account is disabled: an operator with operators.manage enables it")]
    Disabled,
    /// Nobody would be left who manages operators.
    #[error("this is the last active operator with operators.manage: give it to another one first")]
    LastManager,
    /// Operators have the role.
    #[error("role {role} is held by {}: take it from them first", some_of(holders))]
    RoleHeld {
        /// Which.
        role: String,
        /// Their names.
        holders: Vec<String>,
    },
    /// Changed meanwhile.
    #[error("version {expected} was named, {present} is present")]
    Version {
        /// By the caller.
        expected: i64,
        /// In the database.
        present: i64,
    },
    /// Too many API tokens.
    #[error("the operator has {MAX_API_TOKENS} live API tokens: revoke one first")]
    TooManyTokens,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

fn wrong_password(limit: i64) -> String {
    let wrong = "operator or password is wrong";
    if limit > 0 {
        format!(
            "{wrong}, or the account is locked: after {limit} wrong passwords in a row it takes none until an operator \
             with operators.manage unlocks it"
        )
    } else {
        wrong.into()
    }
}

/// The first few names, and how many more there are.
fn some_of(names: &[String]) -> String {
    const TOLD: usize = 5;
    let told = names.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}
