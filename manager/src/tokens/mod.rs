//! Tokens: what a client application obtains by its password and presents instead of it. Signed here,
//! on record here, enforced by every gateway.

mod actions;
mod call;
mod commit;
mod consents;
mod discovery;
mod endings;
mod endpoints;
mod http;
mod identity;
mod inspection;
pub mod keys;
mod model;
mod operators_http;
mod owners;
mod presented;
mod refresh;
mod refusal;
mod retention;
mod revocation;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

#[cfg(test)]
pub use actions::issue_to_owner;
pub use http::routes;
pub use inspection::remaining_uses;
pub use model::{Account, Ending, Owner, Token, is_token};
pub use operators_http::Place;
pub use refresh::RefreshToken;
pub use retention::executors;
pub use revocation::revoke_own;
pub use store::{by_id, by_sha256, count_live_of, live_of_client};

use crate::jobs::Jobs;

/// What the calls of one process share. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    keys: keys::Cache,
    committer: commit::Committer,
}

/// The worker that makes the first key, so that gateways have it before it signs anything, and takes old ones
/// away.
pub fn start_jobs(jobs: &mut Jobs) {
    jobs.every("tokens.keys", Duration::from_secs(60), |app| async move { Ok(keys::tend(&app).await?) });
}
