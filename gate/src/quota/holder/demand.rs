//! How fast units of a meter are spent: what sizes the next lease.

use core::cmp;

use crate::quota::bucket::Demand;
use crate::time::MonoMillis;

impl Demand {
    pub(super) fn count(&mut self, now: MonoMillis) {
        self.counted = self.counted.saturating_add(1);
        if now - self.since >= 1_000 {
            let measured = self.measured(now);
            // Up at once, down by halves: a lease too small costs a wait, one too large goes back.
            let smoothed = self.per_s.midpoint(measured);
            *self = Self { counted: 0, since: now, per_s: cmp::max(measured, smoothed) };
        }
    }

    /// Units per second, at least what the running measurement says.
    pub(super) fn per_s(&self, now: MonoMillis) -> u32 {
        cmp::max(self.per_s, self.measured(now))
    }

    /// Over a second at least: one call is no burst of 1,000 a second.
    pub(super) fn measured(&self, now: MonoMillis) -> u32 {
        let elapsed = cmp::max(now - self.since, 1_000);
        let per_s = u64::from(self.counted).saturating_mul(1_000).div_ceil(elapsed);
        u32::try_from(per_s).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn demand_follows_quickly_up_and_slowly_down() {
        let mut demand = Demand { counted: 0, since: MonoMillis(0), per_s: 0 };
        assert_eq!(demand.per_s(MonoMillis(0)), 0);
        for i in 1..=100 {
            demand.count(MonoMillis(i * 10));
        }
        assert_eq!(demand, Demand { counted: 0, since: MonoMillis(1_000), per_s: 100 });
        demand.count(MonoMillis(2_000));
        assert_eq!(demand.per_s, 50);
        demand.count(MonoMillis(3_000));
        assert_eq!(demand.per_s, 25);
    }
}
