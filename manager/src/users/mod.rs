//! Users: the people on whose behalf clients obtain tokens (resource owners). They sign in on the
//! page of the authorization endpoint, or hand their password to a client that they trust (grant
//! `password`). Nothing of the management API is theirs.
//!
//! An account is never deleted, since tokens and the audit trail name it: it is disabled.

mod actions;
pub mod cli;
mod http;
mod identities;
mod model;
mod password;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{Changes, NewUser, UserError, by_name, create, create_in, find, hold, page, update_in};
pub use http::routes;
pub use identities::{IdentityCheck, by_identity};
pub use model::{OrgId, User, UserName, UserStatus};
pub use password::{PasswordCheck, Spelling, check_password, remembered};
