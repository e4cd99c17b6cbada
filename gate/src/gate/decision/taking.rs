//! What a request costs, taken from the shared records of this node: a unit of every meter and one of the
//! client's rate, or nothing.

use alloc::vec::Vec;

use crate::gate::Host;
use crate::gate::feed::Keys;
use crate::grant::HeldGrant;
use crate::quota::bucket::{bucket_of_key, bucket_of_meter};
use crate::quota::holder::{Ask, Left, Spent, Touched, put_back, spend};
use crate::time::MonoMillis;
use crate::wire::exchange::{Meter, MeterKind};

/// One request that takes.
pub(super) struct Taking<'a> {
    pub(super) host: &'a mut dyn Host,
    pub(super) keys: &'a Keys,
    pub(super) now: MonoMillis,
    /// 64 random bits.
    pub(super) random: u64,
    /// When the buckets that were touched want their renewals to be looked at.
    pub(super) due: Vec<(u16, MonoMillis)>,
}

impl Taking<'_> {
    /// All that the grant counts. One step for the client's own; uses of a token lie elsewhere and are taken
    /// before it, and given back where the client's own are not to be had.
    pub(super) fn take(&mut self, grant: &HeldGrant) -> Spent {
        let (wire, own) = (&grant.wire, bucket_of_key(&grant.client_key));
        let lies_elsewhere = |meter: &&Meter| meter.kind == MeterKind::TokenUses;
        if !wire.meters.iter().any(|meter| lies_elsewhere(&meter)) {
            return self.spend(own, grant, wire.tps, &wire.meters);
        }
        let others: Vec<Meter> = wire.meters.iter().filter(|meter| !lies_elsewhere(meter)).cloned().collect();
        let mut taken: Vec<Left> = Vec::new();
        for meter in wire.meters.iter().filter(lies_elsewhere) {
            let bucket = bucket_of_meter(&grant.client_key, meter);
            match self.spend(bucket, grant, 0, core::slice::from_ref(meter)) {
                Spent::Admitted { left, .. } => taken.extend(left),
                used_up @ Spent::Exhausted { .. } => {
                    let told = self.told_before(own, grant, &others).unwrap_or(used_up);
                    return self.refuse(grant, &taken, told);
                }
                refused => return self.refuse(grant, &taken, refused),
            }
        }
        match self.spend(own, grant, wire.tps, &others) {
            Spent::Admitted { tps_left, left } => {
                taken.extend(left);
                Spent::Admitted { tps_left, left: taken }
            }
            refused => self.refuse(grant, &taken, refused),
        }
    }

    /// That the client's own quota is taken is told before a token is said to be used up, where this node knows of
    /// both. The rate is not asked: a call that is refused costs none of it.
    fn told_before(&mut self, own: u16, grant: &HeldGrant, others: &[Meter]) -> Option<Spent> {
        match self.spend(own, grant, 0, others) {
            Spent::Admitted { left, .. } => {
                self.put_back(grant, &left);
                None
            }
            exhausted @ Spent::Exhausted { .. } => Some(exhausted),
            _ => None,
        }
    }

    fn refuse(&mut self, grant: &HeldGrant, taken: &[Left], refused: Spent) -> Spent {
        self.put_back(grant, taken);
        refused
    }

    fn put_back(&mut self, grant: &HeldGrant, taken: &[Left]) {
        for left in taken {
            let meter = grant.wire.meters.iter().find(|meter| meter.id == left.meter);
            if let (Some(meter), Some(lease)) = (meter, left.lease) {
                let bucket = bucket_of_meter(&grant.client_key, meter);
                let key = self.keys.numbered("bucket", u64::from(bucket));
                let touched = put_back(self.host, &key, self.now, meter.id, lease);
                self.note(bucket, touched.and_then(|touched| touched.next_due));
            }
        }
    }

    fn spend(&mut self, bucket: u16, grant: &HeldGrant, tps: u32, meters: &[Meter]) -> Spent {
        let ask = Ask { client: grant.client_key, tps, meters, random: self.random };
        let key = self.keys.numbered("bucket", u64::from(bucket));
        let Touched { result, next_due } = spend(self.host, &key, self.now, &ask);
        self.note(bucket, next_due);
        result
    }

    fn note(&mut self, bucket: u16, next_due: Option<MonoMillis>) {
        self.due.extend(next_due.map(|due| (bucket, due)));
    }
}
