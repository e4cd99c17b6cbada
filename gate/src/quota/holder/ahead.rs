//! When a record fetches a lease of the next window.

use super::{AHEAD_MARGIN_MS, AHEAD_MS};
use crate::quota::bucket::{Kept, MAX_LEASES, MeterRecord};
use crate::time::MonoMillis;

impl MeterRecord {
    /// End of the window that lasts, as far as anything on record tells.
    pub(super) fn window_ends_at(&self, now: MonoMillis) -> Option<MonoMillis> {
        let held = self.leases.iter().rfind(|lease| lease.is_open(now)).map(|lease| lease.window_ends_at);
        let told = match self.kept {
            Some(Kept::Exhausted { window_ends_at, .. }) => window_ends_at,
            Some(Kept::Contended { .. } | Kept::Gone { .. }) | None => None,
        };
        held.unwrap_or(told).filter(|end| now < *end)
    }

    /// When a lease of the next window is fetched; nothing where there is one, or it was asked for.
    pub(super) fn fetches_ahead_at(&self, now: MonoMillis) -> Option<MonoMillis> {
        let end = self.window_ends_at(now)?;
        let asked = now < self.ahead_of;
        let held = self.leases.iter().any(|lease| !lease.is_open(now));
        let room = self.leases.len() < MAX_LEASES || self.leases.iter().any(|lease| lease.left == 0);
        // Each record at a moment of its own: `rec` is drawn by chance.
        let moment = self.rec.0 % (AHEAD_MS - AHEAD_MARGIN_MS);
        let at = MonoMillis(end.0.saturating_sub(AHEAD_MS).saturating_add(moment));
        (!asked && !held && room && now + AHEAD_MARGIN_MS < end).then_some(at)
    }

    pub(super) fn fetches_ahead(&self, now: MonoMillis) -> bool {
        !self.is_idle(now) && self.fetches_ahead_at(now).is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, Rec};
    use crate::quota::holder::fixture::{LEASE_MS, M, Node};
    use crate::quota::holder::{Installed, Spent};
    use crate::wire::exchange::RenewalOutcome;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Meter 1 with `units` of a window that ends in `window_ms`, in demand.
    fn near_the_turn(units: u32, window_ms: u64) -> Node {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let outcome = node.lease(units, window_ms, Some(window_ms));
        node.answer(&due[0], outcome);
        node.bucket.meters[0].rec = Rec(10_000); // 10 s into the last 30
        node
    }

    fn ahead(node: &mut Node, opens_in_ms: u64) -> RenewalOutcome {
        let RenewalOutcome::Granted { lease, units, ttl_ms, remaining, .. } = node.lease(9, 80_000, None)
        else {
            panic!("a lease is granted")
        };
        let (generation, window_left_ms) = (Generation(2), Some(opens_in_ms + 86_400_000));
        let opens_in_ms = Some(opens_in_ms);
        RenewalOutcome::Granted { lease, generation, units, ttl_ms, window_left_ms, opens_in_ms, remaining }
    }

    #[test]
    fn a_lease_of_the_next_window_is_fetched_once_and_opens_when_it_begins() {
        let mut node = near_the_turn(1_000, 40_000);
        for _ in 0..20 {
            node.now += 999;
            assert!(node.is_admitted(&[1]));
            assert_eq!(node.due(), []);
        }
        node.now += 20;
        let due = node.due();
        assert_eq!((due.len(), due[0].ahead, due[0].want > 0, due[0].closed_lease), (1, true, true, None));
        let outcome = ahead(&mut node, 20_000);
        assert_eq!(node.answer(&due[0], outcome), Installed::Granted);
        assert_eq!(node.due(), [], "once");
        for _ in 0..19 {
            node.now += 1_000;
            assert!(node.is_admitted(&[1]));
            assert_eq!(node.record().leases.iter().find(|lease| lease.id.0 == 2).map(|l| l.left), Some(9));
        }
        node.now += 1_000;
        let retry_at = MonoMillis(node.now + 40); // two clocks may differ by 2 in 1,000
        assert_eq!(node.spend(&[1]), Spent::Turning { meter: M, retry_at });
        node.now += 40;
        assert!(node.is_admitted(&[1]), "nobody was asked");
        assert!(node.due().iter().all(|renewal| renewal.want == 0), "the last window's rest goes back");
    }

    #[test]
    fn who_is_refused_at_the_end_of_a_window_has_units_when_it_turns() {
        let mut node = near_the_turn(1, 40_000);
        assert!(node.is_admitted(&[1]));
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: Some(40_000) });
        node.now += 19_000;
        for _ in 0..3 {
            assert!(matches!(node.spend(&[1]), Spent::Exhausted { .. }));
            node.now += 1_000;
        }
        let due = node.due();
        assert!(due[0].ahead);
        let outcome = ahead(&mut node, 18_000);
        node.answer(&due[0], outcome);
        assert!(matches!(node.spend(&[1]), Spent::Exhausted { .. }), "not before the window turns");
        for _ in 0..17 {
            node.now += 1_000;
            node.spend(&[1]);
        }
        node.now += 1_100;
        assert!(node.is_admitted(&[1]));
    }

    #[test]
    fn the_next_windows_lease_stays_and_leaves_the_word_contended_while_requests_wait() {
        let mut node = near_the_turn(1, 15_000);
        let due = node.due();
        let outcome = ahead(&mut node, 15_000);
        node.answer(&due[0], outcome);
        assert!(node.is_admitted(&[1]));
        for _ in 0..60 {
            assert!(!node.is_admitted(&[1]));
            node.now += 100;
            for renewal in node.due() {
                assert_eq!(renewal.unspent, 0, "nothing goes back as idle");
                node.answer(&renewal, RenewalOutcome::Pending { retry_ms: 100 });
            }
        }
        let (now, retry_at) = (node.at(), MonoMillis(node.now + 100));
        node.bucket.recall(now, M, true);
        let back = node.due();
        assert_eq!(back[0].unspent, 9);
        node.answer(&back[0], RenewalOutcome::Closed);
        assert_eq!(node.spend(&[1]), Spent::Contended { meter: M, retry_at });
    }

    #[test]
    fn without_demand_nothing_is_fetched_ahead() {
        let mut node = near_the_turn(1_000, 40_000);
        node.now += 21_000;
        assert!(node.due().iter().all(|renewal| !renewal.ahead && renewal.want == 0));
    }

    #[test]
    fn a_word_of_the_new_generation_opens_what_is_held_ahead_of_it() {
        let mut node = near_the_turn(1, 15_000);
        let due = node.due();
        let outcome = ahead(&mut node, 15_000);
        node.answer(&due[0], outcome);
        assert!(node.is_admitted(&[1]));
        assert!(matches!(node.spend(&[1]), Spent::Wait { .. }));
        let due = node.due();
        let RenewalOutcome::Granted { lease, units, .. } = node.lease(1, LEASE_MS, None) else { return };
        let (generation, window_left_ms) = (Generation(2), Some(86_400_000));
        let outcome = RenewalOutcome::Granted {
            lease,
            generation,
            units,
            ttl_ms: LEASE_MS,
            window_left_ms,
            opens_in_ms: None,
            remaining: 0,
        };
        node.answer(&due[0], outcome);
        for _ in 0..10 {
            assert!(node.is_admitted(&[1]));
        }
        assert!(!node.is_admitted(&[1]));
    }

    #[test]
    fn others_that_wait_do_not_recall_the_next_window_and_a_lowered_limit_does() {
        for lowered in [false, true] {
            let mut node = near_the_turn(5, 15_000);
            let due = node.due();
            let outcome = ahead(&mut node, 15_000);
            node.answer(&due[0], outcome);
            let now = node.at();
            node.bucket.recall(now, M, lowered);
            let first = node.due();
            assert_eq!(first[0].unspent, 5);
            node.answer(&first[0], RenewalOutcome::Closed);
            assert_eq!(node.due().first().map(|renewal| renewal.unspent), lowered.then_some(9));
        }
    }
}
