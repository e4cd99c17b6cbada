//! Calls to the manager: which are under way, and how those of one purpose follow each other.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::exchange::Exchange;
use super::{Answer, Call, CallId, Gate, Host};
use crate::id::{Epoch, Revision};
use crate::time::{MonoMillis, Now};

/// Look-ups that come so soon after an exchange that is under way are asked for together.
pub(super) const GATHER_MS: u64 = 20;

/// A call under way.
pub(super) struct Pending {
    pub(super) purpose: Purpose,
    pub(super) sent: MonoMillis,
    /// When its answer is no longer believed to come: those of a removed root context vanish.
    pub(super) lost_at: MonoMillis,
}

pub(super) enum Purpose {
    Poll { epoch: Epoch, since: Revision },
    Directory { wanted: u64, at: (u64, u64) },
    Exchange(Exchange),
    Decisions { seq: u64 },
}

/// How calls of one purpose follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) under_way: usize,
    pub(super) not_before: MonoMillis,
    pub(super) failures: u32,
    sent_at: MonoMillis,
    /// What this VM's pauses are told from those of others by.
    chance: u64,
}

impl Pace {
    pub(super) const fn new(chance: u64) -> Self {
        Self { under_way: 0, not_before: MonoMillis(0), failures: 0, sent_at: MonoMillis(0), chance }
    }

    pub(super) fn sent(&mut self, now: MonoMillis) {
        self.under_way += 1;
        self.sent_at = now;
    }

    /// Whether one was sent within [`GATHER_MS`] and is under way: its answer will come by here.
    pub(super) fn gathers(&self, now: MonoMillis) -> bool {
        self.under_way > 0 && now < self.sent_at + GATHER_MS
    }

    pub(super) fn answered(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.failures = 0;
    }

    /// Waits 100 ms, twice as long with each failure in a row, 1 s at most; of that at least half, and
    /// then by chance: those who lost the manager together do not come back together.
    pub(super) fn failed(&mut self, now: MonoMillis) {
        self.under_way = self.under_way.saturating_sub(1);
        let half = (50_u64 << self.failures.min(4)).min(500);
        self.not_before = now + half + self.chance.rotate_right(self.failures) % (half + 1);
        self.failures = self.failures.saturating_add(1);
    }
}

impl Gate {
    pub(super) fn give_up_lost_calls(&mut self, host: &mut dyn Host, now: Now) {
        let lost: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| call.lost_at <= now.mono).map(|(id, _)| *id).collect();
        for call in lost {
            self.handle_answer(call, Answer::Failed, host, now);
        }
    }

    pub(super) fn call(
        &mut self,
        purpose: Purpose,
        method: &'static str,
        path: String,
        body: Vec<u8>,
        timeout_ms: u64,
        now: MonoMillis,
    ) -> Call {
        self.next_call += 1;
        let id = CallId(self.next_call);
        let lost_at = now + timeout_ms + 1_000;
        self.calls.insert(id, Box::new(Pending { purpose, sent: now, lost_at }));
        Call { id, method, path, body, timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn pauses_grow_to_a_second_and_differ_between_those_who_failed_together() {
        let pauses = |chance: u64| {
            let mut pace = Pace::new(chance);
            let pause = |_| {
                pace.sent(MonoMillis(1_000));
                pace.failed(MonoMillis(1_000));
                pace.not_before.0 - 1_000
            };
            (0..8).map(pause).collect::<Vec<_>>()
        };
        let (mine, yours) = (pauses(0x0123_4567_89ab_cdef), pauses(0x7edc_ba98_7654_3210));
        assert!(mine.iter().zip(&yours).all(|(mine, yours)| mine != yours), "{mine:?} {yours:?}");
        for (pause, full) in
            mine.iter().chain(&yours).zip([100, 200, 400, 800, 1_000].iter().chain([&1_000; 3]).cycle())
        {
            assert!((full / 2..=*full).contains(pause), "{mine:?} {yours:?}");
        }
    }

    #[test]
    fn what_comes_soon_after_an_exchange_that_is_under_way_waits_for_company() {
        let mut pace = Pace::new(1);
        assert!(!pace.gathers(MonoMillis(5)), "the first goes at once");
        pace.sent(MonoMillis(5));
        assert!(pace.gathers(MonoMillis(4 + GATHER_MS)));
        assert!(!pace.gathers(MonoMillis(5 + GATHER_MS)));
        pace.answered();
        assert!(!pace.gathers(MonoMillis(6)), "nothing is under way whose answer would come by here");
    }
}
