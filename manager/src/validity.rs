//! A first and a last day, and the instants that they are: both days count whole, in the zone of
//! the installation. Grants carry the instants; people read and write the days.

use gate::time::{Interval, UnixMillis};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// From the beginning of one day to the end of another, or the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    effective_on: Date,
    expires_on: Date,
}

/// Why two days are no validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// The last day lies before the first.
    #[error(
        "the expiry date {expires_on} lies before the effective date {effective_on}: it must be that day or later"
    )]
    ExpiresBeforeEffective {
        /// As given.
        effective_on: Date,
        /// As given.
        expires_on: Date,
    },
    /// The last day is over.
    #[error("the expiry date {expires_on} has passed: today is {today}")]
    Expired {
        /// As given.
        expires_on: Date,
        /// In the installation's zone.
        today: Date,
    },
}

/// `yyyy-MM-dd`.
pub fn parse_date(text: &str) -> Option<Date> {
    // jiff reads other forms too; one form for everybody is enough.
    let digits = |part: Option<&str>, len| {
        part.is_some_and(|p| p.len() == len && p.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut parts = text.split('-');
    let well_formed = digits(parts.next(), 4) && digits(parts.next(), 2) && digits(parts.next(), 2);
    if !well_formed || parts.next().is_some() {
        return None;
    }
    text.parse().ok()
}

/// 9999-12-31T23:59:59.999Z: where that day, the usual word for “never”, ends in every zone. What
/// lies around it cannot be counted with in all of them.
const NEVER: UnixMillis = UnixMillis(253_402_300_799_999);

/// The day that `at` belongs to in `zone`.
pub fn day_of(at: UnixMillis, zone: &TimeZone) -> Date {
    match Timestamp::from_millisecond(at.0) {
        Ok(at) => at.to_zoned(zone.clone()).date(),
        Err(_) if at.0 > 0 => Date::MAX,
        Err(_) => Date::MIN,
    }
}

/// `yyyy-MM-dd HH:mm:ss <zone>`.
pub fn print_instant(at: UnixMillis, zone: &TimeZone) -> String {
    let at = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone());
    let name = zone.iana_name().unwrap_or("UTC");
    format!("{} {name}", at.strftime("%Y-%m-%d %H:%M:%S"))
}

impl Validity {
    /// From `effective_on` to `expires_on`, both included.
    pub fn new(effective_on: Date, expires_on: Date) -> Result<Self, ValidityError> {
        if expires_on < effective_on {
            return Err(ValidityError::ExpiresBeforeEffective { effective_on, expires_on });
        }
        Ok(Self { effective_on, expires_on })
    }

    /// Refuses what is over already.
    pub fn not_over(self, today: Date) -> Result<Self, ValidityError> {
        if self.expires_on < today {
            return Err(ValidityError::Expired { expires_on: self.expires_on, today });
        }
        Ok(self)
    }

    /// The days that `instants` were made from.
    pub fn of_instants(instants: Interval, zone: &TimeZone) -> Self {
        let effective_on = day_of(instants.from, zone);
        Self { effective_on, expires_on: day_of(instants.until, zone).max(effective_on) }
    }

    /// First day.
    pub fn effective_on(self) -> Date {
        self.effective_on
    }

    /// Last day.
    pub fn expires_on(self) -> Date {
        self.expires_on
    }

    /// The first instant of the first day and the last of the last one.
    pub fn instants(self, zone: &TimeZone) -> Interval {
        let until = match self.expires_on.tomorrow() {
            Ok(after) => UnixMillis(first_instant(after, zone) - 1),
            Err(_) => NEVER,
        };
        Interval { from: UnixMillis(first_instant(self.effective_on, zone)), until }
    }
}

/// Where a change to summer time skips midnight, a day begins with its first instant.
fn first_instant(day: Date, zone: &TimeZone) -> i64 {
    day.to_zoned(zone.clone())
        .and_then(|midnight| midnight.start_of_day())
        .map_or(NEVER.0, |begin| begin.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("bundled")
    }

    #[test]
    fn both_days_count_whole_in_the_zone() {
        for (name, from, until) in [
            // 2026-07-14 00:00 to 2026-07-15 23:59:59.999
            ("UTC", 1_783_987_200_000, 1_784_159_999_999),
            ("Asia/Taipei", 1_783_958_400_000, 1_784_131_199_999),
            ("America/New_York", 1_784_001_600_000, 1_784_174_399_999),
        ] {
            let days = Validity::new(date(2026, 7, 14), date(2026, 7, 15)).expect("in order");
            let instants = days.instants(&zone(name));
            assert_eq!((instants.from.0, instants.until.0), (from, until), "{name}");
            assert_eq!(Validity::of_instants(instants, &zone(name)), days, "{name}");
        }
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_with_its_first_instant() {
        // Beirut goes from 2026-03-29 00:00 to 01:00.
        let day = Validity::new(date(2026, 3, 29), date(2026, 3, 29)).expect("one day");
        let instants = day.instants(&zone("Asia/Beirut"));
        assert_eq!(instants.until.0 + 1 - instants.from.0, 23 * 3_600_000);
        assert_eq!(Validity::of_instants(instants, &zone("Asia/Beirut")), day);
    }

    #[test]
    fn never_is_the_last_day_there_is() {
        for name in ["UTC", "Asia/Taipei", "America/New_York"] {
            let days = Validity::new(date(2026, 7, 14), date(9999, 12, 31)).expect("in order");
            let instants = days.instants(&zone(name));
            assert_eq!(
                (instants.until, Validity::of_instants(instants, &zone(name))),
                (NEVER, days),
                "{name}"
            );
        }
    }

    #[test]
    fn days_out_of_order_or_over_are_refused() {
        let (early, late) = (date(2026, 7, 14), date(2026, 7, 15));
        assert!(Validity::new(late, early).is_err());
        let days = Validity::new(early, early).expect("one day is enough");
        assert_eq!(days.not_over(early), Ok(days));
        assert!(days.not_over(late).is_err());
    }

    #[test]
    fn dates_are_read_in_one_form() {
        assert_eq!(parse_date("2026-07-14"), Some(date(2026, 7, 14)));
        for text in [
            "",
            "2026-7-14",
            "2026/07/14",
            "2026-07-14T00:00",
            "2026-02-30",
            "20260714",
            "-026-07-14",
            "2026-07-14-1",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
