//! Approval flows: for each kind of form, which levels sign it and which roles a level has.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{ApprovalError, configure, configure_in};
pub use http::routes;
pub use model::{Flow, FlowFault, FormKind, MAX_LEVELS, Roles};
pub use store::{KeptFlow, find, hold};
