//! The scopes of a client: what users may delegate to it. Never above its security level, and with
//! its groups no more than `MAX_GROUPS`. They count for tokens that users consented to; what
//! gateways hold of X-Api-Keys and Basic does not depend on them.

mod actions;
mod http;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{ScopesError, count, of_client, set_in, take};
pub use http::routes;
