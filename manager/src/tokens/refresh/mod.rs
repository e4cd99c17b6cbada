//! Refresh tokens: a new access token for the text of the last renewal. A text that has been used is
//! presented again by a thief or by its victim: nobody can tell which, so that both lose it.

mod actions;
mod model;
pub(super) mod store;

pub(super) use actions::{ask_again, end, serves_again};
pub use model::RefreshToken;
