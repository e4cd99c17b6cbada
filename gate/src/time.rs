//! Time is an argument. The wall clock serves calendar rules, the monotonic clock everything
//! that measures a duration: a stepped wall clock neither revives a lease nor freezes a rate.

use core::fmt;
use core::ops::{Add, Sub};
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

/// Milliseconds of the machine's monotonic clock: comparable between the workers of one
/// process, meaningless elsewhere and never on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoMillis(pub u64);

/// The moment at which something is decided, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For dates and service times.
    pub unix: UnixMillis,
    /// For deadlines, leases and rates.
    pub mono: MonoMillis,
}

impl Add<u64> for MonoMillis {
    type Output = Self;

    /// Saturates: a deadline too far to write is a deadline never reached.
    fn add(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Sub for MonoMillis {
    type Output = u64;

    /// Milliseconds since `earlier`, 0 if it lies ahead.
    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Instants from `from` to `until`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// First instant inside.
    pub from: UnixMillis,
    /// Last instant inside.
    pub until: UnixMillis,
}

impl Interval {
    /// Whether `at` lies inside; both ends do.
    pub fn contains(&self, at: UnixMillis) -> bool {
        self.from <= at && at <= self.until
    }
}

impl fmt::Display for UnixMillis {
    /// `yyyy/MM/dd HH:mm:ss.SSS` in UTC: the form in which digiRunner prints instants.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, in_day) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, date) = civil(day);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, millis) = (in_day / 1_000 % 60, in_day % 1_000);
        write!(f, "{year:04}/{month:02}/{date:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
    }
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01
/// (counted in 400-year eras that begin on 1 March, so that a leap day ends its year).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn instants_print_as_digirunner_prints_them() {
        for (millis, text) in [
            (0, "1970/01/01 00:00:00.000"),
            (951_782_400_000, "2000/02/29 00:00:00.000"),
            (1_685_945_360_673, "2023/06/05 06:09:20.673"),
            (-1, "1969/12/31 23:59:59.999"),
            (4_107_542_399_999, "2100/02/28 23:59:59.999"),
        ] {
            assert_eq!(UnixMillis(millis).to_string(), text);
        }
    }

    #[test]
    fn both_ends_of_an_interval_are_inside() {
        let day = Interval { from: UnixMillis(10), until: UnixMillis(20) };
        let inside = [9, 10, 20, 21].map(|at| day.contains(UnixMillis(at)));
        assert_eq!(inside, [false, true, true, false]);
    }
}
