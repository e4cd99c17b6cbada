//! Approvals: which levels sign each kind of form and which roles a level has ([`Flow`]), who may
//! sign a form now ([`signers`]), where each form stands among its signers ([`rounds`]), and who
//! signs on behalf of whom ([`delegations`]).

mod actions;
mod delegations;
mod http;
mod model;
pub mod rounds;
pub mod signers;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{ApprovalError, configure, configure_in};
pub use http::routes;
pub use model::{Flow, FlowFault, FormKind, MAX_LEVELS, Roles};
pub use store::{KeptFlow, find, hold};
