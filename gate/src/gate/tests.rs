//! The gate of one worker, and two of one process, against a manager that a test plays.

use super::*;
use crate::credential::dgrk;
use crate::denial::DECISION_HEADER;
use crate::id::{Epoch, Generation, LeaseId, Revision};
use crate::quota::bucket::MAX_METERS;
use crate::quota::holder::EVICT_IDLE_MS;
use crate::request::{CredentialKind, RequestHead};
use crate::shared::{Cas, CasMismatch};
use crate::time::{Interval, UnixMillis};
use crate::wire::changes::{Change, ChangesAnswer, Fingerprint, Subject};
use crate::wire::decisions::{Decision, DecisionsAnswer, DecisionsReport};
use crate::wire::directory::{Audience, DirectoryAnswer, PathRule, TokenKey};
use crate::wire::exchange::{
    ClientStatus, ExchangeAnswer, ExchangeRequest, Grant, Meter, MeterKind, Permission, Presented, Proof,
    RenewalAnswer, RenewalOutcome, Resolved, Secret,
};
use crate::wire::{CHANGES_PATH, DECISIONS_PATH, DIRECTORY_PATH, EXCHANGE_PATH, WIRE_VERSION};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

mod bearer;
mod leaving;
mod told;

/// Shared data of one process, with Envoy's rules.
struct Process {
    values: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    writes: u32,
    /// Where requests come from.
    source: &'static str,
    /// Signatures of tokens that were verified.
    verified: usize,
    /// The host has nothing to verify them with.
    cannot_verify: bool,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            writes: 0,
            source: "192.0.2.1:4711",
            verified: 0,
            cannot_verify: false,
        }
    }
}

impl Shared for Process {
    fn get(&mut self, key: &[u8]) -> Option<(Vec<u8>, Cas)> {
        self.values.get(key).map(|(value, cas)| (value.clone(), Cas(*cas)))
    }
    fn set(&mut self, key: &[u8], value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
        match self.values.get(key) {
            Some((_, held)) if *held != cas.0 => return Err(CasMismatch),
            _ => {}
        }
        self.writes += 1;
        self.values.insert(key.to_vec(), (value.to_vec(), self.writes));
        Ok(())
    }
    fn create(&mut self, key: &[u8], value: &[u8]) -> Result<(), CasMismatch> {
        self.set(key, value, crate::shared::CREATE)
    }
}

impl Host for Process {
    fn source(&mut self, _: StreamId) -> String {
        self.source.into()
    }
    fn verify_rs256(&mut self, spki: &[u8], signature: &[u8], text: &[u8]) -> Signature {
        self.verified += 1;
        match self.cannot_verify {
            true => Signature::Unchecked,
            false if signature == sign(spki, text) => Signature::Correct,
            false => Signature::Incorrect,
        }
    }
}

/// Stands for RS256: the real one is the host's.
fn sign(spki: &[u8], text: &[u8]) -> [u8; 32] {
    crate::credential::Fingerprint::of(&[spki, text].concat()).0
}

/// What the manager of a test knows.
struct Manager {
    revision: u64,
    changes: Vec<Change>,
    known: BTreeMap<String, Grant>,
    settings: Settings,
    /// Of its only API.
    path: PathRule,
    audience: Audience,
    token_keys: Vec<TokenKey>,
    resolves: usize,
    /// Its answer to every renewal that wants something.
    ledger: RenewalOutcome,
    /// The next poll is answered with a reset.
    resets: bool,
    usage: BTreeMap<String, u64>,
    decisions: Vec<Decision>,
    answers: Vec<crate::wire::exchange::UsageRow>,
}

const API_KEY: &str = "a2V5MQ==";
const SECRET: &str = "c2VjcmV0";

fn grant(credential: &str, proof: Proof) -> Grant {
    Grant {
        credential: credential.into(),
        client: "shop".into(),
        proof,
        client_status: ClientStatus::Active,
        client_validity: None,
        service_time: None,
        addresses: vec![],
        bound: false,
        active: true,
        effective_at: None,
        revoked_at: None,
        expires_at: None,
        permission: Permission::Groups { groups: vec!["g1".into(), "g2".into()] },
        audience: Audience::Both,
        priority: 5,
        tps: 0,
        meters: vec![],
        utc_offset_min: 0,
        keep_s: 3_600,
    }
}

fn hex(key: &str) -> String {
    crate::credential::Fingerprint::of(key.as_bytes()).to_hex()
}

impl Manager {
    fn new() -> Self {
        let secret = Secret { id: "s1".into(), text: SECRET.into() };
        Self {
            revision: 10,
            changes: vec![],
            known: [
                (hex("good"), grant("xk_1", Proof::Presented)),
                (API_KEY.into(), grant("dk_1", Proof::Signature { secrets: vec![secret] })),
            ]
            .into(),
            settings: Settings::default(),
            path: PathRule::Exact("/orders".into()),
            audience: Audience::Both,
            token_keys: vec![],
            resolves: 0,
            ledger: RenewalOutcome::Exhausted { window_left_ms: None },
            resets: false,
            usage: BTreeMap::new(),
            decisions: vec![],
            answers: vec![],
        }
    }

    fn change(&mut self, subject: Subject) {
        self.revision += 1;
        self.changes.push(Change { revision: Revision(self.revision), subject });
    }

    fn revoke(&mut self, key: &str) {
        let id = self.known.remove(&hex(key)).unwrap().credential;
        self.change(Subject::Credential { credential: id, fingerprint: Fingerprint::XApiKey(hex(key)) });
    }

    fn answer(&mut self, call: &Call) -> Answer {
        let body = if call.path.starts_with(CHANGES_PATH) {
            let since: u64 =
                call.path.split("since=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
            let changes: Vec<Change> =
                self.changes.iter().filter(|change| change.revision.0 > since).cloned().collect();
            serde_json::to_vec(&ChangesAnswer {
                version: WIRE_VERSION,
                epoch: Epoch(5),
                revision: Revision(self.revision),
                reset: std::mem::take(&mut self.resets) || call.path.contains("epoch=0&"),
                changes,
            })
        } else if call.path.starts_with(DIRECTORY_PATH) {
            serde_json::to_vec(&DirectoryAnswer {
                version: WIRE_VERSION,
                epoch: Epoch(5),
                revision: Revision(self.revision),
                since: None,
                settings: self.settings.clone(),
                apis: vec![ApiEntry {
                    uid: "orders".into(),
                    module: "shop".into(),
                    id: "orders".into(),
                    hosts: vec![],
                    methods: vec![],
                    path: self.path.clone(),
                    accepts: vec![CredentialKind::Dgrk, CredentialKind::XApiKey, CredentialKind::Bearer],
                    no_auth: false,
                    enabled: true,
                    audience: self.audience,
                    groups: vec!["g1".into()],
                    unsigned_forms: false,
                }],
                token_keys: self.token_keys.clone(),
                removed: vec![],
            })
        } else if call.path == DECISIONS_PATH {
            let report: DecisionsReport = serde_json::from_slice(&call.body).unwrap();
            self.decisions.extend(report.decisions);
            serde_json::to_vec(&DecisionsAnswer { version: WIRE_VERSION, seq: report.seq })
        } else {
            assert_eq!(call.path, EXCHANGE_PATH);
            let request: ExchangeRequest = serde_json::from_slice(&call.body).unwrap();
            self.resolves += request.resolve.len();
            let resolved = request.resolve.iter().map(|presented| {
                let name = match presented {
                    Presented::Dgrk { api_key } => api_key,
                    Presented::XApiKey { sha256 } | Presented::Bearer { sha256 } => sha256,
                    Presented::Basic { client, .. } => client,
                };
                match self.known.get(name) {
                    Some(grant) => Resolved::Known { grant: Box::new(grant.clone()) },
                    None => Resolved::Unknown,
                }
            });
            let resolved = resolved.collect();
            for row in request.usage.iter().flat_map(|usage| &usage.rows) {
                *self.usage.entry(row.result.clone()).or_default() += row.count;
            }
            let rows = request.usage.iter().flat_map(|usage| usage.rows.clone());
            self.answers.extend(rows.filter(|row| !row.latency.is_empty()));
            serde_json::to_vec(&ExchangeAnswer {
                version: WIRE_VERSION,
                epoch: Epoch(5),
                as_of: Revision(self.revision),
                resolved,
                renewed: request
                    .renew
                    .iter()
                    .map(|renewal| RenewalAnswer {
                        meter: renewal.meter,
                        rec: renewal.rec,
                        seq: renewal.seq,
                        outcome: if renewal.want == 0 { RenewalOutcome::Closed } else { self.ledger },
                    })
                    .collect(),
                usage_seq: request.usage.map(|usage| usage.seq),
            })
        };
        Answer::Received { status: 200, marked: true, body: body.unwrap() }
    }
}

/// A request as it was sent.
#[derive(Clone)]
struct Sent {
    method: &'static str,
    headers: Vec<(&'static str, String)>,
    end_of_stream: bool,
    body: Vec<u8>,
}

/// A process with some workers, its manager, and what lies between them.
struct World {
    process: Process,
    gates: Vec<Gate>,
    manager: Manager,
    now: u64,
    /// Calls not answered yet, with the worker that sent them.
    calls: Vec<(usize, Call)>,
    /// Queues with something in them.
    woken: Vec<Vec<u8>>,
    queues: BTreeMap<Vec<u8>, usize>,
    /// What became of held streams.
    steps: Vec<(usize, StreamId, Step)>,
    sent: BTreeMap<(usize, StreamId), Sent>,
    /// Of every request.
    path: String,
    /// Counters and gauges as told.
    metrics: BTreeMap<String, u64>,
    /// Notices are expected.
    tolerant: bool,
}

impl World {
    fn new(workers: usize) -> Self {
        Self::with_origin(workers, OriginRule::Always(Origin::External))
    }

    fn with_origin(workers: usize, origin: OriginRule) -> Self {
        let setup = Setup {
            namespace: b"kg:1:test:".to_vec(),
            origin,
            health_path: Some("/health".into()),
            cache_entries: 100,
            filter_version: "test".into(),
        };
        Self {
            process: Process::default(),
            gates: (0..workers).map(|n| Gate::new(setup.clone(), [n as u8 + 1; 32])).collect(),
            manager: Manager::new(),
            now: 1_000_000,
            calls: vec![],
            woken: vec![],
            queues: BTreeMap::new(),
            steps: vec![],
            sent: BTreeMap::new(),
            path: "/orders?q=1".into(),
            metrics: BTreeMap::new(),
            tolerant: false,
        }
    }

    fn now(&self) -> Now {
        Now { unix: UnixMillis(1_700_000_000_000 + self.now as i64), mono: MonoMillis(self.now) }
    }

    fn end(&mut self, worker: usize, stream: u32, status: Option<u16>) {
        if let Some(status) = status {
            self.gates[worker].handle_answer_head(StreamId(stream), status.to_string().as_bytes());
        }
        self.gates[worker].handle_end(StreamId(stream), MonoMillis(self.now));
    }

    fn decide(&mut self, worker: usize, stream: StreamId) -> Step {
        let Sent { method, headers, end_of_stream, body } = self.sent[&(worker, stream)].clone();
        let head = RequestHead {
            method: method.as_bytes(),
            path: self.path.as_bytes(),
            host: b"api.example.com",
            headers: headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect(),
            end_of_stream,
        };
        let now = self.now();
        let step = self.gates[worker].handle_request(stream, &head, None, &mut self.process, now);
        if step != Step::ReadBody {
            return step;
        }
        self.gates[worker].handle_request(stream, &head, Some(&body), &mut self.process, now)
    }

    /// A request without a body.
    fn get(&mut self, worker: usize, stream: u32, headers: &[(&'static str, &str)]) -> Step {
        self.request(worker, stream, "GET", headers, true, b"")
    }

    fn request(
        &mut self,
        worker: usize,
        stream: u32,
        method: &'static str,
        headers: &[(&'static str, &str)],
        end_of_stream: bool,
        body: &[u8],
    ) -> Step {
        let headers = headers.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let stream = StreamId(stream);
        self.sent.insert((worker, stream), Sent { method, headers, end_of_stream, body: body.to_vec() });
        let step = self.decide(worker, stream);
        self.carry_out(worker);
        step
    }

    fn carry_out(&mut self, worker: usize) {
        let now = self.now();
        while let Some(effect) = self.gates[worker].poll(&mut self.process, now) {
            match effect {
                Effect::Decide(stream) => {
                    let step = self.decide(worker, stream);
                    self.steps.push((worker, stream, step));
                }
                Effect::Register { queue } => {
                    self.queues.insert(queue, worker);
                }
                Effect::Wake { queue } => self.woken.push(queue),
                Effect::Call(call) => self.calls.push((worker, call)),
                Effect::Notice(text) if !self.tolerant => panic!("{text}"),
                Effect::Notice(_) => {}
                Effect::Count { metric, by } => *self.metrics.entry(metric).or_default() += by,
                Effect::Gauge { metric, value } => {
                    self.metrics.insert(metric, value);
                }
            }
        }
    }

    /// The manager answers what was asked so far, except long polls without news.
    fn answer_all(&mut self) {
        for _ in 0..20 {
            let calls = core::mem::take(&mut self.calls);
            let (polls, others): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(_, call)| {
                let caught_up = format!("since={}&", self.manager.revision);
                call.path.starts_with(CHANGES_PATH) && call.path.contains(&caught_up)
            });
            self.calls = polls;
            if others.is_empty() && self.woken.is_empty() {
                return;
            }
            for (worker, call) in others {
                let answer = self.manager.answer(&call);
                self.deliver(worker, call.id, answer);
            }
            for queue in core::mem::take(&mut self.woken) {
                let worker = self.queues[&queue];
                let now = self.now();
                self.gates[worker].handle_wake(&mut self.process, now);
                self.carry_out(worker);
            }
        }
        panic!("no end of calls: {:?}", self.calls);
    }

    fn deliver(&mut self, worker: usize, call: CallId, answer: Answer) {
        let now = self.now();
        self.gates[worker].handle_answer(call, answer, &mut self.process, now);
        self.carry_out(worker);
    }

    fn take_call(&mut self, path: &str) -> (usize, Call) {
        let at = self.calls.iter().position(|(_, call)| call.path.starts_with(path)).unwrap();
        self.calls.remove(at)
    }

    /// Time passes, in ticks, for the workers given.
    fn pass(&mut self, millis: u64, workers: &[usize]) {
        for _ in 0..millis / 100 {
            self.now += 100;
            for worker in workers {
                let now = self.now();
                self.gates[*worker].handle_tick(&mut self.process, now);
                self.carry_out(*worker);
            }
        }
    }

    /// A world in which worker 0 has asked for everything once.
    fn warm(workers: usize) -> Self {
        let mut world = Self::new(workers);
        for worker in 0..workers {
            world.get(worker, 1, &[("x-api-key", "good")]);
            world.answer_all();
        }
        world.steps.clear();
        world
    }
}

fn is_admitted(step: &Step) -> bool {
    matches!(step, Step::Admit(_))
}

fn code(step: &Step) -> &str {
    match step {
        Step::Respond(response) => response.code,
        Step::Admit(_) => "admitted",
        Step::Wait => "wait",
        Step::WaitForBody => "wait for body",
        Step::ReadBody => "read body",
    }
}

#[test]
fn a_gate_does_nothing_before_its_first_request() {
    let mut world = World::new(1);
    world.pass(1_000, &[0]);
    assert!(world.process.values.is_empty() && world.calls.is_empty());
}

#[test]
fn the_first_request_waits_for_the_directory_and_is_admitted() {
    let mut world = World::new(1);
    assert_eq!(world.get(0, 1, &[("x-api-key", "good")]), Step::Wait);
    world.answer_all();
    assert_eq!(world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(), ["wait", "admitted"]);
    assert!(is_admitted(&world.get(0, 2, &[("x-api-key", "good")])), "and the next one does not wait");
}

#[test]
fn without_a_manager_the_first_request_is_refused_in_time() {
    let mut world = World::new(1);
    assert_eq!(world.get(0, 1, &[("x-api-key", "good")]), Step::Wait);
    world.pass(DIRECTORY_WAIT_MS - 100, &[0]);
    assert!(world.steps.is_empty());
    world.pass(200, &[0]);
    assert_eq!(
        world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(),
        ["directory_unavailable"]
    );
}

#[test]
fn readiness_is_told_from_local_state() {
    let health = |world: &mut World| {
        let head =
            RequestHead { method: b"GET", path: b"/health", end_of_stream: true, ..RequestHead::default() };
        let now = world.now();
        let step = world.gates[0].handle_request(StreamId(99), &head, None, &mut world.process, now);
        world.carry_out(0);
        match step {
            Step::Respond(response) => response.status,
            other => panic!("{other:?}"),
        }
    };
    let mut world = World::new(1);
    assert_eq!(health(&mut world), 503);
    world.answer_all();
    assert_eq!(health(&mut world), 200);
    world.calls.clear();
    world.now += 61_000;
    assert_eq!(health(&mut world), 503);
}

#[test]
fn requests_for_the_same_unknown_are_asked_for_once() {
    let mut world = World::warm(1);
    world.manager.resolves = 0;
    for stream in 10..40 {
        assert_eq!(world.get(0, stream, &[("x-api-key", "nobody")]), Step::Wait);
    }
    world.answer_all();
    assert_eq!(world.steps.len(), 30);
    assert!(world.steps.iter().all(|(_, _, step)| code(step) == "credential_unknown"));
    assert_eq!(world.manager.resolves, 1);
    assert_eq!(code(&world.get(0, 50, &[("x-api-key", "nobody")])), "credential_unknown");
    assert_eq!(world.manager.resolves, 1, "and an unknown is remembered");
}

#[test]
fn a_source_of_unknown_credentials_is_throttled_and_known_ones_are_not() {
    let mut world = World::warm(1);
    let mut throttled = 0;
    for n in 0..FAILED_LOOKUPS_PER_S as u32 + 10 {
        let step = world.get(0, 100 + n, &[("x-api-key", &format!("nobody{n}"))]);
        world.answer_all();
        throttled += usize::from(code(&step) == "lookups_throttled");
    }
    assert_eq!(throttled, 10);
    assert!(is_admitted(&world.get(0, 900, &[("x-api-key", "good")])));
    world.now += 1_000;
    assert_eq!(world.get(0, 901, &[("x-api-key", "nobody-at-last")]), Step::Wait);
}

#[test]
fn a_late_answer_does_not_undo_a_revocation() {
    let mut world = World::warm(1);
    world.manager.known.insert(hex("late"), grant("xk_2", Proof::Presented));
    assert_eq!(world.get(0, 10, &[("x-api-key", "late")]), Step::Wait);
    let (worker, exchange) = world.take_call(EXCHANGE_PATH);
    let answer = world.manager.answer(&exchange);
    world.manager.revoke("late");
    world.answer_all();
    world.deliver(worker, exchange.id, answer);
    assert!(world.steps.is_empty(), "the answer is of before the revocation");
    world.pass(100, &[0]);
    world.answer_all();
    assert_eq!(world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(), ["credential_unknown"]);
}

#[test]
fn a_lookup_that_nobody_answers_is_given_up() {
    let mut world = World::warm(1);
    assert_eq!(world.get(0, 10, &[("x-api-key", "new")]), Step::Wait);
    world.pass(1_900, &[0]);
    assert!(world.steps.is_empty());
    world.pass(200, &[0]);
    assert_eq!(world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(), ["lookup_unavailable"]);
}

#[test]
fn a_change_reaches_every_worker_and_one_alone_polls() {
    let mut world = World::warm(3);
    let polling: Vec<usize> = world.calls.iter().map(|(worker, _)| *worker).collect();
    assert_eq!(polling, [0]);
    for worker in 0..3 {
        assert!(is_admitted(&world.get(worker, 10, &[("x-api-key", "good")])));
    }
    world.manager.revoke("good");
    world.answer_all();
    for worker in 0..3 {
        assert_eq!(world.get(worker, 11, &[("x-api-key", "good")]), Step::Wait, "worker {worker}");
    }
}

#[test]
fn another_worker_leads_when_the_leader_is_gone() {
    let mut world = World::warm(2);
    world.calls.clear();
    world.pass(feed::LEADER_STALE_MS, &[1]);
    assert!(world.calls.iter().all(|(_, call)| !call.path.starts_with(CHANGES_PATH)));
    world.pass(200, &[1]);
    assert!(world.calls.iter().any(|(worker, call)| *worker == 1 && call.path.starts_with(CHANGES_PATH)));
    world.manager.revoke("good");
    world.answer_all();
    assert_eq!(world.get(1, 11, &[("x-api-key", "good")]), Step::Wait);
}

#[test]
fn a_retired_leader_is_followed_at_the_next_tick() {
    let mut world = World::warm(2);
    world.calls.clear();
    let now = world.now().mono;
    assert!(!world.gates[0].retire(&mut world.process, now));
    world.pass(100, &[1]);
    assert!(world.calls.iter().any(|(worker, call)| *worker == 1 && call.path.starts_with(CHANGES_PATH)));
}

#[test]
fn a_worker_behind_the_ring_asks_for_everything_anew() {
    let mut world = World::warm(2);
    for n in 0..=feed::RING_BATCHES {
        world.manager.change(Subject::Client { client: format!("other{n}").as_str().into() });
        let (worker, poll) = world.take_call(CHANGES_PATH);
        let answer = world.manager.answer(&poll);
        world.now += 100;
        world.deliver(worker, poll.id, answer);
    }
    assert!(is_admitted(&world.get(0, 20, &[("x-api-key", "good")])), "the leader saw each of them");
    let now = world.now();
    world.gates[1].handle_wake(&mut world.process, now);
    world.carry_out(1);
    assert_eq!(world.get(1, 20, &[("x-api-key", "good")]), Step::Wait);
}

#[test]
fn a_reset_of_the_feed_ends_a_kept_exhausted() {
    let mut world = World::new(1);
    let meter =
        Meter { id: MeterId(7), kind: MeterKind::ClientQuota, limit: 5, window_s: None, horizon_s: 30 };
    world.manager.known.get_mut(&hex("good")).unwrap().meters = vec![meter];
    let headers = [("x-api-key", "good")];
    world.get(0, 1, &headers);
    world.answer_all();
    assert_eq!(
        world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(),
        ["wait", "wait", "quota_exhausted"]
    );
    // The limit was raised, and the change that says so is among those that were missed.
    world.manager.ledger = RenewalOutcome::Granted {
        lease: LeaseId(1),
        generation: Generation(1),
        units: 5,
        ttl_ms: 60_000,
        window_left_ms: None,
        opens_in_ms: None,
        remaining: 0,
    };
    assert_eq!(code(&world.get(0, 2, &headers)), "quota_exhausted");
    world.manager.resets = true;
    world.manager.change(Subject::Directory);
    world.answer_all();
    world.steps.clear();
    assert_eq!(world.get(0, 3, &headers), Step::Wait);
    world.answer_all();
    assert!(world.steps.last().is_some_and(|(_, _, step)| is_admitted(step)), "{:?}", world.steps);
}

#[test]
fn a_gate_cut_off_refuses_after_the_bound() {
    let mut world = World::warm(1);
    world.calls.clear();
    world.pass(59_000, &[0]);
    assert!(is_admitted(&world.get(0, 10, &[("x-api-key", "good")])));
    world.pass(2_000, &[0]);
    assert_eq!(code(&world.get(0, 11, &[("x-api-key", "good")])), "stale");
}

#[test]
fn the_bound_of_the_settings_holds_from_the_first_poll_on() {
    // The first poll is answered before the settings are known, whose default is longer.
    let mut world = World::new(1);
    world.manager.settings.max_staleness_s = 2;
    world.get(0, 1, &[("x-api-key", "good")]);
    world.answer_all();
    assert!(is_admitted(&world.get(0, 10, &[("x-api-key", "good")])));
    world.calls.clear();
    world.pass(3_000, &[0]);
    assert_eq!(code(&world.get(0, 11, &[("x-api-key", "good")])), "stale");
}

#[test]
fn what_only_we_may_write_is_removed_and_who_calls_is_told() {
    let mut world = World::warm(1);
    let step = world.get(
        0,
        10,
        &[("x-keygate-client-id", "me"), ("x_keygate.admin", "me"), ("x-api-key", "good"), ("x-other", "1")],
    );
    let Step::Admit(admission) = step else { panic!("{step:?}") };
    assert_eq!(admission.remove, [b"x-keygate-client-id".to_vec(), b"x_keygate.admin".to_vec()]);
    let identity = admission.identity.unwrap();
    assert_eq!((identity.client.as_str(), identity.credential.as_str()), ("shop", "xk_1"));
    assert_eq!(identity.groups.as_deref(), Some("g1,g2"));
}

#[test]
fn a_signed_body_is_read_once_it_is_complete_and_its_key_is_known() {
    let body = br#"{ "a": 1 }"#;
    let right = dgrk::sign(API_KEY, SECRET, body);
    let wrong = dgrk::sign(API_KEY, SECRET, b"another");
    for (authorization, body_first, result) in [
        (&right, true, "admitted"),
        (&right, false, "admitted"),
        (&wrong, true, "signature_incorrect"),
        (&wrong, false, "signature_incorrect"),
    ] {
        let mut world = World::warm(1);
        let headers = [("authorization", authorization.as_str())];
        assert_eq!(world.request(0, 10, "POST", &headers, false, body), Step::WaitForBody);
        let stream = StreamId(10);
        if !body_first {
            world.answer_all();
            assert!(world.steps.iter().all(|(_, _, step)| *step == Step::WaitForBody));
        }
        assert_eq!(world.gates[0].handle_body(stream, 4, false), BodyStep::Hold);
        assert_eq!(world.gates[0].handle_body(stream, body.len(), true), BodyStep::Decide);
        let step = world.decide(0, stream);
        world.carry_out(0);
        if body_first {
            assert_eq!(step, Step::WaitForBody);
            world.answer_all();
            assert_eq!(code(&world.steps.last().unwrap().2), result);
        } else {
            assert_eq!(code(&step), result);
        }
    }
}

#[test]
fn the_body_of_a_refused_request_never_goes_upstream() {
    let mut world = World::warm(1);
    let authorization = dgrk::sign(API_KEY, SECRET, b"another body");
    let headers = [("authorization", authorization.as_str())];
    let stream = StreamId(10);
    assert_eq!(world.request(0, 10, "POST", &headers, false, b""), Step::WaitForBody);
    assert_eq!(world.gates[0].handle_body(stream, (1 << 20) + 1, false), BodyStep::Decide);
    assert_eq!(code(&world.decide(0, stream)), "body_too_large");
    // A proxy that goes on all the same is told to hold: continuing would release the headers.
    assert_eq!(world.gates[0].handle_body(stream, (1 << 20) + 2, true), BodyStep::Hold);
    assert_eq!(world.gates[0].handle_trailers(stream), BodyStep::Hold);
}

#[test]
fn a_signed_body_over_the_limit_is_refused_as_soon_as_it_shows() {
    let mut world = World::warm(1);
    let authorization = dgrk::sign(API_KEY, SECRET, b"x");
    let headers = [("authorization", authorization.as_str()), ("content-length", "1048577")];
    assert_eq!(code(&world.request(0, 10, "POST", &headers, false, b"")), "body_too_large");
    assert_eq!(world.request(0, 11, "POST", &headers[..1], false, b""), Step::WaitForBody);
    assert_eq!(world.gates[0].handle_body(StreamId(11), 1 << 20, false), BodyStep::Hold);
    assert_eq!(world.gates[0].handle_body(StreamId(11), (1 << 20) + 1, false), BodyStep::Decide);
    assert_eq!(code(&world.decide(0, StreamId(11))), "body_too_large");
}

#[test]
fn wrong_signatures_use_up_the_budget_of_their_source() {
    let mut world = World::warm(1);
    let authorization = dgrk::sign(API_KEY, SECRET, b"another");
    let body = vec![b'x'; 1 << 20];
    let mut results = vec![];
    for stream in 10..30 {
        world.request(0, stream, "POST", &[("authorization", &authorization)], false, &body);
        world.answer_all();
        world.gates[0].handle_body(StreamId(stream), body.len(), true);
        results.push(code(&world.decide(0, StreamId(stream))).to_string());
    }
    let throttled = results.iter().filter(|code| *code == "signatures_throttled").count();
    assert!((3..=5).contains(&throttled), "16 MiB and a little: {results:?}");
    world.now += 1_000;
    let right = dgrk::sign(API_KEY, SECRET, b"");
    assert!(is_admitted(&world.get(0, 50, &[("authorization", &right)])));
}

#[test]
fn a_stream_counts_until_its_end_and_the_worst_priority_goes_first() {
    let mut world = World::new(1);
    world.manager.settings.capacity = 4;
    world.get(0, 1, &[("x-api-key", "good")]);
    world.answer_all();
    // Priority 5 may use three quarters of four.
    for stream in 2..=3 {
        assert!(is_admitted(&world.get(0, stream, &[("x-api-key", "good")])));
    }
    assert_eq!(code(&world.get(0, 4, &[("x-api-key", "good")])), "overloaded");
    world.end(0, 2, None);
    assert!(is_admitted(&world.get(0, 5, &[("x-api-key", "good")])));
}

#[test]
fn a_stream_that_ends_while_it_waits_is_forgotten() {
    let mut world = World::warm(1);
    assert_eq!(world.get(0, 10, &[("x-api-key", "new")]), Step::Wait);
    world.end(0, 10, None);
    world.answer_all();
    assert!(world.steps.is_empty());
    assert!(world.gates[0].lookups.is_empty() && world.gates[0].waiting_for_lookups == 0);
}

#[test]
fn usage_is_reported_once_and_nothing_is_lost_with_a_cached_grant() {
    let mut world = World::warm(1);
    for stream in 10..15 {
        world.get(0, stream, &[("x-api-key", "good")]);
    }
    world.manager.revoke("good");
    world.answer_all();
    world.pass(1_100, &[0]);
    world.answer_all();
    world.pass(1_100, &[0]);
    world.answer_all();
    assert_eq!(world.manager.usage.get("admitted"), Some(&6));
}

#[test]
fn an_answer_is_timed_from_the_head_of_its_request_though_that_waited() {
    let mut world = World::warm(1);
    assert!(is_admitted(&world.get(0, 10, &[("x-api-key", "good")])));
    world.now += 30;
    world.end(0, 10, Some(503));
    world.manager.known.insert(hex("new"), grant("xk_2", Proof::Presented));
    assert_eq!(world.get(0, 11, &[("x-api-key", "new")]), Step::Wait);
    world.now += 40;
    world.answer_all();
    assert!(is_admitted(&world.steps[0].2));
    world.now += 5;
    world.end(0, 11, Some(200));
    // Nobody answered this one, and a refused one is nobody's answer.
    world.get(0, 12, &[("x-api-key", "good")]);
    world.end(0, 12, None);
    world.get(0, 13, &[]);
    world.end(0, 13, Some(401));
    world.pass(1_100, &[0]);
    world.answer_all();
    let mut told: Vec<_> =
        world.manager.answers.iter().map(|row| (row.result.as_str(), row.latency.clone())).collect();
    told.sort();
    let expected = [
        ("answered_2xx", vec![[5, 1, 45]]),
        ("answered_5xx", vec![[5, 1, 30]]),
        ("answered_not", vec![[0, 1, 0]]),
    ];
    assert_eq!(told, expected);
    assert!(world.manager.answers.iter().all(|row| row.client.is_some() && row.api.is_some()));
}

#[test]
fn a_grant_that_does_not_ask_a_dgrk_key_for_its_secret_is_not_used() {
    let mut world = World::warm(1);
    world.manager.known.insert("b3Blbg==".into(), grant("dk_2", Proof::Presented));
    let authorization = dgrk::sign("b3Blbg==", "whatever", b"");
    assert_eq!(world.get(0, 10, &[("authorization", &authorization)]), Step::Wait);
    let (worker, exchange) = world.take_call(EXCHANGE_PATH);
    let answer = world.manager.answer(&exchange);
    let now = world.now();
    world.gates[worker].handle_answer(exchange.id, answer, &mut world.process, now);
    let mut notices = 0;
    while let Some(effect) = world.gates[worker].poll(&mut world.process, now) {
        match effect {
            Effect::Notice(_) => notices += 1,
            Effect::Decide(stream) => {
                let step = world.decide(worker, stream);
                assert_eq!(code(&step), "credential_unknown");
            }
            Effect::Call(_)
            | Effect::Register { .. }
            | Effect::Wake { .. }
            | Effect::Count { .. }
            | Effect::Gauge { .. } => {}
        }
    }
    assert_eq!(notices, 1);
}

#[test]
fn an_answer_without_the_managers_mark_is_no_answer() {
    let mut world = World::warm(1);
    assert_eq!(world.get(0, 10, &[("x-api-key", "new")]), Step::Wait);
    let (worker, exchange) = world.take_call(EXCHANGE_PATH);
    let Answer::Received { status, body, .. } = world.manager.answer(&exchange) else { panic!() };
    world.deliver(worker, exchange.id, Answer::Received { status, marked: false, body });
    assert!(world.steps.is_empty());
    world.pass(200, &[0]);
    world.answer_all();
    assert_eq!(world.steps.len(), 1, "it is asked again");
}

/// Internal by its address, as `internal_ranges` has it.
fn inside() -> OriginRule {
    let blocks = ["10.0.0.0/8", "2001:db8:1::/48"];
    OriginRule::InternalFrom(blocks.iter().map(|block| Block::parse(block).unwrap()).collect())
}

#[test]
fn origin_is_told_by_listener_or_by_address() {
    for (what, rule, source, internal) in [
        ("internal listener", OriginRule::Always(Origin::Internal), "203.0.113.1:1", true),
        ("external listener", OriginRule::Always(Origin::External), "10.0.0.1:1", false),
        ("below the range", inside(), "9.255.255.255:1", false),
        ("the range's first", inside(), "10.0.0.0:1", true),
        ("the range's last", inside(), "10.255.255.255:1", true),
        ("above the range", inside(), "11.0.0.0:1", false),
        ("mapped", inside(), "[::ffff:10.0.0.1]:1", true),
        ("below the IPv6 range", inside(), "[2001:db8:0:ffff::1]:1", false),
        ("inside the IPv6 range", inside(), "[2001:db8:1::1]:1", true),
        ("above the IPv6 range", inside(), "[2001:db8:2::]:1", false),
        ("an address that is none", inside(), "/tmp/envoy.sock", false),
        ("no address", inside(), "", false),
    ] {
        for (audience, admitted) in
            [(Audience::Internal, internal), (Audience::External, !internal), (Audience::Both, true)]
        {
            // The client's audience, the API's, and that of a preflight, which has no client.
            for (of_client, of_api, preflight) in [
                (audience, Audience::Both, false),
                (Audience::Both, audience, false),
                (Audience::Both, audience, true),
            ] {
                let mut world = World::with_origin(1, rule.clone());
                world.process.source = source;
                world.manager.audience = of_api;
                world.manager.known.get_mut(&hex("good")).unwrap().audience = of_client;
                world.get(0, 1, &[("x-api-key", "good")]);
                world.answer_all();
                let step = if preflight {
                    let headers = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
                    world.request(0, 2, "OPTIONS", &headers, true, b"")
                } else {
                    world.get(0, 2, &[("x-api-key", "good")])
                };
                // A preflight that is not let through is a call like any other, without credential.
                let refused = if preflight { "credential_missing" } else { "audience_denied" };
                let expected = if admitted { "admitted" } else { refused };
                assert_eq!(code(&step), expected, "{what}: client {of_client:?}, API {of_api:?}");
            }
        }
    }
}

#[test]
fn what_is_not_registered_passes_and_what_lies_below_a_prefix_never_without_a_credential() {
    let deep = "/a".repeat(crate::directory::MAX_SEGMENTS);
    for (path, without, with) in [
        ("/other".into(), "admitted", "admitted"),
        (format!("/other{deep}"), "admitted", "admitted"),
        ("/admin".into(), "credential_missing", "admitted"),
        ("/admin/a".into(), "credential_missing", "admitted"),
        (format!("/admin{deep}"), "credential_missing", "admitted"),
        (format!("/admin{deep}{deep}/?q=1"), "credential_missing", "admitted"),
    ] {
        let mut world = World::new(1);
        world.manager.path = PathRule::Prefix("/admin".into());
        world.manager.settings.unregistered = crate::wire::directory::Unregistered::Pass;
        world.path = path;
        world.get(0, 1, &[("x-api-key", "good")]);
        world.answer_all();
        let steps = (world.get(0, 2, &[]), world.get(0, 3, &[("x-api-key", "good")]));
        assert_eq!((code(&steps.0), code(&steps.1)), (without, with), "{}", world.path);
    }
}

#[test]
fn a_bound_client_is_refused_where_the_host_knows_no_address() {
    for (source, expected) in [
        ("192.0.2.1:4711", "admitted"),
        ("[::ffff:192.0.2.1]:4711", "admitted"),
        ("192.0.2.2:4711", "address_not_allowed"),
        ("[2001:db8::1]:4711", "address_not_allowed"),
        ("/tmp/envoy.sock", "address_not_allowed"),
        ("", "address_not_allowed"),
    ] {
        let mut world = World::new(1);
        world.process.source = source;
        let grant = world.manager.known.get_mut(&hex("good")).unwrap();
        (grant.bound, grant.addresses) = (true, vec!["192.0.2.1".into()]);
        world.get(0, 1, &[("x-api-key", "good")]);
        world.answer_all();
        assert_eq!(code(&world.get(0, 2, &[("x-api-key", "good")])), expected, "{source:?}");
    }
}

/// Its service times reach further than it is kept (`manager/src/feed/grant.rs`), so that they are
/// renewed before they run out, although nothing has changed.
#[test]
fn a_grant_is_asked_for_anew_when_it_has_been_kept_for_its_time() {
    let mut world = World::new(1);
    let keep_ms = 3_600_000;
    let serve_until = |world: &mut World, after_ms: i64| {
        let begin = world.now().unix;
        let interval = Interval { from: begin, until: UnixMillis(begin.0 + after_ms) };
        world.manager.known.get_mut(&hex("good")).unwrap().service_time = Some(vec![interval]);
    };
    serve_until(&mut world, 2 * keep_ms);
    world.get(0, 1, &[("x-api-key", "good")]);
    world.answer_all();
    assert_eq!(world.manager.resolves, 1);
    for round in 1..=5_usize {
        let stream = 10 * round as u32;
        // Polls go on without news.
        for _ in 0..keep_ms / 10_000 - 1 {
            world.now += 10_000;
            let now = world.now();
            world.gates[0].handle_tick(&mut world.process, now);
            world.carry_out(0);
            let polls = core::mem::take(&mut world.calls);
            for (worker, call) in polls {
                let answer = world.manager.answer(&call);
                world.deliver(worker, call.id, answer);
            }
            world.answer_all();
        }
        world.now += 9_999;
        assert_eq!(code(&world.get(0, stream, &[("x-api-key", "good")])), "admitted", "round {round}");
        assert_eq!(world.manager.resolves, round, "what is held is not asked for again");
        world.now += 1;
        serve_until(&mut world, 2 * keep_ms);
        assert_eq!(code(&world.get(0, stream + 1, &[("x-api-key", "good")])), "wait", "round {round}");
        world.steps.clear();
        world.answer_all();
        assert_eq!(world.steps.iter().map(|(_, _, step)| code(step)).collect::<Vec<_>>(), ["admitted"]);
        assert_eq!(world.manager.resolves, round + 1);
    }
}

/// What the manager was told of refusals, in order.
fn explained(world: &mut World) -> Vec<Decision> {
    world.pass(1_000, &[0]);
    world.answer_all();
    core::mem::take(&mut world.manager.decisions)
}

fn decision_header(step: &Step) -> String {
    let Step::Respond(response) = step else { panic!("{step:?}") };
    let header = response.headers.iter().find(|(name, _)| *name == DECISION_HEADER).unwrap();
    assert_eq!(response.decision.as_ref(), Some(&header.1));
    let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(body["decision"], header.1);
    header.1.clone()
}

#[test]
fn what_led_to_a_refusal_reaches_the_manager_under_the_id_that_the_caller_was_told() {
    let mut world = World::warm(1);
    let disabled = Grant { client_status: ClientStatus::Disabled, ..grant("xk_2", Proof::Presented) };
    world.manager.known.insert(hex("other"), disabled);
    world.get(0, 20, &[("x-api-key", "other")]);
    world.answer_all();
    let (_, _, step) = world.steps.pop().unwrap();
    let told = decision_header(&step);
    let missing = decision_header(&world.get(0, 21, &[]));
    let signed = dgrk::sign(API_KEY, "d3Jvbmc=", b"");
    world.get(0, 22, &[("authorization", &signed)]);
    world.answer_all();
    let (_, _, step) = world.steps.pop().unwrap();
    let incorrect = decision_header(&step);

    let explained = explained(&mut world);
    let find = |id: &str| explained.iter().find(|decision| decision.id == id).unwrap();
    let found = find(&told);
    assert_eq!((found.code.as_str(), found.path.as_str()), ("client_disabled", "/orders"));
    assert_eq!((found.method.as_str(), found.host.as_str()), ("GET", "api.example.com"));
    assert_eq!(found.api, Some("orders".into()));
    assert_eq!((found.client.clone(), found.credential.clone()), (Some("shop".into()), Some("xk_2".into())));
    assert_eq!(found.kind, Some(CredentialKind::XApiKey));
    assert_eq!(found.address.as_deref(), Some("192.0.2.1"));
    assert_eq!((found.directory, found.feed), (Revision(10), Revision(10)));
    assert_eq!(found.grant_held_ms, Some(0));
    let found = find(&missing);
    assert_eq!((found.code.as_str(), found.client.clone()), ("credential_missing", None));
    let found = find(&incorrect);
    assert_eq!(found.code, "signature_incorrect");
    assert_eq!(found.credential, Some("dk_1".into()), "named for operators, proven or not");
    let text = serde_json::to_string(&explained).unwrap();
    for secret in ["other", "q=1", API_KEY, SECRET, signed.rsplit('.').next().unwrap()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn a_report_of_refusals_that_is_lost_is_sent_again_as_it_was() {
    let mut world = World::warm(1);
    let told = decision_header(&world.get(0, 20, &[]));
    world.pass(1_000, &[0]);
    let (_, first) = world.take_call(DECISIONS_PATH);
    world.deliver(0, first.id, Answer::Failed);
    world.get(0, 21, &[]);
    world.pass(1_000, &[0]);
    let (_, second) = world.take_call(DECISIONS_PATH);
    assert_eq!(second.body, first.body);
    let answer = world.manager.answer(&second);
    world.deliver(0, second.id, answer);
    assert_eq!(world.manager.decisions.iter().map(|found| &found.id).collect::<Vec<_>>(), [&told]);
    assert_eq!(explained(&mut world).len(), 2, "the next one follows");
}

#[test]
fn metrics_are_told_with_the_tick_and_say_what_was_decided_called_and_waited_for() {
    let mut world = World::warm(1);
    for stream in 20..25 {
        world.get(0, stream, &[("x-api-key", "good")]);
    }
    world.get(0, 30, &[]);
    let before = world.metrics.clone();
    world.pass(100, &[0]);
    world.answer_all();
    let of = |name: &str| world.metrics.get(name).copied().unwrap_or(0);
    assert!(!before.contains_key("keygate_decisions_total.code.credential_missing"));
    assert_eq!(of("keygate_decisions_total.code.admitted"), 6);
    assert_eq!(of("keygate_decisions_total.code.credential_missing"), 1);
    assert_eq!(of("keygate_lookups_total.result.known"), 1);
    assert_eq!(of("keygate_waits_total.reason.directory"), 1);
    assert_eq!(of("keygate_waits_total.reason.lookup"), 1);
    assert_eq!(of("keygate_manager_calls_total.kind.directory.outcome.answered"), 1);
    assert!(of("keygate_manager_calls_total.kind.exchange.outcome.answered") >= 1);
    assert_eq!(of("keygate_grants_held.worker.0"), 1);
    assert_eq!(of("keygate_requests_in_flight.worker.0"), 6);
    assert_eq!(of("keygate_feed_revision"), 10);
}

#[test]
fn who_waits_for_room_among_the_meters_of_its_client_goes_on_as_soon_as_there_is_some() {
    let mut world = World::warm(1);
    world.manager.ledger = RenewalOutcome::Granted {
        lease: LeaseId(1),
        generation: Generation(1),
        units: 10,
        ttl_ms: 60_000,
        window_left_ms: None,
        opens_in_ms: None,
        remaining: 10,
    };
    for n in 0..MAX_METERS as u64 + 5 {
        let name = format!("key{n}");
        let meter = Meter {
            id: MeterId(100 + n),
            kind: MeterKind::KeyUses,
            limit: 10,
            window_s: None,
            horizon_s: 30,
        };
        world
            .manager
            .known
            .insert(hex(&name), Grant { meters: vec![meter], ..grant("xk", Proof::Presented) });
        world.now += EVICT_IDLE_MS;
        assert_eq!(world.get(0, 100 + n as u32, &[("x-api-key", &name)]), Step::Wait);
        world.answer_all();
        assert_eq!(world.steps.pop().map(|(_, _, step)| is_admitted(&step)), Some(true), "{n}");
    }
}
