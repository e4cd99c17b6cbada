//! The gate of one worker VM: a state machine without I/O.
//!
//! Whoever drives it (the filter in Envoy, the simulation) passes in what happened, with the
//! time and the shared records as arguments, and carries out what comes back:
//!
//! - [`Gate::handle_request`], [`Gate::handle_body`]: what to do with a stream ([`Step`]);
//! - [`Gate::handle_answer`], [`Gate::handle_tick`], [`Gate::handle_wake`], [`Gate::handle_end`]:
//!   the rest of the world;
//! - [`Gate::poll`], after each of them, until it is empty: calls to send, VMs to wake, streams
//!   to decide again ([`Effect`]).
//!
//! A stream that waits holds nothing. When what it waited for is there, or will not come, it is
//! decided again from the start, so that a decision never mixes two moments.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use crate::address::Block;
use crate::credential::dgrk::Scratch;
use crate::decide::Origin;
use crate::denial::Response;
use crate::directory::Directory;
use crate::id::{HolderId, MeterId};
use crate::shared::{Shared, Write, update};
use crate::sorted::Sorted;
use crate::time::{MonoMillis, Now};
use crate::wire::directory::{ApiEntry, Settings};
use crate::wire::exchange::MeterKind;

pub mod budget;
mod calls;
mod decision;
pub mod decisions;
mod entry;
mod exchange;
pub mod feed;
pub mod held;
mod lead;
pub mod leaving;
mod metrics;
mod presented;
mod random;
mod ratelimit;
mod report;
pub mod seen;
pub mod slots;
mod streams;
pub mod usage;

use budget::Budget;
use calls::{Pace, Pending, Purpose};
use decisions::Decisions;
use entry::Entry;
use exchange::Lookup;
use feed::{FeedState, Keys};
use held::{Cache, History, Unknowns};
use leaving::Leaving;
use metrics::Metrics;
use presented::CacheKey;
use random::Random;
use streams::{Body, Flight, Hold, Stream, Wait, WaitFor};
use usage::Usage;

/// Version of everything that this crate keeps in shared records: part of their keys, so that a
/// hot-swapped filter never reads what another version wrote.
pub const SHARED_LAYOUT: u32 = 3;
/// How often the gate wants [`Gate::handle_tick`].
pub const TICK_MS: u32 = 100;
/// How long a request waits for the first directory.
pub const DIRECTORY_WAIT_MS: u64 = 5_000;
/// Requests that wait for the directory, and again for unknown credentials, at most.
pub const MAX_WAITING: usize = 4_096;
/// Requests that wait for units of one meter at most.
pub const MAX_WAITING_FOR_UNITS: usize = 64;
/// Look-ups per second and source address that found nobody, and tokens with wrong signatures; then
/// 429 for what is not known.
pub const FAILED_LOOKUPS_PER_S: u64 = 128;
/// As how many such look-ups a wrong password counts: the manager hashes it, and what it guesses at is weaker
/// than a key.
pub const WRONG_PASSWORD_LOOKUPS: u64 = 16;
/// Bytes with wrong signatures per second and source address; then 429 for DGRK.
pub const FAILED_BYTES_PER_S: u64 = 16 << 20;
/// Grants that each tick looks at, whether they are over: all of 10,000 within 8 s.
const SWEPT_PER_TICK: usize = 128;
/// Grants held by default.
pub const DEFAULT_CACHE_ENTRIES: usize = 10_000;

/// One request, by the number that the host gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// One call to the manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What the gate asks of its host while it decides.
pub trait Host: Shared {
    /// `source.address` of a stream as the proxy trusts it, `ip:port`. Asked only where something
    /// depends on it.
    fn source(&mut self, stream: StreamId) -> String;

    /// Whether `signature` is the one of `text` by RS256 under the key that `spki` is the DER of.
    /// Asked at most once for a token that is not held. No token passes where nobody can tell.
    fn verify_rs256(&mut self, _spki: &[u8], _signature: &[u8], _text: &[u8]) -> Signature {
        Signature::Unchecked
    }
}

/// What the host says of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// It is the one.
    Correct,
    /// It is another one.
    Incorrect,
    /// The host cannot tell.
    Unchecked,
}

/// What does not change in the life of a gate.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Prefix of all shared keys: names layout version, manager and installation.
    pub namespace: Vec<u8>,
    /// From which side requests come.
    pub origin: OriginRule,
    /// Path that answers load balancers from local state.
    pub health_path: Option<String>,
    /// Grants held at most.
    pub cache_entries: usize,
    /// The filter's own version, for the operator's eyes.
    pub filter_version: String,
}

/// How the origin of a request is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRule {
    /// The listener says it.
    Always(Origin),
    /// From these addresses: internal; from others: external.
    InternalFrom(Vec<Block>),
}

/// What to do with a stream now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let it go on.
    Admit(Admission),
    /// Answer it.
    Respond(Response),
    /// Hold all of it, until [`Effect::Decide`] names it.
    Wait,
    /// Hold the headers and let the body come: each piece to [`Gate::handle_body`].
    WaitForBody,
    /// Read the complete body and call [`Gate::handle_request`] with it.
    ReadBody,
}

/// What an admitted request is changed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Who calls; absent where nobody had to prove it.
    pub identity: Option<Rc<Identity>>,
    /// Which API is called; absent for one that is not registered.
    pub api: Option<Rc<ApiEntry>>,
    /// Headers to remove: what only we may write, and the credential where that is set.
    pub remove: Vec<Vec<u8>>,
    /// Headers of the answer to come.
    pub answer_headers: Vec<(&'static str, String)>,
}

/// Who calls, as the API behind is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `x-keygate-client-id`.
    pub client: String,
    /// `x-keygate-credential`.
    pub credential: String,
    /// `x-keygate-groups`, separated by commas; absent for DGRK keys, which list APIs.
    pub groups: Option<String>,
}

/// What to do with a piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// Let it go on.
    Pass,
    /// Hold it.
    Hold,
    /// Call [`Gate::handle_request`].
    Decide,
}

/// What to do for the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the head of this stream again and call [`Gate::handle_request`].
    Decide(StreamId),
    /// Register this queue: what arrives there is [`Gate::handle_wake`].
    Register {
        /// Its name.
        queue: Vec<u8>,
    },
    /// Put something into this queue.
    Wake {
        /// Its name.
        queue: Vec<u8>,
    },
    /// Send this.
    Call(Call),
    /// Tell an operator.
    Notice(String),
    /// Add to a counter.
    Count {
        /// Its name.
        metric: String,
        /// By how much.
        by: u64,
    },
    /// Set a gauge.
    Gauge {
        /// Its name.
        metric: String,
        /// To what.
        value: u64,
    },
}

/// A call to the manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Names its answer.
    pub id: CallId,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// JSON; empty with `GET`.
    pub body: Vec<u8>,
    /// When to give up.
    pub timeout_ms: u32,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It could not be sent, or nobody answered in time.
    Failed,
    /// Somebody answered.
    Received {
        /// HTTP status.
        status: u16,
        /// It carries the manager's mark.
        marked: bool,
        /// The body.
        body: Vec<u8>,
    },
}

/// One worker's gate. See the module.
pub struct Gate {
    setup: Setup,
    keys: Keys,
    random: Random,
    /// Names this life of the VM among all.
    me: u64,
    /// Key under which passwords are cached.
    password_key: [u8; 32],
    /// Streams of lease records are named from here on.
    next_rec: u64,
    active: bool,
    /// The host is about to end it.
    leaving: Option<Leaving>,
    /// It had begun its work, and has nothing more to do.
    retired: bool,
    slot: Option<u64>,
    holder: Option<HolderId>,

    directory: Option<Directory>,
    /// Snapshot and deltas of the shared directory that ours is made of.
    directory_at: (u64, u64),
    settings: Settings,
    feed: FeedState,
    joined: bool,
    leads: bool,
    /// The next fetch asks for all of the directory.
    fetch_whole: bool,

    cache: Cache<Entry>,
    unknowns: Unknowns,
    history: History,
    scratch: Scratch,
    failed_lookups: Budget,
    failed_bytes: Budget,
    usage: Usage,
    /// Cached credentials with calls that are not in `usage` yet.
    counted: Vec<CacheKey>,
    decisions: Decisions,
    metrics: Metrics,

    streams: Sorted<StreamId, Stream>,
    in_flight: u32,
    waiting_for_directory: usize,
    waiting_for_lookups: usize,
    lookups: Sorted<CacheKey, Box<Lookup>>,
    waiting_for_units: Sorted<MeterId, Vec<StreamId>>,
    /// In which bucket a meter's record is.
    buckets: Sorted<MeterId, u16>,
    due_buckets: Sorted<u16, MonoMillis>,
    scanned_buckets: u16,
    leases_seen: u32,

    next_call: u64,
    calls: Sorted<CallId, Box<Pending>>,
    polls: Pace,
    fetches: Pace,
    exchanges: Pace,
    reports: Pace,
    usage_due_at: MonoMillis,
    decisions_due_at: MonoMillis,

    resumed: VecDeque<StreamId>,
    effects: VecDeque<Effect>,
    work: bool,
}

impl Gate {
    /// A gate that holds nothing and asks for nothing before the first request.
    pub fn new(setup: Setup, seed: [u8; 32]) -> Self {
        let mut random = Random::new(seed);
        let me = random.number();
        Self {
            keys: Keys::below(&setup.namespace),
            me,
            password_key: random.bytes(),
            next_rec: random.number(),
            active: false,
            leaving: None,
            retired: false,
            slot: None,
            holder: None,
            directory: None,
            directory_at: (0, 0),
            settings: Settings::default(),
            feed: FeedState::NEW,
            joined: false,
            leads: false,
            fetch_whole: false,
            cache: Cache::new(setup.cache_entries),
            unknowns: Unknowns::default(),
            history: History::since(crate::id::Revision(0)),
            scratch: Scratch::new(),
            failed_lookups: Budget::new(FAILED_LOOKUPS_PER_S),
            failed_bytes: Budget::new(FAILED_BYTES_PER_S),
            usage: Usage::new(random.number()),
            counted: Vec::new(),
            decisions: Decisions::new(random.number()),
            metrics: Metrics::default(),
            streams: Sorted::new(),
            in_flight: 0,
            waiting_for_directory: 0,
            waiting_for_lookups: 0,
            lookups: Sorted::new(),
            waiting_for_units: Sorted::new(),
            buckets: Sorted::new(),
            due_buckets: Sorted::new(),
            scanned_buckets: 0,
            leases_seen: 0,
            next_call: 0,
            calls: Sorted::new(),
            polls: Pace::new(me),
            fetches: Pace::new(me),
            exchanges: Pace::new(me),
            reports: Pace::new(me),
            usage_due_at: MonoMillis(0),
            decisions_due_at: MonoMillis(0),
            resumed: VecDeque::new(),
            effects: VecDeque::new(),
            work: false,
            random,
            setup,
        }
    }

    /// Whether the gate has begun its work, with the first request.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Whether requests can be decided: a directory is held, and is fresh.
    pub fn is_ready(&self, now: Now) -> bool {
        self.directory.is_some() && self.feed.is_fresh(self.staleness_ms(), now.mono)
    }

    /// Whether [`Gate::poll`] may have something.
    pub fn has_work(&self) -> bool {
        self.work
    }

    /// A piece of the body of a stream: `size` bytes are there by now, `complete`: all.
    pub fn handle_body(&mut self, stream: StreamId, size: usize, complete: bool) -> BodyStep {
        let max = self.settings.max_signed_body_bytes as usize;
        match self.streams.get_mut(&stream) {
            Some(Stream::Admitted(_)) => BodyStep::Pass,
            // Refused, or forgotten: its headers must not go upstream behind its body.
            None => BodyStep::Hold,
            Some(Stream::Held(hold)) => {
                hold.body = if complete { Body::Complete { size } } else { Body::Arriving { size } };
                if complete || size > max { BodyStep::Decide } else { BodyStep::Hold }
            }
        }
    }

    /// Trailers have arrived: no more of the body follows.
    pub fn handle_trailers(&mut self, stream: StreamId) -> BodyStep {
        match self.streams.get(&stream) {
            Some(Stream::Admitted(_)) => BodyStep::Pass,
            None => BodyStep::Hold,
            Some(Stream::Held(hold)) => match hold.body {
                Body::Unasked => BodyStep::Hold,
                Body::Arriving { size } | Body::Complete { size } => self.handle_body(stream, size, true),
            },
        }
    }

    /// Whether anything is to be told of a stream: one that was refused is forgotten.
    pub fn knows(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// The head of the answer to a stream has come.
    pub fn handle_answer_head(&mut self, stream: StreamId, status: &[u8]) {
        if let (Some(Stream::Admitted(flight)), Some(digit)) = (self.streams.get_mut(&stream), status.first())
        {
            flight.class = digit.wrapping_sub(b'0');
        }
    }

    /// The stream is over: answered, or gone.
    pub fn handle_end(&mut self, stream: StreamId, now: MonoMillis) {
        match self.streams.remove(&stream) {
            None => {}
            Some(Stream::Admitted(flight)) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                if let Some(api) = flight.api {
                    self.usage.answered(flight.identity.as_ref(), &api, flight.class, now - flight.since);
                }
            }
            Some(Stream::Held(hold)) => {
                if let Some(wait) = hold.waits.or(hold.waited) {
                    self.metrics.waited(&wait.what, now - wait.since);
                }
                self.stop_waiting(stream, hold.waits.map(|wait| wait.what));
            }
        }
    }

    /// Somebody put something into the queue of this VM.
    pub fn handle_wake(&mut self, host: &mut dyn Host, now: Now) {
        if let Some(slot) = self.slot {
            slots::mark_awake(host, &self.keys, slot);
        }
        self.synchronise(host, now.mono);
        // Units may have come with another worker's renewal.
        let waiting: Vec<StreamId> =
            self.waiting_for_units.iter().flat_map(|(_, waiting)| waiting).copied().collect();
        waiting.into_iter().for_each(|stream| self.resume(stream));
        self.work = true;
    }

    /// [`TICK_MS`] have passed.
    pub fn handle_tick(&mut self, host: &mut dyn Host, now: Now) {
        if !self.active {
            return;
        }
        self.work = true;
        self.give_up_lost_calls(host, now);
        if self.leaving.is_some() {
            return self.leave(host, now.mono);
        }
        self.keep_slot(host, now.mono);
        // A wake-up may have been lost on its way; its mark would keep the next ones off.
        if let Some(slot) = self.slot {
            slots::mark_awake(host, &self.keys, slot);
        }
        self.leads = feed::lead(host, &self.keys, self.me, now.mono);
        self.synchronise(host, now.mono);
        self.history.expire(now.mono);
        self.unknowns.expire(now.mono);
        self.expire_grants(now);
        self.failed_lookups.forget_past(now.mono);
        self.failed_bytes.forget_past(now.mono);
        if self.leads {
            self.scan_buckets(host, now.mono);
        }
        self.resume_overdue(now.mono);
        self.tell_metrics(now.mono);
    }

    /// The answer to a call.
    pub fn handle_answer(&mut self, call: CallId, answer: Answer, host: &mut dyn Host, now: Now) {
        let Some(pending) = self.calls.remove(&call) else { return };
        self.work = true;
        self.metrics.called(
            &pending.purpose,
            match &answer {
                Answer::Failed | Answer::Received { marked: false, .. } => "failed",
                Answer::Received { status: 200 | 304, .. } => "answered",
                Answer::Received { .. } => "refused",
            },
        );
        match pending.purpose {
            Purpose::Poll { epoch, since } => {
                self.take_changes(answer, epoch, since, pending.sent, host, now.mono);
            }
            Purpose::Directory { wanted, at } => self.take_directory(answer, wanted, at, host, now.mono),
            Purpose::Exchange(exchange) => self.take_exchange(answer, exchange, pending.sent, host, now.mono),
            Purpose::Decisions { seq } => self.take_report(answer, seq, now.mono),
        }
    }

    /// What is to be done next; none = nothing.
    pub fn poll(&mut self, host: &mut dyn Host, now: Now) -> Option<Effect> {
        if !self.work {
            return None;
        }
        while let Some(stream) = self.resumed.pop_front() {
            if let Some(Stream::Held(hold)) = self.streams.get_mut(&stream)
                && hold.resumed
            {
                hold.resumed = false;
                return Some(Effect::Decide(stream));
            }
        }
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        if self.active {
            let call = self
                .next_poll(now.mono)
                .or_else(|| self.next_fetch(now.mono))
                .or_else(|| self.next_exchange(host, now))
                .or_else(|| self.next_report(now.mono));
            if let Some(call) = call {
                return Some(Effect::Call(call));
            }
        }
        self.work = false;
        None
    }

    /// Begins the work of this VM.
    fn activate(&mut self, host: &mut dyn Host, now: MonoMillis) {
        if self.active || self.retired {
            return;
        }
        self.active = true;
        self.work = true;
        self.holder = self.claim_holder(host);
        self.keep_slot(host, now);
        self.leads = feed::lead(host, &self.keys, self.me, now);
        self.synchronise(host, now);
    }

    /// The id of this process: drawn once by whoever comes first.
    fn claim_holder(&mut self, host: &mut dyn Host) -> Option<HolderId> {
        let mut drawn = [0; 16];
        drawn.iter_mut().zip(self.random.bytes()).for_each(|(to, from)| *to = from);
        update(host, &self.keys.named("holder"), |found| {
            match found.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) {
                Some(held) => (Write::Keep, HolderId(held)),
                None => (Write::Put(drawn.to_vec()), HolderId(drawn)),
            }
        })
    }

    fn keep_slot(&mut self, host: &mut dyn Host, now: MonoMillis) {
        if let Some(slot) = self.slot {
            if slots::beat(host, &self.keys, slot, self.me, now) {
                return;
            }
            self.slot = None;
        }
        self.slot = slots::claim(host, &self.keys, self.me, now);
        self.metrics.tell_all_gauges();
        if let Some(slot) = self.slot {
            slots::mark_awake(host, &self.keys, slot);
            self.effects.push_back(Effect::Register { queue: self.keys.numbered("queue", slot) });
            self.work = true;
        }
    }

    fn wake_others(&mut self, host: &mut dyn Host, now: MonoMillis) {
        for slot in slots::others(host, &self.keys, self.me, now) {
            if slots::mark_woken(host, &self.keys, slot) {
                self.effects.push_back(Effect::Wake { queue: self.keys.numbered("queue", slot) });
            }
        }
        self.work = true;
    }

    fn notice(&mut self, text: String) {
        self.effects.push_back(Effect::Notice(text));
        self.work = true;
    }

    /// Moves what was counted beside the grants into the usage to report.
    fn collect_usage(&mut self) {
        for key in core::mem::take(&mut self.counted) {
            if let Some(entry) = self.cache.get_mut(&key) {
                entry.report(&mut self.usage);
            }
        }
    }

    /// Forgets grants that are over, some with each tick: tokens come and go by the thousand.
    fn expire_grants(&mut self, now: Now) {
        let over = self.cache.expire(SWEPT_PER_TICK, |key, entry| entry.is_over(key, now));
        over.into_iter().for_each(|entry| self.forget(entry));
    }

    fn forget(&mut self, mut entry: Entry) {
        // A counter of its own for each of thousands: they would leave no room for those that last.
        for meter in entry.grant.wire.meters.iter().filter(|meter| meter.kind == MeterKind::TokenUses) {
            self.buckets.remove(&meter.id);
        }
        entry.report(&mut self.usage);
    }
}

#[cfg(test)]
mod tests;
