//! Scheduled work: each piece is a row, planned in the transaction that makes it necessary. Any
//! replica takes what is due; what came of it stays to be seen.
//!
//! A capability that has such work names its kinds to [`Executors`] in a function `executors`,
//! which `crate::executors` calls, and plans pieces of it with [`plan`]. What an executor writes
//! and the end of the piece commit in one transaction, so that it takes effect exactly once
//! whatever crashes. An executor asks for itself whether the work is still wanted: [`cancel`]
//! does not stop a piece that is being done at the moment.
//!
//! Recurring work is a row per period, drawn up when the period has come: after a pause of a week
//! daily work is done once and not seven times.

mod actions;
pub mod cli;
mod executors;
mod http;
mod jobs;
mod model;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use actions::{NewTask, Ran, ScheduleError, cancel, plan, planned, run_due};
pub use executors::{Executors, Work};
pub use model::{About, BATCH, Every, NIGHTLY, Outcome, Task, TaskState, forgotten};

use crate::http::Routes;
use crate::jobs::Jobs;

/// `/api/v1/tasks` and below, `/api/v1/jobs`.
pub fn routes() -> Routes {
    http::routes().merge(jobs::routes())
}

/// How often a replica looks for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Its own house-keeping: tasks that ended long ago are forgotten.
pub fn executors(executors: &mut Executors) {
    executors.recurring("schedule.forget_tasks", NIGHTLY, |app, conn, task| {
        Box::pin(actions::forget_tasks(app, conn, task))
    });
}

/// The worker that does what is due.
pub fn start_jobs(jobs: &mut Jobs, executors: Executors) {
    jobs::start_jobs(jobs);
    let executors = std::sync::Arc::new(executors);
    jobs.every("schedule", LOOK_EVERY, move |app| {
        let executors = executors.clone();
        async move {
            run_due(&app, &executors).await?;
            Ok(())
        }
    });
}
