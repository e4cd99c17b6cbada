//! The whole gate under the same weather: processes whose workers run the product's
//! [`Gate`](gate::gate::Gate), against managers with a change feed, a directory and the ledger.
//!
//! The lease protocol alone is played by [`crate::world`]. Here it is played as it is built in:
//! batched exchanges, a leader that polls, changes that travel through shared data, credentials
//! that are looked up, revoked and issued again, and requests that wait. So this is where the
//! bound of a revocation and the bound of a wait are held.

pub mod idle;
mod managers;
mod process;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use gate::gate::feed;
use gate::gate::{Answer, Call, CallId, Effect, Step, StreamId};
use gate::id::{HolderId, MeterId};
use gate::request::RequestHead;
use gate::wire::changes::ChangesAnswer;
use gate::wire::exchange::{ExchangeAnswer, ExchangeRequest};
use gate::wire::{CHANGES_PATH, DECISIONS_PATH, DIRECTORY_PATH};

use self::managers::{Managers, client_of, key_of};
use self::process::{Process, keys};
use crate::case::Case;
use crate::clock::{Clock, True};
use crate::faults::Fault;
use crate::ledger::{Ledger, Manager, Tables};
use crate::reference::{Op, Reference};
use crate::rng::Rng;
use crate::scenario::{Mishap, Scenario, Weather, draw_clock};
use crate::world::Outcome;

const TICK_MS: u64 = 100;
/// How often it is looked who waits.
const LOOK_MS: u64 = 50;
/// In how long a connected node refuses a revoked credential.
const REVOKED_MS: u64 = 1_000;
/// In how long what one worker has heard is known to all: a wake-up, at the latest a tick.
const SPREAD_MS: u64 = 2 * TICK_MS;
/// For how long a node that is cut off goes on with what it holds (`max_staleness_s`).
const STALE_MS: u64 = 60_000;
/// How long a request is held at most: for the first directory, a look-up, and a unit, each of
/// them noticed by a tick.
const HELD_MS: u64 = 5_000 + 2_000 + 300 + 3 * TICK_MS;
/// For how long after the chaos calls are still given up.
const RECOVERS_MS: u64 = 8_000;
/// How often a replica looks for new changes.
const HEAD_MS: u64 = 100;

#[derive(Clone, Debug)]
enum Event {
    /// A request comes in.
    Request {
        place: usize,
        caller: usize,
    },
    /// An admitted request is over.
    End {
        at: Worker,
        stream: StreamId,
    },
    Tick(Worker),
    Wake(Worker),
    /// A call reaches a manager; a poll is held until then.
    Call {
        from: Worker,
        call: Call,
        hold_until: Option<True>,
        manager: usize,
    },
    Answer {
        to: Worker,
        call: CallId,
        answer: Answer,
        poll: Option<True>,
    },
    /// A caller's key is issued again.
    Issue {
        caller: usize,
    },
    /// The host ends the configuration of all workers of a process.
    Ends {
        process: usize,
    },
    /// A transaction that was overtaken commits.
    Commit,
    /// The reference looks after those who wait.
    Look,
    Mishap(Mishap),
}

/// A worker of a process, in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Worker {
    process: usize,
    vm: usize,
    life: u32,
}

/// Whether a caller's key works, and since when.
#[derive(Clone, Copy, Debug)]
struct Key {
    revoked_at: Option<True>,
    issued_at: True,
}

struct Fleet {
    scenario: Scenario,
    rng: Rng,
    fault: Fault,
    now: True,
    queue: BinaryHeap<Reverse<(True, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    processes: Vec<Process>,
    places: Vec<usize>,
    /// Who still serves beside the process of a place, and until when.
    beside: BTreeMap<usize, (usize, True)>,
    /// Processes whose configuration has ended.
    ended: Vec<usize>,
    backup: Tables,
    /// Units may be lost: a process was killed, or a database restored.
    loses: bool,
    managers: Managers,
    manager_down_until: Vec<True>,
    keys: Vec<Key>,
    reference: Reference,
    refused_at: BTreeMap<(usize, MeterId), True>,
    /// The longest wait of an admitted request, by process and caller.
    waits: BTreeMap<(usize, usize), u64>,
    trapped: bool,
    outcome: Outcome,
}

/// Runs one case to its end, or to its first broken promise.
pub fn run(case: &Case, fault: Fault) -> Outcome {
    let mut fleet = Fleet::new(Scenario::draw(case), Rng::new(case.seed ^ 0xf1ee7), fault);
    fleet.run();
    fleet.outcome
}

impl Fleet {
    fn new(scenario: Scenario, rng: Rng, fault: Fault) -> Self {
        let ledger = Ledger::new(scenario.meters.clone(), fault);
        let mut reference = Reference::new(ledger.tables.epoch, &scenario.managers);
        for (row, _) in &scenario.meters {
            reference.limit_set(row.meter, row.generation, row.limit);
        }
        let mut fleet = Self {
            rng,
            fault,
            now: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            processes: vec![],
            places: vec![],
            beside: BTreeMap::new(),
            ended: vec![],
            backup: ledger.tables.clone(),
            loses: false,
            managers: Managers::new(ledger, fault),
            manager_down_until: vec![0; scenario.managers.len()],
            keys: vec![Key { revoked_at: None, issued_at: 0 }; scenario.callers.len()],
            reference,
            refused_at: BTreeMap::new(),
            waits: BTreeMap::new(),
            trapped: false,
            outcome: Outcome::default(),
            scenario,
        };
        for caller in 0..fleet.scenario.callers.len() {
            fleet.issue(caller);
        }
        for place in 0..fleet.scenario.nodes.len() {
            let process = fleet.start(fleet.scenario.nodes[place]);
            fleet.places.push(process);
            for caller in 0..fleet.scenario.callers.len() {
                let first = fleet.rng.between(1, 1 + fleet.scenario.pause_ms);
                fleet.at(first, Event::Request { place, caller });
            }
        }
        fleet.at(LOOK_MS, Event::Look);
        for (at, mishap) in fleet.scenario.mishaps.clone() {
            fleet.at(at, Event::Mishap(mishap));
        }
        fleet
    }

    fn start(&mut self, clock: Clock) -> usize {
        let process = self.processes.len();
        let started = Process::start(clock, self.scenario.workers, &mut self.rng);
        self.processes.push(started);
        for vm in 0..self.scenario.workers {
            let first = self.rng.between(0, TICK_MS - 1);
            self.at(self.now + first, Event::Tick(Worker { process, vm, life: 0 }));
        }
        process
    }

    fn at(&mut self, at: True, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((at, self.next_event)));
        self.events.insert(self.next_event, event);
    }

    fn run(&mut self) {
        let end = self.scenario.weather.chaos_ms() + self.scenario.weather.quiet_ms();
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if at > end || !self.reference.violations.is_empty() {
                break;
            }
            self.now = at;
            self.outcome.events += 1;
            let event = self.events.remove(&number).expect("each number is queued once");
            self.step(event);
        }
        if self.reference.violations.is_empty() {
            self.check_the_end();
        }
        self.outcome.violations = std::mem::take(&mut self.reference.violations);
    }

    fn is_fair(&self) -> bool {
        self.scenario.weather == Weather::ClearGates
    }

    fn is_quiet(&self) -> bool {
        self.is_fair() || self.now >= self.scenario.weather.chaos_ms()
    }

    /// Everything works, and for long enough that nothing of the chaos is left.
    fn has_recovered(&self) -> bool {
        self.now >= self.scenario.weather.chaos_ms() + RECOVERS_MS
    }

    fn strikes(&mut self, per_mille: u64) -> bool {
        !self.is_quiet() && self.rng.chance(per_mille)
    }

    fn delay(&mut self) -> u64 {
        if !self.strikes(self.scenario.vices.delays) {
            return self.rng.between(1, 8);
        }
        if self.rng.chance(800) { self.rng.between(30, 800) } else { self.rng.between(800, 15_000) }
    }

    fn is_there(&self, worker: Worker) -> bool {
        let process = &self.processes[worker.process];
        process.is_alive && process.vms[worker.vm].life == worker.life
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Request { place, caller } => {
                let pause = self.rng.between(1, 2 * self.scenario.pause_ms);
                self.at(self.now + pause, Event::Request { place, caller });
                let process = match self.beside.get(&place) {
                    Some((old, until)) if self.now < *until && self.rng.chance(500) => *old,
                    Some(_) | None => self.places[place],
                };
                let vm = self.rng.between(0, self.scenario.workers as u64 - 1) as usize;
                let worker = &mut self.processes[process].vms[vm];
                let (stream, life) = (StreamId(worker.next_stream), worker.life);
                worker.next_stream += 1;
                worker.held.insert(stream, (caller, self.now));
                self.decide(Worker { process, vm, life }, stream);
                self.drive(Worker { process, vm, life });
            }
            Event::End { at, stream } if self.is_there(at) => {
                let now = self.processes[at.process].now(self.now).mono;
                self.processes[at.process].vms[at.vm].gate.handle_end(stream, now);
            }
            Event::Look => {
                self.at(self.now + LOOK_MS, Event::Look);
                self.check_the_held();
            }
            Event::Tick(_) if self.fault == Fault::TimerStops && self.now > 30_000 => {}
            Event::Tick(worker) if self.is_there(worker) => {
                self.at(self.now + TICK_MS, Event::Tick(worker));
                let now = self.processes[worker.process].now(self.now);
                let (gate, mut data) = self.with(worker, Op::Feed);
                gate.handle_tick(&mut data, now);
                self.drive(worker);
            }
            Event::Wake(worker) if self.is_there(worker) => {
                let now = self.processes[worker.process].now(self.now);
                let (gate, mut data) = self.with(worker, Op::Feed);
                gate.handle_wake(&mut data, now);
                self.drive(worker);
            }
            Event::End { .. } | Event::Tick(_) | Event::Wake(_) => {}
            Event::Call { from, call, hold_until, manager } => self.called(from, call, hold_until, manager),
            Event::Answer { to, call, answer, poll } => self.answered(to, call, answer, poll),
            Event::Issue { caller } => {
                self.issue(caller);
                self.keys[caller] = Key { revoked_at: None, issued_at: self.now };
            }
            Event::Ends { process } => self.ends(process),
            Event::Commit => self.managers.commit_late(),
            Event::Mishap(mishap) => self.mishap(mishap),
        }
    }

    fn with(&mut self, worker: Worker, op: Op) -> (&mut gate::gate::Gate, process::Data<'_>) {
        let process = &mut self.processes[worker.process];
        process.with(worker.vm, op, self.fault, &mut self.reference, self.now)
    }

    /// Carries out what a gate wants.
    fn drive(&mut self, worker: Worker) {
        loop {
            let now = self.processes[worker.process].now(self.now);
            let (gate, mut data) = self.with(worker, Op::Freeze);
            let Some(effect) = gate.poll(&mut data, now) else { return };
            match effect {
                Effect::Decide(stream) => self.decide(worker, stream),
                Effect::Register { queue } => {
                    self.processes[worker.process].queues.insert(queue, (worker.vm, worker.life));
                }
                Effect::Wake { queue } => {
                    if let Some((vm, life)) = self.processes[worker.process].queues.get(&queue).copied() {
                        let soon = self.now + self.rng.between(1, 3);
                        self.at(soon, Event::Wake(Worker { process: worker.process, vm, life }));
                    }
                }
                Effect::Call(call) => self.send(worker, call),
                Effect::Count { .. } | Effect::Gauge { .. } => {}
                Effect::Notice(text) => {
                    self.reference.check(false, "nothing surprises a gate", || text);
                }
            }
        }
    }

    fn decide(&mut self, worker: Worker, stream: StreamId) {
        let Some((caller, since)) = self.processes[worker.process].vms[worker.vm].held.get(&stream).copied()
        else {
            return self
                .reference
                .check(false, "a request is decided once", || format!("{worker:?} {stream:?}"));
        };
        let key = key_of(caller);
        let head = RequestHead {
            method: b"GET",
            path: b"/orders/7",
            host: b"api.example.com",
            headers: vec![(b"x-api-key", key.as_bytes())],
            end_of_stream: true,
        };
        let now = self.processes[worker.process].now(self.now);
        let (gate, mut data) = self.with(worker, Op::Spend);
        let step = gate.handle_request(stream, &head, None, &mut data, now);
        let taken = std::mem::take(&mut data.taken);
        let asked: Vec<MeterId> = self.scenario.callers[caller].meters.iter().map(|meter| meter.id).collect();
        self.reference.decided(matches!(step, Step::Admit(_)), &asked, &taken);
        match step {
            Step::Admit(_) => {
                self.processes[worker.process].vms[worker.vm].held.remove(&stream);
                let holder = self.processes[worker.process].holder;
                let rate = &self.scenario.callers[caller];
                let (client, tps) = (rate.client, rate.tps);
                if let Some(holder) = holder {
                    self.reference.admitted_at_rate(holder, client, tps, now.mono);
                }
                self.outcome.admitted += 1;
                self.outcome.longest_wait_ms = self.outcome.longest_wait_ms.max(self.now - since);
                let longest = self.waits.entry((worker.process, caller)).or_default();
                *longest = (*longest).max(self.now - since);
                self.check_admitted(worker, caller);
                let end = self.now + self.rng.between(1, 50);
                self.at(end, Event::End { at: worker, stream });
            }
            Step::Respond(response) => {
                self.processes[worker.process].vms[worker.vm].held.remove(&stream);
                self.processes[worker.process].vms[worker.vm].gate.handle_end(stream, now.mono);
                *self.outcome.refused.entry(response.code).or_default() += 1;
                self.outcome.longest_wait_ms = self.outcome.longest_wait_ms.max(self.now - since);
                self.check_refused(worker, caller, response.code, &asked);
            }
            Step::Wait => {}
            Step::WaitForBody | Step::ReadBody => {
                self.reference.check(false, "a key needs no body", || format!("{step:?}"));
            }
        }
    }

    /// Nobody is let in who was revoked, once that could be known.
    fn check_admitted(&mut self, worker: Worker, caller: usize) {
        let process = &self.processes[worker.process];
        let (now, fair) = (self.now, self.is_fair() || self.has_recovered());
        let polled_at = process.polled_at.unwrap_or(0);
        self.reference.check(now <= polled_at + STALE_MS + STALE_MS / 500, "nothing stale is used", || {
            format!("{worker:?} at {now}, polled at {polled_at}")
        });
        let Some(revoked_at) = self.keys[caller].revoked_at else { return };
        let process = &self.processes[worker.process];
        let heard = process.polls.iter().find(|(told_at, _)| *told_at >= revoked_at).map(|(_, heard)| *heard);
        let heard_late = heard.is_some_and(|heard| now > heard + SPREAD_MS);
        let bound = !heard_late && (!fair || now <= revoked_at + REVOKED_MS);
        self.reference.check(bound, "a revoked key is refused within a second of contact", || {
            format!(
                "{worker:?} caller {caller}: revoked at {revoked_at}, heard at {heard:?}, let in at {now}"
            )
        });
    }

    fn check_refused(&mut self, worker: Worker, caller: usize, code: &'static str, asked: &[MeterId]) {
        // Of several meters, the answer does not tell which.
        if let ("quota_exhausted", [meter]) = (code, asked) {
            self.refused_at.insert((worker.process, *meter), self.now);
        }
        let key = self.keys[caller];
        let is_known = key.revoked_at.is_none() && key.issued_at + REVOKED_MS < self.now;
        let expected = match code {
            "credential_unknown" => !is_known || !self.has_recovered(),
            "quota_exhausted" | "quota_contended" | "rate_exceeded" => !self.is_fair(),
            // While a killed process's units are waited for, requests gather; when the window turns, leases of one
            // unit may all be taken by others before the patience of one of them ends.
            "quota_unavailable" => !self.has_recovered() || self.loses,
            _ => !self.has_recovered(),
        };
        let now = self.now;
        self.reference.check(expected, "once everything works, nobody is refused for want of it", || {
            format!("{worker:?} caller {caller} at {now}: {code}, {key:?}")
        });
    }

    /// Nobody waits for ever.
    fn check_the_held(&mut self) {
        let alive = self.processes.iter().enumerate().filter(|(_, process)| process.is_alive);
        let workers = alive.flat_map(|(number, process)| process.vms.iter().map(move |vm| (number, vm)));
        let held = workers.flat_map(|(number, vm)| vm.held.values().map(move |(_, since)| (*since, number)));
        let (oldest, now) = (held.min(), self.now);
        let in_time = oldest.is_none_or(|(since, _)| now <= since + HELD_MS);
        self.reference.check(in_time, "who waits is answered in time", || format!("{oldest:?} at {now}"));
    }

    fn send(&mut self, from: Worker, call: Call) {
        if call.path == DECISIONS_PATH {
            // Nothing rests on it; taken at once, without a throw of the dice.
            let answer = Answer::Received { status: 200, marked: true, body: vec![] };
            return self.at(self.now + 1, Event::Answer { to: from, call: call.id, answer, poll: None });
        }
        self.outcome.calls += 1;
        let timeout = self.now + u64::from(call.timeout_ms);
        self.at(timeout, Event::Answer { to: from, call: call.id, answer: Answer::Failed, poll: None });
        if let Ok(request) = serde_json::from_slice::<ExchangeRequest>(&call.body) {
            let known = *self.processes[from.process].holder.get_or_insert(request.holder);
            self.reference.check(known == request.holder, "a process has one name", || {
                format!("{from:?}: {known} and {}", request.holder)
            });
            for renewal in &request.renew {
                self.reference.asked((request.holder, renewal.meter, renewal.rec), renewal);
            }
        }
        if self.strikes(self.scenario.vices.traps) {
            return self.trap(from.process, from.vm);
        }
        let manager = self.rng.between(0, self.scenario.managers.len() as u64 - 1) as usize;
        if self.strikes(self.scenario.vices.repeats) {
            let delay = self.delay();
            let call = call.clone();
            self.at(self.now + delay, Event::Call { from, call, hold_until: None, manager });
        }
        if !self.strikes(self.scenario.vices.loss) {
            let delay = self.delay();
            self.at(self.now + delay, Event::Call { from, call, hold_until: None, manager });
        }
    }

    fn called(&mut self, from: Worker, call: Call, hold_until: Option<True>, number: usize) {
        if self.processes[from.process].cut_off_until > self.now {
            return;
        }
        if self.manager_down_until[number] > self.now {
            let answer = Event::Answer { to: from, call: call.id, answer: Answer::Failed, poll: None };
            return self.at(self.now + 1, answer);
        }
        let mut poll = None;
        let (status, body) = if call.path.starts_with(CHANGES_PATH) {
            let wait_ms = if call.path.contains("wait_ms=0") { 0 } else { 500 };
            let until = hold_until.unwrap_or(self.now + wait_ms);
            poll = Some(self.now);
            match self.managers.poll(&call) {
                Some(body) => (200, body),
                None if self.now >= until => (200, self.managers.nothing_new(&call)),
                None => {
                    let next = (self.now + HEAD_MS).min(until);
                    return self
                        .at(next, Event::Call { from, call, hold_until: Some(until), manager: number });
                }
            }
        } else if call.path.starts_with(DIRECTORY_PATH) {
            self.managers.directory(&call).map_or((304, vec![]), |body| (200, body))
        } else {
            let Some(body) = self.exchange(&call, number) else { return };
            (200, body)
        };
        if self.strikes(self.scenario.vices.loss) {
            return;
        }
        let delay = self.delay();
        let answer = Answer::Received { status, marked: true, body };
        self.at(self.now + delay, Event::Answer { to: from, call: call.id, answer, poll });
    }

    /// An exchange; none where the manager dies over it.
    fn exchange(&mut self, call: &Call, number: usize) -> Option<Vec<u8>> {
        let request: ExchangeRequest = match serde_json::from_slice(&call.body) {
            Ok(request) => request,
            Err(error) => {
                self.reference.check(false, "an exchange is read", || error.to_string());
                return None;
            }
        };
        let dies = self.strikes(self.scenario.vices.deaths);
        if dies {
            let ms = self.rng.between(100, 3_000);
            self.manager_down_until[number] = self.now + ms;
            if self.rng.chance(500) {
                return None;
            }
        }
        let manager = self.manager(number);
        let (_, body, news) = self.managers.exchange(manager, &request, &mut self.reference);
        if dies {
            return None;
        }
        news.into_iter().for_each(|subject| self.managers.record(subject));
        Some(body)
    }

    fn manager(&self, number: usize) -> Manager {
        Manager { number, clock: self.scenario.managers[number], now: self.now }
    }

    fn answered(&mut self, to: Worker, call: CallId, answer: Answer, poll: Option<True>) {
        let process = &self.processes[to.process];
        let failed = answer == Answer::Failed;
        if !self.is_there(to) || (process.cut_off_until > self.now && !failed) {
            return;
        }
        let is_exchange = matches!(&answer, Answer::Received { body, .. } if is_exchange(body));
        let now = self.processes[to.process].now(self.now);
        let op = if is_exchange { Op::Install } else { Op::Feed };
        let (gate, mut data) = self.with(to, op);
        let before = feed::read(&mut data, &keys()).polled_at;
        gate.handle_answer(call, answer, &mut data, now);
        // Of two workers that both believe to lead, one's answer is not used, and is no contact.
        let is_contact = feed::read(&mut data, &keys()).polled_at != before;
        if let Some(told_at) = poll.filter(|_| is_contact) {
            let process = &mut self.processes[to.process];
            process.polls.push((told_at, self.now));
            process.polled_at = process.polled_at.max(Some(told_at));
        }
        self.drive(to);
    }

    fn mishap(&mut self, mishap: Mishap) {
        let (places, chaos_ms) = (self.places.len(), self.scenario.weather.chaos_ms());
        let any = self.rng.between(0, self.scenario.managers.len() as u64 - 1) as usize;
        let manager = self.manager(any);
        let meters = &self.scenario.meters;
        match mishap {
            Mishap::Trap { node, vm } => self.trap(self.places[node % places], vm % self.scenario.workers),
            Mishap::Partition { node, ms } => {
                self.processes[self.places[node % places]].cut_off_until = (self.now + ms).min(chaos_ms);
            }
            Mishap::Outage { manager, ms } => {
                self.manager_down_until[manager] = (self.now + ms).min(chaos_ms)
            }
            Mishap::Limit { meter, percent } => {
                let (row, _) = &meters[meter % meters.len()];
                let limit = row.limit * percent / 100;
                let news = self.managers.ledger.set_limit(manager, row.meter, limit, &mut self.reference);
                news.into_iter().for_each(|subject| self.managers.record(subject));
            }
            Mishap::Reset { meter } => {
                let id = meters[meter % meters.len()].0.meter;
                let news = self.managers.ledger.reset(manager, id, &mut self.reference);
                news.into_iter().for_each(|subject| self.managers.record(subject));
            }
            Mishap::Revoke { caller } => {
                let caller = caller % self.scenario.callers.len();
                if self.keys[caller].revoked_at.is_none() {
                    self.managers.revoke(caller);
                    self.keys[caller].revoked_at = Some(self.now);
                    self.at(self.now + 400, Event::Commit);
                    let again = self.now + self.rng.between(1_500, 6_000);
                    self.at(again, Event::Issue { caller });
                }
            }
            Mishap::Drain { node } | Mishap::Crash { node } => {
                let clock = draw_clock(&mut self.rng);
                let new = self.start(clock);
                let old = std::mem::replace(&mut self.places[node % places], new);
                if matches!(mishap, Mishap::Crash { .. }) {
                    self.processes[old].is_alive = false;
                    self.loses = true;
                }
            }
            Mishap::Swap { node } => {
                // What another layout is to a process: records of its own, a name of its own, the same clock.
                let place = node % places;
                let old = self.places[place];
                self.places[place] = self.start(self.processes[old].clock);
                let until = self.now + self.rng.between(0, 5_000);
                self.beside.insert(place, (old, until));
                self.at(until + SPREAD_MS, Event::Ends { process: old });
            }
            Mishap::WallClock { node, ms } => self.processes[self.places[node % places]].wall_ms += ms,
            Mishap::Backup => self.backup = self.managers.ledger.tables.clone(),
            Mishap::Restore => {
                self.managers.ledger.restore(self.backup.clone(), &mut self.reference);
                self.loses = true;
            }
            Mishap::Reclaim { meter } => {
                let id = meters[meter % meters.len()].0.meter;
                let news = self.managers.ledger.reclaim(manager, id, &mut self.reference);
                news.into_iter().for_each(|subject| self.managers.record(subject));
            }
        }
    }

    fn issue(&mut self, caller: usize) {
        let known = &self.scenario.callers[caller];
        let (client, tps, meters) = (client_of(known.number), known.tps, known.meters.clone());
        self.managers.issue(caller, client, tps, meters);
    }

    /// Its workers end, each as the filter has it end: when the last request that it holds is over.
    fn ends(&mut self, process: usize) {
        let holds = self.processes[process].vms.iter().any(|vm| !vm.held.is_empty());
        if holds && self.processes[process].is_alive {
            return self.at(self.now + TICK_MS, Event::Ends { process });
        }
        self.ended.push(process);
        if self.fault == Fault::LeavesWithLeases {
            self.processes[process].is_alive = false;
        }
        for vm in 0..self.scenario.workers {
            let worker = Worker { process, vm, life: self.processes[process].vms[vm].life };
            if !self.is_there(worker) {
                continue;
            }
            let now = self.processes[process].now(self.now).mono;
            let (gate, mut data) = self.with(worker, Op::Feed);
            gate.retire(&mut data, now);
            self.drive(worker);
        }
    }

    fn trap(&mut self, process: usize, vm: usize) {
        let held = self.processes[process].trap(vm, &mut self.rng);
        *self.outcome.refused.entry("trapped").or_default() += held as u64;
        self.trapped = true;
        let life = self.processes[process].vms[vm].life;
        self.at(self.now + 1, Event::Tick(Worker { process, vm, life }));
    }

    /// A configuration that ended has left nothing behind.
    fn check_who_left(&mut self) {
        for process in self.ended.iter().map(|process| &self.processes[*process]) {
            let Some(holder) = process.holder else { continue };
            self.outcome.exact += 1;
            for (row, _) in &self.scenario.meters {
                let (row, _) = &self.managers.ledger.tables.meters[&row.meter];
                let out = self.reference.out(row.meter, row.generation);
                let held = out.iter().any(|(of, _)| *of == holder);
                self.reference.check(!held, "who leaves keeps nothing", || format!("{holder}: {out:?}"));
            }
        }
    }

    fn check_the_end(&mut self) {
        let (reported, admitted) = (self.managers.reported, self.outcome.admitted);
        // The last second is not reported yet, nor what a trapped worker had counted.
        self.reference
            .check(reported <= admitted, "a call is reported once", || format!("{reported} of {admitted}"));
        if self.is_fair() {
            self.check_who_left();
            let refused = self.outcome.refused.clone();
            let ours = |code: &&'static str| *code != "credential_unknown";
            let none = refused.keys().all(|code| !ours(code));
            return self
                .reference
                .check(none, "in fair weather nobody is refused", || format!("{refused:?}"));
        }
        if self.loses {
            return;
        }
        for (row, _) in &self.scenario.meters {
            let (row, _) = &self.managers.ledger.tables.meters[&row.meter];
            let (meter, generation, limit, debited) = (row.meter, row.generation, row.limit, row.debited);
            let recently = self.now.saturating_sub(10_000);
            let is_exhausted = self
                .places
                .iter()
                .all(|process| self.refused_at.get(&(*process, meter)).is_some_and(|at| *at >= recently));
            if !is_exhausted || debited > limit || row.window_ends_at.is_some() {
                continue;
            }
            // A gate that trapped begins anew with the next request. Where a process gets none any
            // more and all have trapped, nobody is left to give its leases back.
            let lost = |holder: &HolderId| {
                let held_by = |process: &&Process| process.holder == Some(*holder);
                let process = self.processes.iter().find(held_by);
                process.is_none_or(|process| process.vms.iter().all(|vm| !vm.gate.is_active()))
            };
            let out = self.reference.out(meter, generation);
            if out.iter().any(|(holder, _)| lost(holder)) {
                continue;
            }
            self.outcome.exact += 1;
            let admitted = self.reference.admitted(meter, generation);
            self.reference.check(admitted == limit, "demand uses the limit up", || {
                format!(
                    "meter {meter} generation {generation}: {admitted} admitted, limit {limit}, {out:?} out"
                )
            });
        }
    }
}

fn is_exchange(body: &[u8]) -> bool {
    serde_json::from_slice::<ExchangeAnswer>(body).is_ok()
        && serde_json::from_slice::<ChangesAnswer>(body).is_err()
}
