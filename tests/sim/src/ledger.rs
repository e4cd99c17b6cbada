//! The manager: the product's issuer over tables in memory. Every call is one transaction.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::{Epoch, Generation, HolderId, LeaseId, MeterId, Rec};
use gate::quota::issuer::{
    self, Close, Effects, Known, LeaseRow, LeaseState, LimitChange, MeterRow, StreamRow,
};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{Renewal, RenewalAnswer, RenewalOutcome};

use crate::faults::Fault;
use crate::reference::Reference;

type Stream = (HolderId, MeterId, Rec);

/// The tables.
pub struct Ledger {
    /// Life of the database.
    pub epoch: Epoch,
    /// By id, with the length of their windows (0 = a total).
    pub meters: BTreeMap<MeterId, (MeterRow, i64)>,
    streams: BTreeMap<Stream, StreamRow>,
    /// Whose they are, and the rows.
    pub leases: BTreeMap<LeaseId, (Stream, LeaseRow)>,
    /// The open ones of them.
    open: BTreeSet<LeaseId>,
    next_lease: u64,
    /// What happened, for every node to hear.
    pub feed: Vec<Subject>,
    fault: Fault,
    /// An older state of a meter's row, for [`Fault::StaleDebits`].
    stale: BTreeMap<MeterId, MeterRow>,
}

impl Ledger {
    /// With these meters.
    pub fn new(meters: impl IntoIterator<Item = (MeterRow, i64)>, fault: Fault) -> Self {
        Self {
            epoch: Epoch(1),
            meters: meters.into_iter().map(|(row, window_ms)| (row.meter, (row, window_ms))).collect(),
            streams: BTreeMap::new(),
            leases: BTreeMap::new(),
            open: BTreeSet::new(),
            next_lease: 1,
            feed: vec![],
            fault,
            stale: BTreeMap::new(),
        }
    }

    /// One exchange.
    pub fn exchange(
        &mut self,
        holder: HolderId,
        renewals: &[Renewal],
        now: UnixMillis,
        reference: &mut Reference,
    ) -> Vec<RenewalAnswer> {
        renewals.iter().map(|renewal| self.renew(holder, renewal, now, reference)).collect()
    }

    fn renew(
        &mut self,
        holder: HolderId,
        renewal: &Renewal,
        now: UnixMillis,
        reference: &mut Reference,
    ) -> RenewalAnswer {
        let stream = (holder, renewal.meter, renewal.rec);
        let answer =
            |outcome| RenewalAnswer { meter: renewal.meter, rec: renewal.rec, seq: renewal.seq, outcome };
        if self.fault == Fault::CreditOnExpiry {
            self.credit_expired(renewal.meter, now);
        }
        let Some((row, window_ms)) = self.meters.get(&renewal.meter) else {
            return answer(RenewalOutcome::Gone);
        };
        let mut meter = row.clone();
        if self.fault == Fault::StaleDebits
            && let Some(stale) =
                self.stale.get(&renewal.meter).filter(|stale| stale.generation == meter.generation)
        {
            meter.debited = stale.debited;
        }
        self.stale.insert(renewal.meter, row.clone());
        let window_ends_at = (*window_ms > 0).then(|| end_of_window(now, *window_ms));
        let forget = self.fault == Fault::ForgottenAnswers && renewal.seq == 1;
        let others: BTreeSet<HolderId> = self
            .open
            .iter()
            .filter_map(|id| self.leases.get(id))
            .filter(|((other, of, _), lease)| {
                *other != holder
                    && *of == renewal.meter
                    && lease.generation == meter.generation
                    && lease.expires_at > now
            })
            .map(|((other, _, _), _)| *other)
            .collect();
        let closed_lease = renewal.closed_lease.and_then(|id| self.leases.get(&id));
        let decided = issuer::renew(
            &Known {
                now,
                epoch: self.epoch,
                meter: &meter,
                window_ends_at,
                stream: self.streams.get(&stream).filter(|_| !forget),
                closed_lease: closed_lease.filter(|(of, _)| *of == stream).map(|(_, row)| row),
                other_holders: others.len() as u32,
                new_lease: LeaseId(self.next_lease),
            },
            renewal,
        );
        match decided.effects {
            Some(effects) => self.write(stream, renewal, &effects, now, reference),
            None => self.repeat(renewal, &decided.outcome),
        }
        reference.answered(stream, renewal, &decided.outcome, window_ends_at);
        answer(decided.outcome)
    }

    fn write(
        &mut self,
        stream: Stream,
        renewal: &Renewal,
        effects: &Effects,
        now: UnixMillis,
        reference: &mut Reference,
    ) {
        let mut effects = effects.clone();
        if self.fault == Fault::CreditAcrossGenerations
            && let Some(close) = &mut effects.close
        {
            close.credit = close.unspent;
        }
        let (meter, _) = self.meters.get_mut(&renewal.meter).expect("its row was just read");
        let limit = meter.limit;
        meter.apply(&effects, now);
        if let Some(roll) = effects.roll {
            reference.window_turned(renewal.meter, roll.generation, limit);
        }
        if let Some(Close { lease, unspent, .. }) = effects.close {
            let (_, row) = self.leases.get_mut(&lease).expect("its row was just read");
            row.state = LeaseState::Closed;
            self.open.remove(&lease);
            reference.closed(lease, unspent);
        }
        if let Some(open) = effects.open {
            self.next_lease += 1;
            let row = LeaseRow {
                id: open.lease,
                generation: open.generation,
                units: open.units,
                expires_at: open.expires_at,
                state: LeaseState::Open,
            };
            self.open.insert(open.lease);
            self.leases.insert(open.lease, (stream, row));
            reference.opened(stream, &row, &effects.stream.answer);
        }
        self.streams.insert(stream, effects.stream);
        if effects.recall {
            self.feed.push(Subject::Recall { meter: renewal.meter });
        }
        if effects.units_back {
            self.feed.push(Subject::Meter { meter: renewal.meter });
        }
        let row = &self.meters[&renewal.meter].0;
        reference.ledger_says(renewal.meter, row.generation, row.debited);
    }

    fn repeat(&mut self, renewal: &Renewal, outcome: &RenewalOutcome) {
        if self.fault == Fault::CreditPerRepeat && *outcome != RenewalOutcome::Refused {
            let (meter, _) = self.meters.get_mut(&renewal.meter).expect("its row was just read");
            meter.debited = meter.debited.saturating_sub(u64::from(renewal.unspent));
        }
    }

    fn credit_expired(&mut self, meter: MeterId, now: UnixMillis) {
        let (row, _) = self.meters.get_mut(&meter).expect("meters are not deleted here");
        for ((_, of, _), lease) in self.leases.values_mut() {
            if *of == meter
                && lease.state == LeaseState::Open
                && lease.expires_at <= now
                && lease.generation == row.generation
            {
                lease.state = LeaseState::Reclaimed;
                self.open.remove(&lease.id);
                row.debited = row.debited.saturating_sub(u64::from(lease.units));
            }
        }
    }

    /// An operator sets another limit.
    pub fn set_limit(&mut self, meter: MeterId, limit: u64, reference: &mut Reference) {
        let (row, _) = self.meters.get_mut(&meter).expect("scenarios name meters that exist");
        match row.set_limit(limit) {
            LimitChange::Same => {}
            LimitChange::Raised => self.feed.push(Subject::Meter { meter }),
            LimitChange::Lowered => self.feed.push(Subject::Recall { meter }),
        }
        reference.limit_set(meter, row.generation, limit);
    }

    /// An operator gives the units of the first expired lease of a total to others.
    pub fn reclaim(&mut self, meter: MeterId, now: UnixMillis, reference: &mut Reference) {
        let (row, _) = &self.meters[&meter];
        let found = self
            .leases
            .values_mut()
            .filter(|((_, of, _), _)| *of == meter)
            .find_map(|(_, lease)| issuer::reclaim(row, lease, now).ok().map(|limit| (lease, limit)));
        if let Some((lease, limit)) = found {
            lease.state = LeaseState::Reclaimed;
            self.open.remove(&lease.id);
            self.set_limit(meter, limit, reference);
        }
    }

    /// The database was restored, as far as holders can see.
    pub fn begin_epoch(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.streams.clear();
    }

    /// The generation that a meter is in.
    pub fn generation(&self, meter: MeterId) -> Generation {
        self.meters[&meter].0.generation
    }
}

/// The first instant after the window that holds `now`.
pub fn end_of_window(now: UnixMillis, window_ms: i64) -> UnixMillis {
    UnixMillis((now.0.div_euclid(window_ms) + 1) * window_ms)
}
