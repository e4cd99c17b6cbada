//! The ledger in SQL: rows in, [`gate::quota::issuer`] decides, effects out, all in the caller's
//! transaction. The only writer of `lease_streams` and `leases`.

use std::collections::BTreeMap;

use gate::id::{Epoch, Generation, HolderId, LeaseId, MeterId, Revision};
use gate::quota::issuer::{self, Effects, Known, LeaseRow, LeaseState, MeterRow, STREAM_KEEP_MS};
use gate::quota::issuer::{StoredAnswer, StreamRow};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{Renewal, RenewalOutcome};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::model::{Meter, Window};
use super::store;
use crate::changes;
use crate::db::{Conn, Db, DbError};

/// One renewal of one holder, and its answer once it is taken.
#[derive(Clone, Debug)]
pub struct Step {
    /// Whose stream.
    pub holder: HolderId,
    /// The step.
    pub renewal: Renewal,
    /// [`renew`] puts it here. It may be told only after the commit.
    pub outcome: Option<RenewalOutcome>,
}

/// Takes the steps of any number of holders in one transaction. Meters are locked in the order
/// of their numbers, whatever the order of the steps; steps on one meter are taken in theirs.
///
/// Returns what is to be [`announce`]d once the transaction is committed.
pub async fn renew(
    conn: &mut Conn,
    epoch: Epoch,
    steps: &mut [Step],
    now: UnixMillis,
) -> Result<Vec<Subject>, DbError> {
    let mut by_meter: BTreeMap<MeterId, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        by_meter.entry(step.renewal.meter).or_default().push(index);
    }
    let mut announcements = Vec::new();
    for (meter, indices) in by_meter {
        let Some(mut account) = Account::lock(conn, meter, now).await? else {
            for index in indices {
                steps[index].outcome = Some(RenewalOutcome::Gone);
            }
            continue;
        };
        for index in indices {
            let step = &mut steps[index];
            let (outcome, effects) = account.step(conn, epoch, step.holder, &step.renewal, now).await?;
            step.outcome = Some(outcome);
            if effects.as_ref().is_some_and(|effects| effects.recall) {
                announcements.push(Subject::Recall { meter });
            }
            if effects.as_ref().is_some_and(|effects| effects.units_back) {
                announcements.push(Subject::Meter { meter });
            }
        }
    }
    Ok(announcements)
}

/// Tells the gateways what [`renew`] has brought about. In a transaction of its own: the ledger
/// must not wait for the writers of changes, nor they for it. One that is lost in a crash is
/// brought about again by the next renewal that waits.
pub async fn announce(db: &Db, subjects: &[Subject], now: UnixMillis) -> Result<Option<Revision>, DbError> {
    if subjects.is_empty() {
        return Ok(None);
    }
    let mut write = db.write("quotas.announce").await?;
    let mut last = None;
    for subject in subjects {
        last = Some(changes::record(&mut write, subject, now).await?);
    }
    write.commit().await?;
    Ok(last)
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

/// A meter's row while its transaction holds it, with what the issuer needs to know besides.
struct Account {
    meter: Meter,
    row: MeterRow,
    last_lease: u64,
    /// Open, unexpired leases: lease → its holder and generation.
    live: BTreeMap<u64, (HolderId, Generation)>,
}

impl Account {
    async fn lock(conn: &mut Conn, id: MeterId, now: UnixMillis) -> Result<Option<Self>, DbError> {
        let row = sqlx::query(
            "-- quotas.renew.lock
             UPDATE meters
                SET debited = debited
              WHERE id = $1
          RETURNING id, kind, owner, limit_units, period, zone, horizon_s,
                    generation, window_start, window_end, debited,
                    max_lease, last_lease, recalled_at",
        )
        .bind(id.0 as i64)
        .fetch_optional(&mut *conn)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let meter = store::parse(&row)?;
        let max_lease =
            row.try_get::<Option<i64>, _>(11)?.map(|units| u32::try_from(units).unwrap_or(u32::MAX));
        let last_lease = row.try_get::<i64, _>(12)? as u64;
        let recalled_at = row.try_get::<Option<i64>, _>(13)?.map(UnixMillis);
        let row = MeterRow {
            meter: meter.id,
            limit: meter.limit.units,
            debited: meter.debited,
            generation: meter.generation,
            window_ends_at: meter.window.map(|window| window.end),
            recalled_at,
            horizon_s: meter.horizon_s,
            max_lease,
        };
        let live = live_leases(conn, id, now).await?;
        Ok(Some(Self { meter, row, last_lease, live }))
    }

    async fn step(
        &mut self,
        conn: &mut Conn,
        epoch: Epoch,
        holder: HolderId,
        renewal: &Renewal,
        now: UnixMillis,
    ) -> Result<(RenewalOutcome, Option<Effects>), DbError> {
        let stream = stream_row(conn, holder, renewal).await?;
        let closed_lease = match renewal.closed_lease {
            Some(lease) => lease_row(conn, holder, renewal, lease).await?,
            None => None,
        };
        let present = self.present_window(now);
        let mut others: Vec<HolderId> = self
            .live
            .values()
            .filter(|(other, generation)| *other != holder && *generation == self.row.generation)
            .map(|(other, _)| *other)
            .collect();
        others.sort_unstable();
        others.dedup();
        let decided = issuer::renew(
            &Known {
                now,
                epoch,
                meter: &self.row,
                window_ends_at: present.map(|window| window.end),
                stream: stream.as_ref(),
                closed_lease: closed_lease.as_ref(),
                other_holders: u32::try_from(others.len()).unwrap_or(u32::MAX),
                new_lease: LeaseId(self.last_lease + 1),
            },
            renewal,
        );
        if let Some(effects) = &decided.effects {
            self.apply(conn, effects, present, holder, renewal, now).await?;
        }
        Ok((decided.outcome, decided.effects))
    }

    /// The window that holds `now`; the one on record while it lasts.
    fn present_window(&self, now: UnixMillis) -> Option<Window> {
        match self.meter.window {
            Some(window) if window.end <= now => {
                Window::containing(self.meter.limit.period, &self.meter.limit.zone, now)
            }
            window => window,
        }
    }

    async fn apply(
        &mut self,
        conn: &mut Conn,
        effects: &Effects,
        present: Option<Window>,
        holder: HolderId,
        renewal: &Renewal,
        now: UnixMillis,
    ) -> Result<(), DbError> {
        let before = self.row.clone();
        self.row.apply(effects, now);
        if effects.roll.is_some() {
            self.meter.window = present;
        }
        if let Some(close) = effects.close {
            delete_lease(conn, renewal.meter, close.lease).await?;
            self.live.remove(&close.lease.0);
        }
        if let Some(open) = effects.open {
            self.last_lease = open.lease.0;
            insert_lease(conn, holder, renewal, &open).await?;
            self.live.insert(open.lease.0, (holder, open.generation));
        }
        if effects.roll.is_some() {
            forget_past(conn, &self.row, now).await?;
        }
        if self.row != before || effects.open.is_some() {
            self.update(conn, &before).await?;
        }
        if renewal.seq == 1 {
            forget_idle_streams(conn, renewal.meter, now).await?;
        }
        put_stream(conn, holder, renewal, &effects.stream, now).await
    }

    async fn update(&self, conn: &mut Conn, before: &MeterRow) -> Result<(), DbError> {
        let updated = sqlx::query(
            "-- quotas.renew.debit
             UPDATE meters
                SET generation = $2, window_start = $3, window_end = $4,
                    debited = $5, last_lease = $6, recalled_at = $7
              WHERE id = $1 AND generation = $8 AND debited = $9
                AND ($5 <= limit_units OR $5 <= debited)",
        )
        .bind(self.row.meter.0 as i64)
        .bind(self.row.generation.0 as i64)
        .bind(self.meter.window.map(|window| window.start.0))
        .bind(self.meter.window.map(|window| window.end.0))
        .bind(self.row.debited as i64)
        .bind(self.last_lease as i64)
        .bind(self.row.recalled_at.map(|at| at.0))
        .bind(before.generation.0 as i64)
        .bind(before.debited as i64)
        .execute(conn)
        .await?;
        expect_one("meters", "debited", self.row.meter, updated.rows_affected())
    }
}

async fn live_leases(
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

async fn stream_row(
    conn: &mut Conn,
    holder: HolderId,
    renewal: &Renewal,
) -> Result<Option<StreamRow>, DbError> {
    let row = sqlx::query(
        "-- quotas.renew.stream
         SELECT seq, answer, lease, generation, units, spend_until, window_end, remaining
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
            remaining: number(7, "remaining")?,
        },
        "pending" => StoredAnswer::Pending,
        "exhausted" => StoredAnswer::Exhausted { window_ends_at },
        "closed" => StoredAnswer::Closed,
        _ => return Err(senseless("answer")),
    };
    Ok(StreamRow { seq: row.try_get::<i64, _>(0)? as u64, answer })
}

async fn put_stream(
    conn: &mut Conn,
    holder: HolderId,
    renewal: &Renewal,
    stream: &StreamRow,
    now: UnixMillis,
) -> Result<(), DbError> {
    let (answer, grant, window_ends_at) = match stream.answer {
        StoredAnswer::Granted { lease, generation, units, spend_until, window_ends_at, remaining } => {
            ("granted", Some((lease, generation, units, spend_until, remaining)), window_ends_at)
        }
        StoredAnswer::Pending => ("pending", None, None),
        StoredAnswer::Exhausted { window_ends_at } => ("exhausted", None, window_ends_at),
        StoredAnswer::Closed => ("closed", None, None),
    };
    let put = sqlx::query(
        "-- quotas.renew.put_stream
         INSERT INTO lease_streams (meter, holder, rec, seq, answer, lease, generation, units,
                                    spend_until, window_end, remaining, stepped_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (meter, holder, rec) DO UPDATE
            SET seq = excluded.seq, answer = excluded.answer, lease = excluded.lease,
                generation = excluded.generation, units = excluded.units,
                spend_until = excluded.spend_until, window_end = excluded.window_end,
                remaining = excluded.remaining, stepped_at = excluded.stepped_at
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
    .bind(grant.map(|(_, _, _, spend_until, _)| spend_until.0))
    .bind(window_ends_at.map(|end| end.0))
    .bind(grant.map(|(.., remaining)| remaining as i64))
    .bind(now.0)
    .execute(conn)
    .await?;
    expect_one("lease_streams", "seq", renewal.meter, put.rows_affected())
}

async fn lease_row(
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
            // A lease that was given back has no row any more.
            state: LeaseState::Open,
        })
    })
    .transpose()
}

async fn insert_lease(
    conn: &mut Conn,
    holder: HolderId,
    renewal: &Renewal,
    open: &issuer::Open,
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

async fn delete_lease(conn: &mut Conn, meter: MeterId, lease: LeaseId) -> Result<(), DbError> {
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
pub(super) async fn forget_meter(conn: &mut Conn, meter: MeterId) -> Result<(), DbError> {
    for statement in [
        "-- quotas.lift_limit.streams
         DELETE FROM lease_streams WHERE meter = $1",
        "-- quotas.lift_limit.leases
         DELETE FROM leases WHERE meter = $1",
    ] {
        sqlx::query(statement).bind(meter.0 as i64).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Leases of past generations that nobody will return any more.
async fn forget_past(conn: &mut Conn, meter: &MeterRow, now: UnixMillis) -> Result<(), DbError> {
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

async fn forget_idle_streams(conn: &mut Conn, meter: MeterId, now: UnixMillis) -> Result<(), DbError> {
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

fn inconsistent(table: &'static str, column: &'static str, meter: MeterId) -> DbError {
    DbError::Inconsistency { table, column, row: format!("meter {meter}") }
}
