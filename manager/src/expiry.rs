//! When one is reminded that something ends: so many days before its last day, once each. The
//! rules of all kinds of keys, and the setting that they follow.

use gate::id::CredentialId;
use gate::time::UnixMillis;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::schedule::{Outcome, Task};
use crate::validity::{Validity, day_of};

/// Reminders of one key at most.
pub const MAX_REMINDERS: usize = 10;
/// The earliest reminder, in days before the last day.
pub const MAX_DAYS: u16 = 365;

/// So many days before the last day, ascending, none twice; none at all: nobody is reminded.
/// Written `30, 14, 7, 1`, or `off`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ReminderDays(Vec<u16>);

/// Why a text is no list of reminders.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no list of days: up to {MAX_REMINDERS} numbers of 1 to {MAX_DAYS}, such as \"30, 14, 7, 1\", or \"off\""
)]
pub struct NoReminderDays(String);

/// What is to be done about something that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reminder {
    /// Its holder is told: this reminder, in days before the last day, has come.
    Tell(u16),
    /// This one would have come before the last day was set: nobody is told.
    Skip(u16),
}

/// Keys that one transaction of a round looks at, at most.
pub const PAGE: i64 = 1_000;

/// Something that ends soon.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Its id.
    pub id: CredentialId,
    /// Its last instant.
    pub expires_at: UnixMillis,
    /// When that was set.
    pub set_at: UnixMillis,
    /// The reminder that was dealt with last, in days before the last day.
    pub reminded_days: Option<i64>,
    /// It would do without an end what it is for.
    pub works: bool,
}

/// What came of one that ends soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A mail to its client was written.
    Client,
    /// Its client has no address.
    Nobody,
    /// Nobody is to be told, or no longer.
    NotWanted,
}

/// How far a round over all that ends soon has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    /// Reminders written.
    pub told: u64,
    /// Those whose client has no address.
    pub unaddressed: u64,
    /// Those whose reminder could not be written.
    #[serde(default)]
    pub failed: u64,
    /// Expiry and id of the last one looked at.
    pub after: (i64, String),
}

impl ReminderDays {
    /// Reads the setting.
    pub fn parse(text: &str) -> Result<Self, NoReminderDays> {
        let wrong = || NoReminderDays(text.into());
        if matches!(text.trim(), "" | "off") {
            return Ok(Self(Vec::new()));
        }
        let days: Option<Vec<u16>> = text.split(',').map(|days| days.trim().parse().ok()).collect();
        let mut days = days.ok_or_else(wrong)?;
        days.sort_unstable();
        days.dedup();
        if days.len() > MAX_REMINDERS || days.iter().any(|days| !(1..=MAX_DAYS).contains(days)) {
            return Err(wrong());
        }
        Ok(Self(days))
    }

    /// Nobody is reminded.
    pub fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// The last instant that the earliest reminder is about.
    pub fn horizon(&self, now: UnixMillis, zone: &TimeZone) -> UnixMillis {
        let days = i64::from(self.0.last().copied().unwrap_or_default());
        let day = day_of(now, zone).saturating_add(jiff::Span::new().days(days));
        Validity::new(day, day).map_or(now, |day| day.instants(zone).until)
    }

    /// The first of these that something is to be done about, and how far `round` has come with it.
    pub fn next(
        &self,
        page: &[Ending],
        round: &mut Round,
        now: UnixMillis,
        zone: &TimeZone,
    ) -> Option<(Ending, Reminder)> {
        for ending in page {
            round.after = (ending.expires_at.0, ending.id.0.clone());
            let (expires_on, set_on) = (day_of(ending.expires_at, zone), day_of(ending.set_at, zone));
            let due = self.due(expires_on, set_on, day_of(now, zone)).filter(|_| ending.works);
            let Some(due) = due else { continue };
            if ending.reminded_days.is_none_or(|last| last > i64::from(due.days())) {
                return Some((ending.clone(), due));
            }
        }
        None
    }

    /// What is due on `today` for something whose last day is `expires_on`, which was set on
    /// `set_on`: after a pause the nearest reminder alone. None: it ends too late or has ended.
    pub fn due(&self, expires_on: Date, set_on: Date, today: Date) -> Option<Reminder> {
        let (left, had) = (days_between(today, expires_on), days_between(set_on, expires_on));
        let nearest = *self.0.iter().find(|days| i32::from(**days) >= left).filter(|_| left >= 0)?;
        Some(if i32::from(nearest) >= had { Reminder::Skip(nearest) } else { Reminder::Tell(nearest) })
    }
}

impl Default for ReminderDays {
    fn default() -> Self {
        Self(vec![1, 7, 14, 30])
    }
}

impl TryFrom<String> for ReminderDays {
    type Error = NoReminderDays;

    fn try_from(text: String) -> Result<Self, NoReminderDays> {
        Self::parse(&text)
    }
}

impl Reminder {
    /// Days before the last day.
    pub fn days(self) -> u16 {
        match self {
            Self::Tell(days) | Self::Skip(days) => days,
        }
    }
}

impl Round {
    /// Where the task stands.
    pub fn of(task: &Task) -> Self {
        task.progress.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Counts one.
    pub fn add(&mut self, told: Told) {
        match told {
            Told::Client => self.told += 1,
            Told::Nobody => self.unaddressed += 1,
            Told::NotWanted => {}
        }
    }

    /// The reminder of `key` could not be written. The round goes on behind it where that is a matter
    /// of this key alone; Err: it is one of the database.
    pub fn failed(&mut self, key: &CredentialId, error: anyhow::Error) -> anyhow::Result<()> {
        if error.chain().any(|cause| cause.is::<sqlx::Error>()) {
            return Err(error);
        }
        tracing::error!(%key, "A reminder that a key ends could not be written: {error:#}");
        self.failed += 1;
        Ok(())
    }

    /// One more has been looked at.
    pub fn goes_on(self) -> Outcome {
        let progress = serde_json::to_string(&self).unwrap_or_default();
        Outcome::More { progress, result: self.result() }
    }

    /// All have been looked at.
    pub fn is_done(self) -> Outcome {
        Outcome::Done(self.result())
    }

    fn result(&self) -> String {
        let Self { told, unaddressed, failed, .. } = self;
        let mut result = format!("reminded of {told} that end soon");
        if *unaddressed > 0 {
            result.push_str(&format!("; {unaddressed} belong to clients without an address"));
        }
        if *failed > 0 {
            result.push_str(&format!("; {failed} could not be written: the log has the reasons"));
        }
        result
    }
}

/// Days from `today` to the last day of something that ends at `until`: 0 = it is today.
pub fn days_left(app: &App, until: UnixMillis, now: UnixMillis) -> u32 {
    let zone = app.config.zone();
    u32::try_from(days_between(day_of(now, &zone), day_of(until, &zone))).unwrap_or_default()
}

fn days_between(from: Date, to: Date) -> i32 {
    from.until(to).map_or(i32::MAX, |span| span.get_days())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn lists_of_days_at_their_edges() {
        for (text, days) in [
            ("30, 14, 7, 1", Some(vec![1, 7, 14, 30])),
            ("365", Some(vec![365])),
            ("7,7", Some(vec![7])),
            ("off", Some(vec![])),
            ("", Some(vec![])),
            ("1,2,3,4,5,6,7,8,9,10", Some((1..=10).collect())),
            ("1,2,3,4,5,6,7,8,9,10,11", None),
            ("0", None),
            ("366", None),
            ("7 days", None),
            ("7,", None),
        ] {
            assert_eq!(ReminderDays::parse(text).ok().map(|list| list.0), days, "{text}");
        }
    }

    #[test]
    fn the_nearest_reminder_counts_and_none_from_before_the_day_was_set() {
        let days = ReminderDays::default();
        let (long_ago, expires) = (date(2025, 1, 1), date(2026, 7, 31));
        for (today, set_on, due) in [
            (date(2026, 6, 30), long_ago, None),
            (date(2026, 7, 1), long_ago, Some(Reminder::Tell(30))),
            (date(2026, 7, 16), long_ago, Some(Reminder::Tell(30))),
            (date(2026, 7, 17), long_ago, Some(Reminder::Tell(14))),
            (date(2026, 7, 24), long_ago, Some(Reminder::Tell(7))),
            (date(2026, 7, 30), long_ago, Some(Reminder::Tell(1))),
            (date(2026, 7, 31), long_ago, Some(Reminder::Tell(1))),
            (date(2026, 8, 1), long_ago, None),
            // Set on the day of a reminder, or after it.
            (date(2026, 7, 1), date(2026, 7, 1), Some(Reminder::Skip(30))),
            (date(2026, 7, 20), date(2026, 7, 19), Some(Reminder::Skip(14))),
            (date(2026, 7, 24), date(2026, 7, 19), Some(Reminder::Tell(7))),
        ] {
            assert_eq!(days.due(expires, set_on, today), due, "{today}");
        }
        assert_eq!(ReminderDays::parse("off").expect("a list").due(expires, long_ago, expires), None);
    }

    #[test]
    fn a_page_is_read_to_what_is_due_and_what_was_dealt_with_is_passed_over() {
        const DAY_MS: i64 = 86_400_000;
        let (days, zone, now) = (ReminderDays::default(), TimeZone::UTC, UnixMillis(1_783_987_200_000));
        let ending = |id: &str, days: i64, reminded_days, works| Ending {
            id: CredentialId(id.into()),
            expires_at: UnixMillis(now.0 + days * DAY_MS),
            set_at: UnixMillis(0),
            reminded_days,
            works,
        };
        let page = [
            ending("told", 1, Some(1), true),
            ending("off", 2, None, false),
            ending("later", 3, Some(14), true),
            ending("new", 4, None, true),
        ];
        let mut round = Round::default();
        let (next, due) = days.next(&page, &mut round, now, &zone).expect("one");
        assert_eq!((next.id.0.as_str(), due, round.after.1.as_str()), ("later", Reminder::Tell(7), "later"));
        assert!(days.next(&page[..2], &mut round, now, &zone).is_none());
        assert_eq!(round.after.1, "off", "it goes on behind the page");
        assert_eq!(days.horizon(now, &zone), UnixMillis(now.0 + 31 * DAY_MS - 1));
    }
}
