//! Clients: who calls. An application or partner with its identity, state, dates, addresses,
//! quota, rate, priority and groups. Whatever of these a gateway holds is changed there within
//! a second.

mod actions;
pub mod hosts;
mod http;
mod model;
pub mod service_time;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{ClientError, PasswordCheck, check_password};
pub use http::routes;
pub use model::{Binding, Client, ClientName};
pub use store::{by_id, groups_of};

use crate::jobs::Jobs;

/// The worker that resolves host names.
pub fn start_jobs(jobs: &mut Jobs) {
    hosts::start_jobs(jobs);
}
