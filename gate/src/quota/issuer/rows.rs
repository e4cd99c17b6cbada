//! The ledger's rows, as the issuer reads them and as its steps leave them.

use core::cmp;

use super::{Effects, Open, RECALL_RETRY_MS, Roll, left_until};
use crate::id::{Generation, LeaseId, MeterId};
use crate::time::UnixMillis;
use crate::wire::exchange::RenewalOutcome;

/// The ledger's row of one meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterRow {
    /// Which.
    pub meter: MeterId,
    /// Units per generation.
    pub limit: u64,
    /// Units handed out in this generation and not credited back.
    pub debited: u64,
    /// The counter's present life.
    pub generation: Generation,
    /// First instant after the window of this generation; absent = a total.
    pub window_ends_at: Option<UnixMillis>,
    /// When holders were last told to give back.
    pub recalled_at: Option<UnixMillis>,
    /// Seconds of demand that one lease should last for, 1 to [`super::MAX_HORIZON_S`].
    pub horizon_s: u32,
    /// Units of one lease at most; absent = the limit's [`super::LEASES_PER_LIMIT`]th part.
    pub max_lease: Option<u32>,
    /// What has been handed out of the next window already.
    pub ahead: Option<Ahead>,
}

/// The generation that the next window will be, while leases of it are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Its number: higher than any before it.
    pub generation: Generation,
    /// End of the window that it is for.
    pub window_ends_at: UnixMillis,
    /// Units handed out in it and not credited back.
    pub debited: u64,
}

/// The ledger's row of one stream (holder, meter, rec).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// The last step taken.
    pub seq: u64,
    /// What it was answered.
    pub answer: StoredAnswer,
}

/// An answer with instants instead of durations, so that a repeat counts them anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAnswer {
    /// A lease.
    Granted {
        /// Its id.
        lease: LeaseId,
        /// Its generation.
        generation: Generation,
        /// Its units.
        units: u32,
        /// End of the life that the holder was told.
        spend_until: UnixMillis,
        /// End of its window; absent = a total.
        window_ends_at: Option<UnixMillis>,
        /// Beginning of its window, where that is the next one.
        opens_at: Option<UnixMillis>,
        /// limit − debited after it.
        remaining: u64,
    },
    /// See [`RenewalOutcome::Pending`].
    Pending,
    /// See [`RenewalOutcome::Exhausted`].
    Exhausted {
        /// End of the window; absent = a total.
        window_ends_at: Option<UnixMillis>,
    },
    /// See [`RenewalOutcome::Closed`].
    Closed,
}

/// The ledger's row of the lease that a renewal closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Its id.
    pub id: LeaseId,
    /// The generation that it was debited in.
    pub generation: Generation,
    /// Its units.
    pub units: u32,
    /// From here on its holder certainly spends it no more.
    pub expires_at: UnixMillis,
    /// Whether it may still be given back.
    pub state: LeaseState,
}

/// What has become of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Its holder has it, or had it when it crashed (then its units are withheld).
    Open,
    /// Its holder has given it back.
    Closed,
    /// An operator gave its units to others ([`super::reclaim()`]); a return is refused.
    Reclaimed,
}

/// What a changed limit means to the holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitChange {
    /// Nothing.
    Same,
    /// Announce `Subject::Meter`: kept "exhausted" answers are stale.
    Raised,
    /// Announce `Subject::Recall`: what is held goes back, and what is above the new limit is
    /// not handed out again.
    Lowered,
}

impl MeterRow {
    /// Sets another limit for this generation.
    pub fn set_limit(&mut self, limit: u64) -> LimitChange {
        let change = match limit.cmp(&self.limit) {
            cmp::Ordering::Equal => LimitChange::Same,
            cmp::Ordering::Greater => LimitChange::Raised,
            cmp::Ordering::Less => LimitChange::Lowered,
        };
        self.limit = limit;
        change
    }

    /// Begins another generation, with what was handed out ahead of it.
    pub fn begin(&mut self, roll: Roll) {
        let ahead = self.ahead.take().filter(|ahead| ahead.generation == roll.generation);
        self.generation = roll.generation;
        self.window_ends_at = Some(roll.window_ends_at);
        self.debited = ahead.map_or(0, |ahead| ahead.debited);
        self.recalled_at = None;
    }

    /// Begins another generation in the present window, because an operator says so. What was handed
    /// out of the next window goes on to count there, under a later number: the leases of the first
    /// generation that is returned are of the second one from now on.
    pub fn reset(&mut self, window_ends_at: Option<UnixMillis>) -> Option<(Generation, Generation)> {
        self.debited = 0;
        self.recalled_at = None;
        let next = |generation: Generation| Generation(generation.0.saturating_add(1));
        let same_window = self.window_ends_at == window_ends_at;
        self.window_ends_at = window_ends_at;
        let Some(ahead) = self.ahead.take() else {
            self.generation = next(self.generation);
            return None;
        };
        self.generation = next(ahead.generation);
        if !same_window {
            return None;
        }
        let moved = Ahead { generation: next(self.generation), ..ahead };
        self.ahead = Some(moved);
        Some((ahead.generation, moved.generation))
    }

    /// The row after a step: for a batch that takes several steps on one row, and for tests.
    pub fn apply(&mut self, effects: &Effects, now: UnixMillis) {
        if let Some(roll) = effects.roll {
            self.begin(roll);
        }
        if let Some(close) = effects.close {
            self.credit(close.generation, close.credit);
        }
        if let Some(open) = effects.open {
            self.debit(&open);
        }
        if effects.recall {
            self.recalled_at = Some(now);
        }
    }
}

impl MeterRow {
    /// Whether units of this generation count now or will.
    pub(super) fn counts(&self, generation: Generation) -> bool {
        generation == self.generation || self.ahead.is_some_and(|ahead| ahead.generation == generation)
    }

    pub(super) fn credit(&mut self, generation: Generation, units: u32) {
        match &mut self.ahead {
            Some(ahead) if ahead.generation == generation => {
                ahead.debited = ahead.debited.saturating_sub(u64::from(units));
            }
            Some(_) | None if generation == self.generation => {
                self.debited = self.debited.saturating_sub(u64::from(units));
            }
            Some(_) | None => {}
        }
    }

    fn debit(&mut self, open: &Open) {
        let units = u64::from(open.units);
        match open.ahead_until {
            Some(window_ends_at) => {
                let known = self.ahead.filter(|ahead| ahead.generation == open.generation);
                let debited = known.map_or(0, |ahead| ahead.debited).saturating_add(units);
                self.ahead = Some(Ahead { generation: open.generation, window_ends_at, debited });
            }
            None => self.debited = self.debited.saturating_add(units),
        }
    }
}

impl StoredAnswer {
    /// The answer with its durations counted from `now`, 0 where they are past.
    pub fn at(&self, now: UnixMillis) -> RenewalOutcome {
        match *self {
            Self::Granted { lease, generation, units, spend_until, window_ends_at, opens_at, remaining } => {
                RenewalOutcome::Granted {
                    lease,
                    generation,
                    units,
                    ttl_ms: left_until(Some(spend_until), now).unwrap_or(0),
                    window_left_ms: left_until(window_ends_at, now),
                    opens_in_ms: left_until(opens_at, now),
                    remaining,
                }
            }
            Self::Pending => RenewalOutcome::Pending { retry_ms: RECALL_RETRY_MS },
            Self::Exhausted { window_ends_at } => {
                RenewalOutcome::Exhausted { window_left_ms: left_until(window_ends_at, now) }
            }
            Self::Closed => RenewalOutcome::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::issuer::fixture::{NEW, first, in_ms, known, total};
    use crate::quota::issuer::{Known, renew};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_repeat_counts_its_durations_anew() {
        let meter = MeterRow { window_ends_at: Some(in_ms(100_000)), ..total(1_000, 0) };
        let decided = renew(&known(&meter), &first(5));
        let stream = decided.effects.expect("a step").stream;
        for (later_ms, ttl, window) in
            [(0, 60_000, 100_000), (59_999, 1, 40_001), (60_000, 0, 40_000), (200_000, 0, 0)]
        {
            let question = Known { now: in_ms(later_ms), stream: Some(&stream), ..known(&meter) };
            let repeated = renew(&question, &first(5));
            let RenewalOutcome::Granted { lease, units, ttl_ms, window_left_ms, .. } = repeated.outcome
            else {
                panic!("{repeated:?}")
            };
            assert_eq!((lease, units, ttl_ms, window_left_ms), (NEW, 5, ttl, Some(window)));
            assert_eq!(repeated.effects, None);
        }
    }

    #[test]
    fn a_changed_limit_is_told_apart() {
        for (limit, change) in
            [(100, LimitChange::Same), (101, LimitChange::Raised), (99, LimitChange::Lowered)]
        {
            let mut meter = total(100, 50);
            assert_eq!(meter.set_limit(limit), change);
            assert_eq!((meter.limit, meter.debited), (limit, 50));
        }
    }
}
