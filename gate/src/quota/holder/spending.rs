//! What a request takes: the rate and one unit of every meter, or nothing.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp;

use super::{AHEAD_MS, Ask, EVICT_IDLE_MS, Left, MAX_RETRY_MS, NOTE_DEMAND_MS, Spent, TURN_MS};
use crate::id::{LeaseId, MeterId, Rec};
use crate::quota::bucket::{Bucket, Demand, Kept, Lease, MAX_METERS, MeterRecord};
use crate::quota::rate::{self, Room};
use crate::time::MonoMillis;
use crate::wire::exchange::Meter;

impl Bucket {
    /// See [`super::spend`].
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
            self.note_demand(now, ask.meters);
            return refused;
        }
        if held.iter().all(|held| *held == Held::Units) {
            rate::count(&mut self.rates, ask.client, ask.tps, now);
            return Spent::Admitted { tps_left, left: self.take_all(now, ask.meters) };
        }
        self.ask_for_units(now, ask, &held)
    }

    /// Who is refused shortly before the window turns will ask when it has turned: once a second
    /// that is written down, so that a lease of the next window is there by then.
    fn note_demand(&mut self, now: MonoMillis, meters: &[Meter]) {
        for meter in meters {
            let Some(record) = self.record_mut(meter.id) else { continue };
            if let Some(Kept::Exhausted { window_ends_at: Some(end), .. }) = record.kept
                && end - now <= AHEAD_MS
                && now - record.last_active >= NOTE_DEMAND_MS
            {
                record.last_active = now;
            }
        }
    }

    pub(super) fn record(&self, meter: MeterId) -> Option<&MeterRecord> {
        self.meters.iter().find(|record| record.meter == meter)
    }

    fn record_mut(&mut self, meter: MeterId) -> Option<&mut MeterRecord> {
        self.meters.iter_mut().find(|record| record.meter == meter)
    }

    /// One unit of each; every one of them has some.
    fn take_all(&mut self, now: MonoMillis, meters: &[Meter]) -> Vec<Left> {
        let mut left = Vec::with_capacity(meters.len());
        for (i, meter) in meters.iter().enumerate() {
            let repeated = meters.iter().take(i).any(|before| before.id == meter.id);
            if let Some(record) = self.record_mut(meter.id) {
                let lease = if repeated { None } else { record.take(now, meter.horizon_s) };
                left.push(Left { lease, ..record.left(now) });
            }
        }
        left
    }

    /// See [`super::put_back`].
    pub(super) fn put_back(&mut self, meter: MeterId, lease: LeaseId) {
        let leases = self.record_mut(meter).map(|record| &mut record.leases);
        let held = leases.and_then(|leases| leases.iter_mut().find(|held| held.id == lease));
        if let Some(held) = held
            && held.left < held.units
        {
            held.left += 1;
        }
    }

    /// Notes in the records of all meters without units that a request wants one.
    fn ask_for_units(&mut self, now: MonoMillis, ask: &Ask<'_>, held: &[Held]) -> Spent {
        let mut answer = None;
        for (meter, held) in ask.meters.iter().zip(held) {
            let told = match *held {
                Held::Units => {
                    // Wanted as soon as the others are there: nothing to give back as idle.
                    if let Some(record) = self.record_mut(meter.id) {
                        record.last_active = cmp::max(record.last_active, now);
                    }
                    continue;
                }
                Held::Exhausted { .. } | Held::Gone => continue,
                Held::Turning { at } => {
                    // Nobody need be asked; said unless something else lacks.
                    answer = answer.or(Some(Spent::Turning { meter: meter.id, retry_at: at }));
                    continue;
                }
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
            if let Some(record) = self.record_mut(meter.id) {
                record.asked = record.asked.saturating_add(1);
                // What is held of the next window is not idle while requests wait for the present one.
                record.last_active = cmp::max(record.last_active, now);
                record.horizon_s = meter.horizon_s;
            }
            // Of two that are lacking, the one of which the ledger has said something is told.
            if answer.is_none()
                || matches!(
                    (&answer, &told),
                    (Some(Spent::Wait { .. }), Spent::Contended { .. }) | (Some(Spent::Turning { .. }), _)
                )
            {
                answer = Some(told);
            }
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
    Turning { at: MonoMillis },
    Contended { until: MonoMillis },
    Exhausted { retry_after_ms: Option<u64> },
    Gone,
}

impl Held {
    /// The answers that no waiting changes.
    fn refusal(self, meter: MeterId) -> Option<Spent> {
        match self {
            Self::Units | Self::Nothing | Self::Turning { .. } | Self::Contended { .. } => None,
            Self::Exhausted { retry_after_ms } => Some(Spent::Exhausted { meter, retry_after_ms }),
            Self::Gone => Some(Spent::Gone { meter }),
        }
    }
}

impl Lease {
    /// Whether its time has passed.
    pub(super) fn is_over(&self, now: MonoMillis) -> bool {
        self.expires_at <= now || self.window_ends_at.is_some_and(|end| end <= now)
    }

    /// Whether its window has begun.
    pub(super) fn is_open(&self, now: MonoMillis) -> bool {
        self.opens_at <= now
    }

    pub(super) fn has_units(&self, now: MonoMillis) -> bool {
        self.left > 0 && !self.is_over(now) && self.is_open(now)
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
            ahead_of: MonoMillis(0),
        }
    }

    /// When the lease of the next window opens, if that is soon.
    fn opens_soon(&self, now: MonoMillis) -> Option<MonoMillis> {
        let next = self.leases.iter().rfind(|lease| !lease.is_open(now))?;
        (next.left > 0 && next.opens_at - now <= TURN_MS).then_some(next.opens_at)
    }

    fn held(&self, now: MonoMillis) -> Held {
        if self.leases.iter().any(|lease| lease.has_units(now)) {
            return Held::Units;
        }
        match self.kept {
            // Asking again takes its time. Whose patience ends meanwhile is told what the ledger
            // said last, not that it said nothing.
            Some(Kept::Contended { until, .. }) if now < until + MAX_RETRY_MS => Held::Contended { until },
            Some(Kept::Exhausted { until, .. } | Kept::Gone { until }) if until <= now => self.nothing(now),
            None | Some(Kept::Contended { .. }) => self.nothing(now),
            Some(Kept::Exhausted { window_ends_at, .. }) => {
                Held::Exhausted { retry_after_ms: window_ends_at.map(|end| end - now) }
            }
            Some(Kept::Gone { .. }) => Held::Gone,
        }
    }

    fn nothing(&self, now: MonoMillis) -> Held {
        self.opens_soon(now).map_or(Held::Nothing, |at| Held::Turning { at })
    }

    fn take(&mut self, now: MonoMillis, horizon_s: u32) -> Option<LeaseId> {
        let lease = self.leases.iter_mut().find(|lease| lease.has_units(now)).map(|lease| {
            lease.left -= 1;
            lease.id
        });
        self.last_active = cmp::max(self.last_active, now);
        self.horizon_s = horizon_s;
        self.demand.count(now);
        lease
    }

    fn left(&self, now: MonoMillis) -> Left {
        let here: u64 = self.leases.iter().filter(|l| l.has_units(now)).map(|l| u64::from(l.left)).sum();
        let newest = self.leases.iter().rfind(|lease| lease.is_open(now));
        Left {
            meter: self.meter,
            remaining: here.saturating_add(newest.map_or(0, |lease| lease.ledger_left)),
            reset_ms: newest.and_then(|lease| lease.window_ends_at).map(|end| end - now),
            lease: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::holder::fixture::{LEASE_MS, M, Node};
    use crate::quota::holder::{IDLE_MS, Installed};
    use crate::wire::exchange::{Renewal, RenewalOutcome};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

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
            ahead: false,
        };
        assert_eq!(due, [expected]);
        assert_eq!(node.due(), [], "one renewal is on its way");
        let outcome = node.lease(3, LEASE_MS, None);
        assert_eq!(node.answer(&due[0], outcome), Installed::Granted);
        let left = Left { meter: M, remaining: 502, reset_ms: None, lease: Some(LeaseId(1)) };
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
    fn a_unit_goes_back_to_the_lease_that_it_came_from_or_nowhere() {
        let mut node = Node::holding(5);
        let Spent::Admitted { left, .. } = node.spend(&[1]) else { panic!("units are there") };
        let lease = left[0].lease.expect("it came from one");
        node.bucket.put_back(M, LeaseId(lease.0 + 1));
        node.bucket.put_back(MeterId(2), lease);
        assert_eq!(node.record().leases[0].left, 4, "another lease, another meter");
        node.bucket.put_back(M, lease);
        assert_eq!(node.record().leases[0].left, 5);
        node.bucket.put_back(M, lease);
        assert_eq!(node.record().leases[0].left, 5, "no more than it came with");
        // Closed meanwhile: what it had is on its way back as it was, and grows no more.
        node.spend(&[1]);
        node.now += IDLE_MS;
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent), (Some(lease), 4));
        node.bucket.put_back(M, lease);
        assert_eq!(node.record().renewal().map(|renewal| renewal.unspent), Some(4));
    }

    #[test]
    fn a_meter_named_twice_is_taken_once() {
        let mut node = Node::holding(5);
        assert!(node.is_admitted(&[1, 1]));
        assert_eq!(node.record().leases[0].left, 4);
    }

    #[test]
    fn a_lease_is_not_idle_while_a_request_waits_for_a_unit_of_another_meter() {
        let mut node = Node::holding(5);
        node.now += IDLE_MS - 1;
        assert_eq!(node.spend(&[1, 2]), Spent::Wait { meter: MeterId(2) });
        node.now += 1;
        let due = node.due();
        assert_eq!((due.len(), due[0].meter), (1, MeterId(2)));
        node.now += IDLE_MS - 1;
        assert!(node.due().iter().any(|renewal| renewal.closed_lease.is_some()), "nobody waits any more");
    }

    #[test]
    fn of_two_units_that_lack_the_contended_one_is_told() {
        let mut node = Node::new();
        node.spend(&[2]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Pending { retry_ms: 100 });
        for meters in [[1, 2], [2, 1]] {
            assert!(matches!(node.spend(&meters), Spent::Contended { meter: MeterId(2), .. }), "{meters:?}");
        }
        assert_eq!(node.due().len(), 1, "both are asked for: meter 1 at once, meter 2 when the ledger said");
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
}
