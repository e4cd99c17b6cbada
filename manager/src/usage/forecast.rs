//! When a quota will be used up, if calls go on as in the last hours.
//!
//! What is summed up by the hour is read as such: a day of a busy client has a thousand times as many minutes as
//! this reads rows.

use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::actions::installation_zone;
use super::model::{Grain, Sources, Span};
use super::store::{self, Whose};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::quotas::{Meter, Outstanding};

/// What "the last hours" are: this one and so many whole ones before it, by the installation's clock.
const WHOLE_HOURS: i64 = 5;
const HOUR_MS: i64 = 3_600_000;

/// When a quota will be used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = QuotaForecast)]
pub struct Forecast {
    /// Calls let in per hour, over this hour and the five before it.
    pub calls_per_hour: u64,
    /// When the quota is used up if calls go on like that, UTC ms; null: not before it begins again, or
    /// never.
    pub exhausted_at: Option<i64>,
}

/// The forecast of a meter as it stands at `now`, of which `out` is out.
pub async fn forecast(
    app: &App,
    conn: &mut Conn,
    meter: &Meter,
    out: Outstanding,
    now: UnixMillis,
) -> Result<Forecast, DbError> {
    let hour = Span::around(Grain::Hour, now, &installation_zone(app));
    let since = UnixMillis(hour.start.0 - WHOLE_HOURS * HOUR_MS);
    let whose = match meter.kind {
        MeterKind::ClientQuota => Whose::Client(&meter.owner),
        MeterKind::KeyUses | MeterKind::TokenUses => Whose::Credential(&meter.owner),
    };
    let rolled = store::rolled(conn).await?;
    let of_hours = Sources::of(Grain::Hour, Span { start: since, end: hour.end }, rolled);
    let calls = store::admitted(conn, whose, of_hours).await?;
    // What gateways hold is still there to be spent; what is withheld is not.
    let left = meter.remaining().saturating_add(out.leased);
    Ok(predict(left, (calls, now.0 - since.0), meter.window.map(|window| window.end), now))
}

/// `calls` came in `in_ms`.
fn predict(
    left: u64,
    (calls, in_ms): (u64, i64),
    window_end: Option<UnixMillis>,
    now: UnixMillis,
) -> Forecast {
    let in_ms = u64::try_from(in_ms).unwrap_or_default().max(1);
    let exhausted_at = if left == 0 {
        Some(now)
    } else if calls == 0 {
        None
    } else {
        let ms = u128::from(left) * u128::from(in_ms) / u128::from(calls);
        i64::try_from(ms).ok().and_then(|ms| now.0.checked_add(ms)).map(UnixMillis)
    };
    Forecast {
        calls_per_hour: per_hour(calls, in_ms),
        exhausted_at: exhausted_at.filter(|at| window_end.is_none_or(|end| *at < end)).map(|at| at.0),
    }
}

/// Rounded.
fn per_hour(calls: u64, in_ms: u64) -> u64 {
    let hour_ms = u128::from(HOUR_MS.unsigned_abs());
    let calls = (u128::from(calls) * hour_ms + u128::from(in_ms / 2)) / u128::from(in_ms);
    u64::try_from(calls).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_lasts_as_long_as_at_the_present_rate() {
        let now = UnixMillis(1_000);
        let at = |hours: i64| Some(now.0 + hours * HOUR_MS);
        for (left, calls, window_end, per_hour, expected) in [
            (100, 60, None, 10, at(10)),
            (100, 60, at(11), 10, at(10)),
            (100, 60, at(10), 10, None),
            (100, 0, None, 0, None),
            (0, 0, None, 0, at(0)),
            (0, 6, at(1), 1, at(0)),
            (1, 2, None, 0, at(3)),
            (u64::MAX, 1, None, 0, None),
        ] {
            let forecast = predict(left, (calls, 6 * HOUR_MS), window_end.map(UnixMillis), now);
            assert_eq!(
                forecast,
                Forecast { calls_per_hour: per_hour, exhausted_at: expected },
                "{left} {calls}"
            );
        }
    }
}
