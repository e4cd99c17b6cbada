//! A unit that is idle elsewhere arrives within `quota_wait_ms`, in time for the request that waits.

/// `quota_wait_ms`, as it is without a setting.
const PATIENCE_MS: u64 = 300;

#[test]
fn a_unit_that_is_idle_elsewhere_arrives_within_the_patience_of_who_waits() {
    let (mut all, mut refused) = (vec![], 0);
    for seed in 1..=5 {
        let (waits, refusals) = sim::fleet::idle::waits(seed);
        all.extend(waits);
        refused += refusals;
    }
    all.sort_unstable();
    let at = |per_mille: usize| all[(all.len() * per_mille / 1_000).min(all.len() - 1)];
    println!(
        "{} meters: p50 {} ms, p90 {} ms, p99 {} ms, max {} ms; {refused} refused",
        all.len(),
        at(500),
        at(900),
        at(990),
        at(1_000)
    );
    assert!(all.len() >= 2_000 && at(100) >= 20, "each of them had to wait for another node: {:?}", at(100));
    assert!(at(990) <= PATIENCE_MS, "p99 {} ms", at(990));
    assert_eq!(refused, 0);
}
