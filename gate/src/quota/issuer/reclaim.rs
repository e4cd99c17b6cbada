//! What operators do with the units of a lease whose holder never reported.

use super::{LeaseRow, LeaseState, MeterRow};
use crate::time::UnixMillis;

/// Why withheld units may not be given to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReclaimError {
    /// Its holder may still spend it, until then.
    NotExpired {
        /// The manager's expiry.
        until: UnixMillis,
    },
    /// It was given back, or reclaimed before.
    NotOpen,
    /// Its generation has passed: its units count nowhere.
    GenerationPassed,
    /// The meter has a window, which gives them back by itself.
    NotATotal,
}

/// Gives the units of a lease whose holder never reported to others: **raises the limit** by
/// them, for nobody knows whether they were spent. The caller marks the lease
/// [`LeaseState::Reclaimed`] in the same transaction (condition: it is open).
pub fn reclaim(meter: &MeterRow, lease: &LeaseRow, now: UnixMillis) -> Result<u64, ReclaimError> {
    if lease.state != LeaseState::Open {
        return Err(ReclaimError::NotOpen);
    }
    if meter.window_ends_at.is_some() {
        return Err(ReclaimError::NotATotal);
    }
    if lease.generation != meter.generation {
        return Err(ReclaimError::GenerationPassed);
    }
    if now < lease.expires_at {
        return Err(ReclaimError::NotExpired { until: lease.expires_at });
    }
    Ok(meter.limit.saturating_add(u64::from(lease.units)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Generation;
    use crate::quota::issuer::fixture::{LEASE, NOW, in_ms, total};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn withheld_units_are_given_to_others_by_raising_the_limit() {
        let meter = total(100, 100);
        let expired = LeaseRow { expires_at: NOW, ..LEASE };
        let windowed = MeterRow { window_ends_at: Some(in_ms(1)), ..meter.clone() };
        for (case, meter, lease, expected) in [
            ("expired", &meter, expired, Ok(110)),
            ("not expired", &meter, LEASE, Err(ReclaimError::NotExpired { until: LEASE.expires_at })),
            ("closed", &meter, LeaseRow { state: LeaseState::Closed, ..expired }, Err(ReclaimError::NotOpen)),
            (
                "twice",
                &meter,
                LeaseRow { state: LeaseState::Reclaimed, ..expired },
                Err(ReclaimError::NotOpen),
            ),
            (
                "other generation",
                &meter,
                LeaseRow { generation: Generation(2), ..expired },
                Err(ReclaimError::GenerationPassed),
            ),
            ("window", &windowed, expired, Err(ReclaimError::NotATotal)),
        ] {
            assert_eq!(reclaim(meter, &lease, NOW), expected, "{case}");
        }
    }
}
