//! Groups: sets of APIs that clients and their credentials are given.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub(super) use http::routes;
pub use model::{Group, GroupSummary, MAX_GROUP_APIS};
pub(super) use store::forget_api;
pub use store::known_groups;
