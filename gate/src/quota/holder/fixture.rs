//! One node with one bucket, for the tests of the parts of this module.

use alloc::vec::Vec;

use super::{Ask, Installed, Spent};
use crate::id::{ClientKey, Epoch, Generation, LeaseId, MeterId};
use crate::quota::bucket::{Bucket, MeterRecord};
use crate::time::MonoMillis;
use crate::wire::exchange::{Meter, MeterKind, Renewal, RenewalAnswer, RenewalOutcome};

pub const CLIENT: ClientKey = ClientKey([7; 16]);
pub const M: MeterId = MeterId(1);
pub const EPOCH: Epoch = Epoch(9);
pub const LEASE_MS: u64 = 60_000;

pub fn meter(id: u64) -> Meter {
    Meter { id: MeterId(id), kind: MeterKind::ClientQuota, limit: 1_000, window_s: None, horizon_s: 30 }
}

/// One node with one bucket, at a time that tests move.
pub struct Node {
    pub bucket: Bucket,
    pub now: u64,
    pub lease: u64,
}

impl Node {
    pub fn new() -> Self {
        Self { bucket: Bucket::default(), now: 100_000, lease: 0 }
    }

    pub fn at(&self) -> MonoMillis {
        MonoMillis(self.now)
    }

    pub fn spend(&mut self, meters: &[u64]) -> Spent {
        self.spend_at_rate(0, meters)
    }

    pub fn spend_at_rate(&mut self, tps: u32, meters: &[u64]) -> Spent {
        let meters: Vec<_> = meters.iter().map(|id| meter(*id)).collect();
        let ask = Ask { client: CLIENT, tps, meters: &meters, random: self.now << 1 };
        self.bucket.spend(self.at(), &ask)
    }

    pub fn is_admitted(&mut self, meters: &[u64]) -> bool {
        matches!(self.spend(meters), Spent::Admitted { .. })
    }

    pub fn due(&mut self) -> Vec<Renewal> {
        let now = self.at();
        self.bucket.renewals_due(now, true, 100)
    }

    pub fn answer(&mut self, renewal: &Renewal, outcome: RenewalOutcome) -> Installed {
        let answer = RenewalAnswer { meter: renewal.meter, rec: renewal.rec, seq: renewal.seq, outcome };
        let now = self.at();
        self.bucket.install(now, EPOCH, &answer, now)
    }

    pub fn lease(&mut self, units: u32, ttl_ms: u64, window_left_ms: Option<u64>) -> RenewalOutcome {
        self.lease += 1;
        let (lease, generation) = (LeaseId(self.lease), Generation(1));
        RenewalOutcome::Granted {
            lease,
            generation,
            units,
            ttl_ms,
            window_left_ms,
            opens_in_ms: None,
            remaining: 500,
        }
    }

    /// Asks for meter 1 and gets a lease of `units`.
    pub fn holding(units: u32) -> Self {
        let mut node = Self::new();
        assert_eq!(node.spend(&[1]), Spent::Wait { meter: M });
        let due = node.due();
        let outcome = node.lease(units, LEASE_MS, None);
        assert_eq!(node.answer(&due[0], outcome), Installed::Granted);
        node
    }

    pub fn record(&self) -> &MeterRecord {
        self.bucket.record(M).expect("meter 1 has a record")
    }

    pub fn next_due(&self) -> Option<u64> {
        self.bucket.next_due(self.at(), true).map(|at| at.0)
    }
}
