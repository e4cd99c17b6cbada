//! What was called: calls by client, credential, API and result, and how they were answered and how
//! long that took, as the gateways report it. A report is numbered, and a repeat counts once.
//!
//! Reports are counted in the minute in which they arrive. An hourly task sums minutes up to hours
//! and hours to days of the installation's zone; a report reads what is summed up, and the rest from
//! what is finer, so that it is never behind.

mod actions;
mod forecast;
mod model;
mod report;
mod store;
#[cfg(test)]
mod tests;

pub use forecast::{Forecast, forecast};
pub use report::cli;
pub use report::http::{
    AnswersView, CallsView, OwnAnswersQuery, OwnCallsQuery, Report, answers_of_client, calls_of_client,
    routes,
};
pub use store::{Counted, Reported, count};

use crate::schedule::{Every, Executors, NIGHTLY};

/// Counts are summed up, and not kept for ever.
pub fn executors(executors: &mut Executors) {
    executors.recurring("usage.roll_up", Every::Hour, |app, conn, task| {
        Box::pin(actions::roll_up(app, conn, task))
    });
    executors
        .recurring("usage.forget", NIGHTLY, |app, conn, task| Box::pin(actions::forget(app, conn, task)));
}
