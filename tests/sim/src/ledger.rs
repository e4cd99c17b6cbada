//! The managers: the product's issuer over tables in memory, which several processes write. Every
//! renewal is one transaction: the row is locked, as both databases do it.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::{Epoch, Generation, HolderId, LeaseId, MeterId, Rec};
use gate::quota::issuer::{
    self, Ahead, Close, Effects, Known, LeaseRow, LeaseState, LimitChange, MeterRow, StreamRow,
};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{Renewal, RenewalAnswer, RenewalOutcome};

use crate::clock::{Clock, True};
use crate::faults::Fault;
use crate::reference::Reference;

type Stream = (HolderId, MeterId, Rec);

/// The tables, without what is switched on by a fault.
#[derive(Clone)]
pub struct Tables {
    /// Life of the database.
    pub epoch: Epoch,
    /// By id, with the length of their windows (0 = a total).
    pub meters: BTreeMap<MeterId, (MeterRow, i64)>,
    streams: BTreeMap<Stream, StreamRow>,
    /// Whose they are, and the rows.
    leases: BTreeMap<LeaseId, (Stream, LeaseRow)>,
    /// The open ones of them, by meter.
    open: BTreeMap<MeterId, BTreeSet<LeaseId>>,
    next_lease: u64,
}

impl Tables {
    /// Other holders with open, unexpired leases of a generation.
    fn others(&self, (holder, meter, _): Stream, generation: Generation, now: UnixMillis) -> u32 {
        let open = self.open.get(&meter).into_iter().flatten().filter_map(|id| self.leases.get(id));
        let others = open.filter(|((other, _, _), lease)| {
            *other != holder && lease.generation == generation && lease.expires_at > now
        });
        others.map(|((other, _, _), _)| *other).collect::<BTreeSet<HolderId>>().len() as u32
    }
}

/// The managers' ledger.
pub struct Ledger {
    /// What is durable.
    pub tables: Tables,
    fault: Fault,
    /// An older state of a meter's row, for [`Fault::StaleDebits`].
    stale: BTreeMap<MeterId, MeterRow>,
    /// Limits as they were read first, for [`Fault::CachedLimit`].
    cached: BTreeMap<(usize, MeterId), u64>,
}

/// A manager at work.
#[derive(Clone, Copy)]
pub struct Manager {
    /// Which one.
    pub number: usize,
    /// Its clock.
    pub clock: Clock,
    /// True time.
    pub now: True,
}

impl Manager {
    fn now(&self) -> UnixMillis {
        self.clock.unix(self.now)
    }
}

impl Ledger {
    /// With these meters.
    pub fn new(meters: impl IntoIterator<Item = (MeterRow, i64)>, fault: Fault) -> Self {
        let tables = Tables {
            epoch: Epoch(1),
            meters: meters.into_iter().map(|(row, window_ms)| (row.meter, (row, window_ms))).collect(),
            streams: BTreeMap::new(),
            leases: BTreeMap::new(),
            open: BTreeMap::new(),
            next_lease: 1,
        };
        Self { tables, fault, stale: BTreeMap::new(), cached: BTreeMap::new() }
    }

    /// One exchange, and what is to be announced once it is committed.
    pub fn exchange(
        &mut self,
        manager: Manager,
        holder: HolderId,
        renewals: &[Renewal],
        reference: &mut Reference,
    ) -> (Vec<RenewalAnswer>, Vec<Subject>) {
        let mut news = vec![];
        let answers = renewals
            .iter()
            .map(|renewal| self.renew(manager, holder, renewal, &mut news, reference))
            .collect();
        (answers, news)
    }

    fn renew(
        &mut self,
        manager: Manager,
        holder: HolderId,
        renewal: &Renewal,
        news: &mut Vec<Subject>,
        reference: &mut Reference,
    ) -> RenewalAnswer {
        let (stream, now) = ((holder, renewal.meter, renewal.rec), manager.now());
        let answer =
            |outcome| RenewalAnswer { meter: renewal.meter, rec: renewal.rec, seq: renewal.seq, outcome };
        if self.fault == Fault::CreditOnExpiry {
            self.credit_expired(renewal.meter, now);
        }
        let tables = &self.tables;
        let Some((row, window_ms)) = tables.meters.get(&renewal.meter) else {
            return answer(RenewalOutcome::Gone);
        };
        let (mut meter, present) = (row.clone(), present_window(row, *window_ms, now));
        match self.fault {
            Fault::StaleDebits => {
                let stale = self.stale.insert(renewal.meter, row.clone());
                if let Some(stale) = stale.filter(|stale| stale.generation == row.generation) {
                    meter.debited = stale.debited;
                }
            }
            Fault::CachedLimit => {
                meter.limit = *self.cached.entry((manager.number, renewal.meter)).or_insert(row.limit);
            }
            Fault::ForgottenWindow if meter.window_ends_at.is_some_and(|end| now < end) => {
                meter.window_ends_at = None;
            }
            Fault::WindowTurnsTwice => {
                // Its own calendar says another window than the row: begin that one.
                let own = (*window_ms > 0).then(|| end_of_window(now, *window_ms));
                if let (Some(own), Some(known)) = (own, row.window_ends_at)
                    && own < known
                {
                    let generation = Generation(meter.generation.0 - 1);
                    meter = MeterRow { generation, window_ends_at: Some(UnixMillis(now.0 - 1)), ..meter };
                    self.tables.meters.insert(renewal.meter, (meter.clone(), *window_ms));
                    return self.renew(manager, holder, renewal, news, reference);
                }
            }
            _ => {}
        }
        let next = present.filter(|_| *window_ms > 0).map(|end| UnixMillis(end.0 + window_ms));
        let ahead_holders = meter.ahead.map_or(0, |ahead| tables.others(stream, ahead.generation, now));
        let others = tables.others(stream, meter.generation, now);
        let forget = self.fault == Fault::ForgottenAnswers && renewal.seq == 1;
        let closed_lease = renewal.closed_lease.and_then(|id| tables.leases.get(&id));
        let mut closed_lease = closed_lease.filter(|(of, _)| *of == stream).map(|(_, row)| *row);
        if self.fault == Fault::CreditAfterReclaim
            && let Some(lease) = &mut closed_lease
            && lease.state == LeaseState::Reclaimed
        {
            lease.state = LeaseState::Open;
        }
        let asked = match self.fault {
            Fault::EpochIgnored => Renewal { epoch: None, ..*renewal },
            _ => *renewal,
        };
        let decided = issuer::renew(
            &Known {
                now,
                epoch: tables.epoch,
                meter: &meter,
                window_ends_at: present,
                stream: tables.streams.get(&stream).filter(|_| !forget),
                closed_lease: closed_lease.as_ref(),
                next_window_ends_at: next,
                other_holders: if self.fault == Fault::NothingIsPending { 0 } else { others },
                ahead_holders: if self.fault == Fault::NothingIsPending { 0 } else { ahead_holders },
                new_lease: LeaseId(tables.next_lease),
            },
            &asked,
        );
        match decided.effects {
            Some(effects) => self.write(manager, stream, renewal, &effects, news, reference),
            None => self.repeat(renewal, &decided.outcome),
        }
        reference.answered(stream, renewal, &decided.outcome, present, manager.clock);
        answer(decided.outcome)
    }

    fn write(
        &mut self,
        manager: Manager,
        stream: Stream,
        renewal: &Renewal,
        effects: &Effects,
        news: &mut Vec<Subject>,
        reference: &mut Reference,
    ) {
        let (now, fault, tables) = (manager.now(), self.fault, &mut self.tables);
        let mut effects = effects.clone();
        if let Some(close) = &mut effects.close {
            match fault {
                Fault::CreditAcrossGenerations => {
                    // Unless it counts where it was debited: for the next window.
                    if close.credit == 0 {
                        let (row, _) = &tables.meters[&renewal.meter];
                        close.generation = effects.roll.map_or(row.generation, |roll| roll.generation);
                    }
                    close.credit = close.unspent;
                }
                Fault::CreditWholeLease => {
                    let units = tables.leases.get(&close.lease).map_or(0, |(_, row)| row.units);
                    close.credit = if close.credit > 0 { units } else { 0 };
                }
                _ => {}
            }
        }
        let (meter, _) = tables.meters.get_mut(&renewal.meter).expect("its row was just read");
        let limit = meter.limit;
        if fault == Fault::ForgottenAhead && effects.roll.is_some() {
            meter.ahead = meter.ahead.map(|ahead| Ahead { debited: 0, ..ahead });
        }
        meter.apply(&effects, now);
        if let Some(roll) = effects.roll {
            reference.window_turned(renewal.meter, roll.generation, limit);
        }
        if let Some(Close { lease, unspent, .. }) = effects.close {
            let (_, row) = tables.leases.get_mut(&lease).expect("its row was just read");
            row.state = LeaseState::Closed;
            tables.open.entry(renewal.meter).or_default().remove(&lease);
            reference.closed(lease, unspent);
        }
        if let Some(open) = effects.open {
            tables.next_lease += 1;
            let row = LeaseRow {
                id: open.lease,
                generation: open.generation,
                units: open.units,
                expires_at: open.expires_at,
                state: LeaseState::Open,
            };
            tables.open.entry(renewal.meter).or_default().insert(open.lease);
            tables.leases.insert(open.lease, (stream, row));
            if open.ahead_until.is_some() {
                reference.limit_set(renewal.meter, open.generation, limit);
            }
            reference.opened(stream, &row, &effects.stream.answer, manager.clock);
        }
        tables.streams.insert(stream, effects.stream);
        if effects.recall {
            news.push(Subject::Recall { meter: renewal.meter, lowered: false });
        }
        if effects.units_back {
            news.push(Subject::Meter { meter: renewal.meter });
        }
        let row = &tables.meters[&renewal.meter].0;
        reference.ledger_says(renewal.meter, row.generation, row.debited);
        if let Some(ahead) = row.ahead {
            reference.ledger_says(renewal.meter, ahead.generation, ahead.debited);
        }
    }

    fn repeat(&mut self, renewal: &Renewal, outcome: &RenewalOutcome) {
        if self.fault == Fault::CreditPerRepeat && *outcome != RenewalOutcome::Refused {
            let (meter, _) = self.tables.meters.get_mut(&renewal.meter).expect("its row was just read");
            meter.debited = meter.debited.saturating_sub(u64::from(renewal.unspent));
        }
    }

    fn credit_expired(&mut self, meter: MeterId, now: UnixMillis) {
        let tables = &mut self.tables;
        let (row, _) = tables.meters.get_mut(&meter).expect("meters are not deleted here");
        for ((_, of, _), lease) in tables.leases.values_mut() {
            if *of == meter
                && lease.state == LeaseState::Open
                && lease.expires_at <= now
                && lease.generation == row.generation
            {
                lease.state = LeaseState::Reclaimed;
                tables.open.entry(meter).or_default().remove(&lease.id);
                row.debited = row.debited.saturating_sub(u64::from(lease.units));
            }
        }
    }

    /// An operator sets another limit. Returns what is to be announced.
    pub fn set_limit(
        &mut self,
        manager: Manager,
        meter: MeterId,
        limit: u64,
        reference: &mut Reference,
    ) -> Option<Subject> {
        let (row, window_ms) = self.tables.meters.get_mut(&meter)?;
        let now = manager.now();
        if let Some(roll) = issuer::rolls(row, present_window(row, *window_ms, now), now) {
            row.begin(roll);
            reference.window_turned(meter, row.generation, row.limit);
        }
        let change = row.set_limit(limit);
        reference.limit_set(meter, row.generation, limit);
        if let Some(ahead) = row.ahead {
            reference.limit_set(meter, ahead.generation, limit);
        }
        match change {
            LimitChange::Same => None,
            LimitChange::Raised => Some(Subject::Meter { meter }),
            LimitChange::Lowered => Some(Subject::Recall { meter, lowered: true }),
        }
    }

    /// An operator begins a new generation.
    pub fn reset(&mut self, manager: Manager, meter: MeterId, reference: &mut Reference) -> Option<Subject> {
        let (row, window_ms) = self.tables.meters.get_mut(&meter)?;
        let renamed = row.reset(present_window(row, *window_ms, manager.now()));
        let (generation, limit) = (row.generation, row.limit);
        if let Some((from, to)) = renamed.filter(|_| self.fault != Fault::ResetForgetsAhead) {
            for ((_, of, _), lease) in self.tables.leases.values_mut() {
                if *of == meter && lease.generation == from {
                    lease.generation = to;
                }
            }
            reference.renamed(meter, from, to);
        }
        reference.window_turned(meter, generation, limit);
        Some(Subject::Meter { meter })
    }

    /// An operator gives the units of the first expired lease of a total to others.
    pub fn reclaim(
        &mut self,
        manager: Manager,
        meter: MeterId,
        reference: &mut Reference,
    ) -> Option<Subject> {
        let tables = &mut self.tables;
        let (row, _) = tables.meters.get(&meter)?;
        let (limit, (lease, units)) =
            tables.leases.values_mut().filter(|((_, of, _), _)| *of == meter).find_map(|(_, lease)| {
                let limit = issuer::reclaim(row, lease, manager.now()).ok()?;
                lease.state = LeaseState::Reclaimed;
                Some((limit, (lease.id, lease.units)))
            })?;
        tables.open.entry(meter).or_default().remove(&lease);
        reference.reclaimed(lease);
        if self.fault == Fault::ReclaimWithoutRaise {
            let (row, _) = tables.meters.get_mut(&meter)?;
            row.debited = row.debited.saturating_sub(u64::from(units));
            return Some(Subject::Meter { meter });
        }
        self.set_limit(manager, meter, limit, reference)
    }

    /// The database is what it was when `backup` was made, and says so by another epoch.
    pub fn restore(&mut self, backup: Tables, reference: &mut Reference) {
        let (epoch, old) = (Epoch(self.tables.epoch.0 + 1), backup.epoch);
        self.tables = Tables { epoch, ..backup };
        self.stale.clear();
        let rows = self.tables.meters.values().flat_map(|(row, _)| {
            let ahead = row.ahead.map(|ahead| (row.meter, ahead.generation, ahead.debited, row.limit));
            std::iter::once((row.meter, row.generation, row.debited, row.limit)).chain(ahead)
        });
        reference.epoch_began(epoch, rows, self.tables.leases.keys().map(|lease| (old, *lease)));
    }

    /// The generation that a meter is in.
    pub fn generation(&self, meter: MeterId) -> Generation {
        self.tables.meters[&meter].0.generation
    }
}

/// The end of the window on record while it lasts, else of the one that holds `now`.
fn present_window(row: &MeterRow, window_ms: i64, now: UnixMillis) -> Option<UnixMillis> {
    match row.window_ends_at {
        Some(end) if end <= now => Some(end_of_window(now, window_ms)),
        known => known,
    }
}

/// The first instant after the window that holds `now`.
pub fn end_of_window(now: UnixMillis, window_ms: i64) -> UnixMillis {
    UnixMillis((now.0.div_euclid(window_ms) + 1) * window_ms)
}
