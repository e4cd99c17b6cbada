//! Sessions of clients: from a sign-in with id and password to its end. A session ends with the
//! password that opened it, and with anything that keeps its client out: each call asks anew.
//! Too many wrong passwords close sign-in alone, as they do other uses of the password, since
//! whoever knows a client's id can bring them about.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use http::identify;
pub(super) use http::routes;
pub use model::SignedIn;

use crate::jobs::Jobs;

/// Sessions that ran out are forgotten, looked for once an hour.
pub(super) fn start_jobs(jobs: &mut Jobs) {
    jobs.every("client_portal.forget_sessions", std::time::Duration::from_secs(3_600), |app| async move {
        Ok(actions::forget_ended(&app).await?)
    });
}
