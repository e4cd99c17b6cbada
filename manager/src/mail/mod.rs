//! Mails: an outbox that a business action writes into within its own transaction, a worker that
//! sends, and the log of what became of each mail.
//!
//! A row holds the template's name and the sealed context, which are erased once a server has
//! accepted the mail or it was given up or withdrawn; the log keeps subject and text with secrets masked.
//! This capability knows no other one.

mod actions;
pub mod cli;
pub mod contexts;
mod delivery;
mod health;
mod log;
mod model;
mod settings;
mod smtp;
mod store;
pub mod templates;
#[cfg(test)]
mod tests;
mod transport;
mod trial;
mod undelivered;

use std::time::Duration;

pub use actions::{MailError, NewMail, each_once, enqueue, withdraw};
pub use contexts::MailContext;
pub use delivery::{Delivered, deliver_due};
pub use health::{Health, Warning, health, warnings};
pub use model::{About, Mail, MailState, Recipient, SendError, Via};
pub use settings::{MailSettings, SmtpSettings};
pub use store::{about, written_about};
pub use templates::{Language, Rendered, Template, render};
pub use transport::Transport;
pub use undelivered::{TELL_UNDELIVERED, Undelivered, undelivered};

use crate::app::App;
use crate::jobs::Jobs;
use crate::openapi::Routes;
use crate::schedule::{Executors, NIGHTLY};

/// How often the worker looks for mails that are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `/api/v1/mails` and below, `/api/v1/mail/test`.
pub fn routes() -> Routes {
    log::http::routes().merge(trial::http::routes())
}

/// The worker that sends what is due.
pub fn start_jobs(jobs: &mut Jobs) {
    let opened: std::sync::Arc<std::sync::OnceLock<Transport>> = Default::default();
    jobs.every("mail", LOOK_EVERY, move |app: App| {
        let opened = opened.clone();
        async move {
            let transport = match opened.get() {
                Some(transport) => transport,
                // A folder or certificate that is not there yet may be there later.
                None => {
                    let transport = Transport::open(&app.config)?;
                    opened.get_or_init(|| transport)
                }
            };
            deliver_due(&app, transport).await?;
            Ok(())
        }
    });
}

/// The mail log is not kept for ever.
pub fn executors(executors: &mut Executors) {
    executors.recurring("mail.forget", NIGHTLY, |app, conn, task| Box::pin(actions::forget(app, conn, task)));
}
