//! The only writer of `decisions`, `decision_reports` and `decision_hours`.

use std::collections::BTreeMap;

use gate::time::UnixMillis;
use gate::wire::decisions::Decision;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{Filter, KEPT_PER_HOUR, KEPT_PER_HOUR_IN_ALL, Kept, Life, Reported};
use crate::db::{Conditions, Conn, DbError};

const HOUR_MS: i64 = 3_600_000;
/// Stands for all codes and clients of an hour: how many are kept in all.
const IN_ALL: (&str, &str) = ("", "");

/// Takes a report on record; one that is there already changes nothing.
pub(super) async fn take(conn: &mut Conn, reported: &Reported, now: UnixMillis) -> Result<(), DbError> {
    if !claim(conn, reported, now).await? {
        return Ok(());
    }
    let hour = now.0 - now.0.rem_euclid(HOUR_MS);
    let mut by_cause: BTreeMap<(&str, &str), Vec<&Decision>> = BTreeMap::new();
    for decision in &reported.report.decisions {
        let client = decision.client.as_ref().map_or("", |client| client.as_str());
        by_cause.entry((&decision.code, client)).or_default().push(decision);
    }
    // What the gate did not keep is nobody's: it was not looked at.
    let mut uncounted: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for row in &reported.report.not_kept {
        *uncounted.entry((&row.code, "")).or_default() += i64::try_from(row.count).unwrap_or(i64::MAX);
    }
    // In the order of their keys: every transaction locks them so.
    let mut causes: Vec<(&str, &str)> = by_cause.keys().chain(uncounted.keys()).copied().collect();
    causes.sort_unstable();
    causes.dedup();
    let (mut kept, mut not_kept) = (0, 0);
    // The first of all keys, so that who floods waits here, and holds nothing that others want.
    let mut room_in_all =
        if by_cause.is_empty() { 0 } else { KEPT_PER_HOUR_IN_ALL - kept_in(conn, hour, IN_ALL).await? };
    for cause in causes {
        let decisions = by_cause.get(&cause).map_or(&[][..], Vec::as_slice);
        let told = i64::try_from(decisions.len()).unwrap_or(i64::MAX);
        let uncounted = uncounted.get(&cause).copied().unwrap_or(0);
        let room = KEPT_PER_HOUR - kept_in(conn, hour, cause).await?;
        let fits = told.min(room).min(room_in_all).max(0);
        room_in_all -= fits;
        count(conn, hour, cause, fits, told - fits + uncounted).await?;
        for decision in decisions.iter().take(usize::try_from(fits).unwrap_or(0)) {
            insert(conn, &reported.gateway, decision, now).await?;
        }
        kept += fits;
        not_kept += told - fits + uncounted;
    }
    if kept > 0 {
        count(conn, hour, IN_ALL, kept, 0).await?;
    }
    sqlx::query(
        "-- decisions.take.total
         UPDATE decision_reports SET kept = kept + $2, not_kept = not_kept + $3 WHERE boot = $1",
    )
    .bind(reported.report.boot as i64)
    .bind(kept)
    .bind(not_kept)
    .execute(conn)
    .await?;
    Ok(())
}

/// True: the report is new, and is now noted.
async fn claim(conn: &mut Conn, reported: &Reported, now: UnixMillis) -> Result<bool, DbError> {
    let claimed = sqlx::query(
        "-- decisions.claim
         INSERT INTO decision_reports (boot, holder, gateway, seq, reported_at, kept, not_kept)
         VALUES ($1, $2, $3, $4, $5, 0, 0)
             ON CONFLICT (boot) DO UPDATE
            SET seq = excluded.seq, reported_at = excluded.reported_at
          WHERE decision_reports.seq < excluded.seq
            AND decision_reports.gateway = excluded.gateway",
    )
    .bind(reported.report.boot as i64)
    .bind(reported.holder.to_string())
    .bind(&reported.gateway)
    .bind(reported.report.seq as i64)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

/// How many are kept already; the row is made, and locked until the transaction ends.
async fn kept_in(conn: &mut Conn, hour: i64, (code, client): (&str, &str)) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- decisions.hour
         INSERT INTO decision_hours (hour, code, client, kept, not_kept)
         VALUES ($1, $2, $3, 0, 0)
             ON CONFLICT (hour, code, client) DO UPDATE SET kept = decision_hours.kept
      RETURNING kept",
    )
    .bind(hour)
    .bind(code)
    .bind(client)
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}

async fn count(
    conn: &mut Conn,
    hour: i64,
    (code, client): (&str, &str),
    kept: i64,
    not_kept: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "-- decisions.count
         UPDATE decision_hours
            SET kept = kept + $4, not_kept = not_kept + $5
          WHERE hour = $1 AND code = $2 AND client = $3",
    )
    .bind(hour)
    .bind(code)
    .bind(client)
    .bind(kept)
    .bind(not_kept)
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert(conn: &mut Conn, gateway: &str, decision: &Decision, now: UnixMillis) -> Result<(), DbError> {
    let detail = serde_json::to_string(decision).expect("a decision has no map with keys other than text");
    sqlx::query(
        "-- decisions.insert
         INSERT INTO decisions (id, received_at, at, gateway, code, client, credential, api, address, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (id) DO NOTHING",
    )
    .bind(&decision.id)
    .bind(now.0)
    .bind(decision.at.0)
    .bind(gateway)
    .bind(&decision.code)
    .bind(decision.client.as_ref().map(|id| id.as_str()))
    .bind(decision.credential.as_ref().map(|id| id.as_str()))
    .bind(decision.api.as_ref().map(|uid| uid.as_str()))
    .bind(decision.address.as_deref())
    .bind(detail)
    .execute(conn)
    .await?;
    Ok(())
}

/// The decision of that id.
pub(super) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Kept>, DbError> {
    let row = sqlx::query(
        "-- decisions.by_id
         SELECT id, received_at, gateway, detail FROM decisions WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// The newest first, after `after` (instant and id of the last row of the page before).
pub(super) async fn list(
    conn: &mut Conn,
    filter: &Filter,
    after: Option<(UnixMillis, &str)>,
    limit: i64,
) -> Result<Vec<Kept>, DbError> {
    let mut conditions = Conditions::default();
    if let Some(from) = filter.from {
        conditions.number("received_at >= #", from.0);
    }
    if let Some(until) = filter.until {
        conditions.number("received_at < #", until.0);
    }
    for (condition, wanted) in [
        ("code = #", &filter.code),
        ("client = #", &filter.client),
        ("credential = #", &filter.credential),
        ("api = #", &filter.api),
        ("address = #", &filter.address),
        ("gateway = #", &filter.gateway),
    ] {
        if let Some(wanted) = wanted {
            conditions.text(condition, wanted);
        }
    }
    if let Some((at, id)) = after {
        conditions.after("(received_at, id) < (#)", at.0, id);
    }
    let (wanted, next) = (conditions.sql(), conditions.next());
    let sql = format!(
        "-- decisions.list
         SELECT id, received_at, gateway, detail
           FROM decisions
          WHERE {wanted}
          ORDER BY received_at DESC, id DESC
          LIMIT ${next}"
    );
    let rows = conditions.bind(sqlx::query(AssertSqlSafe(sql))).bind(limit).fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// Refusals of the hours that touch `from` to `until` of which only the number is known, by code.
pub(super) async fn not_kept(
    conn: &mut Conn,
    from: UnixMillis,
    until: UnixMillis,
) -> Result<Vec<(String, u64)>, DbError> {
    let rows = sqlx::query(
        "-- decisions.not_kept
         SELECT code, CAST(SUM(not_kept) AS BIGINT)
           FROM decision_hours
          WHERE hour > $1 AND hour < $2 AND not_kept > 0
          GROUP BY code
          ORDER BY code",
    )
    .bind(from.0.saturating_sub(HOUR_MS))
    .bind(until.0)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? as u64))).collect()
}

/// What is known of the life of a worker.
pub(super) async fn life(conn: &mut Conn, boot: u64) -> Result<Option<Life>, DbError> {
    let row = sqlx::query(
        "-- decisions.life
         SELECT holder, gateway, reported_at, kept, not_kept FROM decision_reports WHERE boot = $1",
    )
    .bind(boot as i64)
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Life {
            holder: row.try_get(0)?,
            gateway: row.try_get(1)?,
            reported_at: UnixMillis(row.try_get(2)?),
            kept: row.try_get::<i64, _>(3)? as u64,
            not_kept: row.try_get::<i64, _>(4)? as u64,
        })
    })
    .transpose()
}

/// Deletes up to `limit` decisions received before `before`, and what was counted of that time.
pub(super) async fn forget(conn: &mut Conn, before: UnixMillis, limit: i64) -> Result<u64, DbError> {
    sqlx::query("-- decisions.forget.hours\n DELETE FROM decision_hours WHERE hour < $1")
        .bind(before.0.saturating_sub(HOUR_MS))
        .execute(&mut *conn)
        .await?;
    sqlx::query("-- decisions.forget.reports\n DELETE FROM decision_reports WHERE reported_at < $1")
        .bind(before.0)
        .execute(&mut *conn)
        .await?;
    let done = sqlx::query(
        "-- decisions.forget
         DELETE FROM decisions
          WHERE id IN (SELECT id FROM decisions WHERE received_at < $1 ORDER BY received_at LIMIT $2)",
    )
    .bind(before.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<Kept, DbError> {
    let id: String = row.try_get(0)?;
    let detail: String = row.try_get(3)?;
    let decision = serde_json::from_str(&detail).map_err(|_| DbError::Inconsistency {
        table: "decisions",
        column: "detail",
        row: id,
    })?;
    Ok(Kept { received_at: UnixMillis(row.try_get(1)?), gateway: row.try_get(2)?, decision })
}
