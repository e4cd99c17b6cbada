//! The node's half of the lease protocol: spend, ask, install, give back.
//!
//! All state is in the shared [`Bucket`], so that any worker can go on where another stopped
//! (trapped, even). Each function at the end of this file is one compare-and-swap.
//!
//! A unit leaves a lease in one of two ways, never both: a request spends it, or the lease is
//! *closed*: taken out of the record, with its rest frozen as `unspent` into the renewal that
//! gives it back, by the same compare-and-swap. That renewal is written before it is sent, is
//! sent byte for byte until it is answered, and changes the record once.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp;

use super::bucket::{Bucket, Demand, Kept, Lease, MAX_LEASES, MAX_METERS, MeterRecord, Pending};
use super::rate::{self, Room};
use crate::id::{ClientKey, Epoch, MeterId, Rec};
use crate::shared::{Shared, Write, update};
use crate::time::MonoMillis;
use crate::wire::exchange::{Meter, Renewal, RenewalAnswer, RenewalOutcome};

/// How long a renewal may take before any worker sends it again.
pub const RENEWAL_TIMEOUT_MS: u64 = 500;
/// How soon a renewal is sent again whose call is known to have failed.
pub const RESEND_MS: u64 = 50;
/// A lease of which the whole node spent nothing for so long goes back.
pub const IDLE_MS: u64 = 2_000;
/// A lease in demand is succeeded by another so long before it expires.
pub const RENEW_AHEAD_MS: u64 = 2_000;
/// "Exhausted" is asked for anew after so long: a lost change of the limit, and the drift of
/// this clock over a month's window, both cost at most this.
pub const KEEP_EXHAUSTED_MS: u64 = 60_000;
/// "Contended" is kept no longer than this, whatever the answer says.
pub const MAX_RETRY_MS: u64 = 1_000;
/// How long requests for a deleted meter are refused without asking again.
pub const KEEP_GONE_MS: u64 = 1_000;
/// A record used within this time is not closed to make room for another.
pub const EVICT_IDLE_MS: u64 = 100;
/// Two clocks differ by at most this much per thousand (quartz: 0.1).
pub const DRIFT_PER_MILLE: u64 = 2;

/// What one request takes.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whose rate.
    pub client: ClientKey,
    /// Requests per second on this node; 0 = unlimited.
    pub tps: u32,
    /// One unit of each; a meter named twice is taken once.
    pub meters: &'a [Meter],
    /// 64 random bits, for the streams of records that are made.
    pub random: u64,
}

/// What became of it. Only [`Spent::Admitted`] consumed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The rate and a unit of every meter are taken.
    Admitted {
        /// Requests left in this second; absent = unlimited.
        tps_left: Option<u32>,
        /// Per meter, in the order asked.
        left: Vec<Left>,
    },
    /// Over the client's requests per second.
    RateExceeded {
        /// Until the next second, 1 to 1,000.
        retry_after_ms: u64,
    },
    /// Nothing held: wait until a renewal is answered, then spend again. No answer within the
    /// request's patience is `quota_unavailable`.
    Wait {
        /// The first meter that lacks a unit.
        meter: MeterId,
    },
    /// The ledger says that other holders have the last units: spend again at `retry_at`; when
    /// patience ends before, `quota_contended`.
    Contended {
        /// Which.
        meter: MeterId,
        /// When another renewal goes out.
        retry_at: MonoMillis,
    },
    /// The ledger says that nothing is left.
    Exhausted {
        /// Which.
        meter: MeterId,
        /// Until the window turns; absent = a total.
        retry_after_ms: Option<u64>,
    },
    /// The ledger says that the meter was deleted: the grant is stale, resolve it anew.
    Gone {
        /// Which.
        meter: MeterId,
    },
    /// No room for another record.
    Capacity,
}

/// What is left of one limit, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub meter: MeterId,
    /// Units held here plus units that the ledger had left when it granted them.
    pub remaining: u64,
    /// Until the window turns; absent = a total.
    pub reset_ms: Option<u64>,
}

/// What an answer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Units are there: wake who waits.
    Granted,
    /// A "no" is on record, or a return was acknowledged: wake who waits, it decides anew.
    Answered,
    /// The record is dropped, what it held is withheld; who waits begins a new stream.
    Dropped,
    /// Not the answer to the step on its way: a repeat, or too late.
    Ignored,
}

/// A result, and when the bucket wants [`renewals_due`] to be called next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched<T> {
    /// What was asked for.
    pub result: T,
    /// In the past or now = at once; absent = the bucket holds no record.
    pub next_due: Option<MonoMillis>,
}

/// Takes the rate and one unit of every meter, or nothing. Always answers: a bucket in
/// contention beyond reason is [`Spent::Capacity`].
pub fn spend<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    ask: &Ask<'_>,
) -> Touched<Spent> {
    touch(shared, key, now, |bucket| bucket.spend(now, ask))
        .unwrap_or(Touched { result: Spent::Capacity, next_due: None })
}

/// The renewals to send now, at most `room`, each frozen into the record before this returns.
/// `now` is the moment of sending that [`install`] wants. With `connected` false, idle leases
/// stay: cut off, they could not be fetched back.
///
/// `None` (here and below): contention beyond reason, try again with the next tick.
pub fn renewals_due<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    connected: bool,
    room: usize,
) -> Option<Touched<Vec<Renewal>>> {
    let touched = touch(shared, key, now, |bucket| {
        (bucket.renewals_due(now, connected, room), bucket.next_due(now, connected))
    })?;
    let (result, next_due) = touched.result;
    Some(Touched { result, next_due })
}

/// Puts an answer into the record, if it is the answer to the step on its way. `sent_at`: when
/// **that very call** was sent, as told to [`renewals_due`]; an answer to an earlier sending of
/// the same step counts from the earlier moment.
pub fn install<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    epoch: Epoch,
    answer: &RenewalAnswer,
    sent_at: MonoMillis,
) -> Option<Touched<Installed>> {
    touch(shared, key, now, |bucket| bucket.install(now, epoch, answer, sent_at))
}

/// The call that carried `renewal` has failed (refused, reset, answered by somebody else than the
/// manager): it is sent again after [`RESEND_MS`] instead of [`RENEWAL_TIMEOUT_MS`].
pub fn call_failed<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    renewal: &Renewal,
) -> Option<Touched<()>> {
    touch(shared, key, now, |bucket| bucket.call_failed(now, renewal))
}

/// Another holder waits, or the limit was lowered: what is held of `meter` goes back.
pub fn recall<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    meter: MeterId,
) -> Option<Touched<()>> {
    touch(shared, key, now, |bucket| bucket.recall(meter))
}

/// The limit of `meter` was raised or reset: a kept "no" counts no longer, nor one on its way.
pub fn limit_changed<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    meter: MeterId,
) -> Option<Touched<()>> {
    touch(shared, key, now, |bucket| bucket.limit_changed(meter))
}

/// Reads the bucket without changing it: how many leases it holds, and when it is due. For the
/// worker that looks through all buckets after another one died.
pub fn look<S: Shared + ?Sized>(shared: &mut S, key: &[u8], now: MonoMillis) -> Touched<usize> {
    let bucket = shared.get(key).map(|(value, _)| read(Some(&value))).unwrap_or_default();
    let leases = bucket.meters.iter().map(|record| record.leases.len()).sum();
    Touched { result: leases, next_due: bucket.next_due(now, true) }
}

fn touch<S: Shared + ?Sized, T>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    mut change: impl FnMut(&mut Bucket) -> T,
) -> Option<Touched<T>> {
    update(shared, key, |value| {
        let mut bucket = read(value);
        let result = change(&mut bucket);
        let bytes = bucket.encode();
        let same = value.map_or_else(|| bucket == Bucket::default(), |value| value == bytes);
        let write = if same { Write::Keep } else { Write::Put(bytes) };
        (write, Touched { result, next_due: bucket.next_due(now, true) })
    })
}

/// Bytes that are no bucket count as none; see [`super::bucket`].
fn read(value: Option<&[u8]>) -> Bucket {
    value.and_then(|value| Bucket::decode(value).ok()).unwrap_or_default()
}

impl Bucket {
    /// See [`spend`].
    pub fn spend(&mut self, now: MonoMillis, ask: &Ask<'_>) -> Spent {
        let tps_left = match rate::check(&self.rates, ask.client, ask.tps, now) {
            Room::Free { left } => left,
            Room::Full { retry_after_ms } => return Spent::RateExceeded { retry_after_ms },
            Room::NoRecord => return Spent::Capacity,
        };
        let held: Vec<Held> = ask
            .meters
            .iter()
            .map(|meter| self.record(meter.id).map_or(Held::Nothing, |r| r.held(now)))
            .collect();
        if let Some(refused) = held.iter().zip(ask.meters).find_map(|(held, meter)| held.refusal(meter.id)) {
            return refused;
        }
        if held.iter().all(|held| *held == Held::Units) {
            rate::count(&mut self.rates, ask.client, ask.tps, now);
            return Spent::Admitted { tps_left, left: self.take_all(now, ask.meters) };
        }
        self.ask_for_units(now, ask, &held)
    }

    /// See [`renewals_due`].
    pub fn renewals_due(&mut self, now: MonoMillis, connected: bool, room: usize) -> Vec<Renewal> {
        self.meters.retain(|record| !record.is_forgettable(now));
        let mut due = vec![];
        for record in &mut self.meters {
            if due.len() >= room {
                break;
            }
            let send = match &mut record.pending {
                Some(pending) if pending.answer_by <= now => {
                    pending.answer_by = now + RENEWAL_TIMEOUT_MS;
                    true
                }
                Some(_) => false,
                None => record.freeze(now, connected),
            };
            due.extend(record.renewal().filter(|_| send));
        }
        due
    }

    /// See [`install`].
    pub fn install(
        &mut self,
        now: MonoMillis,
        epoch: Epoch,
        answer: &RenewalAnswer,
        sent_at: MonoMillis,
    ) -> Installed {
        let named = |record: &MeterRecord| record.meter == answer.meter && record.rec == answer.rec;
        let Some(record) = self.meters.iter_mut().find(|record| named(record)) else {
            return Installed::Ignored;
        };
        let Some(pending) = record.pending.filter(|pending| pending.seq == answer.seq) else {
            return Installed::Ignored;
        };
        let installed = record.install(now, epoch, pending, &answer.outcome, sent_at);
        if installed == Installed::Dropped {
            self.meters.retain(|record| !named(record));
        }
        installed
    }

    /// See [`call_failed`].
    pub fn call_failed(&mut self, now: MonoMillis, renewal: &Renewal) {
        let named = |record: &&mut MeterRecord| record.meter == renewal.meter && record.rec == renewal.rec;
        let pending = self.meters.iter_mut().find(named).and_then(|record| record.pending.as_mut());
        if let Some(pending) = pending.filter(|pending| pending.seq == renewal.seq) {
            pending.answer_by = cmp::min(pending.answer_by, now + RESEND_MS);
        }
    }

    /// See [`recall`]. A lease that is on its way is not meant: the ledger granted it knowing
    /// who waits, and giving it back unused would let two nodes toss the last unit to and fro.
    pub fn recall(&mut self, meter: MeterId) {
        for lease in self.meters.iter_mut().filter(|r| r.meter == meter).flat_map(|r| &mut r.leases) {
            lease.recalled = true;
        }
    }

    /// See [`limit_changed`].
    pub fn limit_changed(&mut self, meter: MeterId) {
        for record in self.meters.iter_mut().filter(|record| record.meter == meter) {
            record.kept = None;
            if let Some(pending) = &mut record.pending {
                pending.doubted = true;
            }
        }
    }

    /// When [`Bucket::renewals_due`] has something to do; cut off, idle leases are nothing to do.
    pub fn next_due(&self, now: MonoMillis, connected: bool) -> Option<MonoMillis> {
        self.meters.iter().map(|record| record.next_due(now, connected)).min()
    }

    fn record(&self, meter: MeterId) -> Option<&MeterRecord> {
        self.meters.iter().find(|record| record.meter == meter)
    }

    /// One unit of each; every one of them has some.
    fn take_all(&mut self, now: MonoMillis, meters: &[Meter]) -> Vec<Left> {
        let mut left = Vec::with_capacity(meters.len());
        for (i, meter) in meters.iter().enumerate() {
            let repeated = meters.iter().take(i).any(|before| before.id == meter.id);
            if let Some(record) = self.meters.iter_mut().find(|record| record.meter == meter.id) {
                if !repeated {
                    record.take(now, meter.horizon_s);
                }
                left.push(record.left(now));
            }
        }
        left
    }

    /// Notes in the records of all meters without units that a request wants one.
    fn ask_for_units(&mut self, now: MonoMillis, ask: &Ask<'_>, held: &[Held]) -> Spent {
        let mut answer = None;
        for (meter, held) in ask.meters.iter().zip(held) {
            let told = match *held {
                Held::Units | Held::Exhausted { .. } | Held::Gone => continue,
                Held::Contended { until } => Spent::Contended { meter: meter.id, retry_at: until },
                Held::Nothing => Spent::Wait { meter: meter.id },
            };
            if self.record(meter.id).is_none() {
                match self.make_room(now, ask.meters) {
                    MadeRoom::Free => self.meters.push(MeterRecord::begin(meter, ask.random, now)),
                    MadeRoom::Soon => return Spent::Wait { meter: meter.id },
                    MadeRoom::None => return Spent::Capacity,
                }
            }
            if let Some(record) = self.meters.iter_mut().find(|record| record.meter == meter.id) {
                record.asked = record.asked.saturating_add(1);
                record.horizon_s = meter.horizon_s;
            }
            answer.get_or_insert(told);
        }
        answer.unwrap_or(Spent::Capacity)
    }

    /// Room for one more record: a free place, else that of a record that holds nothing, else
    /// soon that of the longest idle one, whose leases go back.
    fn make_room(&mut self, now: MonoMillis, keep: &[Meter]) -> MadeRoom {
        if self.meters.len() < MAX_METERS {
            return MadeRoom::Free;
        }
        let is_kept = |record: &MeterRecord| keep.iter().any(|meter| meter.id == record.meter);
        let longest_idle = |empty: bool| {
            let idle = self.meters.iter().enumerate().filter(|(_, record)| {
                record.pending.is_none() && record.leases.is_empty() == empty && !is_kept(record)
            });
            idle.min_by_key(|(_, record)| record.last_active).map(|(at, record)| (at, record.last_active))
        };
        if let Some((at, _)) = longest_idle(true) {
            self.meters.swap_remove(at);
            return MadeRoom::Free;
        }
        let is_leaving = |record: &MeterRecord| {
            record.leases.iter().any(|lease| lease.recalled)
                || record.pending.is_some_and(|pending| pending.want == 0 && record.leases.is_empty())
        };
        if self.meters.iter().any(is_leaving) {
            return MadeRoom::Soon;
        }
        match longest_idle(false).filter(|(_, last_active)| now - *last_active >= EVICT_IDLE_MS) {
            Some((at, _)) => {
                for lease in self.meters.iter_mut().skip(at).take(1).flat_map(|record| &mut record.leases) {
                    lease.recalled = true;
                }
                MadeRoom::Soon
            }
            None => MadeRoom::None,
        }
    }
}

enum MadeRoom {
    Free,
    Soon,
    None,
}

/// What a record has for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Units,
    Nothing,
    Contended { until: MonoMillis },
    Exhausted { retry_after_ms: Option<u64> },
    Gone,
}

impl Held {
    /// The answers that no waiting changes.
    fn refusal(self, meter: MeterId) -> Option<Spent> {
        match self {
            Self::Units | Self::Nothing | Self::Contended { .. } => None,
            Self::Exhausted { retry_after_ms } => Some(Spent::Exhausted { meter, retry_after_ms }),
            Self::Gone => Some(Spent::Gone { meter }),
        }
    }
}

impl Lease {
    /// Whether its time has passed.
    fn is_over(&self, now: MonoMillis) -> bool {
        self.expires_at <= now || self.window_ends_at.is_some_and(|end| end <= now)
    }

    fn has_units(&self, now: MonoMillis) -> bool {
        self.left > 0 && !self.is_over(now)
    }
}

impl MeterRecord {
    fn begin(meter: &Meter, random: u64, now: MonoMillis) -> Self {
        Self {
            meter: meter.id,
            rec: Rec(random >> 1), // 63 bits: the ledger's BIGINT is signed
            epoch: None,
            seq: 0,
            leases: vec![],
            pending: None,
            kept: None,
            asked: 0,
            last_active: now,
            horizon_s: meter.horizon_s,
            demand: Demand { counted: 0, since: now, per_s: 0 },
        }
    }

    fn held(&self, now: MonoMillis) -> Held {
        if self.leases.iter().any(|lease| lease.has_units(now)) {
            return Held::Units;
        }
        match self.kept {
            Some(kept) if kept.until() <= now => Held::Nothing,
            None => Held::Nothing,
            Some(Kept::Contended { until, .. }) => Held::Contended { until },
            Some(Kept::Exhausted { window_ends_at, .. }) => {
                Held::Exhausted { retry_after_ms: window_ends_at.map(|end| end - now) }
            }
            Some(Kept::Gone { .. }) => Held::Gone,
        }
    }

    fn take(&mut self, now: MonoMillis, horizon_s: u32) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.has_units(now)) {
            lease.left -= 1;
        }
        self.last_active = cmp::max(self.last_active, now);
        self.horizon_s = horizon_s;
        self.demand.count(now);
    }

    fn left(&self, now: MonoMillis) -> Left {
        let here: u64 = self.leases.iter().filter(|l| l.has_units(now)).map(|l| u64::from(l.left)).sum();
        let newest = self.leases.last();
        Left {
            meter: self.meter,
            remaining: here.saturating_add(newest.map_or(0, |lease| lease.ledger_left)),
            reset_ms: newest.and_then(|lease| lease.window_ends_at).map(|end| end - now),
        }
    }

    fn is_idle(&self, now: MonoMillis) -> bool {
        self.asked == 0 && now - self.last_active >= IDLE_MS
    }

    /// Nothing held, nothing on its way, nothing to remember: all that its stream was ever
    /// granted has been given back, and that was acknowledged.
    fn is_forgettable(&self, now: MonoMillis) -> bool {
        self.pending.is_none()
            && self.leases.is_empty()
            && self.kept.is_none_or(|kept| kept.until() <= now)
            && self.is_idle(now)
    }

    /// Makes the next step, if there is a reason: a lease that must go back, or units wanted.
    fn freeze(&mut self, now: MonoMillis, connected: bool) -> bool {
        let idle = connected && self.is_idle(now);
        let must_go = self.leases.iter().position(|lease| idle || lease.recalled || lease.is_over(now));
        let goes_back = must_go.and_then(|at| self.leases.get(at)).map_or(0, |lease| lease.left);
        if goes_back > 0 {
            // Whatever the ledger said before, it has units again once it has these.
            self.kept = None;
        }
        let want = self.wanted(now);
        if must_go.is_none() && want == 0 {
            return false;
        }
        let closing = must_go.or_else(|| self.leases.iter().position(|lease| lease.left == 0));
        let closed = closing.filter(|at| *at < self.leases.len()).map(|at| self.leases.remove(at));
        self.pending = Some(Pending {
            seq: self.seq.saturating_add(1),
            closed_lease: closed.map(|lease| lease.id),
            unspent: closed.map_or(0, |lease| lease.left),
            want,
            waiting: self.asked > 0,
            answer_by: now + RENEWAL_TIMEOUT_MS,
            doubted: false,
        });
        true
    }

    /// Units to ask for now; 0 = none.
    fn wanted(&self, now: MonoMillis) -> u32 {
        let waiting = self.asked > 0;
        let refused = self.kept.is_some_and(|kept| match kept {
            Kept::Contended { until, recalling } => now < until && (recalling || !waiting),
            Kept::Exhausted { until, .. } | Kept::Gone { until } => now < until,
        });
        if refused {
            return 0;
        }
        let staying = || self.leases.iter().filter(|lease| !lease.recalled);
        let units: u64 = staying().filter(|l| l.has_units(now)).map(|l| u64::from(l.left)).sum();
        if waiting && units == 0 {
            // While units are being recalled, only those who wait get one.
            let recalled = self.leases.iter().any(|lease| lease.recalled);
            return if recalled { self.asked } else { cmp::max(self.asked, self.demand_of_horizon(now)) };
        }
        let room = self.leases.len() < MAX_LEASES || self.leases.iter().any(|lease| lease.left == 0);
        let ahead = staying().rfind(|lease| !lease.is_over(now)).is_some_and(|newest| {
            // Leases of one unit: the end is near, and every unit goes to a request that waits.
            let drained = newest.units > 1 && units.saturating_mul(3) <= u64::from(newest.units);
            drained || self.renews_ahead_at(newest).is_some_and(|at| at <= now)
        });
        if room && ahead && !self.is_idle(now) { self.demand_of_horizon(now) } else { 0 }
    }

    /// When a lease in demand is succeeded because of its age; never where its window, and with
    /// it the next one, ends then.
    fn renews_ahead_at(&self, lease: &Lease) -> Option<MonoMillis> {
        let goes_on = lease.window_ends_at.is_none_or(|end| end > lease.expires_at + RENEW_AHEAD_MS);
        goes_on.then_some(MonoMillis(lease.expires_at.0.saturating_sub(RENEW_AHEAD_MS)))
    }

    /// Units that the lease horizon's demand needs, at least 1.
    fn demand_of_horizon(&self, now: MonoMillis) -> u32 {
        let units = u64::from(self.demand.per_s(now)).saturating_mul(u64::from(self.horizon_s));
        u32::try_from(units).unwrap_or(u32::MAX).max(1)
    }

    fn install(
        &mut self,
        now: MonoMillis,
        epoch: Epoch,
        pending: Pending,
        outcome: &RenewalOutcome,
        sent_at: MonoMillis,
    ) -> Installed {
        if self.epoch.is_some_and(|known| known != epoch) {
            return Installed::Dropped;
        }
        let kept = match *outcome {
            RenewalOutcome::Refused => return Installed::Dropped,
            RenewalOutcome::Granted { lease, generation, units, ttl_ms, window_left_ms, remaining } => {
                if pending.want == 0 || units == 0 || self.leases.len() >= MAX_LEASES {
                    return Installed::Dropped; // no answer to what was asked
                }
                self.last_active = cmp::max(self.last_active, now);
                self.leases.push(Lease {
                    id: lease,
                    generation,
                    units,
                    left: units,
                    expires_at: sent_at + ttl_ms,
                    window_ends_at: window_left_ms.map(|left| sent_at + left),
                    ledger_left: remaining,
                    recalled: false,
                });
                None
            }
            RenewalOutcome::Pending { retry_ms } => Some(Kept::Contended {
                until: now + retry_ms.clamp(1, MAX_RETRY_MS),
                recalling: pending.waiting,
            }),
            RenewalOutcome::Exhausted { .. } if pending.doubted => None,
            RenewalOutcome::Exhausted { window_left_ms } => {
                let turns = window_left_ms.map_or(MonoMillis(u64::MAX), |left| sent_at + shortened(left));
                Some(Kept::Exhausted {
                    until: cmp::min(turns, now + KEEP_EXHAUSTED_MS),
                    window_ends_at: window_left_ms.map(|left| sent_at + left),
                })
            }
            RenewalOutcome::Gone => {
                self.leases.clear();
                Some(Kept::Gone { until: now + KEEP_GONE_MS })
            }
            RenewalOutcome::Closed => None,
        };
        self.epoch = Some(epoch);
        self.seq = pending.seq;
        self.pending = None;
        self.kept = kept;
        self.asked = 0;
        if kept.is_none() && self.leases.iter().any(|lease| lease.has_units(now)) {
            Installed::Granted
        } else {
            Installed::Answered
        }
    }

    fn next_due(&self, now: MonoMillis, connected: bool) -> MonoMillis {
        if let Some(pending) = &self.pending {
            return pending.answer_by;
        }
        if self.wanted(now) > 0 {
            return now;
        }
        let kept_until = self.kept.map(|kept| kept.until()).filter(|until| now < *until);
        if self.leases.is_empty() && self.asked == 0 {
            return cmp::max(self.last_active + IDLE_MS, kept_until.unwrap_or(MonoMillis(0)));
        }
        let idle = (connected && self.asked == 0).then_some(self.last_active + IDLE_MS);
        let asks = kept_until.filter(|_| self.asked > 0);
        let leases = self.leases.iter().map(|lease| {
            let over = cmp::min(lease.expires_at, lease.window_ends_at.unwrap_or(lease.expires_at));
            let ahead = self.renews_ahead_at(lease).filter(|at| now < *at);
            if lease.recalled { now } else { ahead.map_or(over, |at| cmp::min(at, over)) }
        });
        leases.chain(idle).chain(asks).min().unwrap_or(now)
    }
}

impl Demand {
    fn count(&mut self, now: MonoMillis) {
        self.counted = self.counted.saturating_add(1);
        if now - self.since >= 1_000 {
            let measured = self.measured(now);
            // Up at once, down by halves: a lease too small costs a wait, one too large goes back.
            let smoothed = self.per_s.midpoint(measured);
            *self = Self { counted: 0, since: now, per_s: cmp::max(measured, smoothed) };
        }
    }

    /// Units per second, at least what the running measurement says.
    fn per_s(&self, now: MonoMillis) -> u32 {
        cmp::max(self.per_s, self.measured(now))
    }

    /// Over a second at least: one call is no burst of 1,000 a second.
    fn measured(&self, now: MonoMillis) -> u32 {
        let elapsed = cmp::max(now - self.since, 1_000);
        let per_s = u64::from(self.counted).saturating_mul(1_000).div_ceil(elapsed);
        u32::try_from(per_s).unwrap_or(u32::MAX)
    }
}

/// A duration of the manager's clock as this clock may safely count it.
fn shortened(millis: u64) -> u64 {
    millis - millis.saturating_mul(DRIFT_PER_MILLE).div_ceil(1_000).min(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, LeaseId};
    use crate::quota::bucket::arbitrary;
    use crate::shared::{Cas, CasMismatch};
    use crate::wire::exchange::MeterKind;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const CLIENT: ClientKey = ClientKey([7; 16]);
    const M: MeterId = MeterId(1);
    const EPOCH: Epoch = Epoch(9);
    const LEASE_MS: u64 = 60_000;

    fn meter(id: u64) -> Meter {
        Meter { id: MeterId(id), kind: MeterKind::ClientQuota, limit: 1_000, window_s: None, horizon_s: 30 }
    }

    /// One node with one bucket, at a time that tests move.
    struct Node {
        bucket: Bucket,
        now: u64,
        lease: u64,
    }

    impl Node {
        fn new() -> Self {
            Self { bucket: Bucket::default(), now: 100_000, lease: 0 }
        }

        fn at(&self) -> MonoMillis {
            MonoMillis(self.now)
        }

        fn spend(&mut self, meters: &[u64]) -> Spent {
            self.spend_at_rate(0, meters)
        }

        fn spend_at_rate(&mut self, tps: u32, meters: &[u64]) -> Spent {
            let meters: Vec<_> = meters.iter().map(|id| meter(*id)).collect();
            let ask = Ask { client: CLIENT, tps, meters: &meters, random: self.now << 1 };
            self.bucket.spend(self.at(), &ask)
        }

        fn is_admitted(&mut self, meters: &[u64]) -> bool {
            matches!(self.spend(meters), Spent::Admitted { .. })
        }

        fn due(&mut self) -> Vec<Renewal> {
            let now = self.at();
            self.bucket.renewals_due(now, true, 100)
        }

        fn answer(&mut self, renewal: &Renewal, outcome: RenewalOutcome) -> Installed {
            let answer = RenewalAnswer { meter: renewal.meter, rec: renewal.rec, seq: renewal.seq, outcome };
            let now = self.at();
            self.bucket.install(now, EPOCH, &answer, now)
        }

        fn lease(&mut self, units: u32, ttl_ms: u64, window_left_ms: Option<u64>) -> RenewalOutcome {
            self.lease += 1;
            let (lease, generation) = (LeaseId(self.lease), Generation(1));
            RenewalOutcome::Granted { lease, generation, units, ttl_ms, window_left_ms, remaining: 500 }
        }

        /// Asks for meter 1 and gets a lease of `units`.
        fn holding(units: u32) -> Self {
            let mut node = Self::new();
            assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
            let due = node.due();
            let outcome = node.lease(units, LEASE_MS, None);
            assert_eq!(node.answer(&due[0], outcome), Installed::Granted);
            node
        }

        fn record(&self) -> &MeterRecord {
            self.bucket.record(M).expect("meter 1 has a record")
        }

        fn next_due(&self) -> Option<u64> {
            self.bucket.next_due(self.at(), true).map(|at| at.0)
        }
    }

    #[test]
    fn the_first_request_waits_for_the_first_lease() {
        let mut node = Node::new();
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        assert_eq!(node.next_due(), Some(node.now));
        let due = node.due();
        let rec = node.record().rec;
        let expected = Renewal {
            meter: M,
            rec,
            seq: 1,
            epoch: None,
            want: 1,
            closed_lease: None,
            unspent: 0,
            waiting: true,
        };
        assert_eq!(due, [expected]);
        assert_eq!(node.due(), [], "one renewal is on its way");
        let outcome = node.lease(3, LEASE_MS, None);
        assert_eq!(node.answer(&due[0], outcome), Installed::Granted);
        let left = Left { meter: M, remaining: 502, reset_ms: None };
        assert_eq!(node.spend(&[1]), Spent::Admitted { tps_left: None, left: vec![left] });
    }

    #[test]
    fn without_meters_and_rate_nothing_is_written() {
        let mut node = Node::new();
        assert_eq!(node.spend(&[]), Spent::Admitted { tps_left: None, left: vec![] });
        assert_eq!(node.bucket, Bucket::default());
        assert_eq!(node.next_due(), None);
    }

    #[test]
    fn a_refused_request_consumes_nothing_of_any_meter() {
        let mut node = Node::holding(5);
        assert_eq!(node.spend_at_rate(3, &[1, 2]), Spent::Wait { meter: MeterId(2) });
        assert_eq!(node.record().leases[0].left, 5);
        assert_eq!(node.bucket.rates, []);
        assert!(matches!(node.spend_at_rate(1, &[1]), Spent::Admitted { tps_left: Some(0), .. }));
        let before = node.bucket.clone();
        assert_eq!(node.spend_at_rate(1, &[1]), Spent::RateExceeded { retry_after_ms: 1_000 });
        assert_eq!(node.bucket, before);
    }

    #[test]
    fn a_meter_named_twice_is_taken_once() {
        let mut node = Node::holding(5);
        assert!(node.is_admitted(&[1, 1]));
        assert_eq!(node.record().leases[0].left, 4);
    }

    #[test]
    fn an_unanswered_renewal_is_sent_again_unchanged_by_anybody() {
        let mut node = Node::new();
        node.spend(&[1]);
        let first = node.due();
        node.now += RENEWAL_TIMEOUT_MS - 1;
        node.spend(&[1]);
        assert_eq!(node.due(), []);
        node.now += 1;
        assert_eq!(node.due(), first);
        assert_eq!(node.next_due(), Some(node.now + RENEWAL_TIMEOUT_MS));
    }

    #[test]
    fn a_failed_call_is_repeated_soon_and_only_while_it_is_the_step_on_its_way() {
        let mut node = Node::new();
        node.spend(&[1]);
        let (due, now) = (node.due(), node.at());
        node.bucket.call_failed(now, &Renewal { seq: 2, ..due[0] });
        assert_eq!(node.next_due(), Some(node.now + RENEWAL_TIMEOUT_MS));
        node.bucket.call_failed(now, &due[0]);
        assert_eq!((node.due(), node.next_due()), (vec![], Some(node.now + RESEND_MS)));
        node.now += RESEND_MS;
        assert_eq!(node.due(), due);
    }

    #[test]
    fn an_answer_is_installed_once_and_only_to_its_step_and_stream() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let outcome = node.lease(3, LEASE_MS, None);
        for wrong in [
            Renewal { seq: 2, ..due[0] },
            Renewal { rec: Rec(5), ..due[0] },
            Renewal { meter: MeterId(4), ..due[0] },
        ] {
            assert_eq!(node.answer(&wrong, outcome), Installed::Ignored);
            assert_eq!(node.answer(&wrong, RenewalOutcome::Refused), Installed::Ignored);
        }
        assert_eq!(node.answer(&due[0], outcome), Installed::Granted);
        assert!(node.is_admitted(&[1]));
        assert_eq!(node.answer(&due[0], outcome), Installed::Ignored);
        assert_eq!(node.record().leases[0].left, 2);
    }

    #[test]
    fn a_lease_counts_from_the_moment_of_sending() {
        let mut node = Node::new();
        node.spend(&[1]);
        let (due, sent_at) = (node.due(), node.at());
        node.now += 400;
        let outcome = node.lease(3, 1_000, None);
        let answer = RenewalAnswer { meter: M, rec: due[0].rec, seq: 1, outcome };
        let now = node.at();
        node.bucket.install(now, EPOCH, &answer, sent_at);
        node.now += 599;
        assert!(node.is_admitted(&[1]));
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M }, "expired at {}", node.now);
    }

    #[test]
    fn a_repeat_that_is_already_past_is_given_back_unused() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let outcome = node.lease(3, 0, None);
        assert_eq!(node.answer(&due[0], outcome), Installed::Answered);
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        let next = node.due();
        assert_eq!((next[0].closed_lease, next[0].unspent, next[0].seq), (Some(LeaseId(1)), 3, 2));
        assert_eq!(next[0].epoch, Some(EPOCH));
    }

    #[test]
    fn at_one_third_left_the_next_lease_is_fetched_while_this_one_goes_on() {
        let mut node = Node::holding(9);
        for _ in 0..5 {
            assert!(node.is_admitted(&[1]));
            assert_eq!(node.due(), []);
        }
        assert!(node.is_admitted(&[1]));
        assert_eq!(node.next_due(), Some(node.now));
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].waiting), (None, false));
        assert_eq!(due[0].want, 6 * 30, "6 a second over the horizon");
        assert!(node.is_admitted(&[1]), "the rest is spent meanwhile");
        let outcome = node.lease(9, LEASE_MS, None);
        node.answer(&due[0], outcome);
        for _ in 0..11 {
            assert!(node.is_admitted(&[1]));
        }
        assert!(!node.is_admitted(&[1]));
    }

    #[test]
    fn the_spent_lease_is_closed_by_the_next_renewal() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        let outcome = node.lease(3, LEASE_MS, None);
        node.answer(&due[0], outcome);
        for _ in 0..3 {
            assert!(node.is_admitted(&[1]));
        }
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent), (Some(LeaseId(1)), 0));
    }

    #[test]
    fn a_lease_of_one_unit_is_not_renewed_ahead() {
        let mut node = Node::holding(1);
        assert!(node.is_admitted(&[1]));
        assert_eq!(node.due(), []);
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        assert_eq!(node.due()[0].closed_lease, Some(LeaseId(1)));
    }

    #[test]
    fn a_lease_in_demand_is_succeeded_before_it_expires() {
        let mut node = Node::holding(100);
        node.now += LEASE_MS - RENEW_AHEAD_MS;
        assert!(node.is_admitted(&[1]));
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].want > 0), (None, true));
        let outcome = node.lease(100, LEASE_MS, None);
        node.answer(&due[0], outcome);
        node.now += RENEW_AHEAD_MS;
        assert!(node.is_admitted(&[1]));
        let back = node.due();
        assert_eq!((back[0].closed_lease, back[0].unspent, back[0].want), (Some(LeaseId(1)), 99, 0));
        assert!(node.is_admitted(&[1]));
    }

    #[test]
    fn idle_leases_go_back_and_then_the_record_is_forgotten() {
        let mut node = Node::holding(5);
        assert!(node.is_admitted(&[1]));
        assert_eq!(node.next_due(), Some(node.now + IDLE_MS));
        node.now += IDLE_MS - 1;
        assert_eq!(node.due(), []);
        node.now += 1;
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent, due[0].want), (Some(LeaseId(1)), 4, 0));
        assert_eq!(node.bucket.meters.len(), 1, "not before it is acknowledged");
        assert_eq!(node.answer(&due[0], RenewalOutcome::Closed), Installed::Answered);
        assert_eq!(node.due(), []);
        assert_eq!(node.bucket, Bucket::default());
        assert_eq!(node.next_due(), None);
    }

    #[test]
    fn cut_off_idle_leases_stay() {
        let mut node = Node::holding(5);
        node.now += IDLE_MS;
        let now = node.at();
        assert_eq!(node.bucket.renewals_due(now, false, 100), []);
        assert_eq!(node.next_due(), Some(node.now), "at once, when connected again");
        let succeeded_at = MonoMillis(node.now - IDLE_MS + LEASE_MS - RENEW_AHEAD_MS);
        assert_eq!(node.bucket.next_due(now, false), Some(succeeded_at), "no busy waiting meanwhile");
        assert!(node.is_admitted(&[1]));
    }

    #[test]
    fn a_closed_lease_is_spent_no_more() {
        let mut node = Node::holding(5);
        node.bucket.recall(M);
        assert!(node.is_admitted(&[1]), "until it is closed");
        assert_eq!(node.next_due(), Some(node.now));
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent, due[0].want), (Some(LeaseId(1)), 4, 0));
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
    }

    #[test]
    fn a_recall_means_what_is_held_not_what_is_on_its_way() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.bucket.recall(M);
        let outcome = node.lease(3, LEASE_MS, None);
        node.answer(&due[0], outcome);
        assert_eq!(node.due(), []);
    }

    #[test]
    fn two_recalled_leases_go_back_one_after_the_other() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        let outcome = node.lease(7, LEASE_MS, None);
        node.answer(&due[0], outcome);
        node.bucket.recall(M);
        let first = node.due();
        assert_eq!((first[0].closed_lease, first[0].unspent, first[0].want), (Some(LeaseId(1)), 1, 0));
        node.answer(&first[0], RenewalOutcome::Closed);
        let second = node.due();
        assert_eq!((second[0].closed_lease, second[0].unspent, second[0].want), (Some(LeaseId(2)), 7, 0));
    }

    #[test]
    fn exhausted_is_kept_until_the_window_turns_and_then_waits_without_a_refusal() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: Some(5_000) });
        assert_eq!(node.spend(&[1]), Spent::Exhausted { meter: M, retry_after_ms: Some(5_000) });
        assert_eq!(node.due(), []);
        node.now += 4_989;
        assert_eq!(node.spend(&[1]), Spent::Exhausted { meter: M, retry_after_ms: Some(11) });
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        assert_eq!(node.due().len(), 1);
    }

    #[test]
    fn exhausted_totals_are_asked_for_anew_after_a_while() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: None });
        node.now += KEEP_EXHAUSTED_MS - 1;
        assert_eq!(node.spend(&[1]), Spent::Exhausted { meter: M, retry_after_ms: None });
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
    }

    #[test]
    fn a_changed_limit_clears_exhausted_kept_or_on_its_way() {
        for on_its_way in [false, true] {
            let mut node = Node::new();
            node.spend(&[1]);
            let due = node.due();
            if on_its_way {
                node.bucket.limit_changed(M);
            }
            node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: None });
            if !on_its_way {
                node.bucket.limit_changed(M);
            }
            assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
            assert_eq!(node.due().len(), 1);
        }
    }

    #[test]
    fn contended_is_asked_for_again_when_the_answer_says() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Pending { retry_ms: 100 });
        let retry_at = MonoMillis(node.now + 100);
        assert_eq!(node.spend(&[1]), Spent::Contended { meter: M, retry_at });
        assert_eq!((node.due(), node.next_due()), (vec![], Some(retry_at.0)));
        node.now += 100;
        assert_eq!(node.due()[0].seq, 2);
    }

    #[test]
    fn a_renewal_ahead_that_recalled_nobody_does_not_hold_up_who_waits() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Pending { retry_ms: 100 });
        assert_eq!(node.due(), []);
        assert!(node.is_admitted(&[1]));
        assert!(matches!(node.spend(&[1]), Spent::Contended { .. }));
        let again = node.due();
        assert!(again[0].waiting, "now the others are recalled");
    }

    #[test]
    fn what_this_node_gives_back_it_may_ask_for() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: None });
        node.now += LEASE_MS;
        node.bucket.meters[0].kept =
            Some(Kept::Exhausted { until: MonoMillis(u64::MAX), window_ends_at: None });
        assert!(matches!(node.spend(&[1]), Spent::Exhausted { .. }));
        let back = node.due();
        assert_eq!((back[0].closed_lease, back[0].unspent), (Some(LeaseId(1)), 1));
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
    }

    #[test]
    fn refused_other_epoch_and_nonsense_drop_the_record() {
        let lease = |units, lease| RenewalOutcome::Granted {
            lease: LeaseId(lease),
            generation: Generation(1),
            units,
            ttl_ms: 1,
            window_left_ms: None,
            remaining: 0,
        };
        for (case, epoch, outcome) in [
            ("refused", EPOCH, RenewalOutcome::Refused),
            ("restored database", Epoch(10), lease(1, 2)),
            ("empty lease", EPOCH, lease(0, 2)),
        ] {
            let mut node = Node::holding(3);
            assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
            let due = node.due();
            let answer = RenewalAnswer { meter: M, rec: due[0].rec, seq: due[0].seq, outcome };
            let now = node.at();
            assert_eq!(node.bucket.install(now, epoch, &answer, now), Installed::Dropped, "{case}");
            node.now += 1;
            assert_eq!(node.spend(&[1]), Spent::Wait { meter: M }, "{case}");
            assert_eq!(node.record().seq, 0, "{case}");
            assert_ne!(node.record().rec, due[0].rec, "{case}");
        }
    }

    #[test]
    fn a_deleted_meter_asks_for_a_new_grant() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Gone);
        assert_eq!(node.spend(&[1]), Spent::Gone { meter: M });
        node.now += KEEP_GONE_MS;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
    }

    #[test]
    fn a_lease_ends_with_its_window() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let outcome = node.lease(3, 5_000, Some(5_000));
        node.answer(&due[0], outcome);
        node.now += 4_999;
        assert!(node.is_admitted(&[1]));
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent, due[0].want > 0), (Some(LeaseId(1)), 2, true));
    }

    #[test]
    fn renewals_stop_at_the_room_of_an_exchange_and_the_rest_follows() {
        let mut node = Node::new();
        for id in 1..=5 {
            node.spend(&[id]);
        }
        let now = node.at();
        assert_eq!(node.bucket.renewals_due(now, true, 3).len(), 3);
        assert_eq!(node.bucket.renewals_due(now, true, 3).len(), 2);
        assert_eq!(node.bucket.renewals_due(now, true, 3).len(), 0);
    }

    #[test]
    fn a_full_bucket_forgets_what_holds_nothing_then_closes_the_longest_idle() {
        let mut node = Node::new();
        for id in 1..=MAX_METERS as u64 {
            node.now += 1;
            node.spend(&[id]);
            let due = node.due();
            let outcome = node.lease(5, LEASE_MS, None);
            node.answer(&due[0], outcome);
        }
        let (new, newer) = (MAX_METERS as u64 + 1, MAX_METERS as u64 + 2);
        assert_eq!(node.spend(&[new]), Spent::Capacity, "all were used just now");
        node.now += EVICT_IDLE_MS;
        assert_eq!(node.spend(&[new]), Spent::Wait { meter: MeterId(new) });
        let before = node.bucket.clone();
        assert_eq!(node.spend(&[newer]), Spent::Wait { meter: MeterId(newer) });
        assert_eq!(node.bucket, before, "one at a time");
        let due = node.due();
        assert_eq!((due.len(), due[0].meter, due[0].want, due[0].unspent), (1, M, 0, 5));
        assert_eq!(node.spend(&[new]), Spent::Wait { meter: MeterId(new) });
        assert_eq!(node.bucket.meters.len(), MAX_METERS);
        node.answer(&due[0], RenewalOutcome::Closed);
        assert_eq!(node.spend(&[new]), Spent::Wait { meter: MeterId(new) });
        assert_eq!(node.bucket.meters.len(), MAX_METERS);
        assert!(node.bucket.record(M).is_none() && node.bucket.record(MeterId(new)).is_some());
    }

    #[test]
    fn demand_follows_quickly_up_and_slowly_down() {
        let mut demand = Demand { counted: 0, since: MonoMillis(0), per_s: 0 };
        assert_eq!(demand.per_s(MonoMillis(0)), 0);
        for i in 1..=100 {
            demand.count(MonoMillis(i * 10));
        }
        assert_eq!(demand, Demand { counted: 0, since: MonoMillis(1_000), per_s: 100 });
        demand.count(MonoMillis(2_000));
        assert_eq!(demand.per_s, 50);
        demand.count(MonoMillis(3_000));
        assert_eq!(demand.per_s, 25);
    }

    /// Shared data of one key, as bytes that anybody may have left.
    struct OneKey(Option<(Vec<u8>, u32)>);

    impl Shared for OneKey {
        fn get(&mut self, _: &[u8]) -> Option<(Vec<u8>, Cas)> {
            self.0.clone().map(|(value, cas)| (value, Cas(cas)))
        }
        fn set(&mut self, _: &[u8], value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
            let known = self.0.as_ref().map(|(_, cas)| *cas);
            if known != Some(cas.0) {
                return Err(CasMismatch);
            }
            self.0 = Some((value.to_vec(), cas.0 + 1));
            Ok(())
        }
        fn create(&mut self, _: &[u8], value: &[u8]) -> Result<(), CasMismatch> {
            if self.0.is_some() {
                return Err(CasMismatch);
            }
            self.0 = Some((value.to_vec(), 1));
            Ok(())
        }
    }

    #[test]
    fn damaged_bytes_count_as_absent_and_are_replaced() {
        for bytes in [&b""[..], b"damage", &[super::super::bucket::LAYOUT, 9]] {
            let mut shared = OneKey(Some((bytes.to_vec(), 5)));
            let meters = [meter(1)];
            let ask = Ask { client: CLIENT, tps: 0, meters: &meters, random: 2 };
            let touched = spend(&mut shared, b"k", MonoMillis(1), &ask);
            assert_eq!(touched.result, Spent::Wait { meter: M });
            assert_eq!(touched.next_due, Some(MonoMillis(1)));
            let due = renewals_due(&mut shared, b"k", MonoMillis(1), true, 9).expect("no contention");
            assert_eq!(due.result.len(), 1);
        }
    }

    #[test]
    fn what_changes_nothing_writes_nothing() {
        let mut shared = OneKey(None);
        let ask = Ask { client: CLIENT, tps: 0, meters: &[], random: 2 };
        assert!(matches!(spend(&mut shared, b"k", MonoMillis(1), &ask).result, Spent::Admitted { .. }));
        recall(&mut shared, b"k", MonoMillis(1), M);
        assert_eq!(shared.0, None);
    }

    proptest! {
        /// Whatever is in the record: nothing panics, refused requests take nothing, admitted
        /// ones take one, and no lease grows.
        #[test]
        fn any_bucket_is_worked_on_in_order(
            bucket in arbitrary::bucket(),
            now in any::<u64>(),
            tps in 0_u32..3,
            connected in any::<bool>(),
            seq in any::<u64>(),
            ttl_ms in any::<u64>(),
        ) {
            let now = MonoMillis(now);
            let units = |bucket: &Bucket| -> u64 {
                bucket.meters.iter().flat_map(|r| &r.leases).map(|lease| u64::from(lease.left)).sum()
            };
            let meters: Vec<_> = bucket.meters.iter().take(2).map(|record| meter(record.meter.0)).collect();
            let ask = Ask { client: CLIENT, tps, meters: &meters, random: seq };
            let mut after = bucket.clone();
            let spent = after.spend(now, &ask);
            let taken = units(&bucket) - units(&after);
            let distinct = if meters.len() == 2 && meters[0].id == meters[1].id { 1 } else { meters.len() as u64 };
            let expected = if matches!(spent, Spent::Admitted { .. }) { distinct } else { 0 };
            prop_assert_eq!(taken, expected);

            let due = after.renewals_due(now, connected, 3);
            prop_assert!(due.len() <= 3);
            for renewal in &due {
                after.call_failed(now, renewal);
                let outcome = RenewalOutcome::Granted {
                    lease: LeaseId(seq), generation: Generation(1), units: u32::MAX, ttl_ms,
                    window_left_ms: Some(ttl_ms), remaining: u64::MAX,
                };
                let answer = RenewalAnswer { meter: renewal.meter, rec: renewal.rec, seq: renewal.seq, outcome };
                after.install(now, Epoch(seq), &answer, now);
            }
            after.spend(now, &ask);
            after.recall(MeterId(seq));
            after.limit_changed(MeterId(seq));
            after.next_due(now, connected);
            prop_assert_eq!(Bucket::decode(&after.encode()), Ok(after));
        }
    }
}
