//! Roles: names of sets of permissions. `*` is everything, also what later versions add.

mod actions;
mod http;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{delete_role, role_names};
pub(super) use actions::{permissions_of, require_known, require_manager};
pub(super) use http::{parse_names, routes};
