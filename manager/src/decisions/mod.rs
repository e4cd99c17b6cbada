//! Why a request was refused: decisions that gateways report, found by the id that the caller was
//! told, and [`explain`], which says what would be decided now.
//!
//! Nothing here decides: what is on record was decided by a gate, and an explanation calls the
//! functions that a gate calls.

mod actions;
pub mod cli;
pub mod explain;
mod gateway;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

use gate::time::UnixMillis;

pub use gateway::gateway_routes;
pub use http::routes;

use crate::app::App;
use crate::db::Conn;
use crate::schedule::{BATCH, Executors, NIGHTLY, Outcome, Task, forgotten};

/// Decisions are not kept for ever.
pub fn executors(executors: &mut Executors) {
    executors.recurring("decisions.forget", NIGHTLY, |app, conn, task| Box::pin(forget(app, conn, task)));
}

/// Decisions received `decision_retention_days` ago are forgotten.
async fn forget(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    const DAY_MS: i64 = 86_400_000;
    let kept_ms = i64::from(app.config.decision_retention_days).saturating_mul(DAY_MS);
    let deleted = store::forget(conn, UnixMillis(app.now().0.saturating_sub(kept_ms)), BATCH).await?;
    Ok(forgotten(task, deleted, BATCH, "decisions"))
}
