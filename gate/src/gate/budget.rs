//! What one source address may use up per second of something that costs us without helping
//! anybody known: look-ups of credentials that do not exist, bytes with wrong signatures.

use core::net::IpAddr;

use crate::sorted::Sorted;
use crate::time::MonoMillis;

/// Addresses counted at a time. Only failures are counted, and a full table forgets those of
/// seconds past, then the one that used least: a flood from many addresses is for the layers
/// before us.
pub const MAX_SOURCES: usize = 4_096;

/// A budget per source address and second.
pub struct Budget {
    per_second: u64,
    spent: Sorted<IpAddr, (u64, u64)>,
}

impl Budget {
    /// So many per second and address.
    pub fn new(per_second: u64) -> Self {
        Self { per_second, spent: Sorted::new() }
    }

    /// Whether anybody has spent anything lately: if not, the address need not be known.
    pub fn is_untouched(&self) -> bool {
        self.spent.is_empty()
    }

    /// Whether `source` has used up its second.
    pub fn is_spent(&self, source: IpAddr, now: MonoMillis) -> bool {
        self.spent
            .get(&source)
            .is_some_and(|(second, spent)| *second == now.0 / 1_000 && *spent >= self.per_second)
    }

    /// Counts `units` against `source`.
    pub fn spend(&mut self, source: IpAddr, units: u64, now: MonoMillis) {
        let second = now.0 / 1_000;
        if self.spent.len() >= MAX_SOURCES && !self.spent.contains_key(&source) {
            self.forget_past(now);
            if self.spent.len() >= MAX_SOURCES
                && let Some(least) = self.spent.iter().min_by_key(|(_, (_, spent))| *spent).map(|(ip, _)| *ip)
            {
                self.spent.remove(&least);
            }
        }
        let before = match self.spent.get(&source) {
            Some((counted, spent)) if *counted == second => *spent,
            Some(_) | None => 0,
        };
        self.spent.insert(source, (second, before.saturating_add(units)));
    }

    /// Forgets what was spent in seconds past.
    pub fn forget_past(&mut self, now: MonoMillis) {
        self.spent.retain(|_, (second, _)| *second == now.0 / 1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_second_is_spent_and_the_next_is_new() {
        let mut budget = Budget::new(10);
        budget.spend(ip(1), 9, MonoMillis(5_000));
        assert!(!budget.is_spent(ip(1), MonoMillis(5_999)));
        budget.spend(ip(1), 1, MonoMillis(5_999));
        assert!(budget.is_spent(ip(1), MonoMillis(5_999)));
        assert!(!budget.is_spent(ip(2), MonoMillis(5_999)));
        assert!(!budget.is_spent(ip(1), MonoMillis(6_000)));
        budget.forget_past(MonoMillis(6_000));
        assert!(budget.is_untouched());
    }

    #[test]
    fn the_table_stays_bounded_and_keeps_the_worst() {
        let mut budget = Budget::new(10);
        budget.spend(ip(0), 10, MonoMillis(0));
        for n in 1..=MAX_SOURCES as u32 + 10 {
            budget.spend(ip(n), 1, MonoMillis(0));
        }
        assert_eq!(budget.spent.len(), MAX_SOURCES);
        assert!(budget.is_spent(ip(0), MonoMillis(1)));
    }
}
