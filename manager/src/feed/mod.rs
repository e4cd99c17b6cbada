//! What gateways ask: the directory, the changes, and the exchange in which credentials are
//! resolved, leases renewed and usage reported. The other half of `gate::wire`.
//!
//! An exchange reads in one snapshot, with the number of the newest visible change read first,
//! and writes through the [`Committer`], which lets exchanges that wait at the same time share
//! a commit.

mod actions;
mod commit;
mod gauges;
mod grant;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;

pub use actions::{Directory, Shared, directory_as_given};
pub use commit::Committer;
pub use gauges::gauges;
pub use grant::{Named, grant_of};
pub use http::{marked, routes};
