//! What one worker holds of credentials: grants, "unknown"s, and the changes of the last minute.
//!
//! A late answer must not undo a revocation: an answer, positive or negative, is taken only if
//! no kept change newer than its `as_of` names its credential or client, and only if `as_of`
//! lies within what is kept ([`History::allows`]).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::presented::CacheKey;
use crate::id::{ClientId, CredentialId, Revision};
use crate::sorted::Sorted;
use crate::time::MonoMillis;
use crate::wire::changes::{Change, Fingerprint, Subject};

/// For how long changes are kept: longer than any answer can be under way.
pub const HISTORY_MS: u64 = 60_000;
/// Changes kept at most; with more, the history begins later.
pub const MAX_HISTORY: usize = 20_000;
/// For how long an "unknown" is believed without asking again.
pub const UNKNOWN_MS: u64 = 10_000;
/// "Unknown"s kept at most; the oldest goes first.
pub const MAX_UNKNOWN: usize = 10_000;
/// Beside the time until which a credential is unknown: its signature is incorrect. No clock gets there.
const FORGED: u64 = 1 << 63;

/// Grants by presented credential, bounded. The entry that was not used for longest goes first,
/// as near as one bit per entry can tell (a clock that passes over the entries).
pub struct Cache<E> {
    /// Where in `entries`. (A number of 64 bits, as in the other trees here: one kind of tree.)
    index: BTreeMap<CacheKey, u64>,
    entries: Vec<Slot<E>>,
    hand: usize,
    /// Up to where [`Cache::expire`] has looked.
    swept: usize,
    capacity: usize,
}

struct Slot<E> {
    key: CacheKey,
    used: bool,
    entry: E,
}

impl<E> Cache<E> {
    /// An empty one for so many entries (at least one).
    pub fn new(capacity: usize) -> Self {
        Self { index: BTreeMap::new(), entries: Vec::new(), hand: 0, swept: 0, capacity: capacity.max(1) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of `key`, which is in use with this.
    pub fn get_mut(&mut self, key: &CacheKey) -> Option<&mut E> {
        let at = usize::try_from(*self.index.get(key)?).ok()?;
        let slot = self.entries.get_mut(at)?;
        slot.used = true;
        Some(&mut slot.entry)
    }

    /// Puts `entry` in, and gives back what had to go for it.
    pub fn insert(&mut self, key: CacheKey, entry: E) -> Option<E> {
        let displaced = match self.index.get(&key) {
            Some(_) => self.remove(&key),
            None if self.entries.len() >= self.capacity => self.displace(),
            None => None,
        };
        self.index.insert(key, self.entries.len() as u64);
        // New ones are marked: those of one answer must not displace each other before their use.
        self.entries.push(Slot { key, used: true, entry });
        displaced
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &CacheKey) -> Option<E> {
        let at = usize::try_from(self.index.remove(key)?).ok()?;
        if at >= self.entries.len() {
            return None;
        }
        let slot = self.entries.swap_remove(at);
        if let Some(moved) = self.entries.get(at) {
            self.index.insert(moved.key, at as u64);
        }
        Some(slot.entry)
    }

    /// Takes out all entries of which `stays` says no.
    pub fn extract(&mut self, mut stays: impl FnMut(&E) -> bool) -> Vec<E> {
        let leaving: Vec<CacheKey> =
            self.entries.iter().filter(|slot| !stays(&slot.entry)).map(|slot| slot.key).collect();
        leaving.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Takes out those of the next `most` entries that are over; round and round.
    pub fn expire(&mut self, most: usize, is_over: impl Fn(&CacheKey, &E) -> bool) -> Vec<E> {
        let mut over = Vec::new();
        for _ in 0..most.min(self.entries.len()) {
            let Some(slot) = self.entries.get(self.swept) else {
                self.swept = 0;
                continue;
            };
            if is_over(&slot.key, &slot.entry) {
                let key = slot.key;
                // The last one comes to its place, and is looked at next.
                over.extend(self.remove(&key));
            } else {
                self.swept += 1;
            }
        }
        over
    }

    fn displace(&mut self) -> Option<E> {
        // Two rounds at most: the first clears the marks.
        for _ in 0..self.entries.len().saturating_mul(2) {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let slot = self.entries.get_mut(self.hand)?;
            if slot.used {
                slot.used = false;
                self.hand += 1;
            } else {
                let key = slot.key;
                return self.remove(&key);
            }
        }
        None
    }
}

/// Why a credential is believed to be nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The manager does not know it.
    ToTheManager,
    /// A token whose signature is incorrect.
    Forged,
}

/// Credentials that are nobody's, for a short while.
#[derive(Default)]
pub struct Unknowns {
    /// Until when, in milliseconds of the monotonic clock; with [`FORGED`].
    until: BTreeMap<CacheKey, u64>,
    in_order: VecDeque<CacheKey>,
}

impl Unknowns {
    /// How many are kept.
    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    /// Whether `key` was unknown lately, and why.
    pub fn find(&self, key: &CacheKey, now: MonoMillis) -> Option<Unknown> {
        let until = self.until.get(key).filter(|until| now.0 < *until & !FORGED)?;
        Some(if until & FORGED == 0 { Unknown::ToTheManager } else { Unknown::Forged })
    }

    /// Believes that `key` is unknown for [`UNKNOWN_MS`].
    pub fn insert(&mut self, key: CacheKey, why: Unknown, now: MonoMillis) {
        let forged = match why {
            Unknown::ToTheManager => 0,
            Unknown::Forged => FORGED,
        };
        if self.until.insert(key, (now + UNKNOWN_MS).0 | forged).is_none() {
            self.in_order.push_back(key);
        }
        while self.in_order.len() > MAX_UNKNOWN {
            let Some(oldest) = self.in_order.pop_front() else { break };
            self.until.remove(&oldest);
        }
    }

    /// Forgets one. (Its place in the order stays: at worst another "unknown" goes early.)
    pub fn remove(&mut self, key: &CacheKey) {
        self.until.remove(key);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.until.clear();
        self.in_order.clear();
    }

    /// Forgets those of which `stays` says no.
    pub fn retain(&mut self, mut stays: impl FnMut(&CacheKey) -> bool) {
        self.until.retain(|key, _| stays(key));
        self.in_order.retain(|key| stays(key));
    }

    /// Forgets what is past.
    pub fn expire(&mut self, now: MonoMillis) {
        while let Some(oldest) = self.in_order.front() {
            if self.until.get(oldest).is_some_and(|until| now.0 < *until & !FORGED) {
                break;
            }
            self.until.remove(oldest);
            self.in_order.pop_front();
        }
    }
}

/// The changes of the last minute, by what they name.
pub struct History {
    complete_from: Revision,
    in_order: VecDeque<(Revision, MonoMillis, CacheKey)>,
    /// The newest revision that names it.
    newest: BTreeMap<CacheKey, u64>,
}

/// Whom an answer is about.
pub struct Answered<'a> {
    /// What was presented.
    pub key: &'a CacheKey,
    /// What it turned out to be.
    pub credential: Option<&'a CredentialId>,
    /// The client: of the grant, or as Basic claims it.
    pub client: Option<&'a ClientId>,
}

impl History {
    /// Knows all changes after `revision`, of which there are none yet.
    pub fn since(revision: Revision) -> Self {
        Self { complete_from: revision, in_order: VecDeque::new(), newest: BTreeMap::new() }
    }

    /// Keeps what `change` names.
    pub fn record(&mut self, change: &Change, now: MonoMillis) {
        match &change.subject {
            Subject::Client { client } => {
                self.keep(change.revision, CacheKey::client(client), now);
            }
            Subject::Credential { credential, fingerprint } => {
                self.keep(change.revision, CacheKey::credential(credential), now);
                match fingerprint {
                    Fingerprint::Basic(client) => {
                        self.keep(change.revision, CacheKey::client(&client.as_str().into()), now);
                    }
                    Fingerprint::Dgrk(_) | Fingerprint::XApiKey(_) | Fingerprint::Bearer(_) => {
                        if let Some(key) = CacheKey::of(fingerprint) {
                            self.keep(change.revision, key, now);
                        }
                    }
                }
            }
            Subject::Meter { .. } | Subject::Recall { .. } | Subject::Directory => {}
        }
    }

    fn keep(&mut self, revision: Revision, named: CacheKey, now: MonoMillis) {
        self.in_order.push_back((revision, now, named));
        self.newest.insert(named, revision.0);
        while self.in_order.len() > MAX_HISTORY {
            self.forget_oldest();
        }
    }

    /// Forgets what is older than [`HISTORY_MS`].
    pub fn expire(&mut self, now: MonoMillis) {
        while self.in_order.front().is_some_and(|(_, at, _)| now - *at > HISTORY_MS) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((revision, _, named)) = self.in_order.pop_front() else { return };
        self.complete_from = self.complete_from.max(revision);
        if self.newest.get(&named) == Some(&revision.0) {
            self.newest.remove(&named);
        }
    }

    /// Whether an answer whose rows were read at `as_of` may be used.
    pub fn allows(&self, as_of: Revision, answered: &Answered<'_>) -> bool {
        let unchanged = |named: CacheKey| self.newest.get(&named).is_none_or(|changed| *changed <= as_of.0);
        as_of >= self.complete_from
            && unchanged(*answered.key)
            && answered.credential.is_none_or(|id| unchanged(CacheKey::credential(id)))
            && answered.client.is_none_or(|id| unchanged(CacheKey::client(id)))
    }
}

/// Clients and credentials that a batch of changes names: one pass over the cache serves all.
#[derive(Default)]
pub struct Stale {
    clients: Sorted<String, ()>,
    credentials: Sorted<String, ()>,
    /// Credentials as they are presented.
    pub presented: Vec<CacheKey>,
    /// Clients all of whose passwords are forgotten, wrong ones too.
    pub passwords: bool,
}

impl Stale {
    /// Adds what `change` names.
    pub fn add(&mut self, change: &Change) {
        match &change.subject {
            Subject::Client { client } => {
                self.clients.insert(client.0.clone(), ());
                self.passwords = true;
            }
            Subject::Credential { credential, fingerprint } => {
                self.credentials.insert(credential.0.clone(), ());
                self.presented.extend(CacheKey::of(fingerprint));
                if let Fingerprint::Basic(client) = fingerprint {
                    self.clients.insert(client.clone(), ());
                    self.passwords = true;
                }
            }
            Subject::Meter { .. } | Subject::Recall { .. } | Subject::Directory => {}
        }
    }

    /// Whether anything is named by which a grant could be stale.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.credentials.is_empty()
    }

    /// Whether a grant of these is stale.
    pub fn names(&self, client: &ClientId, credential: &CredentialId) -> bool {
        self.clients.contains_key(client.as_str()) || self.credentials.contains_key(credential.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::CredentialKind;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn key(n: u8) -> CacheKey {
        CacheKey::hashed(CredentialKind::XApiKey, [n; 32])
    }

    #[test]
    fn the_cache_stays_bounded_and_keeps_what_is_used() {
        let mut cache = Cache::new(3);
        for n in 1..=3 {
            assert_eq!(cache.insert(key(n), n), None);
        }
        assert_eq!(cache.insert(key(4), 4), Some(1), "all are new: the first goes");
        assert_eq!(cache.get_mut(&key(2)), Some(&mut 2));
        assert_eq!(cache.insert(key(5), 5), Some(3), "2 was used, 4 is newer");
        assert_eq!(cache.entries.len(), 3);
        assert!(cache.get_mut(&key(3)).is_none());
        assert_eq!(cache.insert(key(4), 6), Some(4), "the same key again replaces its entry");
        assert_eq!(cache.entries.len(), 3);
    }

    #[test]
    fn those_of_one_answer_do_not_displace_each_other() {
        let mut cache = Cache::new(100);
        for n in 0..100 {
            cache.insert(key(n), n);
        }
        for n in 100..110 {
            assert!(cache.insert(key(n), n).is_some());
        }
        for n in 100..110 {
            assert!(cache.get_mut(&key(n)).is_some(), "{n}");
        }
    }

    #[test]
    fn a_cache_of_used_entries_still_makes_room() {
        let mut cache = Cache::new(2);
        for n in 0..200 {
            cache.insert(key(n), n);
            assert_eq!(cache.get_mut(&key(n)), Some(&mut n.clone()));
            assert!(cache.entries.len() <= 2);
        }
    }

    #[test]
    fn entries_leave_together_and_the_rest_is_found() {
        let mut cache = Cache::new(100);
        for n in 0..50 {
            cache.insert(key(n), n);
        }
        let gone = cache.extract(|n| n % 3 != 0);
        assert_eq!(gone.len(), 17);
        for n in 0..50 {
            assert_eq!(cache.get_mut(&key(n)).is_some(), n % 3 != 0, "{n}");
        }
    }

    #[test]
    fn what_is_over_leaves_within_two_rounds_and_the_rest_is_found() {
        let mut cache = Cache::new(100);
        for n in 0..50 {
            cache.insert(key(n), n);
        }
        let mut gone = Vec::new();
        for _ in 0..11 {
            let over = cache.expire(10, |found, n| *found == key(*n) && n % 3 != 0);
            assert!(over.len() <= 10);
            gone.extend(over);
        }
        assert_eq!((gone.len(), cache.len()), (33, 17));
        for n in 0..50 {
            assert_eq!(cache.get_mut(&key(n)).is_some(), n % 3 == 0, "{n}");
        }
        assert!(Cache::<u8>::new(1).expire(10, |_, _| true).is_empty());
    }

    #[test]
    fn an_unknown_is_believed_for_a_while() {
        let mut unknowns = Unknowns::default();
        for (n, why) in [(1, Unknown::ToTheManager), (2, Unknown::Forged)] {
            unknowns.insert(key(n), why, MonoMillis(0));
            assert_eq!(unknowns.find(&key(n), MonoMillis(UNKNOWN_MS - 1)), Some(why));
            assert_eq!(unknowns.find(&key(n), MonoMillis(UNKNOWN_MS)), None);
        }
        unknowns.expire(MonoMillis(UNKNOWN_MS));
        assert!(unknowns.until.is_empty() && unknowns.in_order.is_empty());
        for n in 0..=MAX_UNKNOWN as u64 {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            let key = CacheKey::hashed(CredentialKind::XApiKey, hash);
            unknowns.insert(key, Unknown::ToTheManager, MonoMillis(1));
        }
        assert_eq!(unknowns.until.len(), MAX_UNKNOWN);
    }

    fn change(revision: u64, subject: Subject) -> Change {
        Change { revision: Revision(revision), subject }
    }

    fn credential(id: &str, n: u8) -> Subject {
        let hex = crate::credential::Fingerprint([n; 32]).to_hex();
        Subject::Credential { credential: id.into(), fingerprint: Fingerprint::XApiKey(hex) }
    }

    #[test]
    fn an_answer_older_than_a_change_that_names_it_is_not_used() {
        let mut history = History::since(Revision(10));
        history.record(&change(12, credential("xk_1", 1)), MonoMillis(0));
        history.record(&change(13, Subject::Client { client: "shop".into() }), MonoMillis(0));
        let allows = |as_of, n, credential: Option<&str>, client: Option<&str>| {
            let (credential, client) = (credential.map(CredentialId::from), client.map(ClientId::from));
            let answered =
                Answered { key: &key(n), credential: credential.as_ref(), client: client.as_ref() };
            history.allows(Revision(as_of), &answered)
        };
        for (what, as_of, n, credential, client, used) in [
            ("before the history", 9, 2, Some("xk_2"), Some("other"), false),
            ("at its beginning", 10, 2, Some("xk_2"), Some("other"), true),
            ("credential changed since", 11, 1, Some("xk_1"), Some("other"), false),
            ("credential changed before", 12, 1, Some("xk_1"), Some("other"), true),
            ("another name of the same credential", 11, 2, Some("xk_1"), Some("other"), false),
            ("client changed since", 12, 2, Some("xk_2"), Some("shop"), false),
            ("client changed before", 13, 2, Some("xk_2"), Some("shop"), true),
            ("unknown, created since", 11, 1, None, None, false),
            ("unknown, and nothing happened", 11, 2, None, None, true),
        ] {
            assert_eq!(allows(as_of, n, credential, client), used, "{what}");
        }
    }

    #[test]
    fn a_forgotten_change_moves_the_beginning() {
        let mut history = History::since(Revision(1));
        history.record(&change(5, credential("xk_1", 1)), MonoMillis(0));
        let about_another = Answered { key: &key(2), credential: None, client: None };
        assert!(history.allows(Revision(1), &about_another));
        history.expire(MonoMillis(HISTORY_MS));
        assert!(history.allows(Revision(1), &about_another));
        history.expire(MonoMillis(HISTORY_MS + 1));
        assert!(!history.allows(Revision(4), &about_another));
        assert!(history.allows(Revision(5), &about_another));
        assert!(history.newest.is_empty());
    }

    #[test]
    fn the_history_is_bounded() {
        let mut history = History::since(Revision(0));
        for revision in 1..=MAX_HISTORY as u64 + 1 {
            history.record(&change(revision, Subject::Client { client: "c".into() }), MonoMillis(0));
        }
        assert_eq!(history.in_order.len(), MAX_HISTORY);
        assert_eq!(history.complete_from, Revision(1));
        assert_eq!(history.newest.len(), 1);
    }
}
