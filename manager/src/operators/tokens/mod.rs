//! What an operator presents as Bearer: a session's token, or an API token made for a program,
//! which may be limited to some of its operator's permissions. Stored by their hash alone.

mod actions;
mod http;
mod last_use;
mod model;
pub(super) mod store;
#[cfg(test)]
mod tests;

pub use actions::{IssuedToken, NewToken, issue_api_token};
pub(super) use actions::{forget_ended, issue, list_of};
pub(super) use http::routes;
pub use last_use::Uses;
pub(super) use last_use::remember_use;
pub use model::{MAX_API_TOKENS, Token, TokenKind};
