//! Clients: who calls. An application or partner with its identity, state, dates, addresses,
//! quota, rate, priority and groups. Whatever of these a gateway holds is changed there within
//! a second.

mod actions;
mod form;
pub mod hosts;
mod http;
mod mails;
mod model;
mod password;
mod registration;
mod schema;
pub mod scopes;
mod security;
pub mod service_time;
mod store;
#[cfg(test)]
mod tests;
pub mod token_settings;
mod view;

pub use actions::{ClientError, NewClient, create, create_in, delete_in, hold, update, update_in};
pub use form::Fields;
pub use http::routes;
pub use mails::{recipients, withdraw_passwords};
pub use model::{Binding, Client, ClientName, Fault, MAX_NOTE, PasswordState};
pub use password::{
    NewPassword, PasswordCheck, PasswordMark, SecretRefusal, SignIn, Verified, check_password, check_secret,
    sign_in, still_right, with_mark,
};
pub use registration::Registration;
pub use schema::{ClientCode, ClientDisplayName, ClientEmails};
pub use store::{Filter, TakenNames, by_id, groups_of, list, password_set_by, taken_names};
pub use view::ClientView;

use crate::jobs::Jobs;

/// The worker that resolves host names.
pub fn start_jobs(jobs: &mut Jobs) {
    hosts::start_jobs(jobs);
}
