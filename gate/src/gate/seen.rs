//! What a node knows of a client's limits at one moment: for a refusal's `RateLimit` fields, and
//! for whoever asks later what led to it.

use alloc::vec::Vec;

use super::feed::Keys;
use crate::grant::HeldGrant;
use crate::quota::bucket::{Bucket, Kept, bucket_of_key, bucket_of_meter};
use crate::quota::holder::MAX_RETRY_MS;
use crate::quota::rate::SECOND_MS;
use crate::shared::Shared;
use crate::time::MonoMillis;
use crate::wire::decisions::{LeaseSeen, MeterSeen, RateSeen, Word};

/// The limits of a grant as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsSeen {
    /// Absent without a rate.
    pub rate: Option<RateSeen>,
    /// Each meter of the grant, in its order.
    pub meters: Vec<MeterSeen>,
    /// Milliseconds until the window of each meter turns, as far as is known.
    pub reset_ms: Vec<Option<u64>>,
}

/// Reads the shared records of the client and of its meters, and changes nothing.
pub fn look<S: Shared + ?Sized>(
    shared: &mut S,
    keys: &Keys,
    grant: &HeldGrant,
    now: MonoMillis,
) -> LimitsSeen {
    let mut read = |number: u16| {
        let value = shared.get(&keys.numbered("bucket", u64::from(number))).map(|(value, _)| value);
        value.and_then(|value| Bucket::decode(&value).ok()).unwrap_or_default()
    };
    let mut number = bucket_of_key(&grant.client_key);
    let mut bucket = read(number);
    let mut seen = LimitsSeen::default();
    if grant.wire.tps > 0 {
        let second = now.0 / SECOND_MS;
        let counted = bucket.rates.iter().find(|rate| rate.client == grant.client_key);
        let admitted = counted.filter(|rate| rate.second >= second).map_or(0, |rate| rate.admitted);
        seen.rate = Some(RateSeen { tps: grant.wire.tps, admitted });
    }
    for meter in &grant.wire.meters {
        let own = bucket_of_meter(&grant.client_key, meter);
        if own != number {
            (number, bucket) = (own, read(own));
        }
        let record = bucket.meters.iter().find(|record| record.meter == meter.id);
        let leases: &[_] = record.map_or(&[], |record| &record.leases);
        // One of the next window is no use yet, and tells nothing of this one.
        let open = || leases.iter().filter(|lease| lease.opens_at <= now);
        let usable = open().filter(|lease| lease.expires_at > now);
        let word = record.and_then(|record| record.kept).map(|kept| match kept {
            Kept::Contended { until, .. } => (Word::Contended, until, None),
            Kept::Exhausted { until, window_ends_at } => (Word::Exhausted, until, window_ends_at),
            Kept::Gone { until } => (Word::Gone, until, None),
        });
        // Who was told "contended" is refused by it for as long as the next answer is under way.
        let word = word.filter(|(word, until, _)| {
            let heard_for = if *word == Word::Contended { MAX_RETRY_MS } else { 0 };
            now < *until + heard_for
        });
        let window_ends_at = match word {
            Some((Word::Exhausted, _, window_ends_at)) => window_ends_at,
            Some(_) | None => open().rev().find_map(|lease| lease.window_ends_at),
        };
        seen.reset_ms.push(window_ends_at.map(|ends_at| ends_at - now));
        seen.meters.push(MeterSeen {
            meter: meter.id,
            kind: meter.kind,
            limit: meter.limit,
            held: usable.map(|lease| u64::from(lease.left)).sum(),
            ledger_left: open().next_back().map(|lease| lease.ledger_left),
            leases: leases
                .iter()
                .map(|lease| LeaseSeen {
                    lease: lease.id,
                    generation: lease.generation,
                    units: lease.units,
                    left: lease.left,
                })
                .collect(),
            word: word.map(|(word, _, _)| word),
            renewing: record.is_some_and(|record| record.pending.is_some()),
        });
    }
    seen
}
