//! The only writer of `usage_reports`, `usage_calls`, `usage_answers` and `usage_rolled`, and of
//! `usage_hours`, where releases before these tables counted.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::HolderId;
use gate::time::UnixMillis;
use gate::wire::exchange::{ANSWERED, LATENCY_MS, UsageReport, UsageRow};
use sqlx::{AssertSqlSafe, Row};

use super::model::{Grain, Rolled, Sources, Span};
use crate::db::{Conditions, Conn, DbError, MAX_IN, placeholders};

/// Milliseconds of the minute that reports are counted in.
const MINUTE_MS: i64 = 60_000;
/// How long the last report of a VM's life is remembered: far longer than a VM repeats one.
const REPORT_KEPT_MS: i64 = 86_400_000;
/// Rows of one statement. Few sizes, so that each is prepared once: what is more goes into several.
const ROWS: [usize; 4] = [64, 16, 4, 1];

/// One report of one VM.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The Envoy process.
    pub holder: HolderId,
    /// The VM within it.
    pub slot: u32,
    /// The report.
    pub report: UsageReport,
}

/// What was counted of some reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows of new reports.
    pub rows: u64,
    /// Reports that had been counted before.
    pub repeated: u64,
}

/// Adds reports to the minute of `now`; one that has been counted before is left out. Rows are
/// locked in the order of their keys, whatever the order of the reports.
pub async fn count(conn: &mut Conn, reports: &[Reported], now: UnixMillis) -> Result<Counted, DbError> {
    let mut reports: Vec<&Reported> = reports.iter().collect();
    reports.sort_by_key(|one| (one.holder, one.slot, one.report.boot, one.report.seq));
    let (mut fresh, mut counted) = (Vec::with_capacity(reports.len()), Counted::default());
    for reported in reports {
        if claim(conn, reported, now).await? {
            counted.rows += reported.report.rows.len() as u64;
            fresh.extend(&reported.report.rows);
        } else {
            counted.repeated += 1;
        }
    }
    let minute = UnixMillis(now.0 - now.0.rem_euclid(MINUTE_MS));
    let clients = clients_of(conn, untold(&fresh)).await?;
    let (calls, answers) = summed(&fresh, &clients);
    add_calls(conn, (Grain::Minute, minute), &calls).await?;
    add_answers(conn, minute, &answers).await?;
    Ok(counted)
}

/// What calls are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Caller {
    client: String,
    credential: String,
    api: String,
    result: String,
}

/// Adds to rows, several by one statement; they are locked in the order of their keys.
async fn add_calls(
    conn: &mut Conn,
    (grain, start): (Grain, UnixMillis),
    calls: &BTreeMap<Caller, i64>,
) -> Result<(), DbError> {
    let rows: Vec<_> = calls.iter().collect();
    for rows in parts(&rows) {
        let sql = format!(
            "-- usage.count
             INSERT INTO usage_calls (grain, start, client, credential, api, result, calls)
             VALUES {}
                 ON CONFLICT (grain, start, client, credential, api, result) DO UPDATE
                SET calls = usage_calls.calls + excluded.calls",
            values(rows.len(), 7)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (Caller { client, credential, api, result }, calls) in rows {
            query = query.bind(grain.name()).bind(start.0);
            query = query.bind(client).bind(credential).bind(api).bind(result).bind(**calls);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// As [`add_calls`].
async fn add_answers(conn: &mut Conn, minute: UnixMillis, answers: &AnswerSums) -> Result<(), DbError> {
    let rows: Vec<_> = answers.iter().collect();
    for rows in parts(&rows) {
        let sql = format!(
            "-- usage.count.answers
             INSERT INTO usage_answers (grain, start, client, api, result, le_ms, answers, ms)
             VALUES {}
                 ON CONFLICT (grain, start, client, api, result, le_ms) DO UPDATE
                SET answers = usage_answers.answers + excluded.answers, ms = usage_answers.ms + excluded.ms",
            values(rows.len(), 8)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for ((Caller { client, api, result, .. }, le_ms), (answers, ms)) in rows {
            query = query.bind(Grain::Minute.name()).bind(minute.0);
            query = query.bind(client).bind(api).bind(result).bind(*le_ms).bind(*answers).bind(*ms);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Parts of the sizes that there are statements for.
fn parts<T>(mut rows: &[T]) -> Vec<&[T]> {
    let mut parts = Vec::new();
    for size in ROWS {
        while let Some((part, rest)) = rows.split_at_checked(size) {
            parts.push(part);
            rows = rest;
        }
    }
    parts
}

/// `($1, $2), ($3, $4)`
fn values(rows: usize, columns: usize) -> String {
    let row = |row: usize| format!("({})", placeholders(row * columns + 1, columns));
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// True: the report is new, and is now noted as counted.
async fn claim(conn: &mut Conn, reported: &Reported, now: UnixMillis) -> Result<bool, DbError> {
    let Reported { holder, slot, report } = reported;
    let claimed = sqlx::query(
        "-- usage.claim
         INSERT INTO usage_reports (holder, slot, boot, seq, counted_at)
         VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (holder, slot, boot) DO UPDATE
            SET seq = excluded.seq, counted_at = excluded.counted_at
          WHERE usage_reports.seq < excluded.seq",
    )
    .bind(holder.to_string())
    .bind(i64::from(*slot))
    .bind(report.boot as i64)
    .bind(report.seq as i64)
    .bind(now.0)
    .execute(&mut *conn)
    .await?;
    if report.seq == 1 {
        sqlx::query(
            "-- usage.claim.forget
             DELETE FROM usage_reports WHERE holder = $1 AND counted_at < $2",
        )
        .bind(holder.to_string())
        .bind(now.0 - REPORT_KEPT_MS)
        .execute(conn)
        .await?;
    }
    Ok(claimed.rows_affected() == 1)
}

type CallSums = BTreeMap<Caller, i64>;
type AnswerSums = BTreeMap<(Caller, i64), (i64, i64)>;

/// Credentials whose client a filter of the release before does not tell.
fn untold(rows: &[&UsageRow]) -> BTreeSet<String> {
    let without = rows.iter().filter(|row| row.client.is_none());
    without.filter_map(|row| row.credential.as_ref()).map(|id| id.as_str().to_owned()).collect()
}

/// The reports' rows by their key, in the order in which every transaction locks them. `clients`: of
/// credentials whose rows do not say; known before they are put in order.
fn summed(rows: &[&UsageRow], clients: &BTreeMap<String, String>) -> (CallSums, AnswerSums) {
    let (mut calls, mut answers) = (CallSums::new(), AnswerSums::new());
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for row in rows {
        let credential = row.credential.as_ref().map_or("", |id| id.as_str());
        let client = match &row.client {
            Some(client) => client.as_str(),
            None => clients.get(credential).map_or("", String::as_str),
        };
        let key = Caller {
            client: client.into(),
            credential: credential.into(),
            api: row.api.as_ref().map_or("", |uid| uid.as_str()).into(),
            result: row.result.clone(),
        };
        if !ANSWERED.contains(&row.result.as_str()) {
            let sum: &mut i64 = calls.entry(key).or_default();
            *sum = sum.saturating_add(whole(row.count));
            continue;
        }
        // Answers are not kept by credential.
        let key = Caller { credential: String::new(), ..key };
        for [bucket, count, ms] in &row.latency {
            let last = usize::try_from(*bucket).ok().and_then(|at| LATENCY_MS.get(at));
            let sum = answers.entry((key.clone(), last.map_or(0, |ms| whole(*ms)))).or_default();
            *sum = (sum.0.saturating_add(whole(*count)), sum.1.saturating_add(whole(*ms)));
        }
    }
    (calls, answers)
}

/// Waits for whoever is summing up, and keeps others from it until the transaction ends.
pub(super) async fn lock_rolled(conn: &mut Conn) -> Result<(), DbError> {
    sqlx::query(
        "-- usage.roll.lock
         INSERT INTO usage_rolled (grain, through) VALUES ('hour', $1)
             ON CONFLICT (grain) DO UPDATE SET through = usage_rolled.through",
    )
    .bind(i64::MIN)
    .execute(conn)
    .await?;
    Ok(())
}

/// How far counts have been summed up.
pub(super) async fn rolled(conn: &mut Conn) -> Result<Rolled, DbError> {
    let rows = sqlx::query(
        "-- usage.rolled
         SELECT grain, through FROM usage_rolled",
    )
    .fetch_all(conn)
    .await?;
    let mut rolled = Rolled { hours: UnixMillis(i64::MIN), days: UnixMillis(i64::MIN) };
    for row in rows {
        let through = UnixMillis(row.try_get(1)?);
        match row.try_get::<&str, _>(0)? {
            "hour" => rolled.hours = through,
            _ => rolled.days = through,
        }
    }
    Ok(rolled)
}

/// The first instant at or after `from` that something of `grain` is counted for.
pub(super) async fn first(
    conn: &mut Conn,
    grain: Grain,
    from: UnixMillis,
) -> Result<Option<UnixMillis>, DbError> {
    let row = sqlx::query(
        "-- usage.first
         SELECT (SELECT MIN(start) FROM usage_calls   WHERE grain = $1 AND start >= $2),
                (SELECT MIN(start) FROM usage_answers WHERE grain = $1 AND start >= $2)",
    )
    .bind(grain.name())
    .bind(from.0)
    .fetch_one(conn)
    .await?;
    let starts = [row.try_get::<Option<i64>, _>(0)?, row.try_get::<Option<i64>, _>(1)?];
    Ok(starts.into_iter().flatten().min().map(UnixMillis))
}

/// Sums the counts of `from` within `part` up to the row of `to` that begins at `start`, and notes that
/// this is done.
pub(super) async fn roll(
    conn: &mut Conn,
    (from, to): (Grain, Grain),
    start: UnixMillis,
    part: Span,
) -> Result<(), DbError> {
    sqlx::query(
        "-- usage.roll
         INSERT INTO usage_calls (grain, start, client, credential, api, result, calls)
         SELECT $1, $2, client, credential, api, result, SUM(calls)
           FROM usage_calls
          WHERE grain = $3 AND start >= $4 AND start < $5
          GROUP BY client, credential, api, result
             ON CONFLICT (grain, start, client, credential, api, result) DO UPDATE
            SET calls = usage_calls.calls + excluded.calls",
    )
    .bind(to.name())
    .bind(start.0)
    .bind(from.name())
    .bind(part.start.0)
    .bind(part.end.0)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- usage.roll.answers
         INSERT INTO usage_answers (grain, start, client, api, result, le_ms, answers, ms)
         SELECT $1, $2, client, api, result, le_ms, SUM(answers), SUM(ms)
           FROM usage_answers
          WHERE grain = $3 AND start >= $4 AND start < $5
          GROUP BY client, api, result, le_ms
             ON CONFLICT (grain, start, client, api, result, le_ms) DO UPDATE
            SET answers = usage_answers.answers + excluded.answers, ms = usage_answers.ms + excluded.ms",
    )
    .bind(to.name())
    .bind(start.0)
    .bind(from.name())
    .bind(part.start.0)
    .bind(part.end.0)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- usage.roll.note
         INSERT INTO usage_rolled (grain, through) VALUES ($1, $2)
             ON CONFLICT (grain) DO UPDATE SET through = excluded.through",
    )
    .bind(to.name())
    .bind(part.end.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves up to `limit` counts of an earlier release to the hours; what is earlier than the days that are
/// summed up already, to those too. `day_of`: where the day of an instant begins. How many there were.
pub(super) async fn adopt(
    conn: &mut Conn,
    days: UnixMillis,
    day_of: impl Fn(UnixMillis) -> UnixMillis,
    limit: i64,
) -> Result<u64, DbError> {
    let rows = sqlx::query(
        "-- usage.adopt
         DELETE FROM usage_hours
          WHERE (hour, credential, api, result)
             IN (SELECT hour, credential, api, result FROM usage_hours ORDER BY hour LIMIT $1)
      RETURNING hour, credential, api, result, calls",
    )
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    let credentials: Result<BTreeSet<String>, _> = rows.iter().map(|row| row.try_get(1)).collect();
    let clients = clients_of(conn, credentials?).await?;
    for row in &rows {
        let (hour, calls) = (UnixMillis(row.try_get(0)?), row.try_get::<i64, _>(4)?);
        let credential: String = row.try_get(1)?;
        let client = clients.get(&credential).cloned().unwrap_or_default();
        let key = Caller { client, credential, api: row.try_get(2)?, result: row.try_get(3)? };
        let counted = BTreeMap::from([(key, calls)]);
        add_calls(conn, (Grain::Hour, hour), &counted).await?;
        if hour < days {
            add_calls(conn, (Grain::Day, day_of(hour)), &counted).await?;
        }
    }
    Ok(rows.len() as u64)
}

/// The clients of those credentials that are still on record.
async fn clients_of(
    conn: &mut Conn,
    credentials: BTreeSet<String>,
) -> Result<BTreeMap<String, String>, DbError> {
    let mut clients = BTreeMap::new();
    let mut on_record = Vec::new();
    for credential in credentials {
        match credential.strip_prefix("basic:").map(str::to_owned) {
            Some(client) => drop(clients.insert(credential, client)),
            None => on_record.push(credential),
        }
    }
    for some in on_record.chunks(MAX_IN) {
        let some_of = placeholders(1, some.len());
        let sql = format!(
            "-- usage.clients_of
             SELECT id, client_id FROM keys WHERE id IN ({some_of})
              UNION ALL
             SELECT id, client_id FROM x_api_keys WHERE id IN ({some_of})"
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for credential in some {
            query = query.bind(credential);
        }
        for row in query.fetch_all(&mut *conn).await? {
            clients.insert(row.try_get(0)?, row.try_get(1)?);
        }
    }
    Ok(clients)
}

/// Deletes up to `limit` counts of a grain that began before `before`, of calls and of answers. How many
/// there were.
pub(super) async fn forget(
    conn: &mut Conn,
    grain: Grain,
    before: UnixMillis,
    limit: i64,
) -> Result<u64, DbError> {
    let calls = sqlx::query(
        "-- usage.forget
         DELETE FROM usage_calls
          WHERE (grain, start, client, credential, api, result)
             IN (SELECT grain, start, client, credential, api, result
                   FROM usage_calls
                  WHERE grain = $1 AND start < $2
                  ORDER BY start LIMIT $3)",
    )
    .bind(grain.name())
    .bind(before.0)
    .bind(limit)
    .execute(&mut *conn)
    .await?;
    let answers = sqlx::query(
        "-- usage.forget.answers
         DELETE FROM usage_answers
          WHERE (grain, start, client, api, result, le_ms)
             IN (SELECT grain, start, client, api, result, le_ms
                   FROM usage_answers
                  WHERE grain = $1 AND start < $2
                  ORDER BY start LIMIT $3)",
    )
    .bind(grain.name())
    .bind(before.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(calls.rows_affected() + answers.rows_affected())
}

/// Whose calls are counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// All of a client.
    Client(&'a str),
    /// Those with a credential.
    Credential(&'a str),
}

/// Calls let in, of hours.
pub(super) async fn admitted(conn: &mut Conn, whose: Whose<'_>, sources: Sources) -> Result<u64, DbError> {
    let mut conditions = sources.conditions();
    match whose {
        Whose::Client(client) => conditions.text("client = #", client),
        Whose::Credential(credential) => conditions.text("credential = #", credential),
    }
    let sql = format!(
        "-- usage.admitted
         SELECT CAST(COALESCE(SUM(calls), 0) AS BIGINT)
           FROM usage_calls
          WHERE {} AND result = 'admitted'",
        conditions.sql()
    );
    let row = conditions.bind(sqlx::query(AssertSqlSafe(sql))).fetch_one(conn).await?;
    Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default())
}

impl Sources {
    /// The rows of `usage_calls` or `usage_answers` that it is made of.
    pub(super) fn conditions(self) -> Conditions {
        let (mut parts, mut numbers) = (Vec::new(), Vec::new());
        for (grain, span) in self.parts() {
            parts.push(match grain {
                Grain::Minute => "(grain = 'minute' AND start >= # AND start < #)",
                Grain::Hour => "(grain = 'hour' AND start >= # AND start < #)",
                Grain::Day => "(grain = 'day' AND start >= # AND start < #)",
            });
            numbers.extend([span.start.0, span.end.0]);
        }
        let mut conditions = Conditions::default();
        conditions.either(&parts, &numbers);
        conditions
    }
}
