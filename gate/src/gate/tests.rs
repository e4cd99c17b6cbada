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

mod bearer;
mod changes;
mod leaving;
mod lookups;
mod requests;
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
                    accepts: vec![
                        CredentialKind::Dgrk,
                        CredentialKind::XApiKey,
                        CredentialKind::Bearer,
                        CredentialKind::Basic,
                    ],
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
