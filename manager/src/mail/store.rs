//! The only writer of `mails`.

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::model::{About, Mail, MailState, Via, shortened};
use super::template::{Language, Template};
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

/// Which mails a list shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub state: Option<String>,
    pub template: Option<String>,
    pub recipient: Option<String>,
    pub about: Option<About>,
}

const COLUMNS: &str = "id, template, language, recipient, about_kind, about_id, subject, body_masked, state, \
     next_attempt_at, attempts, claimed_until, maybe_repeated, last_error, sent_via, created_at, ended_at";

pub(super) async fn insert(conn: &mut Conn, row: &NewRow<'_>) -> Result<(), DbError> {
    sqlx::query(
        "-- mail.enqueue
         INSERT INTO mails (id, template, language, recipient, about_kind, about_id, subject, body_masked,
                            context_sealed, context_masked, state, next_attempt_at, not_before,
                            created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'waiting', $11, $11, $12)",
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
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the mail that is due longest. Two replicas that choose the same row do not both get it:
/// the outer WHERE tests the state again. A row whose claim has lapsed is taken over, and says
/// from then on that it may have been sent before.
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
                attempts = attempts + 1,
                maybe_repeated = CASE WHEN state = 'sending' THEN 1 ELSE maybe_repeated END
          WHERE id = (SELECT id
                        FROM mails
                       WHERE (state = 'waiting' AND next_attempt_at <= $3)
                          OR (state = 'sending' AND claimed_until < $3)
                       ORDER BY next_attempt_at, id
                       LIMIT 1)
            AND ((state = 'waiting' AND next_attempt_at <= $3) OR (state = 'sending' AND claimed_until < $3))
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
                maybe_repeated = CASE WHEN $5 = 1 THEN 1 ELSE maybe_repeated END
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
                claimed_until = NULL, maybe_repeated = CASE WHEN $5 = 1 THEN 1 ELSE maybe_repeated END
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

/// Puts on record how an attempt at a server ended: `error` is null where it accepted the mail.
pub(super) async fn server_fared(
    conn: &mut Conn,
    address: &str,
    error: Option<&str>,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- mail.server_fared
         INSERT INTO mail_servers (address, last_success_at, last_failure_at, last_error)
         VALUES ($1, CASE WHEN $2 IS NULL THEN $3 END, CASE WHEN $2 IS NOT NULL THEN $3 END, $2)
             ON CONFLICT (address) DO UPDATE
            SET last_success_at = COALESCE(excluded.last_success_at, mail_servers.last_success_at),
                last_failure_at = COALESCE(excluded.last_failure_at, mail_servers.last_failure_at),
                last_error      = COALESCE(excluded.last_error, mail_servers.last_error)",
    )
    .bind(address)
    .bind(error)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
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
    .bind(shortened(&format!("withdrawn: {why}; it was being sent and may have arrived")))
    .bind(shortened(&format!("withdrawn: {why}")))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
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

/// Newest first: up to `limit` mails written before the one that `before` names (its creation
/// time and id).
pub(super) async fn list(
    conn: &mut Conn,
    filter: &Filter,
    before: (UnixMillis, &str),
    limit: i64,
) -> Result<Vec<Mail>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- mail.list
         SELECT {COLUMNS}
           FROM mails
          WHERE (created_at < $1 OR (created_at = $1 AND id < $2))
            AND ($3 = '' OR state = $3)
            AND ($4 = '' OR template = $4)
            AND ($5 = '' OR about_kind = $5)
            AND ($6 = '' OR about_id = $6)
            AND ($7 = '' OR recipient = $7)
          ORDER BY created_at DESC, id DESC
          LIMIT $8"
    )))
    .bind(before.0.0)
    .bind(before.1)
    .bind(filter.state.as_deref().unwrap_or_default())
    .bind(filter.template.as_deref().unwrap_or_default())
    .bind(filter.about.as_ref().map_or("", |about| &about.kind))
    .bind(filter.about.as_ref().map_or("", |about| &about.id))
    .bind(filter.recipient.as_deref().unwrap_or_default())
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Mail, DbError> {
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
        maybe_repeated: row.try_get::<i64, _>("maybe_repeated")? != 0,
        last_error: row.try_get("last_error")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        id,
    })
}

fn inconsistent(column: &'static str, row: &str) -> DbError {
    DbError::Inconsistency { table: "mails", column, row: row.into() }
}

/// Deletes up to `limit` mails that were sent or given up before `before`. How many there were.
pub(super) async fn forget(conn: &mut Conn, before: UnixMillis, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- mail.forget
         DELETE FROM mails
          WHERE id IN (SELECT id FROM mails WHERE ended_at < $1 ORDER BY ended_at, id LIMIT $2)
            AND state IN ('sent', 'failed')",
    )
    .bind(before.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
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
