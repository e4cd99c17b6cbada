//! APIs: what can be called, where it answers and what it accepts.

mod actions;
mod batch;
mod http;
pub mod import;
pub mod matching;
mod model;
mod path;
mod place;
mod schedule;
mod store;
#[cfg(test)]
mod tests;
mod turns;

pub(super) use actions::directory_changed;
pub use actions::{ApiFields, NewApi, create_in, delete_in, update_in};
pub(super) use http::routes;
pub use model::{Api, ApiName, ApiSource, MAX_HOSTS, MAX_LABEL, MAX_LABELS, MAX_METHODS};
pub use path::{PathRuleSchema, check_path};
pub use place::{Clash, ClashKind, Place};
pub use schedule::Moment;
pub(super) use store::places;
pub use store::{
    AcceptedCredential, ApiFilter, ApiSummary, Entries, api, apis, apis_of, entries, known_apis,
};
pub(super) use turns::start_jobs;
#[cfg(test)]
pub use turns::take_turns;
