//! The reference: its own books of every lease, kept from what is seen to happen, and compared
//! with what the two halves claim.
//!
//! Nothing is over-admitted, whatever the demand, if and only if for every lease
//! spent + credited ≤ units. The books hold the stronger truth that a lease comes back whole:
//! spent + unspent = units.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::{ClientKey, Epoch, Generation, HolderId, LeaseId, MeterId, Rec};
use gate::quota::bucket::{Bucket, Lease, MeterRecord};
use gate::quota::issuer::{LeaseRow, StoredAnswer};
use gate::time::{MonoMillis, UnixMillis};
use gate::wire::exchange::{Renewal, RenewalOutcome};

use crate::clock::{Clock, True};

type Stream = (HolderId, MeterId, Rec);
/// One counter's life in one life of the database.
type Life = (MeterId, Epoch, Generation);

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub check: &'static str,
    /// Who and how many.
    pub detail: String,
}

/// What a worker does with the shared record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A request.
    Spend,
    /// Freezing renewals.
    Freeze,
    /// Installing an answer.
    Install,
    /// A change of the feed.
    Feed,
}

#[derive(Clone, Debug)]
struct Book {
    stream: Stream,
    life: Life,
    units: u32,
    spent: u32,
    /// Set when a node has installed it.
    arrived: bool,
    /// Set when the ledger closed it.
    returned: Option<u32>,
    /// Set when an operator gave its units to others.
    reclaimed: bool,
    /// The clock that granted it.
    granted_by: Clock,
    /// By that clock; later spends are too late.
    spend_until: UnixMillis,
    window_ends_at: Option<UnixMillis>,
    /// By that clock, where the lease is of the next window.
    opens_at: Option<UnixMillis>,
}

/// The books.
pub struct Reference {
    epoch: Epoch,
    /// How far the managers' clocks are apart at most: an answer that one of them repeats for
    /// another counts by its own.
    skew_ms: i64,
    leases: BTreeMap<(Epoch, LeaseId), Book>,
    /// The highest limit in force.
    limits: BTreeMap<Life, u64>,
    /// Lives that have begun.
    begun: BTreeSet<Life>,
    /// Units of all leases less what was returned.
    debited: BTreeMap<Life, u64>,
    /// Units spent.
    admitted: BTreeMap<Life, u64>,
    /// What a step was answered: a lease and its units, or nothing.
    answers: BTreeMap<(Stream, u64), Option<(LeaseId, u32)>>,
    /// What a step said when it was sent first.
    questions: BTreeMap<(Stream, u64), Renewal>,
    /// When the window ends for which a holder was last told "exhausted", by the clock of the
    /// manager that said so; none = never.
    exhausted: BTreeMap<(HolderId, MeterId), Option<True>>,
    /// Requests admitted, by second of the node's clock.
    rates: BTreeMap<(HolderId, [u8; 16], u64), u32>,
    /// What is wrong, in the order it was seen.
    pub violations: Vec<Violation>,
}

impl Reference {
    /// Empty books.
    pub fn new(epoch: Epoch, managers: &[Clock]) -> Self {
        let shown: Vec<i64> =
            managers.iter().flat_map(|clock| [clock.unix(0).0, clock.unix(END).0 - END as i64]).collect();
        let skew_ms =
            shown.iter().max().zip(shown.iter().min()).map_or(0, |(latest, earliest)| latest - earliest);
        Self {
            epoch,
            skew_ms: if managers.len() > 1 { skew_ms } else { 0 },
            leases: BTreeMap::new(),
            limits: BTreeMap::new(),
            begun: BTreeSet::new(),
            debited: BTreeMap::new(),
            admitted: BTreeMap::new(),
            answers: BTreeMap::new(),
            questions: BTreeMap::new(),
            exhausted: BTreeMap::new(),
            rates: BTreeMap::new(),
            violations: vec![],
        }
    }

    /// A promise that others watch.
    pub fn check(&mut self, holds: bool, check: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { check, detail: detail() });
        }
    }

    /// A limit is in force in a generation.
    pub fn limit_set(&mut self, meter: MeterId, generation: Generation, limit: u64) {
        let highest = self.limits.entry((meter, self.epoch, generation)).or_insert(limit);
        *highest = limit.max(*highest);
    }

    /// Another generation begins.
    pub fn window_turned(&mut self, meter: MeterId, generation: Generation, limit: u64) {
        let unseen = self.begun.insert((meter, self.epoch, generation));
        self.check(unseen, "a generation begins once", || format!("meter {meter} generation {generation}"));
        self.limit_set(meter, generation, limit);
    }

    /// A generation that was handed out ahead goes on under another number.
    pub fn renamed(&mut self, meter: MeterId, from: Generation, to: Generation) {
        let (from, to) = ((meter, self.epoch, from), (meter, self.epoch, to));
        for book in self.leases.values_mut().filter(|book| book.life == from) {
            book.life = to;
        }
        for books in [&mut self.limits, &mut self.debited, &mut self.admitted] {
            if let Some(units) = books.remove(&from) {
                books.insert(to, units);
            }
        }
    }

    /// The ledger opened a lease, by this manager's clock.
    pub fn opened(&mut self, stream: Stream, row: &LeaseRow, answer: &StoredAnswer, granted_by: Clock) {
        let StoredAnswer::Granted { spend_until, window_ends_at, opens_at, .. } = *answer else {
            return self.check(false, "a lease is answered as one", || format!("{row:?} {answer:?}"));
        };
        let life = (stream.1, self.epoch, row.generation);
        let book = Book {
            stream,
            life,
            units: row.units,
            spent: 0,
            arrived: false,
            returned: None,
            reclaimed: false,
            granted_by,
            spend_until,
            window_ends_at,
            opens_at,
        };
        *self.debited.entry(life).or_insert(0) += u64::from(row.units);
        let unseen = self.leases.insert((self.epoch, row.id), book).is_none();
        self.check(unseen && row.units > 0, "a lease is new and not empty", || format!("{row:?}"));
        self.compare(life);
    }

    /// The ledger closed a lease.
    pub fn closed(&mut self, lease: LeaseId, unspent: u32) {
        let Some(book) = self.leases.get_mut(&(self.epoch, lease)) else {
            return self.check(false, "a lease that closes was opened", || format!("lease {lease}"));
        };
        let twice = book.returned.replace(unspent).is_some();
        let debited = self.debited.entry(book.life).or_insert(0);
        *debited = debited.saturating_sub(u64::from(unspent));
        let (whole, shown) = (book.spent + unspent == book.units, format!("lease {lease}: {book:?}"));
        let reclaimed = book.reclaimed;
        self.check(!reclaimed, "what others were given does not come back", || shown.clone());
        self.check(!twice, "a lease is credited once", || shown.clone());
        self.check(whole, "a lease comes back whole", || shown);
    }

    /// An operator gave the units of a lease to others.
    pub fn reclaimed(&mut self, lease: LeaseId) {
        if let Some(book) = self.leases.get_mut(&(self.epoch, lease)) {
            book.reclaimed = true;
        }
    }

    /// A node sends a step.
    pub fn asked(&mut self, stream: Stream, renewal: &Renewal) {
        let first = *self.questions.entry((stream, renewal.seq)).or_insert(*renewal);
        self.check(first == *renewal, "a step that is sent again is the same", || {
            format!("first {first:?}, now {renewal:?}")
        });
    }

    /// The ledger answered a step. The same step gets the same answer; only durations differ.
    pub fn answered(
        &mut self,
        stream: Stream,
        renewal: &Renewal,
        outcome: &RenewalOutcome,
        window_ends_at: Option<UnixMillis>,
        clock: Clock,
    ) {
        let got = match *outcome {
            RenewalOutcome::Granted { lease, units, .. } => Some((lease, units)),
            RenewalOutcome::Refused => return,
            RenewalOutcome::Exhausted { .. } => {
                // Two managers may tell the same end by two clocks: the later one counts.
                let ends = window_ends_at.map(|end| clock.when(end));
                let told = self.exhausted.entry((stream.0, stream.1)).or_insert(ends);
                *told = told.zip(ends).map(|(told, ends)| told.max(ends));
                None
            }
            RenewalOutcome::Pending { .. } | RenewalOutcome::Closed | RenewalOutcome::Gone => None,
        };
        let ours = renewal.epoch.is_none_or(|epoch| epoch == self.epoch);
        let epoch = self.epoch;
        self.check(ours, "a stream of another epoch is refused", || format!("{renewal:?} in {epoch:?}"));
        let first = *self.answers.entry((stream, renewal.seq)).or_insert(got);
        self.check(first == got, "a repeat gets the same answer", || {
            format!("{renewal:?}: first {first:?}, now {got:?}")
        });
    }

    /// The database was restored from a backup: what was answered since is forgotten, and may be
    /// answered anew to those who did not hear it. Books of its own begin with what `rows` say.
    ///
    /// `leases`: those of the backup. A node that never heard of one may still be told.
    pub fn epoch_began(
        &mut self,
        epoch: Epoch,
        rows: impl Iterator<Item = (MeterId, Generation, u64, u64)>,
        leases: impl Iterator<Item = (Epoch, LeaseId)>,
    ) {
        for (old, lease) in leases {
            if let Some(book) = self.leases.get(&(old, lease)).filter(|book| !book.arrived).cloned() {
                let (meter, _, generation) = book.life;
                let life = (meter, epoch, generation);
                *self.debited.entry(life).or_insert(0) += u64::from(book.units);
                *self.limits.entry(life).or_insert(0) += u64::from(book.units);
                self.leases.insert((epoch, lease), Book { life, ..book });
            }
        }
        self.epoch = epoch;
        self.answers.clear();
        for (meter, generation, debited, limit) in rows {
            // The row counts its own leases; those of generations before count as they are.
            self.limits.insert((meter, epoch, generation), limit.max(debited));
            self.debited.insert((meter, epoch, generation), debited);
        }
    }

    /// What the ledger's row says after a step.
    pub fn ledger_says(&mut self, meter: MeterId, generation: Generation, debited: u64) {
        let life = (meter, self.epoch, generation);
        let ours = self.debited_in(life);
        self.check(ours == debited, "debited is what was handed out and not returned", || {
            format!("{life:?}: the ledger says {debited}, the books {ours}")
        });
        self.compare(life);
    }

    /// admitted ≤ debited ≤ the highest limit in force.
    fn compare(&mut self, life: Life) {
        let admitted = self.admitted.get(&life).copied().unwrap_or(0);
        let debited = self.debited_in(life);
        let limit = self.limits.get(&life).copied().unwrap_or(0);
        self.check(admitted <= debited && debited <= limit, "admitted <= debited <= limit", || {
            format!("{life:?}: {admitted} <= {debited} <= {limit}")
        });
    }

    fn debited_in(&self, life: Life) -> u64 {
        self.debited.get(&life).copied().unwrap_or(0)
    }

    /// Units spent in a generation of this epoch.
    pub fn admitted(&self, meter: MeterId, generation: Generation) -> u64 {
        self.admitted.get(&(meter, self.epoch, generation)).copied().unwrap_or(0)
    }

    /// Leases of a generation of this epoch that were neither spent nor returned whole: whose,
    /// and how many units.
    pub fn out(&self, meter: MeterId, generation: Generation) -> Vec<(HolderId, u32)> {
        let life = (meter, self.epoch, generation);
        let open = self.leases.values().filter(|book| book.life == life && book.returned.is_none());
        open.map(|book| (book.stream.0, book.units - book.spent)).filter(|(_, units)| *units > 0).collect()
    }

    /// Units of a generation that were handed out, not spent and not returned.
    pub fn withheld(&self, meter: MeterId, generation: Generation) -> u64 {
        self.debited_in((meter, self.epoch, generation)).saturating_sub(self.admitted(meter, generation))
    }

    /// A worker wrote a bucket. Returns the meters of which it took a unit.
    pub fn wrote(&mut self, holder: HolderId, op: Op, old: &Bucket, new: &Bucket, now: True) -> Vec<MeterId> {
        let mut taken = vec![];
        for before in &old.meters {
            let after = new.meters.iter().find(|r| r.meter == before.meter && r.rec == before.rec);
            match after {
                Some(after) => self.record_changed(holder, op, before, after, now, &mut taken),
                None => {
                    let empty = before.leases.is_empty() && before.pending.is_none();
                    self.check(empty || op == Op::Install, "only an empty record is forgotten", || {
                        format!("{op:?} dropped {before:?}")
                    });
                }
            }
        }
        taken
    }

    fn record_changed(
        &mut self,
        holder: HolderId,
        op: Op,
        before: &MeterRecord,
        after: &MeterRecord,
        now: True,
        taken: &mut Vec<MeterId>,
    ) {
        for lease in &before.leases {
            let Some(left) = after.leases.iter().find(|other| other.id == lease.id).map(|lease| lease.left)
            else {
                let frozen = after
                    .pending
                    .is_some_and(|p| p.closed_lease == Some(lease.id) && p.unspent == lease.left);
                self.check(op == Op::Freeze && frozen, "a lease leaves into a renewal, whole", || {
                    format!("{op:?}: {before:?} became {after:?}")
                });
                continue;
            };
            let spent = lease.left.wrapping_sub(left);
            let fits = spent == 0 || (spent == 1 && op == Op::Spend);
            self.check(fits, "a request takes one unit, nothing else takes any", || {
                format!("{op:?}: {} of lease {} went to {left}", lease.left, lease.id)
            });
            if spent == 1 {
                taken.push(before.meter);
                self.spent(holder, before, lease, now);
            }
        }
        for lease in after.leases.iter().filter(|l| before.leases.iter().all(|other| other.id != l.id)) {
            let stream = (holder, after.meter, after.rec);
            let epoch = after.epoch.unwrap_or(Epoch(0));
            let ours = self
                .leases
                .get_mut(&(epoch, lease.id))
                .is_some_and(|book| book.stream == stream && !std::mem::replace(&mut book.arrived, true));
            self.check(op == Op::Install && ours, "a lease arrives once, where it was granted", || {
                format!("{op:?}: {lease:?} in {stream:?}")
            });
        }
    }

    fn spent(&mut self, holder: HolderId, record: &MeterRecord, lease: &Lease, now: True) {
        let epoch = record.epoch.unwrap_or(Epoch(0));
        let Some(book) = self.leases.get_mut(&(epoch, lease.id)) else {
            return self.check(false, "what is spent was granted", || format!("{holder} {lease:?}"));
        };
        book.spent += 1;
        let now = book.granted_by.unix(now);
        *self.admitted.entry(book.life).or_insert(0) += 1;
        let (life, shown) = (book.life, format!("lease {}: {book:?} at {now:?}", lease.id));
        let whole = book.spent + book.returned.unwrap_or(0) <= book.units;
        let in_time = now.0 <= book.spend_until.0 + DRIFT_MS + self.skew_ms;
        let in_window = book.window_ends_at.is_none_or(|end| now.0 < end.0 + self.skew_ms)
            && book.opens_at.is_none_or(|begin| now.0 + self.skew_ms >= begin.0);
        self.check(whole, "spent + credited <= units", || shown.clone());
        self.check(in_window, "no spend in another window", || shown.clone());
        self.check(in_time, "no spend after expiry", || shown);
        self.compare(life);
    }

    /// A request was decided. `taken`: what its writes took.
    pub fn decided(&mut self, admitted: bool, asked: &[MeterId], taken: &[MeterId]) {
        let sorted = |meters: &[MeterId]| {
            let mut meters = meters.to_vec();
            meters.sort();
            meters
        };
        let fits = if admitted { sorted(taken) == sorted(asked) } else { taken.is_empty() };
        self.check(fits, "admitted takes one of each, refused takes nothing", || {
            format!("admitted: {admitted}, asked {asked:?}, took {taken:?}")
        });
    }

    /// A request was admitted at a rate.
    pub fn admitted_at_rate(&mut self, holder: HolderId, client: ClientKey, tps: u32, now: MonoMillis) {
        let second = now.0 / 1_000;
        let count = self.rates.entry((holder, client.0, second)).or_insert(0);
        *count += 1;
        let count = *count;
        self.check(tps == 0 || count <= tps, "no second admits more than its rate", || {
            format!("{holder} {client:?} second {second}: {count} of {tps}")
        });
    }

    /// A request was refused because nothing is left.
    pub fn refused_as_exhausted(&mut self, holder: HolderId, meter: MeterId, now: True) {
        let told = self.exhausted.get(&(holder, meter)).copied();
        self.check(told.is_some(), "exhausted is the ledger's word", || {
            format!("{holder} meter {meter} at {now}")
        });
        let still = told.is_some_and(|ends| ends.is_none_or(|end| now < end + EARLY_MS));
        self.check(still, "no refusal after the window has turned", || {
            format!("{holder} meter {meter} at {now:?}: told {told:?}")
        });
    }
}

/// A clock that is slow by 2 in 1,000 shows the end of a lease of 90 s so much late.
const DRIFT_MS: i64 = 185;
/// Longer than any run.
const END: True = 250_000;
/// Clocks are read in whole milliseconds.
const EARLY_MS: u64 = 2;
