//! The audit trail: who did what when. Entries are appended in the action's own transaction and
//! chained by hashes, so that a changed or missing one shows (`keygate audit verify`).
//!
//! The head row is locked until the transaction ends: record the audit entry last, after
//! `changes::record`, in every action.

mod change;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use change::changed;
pub use http::routes;
pub use model::{Broken, Entry, Recorded};
pub use store::{list, record, verify};
