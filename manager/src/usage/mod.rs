//! What was called: counts per hour, credential, API and result, as the gateways report them.
//! A report is numbered, and a repeat counts once.

mod http;
mod store;

pub use http::routes;
pub use store::{Filter, HourRow, Reported, count, hours};

use gate::time::UnixMillis;

use crate::app::App;
use crate::db::Conn;
use crate::schedule::{BATCH, Executors, NIGHTLY, Outcome, Task, forgotten};

/// Counts are not kept for ever.
pub fn executors(executors: &mut Executors) {
    executors.recurring("usage.forget", NIGHTLY, |app, conn, task| Box::pin(forget(app, conn, task)));
}

/// Hours that ended `usage_retention_days` ago are forgotten.
async fn forget(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    const DAY_MS: i64 = 86_400_000;
    let kept_ms = i64::from(app.config.usage_retention_days).saturating_mul(DAY_MS);
    let deleted = store::forget(conn, UnixMillis(app.now().0.saturating_sub(kept_ms)), BATCH).await?;
    Ok(forgotten(task, deleted, BATCH, "counts of calls"))
}
