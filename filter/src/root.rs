//! A root context: one plugin configuration on one VM, with the gate that belongs to it.
//!
//! Nothing of this is static: two listeners with the same code share a VM, and may differ in
//! their configuration. A gate begins its work with the first request, so that the VM that only
//! validates a configuration, and the main thread's, never call or claim anything.

use gate::gate::{Admission, Answer, Call, CallId, Effect, Gate, StreamId, TICK_MS};
use gate::sorted::Sorted;
use gate::time::{MonoMillis, Now, UnixMillis};
use gate::wire::{MANAGER_MARK, MANAGER_MARK_VALUE};

use crate::config::Config;
use crate::host::{self, BufferKind, LogLevel, MapKind, MetricKind};
use crate::request;
use crate::shared::Envoy;

/// One root context that is configured.
pub struct Root {
    /// Its number.
    pub id: u32,
    /// Decides.
    pub gate: Gate,
    config: Config,
    /// `Bearer …`, if a token tells the manager who we are.
    authorization: Option<Vec<u8>>,
    vm_id: Vec<u8>,
    ticking: bool,
    calls: Sorted<u32, CallId>,
    /// Numbers of queues of other VMs, by name.
    queues: Sorted<Vec<u8>, u32>,
    /// Numbers of metrics, by name.
    metrics: Sorted<Vec<u8>, u32>,
    /// Held streams whose head is all there is.
    ended: Sorted<u32, ()>,
    /// Headers for answers to come.
    answer_headers: Sorted<u32, Vec<(&'static str, String)>>,
    /// The body that is being verified; kept for its memory.
    pub body: Vec<u8>,
}

const NS_PER_MS: u64 = 1_000_000;

/// The moment, on the clock that measures durations.
pub fn mono() -> MonoMillis {
    MonoMillis(host::monotonic_ns() / NS_PER_MS)
}

/// The moment, on both clocks.
pub fn now() -> Now {
    let unix = i64::try_from(host::wall_clock_ns() / NS_PER_MS).unwrap_or(i64::MAX);
    Now { unix: UnixMillis(unix), mono: mono() }
}

impl Root {
    /// Reads the plugin's configuration. The error is for the operator.
    pub fn configure(id: u32, size: usize) -> Result<Self, String> {
        let json = host::buffer(BufferKind::PluginConfiguration, 0, size).unwrap_or_default();
        let config = Config::parse(&json)?;
        let authorization = match &config.token_env {
            None => None,
            Some(name) => Some(bearer(name)?),
        };
        let seed = host::random().map_err(|status| format!("the host gives no random bytes: {status:?}"))?;
        Ok(Self {
            id,
            gate: Gate::new(config.setup.clone(), seed),
            authorization,
            vm_id: host::property(b"plugin_vm_id").unwrap_or_default(),
            ticking: false,
            calls: Sorted::new(),
            queues: Sorted::new(),
            metrics: Sorted::new(),
            ended: Sorted::new(),
            answer_headers: Sorted::new(),
            body: Vec::new(),
            config,
        })
    }

    /// A tick.
    pub fn tick(&mut self, envoy: &mut Envoy) {
        self.gate.handle_tick(envoy, now());
        self.carry_out(envoy);
    }

    /// Something is in our queue.
    pub fn wake(&mut self, queue: u32, envoy: &mut Envoy) {
        while host::dequeue(queue).is_ok() {}
        self.gate.handle_wake(envoy, now());
        self.carry_out(envoy);
    }

    /// The answer to a call is in the host's buffers.
    pub fn answered(&mut self, token: u32, body_size: usize, envoy: &mut Envoy) {
        let Some(call) = self.calls.remove(&token) else { return };
        let answer = match host::pairs(MapKind::CallHeaders) {
            // No headers: the call failed.
            Err(_) => Answer::Failed,
            Ok(headers) => read_answer(&headers, body_size),
        };
        self.gate.handle_answer(call, answer, envoy, now());
        self.carry_out(envoy);
    }

    /// A stream is over.
    pub fn end(&mut self, stream: u32, envoy: &mut Envoy) {
        self.ended.remove(&stream);
        self.answer_headers.remove(&stream);
        if self.gate.knows(StreamId(stream)) {
            self.gate.handle_end(StreamId(stream), mono());
        }
        self.carry_out(envoy);
    }

    /// A held stream has no body: its head is read again without the host's word on that.
    pub fn remember_end(&mut self, stream: u32) {
        self.ended.insert(stream, ());
    }

    /// Whether a held stream has no body.
    pub fn has_ended(&self, stream: u32) -> bool {
        self.ended.contains_key(&stream)
    }

    /// Keeps what the answer to an admitted request is to carry.
    pub fn keep_answer_headers(&mut self, stream: u32, admission: Admission) {
        if !admission.answer_headers.is_empty() {
            self.answer_headers.insert(stream, admission.answer_headers);
        }
    }

    /// What the answer to an admitted request is to carry.
    pub fn take_answer_headers(&mut self, stream: u32) -> Vec<(&'static str, String)> {
        self.answer_headers.remove(&stream).unwrap_or_default()
    }

    /// Does what the gate wants done, and leaves the host in the context it was in.
    pub fn carry_out(&mut self, envoy: &mut Envoy) {
        if !self.gate.has_work() {
            return;
        }
        let before = envoy.context();
        let now = now();
        while let Some(effect) = self.gate.poll(envoy, now) {
            match effect {
                Effect::Decide(StreamId(stream)) => {
                    if envoy.act_as(stream) {
                        request::decide_again(self, stream, envoy);
                    } else {
                        self.gate.handle_end(StreamId(stream), now.mono);
                    }
                }
                Effect::Call(call) => self.send(call, envoy, now),
                Effect::Register { queue } => {
                    if envoy.act_as(self.id) && host::register_queue(&queue).is_err() {
                        host::log(
                            LogLevel::Warn,
                            "keygate: cannot register a queue: changes are seen at ticks",
                        );
                    }
                }
                Effect::Wake { queue } => self.wake_other(queue),
                Effect::Notice(text) => host::log(LogLevel::Warn, &format!("keygate: {text}")),
                Effect::Count { metric, by } => {
                    if let Some(id) = self.metric(MetricKind::Counter, metric) {
                        host::count(id, i64::try_from(by).unwrap_or(i64::MAX));
                    }
                }
                Effect::Gauge { metric, value } => {
                    if let Some(id) = self.metric(MetricKind::Gauge, metric) {
                        host::gauge(id, value);
                    }
                }
            }
        }
        if !self.ticking && self.gate.is_active() && envoy.act_as(self.id) {
            self.ticking = host::tick_every(TICK_MS).is_ok();
        }
        envoy.act_as(before);
    }

    fn send(&mut self, call: Call, envoy: &mut Envoy, now: Now) {
        let mut headers: Vec<(&str, &[u8])> = vec![
            (":method", call.method.as_bytes()),
            (":path", call.path.as_bytes()),
            (":authority", self.config.manager_authority.as_bytes()),
        ];
        if !call.body.is_empty() {
            headers.push(("content-type", b"application/json"));
        }
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization));
        }
        let sent = match envoy.act_as(self.id) {
            true => host::http_call(&self.config.manager_cluster, &headers, &call.body, call.timeout_ms),
            false => Err(host::Status::BadArgument),
        };
        match sent {
            Ok(token) => {
                self.calls.insert(token, call.id);
            }
            Err(status) => {
                if status == host::Status::BadArgument {
                    let cluster = &self.config.manager_cluster;
                    let text = format!("keygate: Envoy has no cluster `{cluster}` (setting manager_cluster)");
                    host::log(LogLevel::Error, &text);
                }
                self.gate.handle_answer(call.id, Answer::Failed, envoy, now);
            }
        }
    }

    fn metric(&mut self, kind: MetricKind, name: String) -> Option<u32> {
        let key = name.into_bytes();
        if let Some(id) = self.metrics.get(&key) {
            return Some(*id);
        }
        let id = host::metric(kind, &key).ok()?;
        self.metrics.insert(key, id);
        Some(id)
    }

    fn wake_other(&mut self, queue: Vec<u8>) {
        let number = match self.queues.get(&queue) {
            Some(number) => Some(*number),
            None => host::resolve_queue(&self.vm_id, &queue).ok(),
        };
        if let Some(number) = number {
            // A queue that is gone is that of a VM that is gone.
            if host::enqueue(number, b"1").is_ok() {
                self.queues.insert(queue, number);
            } else {
                self.queues.remove(&queue);
            }
        }
    }
}

fn bearer(variable: &str) -> Result<Vec<u8>, String> {
    let token = host::environment(variable).unwrap_or_default();
    let token = token.trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "the environment variable {variable} holds no gateway token: set it for Envoy, list it in \
             vm_config.environment_variables.host_env_keys, and see `keygate gateway add`; with mTLS \
             instead of a token, write \"token_env\": null"
        ));
    }
    Ok([b"Bearer ", token].concat())
}

fn read_answer(headers: &host::Pairs, body_size: usize) -> Answer {
    let find =
        |wanted: &str| headers.iter().find(|(name, _)| *name == wanted.as_bytes()).map(|(_, value)| value);
    let status = find(":status").and_then(|value| core::str::from_utf8(value).ok()?.parse().ok());
    let Some(status) = status else { return Answer::Failed };
    let marked = find(MANAGER_MARK) == Some(MANAGER_MARK_VALUE.as_bytes());
    let body = match body_size {
        0 => Vec::new(),
        size => host::buffer(BufferKind::CallBody, 0, size).unwrap_or_default(),
    };
    Answer::Received { status, marked, body }
}
