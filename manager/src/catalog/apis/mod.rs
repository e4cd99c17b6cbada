//! APIs: what can be called, where it answers and what it accepts.

mod actions;
mod http;
mod model;
mod path;
mod store;
#[cfg(test)]
mod tests;

pub(super) use actions::directory_changed;
pub(super) use http::routes;
pub use model::{Api, ApiName, ApiSource, MAX_HOSTS, MAX_METHODS};
pub use path::PathRuleSchema;
pub use store::{ApiSummary, Entries, Rival, api, entries, known_apis};
