//! The audit trail: who did what when. Entries are appended in the action's own transaction and
//! chained by hashes, so that a changed, missing or moved one shows (`keygate audit verify`); an
//! anchor kept elsewhere shows even that the whole chain was rewritten.
//!
//! The head row is locked until the transaction ends: record the audit entry last, after
//! `changes::record`, in every action.

mod actions;
mod chain;
mod change;
pub mod cli;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use actions::Turn;
pub use change::changed;
pub use http::routes;
pub use model::{Entry, Recorded, Search};
pub use store::{record, search};
