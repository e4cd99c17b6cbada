//! What a worker counts for an operator's dashboards. Nothing is said per request: what has
//! changed is told with the tick.
//!
//! A name is `keygate_<metric>` and, for each label, `.<label>.<value>`: the shipped
//! `envoy/envoy.yaml` makes labels of these. Counters of all workers add up; gauges are of one
//! worker (label `worker`) or told by the leader alone.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::calls::Purpose;
use super::streams::WaitFor;
use super::{Effect, Gate};
use crate::time::MonoMillis;

/// What has been counted since it was last told.
#[derive(Default)]
pub(super) struct Metrics {
    pub(super) admitted: u64,
    /// By the beginning of the name, and the value of its last label. Few enough to be looked
    /// through.
    counted: Vec<(&'static str, &'static str, u64)>,
    /// As last told.
    gauges: [Option<u64>; 6],
}

impl Metrics {
    fn add(&mut self, metric: &'static str, value: &'static str, by: u64) {
        match self.counted.iter_mut().find(|(known, of, _)| *known == metric && *of == value) {
            Some((_, _, count)) => *count = count.saturating_add(by),
            None => self.counted.push((metric, value, by)),
        }
    }

    /// `adds`: one more is kept; otherwise it is not, or one that was is not any longer.
    pub(super) fn refused(&mut self, code: &'static str, adds: bool) {
        self.add("keygate_decisions_total.code.", code, 1);
        if !adds {
            self.add("keygate_decisions_not_kept_total", "", 1);
        }
    }

    pub(super) fn called(&mut self, purpose: &Purpose, outcome: &'static str) {
        let metric = match purpose {
            Purpose::Poll { .. } => "keygate_manager_calls_total.kind.poll.outcome.",
            Purpose::Directory { .. } => "keygate_manager_calls_total.kind.directory.outcome.",
            Purpose::Exchange(_) => "keygate_manager_calls_total.kind.exchange.outcome.",
            Purpose::Decisions { .. } => "keygate_manager_calls_total.kind.decisions.outcome.",
        };
        self.add(metric, outcome, 1);
    }

    /// A wait is over: the request goes on, is refused, or is gone.
    pub(super) fn waited(&mut self, what: &WaitFor, ms: u64) {
        let reason = match what {
            WaitFor::Directory => "directory",
            WaitFor::Lookup(_) => "lookup",
            WaitFor::Units(_) => "units",
        };
        self.add("keygate_waits_total.reason.", reason, 1);
        self.add("keygate_waited_ms_total.reason.", reason, ms);
    }

    pub(super) fn looked_up(&mut self, result: &'static str) {
        self.add("keygate_lookups_total.result.", result, 1);
    }

    pub(super) fn usage_given_up(&mut self, calls: u64) {
        self.add("keygate_usage_given_up_total", "", calls);
    }

    pub(super) fn renewals(&mut self, count: usize) {
        if count > 0 {
            self.add("keygate_lease_renewals_total", "", count as u64);
        }
    }

    /// Gauges have another name from now on: with the worker's number.
    pub(super) fn tell_all_gauges(&mut self) {
        self.gauges = [None; 6];
    }

    /// What was counted since the last time.
    fn take(&mut self) -> Vec<(&'static str, &'static str, u64)> {
        let admitted = core::mem::take(&mut self.admitted);
        if admitted > 0 {
            self.add("keygate_decisions_total.code.", super::usage::ADMITTED, admitted);
        }
        core::mem::take(&mut self.counted)
    }
}

impl Gate {
    /// With each tick.
    pub(super) fn tell_metrics(&mut self, now: MonoMillis) {
        for (metric, value, by) in self.metrics.take() {
            self.effects.push_back(Effect::Count { metric: [metric, value].concat(), by });
        }
        let worker = self.slot.map_or_else(|| String::from("none"), |slot| slot.to_string());
        let polled_at = self.feed.polled_at;
        let feed_age_ms = if polled_at.0 == 0 { 0 } else { now - polled_at };
        let gauges = [
            ("keygate_grants_held.worker.", self.cache.len() as u64),
            ("keygate_unknowns_held.worker.", self.unknowns.len() as u64),
            ("keygate_requests_in_flight.worker.", u64::from(self.in_flight)),
            ("keygate_requests_waiting.worker.", self.waiting() as u64),
            ("keygate_feed_age_ms", feed_age_ms),
            ("keygate_feed_revision", self.feed.revision.0),
        ];
        for ((metric, value), told) in gauges.into_iter().zip(&mut self.metrics.gauges) {
            let of_worker = metric.ends_with('.');
            if *told != Some(value) && (of_worker || self.leads) {
                *told = Some(value);
                let worker = if of_worker { worker.as_str() } else { "" };
                self.effects.push_back(Effect::Gauge { metric: [metric, worker].concat(), value });
            }
        }
    }

    fn waiting(&self) -> usize {
        let for_units: usize = self.waiting_for_units.iter().map(|(_, waiting)| waiting.len()).sum();
        self.waiting_for_directory + self.waiting_for_lookups + for_units
    }
}
