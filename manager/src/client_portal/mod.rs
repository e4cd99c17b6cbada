//! What a client does for itself, below `/client/v1`: it signs in with its id and password
//! ([`sessions`]), looks at the APIs that its audience permits, files forms and follows them, and
//! sees its keys, what is left of its quotas, and what happened. The other capabilities do the
//! work; here is decided what of it a client sees, which is its own alone: what belongs to another
//! client is answered as what nobody has.

mod http;
pub mod sessions;
#[cfg(test)]
mod tests;

pub use http::routes;

use crate::jobs::Jobs;

/// What the portal does by itself.
pub fn start_jobs(jobs: &mut Jobs) {
    sessions::start_jobs(jobs);
}
