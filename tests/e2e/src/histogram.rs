//! Durations that were measured, and how they are spread.

use std::fmt;
use std::time::Duration;

/// Where the columns of the printed form end, in milliseconds.
const COLUMNS_MS: [u64; 10] = [5, 10, 20, 50, 100, 150, 200, 250, 500, 1_000];

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Vec<Duration>);

impl Histogram {
    /// One more.
    pub fn record(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Those of another too.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    /// What `share` (0 to 1) of them are no longer than.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// Quantiles, and how many are no longer than each column but longer than the one before.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| ms(self.quantile(share)));
        let (count, max) = (self.count(), ms(self.max()));
        write!(f, "{count}: p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms;")?;
        let mut from = 0;
        for to in COLUMNS_MS.into_iter().chain([u64::MAX]) {
            let within = |took: &&Duration| took.as_millis() >= from.into() && took.as_millis() < to.into();
            let found = self.0.iter().filter(within).count();
            if found > 0 && to == u64::MAX {
                write!(f, " {from} ms and more: {found}")?;
            } else if found > 0 {
                write!(f, " <{to} ms: {found}")?;
            }
            from = to;
        }
        Ok(())
    }
}
