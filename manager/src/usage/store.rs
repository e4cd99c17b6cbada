//! The only writer of `usage_reports` and `usage_hours`.

use std::collections::BTreeMap;

use gate::id::HolderId;
use gate::time::UnixMillis;
use gate::wire::exchange::{UsageReport, UsageRow};
use sqlx::Row;

use crate::db::{Conn, DbError};

/// Milliseconds of the hour that rows are summed over.
const HOUR_MS: i64 = 3_600_000;
/// How long the last report of a VM's life is remembered: far longer than a VM repeats one.
const REPORT_KEPT_MS: i64 = 86_400_000;

/// Calls of one credential to one API with one result, within one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourRow {
    /// The hour's first instant.
    pub hour: UnixMillis,
    /// Whose; none = an unknown caller.
    pub credential: Option<String>,
    /// Which API; none = none matched.
    pub api: Option<String>,
    /// `admitted`, or the code of the denial.
    pub result: String,
    /// How many.
    pub calls: u64,
}

/// Which rows of the hours to show; absent = all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// First hour.
    pub from: Option<UnixMillis>,
    /// Last hour, included.
    pub until: Option<UnixMillis>,
    /// Of this credential.
    pub credential: Option<String>,
    /// Of this API.
    pub api: Option<String>,
}

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

/// Adds reports to the hour of `now`; one that has been counted before is left out. Rows are
/// locked in the order of their keys, whatever the order of the reports.
pub async fn count(conn: &mut Conn, reports: &[Reported], now: UnixMillis) -> Result<(), DbError> {
    let mut reports: Vec<&Reported> = reports.iter().collect();
    reports.sort_by_key(|one| (one.holder, one.slot, one.report.boot, one.report.seq));
    let mut fresh = Vec::with_capacity(reports.len());
    for reported in reports {
        if claim(conn, reported, now).await? {
            fresh.extend(&reported.report.rows);
        }
    }
    let hour = now.0 - now.0.rem_euclid(HOUR_MS);
    for ((credential, api, result), calls) in summed(&fresh) {
        sqlx::query(
            "-- usage.count
             INSERT INTO usage_hours (hour, credential, api, result, calls)
             VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (hour, credential, api, result) DO UPDATE
                SET calls = usage_hours.calls + excluded.calls",
        )
        .bind(hour)
        .bind(credential)
        .bind(api)
        .bind(result)
        .bind(calls)
        .execute(&mut *conn)
        .await?;
    }
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

/// Rows by hour, newest first, after `after` (the key of the last row of the page before).
pub async fn hours(
    conn: &mut Conn,
    filter: &Filter,
    after: Option<&HourRow>,
    limit: i64,
) -> Result<Vec<HourRow>, DbError> {
    let rows = sqlx::query(
        "-- usage.hours
         SELECT hour, credential, api, result, calls
           FROM usage_hours
          WHERE hour >= $1 AND hour <= $2
            AND ($3 IS NULL OR credential = $3)
            AND ($4 IS NULL OR api = $4)
            AND ($5 IS NULL
                 OR hour < $5
                 OR (hour = $5 AND (credential, api, result) > ($6, $7, $8)))
          ORDER BY hour DESC, credential, api, result
          LIMIT $9",
    )
    .bind(filter.from.map_or(0, |from| from.0))
    .bind(filter.until.map_or(i64::MAX, |until| until.0))
    .bind(filter.credential.as_deref())
    .bind(filter.api.as_deref())
    .bind(after.map(|row| row.hour.0))
    .bind(after.map(|row| row.credential.clone().unwrap_or_default()))
    .bind(after.map(|row| row.api.clone().unwrap_or_default()))
    .bind(after.map(|row| row.result.clone()))
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let named = |text: String| (!text.is_empty()).then_some(text);
    rows.iter()
        .map(|row| {
            Ok(HourRow {
                hour: UnixMillis(row.try_get(0)?),
                credential: named(row.try_get(1)?),
                api: named(row.try_get(2)?),
                result: row.try_get(3)?,
                calls: row.try_get::<i64, _>(4)? as u64,
            })
        })
        .collect()
}

/// The reports' rows by their key, in the order in which every transaction locks them.
fn summed<'a>(rows: &[&'a UsageRow]) -> BTreeMap<(&'a str, &'a str, &'a str), i64> {
    let mut sums = BTreeMap::new();
    for row in rows {
        let credential = row.credential.as_ref().map_or("", |id| id.as_str());
        let api = row.api.as_ref().map_or("", |uid| uid.as_str());
        let sum: &mut i64 = sums.entry((credential, api, row.result.as_str())).or_default();
        *sum = sum.saturating_add(i64::try_from(row.count).unwrap_or(i64::MAX));
    }
    sums
}

/// Deletes up to `limit` counts of hours that began before `before`. How many there were.
pub(super) async fn forget(conn: &mut Conn, before: UnixMillis, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- usage.forget
         DELETE FROM usage_hours
          WHERE (hour, credential, api, result)
             IN (SELECT hour, credential, api, result FROM usage_hours WHERE hour < $1 ORDER BY hour LIMIT $2)",
    )
    .bind(before.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
