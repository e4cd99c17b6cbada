//! Table `credential_links`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::model::{Link, State};
use crate::db::{Conn, DbError};
use crate::mail::About;

/// A link to be written.
pub(super) struct NewRow<'a> {
    pub id: &'a str,
    pub secret_sha256: &'a str,
    pub shows: &'a About,
    pub secret: &'a str,
    pub recipient: &'a str,
    pub content_sealed: &'a str,
    pub now: UnixMillis,
    pub expires_at: UnixMillis,
}

pub(super) async fn insert(conn: &mut Conn, new: &NewRow<'_>) -> Result<(), DbError> {
    sqlx::query(
        "-- credential_links.create
         INSERT INTO credential_links
                (id, secret_sha256, kind, key_id, secret_id, recipient, content_sealed, state, created_at,
                 expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'open', $8, $9)",
    )
    .bind(new.id)
    .bind(new.secret_sha256)
    .bind(&new.shows.kind)
    .bind(&new.shows.id)
    .bind(new.secret)
    .bind(new.recipient)
    .bind(new.content_sealed)
    .bind(new.now.0)
    .bind(new.expires_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether there is such a link.
pub(super) async fn exists(conn: &mut Conn, id: &str) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- credential_links.exists
         SELECT id FROM credential_links WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// The link, kept from others until the transaction ends: attempts to open one take turns.
pub(super) async fn hold(conn: &mut Conn, id: &str) -> Result<Option<Link>, DbError> {
    let row = sqlx::query(
        "-- credential_links.hold
         UPDATE credential_links
            SET refusals = refusals
          WHERE id = $1
         RETURNING id, secret_sha256, kind, key_id, recipient, content_sealed, state, refusals, expires_at",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let state: String = row.try_get("state")?;
        Ok(Link {
            id: row.try_get("id")?,
            secret_sha256: row.try_get("secret_sha256")?,
            shows: About { kind: row.try_get("kind")?, id: row.try_get("key_id")? },
            recipient: row.try_get("recipient")?,
            content_sealed: row.try_get("content_sealed")?,
            state: State::parse(&state).ok_or_else(|| DbError::Inconsistency {
                table: "credential_links",
                column: "state",
                row: id.into(),
            })?,
            refusals: row.try_get("refusals")?,
            expires_at: UnixMillis(row.try_get("expires_at")?),
        })
    })
    .transpose()
}

/// Ends an open link and erases what it shows. False: it had ended.
pub(super) async fn end(conn: &mut Conn, id: &str, state: State, now: UnixMillis) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- credential_links.end
         UPDATE credential_links
            SET state = $2, content_sealed = NULL, ended_at = $3
          WHERE id = $1
            AND state = 'open'",
    )
    .bind(id)
    .bind(state.name())
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn count_refusal(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- credential_links.count_refusal
         UPDATE credential_links
            SET refusals = refusals + 1
          WHERE id = $1",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the open links to what `shows` names, or to one of its secrets.
pub(super) async fn withdraw(
    conn: &mut Conn,
    shows: &About,
    secret: Option<&str>,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- credential_links.withdraw
         UPDATE credential_links
            SET state = 'withdrawn', content_sealed = NULL, ended_at = $4
          WHERE kind = $1
            AND key_id = $2
            AND ($3 = '' OR secret_id = $3)
            AND state = 'open'",
    )
    .bind(&shows.kind)
    .bind(&shows.id)
    .bind(secret.unwrap_or_default())
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends what was not opened in time.
pub(super) async fn expire(conn: &mut Conn, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- credential_links.expire
         UPDATE credential_links
            SET state = 'expired', content_sealed = NULL, ended_at = $1
          WHERE state = 'open'
            AND expires_at <= $1",
    )
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes up to `limit` links that ended before that. Returns how many.
pub(super) async fn delete_ended(conn: &mut Conn, before: UnixMillis, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- credential_links.forget
         DELETE FROM credential_links
          WHERE id IN (
                SELECT id
                  FROM credential_links
                 WHERE state <> 'open'
                   AND ended_at <= $1
                 ORDER BY ended_at
                 LIMIT $2)",
    )
    .bind(before.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
