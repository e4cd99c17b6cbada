//! Requests per second of one client on one node, over all its workers and credentials.
//!
//! Seconds are those of the monotonic clock: a stepped wall clock would reopen or freeze them.

use alloc::vec::Vec;

use super::bucket::MAX_RATES;
use crate::id::ClientKey;
use crate::time::MonoMillis;

/// Milliseconds in a second of the rate.
pub const SECOND_MS: u64 = 1_000;

/// What one client was admitted in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSecond {
    /// Whose.
    pub client: ClientKey,
    /// Which second of the monotonic clock.
    pub second: u64,
    /// How many requests.
    pub admitted: u32,
}

/// Whether one more request fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes. `left`: how many more after this one; absent = unlimited.
    Free {
        /// Absent = unlimited.
        left: Option<u32>,
    },
    /// The second is full.
    Full {
        /// Until the next one begins, 1 to 1,000.
        retry_after_ms: u64,
    },
    /// As many other clients of this bucket are active now as it can count.
    NoRecord,
}

/// Whether `client` may be admitted once more at `now`, at `tps` per second (0 = unlimited).
pub fn check(rates: &[RateSecond], client: ClientKey, tps: u32, now: MonoMillis) -> Room {
    if tps == 0 {
        return Room::Free { left: None };
    }
    let second = now.0 / SECOND_MS;
    let Some(found) = rates.iter().find(|rate| rate.client == client) else {
        let room = rates.len() < MAX_RATES || rates.iter().any(|rate| is_over(rate, second));
        return if room { Room::Free { left: Some(tps - 1) } } else { Room::NoRecord };
    };
    // A worker whose `now` is a little older counts in the second that another has begun.
    let admitted = if found.second < second { 0 } else { found.admitted };
    if admitted < tps {
        return Room::Free { left: Some(tps - admitted - 1) };
    }
    let next = found.second.max(second).saturating_add(1).saturating_mul(SECOND_MS);
    Room::Full { retry_after_ms: next.saturating_sub(now.0).clamp(1, SECOND_MS) }
}

/// Counts a request for which [`check`] has found room.
pub fn count(rates: &mut Vec<RateSecond>, client: ClientKey, tps: u32, now: MonoMillis) {
    if tps == 0 {
        return;
    }
    let second = now.0 / SECOND_MS;
    if let Some(found) = rates.iter_mut().find(|rate| rate.client == client) {
        if found.second < second {
            *found = RateSecond { client, second, admitted: 0 };
        }
        found.admitted = found.admitted.saturating_add(1);
        return;
    }
    if rates.len() >= MAX_RATES {
        rates.retain(|rate| !is_over(rate, second));
    }
    rates.push(RateSecond { client, second, admitted: 1 });
}

/// Whether nobody counts in it any more. The second just past is kept: a worker whose `now` was
/// read before the turn may still write.
fn is_over(rate: &RateSecond, second: u64) -> bool {
    rate.second.saturating_add(1) < second
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const CLIENT: ClientKey = ClientKey([1; 16]);

    fn admitted(rates: &mut Vec<RateSecond>, tps: u32, at: u64) -> bool {
        let free = matches!(check(rates, CLIENT, tps, MonoMillis(at)), Room::Free { .. });
        if free {
            count(rates, CLIENT, tps, MonoMillis(at));
        }
        free
    }

    #[test]
    fn a_second_admits_its_rate_and_the_next_one_begins_anew() {
        let mut rates = vec![];
        let calls = [5_000, 5_500, 5_999, 5_999, 6_000, 6_999, 6_999, 9_000];
        let got = calls.map(|at| admitted(&mut rates, 2, at));
        assert_eq!(got, [true, true, false, false, true, true, false, true]);
    }

    #[test]
    fn zero_is_unlimited_and_leaves_no_trace() {
        let mut rates = vec![];
        assert!((0..1_000).all(|_| admitted(&mut rates, 0, 1)));
        assert!(rates.is_empty());
        assert_eq!(check(&rates, CLIENT, 0, MonoMillis(1)), Room::Free { left: None });
    }

    #[test]
    fn a_worker_with_an_older_now_counts_in_the_second_already_begun() {
        let mut rates = vec![];
        assert!(admitted(&mut rates, 2, 6_000));
        assert!(admitted(&mut rates, 2, 5_999));
        assert!(!admitted(&mut rates, 2, 6_001));
        assert_eq!(check(&rates, CLIENT, 2, MonoMillis(5_999)), Room::Full { retry_after_ms: 1_000 });
    }

    #[test]
    fn the_rest_of_the_second_is_the_time_to_wait() {
        let mut rates = vec![];
        assert!(admitted(&mut rates, 1, 3_000));
        for (at, wait) in [(3_000, 1_000), (3_001, 999), (3_999, 1)] {
            assert_eq!(check(&rates, CLIENT, 1, MonoMillis(at)), Room::Full { retry_after_ms: wait });
        }
        assert_eq!(check(&rates, CLIENT, 3, MonoMillis(3_500)), Room::Free { left: Some(1) });
    }

    #[test]
    fn a_bucket_full_of_active_clients_has_room_again_when_their_second_is_over() {
        let mut rates: Vec<_> = (0..MAX_RATES)
            .map(|i| RateSecond { client: ClientKey([i as u8 + 2; 16]), second: 7, admitted: 1 })
            .collect();
        for (at, room) in [(7_999, false), (8_999, false), (9_000, true)] {
            let free = matches!(check(&rates, CLIENT, 5, MonoMillis(at)), Room::Free { .. });
            assert_eq!(free, room, "at {at}");
        }
        count(&mut rates, CLIENT, 5, MonoMillis(9_000));
        assert_eq!(rates, [RateSecond { client: CLIENT, second: 9, admitted: 1 }]);
    }

    #[test]
    fn the_end_of_the_clock_is_no_panic() {
        let mut rates = vec![RateSecond { client: CLIENT, second: u64::MAX, admitted: u32::MAX }];
        assert!(matches!(check(&rates, CLIENT, 1, MonoMillis(u64::MAX)), Room::Full { .. }));
        count(&mut rates, CLIENT, 1, MonoMillis(u64::MAX));
    }
}
