//! When a quota will be used up, if calls go on as in the last hours.

use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::store;
use crate::db::{Conn, DbError};
use crate::quotas::{Meter, Outstanding};

/// What "the last hours" are.
const LOOKED_BACK_MS: i64 = 6 * HOUR_MS;
const HOUR_MS: i64 = 3_600_000;

/// When a quota will be used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = QuotaForecast)]
pub struct Forecast {
    /// Calls let in per hour, over the last six hours.
    pub calls_per_hour: u64,
    /// When the quota is used up if calls go on like that, UTC ms; null: not before it begins again, or
    /// never.
    pub exhausted_at: Option<i64>,
}

/// The forecast of a meter as it stands at `now`, of which `out` is out.
pub async fn forecast(
    conn: &mut Conn,
    meter: &Meter,
    out: Outstanding,
    now: UnixMillis,
) -> Result<Forecast, DbError> {
    let since = UnixMillis(now.0 - LOOKED_BACK_MS);
    let calls = match meter.kind {
        MeterKind::ClientQuota => store::admitted_since(conn, Some(&meter.owner), None, since).await?,
        MeterKind::KeyUses | MeterKind::TokenUses => {
            store::admitted_since(conn, None, Some(&meter.owner), since).await?
        }
    };
    // What gateways hold is still there to be spent; what is withheld is not.
    let left = meter.remaining().saturating_add(out.leased);
    Ok(predict(left, calls, meter.window.map(|window| window.end), now))
}

fn predict(left: u64, calls: u64, window_end: Option<UnixMillis>, now: UnixMillis) -> Forecast {
    let exhausted_at = if left == 0 {
        Some(now)
    } else if calls == 0 {
        None
    } else {
        let ms = u128::from(left) * LOOKED_BACK_MS as u128 / u128::from(calls);
        i64::try_from(ms).ok().and_then(|ms| now.0.checked_add(ms)).map(UnixMillis)
    };
    Forecast {
        calls_per_hour: (calls + 3) / 6,
        exhausted_at: exhausted_at.filter(|at| window_end.is_none_or(|end| *at < end)).map(|at| at.0),
    }
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
            let forecast = predict(left, calls, window_end.map(UnixMillis), now);
            assert_eq!(
                forecast,
                Forecast { calls_per_hour: per_hour, exhausted_at: expected },
                "{left} {calls}"
            );
        }
    }
}
