//! Tables `registrations`, `registration_attempts` and `registration_head`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::model::{Asked, Attempts, Registration, Visitor, WINDOW_MS};
use crate::caller_address::CallerAddress;
use crate::db::{Conn, DbError};
use crate::operators::Email;

/// An attempt to be counted.
pub(super) struct Attempt<'a> {
    pub id: &'a str,
    pub caller: &'a str,
    pub email_sha256: &'a str,
    pub mailed: bool,
}

/// Keeps others from counting until the transaction ends.
pub(super) async fn hold(conn: &mut Conn) -> Result<(), DbError> {
    sqlx::query(
        "-- registrations.hold
         UPDATE registration_head
            SET asked = asked + 1
          WHERE id = 1",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Attempts of the last hour.
pub(super) async fn attempts(
    conn: &mut Conn,
    caller: &CallerAddress,
    email_sha256: &str,
    now: UnixMillis,
) -> Result<Attempts, DbError> {
    let row = sqlx::query(
        "-- registrations.attempts
         SELECT CAST(COALESCE(SUM(CASE WHEN caller = $1 THEN 1 ELSE 0 END), 0) AS BIGINT)       AS of_caller,
                CAST(COALESCE(SUM(CASE WHEN caller LIKE $2 THEN 1 ELSE 0 END), 0) AS BIGINT)    AS of_network,
                CAST(COALESCE(SUM(CASE WHEN email_sha256 = $3 THEN mailed ELSE 0 END), 0) AS BIGINT) AS to_email,
                CAST(COALESCE(SUM(mailed), 0) AS BIGINT)                                         AS in_all
           FROM registration_attempts
          WHERE asked_at > $4",
    )
    .bind(&caller.0)
    // Nothing in it stands for anything else.
    .bind(format!("{}%", caller.network()))
    .bind(email_sha256)
    .bind(now.0 - WINDOW_MS)
    .fetch_one(conn)
    .await?;
    Ok(Attempts {
        of_caller: row.try_get("of_caller")?,
        of_network: row.try_get("of_network")?,
        to_email: row.try_get("to_email")?,
        in_all: row.try_get("in_all")?,
    })
}

pub(super) async fn insert_attempt(
    conn: &mut Conn,
    attempt: Attempt<'_>,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- registrations.attempt
         INSERT INTO registration_attempts (id, caller, email_sha256, mailed, asked_at)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(attempt.id)
    .bind(attempt.caller)
    .bind(attempt.email_sha256)
    .bind(i64::from(attempt.mailed))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert(
    conn: &mut Conn,
    registration: &Registration,
    confirm_sha256: &str,
) -> Result<(), DbError> {
    let asked = serde_json::to_string(&registration.asked).expect("texts under names that are texts");
    sqlx::query(
        "-- registrations.ask
         INSERT INTO registrations (id, email, asked, confirm_sha256, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&registration.id)
    .bind(registration.email.as_str())
    .bind(asked)
    .bind(confirm_sha256)
    .bind(registration.created_at.0)
    .bind(registration.expires_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a token that was mailed serves.
pub(super) async fn is_open(conn: &mut Conn, confirm_sha256: &str, now: UnixMillis) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- registrations.is_open
         SELECT id FROM registrations WHERE confirm_sha256 = $1 AND expires_at >= $2",
    )
    .bind(confirm_sha256)
    .bind(now.0)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Uses up the token that was mailed. None: it is unknown, was used, or has run out.
pub(super) async fn confirm(
    conn: &mut Conn,
    confirm_sha256: &str,
    now: UnixMillis,
) -> Result<Option<Registration>, DbError> {
    let row = sqlx::query(
        "-- registrations.confirm
         UPDATE registrations
            SET confirm_sha256 = NULL
          WHERE confirm_sha256 = $1
            AND expires_at >= $2
      RETURNING id, email, asked, created_at, expires_at",
    )
    .bind(confirm_sha256)
    .bind(now.0)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.try_get("id")?;
    let wrong =
        |column: &'static str| DbError::Inconsistency { table: "registrations", column, row: id.clone() };
    let email: String = row.try_get("email")?;
    let asked: String = row.try_get("asked")?;
    Ok(Some(Registration {
        email: Email::parse(&email).map_err(|_| wrong("email"))?,
        asked: serde_json::from_str::<Asked>(&asked).map_err(|_| wrong("asked"))?,
        created_at: UnixMillis(row.try_get("created_at")?),
        expires_at: UnixMillis(row.try_get("expires_at")?),
        id,
    }))
}

/// The question has become a form, which is followed by that token.
pub(super) async fn filed(
    conn: &mut Conn,
    id: &str,
    application: &str,
    follow_sha256: &str,
    expires_at: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- registrations.filed
         UPDATE registrations
            SET asked = '', application = $2, follow_sha256 = $3, expires_at = $4
          WHERE id = $1",
    )
    .bind(id)
    .bind(application)
    .bind(follow_sha256)
    .bind(expires_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Who follows a form with that token, whether it has run out or not.
pub(super) async fn by_follow_hash(conn: &mut Conn, sha256: &str) -> Result<Option<Visitor>, DbError> {
    let row = sqlx::query(
        "-- registrations.follow
         SELECT id, email, application, expires_at
           FROM registrations
          WHERE follow_sha256 = $1
            AND application IS NOT NULL",
    )
    .bind(sha256)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.try_get("id")?;
    let email: String = row.try_get("email")?;
    Ok(Some(Visitor {
        email: Email::parse(&email).map_err(|_| DbError::Inconsistency {
            table: "registrations",
            column: "email",
            row: id,
        })?,
        application: row.try_get("application")?,
        expires_at: UnixMillis(row.try_get("expires_at")?),
    }))
}

/// Forgets up to `limit` questions whose tokens have run out, and as many attempts that count no
/// more. How many there were of both.
pub(super) async fn forget(conn: &mut Conn, now: UnixMillis, limit: i64) -> Result<(u64, u64), DbError> {
    let questions = sqlx::query(
        "-- registrations.forget
         DELETE FROM registrations
          WHERE id IN (SELECT id FROM registrations WHERE expires_at < $1 LIMIT $2)",
    )
    .bind(now.0)
    .bind(limit)
    .execute(&mut *conn)
    .await?;
    let attempts = sqlx::query(
        "-- registrations.forget
         DELETE FROM registration_attempts
          WHERE id IN (SELECT id FROM registration_attempts WHERE asked_at <= $1 LIMIT $2)",
    )
    .bind(now.0 - WINDOW_MS)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok((questions.rows_affected(), attempts.rows_affected()))
}
