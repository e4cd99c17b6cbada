//! The catalogue: APIs that can be called, and groups of them that clients are given.
//!
//! Every change of what gates hold of it (the directory) is recorded as `Subject::Directory` in
//! the same transaction, and stamps the APIs it touched with the revision, so that gates can be
//! sent what is new and no more.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use actions::CatalogError;
pub use http::routes;
pub use model::{
    Api, ApiName, ApiSource, Group, GroupSummary, MAX_GROUP_APIS, MAX_HOSTS, MAX_METHODS, SecurityLevel,
};
pub use store::{ApiSummary, Entries, api, entries, known_apis, known_groups};
