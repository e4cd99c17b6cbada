//! Table `idempotency_keys`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::model::Claim;
use crate::db::{Conn, DbError};

/// A claim to be written.
pub(super) struct NewClaim<'a> {
    pub id: &'a str,
    pub run: &'a str,
    pub fingerprint_sealed: &'a str,
    pub now: UnixMillis,
    pub expires_at: UnixMillis,
}

/// An answer to be kept.
pub(super) struct NewAnswer<'a> {
    /// None: it is not kept.
    pub sealed: Option<&'a str>,
    pub until: UnixMillis,
}

/// What is on record of that call, unless its time is over.
pub(super) async fn find(conn: &mut Conn, id: &str, now: UnixMillis) -> Result<Option<Claim>, DbError> {
    let row = sqlx::query(
        "-- idempotency.find
         SELECT run, fingerprint_sealed, claimed_at, answered_at, answer_sealed, answer_until
           FROM idempotency_keys
          WHERE id = $1
            AND expires_at > $2",
    )
    .bind(id)
    .bind(now.0)
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Claim {
            run: row.try_get("run")?,
            fingerprint_sealed: row.try_get("fingerprint_sealed")?,
            claimed_at: UnixMillis(row.try_get("claimed_at")?),
            answered_at: row.try_get::<Option<i64>, _>("answered_at")?.map(UnixMillis),
            answer_sealed: row.try_get("answer_sealed")?,
            answer_until: row.try_get::<Option<i64>, _>("answer_until")?.map(UnixMillis),
        })
    })
    .transpose()
}

/// False: another run holds the key.
pub(super) async fn claim(conn: &mut Conn, new: &NewClaim<'_>) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- idempotency.claim
         INSERT INTO idempotency_keys (id, run, fingerprint_sealed, claimed_at, expires_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE
            SET run = excluded.run,
                fingerprint_sealed = excluded.fingerprint_sealed,
                claimed_at = excluded.claimed_at,
                expires_at = excluded.expires_at,
                answered_at = NULL,
                answer_sealed = NULL,
                answer_until = NULL
          WHERE idempotency_keys.expires_at <= excluded.claimed_at
             OR idempotency_keys.run = excluded.run",
    )
    .bind(new.id)
    .bind(new.run)
    .bind(new.fingerprint_sealed)
    .bind(new.now.0)
    .bind(new.expires_at.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps the answer of that run.
pub(super) async fn answered(
    conn: &mut Conn,
    id: &str,
    run: &str,
    answer: &NewAnswer<'_>,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- idempotency.answered
         UPDATE idempotency_keys
            SET answered_at = $3,
                answer_sealed = $4,
                answer_until = $5
          WHERE id = $1
            AND run = $2",
    )
    .bind(id)
    .bind(run)
    .bind(now.0)
    .bind(answer.sealed)
    .bind(answer.until.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives the key back, where that run holds it and has not answered.
pub(super) async fn release(conn: &mut Conn, id: &str, run: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- idempotency.release
         DELETE FROM idempotency_keys
          WHERE id = $1
            AND run = $2
            AND answered_at IS NULL",
    )
    .bind(id)
    .bind(run)
    .execute(conn)
    .await?;
    Ok(())
}

/// Erases answers that are kept no longer than now.
pub(super) async fn forget_answers(conn: &mut Conn, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- idempotency.forget_answers
         UPDATE idempotency_keys
            SET answer_sealed = NULL
          WHERE answer_until <= $1
            AND answer_sealed IS NOT NULL",
    )
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes up to `limit` keys whose time is over. Returns how many.
pub(super) async fn forget_keys(conn: &mut Conn, now: UnixMillis, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- idempotency.forget_keys
         DELETE FROM idempotency_keys
          WHERE id IN (
                SELECT id
                  FROM idempotency_keys
                 WHERE expires_at <= $1
                 ORDER BY expires_at
                 LIMIT $2)",
    )
    .bind(now.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
