//! Meters as their owners set them. With `ledger.rs` the only writer of `meters`.

use gate::id::{Generation, MeterId};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::MeterKind;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::ledger;
use super::model::{DEFAULT_HORIZON_S, Limit, MAX_LIMIT_UNITS, Meter, Period, Window, Zone};
use crate::changes;
use crate::db::{Conn, DbError};

/// Sets or changes the limit of `owner`, and tells the gateways what that means for what they
/// hold. What has been used stays used; another period or zone begins a new generation.
///
/// Records a change when the meter is not new, so call it after the owner's own rows are
/// written, with the other calls of [`changes::record`].
pub async fn set_limit(
    conn: &mut Conn,
    kind: MeterKind,
    owner: &str,
    limit: Limit,
    now: UnixMillis,
) -> Result<MeterId, DbError> {
    let limit = Limit { units: limit.units.min(MAX_LIMIT_UNITS), ..limit };
    let window = Window::containing(limit.period, &limit.zone, now);
    let Some(before) = lock_of(conn, kind, owner).await? else {
        let id = next_id(conn).await?;
        insert(conn, id, kind, owner, &limit, window).await?;
        return Ok(id);
    };
    let id = before.id;
    if before.limit == limit {
        return Ok(id);
    }
    let same_window = before.limit.period == limit.period && before.limit.zone == limit.zone;
    let raised = limit.units > before.limit.units;
    let after = if same_window {
        Meter { limit, ..before }.at(now)
    } else {
        let generation = Generation(before.generation.0 + 1);
        Meter { limit, window, generation, debited: 0, ..before }
    };
    update(conn, &after).await?;
    if raised || !same_window {
        changes::record(conn, &Subject::Meter { meter: id }, now).await?;
    }
    if !raised {
        changes::record(conn, &Subject::Recall { meter: id }, now).await?;
    }
    Ok(id)
}

/// The meter of `owner`, as on record: [`Meter::at`] tells how it stands now. None = unlimited.
pub async fn meter_of(conn: &mut Conn, kind: MeterKind, owner: &str) -> Result<Option<Meter>, DbError> {
    let row = sqlx::query(
        "-- quotas.meter_of
         SELECT id, kind, owner, limit_units, period, zone, horizon_s,
                generation, window_start, window_end, debited
           FROM meters
          WHERE kind = $1 AND owner = $2",
    )
    .bind(kind_text(kind))
    .bind(owner)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(parse).transpose()
}

/// Begins a new generation with nothing debited. Units still out count in the old one. False:
/// the owner has no meter. Call it where [`set_limit`] may be called.
pub async fn reset(conn: &mut Conn, kind: MeterKind, owner: &str, now: UnixMillis) -> Result<bool, DbError> {
    let Some(before) = lock_of(conn, kind, owner).await? else {
        return Ok(false);
    };
    let id = before.id;
    let window = Window::containing(before.limit.period, &before.limit.zone, now);
    let generation = Generation(before.generation.0 + 1);
    update(conn, &Meter { generation, window, debited: 0, ..before }).await?;
    changes::record(conn, &Subject::Meter { meter: id }, now).await?;
    Ok(true)
}

/// Makes the owner unlimited, or forgets an owner that is gone. Renewals of its leases are
/// answered `gone`. The owner's own change tells the gateways.
pub async fn lift_limit(conn: &mut Conn, kind: MeterKind, owner: &str) -> Result<(), DbError> {
    let meter = sqlx::query(
        "-- quotas.lift_limit
         DELETE FROM meters WHERE kind = $1 AND owner = $2 RETURNING id",
    )
    .bind(kind_text(kind))
    .bind(owner)
    .fetch_optional(&mut *conn)
    .await?;
    match meter {
        Some(meter) => ledger::forget_meter(conn, MeterId(meter.try_get::<i64, _>(0)? as u64)).await,
        None => Ok(()),
    }
}

async fn next_id(conn: &mut Conn) -> Result<MeterId, DbError> {
    let id: i64 = sqlx::query(
        "-- quotas.next_id
         UPDATE ledger_head
            SET last_meter = last_meter + 1
          WHERE id = 1
      RETURNING last_meter",
    )
    .fetch_one(conn)
    .await?
    .try_get(0)?;
    Ok(MeterId(id as u64))
}

/// The row, locked until the transaction ends. (An update that changes nothing: `FOR UPDATE`
/// is unknown to SQLite.)
async fn lock_of(conn: &mut Conn, kind: MeterKind, owner: &str) -> Result<Option<Meter>, DbError> {
    let row = sqlx::query(
        "-- quotas.lock_of
         UPDATE meters
            SET debited = debited
          WHERE kind = $1 AND owner = $2
      RETURNING id, kind, owner, limit_units, period, zone, horizon_s,
                generation, window_start, window_end, debited",
    )
    .bind(kind_text(kind))
    .bind(owner)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(parse).transpose()
}

async fn insert(
    conn: &mut Conn,
    id: MeterId,
    kind: MeterKind,
    owner: &str,
    limit: &Limit,
    window: Option<Window>,
) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.insert
         INSERT INTO meters (id, kind, owner, limit_units, period, zone, horizon_s,
                             generation, window_start, window_end, debited,
                             max_lease, last_lease, recalled_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9, 0, NULL, 0, NULL)",
    )
    .bind(id.0 as i64)
    .bind(kind_text(kind))
    .bind(owner)
    .bind(limit.units as i64)
    .bind(limit.period.as_str())
    .bind(limit.zone.name())
    .bind(i64::from(DEFAULT_HORIZON_S))
    .bind(window.map(|window| window.start.0))
    .bind(window.map(|window| window.end.0))
    .execute(conn)
    .await?;
    Ok(())
}

async fn update(conn: &mut Conn, meter: &Meter) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.update
         UPDATE meters
            SET limit_units = $2, period = $3, zone = $4,
                recalled_at = CASE WHEN generation = $5 THEN recalled_at END,
                generation = $5, window_start = $6, window_end = $7, debited = $8
          WHERE id = $1",
    )
    .bind(meter.id.0 as i64)
    .bind(meter.limit.units as i64)
    .bind(meter.limit.period.as_str())
    .bind(meter.limit.zone.name())
    .bind(meter.generation.0 as i64)
    .bind(meter.window.map(|window| window.start.0))
    .bind(meter.window.map(|window| window.end.0))
    .bind(meter.debited as i64)
    .execute(conn)
    .await?;
    Ok(())
}

/// A row of the columns that every query here names in the same order.
pub(super) fn parse(row: &AnyRow) -> Result<Meter, DbError> {
    let id: i64 = row.try_get(0)?;
    let senseless = |column| DbError::Inconsistency { table: "meters", column, row: id.to_string() };
    let count =
        |column: usize, name| u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| senseless(name));
    let window = match (row.try_get::<Option<i64>, _>(8)?, row.try_get::<Option<i64>, _>(9)?) {
        (Some(start), Some(end)) => Some(Window { start: UnixMillis(start), end: UnixMillis(end) }),
        (None, None) => None,
        _ => return Err(senseless("window_end")),
    };
    Ok(Meter {
        id: MeterId(count(0, "id")?),
        kind: parse_kind(row.try_get(1)?).ok_or_else(|| senseless("kind"))?,
        owner: row.try_get(2)?,
        limit: Limit {
            units: count(3, "limit_units")?,
            period: Period::parse(row.try_get(4)?).ok_or_else(|| senseless("period"))?,
            zone: Zone::parse(row.try_get(5)?).ok_or_else(|| senseless("zone"))?,
        },
        horizon_s: u32::try_from(count(6, "horizon_s")?).map_err(|_| senseless("horizon_s"))?,
        generation: Generation(count(7, "generation")?),
        window,
        debited: count(10, "debited")?,
    })
}

fn kind_text(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::ClientQuota => "client_quota",
        MeterKind::KeyUses => "key_uses",
        MeterKind::TokenUses => "token_uses",
    }
}

fn parse_kind(text: &str) -> Option<MeterKind> {
    match text {
        "client_quota" => Some(MeterKind::ClientQuota),
        "key_uses" => Some(MeterKind::KeyUses),
        "token_uses" => Some(MeterKind::TokenUses),
        _ => None,
    }
}
