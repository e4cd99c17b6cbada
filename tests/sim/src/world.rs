//! The run: one queue of events in true time, and everything that can happen in one enum.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use gate::id::{Epoch, MeterId};
use gate::quota::holder::{Installed, Spent};
use gate::time::{MonoMillis, UnixMillis};
use gate::wire::changes::Subject;
use gate::wire::exchange::{Renewal, RenewalAnswer};

use crate::clock::True;
use crate::faults::Fault;
use crate::ledger::Ledger;
use crate::node::{Node, Surroundings, Vm, Waiting};
use crate::reference::{Reference, Violation};
use crate::rng::Rng;
use crate::scenario::{CHAOS_MS, Mishap, QUIET_MS, Scenario, Weather, draw_clock};

/// How long a request waits for a unit.
const PATIENCE_MS: u64 = 300;
/// How often a worker looks after its buckets.
const TICK_MS: u64 = 100;
/// In how long a change has reached every connected node.
const HEARS_MS: u64 = 1_000;
/// For how long before the end a meter must have been refused as exhausted to be called so.
const LAST_MS: u64 = 10_000;

/// Everything that can happen.
#[derive(Clone, Debug)]
enum Event {
    /// A request comes in.
    Request { node: usize, caller: usize },
    /// A worker's timer.
    Tick { node: usize, vm: usize },
    /// A call reaches the manager.
    Call { call: Call },
    /// An answer reaches a worker.
    Answer { call: Call, epoch: Epoch, answers: Vec<RenewalAnswer> },
    /// A change reaches a node.
    Change { node: usize, subject: Subject },
    /// Something goes wrong.
    Mishap(Mishap),
}

/// One exchange.
#[derive(Clone, Debug)]
struct Call {
    node: usize,
    node_life: u32,
    vm: usize,
    vm_life: u32,
    bucket: usize,
    sent_at: MonoMillis,
    renewals: Vec<Renewal>,
}

/// What a run shows.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Broken promises; empty is good.
    pub violations: Vec<Violation>,
    /// Requests let in.
    pub admitted: u64,
    /// Requests refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Meters that ended exhausted, and were found to be spent to the last unit.
    pub exact: u64,
    /// Exchanges.
    pub calls: u64,
}

/// Runs one seed to its end, or to its first broken promise.
pub fn run(seed: u64, weather: Weather, fault: Fault) -> Outcome {
    let mut rng = Rng::new(seed);
    let scenario = Scenario::draw(weather, &mut rng);
    let mut world = World::new(scenario, rng, fault);
    world.run();
    world.outcome
}

struct World {
    scenario: Scenario,
    rng: Rng,
    fault: Fault,
    now: True,
    queue: BinaryHeap<Reverse<(True, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    nodes: Vec<Node>,
    ledger: Ledger,
    announced: usize,
    manager_down_until: True,
    reference: Reference,
    /// Since when the ledger has units of a meter.
    free_since: BTreeMap<MeterId, True>,
    /// When a meter was last refused as exhausted, by node.
    exhausted_at: BTreeMap<(usize, MeterId), True>,
    outcome: Outcome,
}

impl World {
    fn new(scenario: Scenario, rng: Rng, fault: Fault) -> Self {
        let mut reference = Reference::default();
        for (row, _) in &scenario.meters {
            reference.limit_set(row.meter, row.generation, row.limit);
        }
        let nodes = (0_u64..)
            .zip(&scenario.nodes)
            .map(|(number, clock)| Node::start(number, 0, *clock, scenario.workers))
            .collect();
        let ledger = Ledger::new(scenario.meters.clone(), fault);
        let mut world = Self {
            scenario,
            rng,
            fault,
            now: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            nodes,
            ledger,
            announced: 0,
            manager_down_until: 0,
            reference,
            free_since: BTreeMap::new(),
            exhausted_at: BTreeMap::new(),
            outcome: Outcome::default(),
        };
        for node in 0..world.nodes.len() {
            for caller in 0..world.scenario.callers.len() {
                world.at(1 + caller as u64, Event::Request { node, caller });
            }
            for vm in 0..world.scenario.workers {
                world.at(node as u64 * 7 + vm as u64 * 31, Event::Tick { node, vm });
            }
        }
        for (at, mishap) in world.scenario.mishaps.clone() {
            world.at(at, Event::Mishap(mishap));
        }
        world
    }

    fn at(&mut self, at: True, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((at, self.next_event)));
        self.events.insert(self.next_event, event);
    }

    fn run(&mut self) {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if at > CHAOS_MS + QUIET_MS {
                break;
            }
            self.now = at;
            let event = self.events.remove(&number).expect("each number is queued once");
            self.step(event);
            self.announce();
            self.note_free_units();
            if !self.reference.violations.is_empty() {
                break;
            }
        }
        if self.reference.violations.is_empty() {
            self.check_the_end();
        }
        self.outcome.violations = std::mem::take(&mut self.reference.violations);
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Request { node, caller } => {
                let pause = self.rng.between(1, 2 * self.scenario.pause_ms);
                self.at(self.now + pause, Event::Request { node, caller });
                let vm = self.rng.between(0, self.scenario.workers as u64 - 1) as usize;
                self.decide(node, vm, Waiting { caller, deadline: self.now + PATIENCE_MS });
            }
            Event::Tick { node, vm } => {
                self.at(self.now + TICK_MS, Event::Tick { node, vm });
                self.wake(node, vm);
                for bucket in 0..self.scenario.buckets {
                    self.send_what_is_due(node, vm, bucket);
                }
            }
            Event::Call { call } => self.called(call),
            Event::Answer { call, epoch, answers } => self.answered(&call, epoch, &answers),
            Event::Change { node, subject } => self.heard(node, subject),
            Event::Mishap(mishap) => self.mishap(mishap),
        }
    }

    fn is_quiet(&self) -> bool {
        self.scenario.weather == Weather::Fair || self.now >= CHAOS_MS
    }

    fn manager_now(&self) -> UnixMillis {
        UnixMillis(self.scenario.manager.at(self.now) as i64)
    }

    /// A node, and what surrounds an operation on it.
    fn with(&mut self, node: usize) -> (&mut Node, Surroundings<'_>) {
        let manager_now = self.manager_now();
        let interference = if self.is_quiet() { 0 } else { 30 };
        let node = &mut self.nodes[node];
        let around = Surroundings {
            now: MonoMillis(node.clock.at(self.now)),
            reference: &mut self.reference,
            rng: &mut self.rng,
            fault: self.fault,
            manager_now,
            callers: &self.scenario.callers,
            interference,
        };
        (node, around)
    }

    /// Decides a request: it goes through, is refused, or waits on.
    fn decide(&mut self, node: usize, vm: usize, request: Waiting) {
        let caller = self.scenario.callers[request.caller].clone();
        let (process, around) = self.with(node);
        let now = around.now;
        let touched = process.spend(&caller, around);
        let refused = match touched.result {
            Spent::Admitted { .. } => {
                self.outcome.admitted += 1;
                None
            }
            Spent::Wait { .. } if self.now < request.deadline => {
                self.nodes[node].vms[vm].waiting.push(request);
                None
            }
            Spent::Contended { .. } if self.now < request.deadline => {
                self.nodes[node].vms[vm].waiting.push(request);
                None
            }
            Spent::Wait { .. } => Some("unavailable"),
            Spent::Contended { .. } => Some("contended"),
            Spent::Exhausted { meter, .. } => {
                self.exhausted_at.insert((node, meter), self.now);
                self.check_refusal(node, meter);
                Some("exhausted")
            }
            Spent::RateExceeded { .. } => Some("rate"),
            Spent::Gone { .. } => Some("gone"),
            Spent::Capacity => Some("capacity"),
        };
        if let Some(reason) = refused {
            *self.outcome.refused.entry(reason).or_default() += 1;
        }
        if touched.next_due.is_some_and(|due| due <= now) {
            self.send_what_is_due(node, vm, caller.bucket);
        }
    }

    fn note_free_units(&mut self) {
        for (row, _) in self.ledger.meters.values() {
            if row.debited < row.limit {
                self.free_since.entry(row.meter).or_insert(self.now);
            } else {
                self.free_since.remove(&row.meter);
            }
        }
    }

    /// Once everything works, nobody is refused as exhausted while the ledger has units.
    fn check_refusal(&mut self, node: usize, meter: MeterId) {
        let hears = self.is_quiet() && self.now >= CHAOS_MS + HEARS_MS;
        let free_since = self.free_since.get(&meter).copied();
        if hears && free_since.is_some_and(|since| since + HEARS_MS < self.now) {
            self.reference.violations.push(Violation {
                check: "no refusal while units are free",
                detail: format!("node {node}, meter {meter}: free since {free_since:?}, now {}", self.now),
            });
        }
    }

    /// Decides anew what waits on a worker.
    fn wake(&mut self, node: usize, vm: usize) {
        for request in std::mem::take(&mut self.nodes[node].vms[vm].waiting) {
            self.decide(node, vm, request);
        }
    }

    fn send_what_is_due(&mut self, node: usize, vm: usize, bucket: usize) {
        let connected = self.nodes[node].cut_off_until <= self.now && self.manager_down_until <= self.now;
        let (process, around) = self.with(node);
        let sent_at = around.now;
        if process.next_due(bucket, sent_at).is_none_or(|due| due > sent_at) {
            return;
        }
        let due = process.renewals_due(bucket, connected, around).map(|touched| touched.result);
        let Some(renewals) = due.filter(|due| !due.is_empty()) else { return };
        self.outcome.calls += 1;
        if !self.is_quiet() && self.rng.chance(20) {
            return self.trap(node, vm); // frozen, never sent
        }
        let process = &self.nodes[node];
        let (node_life, vm_life) = (process.life, process.vms[vm].life);
        let call = Call { node, node_life, vm, vm_life, bucket, sent_at, renewals };
        if !self.is_quiet() && self.rng.chance(50) {
            let delay = self.delay();
            self.at(self.now + delay, Event::Call { call: call.clone() });
        }
        if !self.is_lost() {
            let delay = self.delay();
            self.at(self.now + delay, Event::Call { call });
        }
    }

    fn is_lost(&mut self) -> bool {
        !self.is_quiet() && self.rng.chance(100)
    }

    fn delay(&mut self) -> u64 {
        match self.rng.between(0, 99) {
            _ if self.is_quiet() => self.rng.between(1, 8),
            0..=79 => self.rng.between(1, 30),
            80..=95 => self.rng.between(30, 800),
            _ => self.rng.between(800, 15_000),
        }
    }

    fn is_reachable(&self, node: usize) -> bool {
        self.nodes[node].cut_off_until <= self.now && self.manager_down_until <= self.now
    }

    fn called(&mut self, call: Call) {
        if !self.is_reachable(call.node) {
            return;
        }
        // A call of a process that has died meanwhile still counts.
        let life = call.node_life;
        let process = &self.nodes[call.node];
        let holder = if process.life == life {
            process.holder
        } else {
            Node::start(call.node as u64, life, process.clock, 0).holder
        };
        let now = self.manager_now();
        let answers = self.ledger.exchange(holder, &call.renewals, now, &mut self.reference);
        let epoch = self.ledger.epoch;
        let copies = if !self.is_quiet() && self.rng.chance(50) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.is_lost() {
                let delay = self.delay();
                let event = Event::Answer { call: call.clone(), epoch, answers: answers.clone() };
                self.at(self.now + delay, event);
            }
        }
    }

    fn answered(&mut self, call: &Call, epoch: Epoch, answers: &[RenewalAnswer]) {
        let process = &self.nodes[call.node];
        let listens = process.life == call.node_life && process.vms[call.vm].life == call.vm_life;
        if !listens || !self.is_reachable(call.node) {
            return;
        }
        let mut wake = false;
        for answer in answers {
            let (process, around) = self.with(call.node);
            let installed = process.install(call.bucket, epoch, answer, call.sent_at, around);
            wake |= installed.is_some_and(|touched| touched.result != Installed::Ignored);
        }
        if wake {
            for vm in 0..self.scenario.workers {
                self.wake(call.node, vm);
            }
        }
    }

    /// Sends new changes on their way to every node.
    fn announce(&mut self) {
        let new: Vec<_> = self.ledger.feed.iter().skip(self.announced).cloned().collect();
        self.announced = self.ledger.feed.len();
        if self.fault == Fault::SilentFeed {
            return;
        }
        for subject in new {
            for node in 0..self.nodes.len() {
                let delay = self.rng.between(5, 300);
                self.at(self.now + delay, Event::Change { node, subject: subject.clone() });
            }
        }
    }

    fn heard(&mut self, node: usize, subject: Subject) {
        let later = self.nodes[node].cut_off_until;
        if later > self.now {
            return self.at(later + 50, Event::Change { node, subject });
        }
        let (meter, raised) = match subject {
            Subject::Meter { meter } => (meter, true),
            Subject::Recall { meter } => (meter, false),
            Subject::Client { .. } | Subject::Credential { .. } | Subject::Directory => return,
        };
        for bucket in 0..self.scenario.buckets {
            let (process, around) = self.with(node);
            process.hear(bucket, meter, raised, around);
            self.send_what_is_due(node, 0, bucket);
        }
    }

    fn mishap(&mut self, mishap: Mishap) {
        match mishap {
            Mishap::Trap { node, vm } => self.trap(node, vm),
            Mishap::Partition { node, ms } => {
                // Healed when the quiet time begins.
                self.nodes[node].cut_off_until = (self.now + ms).min(CHAOS_MS);
            }
            Mishap::Outage { ms } => self.manager_down_until = (self.now + ms).min(CHAOS_MS),
            Mishap::Limit { meter, percent } => {
                let (row, _) = &self.scenario.meters[meter];
                self.ledger.set_limit(row.meter, row.limit * percent / 100, &mut self.reference);
            }
            Mishap::Crash { node } => {
                let life = self.nodes[node].life + 1;
                let clock = draw_clock(&mut self.rng);
                self.nodes[node] = Node::start(node as u64, life, clock, self.scenario.workers);
            }
            Mishap::Restore => {
                self.ledger.begin_epoch();
                self.reference.epoch_began();
            }
            Mishap::Reclaim { meter } => {
                let (meter, now) = (self.scenario.meters[meter].0.meter, self.manager_now());
                self.ledger.reclaim(meter, now, &mut self.reference);
            }
        }
    }

    fn trap(&mut self, node: usize, vm: usize) {
        let old = &mut self.nodes[node].vms[vm];
        *self.outcome.refused.entry("trapped").or_default() += old.waiting.len() as u64;
        *old = Vm { life: old.life + 1, waiting: vec![] };
    }

    /// After the quiet time: what every node was refused as exhausted is spent to the last unit,
    /// but for what died with a process.
    fn check_the_end(&mut self) {
        let broken = |check, detail| Violation { check, detail };
        if self.scenario.weather == Weather::Fair {
            if !self.outcome.refused.is_empty() {
                let detail = format!("{:?}", self.outcome.refused);
                self.reference.violations.push(broken("in fair weather nobody is refused", detail));
            }
            return;
        }
        for (row, _) in &self.scenario.meters {
            let meter = row.meter;
            let recently = self.now.saturating_sub(LAST_MS);
            let is_exhausted = (0..self.nodes.len())
                .all(|node| self.exhausted_at.get(&(node, meter)).is_some_and(|at| *at >= recently));
            let generation = self.ledger.generation(meter);
            let limit = self.ledger.meters[&meter].0.limit;
            let debited = self.ledger.meters[&meter].0.debited;
            if !is_exhausted || debited > limit {
                continue;
            }
            self.outcome.exact += 1;
            let admitted = self.reference.admitted(meter, generation);
            let withheld = self.reference.withheld(meter, generation);
            let may_lose = self.scenario.weather == Weather::Stormy;
            if admitted + withheld != limit || (withheld > 0 && !may_lose) {
                let detail = format!(
                    "meter {meter} generation {generation}: {admitted} admitted, {withheld} withheld, limit {limit}"
                );
                self.reference.violations.push(broken("demand uses the limit up", detail));
            }
        }
    }
}
