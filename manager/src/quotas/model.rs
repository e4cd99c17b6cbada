//! Counted limits and their windows, as values.

use gate::id::{Generation, MeterId};
use gate::quota::issuer::{Ahead, MAX_HORIZON_S};
use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use std::fmt;

use crate::config::Config;
use crate::openapi::schema::schema_of;

/// The highest limit that can be set: exact in every JSON reader.
pub const MAX_LIMIT_UNITS: u64 = 1 << 53;

/// When a counter begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Never.
    Total,
    /// At 00:00.
    Day,
    /// On Monday at 00:00.
    Week,
    /// On the first of the month at 00:00.
    Month,
}

impl Period {
    /// As written in the database and in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// `none` is the word of the client's form for a quota that never begins again.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "total" | "none" => Some(Self::Total),
            "day" => Some(Self::Day),
            "week" => Some(Self::Week),
            "month" => Some(Self::Month),
            _ => None,
        }
    }
}

/// A time zone of the IANA database.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC, for limits that have no window.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// `Asia/Taipei`; nothing when the database has no such name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "UTC" {
            return Some(Self::utc());
        }
        TimeZone::get(name).ok().map(Self)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Minutes east of UTC at `at`.
    pub fn offset_min(&self, at: UnixMillis) -> i32 {
        let at = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
        self.0.to_offset(at).seconds() / 60
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A limit as its owner sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Units per window; at most [`MAX_LIMIT_UNITS`] count.
    pub units: u64,
    /// When it begins again.
    pub period: Period,
    /// Whose midnight that is.
    pub zone: Zone,
}

impl Limit {
    /// So many, ever.
    pub fn total(units: u64) -> Self {
        Self { units, period: Period::Total, zone: Zone::utc() }
    }
}

/// The time during which one generation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant.
    pub start: UnixMillis,
    /// First instant of the next window.
    pub end: UnixMillis,
}

impl Window {
    /// The window of `period` that contains `at`; none for a total.
    pub fn containing(period: Period, zone: &Zone, at: UnixMillis) -> Option<Self> {
        let local = Timestamp::from_millisecond(at.0).ok()?.to_zoned(zone.0.clone());
        let today = midnight(&local)?;
        let (start, end) = match period {
            Period::Total => return None,
            Period::Day => (today.clone(), today.checked_add(1.day()).ok()?),
            Period::Week => {
                let since_monday = i64::from(local.weekday().to_monday_zero_offset());
                let monday = midnight(&local.checked_sub(since_monday.days()).ok()?)?;
                (monday.clone(), monday.checked_add(1.week()).ok()?)
            }
            Period::Month => {
                let first = midnight(&local.first_of_month().ok()?)?;
                (first.clone(), first.checked_add(1.month()).ok()?)
            }
        };
        // Where a change to summer time skips midnight, the day begins at its first instant.
        let (start, end) = (start, midnight(&end)?);
        Some(Self {
            start: UnixMillis(start.timestamp().as_millisecond()),
            end: UnixMillis(end.timestamp().as_millisecond()),
        })
    }
}

fn midnight(local: &Zoned) -> Option<Zoned> {
    local.start_of_day().ok()
}

/// Seconds of demand that a lease may be meant to last for.
pub enum LeaseHorizon {}

schema_of! { LeaseHorizon: number(1, i64::from(MAX_HORIZON_S)) }

/// Percent of a limit that a lease may have.
pub enum MaxLeasePercent {}

schema_of! { MaxLeasePercent: number(1, i64::from(ALL_PERCENT)) }

/// All of a limit, in percent.
const ALL_PERCENT: u32 = 100;

/// How large leases are where something is said about it, for one client or for the installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTerms<T = Option<u32>> {
    /// Seconds of demand that one lease should last for, 1 to [`MAX_HORIZON_S`].
    pub horizon_s: T,
    /// Percent of the limit that one lease may have, 1 to 100; a unit at least.
    pub max_percent: T,
}

impl LeaseTerms {
    /// What is wrong with them, as the name of the value and a sentence.
    pub fn check(self) -> Result<(), (&'static str, String)> {
        for (name, label, value, most) in [
            ("lease_horizon_s", "Lease horizon in seconds", self.horizon_s, MAX_HORIZON_S),
            ("max_lease_percent", "Largest lease in percent", self.max_percent, ALL_PERCENT),
        ] {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                let reason = format!("{label}: 1 to {most}, you enter {value}; null: as the installation");
                return Err((name, reason));
            }
        }
        Ok(())
    }

    /// What is not said is as the installation has it.
    pub fn or(self, installation: LeaseTerms<u32>) -> LeaseTerms<u32> {
        LeaseTerms {
            horizon_s: self.horizon_s.unwrap_or(installation.horizon_s),
            max_percent: self.max_percent.unwrap_or(installation.max_percent),
        }
    }
}

impl LeaseTerms<u32> {
    /// As the installation has it.
    pub fn of(config: &Config) -> Self {
        Self { horizon_s: config.lease_horizon_s, max_percent: config.max_lease_percent }
    }

    /// Units of one lease of a limit at most.
    pub fn max_units(self, limit: u64) -> u64 {
        let units = u128::from(limit) * u128::from(self.max_percent) / u128::from(ALL_PERCENT);
        u64::try_from(units).unwrap_or(u64::MAX).max(1)
    }
}

/// One counted limit as it stands on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its number.
    pub id: MeterId,
    /// Whose kind of limit.
    pub kind: MeterKind,
    /// Client id, key id or token id.
    pub owner: String,
    /// The limit in force.
    pub limit: Limit,
    /// How large its leases are, where its client has a word on that.
    pub leases: LeaseTerms,
    /// Life of the counter.
    pub generation: Generation,
    /// When that life began and ends; none for a total.
    pub window: Option<Window>,
    /// Units handed out in this generation, net of what came back.
    pub debited: u64,
    /// What has been handed out of the next window already.
    pub ahead: Option<Ahead>,
    /// Units of this generation that were withheld and given to others: the limit is higher by them.
    pub reclaimed: u64,
}

impl Meter {
    /// The meter as it is at `now`: a window that has ended gives way to the present one, with
    /// a generation of its own and nothing debited.
    pub fn at(mut self, now: UnixMillis) -> Self {
        if self.window.is_some_and(|window| window.end <= now) {
            self.window = Window::containing(self.limit.period, &self.limit.zone, now);
            let end = self.window.map(|window| window.end);
            let adopted = self.ahead.filter(|ahead| Some(ahead.window_ends_at) == end);
            self.generation = adopted.map_or(self.next_generation(), |ahead| ahead.generation);
            self.debited = adopted.map_or(0, |ahead| ahead.debited);
            self.ahead = None;
        }
        self
    }

    /// A number that no life of the counter has had.
    pub fn next_generation(&self) -> Generation {
        let last = self.ahead.map_or(self.generation, |ahead| ahead.generation);
        Generation(last.0 + 1)
    }

    /// The next life, begun by an operator in `window`. Where leases of the window after it are out,
    /// they count there still, under a later number: those of the first generation that is returned
    /// are of the second from now on.
    pub fn reset(self, window: Option<Window>) -> (Self, Option<(Generation, Generation)>) {
        let generation = self.next_generation();
        let ahead = self.ahead.filter(|_| self.window == window);
        let moved = ahead.map(|ahead| Ahead { generation: Generation(generation.0 + 1), ..ahead });
        let renamed = ahead.zip(moved).map(|(ahead, moved)| (ahead.generation, moved.generation));
        (Self { generation, window, debited: 0, ahead: moved, reclaimed: 0, ..self }, renamed)
    }

    /// Units that may be handed out in this generation.
    pub fn in_force(&self) -> u64 {
        self.limit.units.saturating_add(self.reclaimed)
    }

    /// Units that can still be handed out.
    pub fn remaining(&self) -> u64 {
        self.in_force().saturating_sub(self.debited)
    }
}
