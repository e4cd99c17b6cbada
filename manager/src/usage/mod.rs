//! What was called: counts per hour, credential, API and result, as the gateways report them.
//! A report is numbered, and a repeat counts once.

mod http;
mod store;

pub use http::routes;
pub use store::{Filter, HourRow, Reported, count, hours};
