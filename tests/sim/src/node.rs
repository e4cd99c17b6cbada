//! One Envoy process: shared records, and workers that use them through compare-and-swap while
//! others write in between.

use std::collections::BTreeMap;

use gate::id::{ClientKey, Epoch, HolderId, MeterId};
use gate::quota::bucket::{Bucket, MAX_METERS};
use gate::quota::holder::{self, Ask, Installed, Spent, Touched};
use gate::shared::{Cas, CasMismatch, Shared};
use gate::time::MonoMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{Meter, Renewal, RenewalAnswer, RenewalOutcome};

use crate::clock::{Clock, True};
use crate::faults::Fault;
use crate::reference::{Op, Reference};
use crate::rng::Rng;

/// Who calls, and what it takes.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Number of the client.
    pub number: u64,
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
    /// Where it came in.
    pub place: usize,
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

/// One process. It is never used again: a restart is another one.
pub struct Node {
    /// Its name.
    pub holder: HolderId,
    /// Its monotonic clock.
    pub clock: Clock,
    /// Nothing comes or goes until then.
    pub cut_off_until: True,
    /// Not killed yet.
    pub is_alive: bool,
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
    /// True time, for the books.
    pub true_now: True,
    /// Who may send a request to another worker in the middle of this operation.
    pub callers: &'a [Caller],
    /// Per thousand writes: how often somebody does.
    pub interference: u64,
    /// What such a worker froze, and has to send: the bucket and the renewals.
    pub frozen: &'a mut Vec<(usize, Vec<Renewal>)>,
}

impl Surroundings<'_> {
    /// What surrounds a worker that comes in between.
    fn of_another(&mut self) -> Surroundings<'_> {
        Surroundings {
            reference: self.reference,
            rng: self.rng,
            frozen: self.frozen,
            interference: 0,
            ..*self
        }
    }
}

type Records = BTreeMap<Vec<u8>, (Vec<u8>, Cas)>;

impl Node {
    /// A process that has just started.
    pub fn start(number: u64, clock: Clock, workers: usize) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Self {
            holder: HolderId(id),
            clock,
            cut_off_until: 0,
            is_alive: true,
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
        if around.fault == Fault::NeverAhead {
            forget_the_next_window(&mut self.records, bucket);
        }
        if around.fault == Fault::ImpatientNode {
            forget_unanswered(&mut self.records, bucket, now);
        }
        let (before, fault) = (self.bucket(bucket), around.fault);
        let mut shared = WorkerShared::new(self.holder, &mut self.records, Op::Freeze, around);
        let mut due = holder::renewals_due(&mut shared, &key(bucket), now, connected, 100);
        if fault == Fault::ClosedLeaseStays {
            put_back(&mut self.records, bucket, &before);
        }
        if fault == Fault::CountsOneTooFew
            && let Some(due) = &mut due
        {
            count_one_too_few(&mut self.records, bucket, &mut due.result);
        }
        if fault == Fault::FreshCountOnResend
            && let Some(due) = &mut due
        {
            for renewal in &mut due.result {
                let sent = before.meters.iter().find(|r| r.rec == renewal.rec).and_then(|r| r.pending);
                if sent.is_some_and(|sent| sent.seq == renewal.seq) {
                    renewal.unspent += u32::from(renewal.closed_lease.is_some());
                }
            }
        }
        due
    }

    /// The call that carried `renewal` has failed.
    pub fn call_failed(&mut self, bucket: usize, renewal: &Renewal, around: Surroundings<'_>) {
        let now = around.now;
        let mut shared = WorkerShared::new(self.holder, &mut self.records, Op::Feed, around);
        holder::call_failed(&mut shared, &key(bucket), now, renewal);
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
        let (now, fault) = (around.now, around.fault);
        let mut answer = *answer;
        let record = self.bucket(bucket).meters.into_iter().find(|r| r.rec == answer.rec);
        if fault == Fault::AnyAnswerInstalled
            && let Some(pending) = record.as_ref().and_then(|record| record.pending)
        {
            answer.seq = pending.seq;
        }
        if fault == Fault::ExhaustedForever
            && let RenewalOutcome::Exhausted { window_left_ms } = &mut answer.outcome
        {
            *window_left_ms = None;
        }
        if fault == Fault::ExpireLate
            && let RenewalOutcome::Granted { ttl_ms, window_left_ms: Some(left), .. } = &mut answer.outcome
        {
            *ttl_ms += 2_000;
            *left += 2_000;
        }
        if fault == Fault::OpensEarly
            && let RenewalOutcome::Granted { opens_in_ms: Some(opens), .. } = &mut answer.outcome
        {
            *opens = 0;
        }
        if fault == Fault::ExpireNever
            && let RenewalOutcome::Granted { ttl_ms, window_left_ms: None, .. } = &mut answer.outcome
        {
            *ttl_ms *= 3;
        }
        let epoch = match record.and_then(|record| record.epoch) {
            Some(known) if fault == Fault::EpochIgnored => known,
            _ => epoch,
        };
        let is_lease = matches!(answer.outcome, RenewalOutcome::Granted { .. });
        let sent_at = if fault == Fault::ExpiryFromArrival && is_lease { now } else { sent_at };
        let mut shared = WorkerShared::new(self.holder, &mut self.records, Op::Install, around);
        holder::install(&mut shared, &key(bucket), now, epoch, &answer, sent_at)
    }

    /// A change of the feed.
    pub fn hear(&mut self, bucket: usize, subject: &Subject, around: Surroundings<'_>) {
        let now = around.now;
        let mut shared = WorkerShared::new(self.holder, &mut self.records, Op::Feed, around);
        match *subject {
            Subject::Meter { meter } => {
                holder::limit_changed(&mut shared, &key(bucket), now, Some(meter));
            }
            Subject::Recall { meter, lowered } => {
                holder::recall(&mut shared, &key(bucket), now, meter, lowered);
            }
            Subject::Client { .. } | Subject::Credential { .. } | Subject::Directory => {}
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
    let random = match around.fault {
        Fault::ReusedRec | Fault::SharedHolder | Fault::HolderSurvivesCrash => 4_711,
        _ => around.rng.bits(),
    };
    if around.fault == Fault::EvictionDropsLeases {
        drop_oldest(holder, records, caller.bucket, &caller.meters, around.reference, around.true_now);
    }
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
            around.reference.refused_as_exhausted(holder, meter, around.true_now);
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

/// [`Fault::NeverAhead`].
fn forget_the_next_window(records: &mut Records, bucket: usize) {
    if let Some((value, _)) = records.get_mut(&key(bucket)) {
        let mut bucket = decode(value);
        for record in &mut bucket.meters {
            record.ahead_of = MonoMillis(u64::MAX);
        }
        *value = bucket.encode();
    }
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

/// [`Fault::CountsOneTooFew`].
fn count_one_too_few(records: &mut Records, bucket: usize, sent: &mut [Renewal]) {
    let Some((value, _)) = records.get_mut(&key(bucket)) else { return };
    let mut bucket = decode(value);
    for renewal in sent.iter_mut().filter(|renewal| renewal.unspent > 1) {
        let record = bucket.meters.iter_mut().find(|record| record.rec == renewal.rec);
        // Once: sent again, it is the same.
        if let Some(pending) = record.and_then(|record| record.pending.as_mut())
            && pending.unspent == renewal.unspent
            && pending.unspent % 2 == 0
        {
            pending.unspent -= 1;
            renewal.unspent -= 1;
        }
    }
    *value = bucket.encode();
}

/// [`Fault::EvictionDropsLeases`].
fn drop_oldest(
    holder: HolderId,
    records: &mut Records,
    bucket: usize,
    keep: &[Meter],
    reference: &mut Reference,
    now: True,
) {
    let Some((value, _)) = records.get_mut(&key(bucket)) else { return };
    let before = decode(value);
    let is_new = keep.iter().any(|meter| before.meters.iter().all(|record| record.meter != meter.id));
    if before.meters.len() >= MAX_METERS && is_new {
        let mut after = before.clone();
        after.meters.remove(0);
        *value = after.encode();
        reference.wrote(holder, Op::Spend, &before, &after, now);
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

    /// Another worker decides a request between this one's read and its write, and perhaps
    /// freezes what is due.
    fn interfere(&mut self) {
        if !self.around.rng.chance(self.around.interference) {
            return;
        }
        let caller = self.around.rng.pick(self.around.callers);
        let now = self.around.now;
        spend(self.holder, self.records, caller, self.around.of_another());
        if self.around.rng.chance(500) {
            let mut shared =
                WorkerShared::new(self.holder, self.records, Op::Freeze, self.around.of_another());
            let due = holder::renewals_due(&mut shared, &key(caller.bucket), now, true, 100);
            if let Some(due) = due.filter(|due| !due.result.is_empty()) {
                self.around.frozen.push((caller.bucket, due.result));
            }
        }
    }

    fn write(&mut self, key: &[u8], value: &[u8]) {
        let old = self.records.get(key).cloned();
        let cas = Cas(old.as_ref().map_or(1, |(_, cas)| cas.0 + 1));
        let before = old.map(|(value, _)| decode(&value)).unwrap_or_default();
        let (holder, op, now) = (self.holder, self.op, self.around.true_now);
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
        let fault = self.around.fault;
        if self.records.contains_key(key) && fault != Fault::BlindWrites && fault != Fault::CreateByPlainSet {
            return Err(CasMismatch);
        }
        self.write(key, value);
        Ok(())
    }
}
