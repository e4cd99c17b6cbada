//! What the manager's word does to a record: answers, failed calls, recalls, changed limits.

use core::cmp;

use super::{DRIFT_PER_MILLE, Installed, KEEP_EXHAUSTED_MS, KEEP_GONE_MS, MAX_RETRY_MS, RESEND_MS};
use crate::id::{Epoch, MeterId};
use crate::quota::bucket::{Bucket, Kept, Lease, MAX_LEASES, MeterRecord, Pending};
use crate::time::MonoMillis;
use crate::wire::exchange::{Renewal, RenewalAnswer, RenewalOutcome};

impl Bucket {
    /// See [`super::install`].
    pub fn install(
        &mut self,
        now: MonoMillis,
        epoch: Epoch,
        answer: &RenewalAnswer,
        sent_at: MonoMillis,
    ) -> Installed {
        let named = |record: &MeterRecord| record.meter == answer.meter && record.rec == answer.rec;
        let Some(record) = self.meters.iter_mut().find(|record| named(record)) else {
            return Installed::Ignored;
        };
        let Some(pending) = record.pending.filter(|pending| pending.seq == answer.seq) else {
            return Installed::Ignored;
        };
        let installed = record.install(now, epoch, pending, &answer.outcome, sent_at);
        if installed == Installed::Dropped {
            self.meters.retain(|record| !named(record));
        }
        installed
    }

    /// See [`super::call_failed`].
    pub fn call_failed(&mut self, now: MonoMillis, renewal: &Renewal) {
        let named = |record: &&mut MeterRecord| record.meter == renewal.meter && record.rec == renewal.rec;
        let pending = self.meters.iter_mut().find(named).and_then(|record| record.pending.as_mut());
        if let Some(pending) = pending.filter(|pending| pending.seq == renewal.seq) {
            pending.answer_by = cmp::min(pending.answer_by, now + RESEND_MS);
        }
    }

    /// See [`super::recall`]. Where others wait, a lease that is on its way is not meant: the ledger
    /// granted it knowing who waits, and giving it back unused would let two nodes toss the last unit
    /// to and fro. Nor is one of the next window, whose units nobody can use now.
    pub fn recall(&mut self, now: MonoMillis, meter: MeterId, lowered: bool) {
        for record in self.meters.iter_mut().filter(|record| record.meter == meter) {
            for lease in record.leases.iter_mut().filter(|lease| lowered || lease.is_open(now)) {
                lease.recalled = true;
            }
            if let Some(pending) = &mut record.pending {
                pending.recalled |= lowered;
            }
        }
    }

    /// See [`super::give_back`].
    pub fn give_back(&mut self) -> bool {
        for record in &mut self.meters {
            record.asked = 0;
            record.leases.iter_mut().for_each(|lease| lease.recalled = true);
            if let Some(pending) = &mut record.pending {
                pending.recalled = true;
            }
        }
        self.meters.iter().any(|record| record.pending.is_some() || !record.leases.is_empty())
    }

    /// See [`super::limit_changed`].
    pub fn limit_changed(&mut self, now: MonoMillis, meter: Option<MeterId>) {
        let is_meant = |record: &&mut MeterRecord| meter.is_none_or(|meter| record.meter == meter);
        self.meters.iter_mut().filter(is_meant).for_each(|record| record.doubt(now));
    }
}

impl MeterRecord {
    fn doubt(&mut self, now: MonoMillis) {
        self.kept = match self.kept {
            // Who waits is told this until there is another word; it is asked for at once.
            Some(Kept::Contended { until, recalling }) => {
                Some(Kept::Contended { until: cmp::min(until, now), recalling })
            }
            Some(Kept::Exhausted { .. } | Kept::Gone { .. }) | None => None,
        };
        if let Some(pending) = &mut self.pending {
            pending.doubted = true;
        }
    }

    fn install(
        &mut self,
        now: MonoMillis,
        epoch: Epoch,
        pending: Pending,
        outcome: &RenewalOutcome,
        sent_at: MonoMillis,
    ) -> Installed {
        if self.epoch.is_some_and(|known| known != epoch) {
            return Installed::Dropped;
        }
        let kept = match *outcome {
            RenewalOutcome::Refused => return Installed::Dropped,
            RenewalOutcome::Granted {
                lease,
                generation,
                units,
                ttl_ms,
                window_left_ms,
                opens_in_ms,
                remaining,
            } => {
                if pending.want == 0 || units == 0 || self.leases.len() >= MAX_LEASES {
                    return Installed::Dropped; // no answer to what was asked
                }
                if opens_in_ms.is_none() {
                    // The ledger has begun this generation: what we hold ahead of it is open.
                    for held in self.leases.iter_mut().filter(|held| held.generation == generation) {
                        held.opens_at = MonoMillis(0);
                    }
                }
                self.last_active = cmp::max(self.last_active, now);
                self.leases.push(Lease {
                    id: lease,
                    generation,
                    units,
                    left: units,
                    expires_at: sent_at + ttl_ms,
                    window_ends_at: window_left_ms.map(|left| sent_at + left),
                    ledger_left: remaining,
                    recalled: pending.recalled,
                    // From the arrival on, which is later than the instant that the manager told.
                    opens_at: opens_in_ms.map_or(MonoMillis(0), |left| now + lengthened(left)),
                });
                if opens_in_ms.is_some() { self.kept } else { None }
            }
            RenewalOutcome::Pending { retry_ms } => Some(Kept::Contended {
                // How soon to ask again is told to those who wait; one that asks ahead has time.
                until: now + if pending.waiting { retry_ms.clamp(1, MAX_RETRY_MS) } else { MAX_RETRY_MS },
                recalling: pending.waiting,
            }),
            RenewalOutcome::Exhausted { .. } if pending.doubted => None,
            RenewalOutcome::Exhausted { window_left_ms } => {
                let turns = window_left_ms.map_or(MonoMillis(u64::MAX), |left| sent_at + shortened(left));
                Some(Kept::Exhausted {
                    until: cmp::min(turns, now + KEEP_EXHAUSTED_MS),
                    window_ends_at: window_left_ms.map(|left| sent_at + left),
                })
            }
            RenewalOutcome::Gone => {
                self.leases.clear();
                Some(Kept::Gone { until: now + KEEP_GONE_MS })
            }
            // What it gave back may have ended a "no"; that was seen when it was frozen.
            RenewalOutcome::Closed => self.kept,
        };
        self.epoch = Some(epoch);
        self.seq = pending.seq;
        self.pending = None;
        self.kept = kept;
        self.asked = 0;
        if kept.is_none() && self.leases.iter().any(|lease| lease.has_units(now)) {
            Installed::Granted
        } else {
            Installed::Answered
        }
    }
}

/// A duration of the manager's clock as this clock may safely count it: not to be late.
fn shortened(millis: u64) -> u64 {
    millis - drift_of(millis).min(millis)
}

/// As [`shortened`], not to be early.
fn lengthened(millis: u64) -> u64 {
    millis.saturating_add(drift_of(millis))
}

fn drift_of(millis: u64) -> u64 {
    millis.saturating_mul(DRIFT_PER_MILLE).div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, LeaseId, Rec};
    use crate::quota::holder::fixture::{EPOCH, LEASE_MS, M, Node};
    use crate::quota::holder::{RENEWAL_TIMEOUT_MS, Spent};
    use alloc::vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_failed_call_is_repeated_soon_and_only_while_it_is_the_step_on_its_way() {
        let mut node = Node::new();
        node.spend(&[1]);
        let (due, now) = (node.due(), node.at());
        node.bucket.call_failed(now, &Renewal { seq: 2, ..due[0] });
        assert_eq!(node.next_due(), Some(node.now + RENEWAL_TIMEOUT_MS));
        node.bucket.call_failed(now, &due[0]);
        assert_eq!((node.due(), node.next_due()), (vec![], Some(node.now + RESEND_MS)));
        node.now += RESEND_MS;
        assert_eq!(node.due(), due);
    }

    #[test]
    fn an_answer_is_installed_once_and_only_to_its_step_and_stream() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let outcome = node.lease(3, LEASE_MS, None);
        for wrong in [
            Renewal { seq: 2, ..due[0] },
            Renewal { rec: Rec(5), ..due[0] },
            Renewal { meter: MeterId(4), ..due[0] },
        ] {
            assert_eq!(node.answer(&wrong, outcome), Installed::Ignored);
            assert_eq!(node.answer(&wrong, RenewalOutcome::Refused), Installed::Ignored);
        }
        assert_eq!(node.answer(&due[0], outcome), Installed::Granted);
        assert!(node.is_admitted(&[1]));
        assert_eq!(node.answer(&due[0], outcome), Installed::Ignored);
        assert_eq!(node.record().leases[0].left, 2);
    }

    #[test]
    fn a_lease_counts_from_the_moment_of_sending() {
        let mut node = Node::new();
        node.spend(&[1]);
        let (due, sent_at) = (node.due(), node.at());
        node.now += 400;
        let outcome = node.lease(3, 1_000, None);
        let answer = RenewalAnswer { meter: M, rec: due[0].rec, seq: 1, outcome };
        let now = node.at();
        node.bucket.install(now, EPOCH, &answer, sent_at);
        node.now += 599;
        assert!(node.is_admitted(&[1]));
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M }, "expired at {}", node.now);
    }

    #[test]
    fn a_repeat_that_is_already_past_is_given_back_unused() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let outcome = node.lease(3, 0, None);
        assert_eq!(node.answer(&due[0], outcome), Installed::Answered);
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        let next = node.due();
        assert_eq!((next[0].closed_lease, next[0].unspent, next[0].seq), (Some(LeaseId(1)), 3, 2));
        assert_eq!(next[0].epoch, Some(EPOCH));
    }

    #[test]
    fn a_recall_means_what_is_held_not_what_is_on_its_way() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let now = node.at();
        node.bucket.recall(now, M, false);
        let outcome = node.lease(3, LEASE_MS, None);
        node.answer(&due[0], outcome);
        assert_eq!(node.due(), []);
    }

    #[test]
    fn a_lowered_limit_has_what_is_on_its_way_go_back_once() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let now = node.at();
        node.bucket.recall(now, M, true);
        let outcome = node.lease(3, LEASE_MS, None);
        assert_eq!(node.answer(&due[0], outcome), Installed::Granted);
        assert!(node.is_admitted(&[1]), "who waited is served");
        let back = node.due();
        assert_eq!((back[0].closed_lease, back[0].unspent), (Some(LeaseId(1)), 2));
        let outcome = node.lease(3, LEASE_MS, None);
        node.answer(&back[0], RenewalOutcome::Closed);
        node.spend(&[1]);
        let again = node.due();
        node.answer(&again[0], outcome);
        assert_eq!(node.due(), [], "what was granted since stays");
    }

    #[test]
    fn missed_news_clear_every_kept_no_and_those_on_their_way() {
        for on_its_way in [false, true] {
            let mut node = Node::new();
            node.spend(&[1, 2]);
            let due = node.due();
            let now = node.at();
            if on_its_way {
                node.bucket.limit_changed(now, None);
            }
            for renewal in &due {
                node.answer(renewal, RenewalOutcome::Exhausted { window_left_ms: None });
            }
            if !on_its_way {
                node.bucket.limit_changed(now, None);
            }
            assert!(matches!(node.spend(&[1, 2]), Spent::Wait { .. }), "{on_its_way}");
            assert_eq!(node.due().len(), 2, "{on_its_way}");
        }
    }

    #[test]
    fn exhausted_is_kept_until_the_window_turns_and_then_waits_without_a_refusal() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: Some(5_000) });
        assert_eq!(node.spend(&[1]), Spent::Exhausted { meter: M, retry_after_ms: Some(5_000) });
        node.bucket.meters[0].ahead_of = MonoMillis(node.now + 5_000); // nothing is fetched ahead here
        assert_eq!(node.due(), []);
        node.now += 4_989;
        assert_eq!(node.spend(&[1]), Spent::Exhausted { meter: M, retry_after_ms: Some(11) });
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        assert_eq!(node.due().len(), 1);
    }

    #[test]
    fn exhausted_totals_are_asked_for_anew_after_a_while() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: None });
        node.now += KEEP_EXHAUSTED_MS - 1;
        assert_eq!(node.spend(&[1]), Spent::Exhausted { meter: M, retry_after_ms: None });
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
    }

    #[test]
    fn a_changed_limit_clears_exhausted_kept_or_on_its_way() {
        for on_its_way in [false, true] {
            let mut node = Node::new();
            node.spend(&[1]);
            let due = node.due();
            let now = node.at();
            if on_its_way {
                node.bucket.limit_changed(now, Some(M));
            }
            node.answer(&due[0], RenewalOutcome::Exhausted { window_left_ms: None });
            if !on_its_way {
                node.bucket.limit_changed(now, Some(M));
            }
            assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
            assert_eq!(node.due().len(), 1);
        }
    }

    #[test]
    fn a_changed_limit_has_contended_asked_again_at_once_and_leaves_it_told() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Pending { retry_ms: 100 });
        let now = node.at();
        node.bucket.limit_changed(now, Some(M));
        assert_eq!(node.spend(&[1]), Spent::Contended { meter: M, retry_at: now });
        assert_eq!(node.due().len(), 1);
    }

    #[test]
    fn refused_other_epoch_and_nonsense_drop_the_record() {
        let lease = |units, lease| RenewalOutcome::Granted {
            lease: LeaseId(lease),
            generation: Generation(1),
            units,
            ttl_ms: 1,
            window_left_ms: None,
            opens_in_ms: None,
            remaining: 0,
        };
        for (case, epoch, outcome) in [
            ("refused", EPOCH, RenewalOutcome::Refused),
            ("restored database", Epoch(10), lease(1, 2)),
            ("empty lease", EPOCH, lease(0, 2)),
        ] {
            let mut node = Node::holding(3);
            assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
            let due = node.due();
            let answer = RenewalAnswer { meter: M, rec: due[0].rec, seq: due[0].seq, outcome };
            let now = node.at();
            assert_eq!(node.bucket.install(now, epoch, &answer, now), Installed::Dropped, "{case}");
            node.now += 1;
            assert_eq!(node.spend(&[1]), Spent::Wait { meter: M }, "{case}");
            assert_eq!(node.record().seq, 0, "{case}");
            assert_ne!(node.record().rec, due[0].rec, "{case}");
        }
    }

    #[test]
    fn a_deleted_meter_asks_for_a_new_grant() {
        let mut node = Node::holding(3);
        assert!(node.is_admitted(&[1]) && node.is_admitted(&[1]));
        let due = node.due();
        node.answer(&due[0], RenewalOutcome::Gone);
        assert_eq!(node.spend(&[1]), Spent::Gone { meter: M });
        node.now += KEEP_GONE_MS;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
    }

    #[test]
    fn a_lease_ends_with_its_window() {
        let mut node = Node::new();
        node.spend(&[1]);
        let due = node.due();
        let outcome = node.lease(3, 5_000, Some(5_000));
        node.answer(&due[0], outcome);
        node.now += 4_999;
        assert!(node.is_admitted(&[1]));
        node.now += 1;
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        let due = node.due();
        assert_eq!((due[0].closed_lease, due[0].unspent, due[0].want > 0), (Some(LeaseId(1)), 2, true));
    }
}
