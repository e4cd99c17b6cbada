//! The node's half of the lease protocol: spend, ask, install, give back.
//!
//! All state is in the shared [`Bucket`], so that any worker can go on where another stopped
//! (trapped, even). Each function at the end of this file is one compare-and-swap; what it does to
//! the bucket is in the parts below.
//!
//! A unit leaves a lease in one of two ways, never both: a request spends it, or the lease is
//! *closed*: taken out of the record, with its rest frozen as `unspent` into the renewal that
//! gives it back, by the same compare-and-swap. That renewal is written before it is sent, is
//! sent byte for byte until it is answered, and changes the record once.

use alloc::vec::Vec;

use super::bucket::Bucket;
use crate::id::{ClientKey, Epoch, LeaseId, MeterId};
use crate::shared::{Shared, Write, update};
use crate::time::MonoMillis;
use crate::wire::exchange::{Meter, Renewal, RenewalAnswer};

mod ahead;
mod answers;
mod asking;
mod demand;
#[cfg(test)]
mod fixture;
mod spending;

/// How long a renewal may take before any worker sends it again.
pub const RENEWAL_TIMEOUT_MS: u64 = 500;
/// How soon a renewal is sent again whose call is known to have failed.
pub const RESEND_MS: u64 = 50;
/// A lease of which the whole node spent nothing for so long goes back.
pub const IDLE_MS: u64 = 2_000;
/// A lease in demand is succeeded by another so long before it expires, or a horizon if that is longer:
/// half its life.
pub const RENEW_AHEAD_MS: u64 = 30_000;
/// A lease is not succeeded for its age where its window ends so soon after it.
pub const WINDOW_TAIL_MS: u64 = 2_000;
/// A lease of the next window is fetched in the last part of a window, each record at a moment of
/// its own, so that the manager is not asked by everybody when the window turns.
pub const AHEAD_MS: u64 = 30_000;
/// But not in the very last: what comes after the window has turned comes too late.
pub const AHEAD_MARGIN_MS: u64 = 1_000;
/// For so long a request waits for the window to turn where a lease of the next one is there: a tick
/// less than a request's patience.
pub const TURN_MS: u64 = 200;
/// How often it is noted that there is demand for a meter that is exhausted.
pub const NOTE_DEMAND_MS: u64 = 1_000;
/// "Exhausted" is asked for anew after so long: a lost change of the limit, and the drift of
/// this clock over a month's window, both cost at most this.
pub const KEEP_EXHAUSTED_MS: u64 = 60_000;
/// "Contended" is kept no longer than this, whatever the answer says.
pub const MAX_RETRY_MS: u64 = 1_000;
/// How long requests for a deleted meter are refused without asking again.
pub const KEEP_GONE_MS: u64 = 1_000;
/// A record used within this time is not closed to make room for another.
pub const EVICT_IDLE_MS: u64 = 100;
/// Two clocks differ by at most this much per thousand (quartz: 0.1).
pub const DRIFT_PER_MILLE: u64 = 2;

/// What one request takes.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whose rate.
    pub client: ClientKey,
    /// Requests per second on this node; 0 = unlimited.
    pub tps: u32,
    /// One unit of each; a meter named twice is taken once.
    pub meters: &'a [Meter],
    /// 64 random bits, for the streams of records that are made.
    pub random: u64,
}

/// What became of it. Only [`Spent::Admitted`] consumed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The rate and a unit of every meter are taken.
    Admitted {
        /// Requests left in this second; absent = unlimited.
        tps_left: Option<u32>,
        /// Per meter, in the order asked.
        left: Vec<Left>,
    },
    /// Over the client's requests per second.
    RateExceeded {
        /// Until the next second, 1 to 1,000.
        retry_after_ms: u64,
    },
    /// Nothing held: wait until a renewal is answered, then spend again. No answer within the
    /// request's patience is `quota_unavailable`.
    Wait {
        /// The first meter that lacks a unit.
        meter: MeterId,
    },
    /// The window is about to turn, and the next one's units are there: spend again at `retry_at`.
    /// Patience that ends before is `quota_unavailable`.
    Turning {
        /// Which.
        meter: MeterId,
        /// When the lease opens.
        retry_at: MonoMillis,
    },
    /// The ledger says that other holders have the last units: spend again at `retry_at`; when
    /// patience ends before, `quota_contended`.
    Contended {
        /// Which.
        meter: MeterId,
        /// When another renewal goes out.
        retry_at: MonoMillis,
    },
    /// The ledger says that nothing is left.
    Exhausted {
        /// Which.
        meter: MeterId,
        /// Until the window turns; absent = a total.
        retry_after_ms: Option<u64>,
    },
    /// The ledger says that the meter was deleted: the grant is stale, resolve it anew.
    Gone {
        /// Which.
        meter: MeterId,
    },
    /// No room for another record.
    Capacity,
}

/// What is left of one limit, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub meter: MeterId,
    /// Units held here plus units that the ledger had left when it granted them.
    pub remaining: u64,
    /// Until the window turns; absent = a total.
    pub reset_ms: Option<u64>,
    /// From which lease the unit came; absent: of a meter that was named before.
    pub lease: Option<LeaseId>,
}

/// What an answer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Units are there: wake who waits.
    Granted,
    /// A "no" is on record, or a return was acknowledged: wake who waits, it decides anew.
    Answered,
    /// The record is dropped, what it held is withheld; who waits begins a new stream.
    Dropped,
    /// Not the answer to the step on its way: a repeat, or too late.
    Ignored,
}

/// A result, and when the bucket wants [`renewals_due`] to be called next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched<T> {
    /// What was asked for.
    pub result: T,
    /// In the past or now = at once; absent = the bucket holds no record.
    pub next_due: Option<MonoMillis>,
}

/// Takes the rate and one unit of every meter, or nothing. Always answers: a bucket in
/// contention beyond reason is [`Spent::Capacity`].
pub fn spend<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    ask: &Ask<'_>,
) -> Touched<Spent> {
    touch(shared, key, now, |bucket| bucket.spend(now, ask))
        .unwrap_or(Touched { result: Spent::Capacity, next_due: None })
}

/// Gives a unit back that [`spend`] has just taken from this lease, for a request that is refused for something
/// else. Where the lease has gone meanwhile the unit is lost to its generation: fewer calls than the limit, never
/// more.
pub fn put_back<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    meter: MeterId,
    lease: LeaseId,
) -> Option<Touched<()>> {
    touch(shared, key, now, |bucket| bucket.put_back(meter, lease))
}

/// The renewals to send now, at most `room`, each frozen into the record before this returns.
/// `now` is the moment of sending that [`install`] wants. With `connected` false, idle leases
/// stay: cut off, they could not be fetched back.
///
/// `None` (here and below): contention beyond reason, try again with the next tick.
pub fn renewals_due<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    connected: bool,
    room: usize,
) -> Option<Touched<Vec<Renewal>>> {
    let touched = touch(shared, key, now, |bucket| {
        (bucket.renewals_due(now, connected, room), bucket.next_due(now, connected))
    })?;
    let (result, next_due) = touched.result;
    Some(Touched { result, next_due })
}

/// Puts an answer into the record, if it is the answer to the step on its way. `sent_at`: when
/// **that very call** was sent, as told to [`renewals_due`]; an answer to an earlier sending of
/// the same step counts from the earlier moment.
pub fn install<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    epoch: Epoch,
    answer: &RenewalAnswer,
    sent_at: MonoMillis,
) -> Option<Touched<Installed>> {
    touch(shared, key, now, |bucket| bucket.install(now, epoch, answer, sent_at))
}

/// The call that carried `renewal` has failed (refused, reset, answered by somebody else than the
/// manager): it is sent again after [`RESEND_MS`] instead of [`RENEWAL_TIMEOUT_MS`].
pub fn call_failed<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    renewal: &Renewal,
) -> Option<Touched<()>> {
    touch(shared, key, now, |bucket| bucket.call_failed(now, renewal))
}

/// Another holder waits: what is held of `meter` goes back. `lowered`, the limit was lowered: what is
/// on its way or of the next window, too.
pub fn recall<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    meter: MeterId,
    lowered: bool,
) -> Option<Touched<()>> {
    touch(shared, key, now, |bucket| bucket.recall(now, meter, lowered))
}

/// Nobody is left on this node who would go on: all that is held goes back, also what is on its way.
/// `true`: something is still out, call it again until there is nothing.
pub fn give_back<S: Shared + ?Sized>(shared: &mut S, key: &[u8], now: MonoMillis) -> Option<Touched<bool>> {
    // Most buckets are empty, and stay as they are.
    if shared.get(key).is_none() {
        return Some(Touched { result: false, next_due: None });
    }
    touch(shared, key, now, |bucket| bucket.give_back())
}

/// The limit of `meter` was raised or reset: a kept "no" counts no longer, nor one on its way. None:
/// changes were missed, and it may have been any meter's.
pub fn limit_changed<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    meter: Option<MeterId>,
) -> Option<Touched<()>> {
    touch(shared, key, now, |bucket| bucket.limit_changed(now, meter))
}

/// Reads the bucket without changing it: how many leases it holds, and when it is due. For the
/// worker that looks through all buckets after another one died.
pub fn look<S: Shared + ?Sized>(shared: &mut S, key: &[u8], now: MonoMillis) -> Touched<usize> {
    let bucket = shared.get(key).map(|(value, _)| read(Some(&value))).unwrap_or_default();
    let leases = bucket.meters.iter().map(|record| record.leases.len()).sum();
    Touched { result: leases, next_due: bucket.next_due(now, true) }
}

fn touch<S: Shared + ?Sized, T>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    mut change: impl FnMut(&mut Bucket) -> T,
) -> Option<Touched<T>> {
    let mut result = None;
    let next_due = change_bucket(shared, key, now, &mut |bucket| result = Some(change(bucket)))?;
    Some(Touched { result: result?, next_due })
}

/// One for all: [`touch`] is compiled for each of its many callers.
fn change_bucket<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    now: MonoMillis,
    change: &mut dyn FnMut(&mut Bucket),
) -> Option<Option<MonoMillis>> {
    update(shared, key, |value| {
        let mut bucket = read(value);
        change(&mut bucket);
        let bytes = bucket.encode();
        let is_empty = bucket.rates.is_empty() && bucket.meters.is_empty();
        let same = value.map_or(is_empty, |value| value == bytes);
        let write = if same { Write::Keep } else { Write::Put(bytes) };
        (write, bucket.next_due(now, true))
    })
}

/// Bytes that are no bucket count as none; see [`super::bucket`].
fn read(value: Option<&[u8]>) -> Bucket {
    value.and_then(|value| Bucket::decode(value).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::fixture::{CLIENT, M, meter};
    use super::*;
    use crate::id::Generation;
    use crate::quota::bucket::arbitrary;
    use crate::shared::{Cas, CasMismatch};
    use crate::wire::exchange::RenewalOutcome;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Shared data of one key, as bytes that anybody may have left.
    struct OneKey(Option<(Vec<u8>, u32)>);

    impl Shared for OneKey {
        fn get(&mut self, _: &[u8]) -> Option<(Vec<u8>, Cas)> {
            self.0.clone().map(|(value, cas)| (value, Cas(cas)))
        }
        fn set(&mut self, _: &[u8], value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
            let known = self.0.as_ref().map(|(_, cas)| *cas);
            if known != Some(cas.0) {
                return Err(CasMismatch);
            }
            self.0 = Some((value.to_vec(), cas.0 + 1));
            Ok(())
        }
        fn create(&mut self, _: &[u8], value: &[u8]) -> Result<(), CasMismatch> {
            if self.0.is_some() {
                return Err(CasMismatch);
            }
            self.0 = Some((value.to_vec(), 1));
            Ok(())
        }
    }

    #[test]
    fn damaged_bytes_count_as_absent_and_are_replaced() {
        for bytes in [&b""[..], b"damage", &[super::super::bucket::LAYOUT, 9]] {
            let mut shared = OneKey(Some((bytes.to_vec(), 5)));
            let meters = [meter(1)];
            let ask = Ask { client: CLIENT, tps: 0, meters: &meters, random: 2 };
            let touched = spend(&mut shared, b"k", MonoMillis(1), &ask);
            assert_eq!(touched.result, Spent::Wait { meter: M });
            assert_eq!(touched.next_due, Some(MonoMillis(1)));
            let due = renewals_due(&mut shared, b"k", MonoMillis(1), true, 9).expect("no contention");
            assert_eq!(due.result.len(), 1);
        }
    }

    #[test]
    fn what_changes_nothing_writes_nothing() {
        let mut shared = OneKey(None);
        let ask = Ask { client: CLIENT, tps: 0, meters: &[], random: 2 };
        assert!(matches!(spend(&mut shared, b"k", MonoMillis(1), &ask).result, Spent::Admitted { .. }));
        recall(&mut shared, b"k", MonoMillis(1), M, true);
        limit_changed(&mut shared, b"k", MonoMillis(1), None);
        assert_eq!(shared.0, None);
    }

    proptest! {
        /// Whatever is in the record: nothing panics, refused requests take nothing, admitted
        /// ones take one, and no lease grows.
        #[test]
        fn any_bucket_is_worked_on_in_order(
            bucket in arbitrary::bucket(),
            now in any::<u64>(),
            tps in 0_u32..3,
            connected in any::<bool>(),
            seq in any::<u64>(),
            ttl_ms in any::<u64>(),
        ) {
            let now = MonoMillis(now);
            let units = |bucket: &Bucket| -> u64 {
                bucket.meters.iter().flat_map(|r| &r.leases).map(|lease| u64::from(lease.left)).sum()
            };
            let meters: Vec<_> = bucket.meters.iter().take(2).map(|record| meter(record.meter.0)).collect();
            let ask = Ask { client: CLIENT, tps, meters: &meters, random: seq };
            let mut after = bucket.clone();
            let spent = after.spend(now, &ask);
            let taken = units(&bucket) - units(&after);
            let distinct = if meters.len() == 2 && meters[0].id == meters[1].id { 1 } else { meters.len() as u64 };
            let expected = if matches!(spent, Spent::Admitted { .. }) { distinct } else { 0 };
            prop_assert_eq!(taken, expected);

            let due = after.renewals_due(now, connected, 3);
            prop_assert!(due.len() <= 3);
            for renewal in &due {
                after.call_failed(now, renewal);
                let outcome = RenewalOutcome::Granted {
                    lease: LeaseId(seq), generation: Generation(1), units: u32::MAX, ttl_ms,
                    window_left_ms: Some(ttl_ms), opens_in_ms: renewal.ahead.then_some(ttl_ms),
                    remaining: u64::MAX,
                };
                let answer = RenewalAnswer { meter: renewal.meter, rec: renewal.rec, seq: renewal.seq, outcome };
                after.install(now, Epoch(seq), &answer, now);
            }
            after.spend(now, &ask);
            after.recall(now, MeterId(seq), connected);
            after.limit_changed(now, None);
            after.limit_changed(now, Some(MeterId(seq)));
            after.next_due(now, connected);
            prop_assert_eq!(Bucket::decode(&after.encode()), Ok(after));
        }
    }
}
