//! When a record asks for units or gives a lease back, and what it then freezes.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp;

use super::{IDLE_MS, RENEW_AHEAD_MS, RENEWAL_TIMEOUT_MS, WINDOW_TAIL_MS};
use crate::quota::bucket::{Bucket, Kept, Lease, MAX_LEASES, MeterRecord, Pending};
use crate::time::MonoMillis;
use crate::wire::exchange::Renewal;

impl Bucket {
    /// See [`super::renewals_due`].
    pub fn renewals_due(&mut self, now: MonoMillis, connected: bool, room: usize) -> Vec<Renewal> {
        self.meters.retain(|record| !record.is_forgettable(now));
        let mut due = vec![];
        for record in &mut self.meters {
            if due.len() >= room {
                break;
            }
            let send = match &mut record.pending {
                Some(pending) if pending.answer_by <= now => {
                    pending.answer_by = now + RENEWAL_TIMEOUT_MS;
                    true
                }
                Some(_) => false,
                None => record.freeze(now, connected),
            };
            due.extend(record.renewal().filter(|_| send));
        }
        due
    }

    /// When [`Bucket::renewals_due`] has something to do; cut off, idle leases are nothing to do.
    pub fn next_due(&self, now: MonoMillis, connected: bool) -> Option<MonoMillis> {
        self.meters.iter().map(|record| record.next_due(now, connected)).min()
    }
}

impl MeterRecord {
    pub(super) fn is_idle(&self, now: MonoMillis) -> bool {
        self.asked == 0 && now - self.last_active >= IDLE_MS
    }

    /// Nothing held, nothing on its way, nothing to remember: all that its stream was ever
    /// granted has been given back, and that was acknowledged.
    fn is_forgettable(&self, now: MonoMillis) -> bool {
        self.pending.is_none()
            && self.leases.is_empty()
            && self.kept.is_none_or(|kept| kept.until() <= now)
            && self.is_idle(now)
    }

    /// Makes the next step, if there is a reason: a lease that must go back, or units wanted.
    fn freeze(&mut self, now: MonoMillis, connected: bool) -> bool {
        let idle = connected && self.is_idle(now);
        let must_go = self.leases.iter().position(|lease| idle || lease.recalled || lease.is_over(now));
        let goes_back = must_go.and_then(|at| self.leases.get(at));
        if goes_back.is_some_and(|lease| lease.left > 0 && lease.is_open(now)) {
            // Whatever the ledger said before, it has units again once it has these.
            self.kept = None;
        }
        let (want, ahead) = self.wanted_now_or_ahead(now);
        if must_go.is_none() && want == 0 {
            return false;
        }
        if ahead {
            self.ahead_of = self.window_ends_at(now).unwrap_or(now);
        }
        let closing = must_go.or_else(|| self.leases.iter().position(|lease| lease.left == 0));
        let closed = closing.filter(|at| *at < self.leases.len()).map(|at| self.leases.remove(at));
        self.pending = Some(Pending {
            seq: self.seq.saturating_add(1),
            closed_lease: closed.map(|lease| lease.id),
            unspent: closed.map_or(0, |lease| lease.left),
            want,
            waiting: self.asked > 0,
            answer_by: now + RENEWAL_TIMEOUT_MS,
            doubted: false,
            recalled: false,
            ahead,
        });
        true
    }

    /// Units to ask for, and whether of the next window.
    fn wanted_now_or_ahead(&self, now: MonoMillis) -> (u32, bool) {
        match self.wanted(now) {
            0 if self.fetches_ahead(now) => (self.demand_of_horizon(now), true),
            want => (want, false),
        }
    }

    /// Units of the present window to ask for now; 0 = none.
    fn wanted(&self, now: MonoMillis) -> u32 {
        let waiting = self.asked > 0;
        let refused = self.kept.is_some_and(|kept| match kept {
            Kept::Contended { until, recalling } => now < until && (recalling || !waiting),
            Kept::Exhausted { until, .. } | Kept::Gone { until } => now < until,
        });
        if refused {
            return 0;
        }
        let staying = || self.leases.iter().filter(|lease| !lease.recalled && lease.is_open(now));
        let units: u64 = staying().filter(|l| l.has_units(now)).map(|l| u64::from(l.left)).sum();
        if waiting && units == 0 {
            // While units are being recalled, only those who wait get one.
            let recalled = self.leases.iter().any(|lease| lease.recalled);
            return if recalled { self.asked } else { cmp::max(self.asked, self.demand_of_horizon(now)) };
        }
        let open = || self.leases.iter().filter(|lease| lease.is_open(now) && !lease.is_over(now));
        let room = self.leases.iter().any(|lease| lease.left == 0)
            || (open().count() < MAX_OPEN && self.leases.len() < MAX_LEASES);
        let ahead = staying().rfind(|lease| !lease.is_over(now)).is_some_and(|newest| {
            // Three quarters of a horizon: an outage that begins at the worst moment is survived for so long.
            // One call is no demand: what it was given goes back.
            let grown = if self.demand.per_s(now) > 1 { self.demand_of_horizon(now) } else { 0 };
            let full = u64::from(cmp::max(newest.units, grown));
            // Leases of one unit: the end is near, and every unit goes to a request that waits.
            let drained = newest.units > 1 && units.saturating_mul(4) <= full.saturating_mul(3);
            drained || self.renews_ahead_at(newest).is_some_and(|at| at <= now)
        });
        if room && ahead && !self.is_idle(now) { self.demand_of_horizon(now) } else { 0 }
    }

    /// When a lease in demand is succeeded because of its age; never where its window, and with
    /// it the next one, ends then.
    fn renews_ahead_at(&self, lease: &Lease) -> Option<MonoMillis> {
        let goes_on = lease.window_ends_at.is_none_or(|end| end > lease.expires_at + WINDOW_TAIL_MS);
        let ahead_ms = cmp::max(RENEW_AHEAD_MS, u64::from(self.horizon_s) * 1_000);
        goes_on.then_some(MonoMillis(lease.expires_at.0.saturating_sub(ahead_ms)))
    }

    /// Units that the lease horizon's demand needs, at least 1.
    fn demand_of_horizon(&self, now: MonoMillis) -> u32 {
        let units = u64::from(self.demand.per_s(now)).saturating_mul(u64::from(self.horizon_s));
        u32::try_from(units).unwrap_or(u32::MAX).max(1)
    }

    fn next_due(&self, now: MonoMillis, connected: bool) -> MonoMillis {
        if let Some(pending) = &self.pending {
            return pending.answer_by;
        }
        if self.wanted_now_or_ahead(now).0 > 0 {
            return now;
        }
        let kept_until = self.kept.map(|kept| kept.until()).filter(|until| now < *until);
        let fetches = self.fetches_ahead_at(now).filter(|at| now < *at);
        if self.leases.is_empty() && self.asked == 0 {
            let forgotten = cmp::max(self.last_active + IDLE_MS, kept_until.unwrap_or(MonoMillis(0)));
            return fetches.map_or(forgotten, |at| cmp::min(at, forgotten));
        }
        let idle = (connected && self.asked == 0).then_some(self.last_active + IDLE_MS);
        let asks = kept_until.filter(|_| self.asked > 0);
        let leases = self.leases.iter().map(|lease| {
            let over = cmp::min(lease.expires_at, lease.window_ends_at.unwrap_or(lease.expires_at));
            let ahead = self.renews_ahead_at(lease).filter(|at| now < *at);
            if lease.recalled { now } else { ahead.map_or(over, |at| cmp::min(at, over)) }
        });
        leases.chain(idle).chain(asks).chain(fetches).min().unwrap_or(now)
    }
}

/// Of the present window a record holds two leases at most: what dies with a process is no more.
const MAX_OPEN: usize = MAX_LEASES - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LeaseId;
    use crate::quota::holder::fixture::{LEASE_MS, M, Node};
    use crate::quota::holder::{Installed, MAX_RETRY_MS, Spent};
    use crate::wire::exchange::RenewalOutcome;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn an_unanswered_renewal_is_sent_again_unchanged_by_anybody() {
        let mut node = Node::new();
        node.spend(&[1]);
        let first = node.due();
        node.now += RENEWAL_TIMEOUT_MS - 1;
        node.spend(&[1]);
        assert_eq!(node.due(), []);
        node.now += 1;
        assert_eq!(node.due(), first);
        assert_eq!(node.next_due(), Some(node.now + RENEWAL_TIMEOUT_MS));
    }

    #[test]
    fn at_three_quarters_of_a_horizon_the_next_lease_is_fetched_while_this_one_goes_on() {
        let mut node = Node::holding(240);
        for _ in 0..10 {
            assert!(node.is_admitted(&[1]));
            assert_eq!(node.due(), []);
        }
        assert!(node.is_admitted(&[1]));
        assert_eq!(node.next_due(), Some(node.now), "229 left are less than three quarters of 11 × 30");
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].waiting), (None, false));
        assert_eq!(due[0].want, 11 * 30, "11 a second over the horizon");
        assert!(node.is_admitted(&[1]), "the rest is spent meanwhile");
        let outcome = node.lease(9, LEASE_MS, None);
        node.answer(&due[0], outcome);
        for _ in 0..237 {
            assert!(node.is_admitted(&[1]));
        }
        assert!(!node.is_admitted(&[1]));
    }

    /// What a restart of the manager rests on, at whatever moment it begins.
    #[test]
    fn a_node_that_got_what_it_asked_for_goes_on_alone_for_20_s() {
        const STEP_MS: u64 = 250;
        /// Demand that has been the same for the life of a lease is what all leases are sized for.
        const STEADY: u64 = LEASE_MS / STEP_MS;
        for calls in [1, 3, 20] {
            let mut node = Node::new();
            for step in 0..6 * STEADY {
                // Less for some time, so that leases grow old.
                let quiet = (2 * STEADY..4 * STEADY).contains(&step);
                let calls_at = |step: u64| if quiet { u64::from(step.is_multiple_of(4)) } else { calls };
                if step % (2 * STEADY) >= STEADY {
                    let mut alone = Node { bucket: node.bucket.clone(), ..node };
                    for later in step..step + 20_000 / STEP_MS {
                        for _ in 0..calls_at(later) {
                            assert!(alone.is_admitted(&[1]), "{calls} a step, alone from {step} to {later}");
                        }
                        let now = alone.at();
                        alone.bucket.renewals_due(now, false, 100);
                        alone.now += STEP_MS;
                    }
                }
                for _ in 0..calls_at(step) {
                    node.spend(&[1]);
                }
                while let Some(renewal) = node.due().first().copied() {
                    let outcome = match renewal.want {
                        0 => RenewalOutcome::Closed,
                        want => node.lease(want, LEASE_MS, None),
                    };
                    node.answer(&renewal, outcome);
                }
                node.now += STEP_MS;
            }
        }
    }

    /// What the manager cuts short, for it bounds the loss of a crash, an outage ends earlier.
    #[test]
    fn a_node_whose_leases_are_cut_short_goes_on_alone_with_one_or_two_of_them() {
        for (cut, calls, ms) in [(100, 5, 250), (10, 1, 1_000), (7, 3, 250), (1, 1, 1_000)] {
            let mut node = Node::new();
            let (mut least, mut most) = (u64::MAX, 0);
            for step in 0..4 * LEASE_MS / ms {
                if step >= 2 * LEASE_MS / ms {
                    let mut alone = Node { bucket: node.bucket.clone(), ..node };
                    let mut admitted = 0;
                    while alone.is_admitted(&[1]) {
                        admitted += 1;
                    }
                    (least, most) = (least.min(admitted), most.max(admitted));
                }
                for _ in 0..calls {
                    node.spend(&[1]);
                }
                while let Some(renewal) = node.due().first().copied() {
                    let outcome = match renewal.want {
                        0 => RenewalOutcome::Closed,
                        want => node.lease(want.min(cut), LEASE_MS, None),
                    };
                    node.answer(&renewal, outcome);
                }
                node.now += ms;
            }
            let cut = u64::from(cut);
            assert!(most <= 2 * cut, "{most} of {cut}");
            // Leases of one unit are not fetched ahead; with little demand the next one is at three quarters.
            assert!(cut == 1 || 4 * least >= 3 * cut, "{least} of {cut}");
        }
    }

    #[test]
    fn the_spent_lease_is_closed_by_the_next_renewal() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        let outcome = node.lease(3, LEASE_MS, None);
        node.answer(&due[0], outcome);
        for _ in 0..3 {
            assert!(node.is_admitted(&[1]));
        }
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent), (Some(LeaseId(1)), 0));
    }

    #[test]
    fn a_lease_of_one_unit_is_not_renewed_ahead() {
        let mut node = Node::holding(1);
        assert!(node.is_admitted(&[1]));
        assert_eq!(node.due(), []);
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        assert_eq!(node.due()[0].closed_lease, Some(LeaseId(1)));
    }

    #[test]
    fn a_lease_in_demand_is_succeeded_before_it_expires() {
        let mut node = Node::holding(100);
        node.now += LEASE_MS - RENEW_AHEAD_MS;
        assert!(node.is_admitted(&[1]));
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].want > 0), (None, true));
        let outcome = node.lease(100, LEASE_MS, None);
        node.answer(&due[0], outcome);
        node.now += RENEW_AHEAD_MS;
        assert!(node.is_admitted(&[1]));
        let back = node.due();
        assert_eq!((back[0].closed_lease, back[0].unspent), (Some(LeaseId(1)), 99));
        assert!(back[0].want > 0, "the second is half way through its life too");
        assert!(node.is_admitted(&[1]));
    }

    #[test]
    fn idle_leases_go_back_and_then_the_record_is_forgotten() {
        let mut node = Node::holding(5);
        assert!(node.is_admitted(&[1]));
        assert_eq!(node.next_due(), Some(node.now + IDLE_MS));
        node.now += IDLE_MS - 1;
        assert_eq!(node.due(), []);
        node.now += 1;
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent, due[0].want), (Some(LeaseId(1)), 4, 0));
        assert_eq!(node.bucket.meters.len(), 1, "not before it is acknowledged");
        assert_eq!(node.answer(&due[0], RenewalOutcome::Closed), Installed::Answered);
        assert_eq!(node.due(), []);
        assert_eq!(node.bucket, Bucket::default());
        assert_eq!(node.next_due(), None);
    }

    #[test]
    fn cut_off_idle_leases_stay() {
        let mut node = Node::holding(5);
        node.now += IDLE_MS;
        let now = node.at();
        assert_eq!(node.bucket.renewals_due(now, false, 100), []);
        assert_eq!(node.next_due(), Some(node.now), "at once, when connected again");
        let succeeded_at = MonoMillis(node.now - IDLE_MS + LEASE_MS - RENEW_AHEAD_MS);
        assert_eq!(node.bucket.next_due(now, false), Some(succeeded_at), "no busy waiting meanwhile");
        assert!(node.is_admitted(&[1]));
    }

    #[test]
    fn a_closed_lease_is_spent_no_more() {
        let mut node = Node::holding(5);
        let now = node.at();
        node.bucket.recall(now, M, false);
        assert!(node.is_admitted(&[1]), "until it is closed");
        assert_eq!(node.next_due(), Some(node.now));
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent, due[0].want), (Some(LeaseId(1)), 4, 0));
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
    }

    #[test]
    fn two_recalled_leases_go_back_one_after_the_other() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        let outcome = node.lease(7, LEASE_MS, None);
        node.answer(&due[0], outcome);
        let now = node.at();
        node.bucket.recall(now, M, false);
        let first = node.due();
        assert_eq!((first[0].closed_lease, first[0].unspent, first[0].want), (Some(LeaseId(1)), 1, 0));
        node.answer(&first[0], RenewalOutcome::Closed);
        let second = node.due();
        assert_eq!((second[0].closed_lease, second[0].unspent, second[0].want), (Some(LeaseId(2)), 7, 0));
    }

    #[test]
    fn contended_is_asked_for_again_when_the_answer_says() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Pending { retry_ms: 100 });
        let retry_at = MonoMillis(node.now + 100);
        assert_eq!(node.spend(&[1]), Spent::Contended { meter: M, retry_at });
        assert_eq!((node.due(), node.next_due()), (vec![], Some(retry_at.0)));
        node.now += 100;
        assert_eq!(node.due()[0].seq, 2);
    }

    #[test]
    fn contended_is_told_until_the_next_answer_is_overdue() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Pending { retry_ms: 100 });
        assert!(matches!(node.spend(&[1]), Spent::Contended { .. }));
        node.now += 100;
        assert_eq!(node.due()[0].seq, 2);
        let retry_at = MonoMillis(node.now);
        assert_eq!(
            node.spend(&[1]),
            Spent::Contended { meter: M, retry_at },
            "the next answer is on its way"
        );
        node.now += MAX_RETRY_MS - 1;
        assert_eq!(node.spend(&[1]), Spent::Contended { meter: M, retry_at });
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M }, "the ledger says nothing any more");
    }

    #[test]
    fn who_asks_ahead_near_the_end_does_not_ask_again_in_haste() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        assert!(!due[0].waiting);
        node.answer(&due[0], RenewalOutcome::Pending { retry_ms: 100 });
        // Nobody waits: how soon those who do may ask again is not meant for us.
        let mut asked_after = 0;
        while node.due().is_empty() {
            node.now += 100;
            asked_after += 100;
            node.bucket.meters[0].last_active = node.at();
        }
        assert_eq!(asked_after, MAX_RETRY_MS);
    }

    #[test]
    fn a_renewal_ahead_that_recalled_nobody_does_not_hold_up_who_waits() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Pending { retry_ms: 100 });
        assert_eq!(node.due(), []);
        assert!(node.is_admitted(&[1]));
        assert!(matches!(node.spend(&[1]), Spent::Contended { .. }));
        let again = node.due();
        assert!(again[0].waiting, "now the others are recalled");
    }

    #[test]
    fn what_this_node_gives_back_it_may_ask_for() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: None });
        node.now += LEASE_MS;
        node.bucket.meters[0].kept =
            Some(Kept::Exhausted { until: MonoMillis(u64::MAX), window_ends_at: None });
        assert!(matches!(node.spend(&[1]), Spent::Exhausted { .. }));
        let back = node.due();
        assert_eq!((back[0].closed_lease, back[0].unspent), (Some(LeaseId(1)), 1));
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
    }

    #[test]
    fn renewals_stop_at_the_room_of_an_exchange_and_the_rest_follows() {
        let mut node = Node::new();
        for id in 1..=5 {
            node.spend(&[id]);
        }
        let now = node.at();
        assert_eq!(node.bucket.renewals_due(now, true, 3).len(), 3);
        assert_eq!(node.bucket.renewals_due(now, true, 3).len(), 2);
        assert_eq!(node.bucket.renewals_due(now, true, 3).len(), 0);
    }
}
