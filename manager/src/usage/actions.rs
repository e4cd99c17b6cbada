//! The house-keeping of counts.

use gate::time::UnixMillis;

use super::model::{Grain, Span};
use super::store;
use crate::app::App;
use crate::db::Conn;
use crate::quotas::Zone;
use crate::schedule::{BATCH, Outcome, Task, forgotten};

/// What ended this long ago is summed up: longer than any transaction that still counts in it lasts, and
/// than the clocks of replicas are apart.
const GRACE_MS: i64 = 600_000;
/// Minutes that are summed up at once.
const PART_MS: i64 = 5 * 60_000;
const DAY_MS: i64 = 86_400_000;

/// Sums the next part of an hour or day up, if one has ended that is not yet: a few minutes to their hour,
/// an hour to its day, so that exchanges do not wait for long.
pub(super) async fn roll_up(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let zone = installation_zone(app);
    // Two replicas may each have a task of their own: what one sums up, the other must see.
    store::lock_rolled(conn).await?;
    let rolled = store::rolled(conn).await?;
    let done: u64 = task.progress.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default();
    let goes_on = |more: u64| Outcome::More {
        progress: (done + more).to_string(),
        result: format!("summed up {} parts of hours and days", done + more),
    };
    // Counts of an earlier release, or of one that still runs beside this one.
    let day_of = |at| Span::around(Grain::Day, at, &zone).start;
    if store::adopt(conn, rolled.days, day_of, BATCH).await? > 0 {
        return Ok(goes_on(0));
    }
    let latest = UnixMillis(app.now().0 - GRACE_MS);
    let minute = store::first(conn, Grain::Minute, rolled.hours).await?;
    if let Some(minute) = minute {
        let hour = Span::around(Grain::Hour, minute, &zone);
        if hour.end <= latest {
            let end = hour.end.min(UnixMillis(minute.0 + PART_MS));
            let part = Span { start: hour.start.max(rolled.hours), end };
            store::roll(conn, (Grain::Minute, Grain::Hour), hour.start, part).await?;
            return Ok(goes_on(1));
        }
    }
    if let Some(hour) = store::first(conn, Grain::Hour, rolled.days).await? {
        let day = Span::around(Grain::Day, hour, &zone);
        // Only once none of its minutes waits to become part of an hour.
        if day.end <= latest && minute.is_none_or(|minute| minute >= day.end) {
            let end = day.end.min(Span::around(Grain::Hour, hour, &zone).end);
            let part = Span { start: day.start.max(rolled.days), end };
            store::roll(conn, (Grain::Hour, Grain::Day), day.start, part).await?;
            return Ok(goes_on(1));
        }
    }
    Ok(Outcome::Done(format!("summed up {done} parts of hours and days")))
}

/// Minutes, hours and days that began longer ago than they are kept are forgotten; none that is not
/// summed up yet.
pub(super) async fn forget(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let (config, now) = (&app.config, app.now());
    let rolled = store::rolled(conn).await?;
    let mut deleted = 0;
    for (grain, days, summed_up) in [
        (Grain::Minute, config.usage_minute_retention_days, rolled.hours),
        (Grain::Hour, config.usage_hour_retention_days, rolled.days),
        (Grain::Day, config.usage_retention_days, UnixMillis(i64::MAX)),
    ] {
        let kept_ms = i64::from(days).saturating_mul(DAY_MS);
        let before = UnixMillis(now.0.saturating_sub(kept_ms)).min(summed_up);
        deleted += store::forget(conn, grain, before, BATCH).await?;
    }
    Ok(forgotten(task, deleted, BATCH, "counts of calls"))
}

/// The zone whose hours, days and months counts are summed up by.
pub(super) fn installation_zone(app: &App) -> Zone {
    // The setting is checked at the start, against the same names.
    Zone::parse(&app.config.time_zone).unwrap_or_else(Zone::utc)
}
