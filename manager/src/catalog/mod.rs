//! The catalogue: APIs that can be called, and groups of them that clients are given.
//!
//! Every change of what gates hold of it (the directory) is recorded as `Subject::Directory` in
//! the same transaction, and stamps the APIs it touched with the revision, so that gates can be
//! sent what is new and no more.

mod apis;
mod error;
mod groups;
mod http;
mod model;

pub use apis::{
    Api, ApiName, ApiSource, ApiSummary, Entries, MAX_HOSTS, MAX_METHODS, PathRuleSchema, api, entries,
    known_apis,
};
pub use error::CatalogError;
pub use groups::{Group, GroupSummary, MAX_GROUP_APIS, known_groups};
pub use http::routes;
pub use model::SecurityLevel;
