//! Renewals, carried out: rows in, [`gate::quota::issuer`] decides, effects out, all in the
//! caller's transaction.

use std::collections::BTreeMap;

use gate::id::{Epoch, Generation, HolderId, LeaseId, MeterId, Revision};
use gate::quota::issuer::{self, Effects, Known, MeterRow};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{Renewal, RenewalOutcome};

use super::model::{LeaseTerms, Meter, Window};
use super::store::{self, Locked};
use super::warnings::{self, LEAST_PERCENT};
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
/// `installation`: how large leases are where the client says nothing else.
/// Returns what is to be [`announce`]d once the transaction is committed.
pub async fn renew(
    conn: &mut Conn,
    epoch: Epoch,
    installation: LeaseTerms<u32>,
    steps: &mut [Step],
    now: UnixMillis,
) -> Result<Vec<Subject>, DbError> {
    let mut by_meter: BTreeMap<MeterId, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        by_meter.entry(step.renewal.meter).or_default().push(index);
    }
    let mut announcements = Vec::new();
    for (meter, indices) in by_meter {
        let Some(mut account) = Account::lock(conn, meter, installation, now).await? else {
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
                announcements.push(Subject::Recall { meter, lowered: false });
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

/// A meter's row while its transaction holds it, with what the issuer needs to know besides.
struct Account {
    meter: Meter,
    row: MeterRow,
    last_lease: u64,
    /// Open, unexpired leases: lease → its holder and generation.
    live: BTreeMap<u64, (HolderId, Generation)>,
}

impl Account {
    async fn lock(
        conn: &mut Conn,
        id: MeterId,
        installation: LeaseTerms<u32>,
        now: UnixMillis,
    ) -> Result<Option<Self>, DbError> {
        let Some(Locked { meter, row, last_lease }) = store::lock(conn, id, installation).await? else {
            return Ok(None);
        };
        let live = store::live_leases(conn, id, now).await?;
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
        let stream = store::stream_row(conn, holder, renewal).await?;
        let closed_lease = match renewal.closed_lease {
            Some(lease) => store::lease_row(conn, holder, renewal, lease).await?,
            None => None,
        };
        let present = self.present_window(now);
        let next = match present {
            Some(window) if renewal.ahead => {
                Window::containing(self.meter.limit.period, &self.meter.limit.zone, window.end)
            }
            Some(_) | None => None,
        };
        let decided = issuer::renew(
            &Known {
                now,
                epoch,
                meter: &self.row,
                window_ends_at: present.map(|window| window.end),
                stream: stream.as_ref(),
                closed_lease: closed_lease.as_ref(),
                next_window_ends_at: next.map(|window| window.end),
                other_holders: self.others(holder, self.row.generation),
                ahead_holders: self.row.ahead.map_or(0, |ahead| self.others(holder, ahead.generation)),
                new_lease: LeaseId(self.last_lease + 1),
            },
            renewal,
        );
        if let Some(effects) = &decided.effects {
            self.apply(conn, effects, present, holder, renewal, now).await?;
        }
        Ok((decided.outcome, decided.effects))
    }

    /// Other holders with open, unexpired leases of a generation.
    fn others(&self, holder: HolderId, generation: Generation) -> u32 {
        let of_it = self.live.values().filter(|(other, of)| *other != holder && *of == generation);
        let mut others: Vec<HolderId> = of_it.map(|(other, _)| *other).collect();
        others.sort_unstable();
        others.dedup();
        u32::try_from(others.len()).unwrap_or(u32::MAX)
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
            store::delete_lease(conn, renewal.meter, close.lease).await?;
            self.live.remove(&close.lease.0);
        }
        if let Some(open) = effects.open {
            self.last_lease = open.lease.0;
            store::insert_lease(conn, holder, renewal, &open).await?;
            self.live.insert(open.lease.0, (holder, open.generation));
        }
        if effects.roll.is_some() {
            store::forget_past(conn, &self.row, now).await?;
        }
        if self.row != before || effects.open.is_some() {
            store::debit(conn, &before, &self.row, self.meter.window, self.last_lease).await?;
        }
        // Where it gets so far, in the same commit: whoever tells of it can miss nothing.
        let was =
            before.generation == self.row.generation && self.meter.reaches(before.debited, LEAST_PERCENT);
        if !was && self.meter.reaches(self.row.debited, LEAST_PERCENT) {
            warnings::watch(conn, renewal.meter).await?;
        }
        if renewal.seq == 1 {
            store::forget_idle_streams(conn, renewal.meter, now).await?;
        }
        store::put_stream(conn, holder, renewal, &effects.stream, now).await
    }
}
