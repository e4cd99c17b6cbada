//! DGRK keys: pairs of a public API key and a secret key, with terms of their own (APIs, dates,
//! use quota). They are issued, changed and revoked by approved forms; an operator may revoke one
//! at once, and brings in pairs that were made elsewhere.
//!
//! Callers with a transaction of their own ([`issue`], [`change`], [`revoke`]) call these before
//! they record their own audit entry: locks are taken in the order rows, quotas, changes, audit.

mod actions;
pub mod cli;
mod expiry;
mod history;
mod http;
mod mails;
mod model;
mod secrets;
pub mod sign;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{
    IssuedKey, KeyChange, KeyError, NewKey, change, issue, revoke, revoke_all_of, withdraw_all_of,
};
pub use http::routes;
pub use mails::{Changed, Credentials, mail_change, mail_credentials};
pub use model::{
    ApiKey, Key, KeyName, KeyState, MAX_APIS, MAX_NAME_CHARS, MAX_USES, Origin, SealedSecret, SecretKey,
    Terms, TermsError, UseQuota, parse_apis,
};
pub use store::{
    OpenedKey, by_id, count_live_of, find_by_api_key, list, live_of, lock_all_of, masks, note_secret_used,
};

use crate::config::Config;
use crate::schedule::{Every, Executors};

/// Reminders that keys end; the end of secrets whose time is over.
pub fn executors(config: &Config, executors: &mut Executors) {
    let daily = Every::Day { at_hour: config.key_expiry_reminder_hour };
    executors.recurring("keys.remind_of_expiry", daily, |app, conn, task| {
        Box::pin(expiry::remind(app, conn, task))
    });
    executors
        .on(secrets::RETIRE_SECRET, |app, conn, task| Box::pin(secrets::retire_when_over(app, conn, task)));
}
