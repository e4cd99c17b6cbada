//! How large a lease is, and how long it lives.

use core::cmp;

use super::{LEASE_TTL_MS, LEASES_PER_LIMIT, MAX_HORIZON_S, MeterRow, drift_of, left_until};
use crate::quota::holder::AHEAD_MS;
use crate::time::UnixMillis;

/// Units of the next lease; 0 = nothing is left.
///
/// What the horizon's demand wants, at most `max_lease`, at most an even share of half of what
/// is left (so that shares shrink towards 1 and no node holds the last units alone).
pub fn grant_size(meter: &MeterRow, want: u32, other_holders: u32) -> u32 {
    let free = meter.limit.saturating_sub(meter.debited);
    let share = free / (2 * (u64::from(other_holders) + 1));
    let max_lease = meter.max_lease.map_or(meter.limit / LEASES_PER_LIMIT, u64::from);
    let units = u64::from(want).min(cmp::max(1, max_lease)).min(cmp::max(1, share)).min(free);
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// As [`lease_ttl_ms`], of a lease of the next window, which ends then. It lives longer by the time in
/// which such leases are fetched: so they end at moments as different as those at which they began.
pub fn ahead_ttl_ms(meter: &MeterRow, next_window_ends_at: UnixMillis, now: UnixMillis) -> u64 {
    let left = left_until(Some(next_window_ends_at), now).unwrap_or(0);
    life_ms(meter).saturating_add(AHEAD_MS).min(left.saturating_sub(drift_of(left)))
}

/// How long a lease granted now may be spent: its life, and never past its window, however slow the
/// holder's clock.
pub fn lease_ttl_ms(meter: &MeterRow, now: UnixMillis) -> u64 {
    let life_ms = life_ms(meter);
    match left_until(meter.window_ends_at, now) {
        Some(left) => life_ms.min(left.saturating_sub(drift_of(left))),
        None => life_ms,
    }
}

/// [`LEASE_TTL_MS`] or twice the horizon, whichever is longer, so that the second of two leases lives on
/// for a horizon's demand when the first is spent.
fn life_ms(meter: &MeterRow) -> u64 {
    cmp::max(LEASE_TTL_MS, u64::from(meter.horizon_s.min(MAX_HORIZON_S)) * 2_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::issuer::fixture::{NOW, first, in_ms, known, total};
    use crate::quota::issuer::{RECALL_RETRY_MS, renew};
    use crate::wire::exchange::RenewalOutcome;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_size_of_a_lease() {
        let check = |case: &str, meter: MeterRow, want, others, units| {
            assert_eq!(grant_size(&meter, want, others), units, "{case}");
        };
        check("what is wanted", total(100_000, 0), 300, 0, 300);
        check("one in a hundred", total(10_000, 0), 300, 0, 100);
        check("small limits, one by one", total(99, 0), 300, 0, 1);
        check("its own bound", MeterRow { max_lease: Some(7), ..total(10_000, 0) }, 300, 0, 7);
        check("a bound of nothing is one", MeterRow { max_lease: Some(0), ..total(10_000, 0) }, 300, 0, 1);
        check("half of what is left", total(10_000, 9_900), 300, 0, 50);
        check("shared with others", total(10_000, 9_900), 300, 4, 10);
        check("the end, one by one", total(10_000, 9_993), 300, 3, 1);
        check("the last one", total(10_000, 9_999), 300, 9, 1);
        check("none left", total(10_000, 10_000), 300, 0, 0);
        check("limit lowered below", total(10_000, 10_001), 300, 0, 0);
        check("limit of nothing", total(0, 0), 300, 0, 0);
        check("nothing wanted", total(10_000, 0), 0, 0, 0);
        check("as wide as numbers go", total(u64::MAX, 0), u32::MAX, u32::MAX, 2_147_483_647);
    }

    proptest! {
        #[test]
        fn a_grant_fits_into_what_is_left(
            limit in 0_u64..100_000,
            debited in 0_u64..100_000,
            want in 1_u32..1_000,
            others in 0_u32..20,
            max_lease in proptest::option::of(0_u32..500),
        ) {
            let meter = MeterRow { max_lease, ..total(limit, debited) };
            let units = grant_size(&meter, want, others);
            let free = limit.saturating_sub(debited);
            prop_assert!(u64::from(units) <= free && units <= want);
            prop_assert_eq!(units == 0, free == 0, "the last unit is never kept back");
        }

        #[test]
        fn the_manager_expires_a_lease_after_its_holder_however_clocks_run(
            ttl_horizon_s in 1_u32..=MAX_HORIZON_S,
            window_ms in proptest::option::of(1_i64..3_000_000_000),
            holder_ppm in -1_000_i64..=1_000,
            manager_ppm in -1_000_i64..=1_000,
        ) {
            let window_ends_at = window_ms.map(in_ms);
            let meter = MeterRow { horizon_s: ttl_horizon_s, window_ends_at, ..total(1_000, 0) };
            let decided = renew(&known(&meter), &first(1));
            if let (RenewalOutcome::Granted { ttl_ms, .. }, Some(effects)) = (decided.outcome, decided.effects) {
                let open = effects.open.expect("granted");
                // True time that the holder's clock needs for ttl_ms, and what the manager's shows then.
                let true_ms = ttl_ms as f64 / (1.0 + holder_ppm as f64 / 1e6);
                let shown_ms = true_ms * (1.0 + manager_ppm as f64 / 1e6);
                prop_assert!(shown_ms < (open.expires_at.0 - NOW.0) as f64);
                if let Some(window_ms) = window_ms {
                    prop_assert!(shown_ms < window_ms as f64 + 1.0);
                }
            }
        }
    }

    #[test]
    fn a_lease_never_outlives_its_window() {
        let ends = |ms| MeterRow { window_ends_at: Some(in_ms(ms)), ..total(100, 0) };
        for (window_ms, ttl_ms) in [(1, 0), (2, 1), (1_000, 998), (60_000, 59_880), (600_000, 60_000)] {
            assert_eq!(lease_ttl_ms(&ends(window_ms), NOW), ttl_ms, "window of {window_ms}");
        }
        let meter = ends(1);
        let decided = renew(&known(&meter), &first(1));
        assert_eq!(decided.outcome, RenewalOutcome::Pending { retry_ms: RECALL_RETRY_MS });
    }

    #[test]
    fn twice_a_horizon_longer_than_half_a_minute_is_the_life_of_a_lease() {
        for (horizon_s, ttl_ms) in [(1, 60_000), (30, 60_000), (31, 62_000), (u32::MAX, 172_800_000)] {
            assert_eq!(lease_ttl_ms(&MeterRow { horizon_s, ..total(1, 0) }, NOW), ttl_ms);
        }
    }
}
