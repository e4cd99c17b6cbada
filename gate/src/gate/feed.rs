//! What the workers of one process share of the manager's news: who leads, how fresh we are,
//! the ring of changes, and the directory as a snapshot with a short log of deltas.
//!
//! One worker leads: it polls, writes what came, and wakes the others. Nothing here trusts that
//! there is one leader only. A batch of changes says on which revision it continues and where it
//! ends, a directory delta the same; whoever finds a gap starts over ([`Changes::Reset`]), which
//! costs look-ups and never lets a revoked credential through.

use alloc::vec::Vec;

use crate::id::{Epoch, Revision};
use crate::shared::{Shared, Write, update};
use crate::time::MonoMillis;
use crate::wire::changes::Change;

/// The leader's sign of life is renewed at each tick of 100 ms and stale after this.
pub const LEADER_STALE_MS: u64 = 300;
/// Batches of changes in the ring; a worker that is further behind starts over.
pub const RING_BATCHES: u64 = 64;
/// Deltas after a snapshot of the directory; then the leader fetches a new snapshot.
pub const MAX_DELTAS: u64 = 16;

/// Where the shared records of one manager and installation are.
#[derive(Clone)]
pub struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    /// Below `prefix`, which no other layout, manager or installation uses.
    pub fn below(prefix: &[u8]) -> Self {
        Self { prefix: prefix.to_vec() }
    }

    /// A key of its own.
    pub fn named(&self, name: &str) -> Vec<u8> {
        [self.prefix.as_slice(), name.as_bytes()].concat()
    }

    /// One of a numbered set.
    pub fn numbered(&self, name: &str, number: u64) -> Vec<u8> {
        let mut key = self.named(name);
        key.push(b'.');
        key.extend_from_slice(alloc::format!("{number}").as_bytes());
        key
    }
}

/// The shared state of the feed: eight numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedState {
    /// Life of the manager's database; 0 before the first answer.
    pub epoch: Epoch,
    /// The newest revision that the ring covers.
    pub revision: Revision,
    /// Number of the next batch.
    pub next_batch: u64,
    /// How often everything was to be asked anew.
    pub resets: u64,
    /// When the newest answered poll was sent: what is held may be used for `max_staleness_s` from
    /// then on, whatever that setting was before. 0 before the first.
    pub polled_at: MonoMillis,
    /// How often the directory changed, as far as changes tell.
    pub directory_wanted: u64,
    /// Of these, how many the shared directory covers.
    pub directory_served: u64,
    /// Number of the shared snapshot; 0 = none.
    pub snapshot: u64,
    /// Deltas after it.
    pub deltas: u64,
}

impl FeedState {
    /// Before the first answer.
    pub const NEW: Self = Self {
        epoch: Epoch(0),
        revision: Revision(0),
        next_batch: 0,
        resets: 0,
        polled_at: MonoMillis(0),
        directory_wanted: 1,
        directory_served: 0,
        snapshot: 0,
        deltas: 0,
    };

    /// Whether what is held may be used.
    pub fn is_fresh(&self, staleness_ms: u64, now: MonoMillis) -> bool {
        self.polled_at.0 != 0 && self.polled_at + staleness_ms > now
    }

    fn encode(&self) -> Vec<u8> {
        numbers(&[
            self.epoch.0,
            self.revision.0,
            self.next_batch,
            self.resets,
            self.polled_at.0,
            self.directory_wanted,
            self.directory_served,
            self.snapshot,
            self.deltas,
        ])
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = read_numbers::<9>(bytes)?;
        let [epoch, revision, next_batch, resets, polled_at, wanted, served, snapshot, deltas] = numbers;
        rest.is_empty().then_some(Self {
            epoch: Epoch(epoch),
            revision: Revision(revision),
            next_batch,
            resets,
            polled_at: MonoMillis(polled_at),
            directory_wanted: wanted,
            directory_served: served,
            snapshot,
            deltas,
        })
    }

    /// Whether the directory is known to have changed since it was fetched.
    pub fn directory_is_due(&self) -> bool {
        self.directory_served < self.directory_wanted || self.snapshot == 0
    }
}

/// The state as it is now.
pub fn read<S: Shared + ?Sized>(shared: &mut S, keys: &Keys) -> FeedState {
    let found = shared.get(&keys.named("feed"));
    found.and_then(|(bytes, _)| FeedState::decode(&bytes)).unwrap_or(FeedState::NEW)
}

/// Changes the state in one step, where `change` agrees to the state it finds.
pub fn change<S: Shared + ?Sized>(
    shared: &mut S,
    keys: &Keys,
    mut change: impl FnMut(&mut FeedState) -> bool,
) -> bool {
    update(shared, &keys.named("feed"), |bytes| {
        let mut state = bytes.and_then(FeedState::decode).unwrap_or(FeedState::NEW);
        let agreed = change(&mut state);
        (if agreed { Write::Put(state.encode()) } else { Write::Keep }, agreed)
    })
    .unwrap_or(false)
}

/// Takes or keeps the lead. `true`: `me` leads for the next [`LEADER_STALE_MS`].
pub fn lead<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, me: u64, now: MonoMillis) -> bool {
    update(shared, &keys.named("lead"), |bytes| {
        let leads = match bytes.and_then(read_numbers::<2>) {
            Some(([leader, _], _)) if leader == me => true,
            Some(([_, beat], _)) => now - MonoMillis(beat) > LEADER_STALE_MS,
            None => true,
        };
        (if leads { Write::Put(numbers(&[me, now.0])) } else { Write::Keep }, leads)
    })
    .unwrap_or(false)
}

/// Gives the lead up, so that another worker takes it at its next tick.
pub fn resign<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, me: u64) {
    update(shared, &keys.named("lead"), |bytes| match bytes.and_then(read_numbers::<2>) {
        Some(([leader, _], _)) if leader == me => (Write::Put(numbers(&[0, 0])), ()),
        Some(_) | None => (Write::Keep, ()),
    });
}

/// What happened since a worker looked last.
pub enum Changes {
    /// These, in order; none = nothing.
    Since(Vec<Change>),
    /// Too much, or with a gap: everything held is to be asked for anew.
    Reset,
}

/// Writes a batch of changes that continues on `since`. The state names it only afterwards.
pub fn write_batch<S: Shared + ?Sized>(
    shared: &mut S,
    keys: &Keys,
    number: u64,
    since: Revision,
    until: Revision,
    changes: &[Change],
) {
    let mut value = numbers(&[number, since.0, until.0]);
    if let Ok(json) = serde_json::to_vec(changes) {
        value.extend(json);
        put(shared, &keys.numbered("ring", number % RING_BATCHES), value);
    }
}

/// Reads the batches from number `next` on; they must lead from `since` to `state.revision`.
pub fn read_batches<S: Shared + ?Sized>(
    shared: &mut S,
    keys: &Keys,
    next: u64,
    since: Revision,
    state: &FeedState,
) -> Changes {
    if state.next_batch < next || state.next_batch - next > RING_BATCHES {
        return Changes::Reset;
    }
    let mut at = since;
    let mut changes = Vec::new();
    for number in next..state.next_batch {
        let batch = shared.get(&keys.numbered("ring", number % RING_BATCHES));
        let Some((bytes, _)) = batch else { return Changes::Reset };
        let Some(([written, from, until], json)) = read_numbers::<3>(&bytes) else { return Changes::Reset };
        if written != number || from > at.0 {
            return Changes::Reset;
        }
        match crate::json::from_slice::<Vec<Change>>(json) {
            Ok(batch) => changes.extend(batch),
            Err(_) => return Changes::Reset,
        }
        at = at.max(Revision(until));
    }
    if at < state.revision {
        return Changes::Reset;
    }
    Changes::Since(changes)
}

/// Writes a snapshot (`delta` 0) or a numbered delta of the directory as the manager sent it.
pub fn write_directory<S: Shared + ?Sized>(
    shared: &mut S,
    keys: &Keys,
    snapshot: u64,
    delta: u64,
    json: &[u8],
) {
    let mut value = numbers(&[snapshot, delta]);
    value.extend_from_slice(json);
    put(shared, &keys.numbered("directory", delta), value);
}

/// Reads what [`write_directory`] wrote under these numbers.
pub fn read_directory<S: Shared + ?Sized>(
    shared: &mut S,
    keys: &Keys,
    snapshot: u64,
    delta: u64,
) -> Option<Vec<u8>> {
    let (mut bytes, _) = shared.get(&keys.numbered("directory", delta))?;
    let ([written, number], rest) = read_numbers::<2>(&bytes)?;
    let header = bytes.len() - rest.len();
    (written == snapshot && number == delta).then(|| bytes.split_off(header))
}

/// Writes over whatever is there.
pub fn put<S: Shared + ?Sized>(shared: &mut S, key: &[u8], value: Vec<u8>) {
    update(shared, key, |_| (Write::Put(value.clone()), ()));
}

/// Numbers as shared records keep them.
pub fn numbers(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The first `N` numbers of a record, and what follows them.
pub fn read_numbers<const N: usize>(bytes: &[u8]) -> Option<([u64; N], &[u8])> {
    let (head, rest) = bytes.split_at_checked(N * 8)?;
    let mut values = [0; N];
    for (value, eight) in values.iter_mut().zip(head.chunks_exact(8)) {
        *value = u64::from_le_bytes(eight.try_into().ok()?);
    }
    Some((values, rest))
}
