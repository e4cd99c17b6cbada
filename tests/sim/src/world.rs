//! The run: one queue of events in true time, and everything that can happen in one enum.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use gate::id::{Epoch, HolderId, MeterId};
use gate::quota::holder::{Installed, Spent};
use gate::time::MonoMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{Renewal, RenewalAnswer};

use crate::case::Case;
use crate::clock::True;
use crate::faults::Fault;
use crate::fleet;
use crate::ledger::{Ledger, Manager, Tables};
use crate::node::{Node, Surroundings, Vm, Waiting};
use crate::reference::{Reference, Violation};
use crate::rng::Rng;
use crate::scenario::{Mishap, Scenario, WINDOW_MS, Weather, draw_clock};

/// How long a request waits for a unit.
const PATIENCE_MS: u64 = 300;
/// How often a worker looks after its buckets.
const TICK_MS: u64 = 100;
/// How long a caller is silent at most.
const SILENCE_MS: u64 = 5_000;
/// In how long a change has reached every connected node.
const HEARS_MS: u64 = 1_000;
/// How long a node keeps "exhausted" whose end was announced by a manager that died over it.
const KEEPS_MS: u64 = 61_000;
/// For how long after a window has turned the node must have had units of it.
const TURNED_MS: i64 = 1_000;
/// For how long there must have been demand before.
const WARM_MS: u64 = 5_000;
/// For how long before the end a meter must have been refused as exhausted to be called so.
const LAST_MS: u64 = 10_000;
/// Leases that a process can lose of one meter when it dies: the one that is spent, and its
/// successor or the one on its way back (a step that brings a successor has taken that one).
const LOST_LEASES: usize = 2;

/// Everything that can happen.
#[derive(Clone, Debug)]
enum Event {
    /// A request comes in at a place, whichever process serves it.
    Request { place: usize, caller: usize },
    /// A worker's timer.
    Tick { node: usize, vm: usize },
    /// A call reaches a manager.
    Call { call: Call },
    /// A call is known to have failed.
    Failed { call: Call },
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
    holder: HolderId,
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
    /// Events.
    pub events: u64,
    /// Records that were given up for others.
    pub reused: u64,
    /// How long a request was held at most, in milliseconds.
    pub longest_wait_ms: u64,
}

/// Runs one case to its end, or to its first broken promise.
pub fn run(case: &Case, fault: Fault) -> Outcome {
    if matches!(case.weather, Weather::ClearGates | Weather::Gates | Weather::StormyGates) {
        return fleet::run(case, fault);
    }
    let mut world = World::new(Scenario::draw(case), Rng::new(case.seed ^ 0x5eed), fault);
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
    /// Every process that ever was.
    nodes: Vec<Node>,
    /// Which of them serves which place.
    places: Vec<usize>,
    ledger: Ledger,
    backup: Tables,
    manager_down_until: Vec<True>,
    reference: Reference,
    /// Since when the ledger has units of a meter.
    free_since: BTreeMap<MeterId, True>,
    /// Until when a node may keep a "no" whose end nobody has announced.
    unannounced_until: BTreeMap<MeterId, True>,
    /// When a meter was last refused as exhausted, by place.
    exhausted_at: BTreeMap<(usize, MeterId), True>,
    /// What a worker froze while another one was at work.
    frozen: Vec<(usize, Vec<Renewal>)>,
    /// Processes that died.
    dead: BTreeSet<HolderId>,
    /// Streams may be refused: a database was restored, an operator reclaimed.
    may_refuse: bool,
    outcome: Outcome,
}

impl World {
    fn new(scenario: Scenario, rng: Rng, fault: Fault) -> Self {
        let ledger = Ledger::new(scenario.meters.clone(), fault);
        let mut reference = Reference::new(ledger.tables.epoch, &scenario.managers);
        for (row, _) in &scenario.meters {
            reference.limit_set(row.meter, row.generation, row.limit);
        }
        let mut world = Self {
            rng,
            fault,
            now: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            nodes: vec![],
            places: vec![],
            backup: ledger.tables.clone(),
            ledger,
            manager_down_until: vec![0; scenario.managers.len()],
            reference,
            free_since: BTreeMap::new(),
            unannounced_until: BTreeMap::new(),
            exhausted_at: BTreeMap::new(),
            frozen: vec![],
            dead: BTreeSet::new(),
            may_refuse: false,
            outcome: Outcome::default(),
            scenario,
        };
        for place in 0..world.scenario.nodes.len() {
            let clock = world.scenario.nodes[place];
            let node = world.start(clock);
            world.places.push(node);
            for caller in 0..world.scenario.callers.len() {
                let first = world.rng.between(1, 1 + world.scenario.pause_ms);
                world.at(first, Event::Request { place, caller });
            }
        }
        for (at, mishap) in world.scenario.mishaps.clone() {
            world.at(at, Event::Mishap(mishap));
        }
        world
    }

    /// A new process, and its workers' timers.
    fn start(&mut self, clock: crate::clock::Clock) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node::start(node as u64, clock, self.scenario.workers));
        for vm in 0..self.scenario.workers {
            let first = self.rng.between(0, TICK_MS - 1);
            self.at(self.now + first, Event::Tick { node, vm });
        }
        node
    }

    fn at(&mut self, at: True, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((at, self.next_event)));
        self.events.insert(self.next_event, event);
    }

    fn run(&mut self) {
        let end = self.scenario.weather.chaos_ms() + self.scenario.weather.quiet_ms();
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now = at;
            self.outcome.events += 1;
            let event = self.events.remove(&number).expect("each number is queued once");
            self.step(event);
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
            Event::Request { place, caller } => {
                // Now and then a silence, so that leases sit idle where others wait for units.
                let silence = if self.rng.chance(self.scenario.silences) { SILENCE_MS } else { 0 };
                let pause = self.rng.between(1, 2 * self.scenario.pause_ms + silence);
                self.at(self.now + pause, Event::Request { place, caller });
                let vm = self.rng.between(0, self.scenario.workers as u64 - 1) as usize;
                let request = Waiting { place, caller, deadline: self.now + PATIENCE_MS };
                self.decide(self.places[place], vm, request);
            }
            Event::Tick { node, vm } if self.nodes[node].is_alive => {
                self.at(self.now + TICK_MS, Event::Tick { node, vm });
                self.wake(node, vm);
                for bucket in 0..self.scenario.buckets {
                    self.send_what_is_due(node, vm, bucket);
                }
            }
            Event::Tick { .. } => {}
            Event::Call { call } => self.called(call),
            Event::Failed { call } => self.failed(&call),
            Event::Answer { call, epoch, answers } => self.answered(&call, epoch, &answers),
            Event::Change { node, subject } => self.heard(node, subject),
            Event::Mishap(mishap) => self.mishap(mishap),
        }
    }

    fn is_quiet(&self) -> bool {
        self.scenario.weather == Weather::Fair || self.now >= self.scenario.weather.chaos_ms()
    }

    /// Whether something that goes wrong so often goes wrong now.
    fn strikes(&mut self, per_mille: u64) -> bool {
        !self.is_quiet() && self.rng.chance(per_mille)
    }

    fn manager(&self, number: usize) -> Manager {
        Manager { number, clock: self.scenario.managers[number], now: self.now }
    }

    fn any_manager(&mut self) -> usize {
        self.rng.between(0, self.scenario.managers.len() as u64 - 1) as usize
    }

    /// A node, and what surrounds an operation on it.
    fn with(&mut self, node: usize) -> (&mut Node, Surroundings<'_>) {
        let interference = if self.is_quiet() { 0 } else { self.scenario.vices.races };
        let node = &mut self.nodes[node];
        let around = Surroundings {
            now: MonoMillis(node.clock.at(self.now)),
            reference: &mut self.reference,
            rng: &mut self.rng,
            fault: self.fault,
            true_now: self.now,
            callers: &self.scenario.callers,
            interference,
            frozen: &mut self.frozen,
        };
        (node, around)
    }

    /// Decides a request: it goes through, is refused, or waits on.
    fn decide(&mut self, node: usize, vm: usize, request: Waiting) {
        let late = request.deadline + TICK_MS + 1;
        self.reference.check(self.now <= late, "who waits is answered in time", || format!("{request:?}"));
        let caller = self.scenario.callers[request.caller].clone();
        let (process, around) = self.with(node);
        let now = around.now;
        let touched = process.spend(&caller, around);
        let refused = match touched.result {
            Spent::Admitted { .. } => {
                self.outcome.admitted += 1;
                None
            }
            Spent::Wait { .. } | Spent::Contended { .. } | Spent::Turning { .. }
                if self.now < request.deadline =>
            {
                if let Spent::Wait { meter } = touched.result {
                    self.check_the_turn(node, caller.bucket, meter);
                }
                self.nodes[node].vms[vm].waiting.push(request);
                None
            }
            Spent::Wait { meter } if self.fault == Fault::WantIsTheWord => {
                let holder = self.nodes[node].holder;
                self.reference.refused_as_exhausted(holder, meter, self.now);
                Some("exhausted")
            }
            Spent::Wait { .. } | Spent::Turning { .. } => Some("unavailable"),
            Spent::Contended { .. } => Some("contended"),
            Spent::Exhausted { meter, .. } => {
                self.exhausted_at.insert((request.place, meter), self.now);
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
        self.send_frozen(node, vm);
        if touched.next_due.is_some_and(|due| due <= now) {
            self.send_what_is_due(node, vm, caller.bucket);
        }
    }

    fn send_frozen(&mut self, node: usize, vm: usize) {
        for (bucket, renewals) in std::mem::take(&mut self.frozen) {
            self.send(node, vm, bucket, renewals);
        }
    }

    fn note_free_units(&mut self, meter: MeterId) {
        let (row, _) = &self.ledger.tables.meters[&meter];
        if row.debited < row.limit {
            self.free_since.entry(meter).or_insert(self.now);
        } else {
            self.free_since.remove(&meter);
        }
    }

    /// Once everything works, nobody is refused as exhausted while the ledger has units.
    fn check_refusal(&mut self, node: usize, meter: MeterId) {
        let chaos_ms = self.scenario.weather.chaos_ms();
        let until = self.unannounced_until.get(&meter).copied().unwrap_or(0);
        let hears = self.is_quiet() && self.now >= (chaos_ms + HEARS_MS).max(until);
        let free_since = self.free_since.get(&meter).copied();
        let is_free = hears && free_since.is_some_and(|since| since + HEARS_MS < self.now);
        let now = self.now;
        self.reference.check(!is_free, "no refusal while units are free", || {
            format!("node {node}, meter {meter}: free since {free_since:?}, now {now}")
        });
    }

    /// In fair weather nobody waits for the manager because a window has turned: what the node
    /// holds of the new one was fetched before.
    fn check_the_turn(&mut self, node: usize, bucket: usize, meter: MeterId) {
        let row = &self.ledger.tables.meters[&meter].0;
        // Two managers see it turn at two moments.
        let [manager] = self.scenario.managers[..] else { return };
        let turned_ms = manager.unix(self.now).0.rem_euclid(WINDOW_MS);
        if self.scenario.weather != Weather::Fair
            || row.window_ends_at.is_none()
            || turned_ms > TURNED_MS
            || self.now < WARM_MS
        {
            return;
        }
        let now = MonoMillis(self.nodes[node].clock.at(self.now));
        let found = self.nodes[node].bucket(bucket).meters.into_iter().find(|record| record.meter == meter);
        let was_there = found.as_ref().is_some_and(|record| {
            record.leases.iter().any(|lease| lease.window_ends_at.is_some_and(|end| end > now))
                || record.pending.is_some_and(|pending| pending.closed_lease.is_some())
        });
        self.reference.check(was_there, "units are there when the window turns", || {
            format!("node {node}, meter {meter}, {turned_ms} ms after the turn: {found:?}")
        });
    }

    /// Decides anew what waits on a worker.
    fn wake(&mut self, node: usize, vm: usize) {
        for request in std::mem::take(&mut self.nodes[node].vms[vm].waiting) {
            self.decide(node, vm, request);
        }
    }

    fn send_what_is_due(&mut self, node: usize, vm: usize, bucket: usize) {
        if self.fault == Fault::DrainedKeeps && !self.places.contains(&node) {
            return;
        }
        let connected = self.is_connected(node);
        let (process, around) = self.with(node);
        let sent_at = around.now;
        if process.next_due(bucket, sent_at).is_none_or(|due| due > sent_at) {
            return;
        }
        let records = process.bucket(bucket).meters.len();
        let due = process.renewals_due(bucket, connected, around).map(|touched| touched.result);
        self.outcome.reused += records.saturating_sub(self.nodes[node].bucket(bucket).meters.len()) as u64;
        self.send_frozen(node, vm);
        if let Some(renewals) = due.filter(|due| !due.is_empty()) {
            self.send(node, vm, bucket, renewals);
        }
    }

    fn send(&mut self, node: usize, vm: usize, bucket: usize, renewals: Vec<Renewal>) {
        self.outcome.calls += 1;
        let sent_at = MonoMillis(self.nodes[node].clock.at(self.now));
        let process = &self.nodes[node];
        let (holder, vm_life) = (process.holder, process.vms[vm].life);
        for renewal in &renewals {
            self.reference.asked((holder, renewal.meter, renewal.rec), renewal);
        }
        if self.strikes(self.scenario.vices.traps) {
            return self.trap(node, vm); // frozen, never sent
        }
        let call = Call { node, holder, vm, vm_life, bucket, sent_at, renewals };
        if self.strikes(self.scenario.vices.repeats) {
            let delay = self.delay();
            self.at(self.now + delay, Event::Call { call: call.clone() });
        }
        let delay = self.delay();
        let event = match self.strikes(self.scenario.vices.loss) {
            true if self.rng.chance(500) => return,
            true => Event::Failed { call },
            false => Event::Call { call },
        };
        self.at(self.now + delay, event);
    }

    fn delay(&mut self) -> u64 {
        if !self.strikes(self.scenario.vices.delays) {
            let most = if self.is_quiet() { 8 } else { 30 };
            return self.rng.between(1, most);
        }
        if self.rng.chance(800) { self.rng.between(30, 800) } else { self.rng.between(800, 15_000) }
    }

    fn is_connected(&self, node: usize) -> bool {
        let someone = self.manager_down_until.iter().any(|until| *until <= self.now);
        self.nodes[node].cut_off_until <= self.now && someone
    }

    /// A call arrives, if its manager is there; also when the process that sent it is not.
    fn called(&mut self, call: Call) {
        let number = self.any_manager();
        if self.nodes[call.node].cut_off_until > self.now {
            return;
        }
        if self.manager_down_until[number] > self.now {
            return self.at(self.now + 1, Event::Failed { call });
        }
        let dies = self.strikes(self.scenario.vices.deaths);
        let commits = !dies || self.rng.chance(500);
        if dies {
            let ms = self.rng.between(100, 3_000);
            self.manager_down_until[number] = self.now + ms;
        }
        if !commits && self.fault != Fault::AnswerBeforeCommit {
            return;
        }
        let before = (!commits).then(|| self.ledger.tables.clone());
        let manager = self.manager(number);
        let (answers, news) = self.ledger.exchange(manager, call.holder, &call.renewals, &mut self.reference);
        for renewal in &call.renewals {
            self.note_free_units(renewal.meter);
        }
        if let Some(before) = before {
            self.ledger.tables = before;
        }
        if dies {
            // Committed, and neither announced nor answered.
            for renewal in &call.renewals {
                self.unannounced_until.insert(renewal.meter, self.now + KEEPS_MS);
            }
            if self.fault != Fault::AnswerBeforeCommit {
                return;
            }
        }
        self.announce(news);
        let copies = if self.strikes(self.scenario.vices.repeats) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.delay();
            let event = match self.strikes(self.scenario.vices.loss) {
                true if self.rng.chance(500) => continue,
                true => Event::Failed { call: call.clone() },
                false => {
                    let epoch = self.ledger.tables.epoch;
                    Event::Answer { call: call.clone(), epoch, answers: answers.clone() }
                }
            };
            self.at(self.now + delay, event);
        }
    }

    /// Whether the worker that sent a call is still there.
    fn listens(&self, call: &Call) -> bool {
        let process = &self.nodes[call.node];
        process.is_alive && process.vms[call.vm].life == call.vm_life && process.cut_off_until <= self.now
    }

    fn failed(&mut self, call: &Call) {
        if !self.listens(call) {
            return;
        }
        for renewal in &call.renewals {
            let (process, around) = self.with(call.node);
            process.call_failed(call.bucket, renewal, around);
        }
        self.send_frozen(call.node, call.vm);
    }

    fn answered(&mut self, call: &Call, epoch: Epoch, answers: &[RenewalAnswer]) {
        if !self.listens(call) {
            return;
        }
        let mut wake = false;
        for answer in answers {
            let (process, around) = self.with(call.node);
            let installed = process.install(call.bucket, epoch, answer, call.sent_at, around);
            let installed = installed.map_or(Installed::Ignored, |touched| touched.result);
            let in_order = installed != Installed::Dropped || self.may_refuse;
            self.reference.check(in_order, "a stream in order is not refused", || format!("{answer:?}"));
            wake |= installed != Installed::Ignored;
        }
        self.send_frozen(call.node, call.vm);
        if wake {
            for vm in 0..self.scenario.workers {
                self.wake(call.node, vm);
            }
        }
    }

    /// Sends changes on their way to every node.
    fn announce(&mut self, news: impl IntoIterator<Item = Subject>) {
        for subject in news {
            if self.fault == Fault::SilentFeed {
                continue;
            }
            for node in 0..self.nodes.len() {
                if self.nodes[node].is_alive {
                    let delay = self.rng.between(5, 300);
                    self.at(self.now + delay, Event::Change { node, subject: subject.clone() });
                }
            }
        }
    }

    fn heard(&mut self, node: usize, subject: Subject) {
        let later = self.nodes[node].cut_off_until;
        if later > self.now {
            return self.at(later + 50, Event::Change { node, subject });
        }
        if !self.nodes[node].is_alive {
            return;
        }
        for bucket in 0..self.scenario.buckets {
            let (process, around) = self.with(node);
            process.hear(bucket, &subject, around);
            self.send_frozen(node, 0);
            self.send_what_is_due(node, 0, bucket);
        }
    }

    fn mishap(&mut self, mishap: Mishap) {
        let places = self.places.len();
        let chaos_ms = self.scenario.weather.chaos_ms();
        let manager = self.any_manager();
        let manager = self.manager(manager);
        let meters = &self.scenario.meters;
        match mishap {
            Mishap::Trap { node, vm } => {
                self.trap(self.places[node % places], vm % self.scenario.workers);
            }
            Mishap::Partition { node, ms } => {
                // Healed when the quiet time begins.
                self.nodes[self.places[node % places]].cut_off_until = (self.now + ms).min(chaos_ms);
            }
            Mishap::Outage { manager, ms } => {
                self.manager_down_until[manager] = (self.now + ms).min(chaos_ms)
            }
            Mishap::Limit { meter, percent } => {
                let (row, _) = &meters[meter % meters.len()];
                let (id, limit) = (row.meter, row.limit * percent / 100);
                let news = self.ledger.set_limit(manager, id, limit, &mut self.reference);
                self.note_free_units(id);
                self.announce(news);
            }
            Mishap::Reset { meter } => {
                let id = meters[meter % meters.len()].0.meter;
                let news = self.ledger.reset(manager, id, &mut self.reference);
                self.note_free_units(id);
                self.announce(news);
            }
            Mishap::Drain { node } => {
                let old = self.replace(node % places);
                if self.fault == Fault::SharedHolder {
                    let new = self.places[node % places];
                    self.nodes[new].holder = self.nodes[old].holder;
                }
            }
            Mishap::Crash { node } => {
                let old = self.replace(node % places);
                self.nodes[old].is_alive = false;
                self.dead.insert(self.nodes[old].holder);
                if self.fault == Fault::HolderSurvivesCrash {
                    let new = self.places[node % places];
                    self.nodes[new].holder = self.nodes[old].holder;
                }
            }
            // Keys, configurations and wall clocks are known to whole gates alone.
            Mishap::Revoke { .. } | Mishap::Swap { .. } | Mishap::WallClock { .. } => {}
            Mishap::Backup => self.backup = self.ledger.tables.clone(),
            Mishap::Restore => {
                self.may_refuse = true;
                self.ledger.restore(self.backup.clone(), &mut self.reference);
                for (row, _) in self.scenario.meters.clone() {
                    self.note_free_units(row.meter);
                    // Nobody announces what the backup knows otherwise.
                    self.unannounced_until.insert(row.meter, self.now + KEEPS_MS);
                }
            }
            Mishap::Reclaim { meter } => {
                self.may_refuse = true;
                let id = meters[meter % meters.len()].0.meter;
                let news = self.ledger.reclaim(manager, id, &mut self.reference);
                self.note_free_units(id);
                self.announce(news);
            }
        }
    }

    /// Another process serves a place. Returns the old one.
    fn replace(&mut self, place: usize) -> usize {
        let clock = draw_clock(&mut self.rng);
        let new = self.start(clock);
        std::mem::replace(&mut self.places[place], new)
    }

    fn trap(&mut self, node: usize, vm: usize) {
        let old = &mut self.nodes[node].vms[vm];
        *self.outcome.refused.entry("trapped").or_default() += old.waiting.len() as u64;
        *old = Vm { life: old.life + 1, waiting: vec![] };
    }

    /// After the quiet time: what every node was refused as exhausted is spent to the last unit,
    /// but for what died with a process.
    fn check_the_end(&mut self) {
        if self.scenario.weather == Weather::Fair {
            let refused = self.outcome.refused.clone();
            let check = "in fair weather nobody is refused";
            return self.reference.check(refused.is_empty(), check, || format!("{refused:?}"));
        }
        for (row, _) in &self.scenario.meters {
            let meter = row.meter;
            let recently = self.now.saturating_sub(LAST_MS);
            let is_exhausted = (0..self.places.len())
                .all(|place| self.exhausted_at.get(&(place, meter)).is_some_and(|at| *at >= recently));
            let (row, _) = &self.ledger.tables.meters[&meter];
            let (generation, limit, debited) = (row.generation, row.limit, row.debited);
            if !is_exhausted || debited > limit {
                continue;
            }
            self.outcome.exact += 1;
            let admitted = self.reference.admitted(meter, generation);
            let withheld = self.reference.withheld(meter, generation);
            let out = self.reference.out(meter, generation);
            let shown = format!(
                "meter {meter} generation {generation}: {admitted} admitted, {out:?} out, limit {limit}"
            );
            // After a restore, the books of this epoch begin with what was debited before it.
            let whole =
                admitted + withheld == limit && (withheld == 0 || self.scenario.weather.loses_units());
            self.reference.check(whole, "demand uses the limit up", || shown.clone());
            let mut lost = BTreeMap::<HolderId, usize>::new();
            for (holder, _) in out {
                *lost.entry(holder).or_default() += 1;
            }
            let few = lost.iter().all(|(holder, leases)| {
                self.may_refuse || (self.dead.contains(holder) && *leases <= LOST_LEASES)
            });
            self.reference.check(few, "only the dead withhold units, a few leases each", || shown);
        }
    }
}
