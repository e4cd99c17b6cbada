//! The only writer of `mails`.

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::model::{About, Mail, MailState, Via, WITHDRAWN, shortened};
use super::templates::{Language, Template};
use crate::db::{Conn, DbError};

/// A mail to be written.
pub(super) struct NewRow<'a> {
    pub id: &'a str,
    pub template: Template,
    pub language: Language,
    pub recipient: &'a str,
    pub about: &'a About,
    pub subject: &'a str,
    pub body_masked: &'a str,
    pub context_sealed: &'a str,
    pub context_masked: &'a str,
    pub not_before: UnixMillis,
    pub now: UnixMillis,
}

/// A mail that this worker alone may send until its claim lapses.
pub(super) struct Claimed {
    pub mail: Mail,
    pub claim: String,
    pub context_sealed: String,
}

pub(super) const COLUMNS: &str = "id, template, language, recipient, about_kind, about_id, subject, body_masked, state, \
     next_attempt_at, attempts, claimed_until, maybe_repeated, last_error, sent_via, created_at, ended_at, \
     unanswered, COALESCE(not_before, created_at) AS due_at";

pub(super) async fn insert(conn: &mut Conn, row: &NewRow<'_>) -> Result<(), DbError> {
    sqlx::query(
        "-- mail.enqueue
         INSERT INTO mails (id, template, language, recipient, about_kind, about_id, subject, body_masked,
                            context_sealed, context_masked, state, next_attempt_at, not_before,
                            created_at, search)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'waiting', $11, $11, $12, $13)",
    )
    .bind(row.id)
    .bind(row.template.name())
    .bind(row.language.tag())
    .bind(row.recipient)
    .bind(&row.about.kind)
    .bind(&row.about.id)
    .bind(row.subject)
    .bind(row.body_masked)
    .bind(row.context_sealed)
    .bind(row.context_masked)
    .bind(row.not_before.0)
    .bind(row.now.0)
    .bind(row.subject.to_lowercase())
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a mail is to be sent, or was to be by somebody who has not said how it went.
pub(super) async fn anything_due(conn: &mut Conn, now: UnixMillis) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- mail.anything_due
         SELECT COUNT(*) AS due
           FROM (SELECT id
                   FROM mails
                  WHERE (state = 'waiting' AND next_attempt_at <= $1)
                     OR (state = 'sending' AND claimed_until < $1)
                  LIMIT 1) AS first",
    )
    .bind(now.0)
    .fetch_one(conn)
    .await?;
    Ok(row.try_get::<i64, _>("due")? > 0)
}

/// Takes the mail that is due longest. Two replicas that choose the same row do not both get it:
/// the outer WHERE tests the state again.
pub(super) async fn claim(
    conn: &mut Conn,
    claim: &str,
    claimed_until: UnixMillis,
    now: UnixMillis,
) -> Result<Option<Claimed>, DbError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- mail.claim
         UPDATE mails
            SET state = 'sending',
                claim = $1,
                claimed_until = $2,
                attempts = attempts + 1
          WHERE id = (SELECT id
                        FROM mails
                       WHERE state = 'waiting'
                         AND next_attempt_at <= $3
                       ORDER BY next_attempt_at, id
                       LIMIT 1)
            AND state = 'waiting'
            AND next_attempt_at <= $3
      RETURNING {COLUMNS}, context_sealed"
    )))
    .bind(claim)
    .bind(claimed_until.0)
    .bind(now.0)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mail = read(&row)?;
    let context_sealed: Option<String> = row.try_get("context_sealed")?;
    let context_sealed = context_sealed.ok_or_else(|| inconsistent("context_sealed", &mail.id))?;
    Ok(Some(Claimed { mail, claim: claim.into(), context_sealed }))
}

/// Mails whose claim has lapsed wait again, and may have been sent: their ids and the number of the
/// attempt that nobody has told about.
pub(super) async fn take_back_lapsed(
    conn: &mut Conn,
    now: UnixMillis,
) -> Result<Vec<(String, u32)>, DbError> {
    let rows = sqlx::query(
        "-- mail.take_back
         UPDATE mails
            SET state = 'waiting', next_attempt_at = $1, claim = NULL, claimed_until = NULL,
                maybe_repeated = 1, unanswered = unanswered + 1
          WHERE state = 'sending'
            AND claimed_until < $1
      RETURNING id, attempts",
    )
    .bind(now.0)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let (id, attempts): (String, i64) = (row.try_get("id")?, row.try_get("attempts")?);
            let attempts = u32::try_from(attempts).map_err(|_| inconsistent("attempts", &id))?;
            Ok((id, attempts))
        })
        .collect()
}

/// Gives up what was handed over that often without an answer. Returns which.
pub(super) async fn give_up_unanswered(
    conn: &mut Conn,
    unanswered: u32,
    now: UnixMillis,
) -> Result<Vec<(String, Template)>, DbError> {
    let rows = sqlx::query(
        "-- mail.give_up_unanswered
         UPDATE mails
            SET state = 'failed', last_error = $2, ended_at = $3, context_sealed = NULL
          WHERE state = 'waiting'
            AND unanswered >= $1
      RETURNING id, template",
    )
    .bind(i64::from(unanswered))
    .bind(format!("{unanswered} attempts ended without an answer: it may have arrived"))
    .bind(now.0)
    .fetch_all(conn)
    .await?;
    rows.iter().map(id_and_template).collect()
}

/// Gives up mails that have been due since `cutoff` or longer, oldest first, `limit` at most. Returns
/// which.
pub(super) async fn give_up_overdue(
    conn: &mut Conn,
    cutoff: UnixMillis,
    why: &str,
    limit: i64,
    now: UnixMillis,
) -> Result<Vec<(String, Template)>, DbError> {
    let rows = sqlx::query(
        "-- mail.give_up_overdue
         UPDATE mails
            SET state = 'failed', last_error = $2, ended_at = $3, context_sealed = NULL
          WHERE state = 'waiting'
            AND id IN (SELECT id
                         FROM mails
                        WHERE state = 'waiting'
                          AND COALESCE(not_before, created_at) <= $1
                        ORDER BY next_attempt_at
                        LIMIT $4)
      RETURNING id, template",
    )
    .bind(cutoff.0)
    .bind(shortened(why))
    .bind(now.0)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(id_and_template).collect()
}

/// As it was before the attempt, which no server could be found for. Whether the mail was still this
/// worker's.
pub(super) async fn put_back(conn: &mut Conn, id: &str, claim: &str, error: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- mail.put_back
         UPDATE mails
            SET state = 'waiting', last_error = $3, attempts = attempts - 1, claim = NULL, claimed_until = NULL
          WHERE id = $1 AND claim = $2 AND state = 'sending'",
    )
    .bind(id)
    .bind(claim)
    .bind(shortened(error))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the mail was still this worker's.
pub(super) async fn sent(
    conn: &mut Conn,
    id: &str,
    claim: &str,
    via: Via,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- mail.sent
         UPDATE mails
            SET state = 'sent', sent_via = $3, ended_at = $4, context_sealed = NULL, claim = NULL, claimed_until = NULL
          WHERE id = $1 AND claim = $2 AND state = 'sending'",
    )
    .bind(id)
    .bind(claim)
    .bind(via.name())
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the mail was still this worker's.
pub(super) async fn waits_again(
    conn: &mut Conn,
    id: &str,
    claim: &str,
    at: UnixMillis,
    error: &str,
    maybe_repeated: bool,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- mail.waits_again
         UPDATE mails
            SET state = 'waiting', next_attempt_at = $3, last_error = $4, claim = NULL, claimed_until = NULL,
                maybe_repeated = CASE WHEN $5 = 1 THEN 1 ELSE maybe_repeated END, unanswered = unanswered + $5
          WHERE id = $1 AND claim = $2 AND state = 'sending'",
    )
    .bind(id)
    .bind(claim)
    .bind(at.0)
    .bind(shortened(error))
    .bind(i64::from(maybe_repeated))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the mail was still this worker's.
pub(super) async fn given_up(
    conn: &mut Conn,
    id: &str,
    claim: &str,
    error: &str,
    maybe_repeated: bool,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- mail.given_up
         UPDATE mails
            SET state = 'failed', last_error = $3, ended_at = $4, context_sealed = NULL, claim = NULL,
                claimed_until = NULL, maybe_repeated = CASE WHEN $5 = 1 THEN 1 ELSE maybe_repeated END,
                unanswered = unanswered + $5
          WHERE id = $1 AND claim = $2 AND state = 'sending'",
    )
    .bind(id)
    .bind(claim)
    .bind(shortened(error))
    .bind(now.0)
    .bind(i64::from(maybe_repeated))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the mails that are not sent yet; a worker that is at one has lost its claim.
pub(super) async fn withdraw(
    conn: &mut Conn,
    about: &About,
    template: Template,
    why: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- mail.withdraw
         UPDATE mails
            SET state = 'failed',
                last_error = CASE WHEN state = 'sending' THEN $4 ELSE $5 END,
                ended_at = $6, context_sealed = NULL, claim = NULL, claimed_until = NULL
          WHERE about_kind = $1
            AND about_id = $2
            AND template = $3
            AND state IN ('waiting', 'sending')",
    )
    .bind(&about.kind)
    .bind(&about.id)
    .bind(template.name())
    .bind(shortened(&format!("{WITHDRAWN}{why}; it was being sent and may have arrived")))
    .bind(shortened(&format!("{WITHDRAWN}{why}")))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a mail that waits; whether it did.
pub(super) async fn cancel(conn: &mut Conn, id: &str, why: &str, now: UnixMillis) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- mail.cancel
         UPDATE mails
            SET state = 'failed', last_error = $2, ended_at = $3, context_sealed = NULL
          WHERE id = $1 AND state = 'waiting'",
    )
    .bind(id)
    .bind(shortened(why))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes mails that ended before `before`, `limit` at most; what was on record of their attempts is
/// the caller's to remove. Returns their ids.
pub(super) async fn purge(conn: &mut Conn, before: UnixMillis, limit: i64) -> Result<Vec<String>, DbError> {
    let rows = sqlx::query(
        "-- mail.purge
         DELETE FROM mails
          WHERE id IN (SELECT id
                         FROM mails
                        WHERE state IN ('sent', 'failed')
                          AND ended_at < $1
                        ORDER BY ended_at
                        LIMIT $2)
            AND state IN ('sent', 'failed')
      RETURNING id",
    )
    .bind(before.0)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

pub(super) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Mail>, DbError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- mail.by_id
         SELECT {COLUMNS} FROM mails WHERE id = $1"
    )))
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// The context with its secrets masked, as JSON.
pub(super) async fn masked_context(conn: &mut Conn, id: &str) -> Result<Option<String>, DbError> {
    let row = sqlx::query(
        "-- mail.masked_context
         SELECT context_masked FROM mails WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The last `limit` mails about something, oldest first.
pub async fn about(conn: &mut Conn, kind: &str, id: &str, limit: i64) -> Result<Vec<Mail>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- mail.about
         SELECT {COLUMNS}
           FROM mails
          WHERE about_kind = $1 AND about_id = $2
          ORDER BY created_at DESC, id DESC
          LIMIT $3"
    )))
    .bind(kind)
    .bind(id)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().rev().map(read).collect()
}

pub(super) fn read(row: &AnyRow) -> Result<Mail, DbError> {
    let id: String = row.try_get("id")?;
    let template: String = row.try_get("template")?;
    let language: String = row.try_get("language")?;
    let instant = |column: &'static str| -> Result<UnixMillis, DbError> {
        let at: Option<i64> = row.try_get(column)?;
        at.map(UnixMillis).ok_or_else(|| inconsistent(column, &id))
    };
    let state: String = row.try_get("state")?;
    let state = match state.as_str() {
        "waiting" => MailState::Waiting { next_attempt_at: instant("next_attempt_at")? },
        "sending" => MailState::Sending { claimed_until: instant("claimed_until")? },
        "sent" => {
            let via: Option<String> = row.try_get("sent_via")?;
            let via = via.as_deref().and_then(Via::parse).ok_or_else(|| inconsistent("sent_via", &id))?;
            MailState::Sent { sent_at: instant("ended_at")?, via }
        }
        "failed" => MailState::Failed { failed_at: instant("ended_at")? },
        _ => return Err(inconsistent("state", &id)),
    };
    let attempts: i64 = row.try_get("attempts")?;
    Ok(Mail {
        template: Template::parse(&template).ok_or_else(|| inconsistent("template", &id))?,
        language: Language::parse(&language).ok_or_else(|| inconsistent("language", &id))?,
        recipient: row.try_get("recipient")?,
        about: About { kind: row.try_get("about_kind")?, id: row.try_get("about_id")? },
        subject: row.try_get("subject")?,
        body_masked: row.try_get("body_masked")?,
        state,
        attempts: u32::try_from(attempts).map_err(|_| inconsistent("attempts", &id))?,
        unanswered: u32::try_from(row.try_get::<i64, _>("unanswered")?)
            .map_err(|_| inconsistent("unanswered", &id))?,
        maybe_repeated: row.try_get::<i64, _>("maybe_repeated")? != 0,
        last_error: row.try_get("last_error")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        due_at: UnixMillis(row.try_get("due_at")?),
        id,
    })
}

fn id_and_template(row: &AnyRow) -> Result<(String, Template), DbError> {
    let (id, template): (String, String) = (row.try_get("id")?, row.try_get("template")?);
    let template = Template::parse(&template).ok_or_else(|| inconsistent("template", &id))?;
    Ok((id, template))
}

pub(super) fn inconsistent(column: &'static str, row: &str) -> DbError {
    DbError::Inconsistency { table: "mails", column, row: row.into() }
}

/// The newest `limit` mails about something, newest first.
pub async fn written_about(conn: &mut Conn, about: &About, limit: i64) -> Result<Vec<Mail>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- mail.written_about
         SELECT {COLUMNS}
           FROM mails
          WHERE about_kind = $1 AND about_id = $2
          ORDER BY created_at DESC, id DESC
          LIMIT $3"
    )))
    .bind(&about.kind)
    .bind(&about.id)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}
