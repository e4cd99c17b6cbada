//! Calls to the manager: which are under way, and how those of one purpose follow each other.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::exchange::Exchange;
use super::{Answer, Call, CallId, Gate, Host};
use crate::id::{Epoch, Revision};
use crate::time::{MonoMillis, Now};

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
}

/// How calls of one purpose follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) under_way: usize,
    pub(super) not_before: MonoMillis,
    pub(super) failures: u32,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { under_way: 0, not_before: MonoMillis(0), failures: 0 }
    }

    pub(super) fn sent(&mut self) {
        self.under_way += 1;
    }

    pub(super) fn answered(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.failures = 0;
    }

    /// Waits 100 ms, twice as long with each failure in a row, 1 s at most.
    pub(super) fn failed(&mut self, now: MonoMillis) {
        self.under_way = self.under_way.saturating_sub(1);
        self.not_before = now + (100_u64 << self.failures.min(4)).min(1_000);
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
