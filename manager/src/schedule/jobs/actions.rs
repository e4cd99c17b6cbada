//! Tell of one's own jobs; hear of all.

use gate::time::UnixMillis;

use super::model::{JobRun, REMEMBERED_MS};
use super::store;
use crate::app::App;
use crate::db::DbError;

/// Writes how this replica's jobs fare, and forgets replicas that are gone.
pub(super) async fn report(app: &App) -> Result<(), DbError> {
    let now = app.now();
    let mut tx = app.db.write("schedule.report_jobs").await?;
    for run in own(app, now) {
        store::put(&mut tx, &run).await?;
    }
    store::forget(&mut tx, UnixMillis(now.0 - REMEMBERED_MS)).await?;
    tx.commit().await
}

/// How the jobs of all replicas fare: of this one as it is now, of the others as they last told.
pub(super) async fn all(app: &App) -> Result<Vec<JobRun>, DbError> {
    let mut runs = store::all(&mut *app.db.read().await?).await?;
    runs.retain(|run| run.replica != app.replica);
    runs.extend(own(app, app.now()));
    runs.sort_by(|a, b| (&a.job, &a.replica).cmp(&(&b.job, &b.replica)));
    Ok(runs)
}

fn own(app: &App, now: UnixMillis) -> Vec<JobRun> {
    let run = |(job, fared): (&'static str, _)| JobRun {
        replica: app.replica.clone(),
        job: job.into(),
        fared,
        reported_at: now,
    };
    app.job_board.all().into_iter().map(run).collect()
}
