//! Stretches of time that calls are counted by, and what a report asks for.

use gate::time::UnixMillis;
use jiff::Timestamp;

use crate::openapi::schema::schema_of;
use crate::quotas::{Period, Window, Zone};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Buckets of one report at most: a day of minutes, two months of hours, four years of days.
pub const MAX_BUCKETS: usize = 1_500;

/// By what counts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    /// What is reported goes here.
    Minute,
    /// Summed up from minutes.
    Hour,
    /// Summed up from hours.
    Day,
}

impl Grain {
    /// As it stands in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// By what a report tells counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// Minutes, as long as they are kept.
    Minute,
    /// Hours of the installation's clock.
    Hour,
    /// Its days.
    Day,
    /// Its months.
    Month,
    /// All days asked for, together.
    Total,
}

schema_of! { Bucket as UsageBucket: one_of(Bucket::ALL.map(Bucket::name)) }

impl Bucket {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Total];

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// The bucket of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bucket| bucket.name() == name)
    }

    /// How far back a report looks that does not say.
    fn usual_ms(self) -> i64 {
        match self {
            Self::Minute => HOUR_MS,
            Self::Hour => DAY_MS,
            Self::Day | Self::Total => 30 * DAY_MS,
            Self::Month => 365 * DAY_MS,
        }
    }

    /// The coarsest grain that it is made of.
    pub fn grain(self) -> Grain {
        match self {
            Self::Minute => Grain::Minute,
            Self::Hour => Grain::Hour,
            Self::Day | Self::Month | Self::Total => Grain::Day,
        }
    }

    /// The stretch of `zone` that holds `at`.
    fn around(self, at: UnixMillis, zone: &Zone) -> Span {
        let period = match self {
            Self::Minute => return Span::of(at.0 - at.0.rem_euclid(MINUTE_MS), MINUTE_MS),
            Self::Hour => {
                // As the clock on the wall shows them: some zones are half an hour apart.
                let offset_ms = i64::from(zone.offset_min(at)) * MINUTE_MS;
                return Span::of(at.0 - (at.0 + offset_ms).rem_euclid(HOUR_MS), HOUR_MS);
            }
            Self::Day | Self::Total => Period::Day,
            Self::Month => Period::Month,
        };
        match Window::containing(period, zone, at) {
            Some(window) => Span { start: window.start, end: window.end },
            // Beyond the calendar.
            None => Span::of(at.0, DAY_MS),
        }
    }
}

/// From `start` up to `end`, which is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First instant.
    pub start: UnixMillis,
    /// First instant after it.
    pub end: UnixMillis,
}

impl Span {
    fn of(start: i64, length_ms: i64) -> Self {
        Self { start: UnixMillis(start), end: UnixMillis(start.saturating_add(length_ms)) }
    }

    /// The stretch of a grain that holds `at`.
    pub fn around(grain: Grain, at: UnixMillis, zone: &Zone) -> Self {
        let bucket = match grain {
            Grain::Minute => Bucket::Minute,
            Grain::Hour => Bucket::Hour,
            Grain::Day => Bucket::Day,
        };
        bucket.around(at, zone)
    }
}

/// Why a stretch of time cannot be reported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeFault {
    /// It is empty.
    #[error("from is later than until")]
    Backwards,
    /// It is no instant of the calendar.
    #[error("{0} is no instant between the years 1 and 9999, in milliseconds since 1970")]
    NoInstant(&'static str),
    /// It has too many buckets.
    #[error("it has more than {MAX_BUCKETS} buckets: ask for less time, or for a larger bucket")]
    TooLong,
}

/// From when to when a report is asked for, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// In the oldest bucket.
    pub from: UnixMillis,
    /// In the newest one.
    pub until: UnixMillis,
}

impl Range {
    /// What was said; what was not is the present, and as much before it as such a report usually shows.
    pub fn of(
        bucket: Bucket,
        from: Option<UnixMillis>,
        until: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<Self, RangeFault> {
        let until = until.unwrap_or(now);
        let from = from.unwrap_or(UnixMillis(until.0.saturating_sub(bucket.usual_ms())));
        for (field, at) in [("until", until), ("from", from)] {
            // A day inside both ends of the calendar, so that zones have room.
            let inside = [at.0.saturating_sub(DAY_MS), at.0.saturating_add(DAY_MS)];
            if at.0 < -62_135_510_400_000 || inside.iter().any(|at| Timestamp::from_millisecond(*at).is_err())
            {
                return Err(RangeFault::NoInstant(field));
            }
        }
        if from > until { Err(RangeFault::Backwards) } else { Ok(Self { from, until }) }
    }

    /// Its buckets, newest first.
    pub fn buckets(self, bucket: Bucket, zone: &Zone) -> Result<Vec<Span>, RangeFault> {
        let Self { from, until } = self;
        let last = bucket.around(until, zone);
        if bucket == Bucket::Total {
            return Ok(vec![Span { start: bucket.around(from, zone).start, end: last.end }]);
        }
        let mut spans = vec![last];
        while let Some(later) = spans.last()
            && later.start > from
        {
            if spans.len() == MAX_BUCKETS {
                return Err(RangeFault::TooLong);
            }
            let earlier = bucket.around(UnixMillis(later.start.0 - 1), zone);
            // Where clocks are put back by less than an hour, an hour on the wall is shorter.
            spans.push(Span { start: earlier.start.min(UnixMillis(later.start.0 - 1)), end: later.start });
        }
        Ok(spans)
    }
}

/// How far finer counts have been summed up; what begins later is read from the finer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// Minutes that begin before are in the hours.
    pub hours: UnixMillis,
    /// Hours that begin before are in the days.
    pub days: UnixMillis,
}

/// Which rows make up a bucket: the days of it, the hours that are in no day yet and the minutes that are
/// in no hour yet; empty where none of that grain do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources([(Grain, Span); 3]);

impl Sources {
    /// Of one bucket.
    pub fn of(grain: Grain, span: Span, rolled: Rolled) -> Self {
        let Span { start, end } = span;
        let (days, hours, minutes) = match grain {
            Grain::Minute => (end, end, start),
            Grain::Hour => (end, start, start.max(rolled.hours)),
            Grain::Day => (start, start.max(rolled.days), start.max(rolled.hours)),
        };
        let part = |start| Span { start, end };
        Self([(Grain::Day, part(days)), (Grain::Hour, part(hours)), (Grain::Minute, part(minutes))])
    }

    /// Those of which there may be any; at least one.
    pub fn parts(self) -> Vec<(Grain, Span)> {
        let parts: Vec<_> = self.0.into_iter().filter(|(_, span)| span.start < span.end).collect();
        if parts.is_empty() { self.0.into_iter().take(1).collect() } else { parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis(text.parse::<Timestamp>().expect("an instant").as_millisecond())
    }

    fn zone(name: &str) -> Zone {
        Zone::parse(name).expect("bundled")
    }

    #[test]
    fn buckets_are_those_of_the_clock_on_the_wall() {
        let check = |bucket, name: &str, from: &str, until: &str, expected: &[&str]| {
            let range = Range::of(bucket, Some(at(from)), Some(at(until)), UnixMillis(0)).expect("a range");
            let found = range.buckets(bucket, &zone(name)).expect("not too long");
            let starts: Vec<_> = found.iter().map(|span| span.start).collect();
            assert_eq!(starts, expected.iter().map(|text| at(text)).collect::<Vec<_>>(), "{bucket:?} {name}");
            for pair in found.windows(2) {
                assert_eq!(pair[1].end, pair[0].start, "no gap");
            }
        };
        check(
            Bucket::Day,
            "Asia/Taipei",
            "2026-07-14T15:59:59Z",
            "2026-07-14T16:00:00Z",
            &["2026-07-14T16:00:00Z", "2026-07-13T16:00:00Z"],
        );
        check(
            Bucket::Hour,
            "Asia/Kolkata",
            "2026-07-14T10:29:00Z",
            "2026-07-14T10:31:00Z",
            &["2026-07-14T10:30:00Z", "2026-07-14T09:30:00Z"],
        );
        check(
            Bucket::Month,
            "UTC",
            "2026-01-31T00:00:00Z",
            "2026-03-01T00:00:00Z",
            &["2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"],
        );
        check(
            Bucket::Total,
            "UTC",
            "2026-01-31T12:00:00Z",
            "2026-03-01T00:00:00Z",
            &["2026-01-31T00:00:00Z"],
        );
        check(
            Bucket::Minute,
            "UTC",
            "2026-01-31T12:00:59Z",
            "2026-01-31T12:00:59Z",
            &["2026-01-31T12:00:00Z"],
        );
    }

    #[test]
    fn ranges_are_bounded_and_say_why() {
        let range = |from: i64, until: i64| {
            Range::of(Bucket::Minute, Some(UnixMillis(from)), Some(UnixMillis(until)), UnixMillis(0))
                .and_then(|range| range.buckets(Bucket::Minute, &zone("UTC")))
                .map(|spans| spans.len())
        };
        assert_eq!(range(0, (MAX_BUCKETS as i64 - 1) * MINUTE_MS), Ok(MAX_BUCKETS));
        assert_eq!(range(0, MAX_BUCKETS as i64 * MINUTE_MS), Err(RangeFault::TooLong));
        assert_eq!(range(1, 0), Err(RangeFault::Backwards));
        assert_eq!(range(i64::MIN, 0), Err(RangeFault::NoInstant("from")));
        assert_eq!(range(0, i64::MAX), Err(RangeFault::NoInstant("until")));
    }

    #[test]
    fn a_bucket_is_read_from_what_is_summed_up_and_the_rest_from_what_is_finer() {
        let span = Span { start: UnixMillis(100), end: UnixMillis(200) };
        let rolled = Rolled { hours: UnixMillis(180), days: UnixMillis(150) };
        let sources = |grain| {
            let Sources([(_, days), (_, hours), (_, minutes)]) = Sources::of(grain, span, rolled);
            (days.start.0, hours.start.0, minutes.start.0)
        };
        assert_eq!(sources(Grain::Day), (100, 150, 180));
        assert_eq!(sources(Grain::Hour), (200, 100, 180));
        assert_eq!(sources(Grain::Minute), (200, 200, 100));
    }
}
