//! Table `client_sessions`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::model::Session;
use crate::clients::PasswordMark;
use crate::db::{Conn, DbError};

pub(super) async fn insert(conn: &mut Conn, session: &Session, sha256: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- client_sessions.create
         INSERT INTO client_sessions (id, client_id, sha256, password_mark, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&session.id)
    .bind(&session.client)
    .bind(sha256)
    .bind(session.password.as_str())
    .bind(session.created_at.0)
    .bind(session.expires_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// The session of a token, whether it has run out or not.
pub(super) async fn by_hash(conn: &mut Conn, sha256: &str) -> Result<Option<Session>, DbError> {
    let row = sqlx::query(
        "-- client_sessions.authenticate
         SELECT id, client_id, password_mark, created_at, expires_at
           FROM client_sessions
          WHERE sha256 = $1",
    )
    .bind(sha256)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Session {
        id: row.try_get("id")?,
        client: row.try_get("client_id")?,
        password: PasswordMark::from(row.try_get::<String, _>("password_mark")?),
        created_at: UnixMillis(row.try_get("created_at")?),
        expires_at: UnixMillis(row.try_get("expires_at")?),
    }))
}

/// Moves the end of a session, never back.
pub(super) async fn prolong(conn: &mut Conn, id: &str, expires_at: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- client_sessions.prolong
         UPDATE client_sessions
            SET expires_at = $2
          WHERE id = $1
            AND expires_at < $2",
    )
    .bind(id)
    .bind(expires_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a session. False: it has ended already.
pub(super) async fn delete(conn: &mut Conn, id: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- client_sessions.delete
         DELETE FROM client_sessions
          WHERE id = $1",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the oldest sessions of a client beyond the `kept` newest.
pub(super) async fn delete_oldest(conn: &mut Conn, client: &str, kept: i64) -> Result<(), DbError> {
    sqlx::query(
        "-- client_sessions.delete_oldest
         DELETE FROM client_sessions
          WHERE client_id = $1
            AND id NOT IN (SELECT id
                             FROM client_sessions
                            WHERE client_id = $1
                            ORDER BY created_at DESC, id DESC
                            LIMIT $2)",
    )
    .bind(client)
    .bind(kept)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets up to `limit` sessions that ran out before `now`. How many there were.
pub(super) async fn delete_ended(conn: &mut Conn, now: UnixMillis, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- client_sessions.delete_ended
         DELETE FROM client_sessions
          WHERE id IN (SELECT id FROM client_sessions WHERE expires_at < $1 LIMIT $2)",
    )
    .bind(now.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
