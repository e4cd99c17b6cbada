//! An OpenID provider at which users may sign in instead of here: any that keeps to OpenID Connect
//! Core, by authorization code with PKCE, state and nonce. What it says of a user is believed when
//! its ID token is signed by one of its keys and meant for this installation and this sign-in.

mod actions;
mod fetch;
mod model;
#[cfg(test)]
mod tests;

pub use actions::{Shared, Started, available, begin, complete};
pub use model::{Identity, MAX_SUBJECT, Metadata, ProviderError, Subject};
