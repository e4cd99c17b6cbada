//! Waiting for something to become true, bounded.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a waiting test looks.
const POLL: Duration = Duration::from_millis(10);

/// The harness's own clock.
#[expect(clippy::disallowed_methods, reason = "tests observe real processes in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks until `look` finds something; after `limit` an error that says what did not come.
pub async fn until<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let started = now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if started.elapsed() > limit {
            bail!("{what} did not come within {} ms", limit.as_millis());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The day it is in UTC, moved by `days`, as forms write it.
#[expect(clippy::disallowed_methods, reason = "real processes live on a real day")]
pub fn day(days: i64) -> String {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    today.saturating_add(jiff::Span::new().days(days)).to_string()
}

/// Whether it is before noon in UTC.
#[expect(clippy::disallowed_methods, reason = "real processes live on a real day")]
pub fn is_morning() -> bool {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour() < 12
}
