//! The manager's half of the lease protocol: what one renewal does to the ledger.
//!
//! Pure: rows in, [`Effects`] out. The ledger reads the rows and writes the effects **in one
//! transaction that holds the meter's row** (SQLite: `BEGIN IMMEDIATE`; PostgreSQL: `SELECT …
//! FOR UPDATE`), with the conditions named at each effect; a condition that does not hold rolls
//! back and asks again. The answer leaves only after the commit is durable.
//!
//! # When may units be credited?
//! A lease's unspent units return to the counter if its holder *closed* it before it computed
//! the number: then no request can spend them any more, and admitted ≤ debited stays true
//! whenever the credit happens. Expiry has no part in this. It bounds staleness, and tells
//! whether somebody may still give units back; **a return that comes after the expiry is credited
//! like any other**, once, in the lease's own generation, as long as the stream is intact and
//! nobody gave the units to others meanwhile ([`LeaseState::Reclaimed`]). What is never done is
//! to credit a lease whose holder has *not* reported: it may have spent everything.

use crate::id::{Epoch, Generation, LeaseId};
use crate::time::UnixMillis;
use crate::wire::exchange::{Renewal, RenewalOutcome};

use super::holder::{AHEAD_MS, DRIFT_PER_MILLE};

mod ahead;
#[cfg(test)]
mod fixture;
mod reclaim;
mod rows;
mod size;

pub use reclaim::{ReclaimError, reclaim};
pub use rows::{Ahead, LeaseRow, LeaseState, LimitChange, MeterRow, StoredAnswer, StreamRow};
pub use size::{ahead_ttl_ms, grant_size, lease_ttl_ms};

/// Life of a lease, unless two horizons are longer or the window ends before.
pub const LEASE_TTL_MS: u64 = 60_000;
/// How long after the holder's expiry a return may still be under way before others are told
/// that nothing is left.
pub const RETURN_GRACE_MS: u64 = 2_000;
/// When a holder asks again while units are being recalled.
pub const RECALL_RETRY_MS: u64 = 100;
/// A meter is recalled at most once per this time.
pub const RECALL_EVERY_MS: i64 = 500;
/// One lease holds at most this share of the limit, unless the meter says otherwise.
pub const LEASES_PER_LIMIT: u64 = 100;
/// The longest lease horizon, in seconds: a day.
pub const MAX_HORIZON_S: u32 = 86_400;
/// How long the ledger keeps the row of a stream without open leases. A renewal that the
/// network delays for longer than this could open a stream that nobody reads the answer of.
pub const STREAM_KEEP_MS: i64 = 3_600_000;

/// A lease of the next window is granted so long before it begins: as early as holders ask for one,
/// and what their clocks may be fast by.
pub const AHEAD_UP_TO_MS: u64 = AHEAD_MS + 1_000;

/// What the ledger knows when a renewal comes in.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The manager's clock.
    pub now: UnixMillis,
    /// Life of the database.
    pub epoch: Epoch,
    /// The meter's row. No row: the answer is [`RenewalOutcome::Gone`] without asking here.
    pub meter: &'a MeterRow,
    /// End of the window that holds `now`, by the calendar of the meter's zone; absent = a total.
    pub window_ends_at: Option<UnixMillis>,
    /// End of the window after that one; needed where the renewal says `ahead`.
    pub next_window_ends_at: Option<UnixMillis>,
    /// The row of (holder, meter, rec), if there is one.
    pub stream: Option<&'a StreamRow>,
    /// The row of the renewal's `closed_lease`, if it belongs to **this stream**.
    pub closed_lease: Option<&'a LeaseRow>,
    /// **Other** holders with an open, unexpired lease of this meter and its present generation.
    pub other_holders: u32,
    /// The same of the generation ahead.
    pub ahead_holders: u32,
    /// An id for a lease, never used before.
    pub new_lease: LeaseId,
}

/// What the holder is told, and what is written before it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The answer.
    pub outcome: RenewalOutcome,
    /// Absent: nothing changes (a repeat, a refusal).
    pub effects: Option<Effects>,
}

/// What one step writes, in this order, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects {
    /// A new generation begins: `debited` = 0, `recalled_at` = null. Condition: the row's
    /// generation is the one before.
    pub roll: Option<Roll>,
    /// The lease that ends. Condition: it is open.
    pub close: Option<Close>,
    /// The lease that begins, of the row's generation or of the one ahead. Its units are debited there
    /// on condition `debited + units <= limit`, in the same statement.
    pub open: Option<Open>,
    /// The stream's row, inserted at seq 1. Condition otherwise: its seq is the one before.
    pub stream: StreamRow,
    /// Set `recalled_at` and, once committed, announce `Subject::Recall`.
    pub recall: bool,
    /// Once committed, announce `Subject::Meter`: units came back after others may have been
    /// told that nothing is left.
    pub units_back: bool,
}

/// The counter's next life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roll {
    /// Its number.
    pub generation: Generation,
    /// End of its window.
    pub window_ends_at: UnixMillis,
}

/// The end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Which.
    pub lease: LeaseId,
    /// Units its holder did not spend, for the row.
    pub unspent: u32,
    /// The generation that it was debited in.
    pub generation: Generation,
    /// Units to take off what is debited there: `unspent`, or 0 where that generation has passed.
    pub credit: u32,
}

/// The beginning of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its id.
    pub lease: LeaseId,
    /// Its generation.
    pub generation: Generation,
    /// Its units, at least 1.
    pub units: u32,
    /// The manager's expiry: later than the holder's, whichever clock runs fast.
    pub expires_at: UnixMillis,
    /// It is of the next window, which ends then.
    pub ahead_until: Option<UnixMillis>,
}

/// Takes one step of a stream, or repeats the last, or refuses.
pub fn renew(known: &Known<'_>, renewal: &Renewal) -> Decided {
    let refused = Decided { outcome: RenewalOutcome::Refused, effects: None };
    if renewal.epoch.is_some_and(|epoch| epoch != known.epoch) {
        return refused;
    }
    let last = known.stream.map_or(0, |stream| stream.seq);
    if let Some(stream) = known.stream.filter(|stream| stream.seq == renewal.seq) {
        return Decided { outcome: stream.answer.at(known.now), effects: None };
    }
    if last.checked_add(1) != Some(renewal.seq) {
        return refused;
    }
    let closed = match (renewal.closed_lease, known.closed_lease) {
        (None, _) if renewal.unspent == 0 => None,
        (Some(id), Some(row))
            if row.id == id && row.state == LeaseState::Open && renewal.unspent <= row.units =>
        {
            Some(row)
        }
        _ => return refused,
    };
    step(known, renewal, closed)
}

fn step(known: &Known<'_>, renewal: &Renewal, closed: Option<&LeaseRow>) -> Decided {
    let mut meter = known.meter.clone();
    let roll = rolls(&meter, known.window_ends_at, known.now);
    if let Some(roll) = roll {
        meter.begin(roll);
    }
    let was_exhausted = meter.debited >= meter.limit;
    let close = closed.map(|lease| {
        let generation = lease.generation;
        let credit = if meter.counts(generation) { renewal.unspent } else { 0 };
        Close { lease: lease.id, unspent: renewal.unspent, generation, credit }
    });
    if let Some(close) = close {
        meter.credit(close.generation, close.credit);
    }
    let credit = close.filter(|close| close.generation == meter.generation).map_or(0, |close| close.credit);

    // Leases of the generation before are no reason to wait for this one's units.
    let adopted = known.meter.ahead.is_some_and(|ahead| ahead.generation == meter.generation);
    let others = match roll {
        Some(_) if adopted => known.ahead_holders,
        Some(_) => 0,
        None => known.other_holders,
    };
    let is_exhausted = meter.debited >= meter.limit;
    let next = ahead::next_window(known, renewal, &meter);
    let (open, answer) = match next {
        Some(next) => ahead::grant(known, renewal, &meter, next),
        None => grant(known, renewal, &meter, others),
    };
    if next.is_none() {
        meter.debited = meter.debited.saturating_add(open.map_or(0, |open| u64::from(open.units)));
    }

    let came_late = closed.is_some_and(|lease| lease.expires_at <= known.now);
    let recall_is_due =
        meter.recalled_at.is_none_or(|at| known.now.0.saturating_sub(at.0) >= RECALL_EVERY_MS);
    Decided {
        outcome: answer.at(known.now),
        effects: Some(Effects {
            roll,
            close,
            open,
            stream: StreamRow { seq: renewal.seq, answer },
            recall: renewal.want > 0
                && next.is_none()
                && renewal.waiting
                && is_exhausted
                && others > 0
                && recall_is_due,
            units_back: credit > 0 && came_late && was_exhausted && meter.debited < meter.limit,
        }),
    }
}

fn after_generation(generation: Generation) -> Generation {
    Generation(generation.0.saturating_add(1))
}

/// What the meter, after the credit, has for this renewal.
fn grant(
    known: &Known<'_>,
    renewal: &Renewal,
    meter: &MeterRow,
    others: u32,
) -> (Option<Open>, StoredAnswer) {
    if renewal.want == 0 {
        return (None, StoredAnswer::Closed);
    }
    let units = grant_size(meter, renewal.want, others);
    if units == 0 {
        let exhausted = StoredAnswer::Exhausted { window_ends_at: meter.window_ends_at };
        return (None, if others > 0 { StoredAnswer::Pending } else { exhausted });
    }
    let ttl_ms = lease_ttl_ms(meter, known.now);
    if ttl_ms == 0 {
        // The window's last millisecond: too short for a lease, and the next one has units.
        return (None, StoredAnswer::Pending);
    }
    let later = ttl_ms.saturating_add(drift_of(ttl_ms)).saturating_add(RETURN_GRACE_MS);
    let open = Open {
        lease: known.new_lease,
        generation: meter.generation,
        units,
        expires_at: after(known.now, later),
        ahead_until: None,
    };
    let answer = StoredAnswer::Granted {
        lease: open.lease,
        generation: open.generation,
        units,
        spend_until: after(known.now, ttl_ms),
        window_ends_at: meter.window_ends_at,
        opens_at: None,
        remaining: meter.limit.saturating_sub(meter.debited).saturating_sub(u64::from(units)),
    };
    (Some(open), answer)
}

/// The generation that begins at `now`, if the row's window has passed. A clock that was set
/// back begins none.
pub fn rolls(meter: &MeterRow, window_ends_at: Option<UnixMillis>, now: UnixMillis) -> Option<Roll> {
    let (known, present) = (meter.window_ends_at?, window_ends_at?);
    (known <= now && known < present).then(|| Roll {
        generation: match meter.ahead {
            Some(ahead) if ahead.window_ends_at == present => ahead.generation,
            // Nobody asked in all of that window.
            Some(ahead) => after_generation(ahead.generation),
            None => after_generation(meter.generation),
        },
        window_ends_at: present,
    })
}

fn left_until(end: Option<UnixMillis>, now: UnixMillis) -> Option<u64> {
    end.map(|end| u64::try_from(end.0.saturating_sub(now.0)).unwrap_or(0))
}

fn after(now: UnixMillis, millis: u64) -> UnixMillis {
    UnixMillis(now.0.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX)))
}

/// What two clocks may differ by over `millis`, rounded up.
fn drift_of(millis: u64) -> u64 {
    millis.saturating_mul(DRIFT_PER_MILLE).div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    use super::fixture::{HELD, LEASE, NEW, NOW, STREAM, closing, first, in_ms, known, total};
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_first_step_opens_a_lease() {
        let meter = total(1_000, 0);
        let decided = renew(&known(&meter), &first(100));
        let outcome = RenewalOutcome::Granted {
            lease: NEW,
            generation: Generation(3),
            units: 10,
            ttl_ms: LEASE_TTL_MS,
            window_left_ms: None,
            opens_in_ms: None,
            remaining: 990,
        };
        assert_eq!(decided.outcome, outcome);
        let effects = decided.effects.expect("a step");
        let open = Open {
            lease: NEW,
            generation: Generation(3),
            units: 10,
            expires_at: in_ms(62_120),
            ahead_until: None,
        };
        assert_eq!((effects.open, effects.close, effects.roll), (Some(open), None, None));
        assert_eq!((effects.stream.seq, effects.recall, effects.units_back), (1, false, false));
    }

    proptest! {

        #[test]
        fn a_step_keeps_debited_within_the_limit_and_counts_exactly(
            limit in 0_u64..200,
            debited in 0_u64..200,
            unspent in 0_u32..=10,
            want in 0_u32..50,
            others in 0_u32..3,
        ) {
            let meter = total(limit, debited.max(10));
            let question = Known {
                stream: Some(&STREAM),
                closed_lease: Some(&LEASE),
                other_holders: others,
                ..known(&meter)
            };
            let effects = renew(&question, &closing(5, want, unspent)).effects.expect("a step");
            let mut after = meter.clone();
            after.apply(&effects, NOW);
            let units = effects.open.map_or(0, |open| u64::from(open.units));
            prop_assert_eq!(after.debited, meter.debited - u64::from(unspent) + units);
            prop_assert!(after.debited <= limit.max(meter.debited));
            prop_assert!(units == 0 || after.debited <= limit);
        }
    }

    #[test]
    fn which_steps_are_taken_which_repeated_which_refused() {
        let meter = total(1_000, 100);
        let other_generation = LeaseRow { generation: Generation(2), ..LEASE };
        let closed = LeaseRow { state: LeaseState::Closed, ..LEASE };
        let reclaimed = LeaseRow { state: LeaseState::Reclaimed, ..LEASE };
        let expired = LeaseRow { expires_at: in_ms(-1), ..LEASE };
        let other = LeaseRow { id: LeaseId(71), ..LEASE };
        #[derive(Debug, PartialEq)]
        enum Is {
            Taken { credit: u32 },
            Repeated,
            Refused,
        }
        use Is::{Refused, Repeated, Taken};
        let check =
            |case: &str, stream: Option<&StreamRow>, lease: Option<&LeaseRow>, renewal: Renewal, expected| {
                let decided = renew(&Known { stream, closed_lease: lease, ..known(&meter) }, &renewal);
                let is = match (decided.outcome, decided.effects) {
                    (RenewalOutcome::Refused, None) => Refused,
                    (_, None) => Repeated,
                    (_, Some(effects)) => Taken { credit: effects.close.map_or(0, |close| close.credit) },
                };
                assert_eq!(is, expected, "{case}");
            };
        let (some, lease) = (Some(&STREAM), Some(&LEASE));
        check("first step", None, None, first(1), Taken { credit: 0 });
        check("first step, empty", None, None, first(0), Taken { credit: 0 });
        check("second step of nothing", None, None, Renewal { seq: 2, ..first(1) }, Refused);
        check("step 0", None, None, Renewal { seq: 0, ..first(1) }, Refused);
        check(
            "first step closes something",
            None,
            lease,
            Renewal { seq: 1, ..closing(1, 1, 3) },
            Taken { credit: 3 },
        );
        check("first step closes nothing known", None, None, closing(1, 1, 3), Refused);
        check("next step", some, None, Renewal { seq: 5, ..first(1) }, Taken { credit: 0 });
        check("step on record", some, None, Renewal { seq: 4, ..first(1) }, Repeated);
        check("step on record, other words", some, lease, closing(4, 9, 9), Repeated);
        check("step before", some, None, Renewal { seq: 3, ..first(1) }, Refused);
        check("step after the next", some, None, Renewal { seq: 6, ..first(1) }, Refused);
        check("last number", some, None, Renewal { seq: u64::MAX, ..first(1) }, Refused);
        check("other epoch", some, None, Renewal { seq: 5, epoch: Some(Epoch(4)), ..first(1) }, Refused);
        check("return of a part", some, lease, closing(5, 1, 3), Taken { credit: 3 });
        check("return of all", some, lease, closing(5, 0, 10), Taken { credit: 10 });
        check("return of nothing", some, lease, closing(5, 0, 0), Taken { credit: 0 });
        check("return of more", some, lease, closing(5, 0, 11), Refused);
        check("return without a lease", some, None, Renewal { unspent: 1, seq: 5, ..first(1) }, Refused);
        check("return of an unknown lease", some, None, closing(5, 0, 1), Refused);
        check("return of another lease", some, Some(&other), closing(5, 0, 1), Refused);
        check("return after the expiry", some, Some(&expired), closing(5, 0, 4), Taken { credit: 4 });
        check(
            "return to a past generation",
            some,
            Some(&other_generation),
            closing(5, 0, 4),
            Taken { credit: 0 },
        );
        check("second return", some, Some(&closed), closing(5, 0, 4), Refused);
        check("return of what others got", some, Some(&reclaimed), closing(5, 0, 4), Refused);
    }

    #[test]
    fn nothing_left_is_pending_while_others_hold_and_exhausted_otherwise() {
        let window = Some(in_ms(9_000));
        let meter = MeterRow { window_ends_at: window, ..total(1_000, 1_000) };
        let recalled_at = |ms| MeterRow { recalled_at: Some(in_ms(ms)), ..meter.clone() };
        let check = |case: &str, meter: &MeterRow, others, waiting, outcome, recall| {
            let question = Known { other_holders: others, ..known(meter) };
            let decided = renew(&question, &Renewal { waiting, ..first(1) });
            assert_eq!(decided.outcome, outcome, "{case}");
            assert_eq!(decided.effects.map(|effects| effects.recall), Some(recall), "{case}");
        };
        let pending = RenewalOutcome::Pending { retry_ms: RECALL_RETRY_MS };
        let exhausted = RenewalOutcome::Exhausted { window_left_ms: Some(9_000) };
        check("nobody else", &meter, 0, true, exhausted, false);
        check("others, somebody waits", &meter, 2, true, pending, true);
        check("others, nobody waits", &meter, 2, false, pending, false);
        check("recalled just now", &recalled_at(-RECALL_EVERY_MS + 1), 1, true, pending, false);
        check("recalled a while ago", &recalled_at(-RECALL_EVERY_MS), 1, true, pending, true);
    }

    #[test]
    fn a_final_step_is_acknowledged_and_recalls_nobody() {
        let meter = total(10, 10);
        let question =
            Known { stream: Some(&STREAM), closed_lease: Some(&LEASE), other_holders: 1, ..known(&meter) };
        let decided = renew(&question, &closing(5, 0, 4));
        assert_eq!(decided.outcome, RenewalOutcome::Closed);
        let effects = decided.effects.expect("a step");
        assert_eq!((effects.open, effects.recall), (None, false));
        assert_eq!(
            effects.close,
            Some(Close { lease: HELD, unspent: 4, generation: Generation(3), credit: 4 })
        );
    }

    #[test]
    fn units_that_come_back_late_are_announced_unless_taken_again() {
        let late = LeaseRow { expires_at: NOW, ..LEASE };
        for (case, debited, lease, want, announced) in [
            ("late and left", 1_000, late, 0, true),
            ("in time: others were told to ask again", 1_000, LEASE, 0, false),
            ("nobody was told that nothing is left", 999, late, 0, false),
            ("taken by the same step", 1_000, late, 1, false),
        ] {
            let meter = total(1_000, debited);
            let question = Known { stream: Some(&STREAM), closed_lease: Some(&lease), ..known(&meter) };
            let effects = renew(&question, &closing(5, want, 1)).effects.expect("a step");
            assert_eq!(effects.units_back, announced, "{case}");
        }
    }

    #[test]
    fn a_window_that_has_passed_begins_a_new_generation() {
        let ended =
            |ms| MeterRow { window_ends_at: Some(in_ms(ms)), recalled_at: Some(NOW), ..total(100, 100) };
        for (case, meter, present, begins) in [
            ("passed", ended(0), Some(in_ms(1_000)), true),
            ("long passed", ended(-9_999_999), Some(in_ms(1_000)), true),
            ("not yet", ended(1), Some(in_ms(1)), false),
            ("clock set back", ended(5_000), Some(in_ms(1_000)), false),
            ("a total", total(100, 100), None, false),
        ] {
            let question = Known { window_ends_at: present, other_holders: 3, ..known(&meter) };
            let decided = renew(&question, &first(1));
            let effects = decided.effects.expect("a step");
            assert_eq!(effects.roll.is_some(), begins, "{case}");
            assert_eq!(effects.open.is_some(), begins, "{case}");
            if begins {
                let mut after = meter;
                after.apply(&effects, NOW);
                assert_eq!((after.generation, after.debited), (Generation(4), 1), "{case}");
                assert_eq!((after.window_ends_at, after.recalled_at), (present, None), "{case}");
            }
        }
    }

    #[test]
    fn a_lease_of_the_last_window_credits_nothing_to_the_next() {
        let meter = MeterRow { window_ends_at: Some(NOW), ..total(100, 60) };
        let question = Known {
            window_ends_at: Some(in_ms(50_000)),
            stream: Some(&STREAM),
            closed_lease: Some(&LEASE),
            ..known(&meter)
        };
        let effects = renew(&question, &closing(5, 0, 4)).effects.expect("a step");
        assert_eq!(
            effects.close,
            Some(Close { lease: HELD, unspent: 4, generation: Generation(3), credit: 0 })
        );
        let mut after = meter.clone();
        after.apply(&effects, NOW);
        assert_eq!(after.debited, 0);
    }
}
