//! What is forgotten: tokens that ended long enough ago, with what is counted of them.

use std::collections::BTreeSet;

use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;

use super::{keys, refresh, store};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::quotas;
use crate::schedule::{BATCH, Every, Executors, Outcome, Task, forgotten};

/// What is done of what is scheduled.
pub fn executors(executors: &mut Executors) {
    // There may be thousands a second: a night's worth would take a night.
    executors.recurring("tokens.forget", Every::Hour, |app, conn, task| Box::pin(forget(app, conn, task)));
}

/// Tokens whose time ended `token_retention_h` ago are forgotten.
async fn forget(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    const HOUR_MS: i64 = 3_600_000;
    let kept_ms = i64::from(app.config.token_retention_h).saturating_mul(HOUR_MS);
    let before = UnixMillis(app.now().0.saturating_sub(kept_ms));
    let deleted = forget_access(conn, before).await? + refresh::store::forget(conn, before, BATCH).await?;
    keys::forget_withdrawn(conn).await?;
    Ok(forgotten(task, deleted, BATCH, "tokens"))
}

async fn forget_access(conn: &mut Conn, before: UnixMillis) -> Result<u64, DbError> {
    let gone = store::forget(conn, before, BATCH).await?;
    let counted: BTreeSet<String> =
        gone.iter().filter(|gone| gone.counted).map(|gone| gone.id.clone()).collect();
    // In the order of renewals, some of which may still come for them.
    quotas::hold(conn, MeterKind::TokenUses, &counted).await?;
    for id in &counted {
        quotas::lift_limit(conn, MeterKind::TokenUses, id).await?;
    }
    Ok(gone.len() as u64)
}
