//! X-Api-Keys: texts that travel in clear and open every API of their groups, as far as the
//! client still has the groups. Shown once and mailed once, or brought in by their hash from where
//! they were made; deleting one is felt at every gateway within a second.

mod actions;
pub mod cli;
mod expiry;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{XApiKeyError, delete_all_of, withdraw_all_of};
pub use http::routes;
pub use model::{XApiKey, XApiKeyState, is_x_api_key};
pub use store::{Filter, by_id, count_of_client, find_by_sha256, list, lock_all_of, note_used, of_client};

use crate::config::Config;
use crate::schedule::{Every, Executors};

/// Reminders that keys end.
pub fn executors(config: &Config, executors: &mut Executors) {
    let daily = Every::Day { at_hour: config.key_expiry_reminder_hour };
    executors.recurring("x_api_keys.remind_of_expiry", daily, |app, conn, task| {
        Box::pin(expiry::remind(app, conn, task))
    });
}
