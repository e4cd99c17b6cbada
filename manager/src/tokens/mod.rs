//! Tokens: what a client application obtains by its password and presents instead of it. Signed here,
//! on record here, enforced by every gateway.

pub mod keys;

use std::time::Duration;

pub use keys::routes;

use crate::jobs::Jobs;

/// What the calls of one process share. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    keys: keys::Cache,
}

/// The worker that makes the first key, so that gateways have it before it signs anything.
pub fn start_jobs(jobs: &mut Jobs) {
    jobs.every("tokens.keys", Duration::from_secs(60), |app| async move { Ok(keys::ensure(&app).await?) });
}
