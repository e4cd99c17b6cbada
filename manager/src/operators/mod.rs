//! Operators: the people who administer, apply and review. They have [`roles`], roles have
//! permissions, and every action asks for one. An operator signs in with a password for a session
//! ([`sessions`]), or presents an API token ([`tokens`]). Nobody grants or manages more than they
//! hold themselves ([`By`]).
//!
//! An account is never deleted, since the audit trail and the forms name it: it is disabled.

mod actions;
mod actor;
pub mod cli;
mod error;
mod http;
mod mails;
mod model;
mod permission;
mod roles;
mod sessions;
mod store;
#[cfg(test)]
mod tests;
mod tokens;

pub use actions::{NewOperator, active, create, display_names, ensure_first, find, id_of, names, with_role};
pub use actor::{Actor, By, Presented};
pub use error::OperatorError;
pub use http::routes;
pub use mails::recipient;
pub use model::{
    ActiveOperator, Email, MAX_DISPLAY_NAME, Operator, OperatorName, OperatorStatus, RoleName, display_name,
};
pub use permission::Permission;
pub use roles::{delete_role, role_names};
pub use sessions::identify;
pub use tokens::{IssuedToken, NewToken, TokenKind, Uses, issue_api_token};

use crate::schedule::{Executors, NIGHTLY};

/// Sessions and API tokens that ran out or were revoked are forgotten.
pub fn executors(executors: &mut Executors) {
    executors.recurring("operators.forget_tokens", NIGHTLY, |app, conn, task| {
        Box::pin(tokens::forget_ended(conn, task, app.now()))
    });
}
