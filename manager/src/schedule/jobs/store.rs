//! The only writer of `job_runs`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::model::JobRun;
use crate::db::{Conn, DbError};
use crate::jobs::Fared;
use crate::schedule::model::shortened;

pub(super) async fn put(conn: &mut Conn, run: &JobRun) -> Result<(), DbError> {
    sqlx::query(
        "-- schedule.jobs.put
         INSERT INTO job_runs (replica, job, last_run_at, succeeded, last_failure_at, last_error, reported_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (replica, job) DO UPDATE
            SET last_run_at = excluded.last_run_at,
                succeeded = excluded.succeeded,
                last_failure_at = excluded.last_failure_at,
                last_error = excluded.last_error,
                reported_at = excluded.reported_at",
    )
    .bind(&run.replica)
    .bind(&run.job)
    .bind(run.fared.last_run_at.0)
    .bind(i64::from(run.fared.succeeded))
    .bind(run.fared.last_failure_at.map(|at| at.0))
    .bind(run.fared.last_error.as_deref().map(shortened))
    .bind(run.reported_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn forget(conn: &mut Conn, before: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- schedule.jobs.forget
         DELETE FROM job_runs WHERE reported_at < $1",
    )
    .bind(before.0)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn all(conn: &mut Conn) -> Result<Vec<JobRun>, DbError> {
    let rows = sqlx::query(
        "-- schedule.jobs.all
         SELECT replica, job, last_run_at, succeeded, last_failure_at, last_error, reported_at
           FROM job_runs",
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let last_failure_at: Option<i64> = row.try_get("last_failure_at")?;
            Ok(JobRun {
                replica: row.try_get("replica")?,
                job: row.try_get("job")?,
                fared: Fared {
                    last_run_at: UnixMillis(row.try_get("last_run_at")?),
                    succeeded: row.try_get::<i64, _>("succeeded")? != 0,
                    last_failure_at: last_failure_at.map(UnixMillis),
                    last_error: row.try_get("last_error")?,
                },
                reported_at: UnixMillis(row.try_get("reported_at")?),
            })
        })
        .collect()
}
