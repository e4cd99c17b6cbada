//! Tables `approval_rounds` and `approval_signatures`.

use std::collections::BTreeMap;

use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::model::{Author, Round, Signature};
use crate::approvals::FormKind;
use crate::db::{Conn, DbError, MAX_IN, placeholders};

/// What happens to a level that waits, at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Its reviewers were reminded.
    Reminded,
    /// It was opened to others.
    Escalated,
    /// Administrators were told that nobody can sign it.
    Reported,
}

/// A form begins a round at level 1. Returns which one.
pub(super) async fn begin(
    conn: &mut Conn,
    form: &str,
    kind: FormKind,
    number: &str,
    author: &Author,
    levels: u32,
    now: UnixMillis,
) -> Result<u32, DbError> {
    let row = sqlx::query(
        "-- approvals.rounds.begin
         INSERT INTO approval_rounds
            (form, kind, number, author_operator, author_email, round, levels, level, since)
         VALUES ($1, $2, $3, $4, $5, 1, $6, 1, $7)
         ON CONFLICT (form) DO UPDATE
            SET round           = approval_rounds.round + 1,
                author_operator = excluded.author_operator,
                author_email    = excluded.author_email,
                levels          = excluded.levels,
                level           = 1,
                since           = excluded.since,
                reminded_at     = NULL,
                escalated_at    = NULL,
                reported_at     = NULL
         RETURNING round",
    )
    .bind(form)
    .bind(kind.code())
    .bind(number)
    .bind(&author.operator)
    .bind(Some(author.emails.join("\n")).filter(|emails| !emails.is_empty()))
    .bind(i64::from(levels))
    .bind(now.0)
    .fetch_one(conn)
    .await?;
    number_in(&row, "round", form)
}

/// Keeps `round` as it is told, and in place of its signatures those that were given at these times.
/// Who its authors were at its submission stays: who is one now may be somebody else.
pub async fn restore(
    conn: &mut Conn,
    round: &Round,
    signatures: &[(Signature, UnixMillis)],
) -> Result<(), DbError> {
    sqlx::query(
        "-- approvals.rounds.restore
         INSERT INTO approval_rounds
            (form, kind, number, author_operator, author_email, round, levels, level, since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (form) DO UPDATE
            SET round           = excluded.round,
                author_operator = CASE WHEN approval_rounds.round = excluded.round
                                       THEN approval_rounds.author_operator ELSE excluded.author_operator END,
                author_email    = CASE WHEN approval_rounds.round = excluded.round
                                       THEN approval_rounds.author_email ELSE excluded.author_email END,
                levels          = excluded.levels,
                level           = excluded.level,
                since           = excluded.since,
                reminded_at     = NULL,
                escalated_at    = NULL,
                reported_at     = NULL",
    )
    .bind(&round.form)
    .bind(round.kind.code())
    .bind(&round.number)
    .bind(&round.author.operator)
    .bind(Some(round.author.emails.join("\n")).filter(|emails| !emails.is_empty()))
    .bind(i64::from(round.round))
    .bind(i64::from(round.levels))
    .bind(i64::from(round.level))
    .bind(round.since.0)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- approvals.rounds.restore.forget
         DELETE FROM approval_signatures
          WHERE form = $1
            AND round = $2",
    )
    .bind(&round.form)
    .bind(i64::from(round.round))
    .execute(&mut *conn)
    .await?;
    for (signature, at) in signatures {
        sign(conn, round, signature, *at).await?;
    }
    Ok(())
}

/// The next level waits.
pub(super) async fn go_on(conn: &mut Conn, form: &str, level: u32, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- approvals.rounds.go_on
         UPDATE approval_rounds
            SET level = $1, since = $2, reminded_at = NULL, escalated_at = NULL, reported_at = NULL
          WHERE form = $3",
    )
    .bind(i64::from(level))
    .bind(now.0)
    .bind(form)
    .execute(conn)
    .await?;
    Ok(())
}

/// No level waits any more.
pub(super) async fn end(conn: &mut Conn, form: &str, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- approvals.rounds.end
         UPDATE approval_rounds
            SET level = NULL, since = $1
          WHERE form = $2
            AND level IS NOT NULL",
    )
    .bind(now.0)
    .bind(form)
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps a signature of a round's level: the only one there can be.
pub(super) async fn sign(
    conn: &mut Conn,
    round: &Round,
    signature: &Signature,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- approvals.rounds.sign
         INSERT INTO approval_signatures (form, round, level, signer, on_behalf_of, escalated, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&round.form)
    .bind(i64::from(round.round))
    .bind(i64::from(signature.level))
    .bind(&signature.signer)
    .bind(&signature.on_behalf_of)
    .bind(i64::from(signature.escalated))
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes on `round` what happened to the level that waits. False: it did before, or the form waits
/// there no longer.
pub async fn mark(conn: &mut Conn, round: &Round, mark: Mark, now: UnixMillis) -> Result<bool, DbError> {
    let which = match mark {
        Mark::Reminded => "reminded",
        Mark::Escalated => "escalated",
        Mark::Reported => "reported",
    };
    let done = sqlx::query(
        "-- approvals.rounds.mark
         UPDATE approval_rounds
            SET reminded_at  = CASE WHEN $1 = 'reminded' THEN $2 ELSE reminded_at END,
                escalated_at = CASE WHEN $1 = 'escalated' THEN $2 ELSE escalated_at END,
                reported_at  = CASE WHEN $1 = 'reported' THEN $2 ELSE reported_at END
          WHERE form = $3
            AND round = $4
            AND level = $5
            AND (CASE $1 WHEN 'reminded' THEN reminded_at
                         WHEN 'escalated' THEN escalated_at
                         ELSE reported_at END) IS NULL",
    )
    .bind(which)
    .bind(now.0)
    .bind(&round.form)
    .bind(i64::from(round.round))
    .bind(i64::from(round.level))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Somebody can sign it again: the next time that nobody can is reported anew.
pub async fn forget_report(conn: &mut Conn, form: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- approvals.rounds.forget_report
         UPDATE approval_rounds
            SET reported_at = NULL
          WHERE form = $1",
    )
    .bind(form)
    .execute(conn)
    .await?;
    Ok(())
}

/// The round of a form; None: it waits for no signature.
pub async fn find(conn: &mut Conn, form: &str) -> Result<Option<Round>, DbError> {
    let row = sqlx::query(
        "-- approvals.rounds.find
         SELECT form, kind, number, author_operator, author_email, round, levels, level, since, reminded_at,
                escalated_at, reported_at
           FROM approval_rounds
          WHERE form = $1
            AND level IS NOT NULL",
    )
    .bind(form)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut round = read(&row)?;
    let signatures = sqlx::query(
        "-- approvals.rounds.signatures
         SELECT form, level, signer, on_behalf_of, escalated
           FROM approval_signatures
          WHERE form = $1
            AND round = $2
          ORDER BY level",
    )
    .bind(form)
    .bind(i64::from(round.round))
    .fetch_all(conn)
    .await?;
    round.signatures = signatures.iter().map(signature).collect::<Result<_, _>>()?;
    Ok(Some(round))
}

/// The rounds of those of these forms that wait for a signature.
pub async fn of(conn: &mut Conn, forms: &[&str]) -> Result<Vec<Round>, DbError> {
    let mut found = Vec::with_capacity(forms.len());
    for part in forms.chunks(MAX_IN) {
        let places = placeholders(1, part.len());
        let rounds = format!(
            "-- approvals.rounds.of
             SELECT form, kind, number, author_operator, author_email, round, levels, level, since, reminded_at,
                    escalated_at, reported_at
               FROM approval_rounds
              WHERE level IS NOT NULL
                AND form IN ({places})"
        );
        let signed = format!(
            "-- approvals.rounds.of.signatures
             SELECT s.form, s.level, s.signer, s.on_behalf_of, s.escalated
               FROM approval_signatures s
               JOIN approval_rounds r ON r.form = s.form AND r.round = s.round
              WHERE s.form IN ({places})
              ORDER BY s.level"
        );
        let bound = |sql: String| {
            part.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, form| query.bind((*form).to_owned()))
        };
        let rows = bound(rounds).fetch_all(&mut *conn).await?;
        let signed = bound(signed).fetch_all(&mut *conn).await?;
        found.extend(with_signatures(&rows, &signed)?);
    }
    Ok(found)
}

/// The rounds of all forms that wait for a signature, of one kind or of all: the longest waiting first.
pub async fn waiting(conn: &mut Conn, kind: Option<FormKind>) -> Result<Vec<Round>, DbError> {
    let kind = kind.map(FormKind::code).unwrap_or_default();
    let rows = sqlx::query(
        "-- approvals.rounds.waiting
         SELECT form, kind, number, author_operator, author_email, round, levels, level, since, reminded_at,
                escalated_at, reported_at
           FROM approval_rounds
          WHERE level IS NOT NULL
            AND ($1 = '' OR kind = $1)
          ORDER BY since, form",
    )
    .bind(kind)
    .fetch_all(&mut *conn)
    .await?;
    let signed = sqlx::query(
        "-- approvals.rounds.waiting.signatures
         SELECT s.form, s.level, s.signer, s.on_behalf_of, s.escalated
           FROM approval_signatures s
           JOIN approval_rounds r ON r.form = s.form AND r.round = s.round
          WHERE r.level IS NOT NULL
            AND ($1 = '' OR r.kind = $1)
          ORDER BY s.level",
    )
    .bind(kind)
    .fetch_all(conn)
    .await?;
    with_signatures(&rows, &signed)
}

fn with_signatures(rounds: &[AnyRow], signed: &[AnyRow]) -> Result<Vec<Round>, DbError> {
    let mut signatures: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
    for row in signed {
        signatures.entry(row.try_get("form")?).or_default().push(signature(row)?);
    }
    rounds
        .iter()
        .map(|row| {
            let round = read(row)?;
            Ok(Round { signatures: signatures.remove(&round.form).unwrap_or_default(), ..round })
        })
        .collect()
}

fn read(row: &AnyRow) -> Result<Round, DbError> {
    let form: String = row.try_get("form")?;
    let kind: String = row.try_get("kind")?;
    let kind = FormKind::parse(&kind).ok_or_else(|| senseless("kind", &form))?;
    let emails: Option<String> = row.try_get("author_email")?;
    let emails = emails.iter().flat_map(|emails| emails.lines()).map(str::to_owned).collect();
    Ok(Round {
        kind,
        number: row.try_get("number")?,
        author: Author { operator: row.try_get("author_operator")?, emails },
        round: number_in(row, "round", &form)?,
        level: number_in(row, "level", &form)?,
        levels: number_in(row, "levels", &form)?,
        since: UnixMillis(row.try_get("since")?),
        reminded_at: row.try_get::<Option<i64>, _>("reminded_at")?.map(UnixMillis),
        escalated_at: row.try_get::<Option<i64>, _>("escalated_at")?.map(UnixMillis),
        reported_at: row.try_get::<Option<i64>, _>("reported_at")?.map(UnixMillis),
        signatures: Vec::new(),
        form,
    })
}

fn signature(row: &AnyRow) -> Result<Signature, DbError> {
    let form: String = row.try_get("form")?;
    Ok(Signature {
        level: number_in(row, "level", &form)?,
        signer: row.try_get("signer")?,
        on_behalf_of: row.try_get("on_behalf_of")?,
        escalated: row.try_get::<i64, _>("escalated")? == 1,
    })
}

fn number_in(row: &AnyRow, column: &'static str, form: &str) -> Result<u32, DbError> {
    let number: i64 = row.try_get(column)?;
    u32::try_from(number).map_err(|_| senseless(column, form))
}

fn senseless(column: &'static str, form: &str) -> DbError {
    DbError::Inconsistency { table: "approval_rounds", column, row: form.to_owned() }
}
