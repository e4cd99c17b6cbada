//! One Envoy process: its shared data, and workers that run the product's [`Gate`].

use std::collections::BTreeMap;

use gate::decide::Origin;
use gate::gate::feed::Keys;
use gate::gate::{Gate, Host, OriginRule, Setup, StreamId};
use gate::id::{HolderId, MeterId};
use gate::quota::bucket::Bucket;
use gate::shared::{CREATE, Cas, CasMismatch, Shared};
use gate::time::{MonoMillis, Now, UnixMillis};

use crate::clock::{Clock, True};
use crate::faults::Fault;
use crate::reference::{Op, Reference};
use crate::rng::Rng;

/// What all shared keys begin with.
const NAMESPACE: &str = "kg:1:sim:";

/// Where the gates of a process share what they know.
pub fn keys() -> Keys {
    Keys::below(NAMESPACE.as_bytes())
}

/// One worker.
pub struct Vm {
    /// Its gate.
    pub gate: Gate,
    /// Counts the gates that this worker has had.
    pub life: u32,
    /// Requests that it holds: who calls, and since when.
    pub held: BTreeMap<StreamId, (usize, True)>,
    /// Number of the next one.
    pub next_stream: u32,
}

/// One process.
pub struct Process {
    /// Its monotonic clock.
    pub clock: Clock,
    /// How far its wall clock is from the true time.
    pub wall_ms: i64,
    /// Not killed yet.
    pub is_alive: bool,
    /// Nothing comes or goes until then.
    pub cut_off_until: True,
    /// Its workers.
    pub vms: Vec<Vm>,
    /// Who is woken by which queue: a worker and its life.
    pub queues: BTreeMap<Vec<u8>, (usize, u32)>,
    /// When it was sent its newest answered poll, and all that such a poll brought: the true times
    /// at which managers answered, with the times at which the answers arrived.
    pub polls: Vec<(True, True)>,
    /// When that poll was sent.
    pub polled_at: Option<True>,
    /// The name by which it calls the managers.
    pub holder: Option<HolderId>,
    values: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    writes: u32,
}

fn gate(rng: &mut Rng) -> Gate {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&rng.bits().to_le_bytes());
    let setup = Setup {
        namespace: NAMESPACE.as_bytes().to_vec(),
        origin: OriginRule::Always(Origin::External),
        health_path: None,
        cache_entries: 1_000,
        filter_version: "sim".into(),
    };
    Gate::new(setup, seed)
}

impl Process {
    /// A process that has just started.
    pub fn start(clock: Clock, workers: usize, rng: &mut Rng) -> Self {
        let vm = |rng: &mut Rng| Vm { gate: gate(rng), life: 0, held: BTreeMap::new(), next_stream: 1 };
        Self {
            clock,
            wall_ms: 0,
            is_alive: true,
            cut_off_until: 0,
            vms: (0..workers).map(|_| vm(rng)).collect(),
            queues: BTreeMap::new(),
            polls: vec![],
            polled_at: None,
            holder: None,
            values: BTreeMap::new(),
            writes: 0,
        }
    }

    /// A worker's memory is lost; another gate takes its place. How many requests it held.
    pub fn trap(&mut self, vm: usize, rng: &mut Rng) -> usize {
        let (old, gate) = (&mut self.vms[vm], gate(rng));
        let life = old.life + 1;
        std::mem::replace(old, Vm { gate, life, held: BTreeMap::new(), next_stream: 1 }).held.len()
    }

    /// Both clocks.
    pub fn now(&self, now: True) -> Now {
        let mono = self.clock.at(now);
        Now { unix: UnixMillis(1_700_000_000_000 + now as i64 + self.wall_ms), mono: MonoMillis(mono) }
    }

    /// A worker's gate and the host that it works with.
    pub fn with<'a>(
        &'a mut self,
        vm: usize,
        op: Op,
        fault: Fault,
        reference: &'a mut Reference,
        now: True,
    ) -> (&'a mut Gate, Data<'a>) {
        let data = Data {
            values: &mut self.values,
            writes: &mut self.writes,
            op,
            fault,
            reference,
            now,
            taken: vec![],
        };
        (&mut self.vms[vm].gate, data)
    }
}

/// Envoy's shared data, watched.
pub struct Data<'a> {
    values: &'a mut BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    writes: &'a mut u32,
    op: Op,
    fault: Fault,
    reference: &'a mut Reference,
    now: True,
    /// Meters of which its writes took a unit.
    pub taken: Vec<MeterId>,
}

impl Data<'_> {
    fn write(&mut self, key: &[u8], value: &[u8]) {
        let before = self.values.get(key).map(|(value, _)| value.clone());
        if key.strip_prefix(NAMESPACE.as_bytes()).is_some_and(|name| name.starts_with(b"bucket.")) {
            let holder = self.values.get(format!("{NAMESPACE}holder").as_bytes());
            let holder = holder.and_then(|(id, _)| <[u8; 16]>::try_from(id.as_slice()).ok()).map(HolderId);
            let decode = |value: &[u8]| Bucket::decode(value).expect("only encoded buckets are written");
            let before = before.map(|value| decode(&value)).unwrap_or_default();
            let holder = holder.expect("a gate has a holder id before it writes a bucket");
            self.taken.extend(self.reference.wrote(holder, self.op, &before, &decode(value), self.now));
        }
        *self.writes += 1;
        self.values.insert(key.to_vec(), (value.to_vec(), *self.writes));
    }
}

impl Shared for Data<'_> {
    fn get(&mut self, key: &[u8]) -> Option<(Vec<u8>, Cas)> {
        // A worker that looks where there is nothing yet, when another has just put something.
        let hides = self.fault == Fault::HolderByPlainSet && key.ends_with(b"holder");
        self.values.get(key).filter(|_| !hides).map(|(value, cas)| (value.clone(), Cas(*cas)))
    }

    fn set(&mut self, key: &[u8], value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
        match self.values.get(key) {
            Some((_, held)) if *held != cas.0 && self.fault != Fault::HolderByPlainSet => Err(CasMismatch),
            _ => {
                self.write(key, value);
                Ok(())
            }
        }
    }

    fn create(&mut self, key: &[u8], value: &[u8]) -> Result<(), CasMismatch> {
        self.set(key, value, CREATE)
    }
}

impl Host for Data<'_> {
    fn source(&mut self, _: StreamId) -> String {
        "192.0.2.1:4711".into()
    }
}
