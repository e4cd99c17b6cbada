//! The catalogue: APIs that can be called, and groups and scopes of them that clients are given.
//!
//! Whoever changes it holds it ([`hold`]) until the transaction ends, so that what can be told of the
//! whole catalogue alone stays true: no request means two APIs.
//!
//! Every change of what gates hold of it (the directory) is recorded as `Subject::Directory` in
//! the same transaction, and stamps the APIs it touched with the revision, so that gates can be
//! sent what is new and no more.

pub mod apis;
pub mod cli;
mod error;
pub mod groups;
mod held;
mod http;
mod model;
mod scopes;
mod store;

pub use apis::{
    Api, ApiFilter, ApiName, ApiSource, ApiSummary, Entries, MAX_HOSTS, MAX_METHODS, PathRuleSchema, api,
    apis_of, entries, known_apis,
};
pub use error::CatalogError;
pub use groups::{Group, GroupSummary, MAX_GROUP_APIS, known_groups, known_scopes};
pub use held::{Held, hold};
pub use http::routes;
pub use model::SecurityLevel;

use crate::jobs::Jobs;

/// What the catalogue does by itself.
pub fn start_jobs(jobs: &mut Jobs) {
    apis::start_jobs(jobs);
}
