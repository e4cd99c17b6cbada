//! The only writer of `meter_watches` and `meter_warnings`.

use gate::id::{Generation, MeterId};
use gate::time::UnixMillis;
use sqlx::Row;

use super::super::model::Meter;
use super::super::store::{Outstanding, locked, meter_columns, outstanding, parse};
use super::LEAST_PERCENT;
use crate::db::{Conn, DbError};

/// Has a meter looked at, because something about it has changed.
pub(in super::super) async fn watch(conn: &mut Conn, meter: MeterId) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.watch
         INSERT INTO meter_watches (meter, next_percent) VALUES ($1, NULL)
             ON CONFLICT (meter) DO UPDATE SET next_percent = NULL",
    )
    .bind(meter.0 as i64)
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps others from the meters of a client and its keys of which something may be to tell, in the order in
/// which renewals lock them. Whoever looks at one of them meanwhile knows the parts of before, and is done
/// when this returns.
pub async fn hold_all_of(conn: &mut Conn, client: &str) -> Result<(), DbError> {
    let rows = sqlx::query(
        "-- quotas.hold_all_of
         SELECT id
           FROM meters
          WHERE (   (kind = 'client_quota' AND owner = $1)
                 OR (kind = 'key_uses' AND owner IN (SELECT id FROM keys WHERE client_id = $1)))
            AND debited * 100 >= (limit_units + reclaimed_units) * $2
          ORDER BY id",
    )
    .bind(client)
    .bind(i64::from(LEAST_PERCENT))
    .fetch_all(&mut *conn)
    .await?;
    for row in rows {
        locked(conn, MeterId(row.try_get::<i64, _>(0)? as u64)).await?;
    }
    Ok(())
}

/// Has the meters of a client and of its keys looked at.
pub async fn watch_all_of(conn: &mut Conn, client: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.watch_all_of
         INSERT INTO meter_watches (meter, next_percent)
         SELECT id, NULL
           FROM meters
          WHERE (   (kind = 'client_quota' AND owner = $1)
                 OR (kind = 'key_uses' AND owner IN (SELECT id FROM keys WHERE client_id = $1)))
            AND debited * 100 >= (limit_units + reclaimed_units) * $2
             ON CONFLICT (meter) DO UPDATE SET next_percent = NULL",
    )
    .bind(client)
    .bind(i64::from(LEAST_PERCENT))
    .execute(conn)
    .await?;
    Ok(())
}

/// Watched meters after `after` of which something may be to tell, or that need not be watched any
/// longer.
pub async fn candidates(
    conn: &mut Conn,
    after: Option<MeterId>,
    now: UnixMillis,
    limit: i64,
) -> Result<Vec<MeterId>, DbError> {
    let rows = sqlx::query(
        "-- quotas.watched
         SELECT w.meter
           FROM meter_watches w
           JOIN meters m ON m.id = w.meter
          WHERE w.meter > $1
            AND (   w.next_percent IS NULL
                 OR m.window_end <= $2
                 OR m.debited * 100 >= (m.limit_units + m.reclaimed_units) * w.next_percent)
          ORDER BY w.meter
          LIMIT $3",
    )
    .bind(after.map_or(-1, |meter| meter.0 as i64))
    .bind(now.0)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(MeterId(row.try_get::<i64, _>(0)? as u64))).collect()
}

/// The meter as on record, and what of it is out. `lock`: it stays as it is until the transaction ends.
pub async fn meter_by_id(
    conn: &mut Conn,
    id: MeterId,
    now: UnixMillis,
    lock: bool,
) -> Result<Option<(Meter, Outstanding)>, DbError> {
    let meter = if lock {
        locked(conn, id).await?
    } else {
        let row = sqlx::query(concat!(
            "-- quotas.meter_by_id
             SELECT ",
            meter_columns!(),
            "
               FROM meters
              WHERE id = $1"
        ))
        .bind(id.0 as i64)
        .fetch_optional(&mut *conn)
        .await?;
        row.as_ref().map(parse).transpose()?
    };
    let Some(meter) = meter else { return Ok(None) };
    let out = outstanding(conn, &meter, now).await?;
    Ok(Some((meter, out)))
}

/// Nothing is to be told of the meter before this part of its limit is handed out.
pub async fn put_off(conn: &mut Conn, meter: MeterId, next_percent: u8) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.put_off
         UPDATE meter_watches SET next_percent = $2 WHERE meter = $1",
    )
    .bind(meter.0 as i64)
    .bind(i64::from(next_percent))
    .execute(conn)
    .await?;
    Ok(())
}

/// Nothing more is to be told of the meter; whoever holds its row may say so.
pub async fn unwatch(conn: &mut Conn, meter: MeterId) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.unwatch
         DELETE FROM meter_watches WHERE meter = $1",
    )
    .bind(meter.0 as i64)
    .execute(conn)
    .await?;
    Ok(())
}

/// The parts that were told in this generation.
pub async fn told(conn: &mut Conn, meter: MeterId, generation: Generation) -> Result<Vec<u8>, DbError> {
    let rows = sqlx::query(
        "-- quotas.told
         SELECT percent FROM meter_warnings WHERE meter = $1 AND generation = $2",
    )
    .bind(meter.0 as i64)
    .bind(generation.0 as i64)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok(u8::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u8::MAX))).collect()
}

/// Notes that this part is told, and forgets what was told of earlier generations. False: it was told.
pub async fn tell(
    conn: &mut Conn,
    meter: MeterId,
    generation: Generation,
    percent: u8,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let told = sqlx::query(
        "-- quotas.tell
         INSERT INTO meter_warnings (meter, generation, percent, told_at)
         VALUES ($1, $2, $3, $4)
             ON CONFLICT (meter, generation, percent) DO NOTHING",
    )
    .bind(meter.0 as i64)
    .bind(generation.0 as i64)
    .bind(i64::from(percent))
    .bind(now.0)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- quotas.tell.forget
         DELETE FROM meter_warnings WHERE meter = $1 AND generation < $2",
    )
    .bind(meter.0 as i64)
    .bind(generation.0 as i64)
    .execute(conn)
    .await?;
    Ok(told.rows_affected() == 1)
}

/// Parts that are not used of a limit that was just changed will be told again; what was told of
/// earlier generations is forgotten.
pub(in super::super) async fn rearm(conn: &mut Conn, meter: &Meter, used: u64) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.rearm
         DELETE FROM meter_warnings
          WHERE meter = $1
            AND (generation <> $2 OR percent * $3 > $4)",
    )
    .bind(meter.id.0 as i64)
    .bind(meter.generation.0 as i64)
    .bind(meter.in_force() as i64)
    .bind(i64::try_from(used.saturating_mul(100)).unwrap_or(i64::MAX))
    .execute(conn)
    .await?;
    Ok(())
}

/// The meter is gone.
pub(in super::super) async fn forget(conn: &mut Conn, meter: MeterId) -> Result<(), DbError> {
    for statement in [
        "-- quotas.forget.watches
         DELETE FROM meter_watches WHERE meter = $1",
        "-- quotas.forget.warnings
         DELETE FROM meter_warnings WHERE meter = $1",
    ] {
        sqlx::query(statement).bind(meter.0 as i64).execute(&mut *conn).await?;
    }
    Ok(())
}
