//! The feed as one VM lives it: following the shared state, and leading it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::feed::{self, Changes, FeedState, MAX_DELTAS};
use super::held::{History, Stale};
use super::{Answer, Call, Gate, Host, Purpose, WaitFor};
use crate::directory::{Directory, DirectoryError};
use crate::id::{Epoch, Revision};
use crate::quota::holder;
use crate::time::MonoMillis;
use crate::wire::changes::{Change, ChangesAnswer, POLL_TIMEOUT_MS, POLL_WAIT_MS, Subject};
use crate::wire::directory::DirectoryAnswer;
use crate::wire::{CHANGES_PATH, DIRECTORY_PATH, WIRE_VERSION};

/// When a fetch of the directory is given up: a large one takes its time.
pub const DIRECTORY_TIMEOUT_MS: u64 = 5_000;
/// Polls that find nothing follow each other no faster than this, whatever the manager does.
pub const POLL_PAUSE_MS: u64 = 20;

impl Gate {
    /// The next long poll, if this VM leads and none is under way.
    pub(super) fn next_poll(&mut self, now: MonoMillis) -> Option<Call> {
        if !self.leads || self.polls.under_way > 0 || now < self.polls.not_before {
            return None;
        }
        let FeedState { epoch, revision, .. } = self.feed;
        let wait_ms = if epoch == Epoch(0) { 0 } else { POLL_WAIT_MS };
        let mut path = format!("{CHANGES_PATH}?epoch={epoch}&since={revision}&wait_ms={wait_ms}");
        if let Some(holder) = self.holder {
            // So that operators see an idle Envoy alive.
            path.push_str("&holder=");
            path.push_str(&String::from(holder));
        }
        self.polls.sent(now);
        let purpose = Purpose::Poll { epoch, since: revision };
        Some(self.call(purpose, "GET", path, Vec::new(), POLL_TIMEOUT_MS, now))
    }

    /// The next fetch of the directory, if this VM leads and one is due.
    pub(super) fn next_fetch(&mut self, now: MonoMillis) -> Option<Call> {
        let due = self.leads && self.feed.epoch != Epoch(0) && self.feed.directory_is_due();
        if !due || self.fetches.under_way > 0 || now < self.fetches.not_before {
            return None;
        }
        let in_step = !self.fetch_whole && self.directory_at == (self.feed.snapshot, self.feed.deltas);
        let (epoch, revision) = match &self.directory {
            Some(directory) if in_step && self.feed.deltas < MAX_DELTAS => {
                (directory.epoch(), directory.revision())
            }
            Some(_) | None => (Epoch(0), Revision(0)),
        };
        let path = format!("{DIRECTORY_PATH}?epoch={epoch}&revision={revision}");
        self.fetches.sent(now);
        let purpose = Purpose::Directory { wanted: self.feed.directory_wanted, at: self.directory_at };
        Some(self.call(purpose, "GET", path, Vec::new(), DIRECTORY_TIMEOUT_MS, now))
    }

    /// Takes the answer of a long poll and shares it.
    pub(super) fn take_changes(
        &mut self,
        answer: Answer,
        epoch: Epoch,
        since: Revision,
        sent: MonoMillis,
        host: &mut dyn Host,
        now: MonoMillis,
    ) {
        let parsed = match answer {
            Answer::Received { status: 200, marked: true, body } => read_changes(&body),
            Answer::Received { status, marked: true, .. } => Err(format!("status {status}")),
            Answer::Received { .. } | Answer::Failed => return self.polls.failed(now),
        };
        let answer = match parsed {
            Ok(answer) if answer.version == WIRE_VERSION => answer,
            Ok(answer) => return self.poll_refused(&format!("version {}", answer.version), now),
            Err(why) => return self.poll_refused(&why, now),
        };
        self.polls.answered();
        let polled_at = sent;
        let continues = |state: &FeedState| state.epoch == epoch && state.revision == since;
        let news = if answer.reset || answer.epoch != epoch {
            feed::change(host, &self.keys, |state| {
                let agreed = continues(state);
                if agreed {
                    state.epoch = answer.epoch;
                    state.revision = answer.revision;
                    state.resets += 1;
                    state.directory_wanted += 1;
                    state.polled_at = polled_at.max(state.polled_at);
                }
                agreed
            })
        } else if answer.revision > since {
            self.share_changes(&answer, epoch, since, polled_at, host)
        } else {
            feed::change(host, &self.keys, |state| {
                let agreed = continues(state) && state.polled_at < polled_at;
                if agreed {
                    state.polled_at = polled_at;
                }
                agreed
            });
            false
        };
        if news {
            self.wake_others(host, now);
        } else {
            self.polls.not_before = now + POLL_PAUSE_MS;
        }
        self.synchronise(host, now);
    }

    fn share_changes(
        &mut self,
        answer: &ChangesAnswer,
        epoch: Epoch,
        since: Revision,
        polled_at: MonoMillis,
        host: &mut dyn Host,
    ) -> bool {
        let number = feed::read(host, &self.keys).next_batch;
        feed::write_batch(host, &self.keys, number, since, answer.revision, &answer.changes);
        let directory = answer.changes.iter().any(|change| change.subject == Subject::Directory);
        feed::change(host, &self.keys, |state| {
            let agreed = state.epoch == epoch && state.revision == since && state.next_batch == number;
            if agreed {
                state.revision = answer.revision;
                state.next_batch += 1;
                state.directory_wanted += u64::from(directory);
                state.polled_at = polled_at.max(state.polled_at);
            }
            agreed
        })
    }

    fn poll_refused(&mut self, why: &str, now: MonoMillis) {
        self.polls.failed(now);
        self.notice(format!("the manager's answer to a poll for changes is not used: {why}"));
    }

    /// Takes the answer to a fetch of the directory and shares it.
    pub(super) fn take_directory(
        &mut self,
        answer: Answer,
        wanted: u64,
        at: (u64, u64),
        host: &mut dyn Host,
        now: MonoMillis,
    ) {
        let body = match answer {
            Answer::Received { status: 304, marked: true, .. } => {
                self.fetches.answered();
                feed::change(host, &self.keys, |state| {
                    let agreed = (state.snapshot, state.deltas) == at && state.directory_served < wanted;
                    if agreed {
                        state.directory_served = wanted;
                    }
                    agreed
                });
                return self.synchronise(host, now);
            }
            Answer::Received { status: 200, marked: true, body } => body,
            Answer::Received { status, marked: true, .. } => {
                self.fetches.failed(now);
                return self.notice(format!("the manager answers {status} to a fetch of the directory"));
            }
            Answer::Received { .. } | Answer::Failed => return self.fetches.failed(now),
        };
        match self.adopt(&body, at) {
            Ok(is_delta) => {
                self.fetches.answered();
                self.fetch_whole = false;
                self.share_directory(&body, is_delta, wanted, at, host, now);
            }
            Err(why) => {
                self.fetches.failed(now);
                self.fetch_whole = true;
                self.notice(format!("the manager's directory is not used: {why}"));
            }
        }
    }

    /// Makes ours what the manager sent. Everything stays as it was if it cannot be used.
    fn adopt(&mut self, body: &[u8], at: (u64, u64)) -> Result<bool, String> {
        let answer: DirectoryAnswer = crate::json::from_slice(body).map_err(|error| format!("{error}"))?;
        if answer.version != WIRE_VERSION {
            return Err(format!("version {}", answer.version));
        }
        let is_delta = answer.since.is_some();
        if is_delta && self.directory_at != at {
            return Err(format!("{}", DirectoryError::NotOurDelta));
        }
        self.apply(answer).map_err(|error| format!("{error}"))?;
        Ok(is_delta)
    }

    fn apply(&mut self, answer: DirectoryAnswer) -> Result<(), DirectoryError> {
        match &mut self.directory {
            Some(directory) => directory.apply(answer)?,
            None => self.directory = Some(Directory::from_snapshot(answer)?),
        }
        if let Some(directory) = &self.directory {
            self.settings = directory.settings().clone();
        }
        Ok(())
    }

    fn share_directory(
        &mut self,
        body: &[u8],
        is_delta: bool,
        wanted: u64,
        at: (u64, u64),
        host: &mut dyn Host,
        now: MonoMillis,
    ) {
        let state = feed::read(host, &self.keys);
        let next = if is_delta { (at.0, at.1 + 1) } else { (state.snapshot + 1, 0) };
        let before = (state.snapshot, state.deltas);
        feed::write_directory(host, &self.keys, next.0, next.1, body);
        let shared = feed::change(host, &self.keys, |state| {
            let agreed = (state.snapshot, state.deltas) == before && (!is_delta || before == at);
            if agreed {
                (state.snapshot, state.deltas) = next;
                state.directory_served = state.directory_served.max(wanted);
            }
            agreed
        });
        // If another leader was faster, ours is neither: it is read again.
        self.directory_at = if shared { next } else { (0, 0) };
        self.wake_others(host, now);
        self.synchronise(host, now);
    }

    /// Catches up with what the leader has shared.
    pub(super) fn synchronise(&mut self, host: &mut dyn Host, now: MonoMillis) {
        let state = feed::read(host, &self.keys);
        let known = self.feed;
        if state.epoch == Epoch(0) {
            return;
        }
        if !self.joined {
            self.joined = true;
            self.history = History::since(state.revision);
        } else if state.resets != known.resets || state.epoch != known.epoch {
            self.start_over(state.revision, host, now);
        } else if state.next_batch != known.next_batch {
            match feed::read_batches(host, &self.keys, known.next_batch, known.revision, &state) {
                Changes::Since(changes) => self.take_news(&changes, host, now),
                Changes::Reset => self.start_over(state.revision, host, now),
            }
        }
        self.feed = state;
        self.work = true;
        if state.snapshot != 0 && self.directory_at != (state.snapshot, state.deltas) {
            self.load_directory(&state, host);
        }
        if self.directory.is_some() && self.waiting_for_directory > 0 {
            self.resume_those(|wait| wait.what == WaitFor::Directory);
        }
    }

    /// Reads the shared directory; if it cannot be read, the leader is to fetch all of it.
    fn load_directory(&mut self, state: &FeedState, host: &mut dyn Host) {
        let (snapshot, deltas) = self.directory_at;
        let first = if snapshot == state.snapshot && deltas <= state.deltas { deltas + 1 } else { 0 };
        for delta in first..=state.deltas {
            let loaded = feed::read_directory(host, &self.keys, state.snapshot, delta)
                .and_then(|json| crate::json::from_slice::<DirectoryAnswer>(&json).ok())
                .is_some_and(|answer| answer.since.is_some() == (delta > 0) && self.apply(answer).is_ok());
            if !loaded {
                let at = (state.snapshot, state.deltas);
                feed::change(host, &self.keys, |state| {
                    let agreed = (state.snapshot, state.deltas) == at && state.deltas != MAX_DELTAS;
                    if agreed {
                        state.deltas = MAX_DELTAS;
                        state.directory_wanted += 1;
                    }
                    agreed
                });
                return;
            }
            self.directory_at = (state.snapshot, delta);
        }
    }

    /// Forgets what the changes name.
    fn take_news(&mut self, changes: &[Change], host: &mut dyn Host, now: MonoMillis) {
        let mut stale = Stale::default();
        for change in changes {
            self.history.record(change, now);
            stale.add(change);
            match &change.subject {
                Subject::Meter { meter } => {
                    if let Some(bucket) = self.buckets.get(meter).copied() {
                        let key = self.keys.numbered("bucket", u64::from(bucket));
                        let touched = holder::limit_changed(host, &key, now, Some(*meter));
                        self.due(bucket, touched.and_then(|touched| touched.next_due));
                    }
                    self.resume_units(*meter);
                }
                Subject::Recall { meter, lowered } => {
                    if let Some(bucket) = self.buckets.get(meter).copied() {
                        let key = self.keys.numbered("bucket", u64::from(bucket));
                        let touched = holder::recall(host, &key, now, *meter, *lowered);
                        self.due(bucket, touched.and_then(|touched| touched.next_due));
                    }
                }
                Subject::Client { .. } | Subject::Credential { .. } | Subject::Directory => {}
            }
        }
        if stale.is_empty() {
            return;
        }
        for key in &stale.presented {
            self.unknowns.remove(key);
            if let Some(entry) = self.cache.remove(key) {
                self.forget(entry);
            }
        }
        if stale.passwords {
            self.unknowns.retain(|key| !key.is_password());
        }
        let named =
            self.cache.extract(|entry| !stale.names(&entry.grant.wire.client, &entry.grant.wire.credential));
        named.into_iter().for_each(|entry| self.forget(entry));
    }

    fn due(&mut self, bucket: u16, next_due: Option<MonoMillis>) {
        if let Some(due) = next_due {
            self.due_buckets.insert(bucket, due);
        }
    }

    fn resume_units(&mut self, meter: crate::id::MeterId) {
        let waiting = self.waiting_for_units.get(&meter).cloned().unwrap_or_default();
        waiting.into_iter().for_each(|stream| self.resume(stream));
    }

    /// Forgets everything held of credentials, and every "no" about quotas: changes that would have
    /// ended it may be among those that were missed. All is known again from `revision` on.
    fn start_over(&mut self, revision: Revision, host: &mut dyn Host, now: MonoMillis) {
        for (_, bucket) in self.buckets.iter() {
            if !self.due_buckets.contains_key(bucket) {
                self.due_buckets.insert(*bucket, now);
            }
        }
        let buckets: Vec<u16> = self.due_buckets.iter().map(|(bucket, _)| *bucket).collect();
        for bucket in buckets {
            let key = self.keys.numbered("bucket", u64::from(bucket));
            let touched = holder::limit_changed(host, &key, now, None);
            self.due(bucket, touched.and_then(|touched| touched.next_due));
        }
        let all = self.cache.extract(|_| false);
        all.into_iter().for_each(|entry| self.forget(entry));
        self.unknowns.clear();
        self.history = History::since(revision);
    }

    /// For how long after an answered poll what is held may be used.
    pub(super) fn staleness_ms(&self) -> u64 {
        u64::from(self.settings.max_staleness_s) * 1_000
    }
}

/// An answer with a kind of change that this filter does not know is a reset.
fn read_changes(body: &[u8]) -> Result<ChangesAnswer, String> {
    #[derive(serde::Deserialize)]
    struct Frame {
        version: u32,
        epoch: Epoch,
        revision: Revision,
    }
    match crate::json::from_slice(body) {
        Ok(answer) => Ok(answer),
        Err(error) => match crate::json::from_slice::<Frame>(body) {
            Ok(Frame { version, epoch, revision }) => {
                Ok(ChangesAnswer { version, epoch, revision, reset: true, changes: Vec::new() })
            }
            Err(_) => Err(format!("{error}")),
        },
    }
}
