//! Table `delegations`.

use gate::time::UnixMillis;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::model::{Delegation, Period};
use crate::db::{Conn, DbError};

pub(super) async fn insert(conn: &mut Conn, delegation: &Delegation) -> Result<(), DbError> {
    sqlx::query(
        "-- delegations.create
         INSERT INTO delegations (id, principal, delegate, begins_at, ends_at, reason, created_at, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&delegation.id)
    .bind(&delegation.principal)
    .bind(&delegation.delegate)
    .bind(delegation.period.from.0)
    .bind(delegation.period.until.0)
    .bind(&delegation.reason)
    .bind(delegation.created_at.0)
    .bind(&delegation.created_by)
    .execute(conn)
    .await?;
    Ok(())
}

/// False: it was revoked meanwhile.
pub(super) async fn revoke(conn: &mut Conn, id: &str, by: &str, now: UnixMillis) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- delegations.revoke
         UPDATE delegations
            SET revoked_at = $1, revoked_by = $2
          WHERE id = $3
            AND revoked_at IS NULL",
    )
    .bind(now.0)
    .bind(by)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn find(conn: &mut Conn, id: &str) -> Result<Option<Delegation>, DbError> {
    let row = sqlx::query(
        "-- delegations.find
         SELECT id, principal, delegate, begins_at, ends_at, reason, created_at, created_by, revoked_at, revoked_by
           FROM delegations
          WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Those of `principal` that nobody has revoked and whose time is not over.
pub(super) async fn open_of(
    conn: &mut Conn,
    principal: &str,
    now: UnixMillis,
) -> Result<Vec<Delegation>, DbError> {
    sqlx::query(
        "-- delegations.open_of
         SELECT id, principal, delegate, begins_at, ends_at, reason, created_at, created_by, revoked_at, revoked_by
           FROM delegations
          WHERE principal = $1
            AND ends_at > $2
            AND revoked_at IS NULL
          ORDER BY begins_at, id",
    )
    .bind(principal)
    .bind(now.0)
    .fetch_all(conn)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// Those whose time has come and is not over, and that nobody has revoked.
pub async fn begun(conn: &mut Conn, now: UnixMillis) -> Result<Vec<Delegation>, DbError> {
    sqlx::query(
        "-- delegations.begun
         SELECT id, principal, delegate, begins_at, ends_at, reason, created_at, created_by, revoked_at, revoked_by
           FROM delegations
          WHERE begins_at <= $1
            AND ends_at > $1
            AND revoked_at IS NULL",
    )
    .bind(now.0)
    .fetch_all(conn)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// Up to `limit`, the newest first, that come after the place `(created_at, id)`; `of` is on either
/// side of them, empty = whoever.
pub(super) async fn list(
    conn: &mut Conn,
    of: &str,
    (created_at, id): (i64, &str),
    limit: i64,
) -> Result<Vec<Delegation>, DbError> {
    sqlx::query(
        "-- delegations.list
         SELECT id, principal, delegate, begins_at, ends_at, reason, created_at, created_by, revoked_at, revoked_by
           FROM delegations
          WHERE ($1 = '' OR principal = $1 OR delegate = $1)
            AND (created_at < $2 OR (created_at = $2 AND id < $3))
          ORDER BY created_at DESC, id DESC
          LIMIT $4",
    )
    .bind(of)
    .bind(created_at)
    .bind(id)
    .bind(limit)
    .fetch_all(conn)
    .await?
    .iter()
    .map(read)
    .collect()
}

fn read(row: &AnyRow) -> Result<Delegation, DbError> {
    let id: String = row.try_get("id")?;
    let revoked = match (row.try_get("revoked_at")?, row.try_get("revoked_by")?) {
        (Some(at), Some(by)) => Some((UnixMillis(at), by)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(DbError::Inconsistency { table: "delegations", column: "revoked_by", row: id });
        }
    };
    Ok(Delegation {
        principal: row.try_get("principal")?,
        delegate: row.try_get("delegate")?,
        period: Period {
            from: UnixMillis(row.try_get("begins_at")?),
            until: UnixMillis(row.try_get("ends_at")?),
        },
        reason: row.try_get("reason")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        created_by: row.try_get("created_by")?,
        revoked,
        id,
    })
}
