//! What a client does for itself, below `/client/v1`: it signs in with its id and password
//! ([`sessions`]), looks at the APIs that its audience permits, files forms and follows them, and
//! sees its keys, what is left of its quotas, and what happened. The other capabilities do the
//! work; here is decided what of it a client sees, which is its own alone: what belongs to another
//! client is answered as what nobody has.

mod http;
pub mod registrations;
pub mod sessions;
#[cfg(test)]
mod tests;

pub use http::routes;

use crate::schedule::{Every, Executors};

/// House-keeping.
pub fn executors(executors: &mut Executors) {
    executors.recurring("client_portal.forget_sessions", Every::Hour, |app, conn, task| {
        Box::pin(sessions::forget_ended(conn, task, app.now()))
    });
    executors.recurring("client_portal.forget_registrations", Every::Hour, |app, conn, task| {
        Box::pin(registrations::forget(conn, task, app.now()))
    });
}
