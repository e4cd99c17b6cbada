//! Operators: the people who administer, apply and review. They have roles, roles have
//! permissions, and every action asks for one. An operator signs in with a password for a
//! session, or presents an API token.

mod actions;
pub mod cli;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{
    NewOperator, OperatorError, create, ensure_first, find, id_of, issue_api_token, names, role_names,
    with_role,
};
pub use http::{identify, routes};
pub use model::{Actor, Email, Operator, OperatorName, OperatorStatus, Permission, RoleName};

/// Sessions that ran out are forgotten once an hour.
pub fn start_jobs(jobs: &mut crate::jobs::Jobs) {
    jobs.every("operators.forget_sessions", std::time::Duration::from_secs(3_600), |app| async move {
        Ok(actions::forget_expired_sessions(&app).await?)
    });
}
