//! The reference: its own books of every lease, kept from what is seen to happen, and compared
//! with what the two halves claim.
//!
//! Nothing is over-admitted, whatever the demand, if and only if for every lease
//! spent + credited ≤ units. The books hold the stronger truth that a lease comes back whole:
//! spent + unspent = units.

use std::collections::BTreeMap;

use gate::id::{ClientKey, Generation, HolderId, LeaseId, MeterId, Rec};
use gate::quota::bucket::{Bucket, Lease, MeterRecord};
use gate::quota::issuer::{LeaseRow, StoredAnswer};
use gate::time::{MonoMillis, UnixMillis};
use gate::wire::exchange::{Renewal, RenewalOutcome};

type Stream = (HolderId, MeterId, Rec);

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
    generation: Generation,
    units: u32,
    spent: u32,
    /// Set when the ledger closed it.
    returned: Option<u32>,
    /// By the manager's clock; later spends are too late.
    spend_until: UnixMillis,
    window_ends_at: Option<UnixMillis>,
}

/// The books.
#[derive(Default)]
pub struct Reference {
    leases: BTreeMap<LeaseId, Book>,
    /// The highest limit in force, by generation.
    limits: BTreeMap<(MeterId, Generation), u64>,
    /// Units of all leases less what was returned, by generation.
    debited: BTreeMap<(MeterId, Generation), u64>,
    /// Units spent, by generation.
    admitted: BTreeMap<(MeterId, Generation), u64>,
    /// What a step was answered: a lease and its units, or nothing.
    answers: BTreeMap<(Stream, u64), Option<(LeaseId, u32)>>,
    /// The window of the last "exhausted" that a holder was told.
    exhausted: BTreeMap<(HolderId, MeterId), Option<UnixMillis>>,
    /// Requests admitted, by second of the node's clock.
    rates: BTreeMap<(HolderId, [u8; 16], u64), u32>,
    /// What is wrong, in the order it was seen.
    pub violations: Vec<Violation>,
}

impl Reference {
    fn check(&mut self, holds: bool, check: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { check, detail: detail() });
        }
    }

    /// A limit is in force in a generation.
    pub fn limit_set(&mut self, meter: MeterId, generation: Generation, limit: u64) {
        let highest = self.limits.entry((meter, generation)).or_insert(limit);
        *highest = limit.max(*highest);
    }

    /// Another generation begins.
    pub fn window_turned(&mut self, meter: MeterId, generation: Generation, limit: u64) {
        let unseen = !self.limits.contains_key(&(meter, generation));
        self.check(unseen, "a generation begins once", || format!("meter {meter} generation {generation}"));
        self.limit_set(meter, generation, limit);
    }

    /// The ledger opened a lease.
    pub fn opened(&mut self, stream: Stream, row: &LeaseRow, answer: &StoredAnswer) {
        let StoredAnswer::Granted { spend_until, window_ends_at, .. } = *answer else {
            return self.check(false, "a lease is answered as one", || format!("{row:?} {answer:?}"));
        };
        let book = Book {
            stream,
            generation: row.generation,
            units: row.units,
            spent: 0,
            returned: None,
            spend_until,
            window_ends_at,
        };
        *self.debited.entry((stream.1, row.generation)).or_insert(0) += u64::from(row.units);
        let unseen = self.leases.insert(row.id, book).is_none();
        self.check(unseen && row.units > 0, "a lease is new and not empty", || format!("{row:?}"));
        self.compare(stream.1, row.generation);
    }

    /// The ledger closed a lease.
    pub fn closed(&mut self, lease: LeaseId, unspent: u32) {
        let Some(book) = self.leases.get_mut(&lease) else {
            return self.check(false, "a lease that closes was opened", || format!("lease {lease}"));
        };
        let twice = book.returned.replace(unspent).is_some();
        let debited = self.debited.entry((book.stream.1, book.generation)).or_insert(0);
        *debited = debited.saturating_sub(u64::from(unspent));
        let (whole, shown) = (book.spent + unspent == book.units, format!("lease {lease}: {book:?}"));
        self.check(!twice, "a lease is credited once", || shown.clone());
        self.check(whole, "a lease comes back whole", || shown);
    }

    /// The ledger answered a step. The same step gets the same answer; only durations differ.
    pub fn answered(
        &mut self,
        stream: Stream,
        renewal: &Renewal,
        outcome: &RenewalOutcome,
        window_ends_at: Option<UnixMillis>,
    ) {
        let got = match *outcome {
            RenewalOutcome::Granted { lease, units, .. } => Some((lease, units)),
            RenewalOutcome::Refused => return,
            RenewalOutcome::Exhausted { .. } => {
                self.exhausted.insert((stream.0, stream.1), window_ends_at);
                None
            }
            RenewalOutcome::Pending { .. } | RenewalOutcome::Closed | RenewalOutcome::Gone => None,
        };
        let first = *self.answers.entry((stream, renewal.seq)).or_insert(got);
        self.check(first == got, "a repeat gets the same answer", || {
            format!("{renewal:?}: first {first:?}, now {got:?}")
        });
    }

    /// The database was restored: what was answered before is forgotten, and may be answered
    /// anew to those who did not hear it.
    pub fn epoch_began(&mut self) {
        self.answers.clear();
    }

    /// What the ledger's row says after a step.
    pub fn ledger_says(&mut self, meter: MeterId, generation: Generation, debited: u64) {
        let ours = self.debited(meter, generation);
        self.check(ours == debited, "debited is what was handed out and not returned", || {
            format!("meter {meter} generation {generation}: the ledger says {debited}, the books {ours}")
        });
        self.compare(meter, generation);
    }

    /// admitted ≤ debited ≤ the highest limit in force.
    fn compare(&mut self, meter: MeterId, generation: Generation) {
        let admitted = self.admitted(meter, generation);
        let debited = self.debited(meter, generation);
        let limit = self.limits.get(&(meter, generation)).copied().unwrap_or(0);
        self.check(admitted <= debited && debited <= limit, "admitted <= debited <= limit", || {
            format!("meter {meter} generation {generation}: {admitted} <= {debited} <= {limit}")
        });
    }

    fn debited(&self, meter: MeterId, generation: Generation) -> u64 {
        self.debited.get(&(meter, generation)).copied().unwrap_or(0)
    }

    /// Units spent in a generation.
    pub fn admitted(&self, meter: MeterId, generation: Generation) -> u64 {
        self.admitted.get(&(meter, generation)).copied().unwrap_or(0)
    }

    /// Units of a generation that were handed out, not spent and not returned.
    pub fn withheld(&self, meter: MeterId, generation: Generation) -> u64 {
        self.debited(meter, generation).saturating_sub(self.admitted(meter, generation))
    }

    /// A worker wrote a bucket. Returns the meters of which it took a unit.
    pub fn wrote(
        &mut self,
        holder: HolderId,
        op: Op,
        old: &Bucket,
        new: &Bucket,
        now: UnixMillis,
    ) -> Vec<MeterId> {
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
        now: UnixMillis,
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
                self.spent(holder, before.meter, lease, now);
            }
        }
        for lease in after.leases.iter().filter(|l| before.leases.iter().all(|other| other.id != l.id)) {
            let stream = (holder, after.meter, after.rec);
            let ours = self.leases.get(&lease.id).is_some_and(|book| book.stream == stream);
            self.check(op == Op::Install && ours, "a lease arrives where it was granted", || {
                format!("{op:?}: {lease:?} in {stream:?}")
            });
        }
    }

    fn spent(&mut self, holder: HolderId, meter: MeterId, lease: &Lease, now: UnixMillis) {
        let Some(book) = self.leases.get_mut(&lease.id) else {
            return self.check(false, "what is spent was granted", || format!("{holder} {lease:?}"));
        };
        book.spent += 1;
        *self.admitted.entry((meter, book.generation)).or_insert(0) += 1;
        let (generation, shown) = (book.generation, format!("lease {}: {book:?} at {now:?}", lease.id));
        let whole = book.spent + book.returned.unwrap_or(0) <= book.units;
        let in_time = now.0 <= book.spend_until.0 + DRIFT_MS;
        let in_window = book.window_ends_at.is_none_or(|end| now < end);
        self.check(whole, "spent + credited <= units", || shown.clone());
        self.check(in_time, "no spend after expiry", || shown.clone());
        self.check(in_window, "no spend in another window", || shown);
        self.compare(meter, generation);
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
    pub fn refused_as_exhausted(&mut self, holder: HolderId, meter: MeterId, now: UnixMillis) {
        let told = self.exhausted.get(&(holder, meter)).copied();
        let still = told.is_some_and(|window| window.is_none_or(|end| now.0 < end.0 + EARLY_MS));
        self.check(still, "no refusal after the window has turned", || {
            format!("{holder} meter {meter} at {now:?}: told {told:?}")
        });
    }
}

/// A clock that is slow by 2 in 1,000 shows the end of a lease of 60 s so much late.
const DRIFT_MS: i64 = 125;
/// Clocks are read in whole milliseconds.
const EARLY_MS: i64 = 2;
