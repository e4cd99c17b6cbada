//! From the head of a request to a step: the branches of the request path, in their order.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::presented::CacheKey;
use super::usage::ADMITTED;
use super::{
    Admission, Body, DIRECTORY_WAIT_MS, Entry, Flight, Gate, Hold, Host, MAX_WAITING, MAX_WAITING_FOR_UNITS,
    OriginRule, Step, Stream, StreamId, Wait, WaitFor, ratelimit,
};
use crate::address::parse_source;
use crate::credential::Scheme;
use crate::decide::{Call, Origin, Proven, decide, decide_enabled, decide_open};
use crate::denial::{Denial, Response};
use crate::id::MeterId;
use crate::quota::holder::Spent;
use crate::request::{
    CredentialKind, RequestHead, SignedBody, is_cors_preflight, is_grpc, is_identity_header, signed_body,
};
use crate::time::{MonoMillis, Now};
use crate::wire::directory::{ApiEntry, Unregistered};
use crate::wire::exchange::MeterKind;

mod presentation;
mod proof;
mod refusal;
mod taking;

use presentation::{Presentation, present};
use proof::{Proof, body_outcome};
use refusal::Refusal;
use taking::Taking;

/// A request at the moment it is decided.
struct Arrival<'a, 'h> {
    head: &'a RequestHead<'h>,
    /// All of the body, once it was asked for.
    body: Option<&'a [u8]>,
    hold: &'a Hold,
    /// What it waited for until now.
    waited: Option<Wait>,
    /// What it presents, proven or not, once it is read.
    presented: Option<(CacheKey, CredentialKind)>,
    source: Source,
    now: Now,
}

/// What became of a request, before it is told.
enum Outcome {
    Admit(Admission),
    Hold { waits: Option<WaitFor>, patience_ms: u64, again_at: Option<MonoMillis>, for_body: bool },
    ReadBody,
    Health,
}

/// The caller's address, asked of the host once and only if needed.
struct Source {
    stream: StreamId,
    asked: Option<Option<IpAddr>>,
}

impl Source {
    fn address(&mut self, host: &mut dyn Host) -> Option<IpAddr> {
        let stream = self.stream;
        *self.asked.get_or_insert_with(|| parse_source(&host.source(stream)))
    }
}

impl Gate {
    /// The head of a request has arrived, or [`super::Effect::Decide`] named its stream. `body`:
    /// all of it, after [`Step::ReadBody`].
    pub fn handle_request(
        &mut self,
        stream: StreamId,
        head: &RequestHead<'_>,
        body: Option<&[u8]>,
        host: &mut dyn Host,
        now: Now,
    ) -> Step {
        self.activate(host, now.mono);
        let mut hold = match self.streams.remove(&stream) {
            None => Hold::default(),
            Some(Stream::Held(hold)) => *hold,
            Some(flight @ Stream::Admitted(_)) => {
                // Decided already: a second decision would count it twice.
                self.streams.insert(stream, flight);
                return Step::Admit(Admission::default());
            }
        };
        hold.resumed = false;
        let since = *hold.since.get_or_insert(now.mono);
        let waits = hold.waits.take();
        self.stop_waiting(stream, waits.map(|wait| wait.what));
        let waited = waits.or(hold.waited.take());
        let source = Source { stream, asked: None };
        let mut arrival = Arrival { head, body, hold: &hold, waited, presented: None, source, now };
        let outcome = self.consider(&mut arrival, host);
        if let Some(wait) = waited
            && !outcome.as_ref().is_ok_and(|outcome| outcome.waits_on(&wait))
        {
            self.metrics.waited(&wait.what, now.mono - wait.since);
        }
        match outcome {
            Ok(Outcome::Admit(admission)) => {
                self.metrics.admitted += 1;
                self.in_flight += 1;
                let (identity, api) = (admission.identity.clone(), admission.api.clone());
                self.streams.insert(stream, Stream::Admitted(Flight { since, identity, api, class: 0 }));
                Step::Admit(admission)
            }
            Ok(Outcome::Health) => self.health(now),
            Ok(Outcome::ReadBody) => {
                hold.waited = waited;
                self.streams.insert(stream, Stream::Held(Box::new(hold)));
                Step::ReadBody
            }
            Ok(Outcome::Hold { waits, patience_ms, again_at, for_body }) => {
                hold.waits = waits.map(|what| {
                    // The patience of a wait counts from its beginning, however often it is renewed.
                    let before = waited.filter(|wait| same_kind(&wait.what, &what));
                    let (since, until) =
                        before.map_or((now.mono, now.mono + patience_ms), |wait| (wait.since, wait.until));
                    Wait { what, since, until, again_at }
                });
                if for_body && hold.body == Body::Unasked {
                    hold.body = Body::Arriving { size: 0 };
                }
                if let Some(wait) = hold.waits {
                    self.begin_waiting(stream, wait.what);
                }
                self.streams.insert(stream, Stream::Held(Box::new(hold)));
                if hold.body == Body::Unasked { Step::Wait } else { Step::WaitForBody }
            }
            Err(refusal) => Step::Respond(self.refuse(&mut arrival, refusal, host)),
        }
    }

    fn begin_waiting(&mut self, stream: StreamId, what: WaitFor) {
        match what {
            WaitFor::Directory => self.waiting_for_directory += 1,
            WaitFor::Lookup(key) => {
                self.waiting_for_lookups += 1;
                if let Some(lookup) = self.lookups.get_mut(&key) {
                    lookup.waiting.push(stream);
                }
            }
            WaitFor::Units(meter) => match self.waiting_for_units.get_mut(&meter) {
                Some(waiting) => waiting.push(stream),
                None => {
                    self.waiting_for_units.insert(meter, vec![stream]);
                }
            },
        }
        self.work = true;
    }

    fn consider(&mut self, arrival: &mut Arrival<'_, '_>, host: &mut dyn Host) -> Result<Outcome, Refusal> {
        let head = arrival.head;
        if self.setup.health_path.as_ref().is_some_and(|health| health.as_bytes() == path_alone(head)) {
            return Ok(Outcome::Health);
        }
        if self.directory.is_none() || !self.joined {
            return self.wait_for_directory(arrival);
        }
        let Some(directory) = &self.directory else { return Err(Denial::DirectoryUnavailable.into()) };
        if self.settings.cors_preflight && is_cors_preflight(head) {
            let wanted = head.values("access-control-request-method").next().unwrap_or_default();
            let meant = directory.meant(head.host, wanted, head.path).ok();
            let meant = meant.filter(|api| decide_enabled(api).is_ok()).cloned();
            if let Some(api) = meant
                && decide_open(&api, self.origin(&mut arrival.source, host)).is_ok()
            {
                return Ok(Outcome::Admit(admission(head, None, None)));
            }
        }
        let Some(directory) = &self.directory else { return Err(Denial::DirectoryUnavailable.into()) };
        let api = match directory.meant(head.host, head.method, head.path) {
            Ok(api) => api.clone(),
            Err(Denial::ApiNotFound) if self.settings.unregistered == Unregistered::Pass => {
                return Ok(Outcome::Admit(admission(head, None, None)));
            }
            Err(denial) => return Err(denial.into()),
        };
        self.consider_api(arrival, &api, host).map_err(|mut refusal| {
            refusal.api = Some(api.uid.clone());
            refusal
        })
    }

    fn consider_api(
        &mut self,
        arrival: &mut Arrival<'_, '_>,
        api: &Rc<ApiEntry>,
        host: &mut dyn Host,
    ) -> Result<Outcome, Refusal> {
        let (head, now) = (arrival.head, arrival.now.mono);
        decide_enabled(api)?;
        if api.no_auth {
            let _permit = decide_open(api, self.origin(&mut arrival.source, host))?;
            self.usage.count(None, None, Some(&api.uid), ADMITTED, 1);
            return Ok(Outcome::Admit(admission(head, None, Some(api))));
        }
        let (header, presentation) = present(head, api)?;
        let signed = match presentation {
            Presentation::Dgrk(_) => Some(signed_body(head, api)?),
            Presentation::XApiKey(_) | Presentation::Bearer(_) | Presentation::Basic(_) => None,
        };
        let for_body = matches!(signed, Some(SignedBody::Whole { .. }));
        if for_body {
            self.check_body_size(arrival)?;
        }
        if !self.feed.is_fresh(self.staleness_ms(), now) {
            // What is held may be revoked by now, and nobody can be asked.
            return Err(Denial::Stale.into());
        }
        let key = presentation.key(&self.password_key);
        arrival.presented = Some((key, presentation.kind()));
        self.consider_credential(arrival, (header, &presentation), key, signed, api, host)
    }

    fn consider_credential(
        &mut self,
        arrival: &mut Arrival<'_, '_>,
        (header, presentation): (&'static str, &Presentation<'_>),
        key: CacheKey,
        signed: Option<SignedBody>,
        api: &Rc<ApiEntry>,
        host: &mut dyn Host,
    ) -> Result<Outcome, Refusal> {
        let now = arrival.now.mono;
        let for_body = matches!(signed, Some(SignedBody::Whole { .. }));
        if self.cache.get_mut(&key).is_some_and(|entry| entry.keep_until <= now)
            && let Some(entry) = self.cache.remove(&key)
        {
            self.forget(entry);
        }
        if self.cache.get_mut(&key).is_none() {
            return self.look_up(arrival, presentation, key, for_body, host);
        }
        let proof = match (presentation, signed) {
            (Presentation::Dgrk(dgrk), Some(signed)) => {
                match self.prove(arrival, dgrk, &key, signed, host)? {
                    Some(proof) => proof,
                    None => return Ok(body_outcome(arrival.hold)),
                }
            }
            (
                Presentation::Dgrk(_)
                | Presentation::XApiKey(_)
                | Presentation::Bearer(_)
                | Presentation::Basic(_),
                _,
            ) => {
                let proven = self.cache.get_mut(&key).and_then(|e| Proven::by_presentation(&e.grant.wire));
                let proven = proven.ok_or(Denial::CredentialUnknown { kind: presentation.kind() })?;
                Proof { proven, secret_index: None }
            }
        };
        self.settle(arrival, (header, presentation.kind()), key, proof, api, host)
    }

    /// Decides what is proven, takes what it costs, and admits.
    fn settle(
        &mut self,
        arrival: &mut Arrival<'_, '_>,
        (header, kind): (&'static str, CredentialKind),
        key: CacheKey,
        proof: Proof,
        api: &Rc<ApiEntry>,
        host: &mut dyn Host,
    ) -> Result<Outcome, Refusal> {
        let now = arrival.now;
        let origin = self.origin(&mut arrival.source, host);
        let Some(entry) = self.cache.get_mut(&key) else { return Err(Denial::Internal.into()) };
        let grant = &entry.grant;
        let address = match grant.bindings {
            crate::address::Bindings::Anywhere => None,
            crate::address::Bindings::Only(_) => arrival.source.address(host),
        };
        let call = Call { kind, address, origin, in_flight: self.in_flight };
        let _permit = decide(proof.proven, grant, api, &call, self.settings.capacity, now.unix)
            .map_err(|denial| entry.refusal(denial))?;
        let mut answer_headers = Vec::new();
        if grant.wire.tps > 0 || !grant.wire.meters.is_empty() {
            self.next_rec = self.next_rec.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let random = mixed(self.next_rec);
            let mut taking = Taking { host, keys: &self.keys, now: now.mono, random, due: Vec::new() };
            let spent = taking.take(grant);
            for (bucket, due) in taking.due {
                if self.due_buckets.get(&bucket).is_none_or(|known| due < *known) {
                    self.due_buckets.insert(bucket, due);
                }
                self.work |= due <= now.mono;
            }
            match spent {
                Spent::Admitted { tps_left, left } => {
                    if self.settings.ratelimit_on_success {
                        answer_headers = ratelimit::headers(&entry.grant.wire, tps_left, &left);
                    }
                }
                unspent => return self.unspent(unspent, key, arrival),
            }
        }
        let Some(entry) = self.cache.get_mut(&key) else { return Err(Denial::Internal.into()) };
        if entry.count(api, proof.secret_index) {
            self.counted.push(key);
        }
        let mut admitted = admission(arrival.head, Some(entry), Some(api));
        admitted.answer_headers = answer_headers;
        if self.settings.strip_credential {
            admitted.remove.push(header.as_bytes().to_vec());
        }
        Ok(Outcome::Admit(admitted))
    }

    /// Whether one more request may wait for a unit of this meter; `many`: as many as the worker can hold.
    fn has_room_to_wait(&self, meter: MeterId, many: bool) -> bool {
        if many {
            self.waiting_for_units.iter().map(|(_, waiting)| waiting.len()).sum::<usize>() < MAX_WAITING
        } else {
            self.waiting_for_units.get(&meter).map_or(0, Vec::len) < MAX_WAITING_FOR_UNITS
        }
    }

    /// No unit was taken: wait, or refuse.
    fn unspent(
        &mut self,
        spent: Spent,
        key: CacheKey,
        arrival: &Arrival<'_, '_>,
    ) -> Result<Outcome, Refusal> {
        // At the turn of a window all go on at one instant, without anybody being asked: many may wait, and
        // those go on waiting for whom the lease that was there is too small.
        let (waits, turning) = match spent {
            Spent::Wait { meter } => (Some((meter, None)), false),
            Spent::Contended { meter, retry_at } => (Some((meter, Some(retry_at))), false),
            Spent::Turning { meter, retry_at } => (Some((meter, Some(retry_at))), true),
            _ => (None, false),
        };
        if let Some((meter, again_at)) = waits
            && !arrival.out_of_patience(|what| matches!(what, WaitFor::Units(_)))
            && self.has_room_to_wait(meter, turning || arrival.waited.is_some())
        {
            return Ok(Outcome::Hold {
                waits: Some(WaitFor::Units(meter)),
                patience_ms: u64::from(self.settings.quota_wait_ms),
                again_at,
                for_body: false,
            });
        }
        let Some(entry) = self.cache.get_mut(&key) else { return Err(Denial::Internal.into()) };
        let wire = &entry.grant.wire;
        let meter_kind = |meter| {
            let found = wire.meters.iter().find(|m| m.id == meter);
            found.map_or((MeterKind::ClientQuota, 0), |m| (m.kind, m.limit))
        };
        let denial = match spent {
            Spent::Admitted { .. } => return Err(Denial::Internal.into()),
            Spent::RateExceeded { .. } => Denial::RateExceeded { tps: wire.tps },
            Spent::Wait { meter } | Spent::Turning { meter, .. } => {
                let (kind, _) = meter_kind(meter);
                Denial::QuotaUnavailable { kind }
            }
            Spent::Contended { meter, .. } => {
                let (kind, _) = meter_kind(meter);
                Denial::QuotaContended { kind }
            }
            Spent::Exhausted { meter, retry_after_ms } => {
                let (kind, limit) = meter_kind(meter);
                let retry_after_s = retry_after_ms.map(|ms| ms.div_ceil(1_000));
                Denial::QuotaExhausted { kind, limit, retry_after_s }
            }
            Spent::Gone { meter } => {
                // The grant is of a time when the meter existed: it tells of its limits once more.
                let (kind, _) = meter_kind(meter);
                entry.keep_until = arrival.now.mono;
                Denial::QuotaUnavailable { kind }
            }
            Spent::Capacity => Denial::Capacity,
        };
        let Some(entry) = self.cache.get_mut(&key) else { return Err(Denial::Internal.into()) };
        Err(entry.refusal(denial))
    }

    /// The directory is not here yet, or has changed.
    fn wait_for_directory(&mut self, arrival: &Arrival<'_, '_>) -> Result<Outcome, Refusal> {
        let head = arrival.head;
        let out_of_patience = arrival.out_of_patience(|what| matches!(what, WaitFor::Directory));
        if out_of_patience || self.waiting_for_directory >= MAX_WAITING {
            return Err(Denial::DirectoryUnavailable.into());
        }
        // A body that may turn out to be signed must be let in, or its headers could not be held
        // back while it is read; any other may be larger than what can be kept.
        let dgrk = head.values("authorization").any(|value| Scheme::of(value) == Scheme::Dgrk);
        let for_body =
            dgrk && !head.end_of_stream && !is_grpc(head) && head.values("upgrade").next().is_none();
        if for_body {
            self.check_body_size(arrival)?;
        }
        Ok(Outcome::Hold {
            waits: Some(WaitFor::Directory),
            patience_ms: DIRECTORY_WAIT_MS,
            again_at: None,
            for_body,
        })
    }

    fn origin(&self, source: &mut Source, host: &mut dyn Host) -> Origin {
        match &self.setup.origin {
            OriginRule::Always(origin) => *origin,
            OriginRule::InternalFrom(blocks) => match source.address(host) {
                Some(address) if blocks.iter().any(|block| block.contains(address)) => Origin::Internal,
                Some(_) | None => Origin::External,
            },
        }
    }

    fn health(&self, now: Now) -> Step {
        let (status, code, state) = if self.is_ready(now) {
            (200, "ready", "ready")
        } else if self.directory.is_none() {
            (503, "not_ready", "no directory yet")
        } else {
            (503, "not_ready", "cut off from the manager")
        };
        Step::Respond(Response {
            status,
            headers: vec![
                ("content-type", "application/json".to_string()),
                ("cache-control", "no-store".to_string()),
            ],
            body: format!("{{\"status\":\"{state}\"}}\n"),
            grpc_status: None,
            code,
            decision: None,
            client: None,
            api: None,
        })
    }
}

impl Outcome {
    /// Whether the request goes on waiting for the same thing, or waits for its body meanwhile.
    fn waits_on(&self, wait: &Wait) -> bool {
        match self {
            Self::Hold { waits, .. } => waits.as_ref().is_some_and(|what| same_kind(what, &wait.what)),
            Self::ReadBody => true,
            Self::Admit(_) | Self::Health => false,
        }
    }
}

impl Arrival<'_, '_> {
    /// Whether it has waited for this kind of thing for as long as it may.
    fn out_of_patience(&self, kind: impl Fn(&WaitFor) -> bool) -> bool {
        self.waited.is_some_and(|wait| kind(&wait.what) && wait.until <= self.now.mono)
    }
}

/// What an admitted request is changed by: what only we may write goes, who calls comes.
fn admission(head: &RequestHead<'_>, entry: Option<&Entry>, api: Option<&Rc<ApiEntry>>) -> Admission {
    let spoofed = head.headers.iter().filter(|(name, _)| is_identity_header(name));
    Admission {
        identity: entry.map(|entry| entry.identity.clone()),
        api: api.cloned(),
        remove: spoofed.map(|(name, _)| name.to_vec()).collect(),
        answer_headers: Vec::new(),
    }
}

fn path_alone<'h>(head: &RequestHead<'h>) -> &'h [u8] {
    head.path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

fn same_kind(one: &WaitFor, other: &WaitFor) -> bool {
    matches!(
        (one, other),
        (WaitFor::Directory, WaitFor::Directory)
            | (WaitFor::Lookup(_), WaitFor::Lookup(_))
            | (WaitFor::Units(_), WaitFor::Units(_))
    )
}

/// SplitMix64: streams of leases are named by these, which must be unlikely to repeat in any VM
/// and need not be secret.
pub(super) fn mixed(counter: u64) -> u64 {
    let mixed = (counter ^ (counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
