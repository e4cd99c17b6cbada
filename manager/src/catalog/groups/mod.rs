//! Groups: sets of APIs that clients and their credentials are given. A scope is a group of another
//! kind (see `scopes`): everything but its routes is here.

pub(super) mod actions;
pub(super) mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{GroupFields, create_in, delete_in, update_in};
pub(super) use http::routes;
pub(super) use model::name_holders;
pub use model::{Group, GroupKind, GroupSummary, Holder, MAX_GROUP_APIS};
pub(super) use store::forget_api;
pub use store::{GroupFilter, groups, hold, known_groups, known_scopes};
