//! The only writer of `usage_reports`, `usage_calls`, `usage_answers` and `usage_rolled`, and of
//! `usage_hours`, where releases before these tables counted.

use std::collections::BTreeMap;

use gate::id::HolderId;
use gate::time::UnixMillis;
use gate::wire::exchange::{ANSWERED, LATENCY_MS, UsageReport, UsageRow};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::model::{Answers, Calls, Dimensions, Filter, Grain, Key, Rolled, Sources, Span};
use crate::db::{Conn, DbError};

/// Milliseconds of the minute that reports are counted in.
const MINUTE_MS: i64 = 60_000;
/// How long the last report of a VM's life is remembered: far longer than a VM repeats one.
const REPORT_KEPT_MS: i64 = 86_400_000;
/// Buckets of a latency histogram.
const LATENCY_BUCKETS: i64 = LATENCY_MS.len() as i64 + 1;

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
    let (calls, answers) = summed(&fresh);
    for (mut key, calls) in calls {
        if key.client.is_empty() && !key.credential.is_empty() {
            // A filter of the release before does not tell it.
            key.client = client_of(conn, &key.credential).await?;
        }
        add_calls(conn, Grain::Minute, minute, &key, calls).await?;
    }
    for ((key, le_ms), (answers, ms)) in answers {
        add_answers(conn, minute, (&key, le_ms), (answers, ms)).await?;
    }
    Ok(counted)
}

async fn add_calls(
    conn: &mut Conn,
    grain: Grain,
    start: UnixMillis,
    key: &Key,
    calls: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "-- usage.count
         INSERT INTO usage_calls (grain, start, client, credential, api, result, calls)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (grain, start, client, credential, api, result) DO UPDATE
            SET calls = usage_calls.calls + excluded.calls",
    )
    .bind(grain.name())
    .bind(start.0)
    .bind(&*key.client)
    .bind(&*key.credential)
    .bind(&*key.api)
    .bind(&*key.result)
    .bind(calls)
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_answers(
    conn: &mut Conn,
    minute: UnixMillis,
    (key, le_ms): (&Key, i64),
    (answers, ms): (i64, i64),
) -> Result<(), DbError> {
    sqlx::query(
        "-- usage.count.answers
         INSERT INTO usage_answers (grain, start, client, api, result, le_ms, answers, ms)
         VALUES ('minute', $1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (grain, start, client, api, result, le_ms) DO UPDATE
            SET answers = usage_answers.answers + excluded.answers, ms = usage_answers.ms + excluded.ms",
    )
    .bind(minute.0)
    .bind(&*key.client)
    .bind(&*key.api)
    .bind(&*key.result)
    .bind(le_ms)
    .bind(answers)
    .bind(ms)
    .execute(conn)
    .await?;
    Ok(())
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

type CallSums = BTreeMap<Key, i64>;
type AnswerSums = BTreeMap<(Key, i64), (i64, i64)>;

/// The reports' rows by their key, in the order in which every transaction locks them.
fn summed(rows: &[&UsageRow]) -> (CallSums, AnswerSums) {
    let (mut calls, mut answers) = (CallSums::new(), AnswerSums::new());
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for row in rows {
        let key = Key {
            client: row.client.as_ref().map_or("", |id| id.as_str()).into(),
            credential: row.credential.as_ref().map_or("", |id| id.as_str()).into(),
            api: row.api.as_ref().map_or("", |uid| uid.as_str()).into(),
            result: row.result.clone(),
        };
        if !ANSWERED.contains(&row.result.as_str()) {
            let sum: &mut i64 = calls.entry(key).or_default();
            *sum = sum.saturating_add(whole(row.count));
            continue;
        }
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
    for row in &rows {
        let (hour, calls) = (UnixMillis(row.try_get(0)?), row.try_get::<i64, _>(4)?);
        let credential: String = row.try_get(1)?;
        let client = client_of(conn, &credential).await?;
        let key = Key { client, credential, api: row.try_get(2)?, result: row.try_get(3)? };
        add_calls(conn, Grain::Hour, hour, &key, calls).await?;
        if hour < days {
            add_calls(conn, Grain::Day, day_of(hour), &key, calls).await?;
        }
    }
    Ok(rows.len() as u64)
}

/// The client of a credential that is still on record; else the empty text.
async fn client_of(conn: &mut Conn, credential: &str) -> Result<String, DbError> {
    if let Some(client) = credential.strip_prefix("basic:") {
        return Ok(client.into());
    }
    let row = sqlx::query(
        "-- usage.client_of
         SELECT client_id FROM keys WHERE id = $1
          UNION ALL
         SELECT client_id FROM x_api_keys WHERE id = $1",
    )
    .bind(credential)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
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

/// Calls of one bucket after `after`, by key.
pub(super) async fn calls(
    conn: &mut Conn,
    (span, sources): (Span, Sources),
    (by, filter): (Dimensions, &Filter),
    after: Option<&Key>,
    limit: i64,
) -> Result<Vec<Calls>, DbError> {
    let after = after.cloned();
    let begins = i64::from(after.is_none());
    let after = after.unwrap_or_default();
    let rows = sqlx::query(
        "-- usage.calls
         SELECT client, credential, api, result, calls, admitted
           FROM (SELECT CASE WHEN $5 = 1 THEN client     ELSE '' END AS client,
                        CASE WHEN $6 = 1 THEN credential ELSE '' END AS credential,
                        CASE WHEN $7 = 1 THEN api        ELSE '' END AS api,
                        CASE WHEN $8 = 1 THEN result     ELSE '' END AS result,
                        CAST(SUM(calls) AS BIGINT) AS calls,
                        CAST(SUM(CASE WHEN result = 'admitted' THEN calls ELSE 0 END) AS BIGINT) AS admitted
                   FROM usage_calls
                  WHERE (   (grain = 'day'    AND start >= $1 AND start < $4)
                         OR (grain = 'hour'   AND start >= $2 AND start < $4)
                         OR (grain = 'minute' AND start >= $3 AND start < $4))
                    AND ($9  IS NULL OR client = $9)
                    AND ($10 IS NULL OR credential = $10)
                    AND ($11 IS NULL OR api = $11)
                    AND ($12 IS NULL OR result = $12)
                    AND ($13 = 0 OR result <> 'admitted')
                  GROUP BY 1, 2, 3, 4) grouped
          WHERE $14 = 1 OR (client, credential, api, result) > ($15, $16, $17, $18)
          ORDER BY client, credential, api, result
          LIMIT $19",
    )
    .bind(sources.days.0)
    .bind(sources.hours.0)
    .bind(sources.minutes.0)
    .bind(sources.end.0)
    .bind(i64::from(by.client))
    .bind(i64::from(by.credential))
    .bind(i64::from(by.api))
    .bind(i64::from(by.result))
    .bind(filter.client.as_deref())
    .bind(filter.credential.as_deref())
    .bind(filter.api.as_deref())
    .bind(filter.result.as_deref())
    .bind(i64::from(filter.refused))
    .bind(begins)
    .bind(after.client)
    .bind(after.credential)
    .bind(after.api)
    .bind(after.result)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| Ok(Calls { span, key: key_of(row)?, calls: whole(row, 4)?, admitted: whole(row, 5)? }))
        .collect()
}

/// Answers of one bucket after `after`, by key. Keys have no credential.
pub(super) async fn answers(
    conn: &mut Conn,
    (span, sources): (Span, Sources),
    (by, filter): (Dimensions, &Filter),
    after: Option<&Key>,
    limit: i64,
) -> Result<Vec<Answers>, DbError> {
    let after = after.cloned();
    let begins = i64::from(after.is_none());
    let after = after.unwrap_or_default();
    let rows = sqlx::query(
        "-- usage.answers
         SELECT client, '', api, result, le_ms, answers, ms, succeeded
           FROM (SELECT CASE WHEN $5 = 1 THEN client ELSE '' END AS client,
                        CASE WHEN $6 = 1 THEN api    ELSE '' END AS api,
                        CASE WHEN $7 = 1 THEN result ELSE '' END AS result,
                        le_ms,
                        CAST(SUM(answers) AS BIGINT) AS answers,
                        CAST(SUM(ms) AS BIGINT) AS ms,
                        CAST(SUM(CASE WHEN result IN ('answered_1xx', 'answered_2xx', 'answered_3xx')
                                      THEN answers ELSE 0 END) AS BIGINT) AS succeeded
                   FROM usage_answers
                  WHERE (   (grain = 'day'    AND start >= $1 AND start < $4)
                         OR (grain = 'hour'   AND start >= $2 AND start < $4)
                         OR (grain = 'minute' AND start >= $3 AND start < $4))
                    AND ($8  IS NULL OR client = $8)
                    AND ($9  IS NULL OR api = $9)
                    AND ($10 IS NULL OR result = $10)
                  GROUP BY 1, 2, 3, 4) grouped
          WHERE $11 = 1 OR (client, api, result) > ($12, $13, $14)
          ORDER BY client, api, result, CASE WHEN le_ms = 0 THEN 1 ELSE 0 END, le_ms
          LIMIT $15",
    )
    .bind(sources.days.0)
    .bind(sources.hours.0)
    .bind(sources.minutes.0)
    .bind(sources.end.0)
    .bind(i64::from(by.client))
    .bind(i64::from(by.api))
    .bind(i64::from(by.result))
    .bind(filter.client.as_deref())
    .bind(filter.api.as_deref())
    .bind(filter.result.as_deref())
    .bind(begins)
    .bind(after.client)
    .bind(after.api)
    .bind(after.result)
    // A key has this many rows at most: those of `limit` keys are whole.
    .bind(limit * LATENCY_BUCKETS)
    .fetch_all(conn)
    .await?;
    let mut found: Vec<Answers> = Vec::new();
    for row in &rows {
        let key = key_of(row)?;
        if found.last().is_none_or(|last| last.key != key) {
            found.push(Answers { span, key, latency: Vec::new(), ms: 0, succeeded: 0 });
        }
        let Some(last) = found.last_mut() else { continue };
        let le_ms = whole(row, 4)?;
        last.latency.push(((le_ms > 0).then_some(le_ms), whole(row, 5)?));
        last.ms = last.ms.saturating_add(whole(row, 6)?);
        last.succeeded += whole(row, 7)?;
    }
    found.truncate(usize::try_from(limit).unwrap_or(0));
    Ok(found)
}

fn key_of(row: &AnyRow) -> Result<Key, DbError> {
    Ok(Key {
        client: row.try_get(0)?,
        credential: row.try_get(1)?,
        api: row.try_get(2)?,
        result: row.try_get(3)?,
    })
}

fn whole(row: &AnyRow, column: usize) -> Result<u64, DbError> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
}

/// Calls let in since `since`, of a client or of a credential.
pub(super) async fn admitted_since(
    conn: &mut Conn,
    client: Option<&str>,
    credential: Option<&str>,
    since: UnixMillis,
) -> Result<u64, DbError> {
    let text = match credential {
        None => {
            "-- usage.admitted_since.client
             SELECT CAST(COALESCE(SUM(calls), 0) AS BIGINT)
               FROM usage_calls
              WHERE client = $1 AND grain = 'minute' AND start >= $2 AND result = 'admitted'"
        }
        Some(_) => {
            "-- usage.admitted_since.credential
             SELECT CAST(COALESCE(SUM(calls), 0) AS BIGINT)
               FROM usage_calls
              WHERE credential = $1 AND grain = 'minute' AND start >= $2 AND result = 'admitted'"
        }
    };
    let owner = credential.or(client).unwrap_or_default();
    let row = sqlx::query(text).bind(owner).bind(since.0).fetch_one(conn).await?;
    whole(&row, 0)
}
