//! One-time links to credentials (`credential_delivery = "link"`): the mail holds a link in place
//! of the secret, and the page behind it shows it once: a key pair, an X-Api-Key or a password.
//!
//! The code stands in the fragment of the link, which browsers send to nobody: it is in no log and
//! no referrer. Opening the page shows a button; only its POST reveals, because scanners of mails
//! follow links. What is shown is sealed until then, and erased by the first reveal, at its expiry,
//! and when what it shows has ended. Each attempt is audited.

mod actions;
mod http;
mod model;
mod page;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{Handover, hand_over, withdraw, withdraw_of_secret};
pub use http::routes;
pub use model::{Credentials, Secret};
pub use page::PageLanguage;

use crate::schedule::{Every, Executors};

/// House-keeping: what was not opened in time is erased, what ended long ago is forgotten.
pub fn executors(executors: &mut Executors) {
    executors.recurring("credential_links.forget", Every::Hour, |app, conn, task| {
        Box::pin(actions::forget(app, conn, task))
    });
}
