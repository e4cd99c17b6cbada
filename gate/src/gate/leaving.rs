//! How a gate leaves: its listener is removed, or its configuration replaced. Where no other worker goes
//! on with what the node holds, it gives that back first.
//!
//! Whether another one lives is seen by a new sign of life, not by an old one: a worker that trapped has
//! left one too. And nothing is sent in the call by which the host says that it is over, but from the next
//! tick on. Where the process ends, or the VM with its last configuration, there is none: a call would be sent
//! into what is gone.

use alloc::vec::Vec;

use super::slots::{self, Sign};
use super::{Gate, Host};
use crate::quota::bucket::BUCKETS;
use crate::quota::holder;
use crate::time::MonoMillis;

/// How long a sign of life of another worker is waited for: five ticks.
pub const OTHERS_MS: u64 = 500;
/// For so long it is tried to give back; then what is left is withheld.
pub const LEAVE_MS: u64 = 3_000;

/// A gate that leaves.
pub(super) struct Leaving {
    since: MonoMillis,
    /// What others had shown by then.
    signs: Vec<Sign>,
    /// Buckets of which something is still to be given back; none yet: others are waited for.
    buckets: Option<Vec<u16>>,
}

impl Gate {
    /// The host is about to drive this gate no longer: others take over. `false`: not yet, it wants ticks
    /// and answers until [`Gate::has_left`].
    pub fn retire(&mut self, host: &mut dyn Host, now: MonoMillis) -> bool {
        if !self.active {
            return true;
        }
        super::feed::resign(host, &self.keys, self.me);
        self.leads = false;
        if let Some(slot) = self.slot.take() {
            slots::release(host, &self.keys, slot, self.me);
        }
        let signs = slots::signs(host, &self.keys, self.me, now);
        self.leaving = Some(Leaving { since: now, signs, buckets: None });
        false
    }

    /// Whether a gate that was to leave has nothing more to do.
    pub fn has_left(&self) -> bool {
        self.retired
    }

    /// A tick of a gate that leaves.
    pub(super) fn leave(&mut self, host: &mut dyn Host, now: MonoMillis) {
        let Some(leaving) = &mut self.leaving else { return };
        let signs = slots::signs(host, &self.keys, self.me, now);
        let others_live = signs.iter().any(|sign| !leaving.signs.contains(sign));
        if now - leaving.since >= LEAVE_MS {
            return self.end();
        }
        let mut buckets = match leaving.buckets.take() {
            _ if others_live => Vec::new(),
            Some(buckets) => buckets,
            None if !signs.is_empty() && now - leaving.since < OTHERS_MS => return,
            None => (0..BUCKETS).collect(),
        };
        let keys = &self.keys;
        let mut due = Vec::new();
        buckets.retain(|bucket| {
            let given = holder::give_back(host, &keys.numbered("bucket", u64::from(*bucket)), now);
            // In contention beyond reason: with the next tick.
            let Some(touched) = given else { return true };
            due.push((*bucket, touched.next_due));
            touched.result
        });
        for (bucket, next_due) in due {
            self.schedule(bucket, next_due, now);
        }
        // What was counted last is told on the same way.
        let is_told = self.counted.is_empty() && !self.usage.is_due();
        if !is_told && self.exchanges.under_way == 0 {
            self.usage_due_at = now;
        }
        let is_over = buckets.is_empty() && is_told;
        if let Some(leaving) = &mut self.leaving {
            leaving.buckets = Some(buckets);
        }
        if is_over {
            self.end();
        }
    }

    fn end(&mut self) {
        self.leaving = None;
        self.active = false;
        self.retired = true;
    }
}
