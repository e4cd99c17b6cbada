//! Clients are told when a part of a quota is used: by mail and an entry of the audit trail, once per
//! window and part, whichever replica sees it.
//!
//! What is used is what the ledger knows: units that are handed out, without those that gateways hold
//! and have not spent as far as they told. So nobody is told of 100 % while calls are still let in; a
//! gateway's last lease is told of when it comes back, after seconds.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use http::routes;

use crate::jobs::Jobs;

/// How often a replica looks. A mail that comes some seconds later tells as much, and each look reads every
/// meter that is watched.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks at what is nearly used up.
pub fn start_jobs(jobs: &mut Jobs) {
    jobs.every("quota_warnings", LOOK_EVERY, |app| async move { actions::look(&app).await });
}
