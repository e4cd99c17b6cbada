//! The batched exchange: what a VM asks the manager, and what it does with the answers.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use serde::Deserialize;

use super::feed::{numbers, put, read_numbers};
use super::held::{Answered, Unknown};
use super::presented::CacheKey;
use super::{Answer, Call, Entry, Gate, Host, Purpose, StreamId, WRONG_PASSWORD_LOOKUPS};
use crate::credential::dgrk::VerifyingKey;
use crate::grant::HeldGrant;
use crate::id::{ClientId, MeterId};
use crate::quota::bucket::{BUCKETS, bucket_of_meter};
use crate::quota::holder::{self, Installed};
use crate::time::{MonoMillis, Now};
use crate::wire::exchange::{
    ExchangeAnswer, ExchangeRequest, Grant, MAX_RENEWALS, MAX_RESOLVES, Presented, Proof, Renewal,
    RenewalAnswer, RenewalOutcome, Resolved,
};
use crate::wire::{EXCHANGE_PATH, WIRE_VERSION};

/// When an exchange is given up.
pub const EXCHANGE_TIMEOUT_MS: u64 = 1_000;
/// Exchanges under way at a time: what comes meanwhile is asked for together.
pub const MAX_EXCHANGES: usize = 4;
/// Passwords in one exchange at most: together they must take less than its time-out.
const MAX_PASSWORDS: usize = 16;
/// How often usage is reported.
pub const USAGE_EVERY_MS: u64 = 1_000;
/// A node that was answered a poll within this is connected.
const CONNECTED_MS: u64 = 2_000;
/// Meters whose buckets are remembered, per cached grant.
const METERS_PER_GRANT: usize = 4;
/// Buckets that the leader looks through with each tick: all of them within about a second.
const SCANNED_PER_TICK: u16 = BUCKETS / 10 + 1;

/// A credential that somebody waits for.
pub(super) struct Lookup {
    presented: Presented,
    source: Option<IpAddr>,
    pub(super) waiting: Vec<StreamId>,
    asked: bool,
}

/// An exchange under way.
pub(super) struct Exchange {
    resolves: Vec<Asked>,
    renewals: Vec<(Renewal, u16)>,
    /// Number of the report of usage in it.
    usage: Option<u64>,
}

struct Asked {
    key: CacheKey,
    presented: Presented,
    source: Option<IpAddr>,
}

impl Lookup {
    pub(super) fn of(presented: Presented, source: Option<IpAddr>) -> Self {
        Self { presented, source, waiting: Vec::new(), asked: false }
    }
}

impl Gate {
    /// The next exchange, if something is to be asked or told.
    pub(super) fn next_exchange(&mut self, host: &mut dyn Host, now: Now) -> Option<Call> {
        let holder = self.holder?;
        if self.exchanges.under_way >= MAX_EXCHANGES || now.mono < self.exchanges.not_before || !self.joined {
            return None;
        }
        let usage_due = self.usage_due_at <= now.mono;
        let (renew, renewals) = self.due_renewals(host, now.mono);
        let mut resolves = Vec::new();
        let mut passwords = 0;
        let gathers = renew.is_empty() && self.exchanges.gathers(now.mono);
        let room = if gathers { 0 } else { MAX_RESOLVES };
        for (key, lookup) in self.lookups.iter_mut().filter(|(_, lookup)| !lookup.asked).take(room) {
            // A password takes the manager tens of milliseconds: never in the way of renewals.
            if matches!(lookup.presented, Presented::Basic { .. }) {
                if !renew.is_empty() || passwords == MAX_PASSWORDS {
                    continue;
                }
                passwords += 1;
            }
            lookup.asked = true;
            resolves.push(Asked { key: *key, presented: lookup.presented.clone(), source: lookup.source });
        }
        if usage_due {
            self.usage_due_at = now.mono + USAGE_EVERY_MS;
            self.collect_usage();
        }
        let usage = if usage_due { self.usage.report() } else { None };
        if resolves.is_empty() && renew.is_empty() && usage.is_none() {
            return None;
        }
        self.metrics.renewals(renew.len());
        let request = ExchangeRequest {
            version: WIRE_VERSION,
            holder,
            slot: self.usage.told_from(self.slot),
            filter_version: self.setup.filter_version.clone(),
            directory: self.directory.as_ref().map_or(crate::id::Revision(0), |d| d.revision()),
            feed: self.feed.revision,
            leases_held: self.leases_held(host),
            resolve: resolves.iter().map(|asked| asked.presented.clone()).collect(),
            renew,
            usage,
        };
        let exchange =
            Exchange { resolves, renewals, usage: request.usage.as_ref().map(|report| report.seq) };
        let Ok(body) = serde_json::to_vec(&request) else {
            self.notice(String::from("an exchange could not be written as JSON"));
            return None;
        };
        self.exchanges.sent(now.mono);
        let path = String::from(EXCHANGE_PATH);
        Some(self.call(Purpose::Exchange(exchange), "POST", path, body, EXCHANGE_TIMEOUT_MS, now.mono))
    }

    fn due_renewals(&mut self, host: &mut dyn Host, now: MonoMillis) -> (Vec<Renewal>, Vec<(Renewal, u16)>) {
        let due: Vec<u16> =
            self.due_buckets.iter().filter(|(_, at)| **at <= now).map(|(bucket, _)| *bucket).collect();
        let mut renew = Vec::new();
        let mut buckets = Vec::new();
        // "Connected": a poll was answered lately, so that idle leases can be fetched again.
        let connected = self.feed.is_fresh(CONNECTED_MS, now);
        for bucket in due {
            let room = MAX_RENEWALS - renew.len();
            if room == 0 {
                break;
            }
            let key = self.bucket_key(bucket);
            let Some(touched) = holder::renewals_due(host, &key, now, connected, room) else { continue };
            for renewal in touched.result {
                buckets.push((renewal, bucket));
                renew.push(renewal);
            }
            self.schedule(bucket, touched.next_due, now);
        }
        (renew, buckets)
    }

    pub(super) fn schedule(&mut self, bucket: u16, next_due: Option<MonoMillis>, now: MonoMillis) {
        match next_due {
            Some(due) => {
                self.due_buckets.insert(bucket, due);
                self.work |= due <= now;
            }
            None => {
                self.due_buckets.remove(&bucket);
            }
        }
    }

    fn bucket_key(&self, bucket: u16) -> Vec<u8> {
        self.keys.numbered("bucket", u64::from(bucket))
    }

    /// The leader looks through all buckets in turn: another worker may have died with leases
    /// due, and an operator wants to see how many there are.
    pub(super) fn scan_buckets(&mut self, host: &mut dyn Host, now: MonoMillis) {
        for _ in 0..SCANNED_PER_TICK {
            let bucket = self.scanned_buckets;
            let touched = holder::look(host, &self.bucket_key(bucket), now);
            self.leases_seen += u32::try_from(touched.result).unwrap_or(u32::MAX);
            if touched.next_due.is_some() {
                self.schedule(bucket, touched.next_due, now);
            }
            self.scanned_buckets += 1;
            if self.scanned_buckets >= BUCKETS {
                self.scanned_buckets = 0;
                put(host, &self.keys.named("leases"), numbers(&[u64::from(self.leases_seen)]));
                self.leases_seen = 0;
            }
        }
    }

    fn leases_held(&self, host: &mut dyn Host) -> u32 {
        let found = host.get(&self.keys.named("leases"));
        let number = found.and_then(|(bytes, _)| read_numbers::<1>(&bytes).map(|([n], _)| n));
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
    }

    pub(super) fn take_exchange(
        &mut self,
        answer: Answer,
        exchange: Exchange,
        sent: MonoMillis,
        host: &mut dyn Host,
        now: MonoMillis,
    ) {
        if let (Answer::Received { status: 400 | 413, marked: true, body }, Some(seq)) =
            (&answer, exchange.usage)
            && blames_usage(body)
            && let Some(calls) = self.usage.give_up(seq)
        {
            self.metrics.usage_given_up(calls);
            self.notice(format!(
                "the manager does not take a report of usage: {calls} calls are not counted"
            ));
        }
        let parsed = match answer {
            Answer::Received { status: 200, marked: true, body } => {
                crate::json::from_slice::<ExchangeAnswer>(&body).map_err(|error| format!("{error}"))
            }
            Answer::Received { status, marked: true, .. } => Err(format!("status {status}")),
            Answer::Received { .. } | Answer::Failed => Err(String::new()),
        };
        let answer = match parsed {
            Ok(answer) if answer.version == WIRE_VERSION => answer,
            Ok(answer) => {
                return self.exchange_failed(exchange, &format!("version {}", answer.version), host, now);
            }
            Err(why) => return self.exchange_failed(exchange, &why, host, now),
        };
        self.exchanges.answered();
        if let Some(seq) = answer.usage_seq {
            self.usage.acknowledge(seq);
            if self.usage.is_behind() {
                self.usage_due_at = now;
            }
        }
        let mut woken = false;
        for renewal in &answer.renewed {
            let bucket = exchange.renewals.iter().find(|(asked, _)| asked.meter == renewal.meter);
            if let Some((_, bucket)) = bucket {
                woken |= self.install(renewal, *bucket, &answer, sent, host, now);
            }
        }
        if woken {
            self.wake_others(host, now);
        }
        let mut resolved = answer.resolved.into_iter();
        for asked in exchange.resolves {
            let usable = match resolved.next() {
                Some(resolved) if answer.epoch == self.feed.epoch => {
                    self.take_resolved(&asked, resolved, answer.as_of, now)
                }
                Some(_) | None => false,
            };
            if !usable {
                self.metrics.looked_up("outdated");
            }
            if !usable && let Some(lookup) = self.lookups.get_mut(&asked.key) {
                // Asked again, until those who wait have no patience left; not at once, for it
                // may be a replica that is behind.
                lookup.asked = false;
                self.exchanges.not_before = self.exchanges.not_before.max(now + 20);
            }
        }
    }

    fn exchange_failed(&mut self, exchange: Exchange, why: &str, host: &mut dyn Host, now: MonoMillis) {
        self.exchanges.failed(now);
        for (renewal, bucket) in &exchange.renewals {
            let key = self.bucket_key(*bucket);
            if let Some(touched) = holder::call_failed(host, &key, now, renewal) {
                self.schedule(*bucket, touched.next_due, now);
            }
        }
        for asked in exchange.resolves {
            if let Some(lookup) = self.lookups.get_mut(&asked.key) {
                lookup.asked = false;
            }
        }
        if exchange.usage.is_some() {
            self.usage_due_at = now;
        }
        if !why.is_empty() {
            self.notice(format!("the manager's answer to an exchange is not used: {why}"));
        }
    }

    fn install(
        &mut self,
        renewal: &RenewalAnswer,
        bucket: u16,
        answer: &ExchangeAnswer,
        sent: MonoMillis,
        host: &mut dyn Host,
        now: MonoMillis,
    ) -> bool {
        let key = self.bucket_key(bucket);
        let Some(touched) = holder::install(host, &key, now, answer.epoch, renewal, sent) else {
            return false;
        };
        self.schedule(bucket, touched.next_due, now);
        match touched.result {
            Installed::Granted | Installed::Answered | Installed::Dropped => {
                // What went back may have made room for another meter's record in the same bucket.
                let made_room = renewal.outcome == RenewalOutcome::Closed;
                let is_meant = |meter: &MeterId| {
                    *meter == renewal.meter || (made_room && self.buckets.get(meter) == Some(&bucket))
                };
                let waiting = self.waiting_for_units.iter().filter(|(meter, _)| is_meant(meter));
                let waiting: Vec<StreamId> = waiting.flat_map(|(_, streams)| streams).copied().collect();
                waiting.into_iter().for_each(|stream| self.resume(stream));
                true
            }
            Installed::Ignored => false,
        }
    }

    /// Takes what the manager knows of a credential. `false`: it may be outdated, ask again.
    fn take_resolved(
        &mut self,
        asked: &Asked,
        resolved: Resolved,
        as_of: crate::id::Revision,
        now: MonoMillis,
    ) -> bool {
        let claimed = match &asked.presented {
            Presented::Basic { client, .. } => Some(ClientId(client.clone())),
            Presented::Dgrk { .. } | Presented::XApiKey { .. } | Presented::Bearer { .. } => None,
        };
        let (credential, client) = match &resolved {
            Resolved::Known { grant } => (Some(&grant.credential), Some(&grant.client)),
            Resolved::Unknown => (None, claimed.as_ref()),
        };
        if !self.history.allows(as_of, &Answered { key: &asked.key, credential, client }) {
            return false;
        }
        self.metrics.looked_up(match &resolved {
            Resolved::Known { .. } => "known",
            Resolved::Unknown => "unknown",
        });
        match resolved {
            Resolved::Known { grant } => match self.entry(&asked.presented, *grant, now) {
                Ok(entry) => {
                    self.remember_buckets(&entry);
                    self.unknowns.remove(&asked.key);
                    if let Some(displaced) = self.cache.insert(asked.key, entry) {
                        self.forget(displaced);
                    }
                }
                Err(why) => {
                    self.notice(format!("a grant cannot be used, its credential is refused: {why}"));
                    self.unknowns.insert(asked.key, Unknown::ToTheManager, now);
                }
            },
            Resolved::Unknown => {
                self.unknowns.insert(asked.key, Unknown::ToTheManager, now);
                if let Some(source) = asked.source {
                    let units = if asked.key.is_password() { WRONG_PASSWORD_LOOKUPS } else { 1 };
                    self.failed_lookups.spend(source, units, now);
                }
            }
        }
        let Some(lookup) = self.lookups.get_mut(&asked.key) else { return true };
        // Who finds it gone again, decided later, asks again.
        lookup.asked = false;
        let waiting = lookup.waiting.clone();
        waiting.into_iter().for_each(|stream| self.resume(stream));
        true
    }

    fn entry(&self, presented: &Presented, grant: Grant, now: MonoMillis) -> Result<Entry, String> {
        let verifying_key = match (presented, &grant.proof) {
            (Presented::Dgrk { api_key }, Proof::Signature { secrets }) if !secrets.is_empty() => {
                Some(VerifyingKey::new(api_key, secrets.iter().map(|secret| secret.text.as_str())))
            }
            (
                Presented::XApiKey { .. } | Presented::Bearer { .. } | Presented::Basic { .. },
                Proof::Presented,
            ) => None,
            (Presented::Dgrk { .. }, _) => return Err(String::from("a DGRK key without a secret")),
            (_, Proof::Signature { .. }) => return Err(String::from("a secret where none can be proven")),
        };
        let grant = HeldGrant::new(grant).map_err(|error| format!("{error}"))?;
        Ok(Entry::new(grant, verifying_key, now))
    }

    fn remember_buckets(&mut self, entry: &Entry) {
        for meter in &entry.grant.wire.meters {
            self.buckets.insert(meter.id, bucket_of_meter(&entry.grant.client_key, meter));
        }
        // Beyond this, those of the highest meters go: a recall that finds no bucket is served
        // when the lease is idle or ends.
        while self.buckets.len()
            > self.setup.cache_entries.saturating_mul(METERS_PER_GRANT).max(METERS_PER_GRANT)
        {
            self.buckets.pop();
        }
    }
}

/// Whether a problem document says that the report of usage is what was wrong. Where the fault lies elsewhere,
/// in the version of the whole for one, the report waits and is counted later.
fn blames_usage(problem: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(default)]
        field: Option<String>,
    }
    let named = crate::json::from_slice::<Problem>(problem).ok().and_then(|problem| problem.field);
    named.is_some_and(|field| field.starts_with("usage"))
}
