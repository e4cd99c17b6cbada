//! How the background jobs of every replica fare: each tells of its own, so that any of them can
//! tell of all.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(super) use http::routes;

use crate::jobs::Jobs;

/// How often a replica tells of its jobs.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Tells of this replica's jobs.
pub(super) fn start_jobs(jobs: &mut Jobs) {
    jobs.every("schedule.report_jobs", REPORT_EVERY, |app| async move { Ok(actions::report(&app).await?) });
}
