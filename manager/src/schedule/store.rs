//! The only writer of `tasks`.

use std::collections::BTreeSet;

use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{About, Task, TaskState, shortened};
use crate::db::{Conn, DbError, MAX_IN, placeholders};

/// A piece of work to be planned.
pub(super) struct NewRow<'a> {
    pub id: &'a str,
    pub kind: &'a str,
    pub about: &'a About,
    pub key: &'a str,
    pub detail: &'a str,
    pub due_at: UnixMillis,
    pub now: UnixMillis,
}

/// A piece of work that this replica alone may do until its claim lapses.
pub(super) struct Claimed {
    pub task: Task,
    pub claim: String,
}

/// Which tasks a list shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub kind: Option<String>,
    pub state: Option<String>,
    pub about: Option<About>,
    pub due_from: Option<UnixMillis>,
    pub due_until: Option<UnixMillis>,
}

const COLUMNS: &str = "id, kind, about_kind, about_id, task_key, detail, due_at, state, next_attempt_at, attempts, \
     progress, result, last_error, created_at, finished_at";

/// Whether there was none of that key.
pub(super) async fn insert(conn: &mut Conn, row: &NewRow<'_>) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- schedule.plan
         INSERT INTO tasks (id, kind, about_kind, about_id, task_key, detail, due_at, state, next_attempt_at,
                            created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting', $7, $8)
         ON CONFLICT (task_key) DO NOTHING",
    )
    .bind(row.id)
    .bind(row.kind)
    .bind(&row.about.kind)
    .bind(&row.about.id)
    .bind(row.key)
    .bind(row.detail)
    .bind(row.due_at.0)
    .bind(row.now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether one of that key had been cancelled.
pub(super) async fn revive(conn: &mut Conn, row: &NewRow<'_>) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- schedule.plan.revive
         UPDATE tasks
            SET state = 'waiting', due_at = $2, next_attempt_at = $2, detail = $3, attempts = 0, progress = NULL,
                result = NULL, last_error = NULL, finished_at = NULL
          WHERE task_key = $1 AND state = 'cancelled'",
    )
    .bind(row.key)
    .bind(row.due_at.0)
    .bind(row.detail)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn is_planned(conn: &mut Conn, key: &str) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- schedule.is_planned
         SELECT id FROM tasks WHERE task_key = $1",
    )
    .bind(key)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Those of these keys that are on record.
pub(super) async fn planned(conn: &mut Conn, keys: &[String]) -> Result<BTreeSet<String>, DbError> {
    let mut found = BTreeSet::new();
    for part in keys.chunks(MAX_IN) {
        let sql = format!(
            "-- schedule.planned
             SELECT task_key FROM tasks WHERE task_key IN ({})",
            placeholders(1, part.len())
        );
        let query = part.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, key| query.bind(key.clone()));
        for row in query.fetch_all(&mut *conn).await? {
            found.insert(row.try_get("task_key")?);
        }
    }
    Ok(found)
}

pub(super) async fn cancel_waiting(
    conn: &mut Conn,
    kind: &str,
    about: &About,
    why: &str,
    now: UnixMillis,
) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- schedule.cancel
         UPDATE tasks
            SET state = 'cancelled', result = $4, finished_at = $5
          WHERE kind = $1 AND about_kind = $2 AND about_id = $3 AND state = 'waiting'",
    )
    .bind(kind)
    .bind(&about.kind)
    .bind(&about.id)
    .bind(shortened(why))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Cancels what was due before `before` and was not done.
pub(super) async fn supersede(
    conn: &mut Conn,
    kind: &str,
    about_kind: &str,
    before: UnixMillis,
    why: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- schedule.supersede
         UPDATE tasks
            SET state = 'cancelled', result = $4, finished_at = $5
          WHERE kind = $1 AND about_kind = $2 AND due_at < $3 AND state = 'waiting' AND finished_at IS NULL",
    )
    .bind(kind)
    .bind(about_kind)
    .bind(before.0)
    .bind(shortened(why))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn is_any_due(conn: &mut Conn, kinds: &[&str], now: UnixMillis) -> Result<bool, DbError> {
    if kinds.is_empty() {
        return Ok(false);
    }
    let sql = format!(
        "-- schedule.is_any_due
         SELECT id
           FROM tasks
          WHERE finished_at IS NULL AND next_attempt_at <= $1 AND kind IN ({})
          LIMIT 1",
        placeholders(2, kinds.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(now.0);
    for kind in kinds {
        query = query.bind((*kind).to_owned());
    }
    Ok(query.fetch_optional(conn).await?.is_some())
}

/// Takes the piece of these kinds that is due longest. Two replicas that choose the same row do not
/// both get it: the outer WHERE tests again. A row whose claim has lapsed is taken over.
pub(super) async fn claim(
    conn: &mut Conn,
    kinds: &[&str],
    claim: &str,
    claimed_until: UnixMillis,
    now: UnixMillis,
) -> Result<Option<Claimed>, DbError> {
    if kinds.is_empty() {
        return Ok(None);
    }
    let sql = format!(
        "-- schedule.claim
         UPDATE tasks
            SET state = 'running', claim = $1, next_attempt_at = $2, attempts = attempts + 1
          WHERE id = (SELECT id
                        FROM tasks
                       WHERE finished_at IS NULL AND next_attempt_at <= $3 AND kind IN ({})
                       ORDER BY next_attempt_at, due_at, id
                       LIMIT 1)
            AND finished_at IS NULL
            AND next_attempt_at <= $3
      RETURNING {COLUMNS}",
        placeholders(4, kinds.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(claim).bind(claimed_until.0).bind(now.0);
    for kind in kinds {
        query = query.bind((*kind).to_owned());
    }
    let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
    Ok(Some(Claimed { task: read(&row)?, claim: claim.into() }))
}

/// Whether it is still this replica's; then it stays so until the transaction ends.
pub(super) async fn hold(conn: &mut Conn, claimed: &Claimed) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- schedule.hold
         UPDATE tasks
            SET claim = claim
          WHERE id = $1 AND claim = $2 AND state = 'running'",
    )
    .bind(&claimed.task.id)
    .bind(&claimed.claim)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Of a row that the transaction holds.
pub(super) async fn done(
    conn: &mut Conn,
    claimed: &Claimed,
    result: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- schedule.done
         UPDATE tasks
            SET state = 'done', result = $3, claim = NULL, finished_at = $4
          WHERE id = $1 AND claim = $2",
    )
    .bind(&claimed.task.id)
    .bind(&claimed.claim)
    .bind(shortened(result))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Of a row that the transaction holds: it waits for the rest to be done, not before `at`.
pub(super) async fn got_on(
    conn: &mut Conn,
    claimed: &Claimed,
    progress: &str,
    result: &str,
    at: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- schedule.got_on
         UPDATE tasks
            SET state = 'waiting', progress = $3, result = $4, next_attempt_at = $5, attempts = 0, claim = NULL
          WHERE id = $1 AND claim = $2",
    )
    .bind(&claimed.task.id)
    .bind(&claimed.claim)
    .bind(progress)
    .bind(shortened(result))
    .bind(at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// If it is still this replica's.
pub(super) async fn waits_again(
    conn: &mut Conn,
    claimed: &Claimed,
    at: UnixMillis,
    error: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "-- schedule.waits_again
         UPDATE tasks
            SET state = 'waiting', next_attempt_at = $3, last_error = $4, claim = NULL
          WHERE id = $1 AND claim = $2 AND state = 'running'",
    )
    .bind(&claimed.task.id)
    .bind(&claimed.claim)
    .bind(at.0)
    .bind(shortened(error))
    .execute(conn)
    .await?;
    Ok(())
}

/// If it is still this replica's.
pub(super) async fn given_up(
    conn: &mut Conn,
    claimed: &Claimed,
    error: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- schedule.given_up
         UPDATE tasks
            SET state = 'failed', last_error = $3, claim = NULL, finished_at = $4
          WHERE id = $1 AND claim = $2 AND state = 'running'",
    )
    .bind(&claimed.task.id)
    .bind(&claimed.claim)
    .bind(shortened(error))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether there is such a task; it is the transaction's until that ends.
pub(super) async fn lock(conn: &mut Conn, id: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- schedule.lock
         UPDATE tasks SET attempts = attempts WHERE id = $1",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether it changed; of a row that the transaction has locked and found to be nobody's. What is not
/// due yet goes on waiting for that: work that is done before its time may be worth a permission.
pub(super) async fn retry(conn: &mut Conn, id: &str, now: UnixMillis) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- schedule.retry
         UPDATE tasks
            SET state = 'waiting', next_attempt_at = CASE WHEN due_at > $2 THEN due_at ELSE $2 END, attempts = 0,
                claim = NULL, finished_at = NULL,
                result = CASE WHEN state = 'cancelled' THEN NULL ELSE result END
          WHERE id = $1 AND state IN ('waiting', 'running', 'failed', 'cancelled')",
    )
    .bind(id)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether it changed; of a row that the transaction has locked and found to be nobody's.
pub(super) async fn cancel_one(
    conn: &mut Conn,
    id: &str,
    why: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- schedule.cancel_one
         UPDATE tasks
            SET state = 'cancelled', result = $2, claim = NULL, finished_at = $3
          WHERE id = $1 AND state IN ('waiting', 'running', 'failed')",
    )
    .bind(id)
    .bind(shortened(why))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes up to `limit` tasks that ended before `before`. How many there were.
pub(super) async fn forget(conn: &mut Conn, before: UnixMillis, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- schedule.forget
         DELETE FROM tasks
          WHERE id IN (SELECT id FROM tasks WHERE finished_at < $1 ORDER BY finished_at LIMIT $2)
            AND finished_at < $1",
    )
    .bind(before.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Task>, DbError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "-- schedule.by_id
         SELECT {COLUMNS} FROM tasks WHERE id = $1"
    )))
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Up to `limit` tasks by time, after the one that `after` names (when it is due, and its id).
pub(super) async fn list(
    conn: &mut Conn,
    filter: &Filter,
    after: (UnixMillis, &str),
    limit: i64,
) -> Result<Vec<Task>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "-- schedule.list
         SELECT {COLUMNS}
           FROM tasks
          WHERE (due_at > $1 OR (due_at = $1 AND id > $2))
            AND ($3 = '' OR kind = $3)
            AND ($4 = '' OR state = $4)
            AND ($5 = '' OR about_kind = $5)
            AND ($6 = '' OR about_id = $6)
            AND due_at >= $7
            AND due_at < $8
          ORDER BY due_at, id
          LIMIT $9"
    )))
    .bind(after.0.0)
    .bind(after.1)
    .bind(filter.kind.as_deref().unwrap_or_default())
    .bind(filter.state.as_deref().unwrap_or_default())
    .bind(filter.about.as_ref().map_or("", |about| &about.kind))
    .bind(filter.about.as_ref().map_or("", |about| &about.id))
    .bind(filter.due_from.map_or(i64::MIN, |at| at.0))
    .bind(filter.due_until.map_or(i64::MAX, |at| at.0))
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Task, DbError> {
    let id: String = row.try_get("id")?;
    let finished_at: Option<i64> = row.try_get("finished_at")?;
    let finished_at = || finished_at.map(UnixMillis).ok_or_else(|| inconsistent("finished_at", &id));
    let next_attempt_at = UnixMillis(row.try_get("next_attempt_at")?);
    let state: String = row.try_get("state")?;
    let state = match state.as_str() {
        "waiting" => TaskState::Waiting { next_attempt_at },
        "running" => TaskState::Running { claimed_until: next_attempt_at },
        "done" => TaskState::Done { finished_at: finished_at()? },
        "failed" => TaskState::Failed { finished_at: finished_at()? },
        "cancelled" => TaskState::Cancelled { finished_at: finished_at()? },
        _ => return Err(inconsistent("state", &id)),
    };
    let detail: String = row.try_get("detail")?;
    let attempts: i64 = row.try_get("attempts")?;
    Ok(Task {
        kind: row.try_get("kind")?,
        about: About { kind: row.try_get("about_kind")?, id: row.try_get("about_id")? },
        key: row.try_get("task_key")?,
        detail: serde_json::from_str(&detail).map_err(|_| inconsistent("detail", &id))?,
        due_at: UnixMillis(row.try_get("due_at")?),
        state,
        attempts: u32::try_from(attempts).map_err(|_| inconsistent("attempts", &id))?,
        progress: row.try_get("progress")?,
        result: row.try_get("result")?,
        last_error: row.try_get("last_error")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        id,
    })
}

fn inconsistent(column: &'static str, row: &str) -> DbError {
    DbError::Inconsistency { table: "tasks", column, row: row.into() }
}
