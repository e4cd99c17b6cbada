//! How long somebody signs on behalf of another, and when that has ended.

use gate::time::UnixMillis;
use thiserror::Error;

use crate::openapi::schema::schema_of;

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Days that a delegation lasts at most: longer absences are a matter of roles.
pub const MAX_DAYS: i64 = 92;
/// Days from now until which a delegation begins at the latest.
pub const MAX_DAYS_AHEAD: i64 = 366;
/// Delegations of one operator that have not ended at most.
pub const MAX_OPEN: usize = 20;
/// Characters of the reason at most.
pub const MAX_REASON_CHARS: usize = 500;

/// Somebody signs on behalf of another for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// `dg_…`
    pub id: String,
    /// The operator whose signing it is.
    pub principal: String,
    /// The operator who signs on behalf.
    pub delegate: String,
    /// When.
    pub period: Period,
    /// Why, as whoever set it says; empty = nothing.
    pub reason: String,
    /// When it was set.
    pub created_at: UnixMillis,
    /// By which operator.
    pub created_by: String,
    /// When and by which operator it was revoked; none = it was not.
    pub revoked: Option<(UnixMillis, String)>,
}

/// From its first instant to the first one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// First instant.
    pub from: UnixMillis,
    /// First instant after it.
    pub until: UnixMillis,
}

/// Where a delegation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not begun.
    Planned,
    /// The delegate signs.
    InEffect,
    /// Its time is over.
    Ended,
    /// Somebody ended it.
    Revoked,
    /// The account of one of both was disabled since it was set.
    Disabled,
}

/// Why, as whoever sets it says.
pub enum Reason {}

schema_of! { Standing as DelegationState: one_of(Standing::ALL.map(Standing::name)) }
schema_of! { Reason as DelegationReason: text(0, MAX_REASON_CHARS) }

impl Standing {
    const ALL: [Self; 5] = [Self::Planned, Self::InEffect, Self::Ended, Self::Revoked, Self::Disabled];

    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::InEffect => "in_effect",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
        }
    }

    /// Whether the delegate signs now.
    pub fn is_in_effect(self) -> bool {
        self == Self::InEffect
    }

    /// Whether the delegate signs, now or later, unless something else happens.
    pub fn is_open(self) -> bool {
        match self {
            Self::Planned | Self::InEffect => true,
            Self::Ended | Self::Revoked | Self::Disabled => false,
        }
    }
}

impl Period {
    /// A period that lies ahead of `now`; without `from` it begins at once.
    pub fn parse(from: Option<i64>, until: i64, now: UnixMillis) -> Result<Self, PeriodFault> {
        let from = from.unwrap_or(now.0);
        if from < now.0 {
            return Err(PeriodFault::BeginsInThePast);
        }
        if from > now.0.saturating_add(MAX_DAYS_AHEAD * DAY_MS) {
            return Err(PeriodFault::BeginsTooLate);
        }
        if until <= from {
            return Err(PeriodFault::EndsBeforeItBegins);
        }
        if until > from.saturating_add(MAX_DAYS * DAY_MS) {
            return Err(PeriodFault::TooLong);
        }
        Ok(Self { from: UnixMillis(from), until: UnixMillis(until) })
    }

    /// Whether both share an instant.
    pub fn overlaps(self, other: Self) -> bool {
        self.from < other.until && other.from < self.until
    }
}

/// Why that is no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeriodFault {
    /// What was signed, was signed.
    #[error("`from` lies in the past: leave it out to begin at once")]
    BeginsInThePast,
    /// Nobody knows that far.
    #[error("`from` lies more than {MAX_DAYS_AHEAD} days ahead")]
    BeginsTooLate,
    /// Nothing between.
    #[error("`until` must be later than now and than `from`")]
    EndsBeforeItBegins,
    /// Longer than [`MAX_DAYS`].
    #[error("`until` lies more than {MAX_DAYS} days after `from`: a longer absence is a matter of roles")]
    TooLong,
}

impl PeriodFault {
    /// The field at fault.
    pub fn field(self) -> &'static str {
        match self {
            Self::BeginsInThePast | Self::BeginsTooLate => "from",
            Self::EndsBeforeItBegins | Self::TooLong => "until",
        }
    }
}

impl Delegation {
    /// Where it stands at `now`. `active_since` tells since when an operator is active without a
    /// break, None: it is not. A delegation does not come back with an account that is enabled again.
    pub fn standing(&self, active_since: &impl Fn(&str) -> Option<UnixMillis>, now: UnixMillis) -> Standing {
        let unbroken = |id: &str| active_since(id).is_some_and(|since| since <= self.created_at);
        if self.revoked.is_some() {
            Standing::Revoked
        } else if now >= self.period.until {
            Standing::Ended
        } else if !unbroken(&self.principal) || !unbroken(&self.delegate) {
            Standing::Disabled
        } else if now < self.period.from {
            Standing::Planned
        } else {
            Standing::InEffect
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_lie_ahead_and_have_an_end() {
        let now = UnixMillis(1_000);
        let longest = MAX_DAYS * DAY_MS;
        let latest = now.0 + MAX_DAYS_AHEAD * DAY_MS;
        for (from, until, expected) in [
            (None, 1_001, Ok(1_000)),
            (Some(1_000), 1_001, Ok(1_000)),
            (Some(2_000), 2_001, Ok(2_000)),
            (Some(999), 2_000, Err("from")),
            (None, 1_000, Err("until")),
            (Some(2_000), 2_000, Err("until")),
            (None, now.0 + longest, Ok(1_000)),
            (None, now.0 + longest + 1, Err("until")),
            (Some(latest), latest + longest, Ok(latest)),
            (Some(latest + 1), latest + 2, Err("from")),
            (Some(i64::MAX), i64::MAX, Err("from")),
            (None, i64::MAX, Err("until")),
            (None, i64::MIN, Err("until")),
        ] {
            let parsed = Period::parse(from, until, now);
            assert_eq!(
                parsed.map(|period| period.from.0).map_err(PeriodFault::field),
                expected,
                "{from:?} {until}"
            );
        }
    }

    #[test]
    fn a_delegation_stands_by_time_word_and_accounts() {
        let delegation = Delegation {
            id: "dg_1".into(),
            principal: "a".into(),
            delegate: "b".into(),
            period: Period { from: UnixMillis(100), until: UnixMillis(200) },
            reason: String::new(),
            created_at: UnixMillis(50),
            created_by: "a".into(),
            revoked: None,
        };
        let revoked = Delegation { revoked: Some((UnixMillis(60), "a".into())), ..delegation.clone() };
        for (which, a, b, now, expected) in [
            (&delegation, Some(0), Some(0), 99, Standing::Planned),
            (&delegation, Some(0), Some(50), 100, Standing::InEffect),
            (&delegation, Some(0), Some(0), 199, Standing::InEffect),
            (&delegation, Some(0), Some(0), 200, Standing::Ended),
            (&delegation, None, Some(0), 150, Standing::Disabled),
            (&delegation, Some(0), None, 150, Standing::Disabled),
            // Enabled again, later.
            (&delegation, Some(51), Some(0), 150, Standing::Disabled),
            (&delegation, Some(0), Some(51), 150, Standing::Disabled),
            (&delegation, None, None, 200, Standing::Ended),
            (&revoked, Some(0), Some(0), 150, Standing::Revoked),
            (&revoked, None, Some(0), 250, Standing::Revoked),
        ] {
            let since = |id: &str| if id == "a" { a } else { b }.map(UnixMillis);
            assert_eq!(which.standing(&since, UnixMillis(now)), expected, "{a:?} {b:?} at {now}");
        }
    }

    #[test]
    fn periods_that_touch_do_not_overlap() {
        let period = |from, until| Period { from: UnixMillis(from), until: UnixMillis(until) };
        for (other, overlaps) in
            [((0, 10), false), ((0, 11), true), ((12, 15), true), ((20, 30), false), ((19, 30), true)]
        {
            assert_eq!(period(10, 20).overlaps(period(other.0, other.1)), overlaps, "{other:?}");
        }
    }
}
