//! Reads `mails` and `mail_attempts`; neither is written here.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::super::model::Mail;
use super::super::store::{COLUMNS, read};
use super::model::{PastAttempt, Search};
use crate::db::{Conn, DbError, like_pattern};

/// Newest first, `limit` at most.
pub(super) async fn list(conn: &mut Conn, search: &Search, limit: i64) -> Result<Vec<Mail>, DbError> {
    let newest = (UnixMillis(i64::MAX), String::new());
    let (before, before_id) = search.before.as_ref().unwrap_or(&newest);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let keyword = search.keyword.as_deref().filter(|keyword| !keyword.is_empty());
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- mail.list
         SELECT {COLUMNS}
           FROM mails
          WHERE (created_at < $1 OR (created_at = $1 AND id < $2))
            AND created_at >= $3
            AND created_at <= $4
            AND ($5 = '' OR state = $5)
            AND ($6 = '' OR template = $6)
            AND ($7 = '' OR about_kind = $7)
            AND ($8 = '' OR about_id = $8)
            AND ($9 = '' OR recipient = $9 OR LOWER(recipient) = $12)
            AND ($10 = '' OR search LIKE $10 ESCAPE '\\')
          ORDER BY created_at DESC, id DESC
          LIMIT $11"
    )))
    .bind(before.0)
    .bind(before_id.as_str())
    .bind(search.from.map_or(i64::MIN, |from| from.0))
    .bind(search.to.map_or(i64::MAX, |to| to.0))
    .bind(text(&search.state))
    .bind(text(&search.template))
    .bind(search.about.as_ref().map_or("", |about| &about.kind))
    .bind(search.about.as_ref().map_or("", |about| &about.id))
    .bind(text(&search.recipient))
    .bind(keyword.map_or_else(String::new, |keyword| like_pattern(Some(keyword))))
    .bind(limit)
    // Lower-casing beyond ASCII differs between databases: there, as written.
    .bind(text(&search.recipient).to_ascii_lowercase())
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// What is on record of the attempts at a mail, in their order.
pub(super) async fn attempts(conn: &mut Conn, mail: &str) -> Result<Vec<PastAttempt>, DbError> {
    sqlx::query(
        "-- mail.attempts
         SELECT attempt, server, outcome, answer, started_at, ended_at
           FROM mail_attempts
          WHERE mail = $1
          ORDER BY attempt, turn",
    )
    .bind(mail)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| {
        Ok(PastAttempt {
            attempt: row.try_get("attempt")?,
            server: row.try_get("server")?,
            outcome: row.try_get("outcome")?,
            answer: row.try_get("answer")?,
            started_at: UnixMillis(row.try_get("started_at")?),
            ended_at: UnixMillis(row.try_get("ended_at")?),
        })
    })
    .collect()
}
