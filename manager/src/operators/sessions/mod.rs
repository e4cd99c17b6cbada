//! Sessions: signing in with a password, and who it is that a call presents a token of.
//!
//! A session ends `session_ttl_s` after the sign-in, whether it is used or not. Passwords are
//! guessed `lockout_attempts` times in a row at most: each guess is counted before it is looked
//! at, and a locked account is told from a wrong password by nobody.

mod actions;
mod http;
#[cfg(test)]
mod tests;

pub use http::identify;
pub(super) use http::routes;
