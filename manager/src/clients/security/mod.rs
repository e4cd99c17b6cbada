//! The security configuration of a client: its status, its security level, its groups. What an
//! operator sets here is felt at every gateway within a second.

mod actions;
mod http;
#[cfg(test)]
mod tests;

pub use actions::Above;
pub(super) use http::routes;
