//! The hours of the day in which a client is served, and the instants that they are.
//!
//! What counts is the clock on the wall in the client's zone: a client is served while it shows a
//! minute between the first and the last, both whole. So an hour that a change to summer time skips
//! is no service, and an hour that comes twice is served twice.

use gate::time::{Interval, UnixMillis};
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::model::Fault;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// From when on before now the instants are told: a gateway's clock may be behind ours.
const BEHIND_MS: i64 = HOUR_MS;
/// For how long after now they are told at least: twice as long as a gateway keeps a grant.
pub const AHEAD_MS: i64 = 2 * DAY_MS;

/// Hours of the day in which a client is served, both minutes whole: until 18:00 includes
/// 18:00:59.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceTime {
    /// First minute.
    pub from: Time,
    /// Last minute.
    pub until: Time,
}

impl ServiceTime {
    /// Both or none, in order within the day.
    pub fn parse(from: Option<&str>, until: Option<&str>) -> Result<Option<Self>, Fault> {
        const BOTH: &str = "Start time and expiration time must be filled in, both or none";
        let time = |field, text: &str| {
            Time::strptime("%H:%M", text).map_err(|_| {
                Fault::new(field, format!("Service time:Only time format such as 08:30, not {text:?}"))
            })
        };
        match (from, until) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(Fault::new("service_until", BOTH)),
            (None, Some(_)) => Err(Fault::new("service_from", BOTH)),
            (Some(from), Some(until)) => {
                let times = Self { from: time("service_from", from)?, until: time("service_until", until)? };
                if times.until < times.from {
                    let reason = format!("The expiration time cannot be less than the start time {from}");
                    return Err(Fault::new("service_until", reason));
                }
                Ok(Some(times))
            }
        }
    }

    /// Its minutes as they are entered and shown.
    pub fn clock(time: Time) -> String {
        time.strftime("%H:%M").to_string()
    }

    /// The instants in `zone`, in order, from a little before `now` to [`AHEAD_MS`] after it.
    pub fn intervals(self, zone: &TimeZone, now: UnixMillis) -> Vec<Interval> {
        let (first, last) = (now.0 - BEHIND_MS, now.0 + AHEAD_MS);
        let mut served: Vec<Interval> = Vec::new();
        for stretch in stretches(zone, first, last) {
            // Days by the wall clock of this stretch, counted from 1970-01-01.
            let day = |at: i64| (at + stretch.offset_ms).div_euclid(DAY_MS);
            for day in day(stretch.begin.max(first))..=day(stretch.end.min(last)) {
                let midnight = day * DAY_MS - stretch.offset_ms;
                let begin = (midnight + of_day(self.from)).max(stretch.begin);
                let end = (midnight + of_day(self.until) + MINUTE_MS).min(stretch.end);
                if begin >= end || end <= first {
                    continue;
                }
                match served.last_mut() {
                    // Without a break, at midnight or where the clock changes.
                    Some(before) if before.until.0 + 1 == begin => before.until = UnixMillis(end - 1),
                    Some(_) | None => {
                        served.push(Interval { from: UnixMillis(begin), until: UnixMillis(end - 1) });
                    }
                }
            }
        }
        served
    }
}

fn of_day(time: Time) -> i64 {
    i64::from(time.hour()) * HOUR_MS + i64::from(time.minute()) * MINUTE_MS
}

/// A time in which a zone's clock is not changed: from `begin` to before `end`, UTC ms.
struct Stretch {
    begin: i64,
    end: i64,
    offset_ms: i64,
}

/// The stretches that cover `first` to `last`, whole, in order.
fn stretches(zone: &TimeZone, first: i64, last: i64) -> Vec<Stretch> {
    let Ok(at) = Timestamp::from_millisecond(first) else { return Vec::new() };
    let ms = |offset: jiff::tz::Offset| i64::from(offset.seconds()) * 1_000;
    let just_after = at.saturating_add(jiff::SignedDuration::from_nanos(1)).unwrap_or(at);
    let begin = zone.preceding(just_after).next().map_or(i64::MIN, |t| t.timestamp().as_millisecond());
    let mut stretches = vec![Stretch { begin, end: i64::MAX, offset_ms: ms(zone.to_offset(at)) }];
    for change in zone.following(at) {
        let begin = change.timestamp().as_millisecond();
        if let Some(before) = stretches.last_mut() {
            before.end = begin;
        }
        if begin > last {
            break;
        }
        stretches.push(Stretch { begin, end: i64::MAX, offset_ms: ms(change.offset()) });
    }
    stretches
}

#[cfg(test)]
mod unit {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("bundled")
    }

    fn times(from: &str, until: &str) -> ServiceTime {
        ServiceTime::parse(Some(from), Some(until)).expect("in order").expect("given")
    }

    fn at(text: &str) -> UnixMillis {
        UnixMillis(text.parse::<Timestamp>().expect("an instant").as_millisecond())
    }

    fn print(at: UnixMillis) -> String {
        Timestamp::from_millisecond(at.0).expect("in range").to_string()
    }

    /// What the rule says: the minute that the wall clock shows.
    fn wall_clock_serves(times: ServiceTime, zone: &TimeZone, at: i64) -> bool {
        let wall = zone.to_datetime(Timestamp::from_millisecond(at).expect("in range")).time();
        let minute = Time::constant(wall.hour(), wall.minute(), 0, 0);
        times.from <= minute && minute <= times.until
    }

    #[test]
    fn the_last_minute_is_whole_and_changes_of_the_clock_are_followed() {
        for (what, name, from, until, now, expected) in [
            (
                "a plain day",
                "Asia/Taipei",
                "09:00",
                "18:00",
                "2026-01-15T04:00:00Z",
                &[
                    ("2026-01-15T01:00:00Z", "2026-01-15T10:00:59.999Z"),
                    ("2026-01-16T01:00:00Z", "2026-01-16T10:00:59.999Z"),
                    ("2026-01-17T01:00:00Z", "2026-01-17T10:00:59.999Z"),
                ][..],
            ),
            (
                "Berlin skips 02:00 to 03:00 on 2026-03-29: half of it is left",
                "Europe/Berlin",
                "02:30",
                "03:30",
                "2026-03-29T00:00:00Z",
                &[
                    ("2026-03-29T01:00:00Z", "2026-03-29T01:30:59.999Z"),
                    ("2026-03-30T00:30:00Z", "2026-03-30T01:30:59.999Z"),
                    ("2026-03-31T00:30:00Z", "2026-03-31T01:30:59.999Z"),
                ],
            ),
            (
                "a service wholly skipped is none that day",
                "Europe/Berlin",
                "02:10",
                "02:50",
                "2026-03-29T00:00:00Z",
                &[
                    ("2026-03-30T00:10:00Z", "2026-03-30T00:50:59.999Z"),
                    ("2026-03-31T00:10:00Z", "2026-03-31T00:50:59.999Z"),
                ],
            ),
            (
                "a service around the skipped hour is an hour shorter, without a break",
                "Europe/Berlin",
                "01:30",
                "18:00",
                "2026-03-29T00:00:00Z",
                &[
                    ("2026-03-29T00:30:00Z", "2026-03-29T16:00:59.999Z"),
                    ("2026-03-29T23:30:00Z", "2026-03-30T16:00:59.999Z"),
                    ("2026-03-30T23:30:00Z", "2026-03-31T16:00:59.999Z"),
                ],
            ),
            (
                "New York has 01:00 to 02:00 twice on 2026-11-01: both are served",
                "America/New_York",
                "01:00",
                "01:45",
                "2026-11-01T04:00:00Z",
                &[
                    ("2026-11-01T05:00:00Z", "2026-11-01T05:45:59.999Z"),
                    ("2026-11-01T06:00:00Z", "2026-11-01T06:45:59.999Z"),
                    ("2026-11-02T06:00:00Z", "2026-11-02T06:45:59.999Z"),
                ],
            ),
            (
                "what begins in the repeated hour pauses when the clock is set back",
                "America/New_York",
                "01:30",
                "05:00",
                "2026-11-01T04:00:00Z",
                &[
                    ("2026-11-01T05:30:00Z", "2026-11-01T05:59:59.999Z"),
                    ("2026-11-01T06:30:00Z", "2026-11-01T10:00:59.999Z"),
                    ("2026-11-02T06:30:00Z", "2026-11-02T10:00:59.999Z"),
                ],
            ),
            (
                "Beirut skips 00:00 to 01:00 on 2026-03-29",
                "Asia/Beirut",
                "00:00",
                "01:00",
                "2026-03-28T20:00:00Z",
                &[
                    ("2026-03-28T22:00:00Z", "2026-03-28T22:00:59.999Z"),
                    ("2026-03-29T21:00:00Z", "2026-03-29T22:00:59.999Z"),
                ],
            ),
            (
                "all day long is one stretch",
                "Europe/Berlin",
                "00:00",
                "23:59",
                "2026-03-28T12:00:00Z",
                &[("2026-03-27T23:00:00Z", "2026-03-30T21:59:59.999Z")],
            ),
        ] {
            let served = times(from, until).intervals(&zone(name), at(now));
            let served: Vec<_> = served.iter().map(|i| (print(i.from), print(i.until))).collect();
            let expected: Vec<_> = expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            assert_eq!(served, expected, "{what}");
        }
    }

    /// Of the minutes from a little before now to the horizon, those and no others in which the
    /// wall clock says so; in every zone of the world that changes its clock in odd ways.
    #[test]
    fn every_minute_ahead_is_served_as_the_wall_clock_says() {
        let zones = [
            "UTC",
            "Asia/Taipei",
            "Asia/Kathmandu",
            "Europe/Berlin",
            "America/New_York",
            "America/Havana",      // midnight comes twice
            "Asia/Beirut",         // midnight is skipped
            "America/Santiago",    // midnight is skipped, in September
            "Australia/Lord_Howe", // half an hour
            "Pacific/Chatham",     // 12:45 ahead
            "Africa/Casablanca",   // back for Ramadan
            "Pacific/Apia",        // skipped 2011-12-30
        ];
        let hours = [("00:00", "00:00"), ("00:30", "02:15"), ("01:30", "23:59"), ("09:00", "18:00")];
        for name in zones {
            let zone = zone(name);
            // Around each change of the clock of two years, and of Samoa's lost day.
            let mut moments = vec![at("2026-06-15T12:00:00Z"), at("2011-12-29T20:00:00Z")];
            let begin: Timestamp = "2026-01-01T00:00:00Z".parse().expect("an instant");
            let changes = zone
                .following(begin)
                .take_while(|t| t.timestamp() < begin + jiff::SignedDuration::from_hours(2 * 365 * 24));
            for change in changes {
                let change = change.timestamp().as_millisecond();
                moments.extend([-DAY_MS, -HOUR_MS, 0, HOUR_MS].map(|offset| UnixMillis(change + offset)));
            }
            for (from, until) in hours {
                let times = times(from, until);
                for now in &moments {
                    let served = times.intervals(&zone, *now);
                    let mut minute = now.0 - BEHIND_MS;
                    while minute <= now.0 + AHEAD_MS {
                        // First and last millisecond.
                        for at in [minute, minute + MINUTE_MS - 1] {
                            let inside = served.iter().any(|interval| interval.contains(UnixMillis(at)));
                            let expected = wall_clock_serves(times, &zone, at);
                            assert_eq!(
                                inside,
                                expected,
                                "{name} {from}-{until} at {}",
                                print(UnixMillis(at))
                            );
                        }
                        minute += 5 * MINUTE_MS;
                    }
                }
            }
        }
    }
}
