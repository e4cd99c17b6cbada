//! What `mails` and `mail_servers` say about each other; neither is written here.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::super::model::{CANCELLED, WITHDRAWN};
use super::model::{Fared, Queue};
use crate::db::{Conn, DbError};

const DAY_MS: i64 = 86_400_000;

/// What waits at `now`.
pub(super) async fn queue(conn: &mut Conn, now: UnixMillis) -> Result<Queue, DbError> {
    let row = sqlx::query(
        "-- mail.queue
         SELECT COUNT(*) AS waiting,
                COUNT(CASE WHEN COALESCE(not_before, created_at) <= $1 THEN 1 END) AS due,
                MIN(CASE WHEN COALESCE(not_before, created_at) <= $1 THEN COALESCE(not_before, created_at) END) AS oldest
           FROM mails
          WHERE state IN ('waiting', 'sending')",
    )
    .bind(now.0)
    .fetch_one(&mut *conn)
    .await?;
    let failed = sqlx::query(
        "-- mail.failed_since
         SELECT COUNT(*) AS failed
           FROM mails
          WHERE ended_at > $1
            AND state = 'failed'
            AND last_error NOT LIKE $2
            AND last_error NOT LIKE $3",
    )
    .bind(now.0.saturating_sub(DAY_MS))
    .bind(format!("{WITHDRAWN}%"))
    .bind(format!("{CANCELLED}%"))
    .fetch_one(conn)
    .await?;
    let oldest: Option<i64> = row.try_get("oldest")?;
    Ok(Queue {
        waiting: row.try_get("waiting")?,
        due: row.try_get("due")?,
        oldest_due_at: oldest.map(UnixMillis),
        failed_last_day: failed.try_get("failed")?,
    })
}

/// How the server of that address fared; well, where it was never asked.
pub(super) async fn server(conn: &mut Conn, address: &str) -> Result<Fared, DbError> {
    let row = sqlx::query(
        "-- mail.server_fared
         SELECT last_success_at, last_failure_at, last_error
           FROM mail_servers
          WHERE address = $1",
    )
    .bind(address)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(Fared { address: address.into(), ..Fared::default() }) };
    Ok(Fared {
        address: address.into(),
        last_success_at: row.try_get("last_success_at")?,
        last_failure_at: row.try_get("last_failure_at")?,
        last_error: row.try_get("last_error")?,
    })
}
