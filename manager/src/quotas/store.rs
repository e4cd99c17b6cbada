//! The only writer of `meters`, `lease_streams` and `leases`: first what owners do, then the rows
//! that a renewal reads and writes.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::{Generation, HolderId, LeaseId, MeterId};
use gate::quota::issuer::{
    Ahead, LeaseRow, LeaseState, MeterRow, Open, STREAM_KEEP_MS, StoredAnswer, StreamRow,
};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{MeterKind, Renewal};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::model::{LeaseTerms, Limit, MAX_LIMIT_UNITS, Meter, Period, Window, Zone};
use super::warnings;
use crate::changes;
use crate::db::{Conn, DbError};

/// What [`parse`] reads, in its order. What a client says of its leases is read where it stands, so that
/// the next lease of each of its meters is as it says.
macro_rules! meter_columns {
    () => {
        concat!(
            "meters.id, kind, owner, limit_units, period, zone, ",
            meter_columns!(of_client "lease_horizon_s"),
            ", generation, window_start, window_end, debited,
                ahead_generation, ahead_window_end, ahead_debited, ",
            meter_columns!(of_client "max_lease_percent"),
            ", reclaimed_units"
        )
    };
    (of_client $column:literal) => {
        concat!(
            "
                (SELECT c.",
            $column,
            " FROM clients c
                  WHERE c.id = CASE meters.kind
                                    WHEN 'client_quota' THEN meters.owner
                                    WHEN 'key_uses' THEN (SELECT k.client_id FROM keys k WHERE k.id = meters.owner)
                                    WHEN 'token_uses' THEN (SELECT t.client_id FROM tokens t WHERE t.id = meters.owner)
                               END)"
        )
    };
}

pub(super) use meter_columns;

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
    // A total has no midnight: whose zone it is in makes no difference.
    let same_window = before.limit.period == limit.period
        && (limit.period == Period::Total || before.limit.zone == limit.zone);
    let raised = limit.units > before.limit.units;
    let after = if same_window {
        Meter { limit, ..before }.at(now)
    } else {
        let generation = before.next_generation();
        Meter { limit, window, generation, debited: 0, ahead: None, reclaimed: 0, ..before }
    };
    update(conn, &after).await?;
    let used = after.used(outstanding(conn, &after, now).await?);
    warnings::rearm(conn, &after, used).await?;
    if after.reaches(after.debited, warnings::LEAST_PERCENT) {
        warnings::watch(conn, id).await?;
    }
    if raised || !same_window {
        changes::record(conn, &Subject::Meter { meter: id }, now).await?;
    }
    if !raised || !same_window {
        changes::record(conn, &Subject::Recall { meter: id, lowered: true }, now).await?;
    }
    Ok(id)
}

/// Keeps others from the meters of `owners` and from making new ones, until the transaction ends:
/// for who will call [`set_limit`] several times and records changes in between.
pub async fn hold(conn: &mut Conn, kind: MeterKind, owners: &BTreeSet<String>) -> Result<(), DbError> {
    let mut meters = Vec::new();
    for owner in owners {
        meters.extend(meter_of(conn, kind, owner).await?);
    }
    // As renewals lock them.
    meters.sort_by_key(|meter| meter.id);
    for meter in meters {
        lock_of(conn, kind, &meter.owner).await?;
    }
    if !owners.is_empty() {
        sqlx::query(
            "-- quotas.hold
             UPDATE ledger_head
                SET last_meter = last_meter
              WHERE id = 1",
        )
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// The meter of `owner`, as on record: [`Meter::at`] tells how it stands now. None = unlimited.
pub async fn meter_of(conn: &mut Conn, kind: MeterKind, owner: &str) -> Result<Option<Meter>, DbError> {
    let row = sqlx::query(concat!(
        "-- quotas.meter_of
         SELECT ",
        meter_columns!(),
        "
           FROM meters
          WHERE kind = $1 AND owner = $2"
    ))
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
    let (after, renamed) = before.reset(window);
    update(conn, &after).await?;
    if let Some((from, to)) = renamed {
        rename_generation(conn, id, from, to).await?;
    }
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
        Some(meter) => forget_meter(conn, MeterId(meter.try_get::<i64, _>(0)? as u64)).await,
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
pub(super) async fn lock_of(conn: &mut Conn, kind: MeterKind, owner: &str) -> Result<Option<Meter>, DbError> {
    let row = sqlx::query(concat!(
        "-- quotas.lock_of
         UPDATE meters
            SET debited = debited
          WHERE kind = $1 AND owner = $2
      RETURNING ",
        meter_columns!()
    ))
    .bind(kind_text(kind))
    .bind(owner)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(parse).transpose()
}

/// The meter of that number, locked as by [`lock_of`].
pub(super) async fn locked(conn: &mut Conn, id: MeterId) -> Result<Option<Meter>, DbError> {
    let row = sqlx::query(concat!(
        "-- quotas.locked
         UPDATE meters
            SET debited = debited
          WHERE id = $1
      RETURNING ",
        meter_columns!()
    ))
    .bind(id.0 as i64)
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
         INSERT INTO meters (id, kind, owner, limit_units, period, zone,
                             generation, window_start, window_end, debited,
                             last_lease, recalled_at)
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, 0, 0, NULL)",
    )
    .bind(id.0 as i64)
    .bind(kind_text(kind))
    .bind(owner)
    .bind(limit.units as i64)
    .bind(limit.period.as_str())
    .bind(limit.zone.name())
    .bind(window.map(|window| window.start.0))
    .bind(window.map(|window| window.end.0))
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn update(conn: &mut Conn, meter: &Meter) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.update
         UPDATE meters
            SET limit_units = $2, period = $3, zone = $4,
                recalled_at = CASE WHEN generation = $5 THEN recalled_at END,
                generation = $5, window_start = $6, window_end = $7, debited = $8,
                ahead_generation = $9, ahead_window_end = $10, ahead_debited = $11,
                reclaimed_units = $12
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
    .bind(meter.ahead.map(|ahead| ahead.generation.0 as i64))
    .bind(meter.ahead.map(|ahead| ahead.window_ends_at.0))
    .bind(meter.ahead.map(|ahead| ahead.debited as i64))
    .bind(meter.reclaimed as i64)
    .execute(conn)
    .await?;
    Ok(())
}

/// Leases of one generation count in another one from now on.
async fn rename_generation(
    conn: &mut Conn,
    meter: MeterId,
    from: Generation,
    to: Generation,
) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.rename_generation
         UPDATE leases SET generation = $3 WHERE meter = $1 AND generation = $2",
    )
    .bind(meter.0 as i64)
    .bind(from.0 as i64)
    .bind(to.0 as i64)
    .execute(conn)
    .await?;
    Ok(())
}

/// A row of `meter_columns!`.
pub(super) fn parse(row: &AnyRow) -> Result<Meter, DbError> {
    let id: i64 = row.try_get(0)?;
    let senseless = |column| DbError::Inconsistency { table: "meters", column, row: id.to_string() };
    let count =
        |column: usize, name| u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| senseless(name));
    let term = |column: usize, name| {
        let number = row.try_get::<Option<i64>, _>(column)?;
        number.map(|number| u32::try_from(number).map_err(|_| senseless(name))).transpose()
    };
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
        leases: LeaseTerms {
            horizon_s: term(6, "lease_horizon_s")?,
            max_percent: term(14, "max_lease_percent")?,
        },
        generation: Generation(count(7, "generation")?),
        window,
        debited: count(10, "debited")?,
        ahead: match row.try_get::<Option<i64>, _>(11)? {
            Some(_) => Some(Ahead {
                generation: Generation(count(11, "ahead_generation")?),
                window_ends_at: UnixMillis(row.try_get(12)?),
                debited: count(13, "ahead_debited")?,
            }),
            None => None,
        },
        reclaimed: count(15, "reclaimed_units")?,
    })
}

pub(super) fn kind_text(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::ClientQuota => "client_quota",
        MeterKind::KeyUses => "key_uses",
        MeterKind::TokenUses => "token_uses",
    }
}

pub(super) fn parse_kind(text: &str) -> Option<MeterKind> {
    match text {
        "client_quota" => Some(MeterKind::ClientQuota),
        "key_uses" => Some(MeterKind::KeyUses),
        "token_uses" => Some(MeterKind::TokenUses),
        _ => None,
    }
}

/// Units that are out, as an operator sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// In leases that their holders may still spend or give back.
    pub leased: u64,
    /// In leases whose holders have never reported: lost to this generation.
    pub withheld: u64,
}

/// What is out of the meter's present generation.
pub async fn outstanding(conn: &mut Conn, meter: &Meter, now: UnixMillis) -> Result<Outstanding, DbError> {
    let row = sqlx::query(
        "-- quotas.outstanding
         SELECT CAST(COALESCE(SUM(CASE WHEN expires_at >  $3 THEN units ELSE 0 END), 0) AS BIGINT),
                CAST(COALESCE(SUM(CASE WHEN expires_at <= $3 THEN units ELSE 0 END), 0) AS BIGINT)
           FROM leases
          WHERE meter = $1 AND generation = $2",
    )
    .bind(meter.id.0 as i64)
    .bind(meter.generation.0 as i64)
    .bind(now.0)
    .fetch_one(conn)
    .await?;
    Ok(Outstanding { leased: row.try_get::<i64, _>(0)? as u64, withheld: row.try_get::<i64, _>(1)? as u64 })
}

/// What is out of the present generations of all meters.
pub async fn outstanding_in_all(conn: &mut Conn, now: UnixMillis) -> Result<Outstanding, DbError> {
    let row = sqlx::query(
        "-- quotas.outstanding_in_all
         SELECT CAST(COALESCE(SUM(CASE WHEN expires_at >  $1 THEN units ELSE 0 END), 0) AS BIGINT),
                CAST(COALESCE(SUM(CASE WHEN expires_at <= $1 THEN units ELSE 0 END), 0) AS BIGINT)
           FROM leases
           JOIN meters ON meters.id = leases.meter AND meters.generation = leases.generation",
    )
    .bind(now.0)
    .fetch_one(conn)
    .await?;
    Ok(Outstanding { leased: row.try_get::<i64, _>(0)? as u64, withheld: row.try_get::<i64, _>(1)? as u64 })
}

/// A meter's row while its transaction holds it.
pub(super) struct Locked {
    /// As owners and operators see it.
    pub meter: Meter,
    /// As the issuer sees it.
    pub row: MeterRow,
    /// The highest lease number given.
    pub last_lease: u64,
}

/// What the issuer counts, without what it knows besides.
pub(super) fn issuer_row(meter: &Meter) -> MeterRow {
    MeterRow {
        meter: meter.id,
        limit: meter.in_force(),
        debited: meter.debited,
        generation: meter.generation,
        window_ends_at: meter.window.map(|window| window.end),
        recalled_at: None,
        horizon_s: 0,
        max_lease: None,
        ahead: meter.ahead,
    }
}

/// The meter, locked until the transaction ends.
pub(super) async fn lock(
    conn: &mut Conn,
    id: MeterId,
    installation: LeaseTerms<u32>,
) -> Result<Option<Locked>, DbError> {
    let row = sqlx::query(concat!(
        "-- quotas.renew.lock
         UPDATE meters
            SET debited = debited
          WHERE id = $1
      RETURNING ",
        meter_columns!(),
        ", last_lease, recalled_at"
    ))
    .bind(id.0 as i64)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let meter = parse(&row)?;
    let leases = meter.leases.or(installation);
    Ok(Some(Locked {
        row: MeterRow {
            recalled_at: row.try_get::<Option<i64>, _>(17)?.map(UnixMillis),
            horizon_s: leases.horizon_s,
            max_lease: Some(u32::try_from(leases.max_units(meter.limit.units)).unwrap_or(u32::MAX)),
            ..issuer_row(&meter)
        },
        last_lease: row.try_get::<i64, _>(16)? as u64,
        meter,
    }))
}

/// Writes what a step has done to the meter. The limit stands in the condition once more: no
/// mistake above can debit beyond it.
pub(super) async fn debit(
    conn: &mut Conn,
    before: &MeterRow,
    after: &MeterRow,
    window: Option<Window>,
    last_lease: u64,
) -> Result<(), DbError> {
    let updated = sqlx::query(
        "-- quotas.renew.debit
         UPDATE meters
            SET generation = $2, window_start = $3, window_end = $4,
                debited = $5, last_lease = $6, recalled_at = $7,
                ahead_generation = $10, ahead_window_end = $11, ahead_debited = $12
          WHERE id = $1 AND generation = $8 AND debited = $9
            AND ($5 <= limit_units + reclaimed_units OR $5 <= debited OR ($2 = ahead_generation AND $5 <= ahead_debited))
            AND (CAST($12 AS BIGINT) IS NULL OR $12 <= limit_units OR $12 <= ahead_debited)",
    )
    .bind(after.meter.0 as i64)
    .bind(after.generation.0 as i64)
    .bind(window.map(|window| window.start.0))
    .bind(window.map(|window| window.end.0))
    .bind(after.debited as i64)
    .bind(last_lease as i64)
    .bind(after.recalled_at.map(|at| at.0))
    .bind(before.generation.0 as i64)
    .bind(before.debited as i64)
    .bind(after.ahead.map(|ahead| ahead.generation.0 as i64))
    .bind(after.ahead.map(|ahead| ahead.window_ends_at.0))
    .bind(after.ahead.map(|ahead| ahead.debited as i64))
    .execute(conn)
    .await?;
    expect_one("meters", "debited", after.meter, updated.rows_affected())
}

pub(super) async fn live_leases(
    conn: &mut Conn,
    meter: MeterId,
    now: UnixMillis,
) -> Result<BTreeMap<u64, (HolderId, Generation)>, DbError> {
    let rows = sqlx::query(
        "-- quotas.renew.live
         SELECT lease, holder, generation
           FROM leases
          WHERE meter = $1 AND expires_at > $2",
    )
    .bind(meter.0 as i64)
    .bind(now.0)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let holder = HolderId::try_from(row.try_get::<String, _>(1)?)
                .map_err(|_| inconsistent("leases", "holder", meter))?;
            Ok((row.try_get::<i64, _>(0)? as u64, (holder, Generation(row.try_get::<i64, _>(2)? as u64))))
        })
        .collect()
}

pub(super) async fn stream_row(
    conn: &mut Conn,
    holder: HolderId,
    renewal: &Renewal,
) -> Result<Option<StreamRow>, DbError> {
    let row = sqlx::query(
        "-- quotas.renew.stream
         SELECT seq, answer, lease, generation, units, spend_until, window_end, remaining, opens_at
           FROM lease_streams
          WHERE meter = $1 AND holder = $2 AND rec = $3",
    )
    .bind(renewal.meter.0 as i64)
    .bind(holder.to_string())
    .bind(renewal.rec.0 as i64)
    .fetch_optional(conn)
    .await?;
    row.map(|row| parse_stream(&row, renewal.meter)).transpose()
}

fn parse_stream(row: &AnyRow, meter: MeterId) -> Result<StreamRow, DbError> {
    let senseless = |column| inconsistent("lease_streams", column, meter);
    let number = |index: usize, column| {
        row.try_get::<Option<i64>, _>(index)?
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| senseless(column))
    };
    let window_ends_at = row.try_get::<Option<i64>, _>(6)?.map(UnixMillis);
    let answer = match row.try_get::<String, _>(1)?.as_str() {
        "granted" => StoredAnswer::Granted {
            lease: LeaseId(number(2, "lease")?),
            generation: Generation(number(3, "generation")?),
            units: u32::try_from(number(4, "units")?).map_err(|_| senseless("units"))?,
            spend_until: UnixMillis(
                row.try_get::<Option<i64>, _>(5)?.ok_or_else(|| senseless("spend_until"))?,
            ),
            window_ends_at,
            opens_at: row.try_get::<Option<i64>, _>(8)?.map(UnixMillis),
            remaining: number(7, "remaining")?,
        },
        "pending" => StoredAnswer::Pending,
        "exhausted" => StoredAnswer::Exhausted { window_ends_at },
        "closed" => StoredAnswer::Closed,
        _ => return Err(senseless("answer")),
    };
    Ok(StreamRow { seq: row.try_get::<i64, _>(0)? as u64, answer })
}

pub(super) async fn put_stream(
    conn: &mut Conn,
    holder: HolderId,
    renewal: &Renewal,
    stream: &StreamRow,
    now: UnixMillis,
) -> Result<(), DbError> {
    let (answer, grant, window_ends_at) = match stream.answer {
        StoredAnswer::Granted {
            lease,
            generation,
            units,
            spend_until,
            window_ends_at,
            opens_at,
            remaining,
        } => ("granted", Some((lease, generation, units, spend_until, opens_at, remaining)), window_ends_at),
        StoredAnswer::Pending => ("pending", None, None),
        StoredAnswer::Exhausted { window_ends_at } => ("exhausted", None, window_ends_at),
        StoredAnswer::Closed => ("closed", None, None),
    };
    let put = sqlx::query(
        "-- quotas.renew.put_stream
         INSERT INTO lease_streams (meter, holder, rec, seq, answer, lease, generation, units,
                                    spend_until, window_end, remaining, stepped_at, opens_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             ON CONFLICT (meter, holder, rec) DO UPDATE
            SET seq = excluded.seq, answer = excluded.answer, lease = excluded.lease,
                generation = excluded.generation, units = excluded.units,
                spend_until = excluded.spend_until, window_end = excluded.window_end,
                remaining = excluded.remaining, stepped_at = excluded.stepped_at,
                opens_at = excluded.opens_at
          WHERE lease_streams.seq = excluded.seq - 1",
    )
    .bind(renewal.meter.0 as i64)
    .bind(holder.to_string())
    .bind(renewal.rec.0 as i64)
    .bind(stream.seq as i64)
    .bind(answer)
    .bind(grant.map(|(lease, ..)| lease.0 as i64))
    .bind(grant.map(|(_, generation, ..)| generation.0 as i64))
    .bind(grant.map(|(_, _, units, ..)| i64::from(units)))
    .bind(grant.map(|(_, _, _, spend_until, ..)| spend_until.0))
    .bind(window_ends_at.map(|end| end.0))
    .bind(grant.map(|(.., remaining)| remaining as i64))
    .bind(now.0)
    .bind(grant.and_then(|(.., opens_at, _)| opens_at).map(|at| at.0))
    .execute(conn)
    .await?;
    expect_one("lease_streams", "seq", renewal.meter, put.rows_affected())
}

pub(super) async fn lease_row(
    conn: &mut Conn,
    holder: HolderId,
    renewal: &Renewal,
    lease: LeaseId,
) -> Result<Option<LeaseRow>, DbError> {
    let row = sqlx::query(
        "-- quotas.renew.lease
         SELECT generation, units, expires_at
           FROM leases
          WHERE meter = $1 AND lease = $2 AND holder = $3 AND rec = $4",
    )
    .bind(renewal.meter.0 as i64)
    .bind(lease.0 as i64)
    .bind(holder.to_string())
    .bind(renewal.rec.0 as i64)
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(LeaseRow {
            id: lease,
            generation: Generation(row.try_get::<i64, _>(0)? as u64),
            units: u32::try_from(row.try_get::<i64, _>(1)?)
                .map_err(|_| inconsistent("leases", "units", renewal.meter))?,
            expires_at: UnixMillis(row.try_get(2)?),
            // A lease that was given back, or reclaimed, has no row any more.
            state: LeaseState::Open,
        })
    })
    .transpose()
}

/// Leases of the meter's present generation whose holders never reported, by number.
pub(super) async fn expired_leases(
    conn: &mut Conn,
    meter: &Meter,
    now: UnixMillis,
) -> Result<Vec<LeaseRow>, DbError> {
    let rows = sqlx::query(
        "-- quotas.expired_leases
         SELECT lease, units, expires_at
           FROM leases
          WHERE meter = $1 AND generation = $2 AND expires_at <= $3
          ORDER BY lease",
    )
    .bind(meter.id.0 as i64)
    .bind(meter.generation.0 as i64)
    .bind(now.0)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(LeaseRow {
                id: LeaseId(row.try_get::<i64, _>(0)? as u64),
                generation: meter.generation,
                units: u32::try_from(row.try_get::<i64, _>(1)?)
                    .map_err(|_| inconsistent("leases", "units", meter.id))?,
                expires_at: UnixMillis(row.try_get(2)?),
                state: LeaseState::Open,
            })
        })
        .collect()
}

pub(super) async fn insert_lease(
    conn: &mut Conn,
    holder: HolderId,
    renewal: &Renewal,
    open: &Open,
) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.renew.open
         INSERT INTO leases (meter, lease, holder, rec, generation, units, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(renewal.meter.0 as i64)
    .bind(open.lease.0 as i64)
    .bind(holder.to_string())
    .bind(renewal.rec.0 as i64)
    .bind(open.generation.0 as i64)
    .bind(i64::from(open.units))
    .bind(open.expires_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn delete_lease(conn: &mut Conn, meter: MeterId, lease: LeaseId) -> Result<(), DbError> {
    let deleted = sqlx::query(
        "-- quotas.renew.close
         DELETE FROM leases WHERE meter = $1 AND lease = $2",
    )
    .bind(meter.0 as i64)
    .bind(lease.0 as i64)
    .execute(conn)
    .await?;
    expect_one("leases", "lease", meter, deleted.rows_affected())
}

/// Streams and leases of a meter that is gone: its row is deleted and locked already.
async fn forget_meter(conn: &mut Conn, meter: MeterId) -> Result<(), DbError> {
    for statement in [
        "-- quotas.lift_limit.streams
         DELETE FROM lease_streams WHERE meter = $1",
        "-- quotas.lift_limit.leases
         DELETE FROM leases WHERE meter = $1",
    ] {
        sqlx::query(statement).bind(meter.0 as i64).execute(&mut *conn).await?;
    }
    warnings::forget(conn, meter).await
}

/// Leases of past generations that nobody will return any more.
pub(super) async fn forget_past(conn: &mut Conn, meter: &MeterRow, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.renew.forget_past
         DELETE FROM leases WHERE meter = $1 AND generation < $2 AND expires_at < $3",
    )
    .bind(meter.meter.0 as i64)
    .bind(meter.generation.0 as i64)
    .bind(now.0 - STREAM_KEEP_MS)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn forget_idle_streams(
    conn: &mut Conn,
    meter: MeterId,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- quotas.renew.forget_idle_streams
         DELETE FROM lease_streams
          WHERE meter = $1 AND stepped_at < $2
            AND NOT EXISTS (SELECT 1
                              FROM leases
                             WHERE leases.meter  = lease_streams.meter
                               AND leases.holder = lease_streams.holder
                               AND leases.rec    = lease_streams.rec)",
    )
    .bind(meter.0 as i64)
    .bind(now.0 - STREAM_KEEP_MS)
    .execute(conn)
    .await?;
    Ok(())
}

/// The row was locked, so the condition can fail only where the database contradicts itself:
/// the transaction is rolled back, and nobody is told that he has units.
fn expect_one(table: &'static str, column: &'static str, meter: MeterId, rows: u64) -> Result<(), DbError> {
    if rows == 1 { Ok(()) } else { Err(inconsistent(table, column, meter)) }
}

pub(super) fn inconsistent(table: &'static str, column: &'static str, meter: MeterId) -> DbError {
    DbError::Inconsistency { table, column, row: format!("meter {meter}") }
}
