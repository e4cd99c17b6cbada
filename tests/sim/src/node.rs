//! One Envoy process: shared records, and workers that use them through compare-and-swap while
//! others write in between.

use std::collections::BTreeMap;

use gate::id::{ClientKey, Epoch, HolderId, MeterId};
use gate::quota::bucket::Bucket;
use gate::quota::holder::{self, Ask, Installed, Spent, Touched};
use gate::shared::{Cas, CasMismatch, Shared};
use gate::time::{MonoMillis, UnixMillis};
use gate::wire::exchange::{Meter, Renewal, RenewalAnswer, RenewalOutcome};

use crate::clock::{Clock, True};
use crate::faults::Fault;
use crate::reference::{Op, Reference};
use crate::rng::Rng;

/// Who calls, and what it takes.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The client.
    pub client: ClientKey,
    /// Requests per second and node; 0 = unlimited.
    pub tps: u32,
    /// The meters of its credential.
    pub meters: Vec<Meter>,
    /// The shared key of its bucket.
    pub bucket: usize,
}

/// A request that stands waiting.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Index of its [`Caller`].
    pub caller: usize,
    /// When its patience ends.
    pub deadline: True,
}

/// One worker's memory: lost when its VM traps.
#[derive(Default)]
pub struct Vm {
    /// Counts the VMs that this worker has had.
    pub life: u32,
    /// Requests that wait here.
    pub waiting: Vec<Waiting>,
}

/// One process.
pub struct Node {
    /// Another one after each crash.
    pub holder: HolderId,
    /// Counts its crashes.
    pub life: u32,
    /// Its monotonic clock.
    pub clock: Clock,
    /// Nothing comes or goes until then.
    pub cut_off_until: True,
    /// Its workers.
    pub vms: Vec<Vm>,
    records: Records,
}

/// What surrounds one operation.
pub struct Surroundings<'a> {
    /// The books.
    pub reference: &'a mut Reference,
    /// Chance.
    pub rng: &'a mut Rng,
    /// What is broken.
    pub fault: Fault,
    /// By the node's clock.
    pub now: MonoMillis,
    /// By the manager's clock, for the books.
    pub manager_now: UnixMillis,
    /// Who may send a request to another worker in the middle of this operation.
    pub callers: &'a [Caller],
    /// Per thousand writes: how often somebody does.
    pub interference: u64,
}

type Records = BTreeMap<Vec<u8>, (Vec<u8>, Cas)>;

impl Node {
    /// A process that has just started.
    pub fn start(number: u64, life: u32, clock: Clock, workers: usize) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id[8..12].copy_from_slice(&life.to_be_bytes());
        Self {
            holder: HolderId(id),
            life,
            clock,
            cut_off_until: 0,
            vms: (0..workers).map(|_| Vm::default()).collect(),
            records: BTreeMap::new(),
        }
    }

    /// One request, on any worker.
    pub fn spend(&mut self, caller: &Caller, around: Surroundings<'_>) -> Touched<Spent> {
        spend(self.holder, &mut self.records, caller, around)
    }

    /// Renewals to send now.
    pub fn renewals_due(
        &mut self,
        bucket: usize,
        connected: bool,
        around: Surroundings<'_>,
    ) -> Option<Touched<Vec<Renewal>>> {
        let now = around.now;
        if around.fault == Fault::ImpatientNode {
            forget_unanswered(&mut self.records, bucket, now);
        }
        let (before, fault) = (self.bucket(bucket), around.fault);
        let mut shared = WorkerShared::new(self.holder, &mut self.records, Op::Freeze, around);
        let due = holder::renewals_due(&mut shared, &key(bucket), now, connected, 100);
        if fault == Fault::ClosedLeaseStays {
            put_back(&mut self.records, bucket, &before);
        }
        due
    }

    /// An answer has arrived.
    pub fn install(
        &mut self,
        bucket: usize,
        epoch: Epoch,
        answer: &RenewalAnswer,
        sent_at: MonoMillis,
        around: Surroundings<'_>,
    ) -> Option<Touched<Installed>> {
        let now = around.now;
        let is_lease = matches!(answer.outcome, RenewalOutcome::Granted { .. });
        let sent_at = if around.fault == Fault::ExpiryFromArrival && is_lease { now } else { sent_at };
        let mut shared = WorkerShared::new(self.holder, &mut self.records, Op::Install, around);
        holder::install(&mut shared, &key(bucket), now, epoch, answer, sent_at)
    }

    /// A recall, or (`raised`) a limit that was raised.
    pub fn hear(&mut self, bucket: usize, meter: MeterId, raised: bool, around: Surroundings<'_>) {
        let now = around.now;
        let mut shared = WorkerShared::new(self.holder, &mut self.records, Op::Feed, around);
        if raised {
            holder::limit_changed(&mut shared, &key(bucket), now, meter);
        } else {
            holder::recall(&mut shared, &key(bucket), now, meter);
        }
    }

    /// When a bucket wants attention.
    pub fn next_due(&mut self, bucket: usize, now: MonoMillis) -> Option<MonoMillis> {
        self.bucket(bucket).next_due(now, true)
    }

    /// What the workers share about a bucket.
    pub fn bucket(&self, bucket: usize) -> Bucket {
        self.records.get(&key(bucket)).map(|(value, _)| decode(value)).unwrap_or_default()
    }
}

fn spend(
    holder: HolderId,
    records: &mut Records,
    caller: &Caller,
    around: Surroundings<'_>,
) -> Touched<Spent> {
    let now = around.now;
    let random = around.rng.bits();
    let ask = Ask { client: caller.client, tps: caller.tps, meters: &caller.meters, random };
    let mut shared = WorkerShared::new(holder, records, Op::Spend, around);
    let touched = holder::spend(&mut shared, &key(caller.bucket), now, &ask);
    let asked: Vec<MeterId> = caller.meters.iter().map(|meter| meter.id).collect();
    let (taken, around) = (shared.taken, shared.around);
    let admitted = matches!(touched.result, Spent::Admitted { .. });
    around.reference.decided(admitted, &asked, &taken);
    match touched.result {
        Spent::Admitted { .. } => around.reference.admitted_at_rate(holder, caller.client, caller.tps, now),
        Spent::Exhausted { meter, .. } => {
            around.reference.refused_as_exhausted(holder, meter, around.manager_now);
        }
        _ => {}
    }
    touched
}

fn key(bucket: usize) -> Vec<u8> {
    format!("kg:bucket:{bucket}").into_bytes()
}

fn decode(value: &[u8]) -> Bucket {
    Bucket::decode(value).expect("only encoded buckets are written here")
}

/// [`Fault::ImpatientNode`].
fn forget_unanswered(records: &mut Records, bucket: usize, now: MonoMillis) {
    if let Some((value, _)) = records.get_mut(&key(bucket)) {
        let mut bucket = decode(value);
        for record in &mut bucket.meters {
            if record.pending.is_some_and(|pending| pending.answer_by <= now) {
                record.pending = None;
            }
        }
        *value = bucket.encode();
    }
}

/// [`Fault::ClosedLeaseStays`].
fn put_back(records: &mut Records, bucket: usize, before: &Bucket) {
    if let Some((value, _)) = records.get_mut(&key(bucket)) {
        let mut bucket = decode(value);
        for record in &mut bucket.meters {
            let old = before.meters.iter().find(|old| old.meter == record.meter && old.rec == record.rec);
            record.leases = old.map_or_else(Vec::new, |old| old.leases.clone());
        }
        *value = bucket.encode();
    }
}

/// The shared data as one worker's operation sees it.
struct WorkerShared<'a> {
    holder: HolderId,
    records: &'a mut Records,
    op: Op,
    around: Surroundings<'a>,
    /// Meters of which its writes took a unit.
    taken: Vec<MeterId>,
}

impl<'a> WorkerShared<'a> {
    fn new(holder: HolderId, records: &'a mut Records, op: Op, around: Surroundings<'a>) -> Self {
        Self { holder, records, op, around, taken: vec![] }
    }

    /// Another worker admits a request between this one's read and its write.
    fn interfere(&mut self) {
        if !self.around.rng.chance(self.around.interference) {
            return;
        }
        let caller = self.around.rng.pick(self.around.callers);
        spend(
            self.holder,
            self.records,
            caller,
            Surroundings {
                reference: self.around.reference,
                rng: self.around.rng,
                interference: 0,
                ..self.around
            },
        );
    }

    fn write(&mut self, key: &[u8], value: &[u8]) {
        let old = self.records.get(key).cloned();
        let cas = Cas(old.as_ref().map_or(1, |(_, cas)| cas.0 + 1));
        let before = old.map(|(value, _)| decode(&value)).unwrap_or_default();
        let (holder, op, now) = (self.holder, self.op, self.around.manager_now);
        self.taken.extend(self.around.reference.wrote(holder, op, &before, &decode(value), now));
        self.records.insert(key.to_vec(), (value.to_vec(), cas));
    }
}

impl Shared for WorkerShared<'_> {
    fn get(&mut self, key: &[u8]) -> Option<(Vec<u8>, Cas)> {
        self.records.get(key).cloned()
    }

    fn set(&mut self, key: &[u8], value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
        self.interfere();
        let matches = self.records.get(key).is_some_and(|(_, present)| *present == cas);
        if !matches && self.around.fault != Fault::BlindWrites {
            return Err(CasMismatch);
        }
        self.write(key, value);
        Ok(())
    }

    fn create(&mut self, key: &[u8], value: &[u8]) -> Result<(), CasMismatch> {
        self.interfere();
        if self.records.contains_key(key) && self.around.fault != Fault::BlindWrites {
            return Err(CasMismatch);
        }
        self.write(key, value);
        Ok(())
    }
}
