//! A piece of work on its way from planned to done, and the periods of recurring work.

use gate::time::UnixMillis;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

use crate::openapi::schema::schema_of;

/// Attempts at a piece of work before it is given up. With [`retry_after_ms`]: about two hours.
pub const MAX_ATTEMPTS: u32 = 10;
/// The wait after the first failed attempt; it doubles from then on …
const FIRST_RETRY_MS: i64 = 15_000;
/// … up to this.
const LONGEST_RETRY_MS: i64 = 3_600_000;
/// How long a replica may be at one piece before another may take it.
pub const CLAIM_MS: i64 = 60_000;
/// Characters of a result or an error that are kept.
pub const MAX_TEXT_CHARS: usize = 1_000;
/// What recurring work is about.
pub const PERIOD: &str = "period";

/// What a piece of work is about, so that it can be found and cancelled by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = TaskAbout)]
pub struct About {
    /// `key`, `x_api_key`, `application` …; `period` of recurring work.
    pub kind: String,
    /// Its id.
    pub id: String,
}

impl About {
    /// The `id` of that `kind`.
    pub fn new(kind: &str, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// `task_…`.
    pub id: String,
    /// `<capability>.<action>`.
    pub kind: String,
    /// About what.
    pub about: About,
    /// Names it: planned again, it stays one.
    pub key: String,
    /// What else it needs to know.
    pub detail: Value,
    /// When it is to be done.
    pub due_at: UnixMillis,
    /// Where it stands.
    pub state: TaskState,
    /// Attempts begun since it was planned, tried again by hand or last got on.
    pub attempts: u32,
    /// How far it got: what the executor gave to [`Outcome::More`] or [`Outcome::Later`].
    pub progress: Option<String>,
    /// What came of it so far, for people.
    pub result: Option<String>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it was planned.
    pub created_at: UnixMillis,
}

/// Where a piece of work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// For its time, or for the next attempt.
    Waiting {
        /// Not before.
        next_attempt_at: UnixMillis,
    },
    /// A replica is at it.
    Running {
        /// If it is not done by then, another may take it.
        claimed_until: UnixMillis,
    },
    /// Done: [`Task::result`] says what came of it.
    Done {
        /// When.
        finished_at: UnixMillis,
    },
    /// Given up: [`Task::last_error`] says why.
    Failed {
        /// When.
        finished_at: UnixMillis,
    },
    /// No longer wanted: [`Task::result`] says why.
    Cancelled {
        /// When.
        finished_at: UnixMillis,
    },
}

schema_of! { TaskState: one_of(TaskState::NAMES) }

impl TaskState {
    /// Every [`TaskState::name`].
    pub const NAMES: [&str; 5] = ["waiting", "running", "done", "failed", "cancelled"];

    /// As it stands in the table and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Running { .. } => "running",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Whether somebody is at it: not when the claim has lapsed.
    pub fn is_held(self, now: UnixMillis) -> bool {
        match self {
            Self::Running { claimed_until } => claimed_until > now,
            Self::Waiting { .. } | Self::Done { .. } | Self::Failed { .. } | Self::Cancelled { .. } => false,
        }
    }
}

/// How an attempt ended that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done. What came of it, for people: `deleted 120 mails`; also `no longer wanted: …`.
    Done(String),
    /// What was written so far is to be committed, and the executor called again with `progress`:
    /// for work that is too much for one transaction.
    More {
        /// Becomes [`Task::progress`].
        progress: String,
        /// What came of it so far, for people.
        result: String,
    },
    /// It cannot be done yet: what was written is to be committed, and the executor called again with
    /// `progress`, not before `at`.
    Later {
        /// When to look again.
        at: UnixMillis,
        /// Becomes [`Task::progress`].
        progress: String,
        /// Why it waits, for people.
        result: String,
    },
    /// It failed, and another attempt by itself would not help: what was written is to be committed, and
    /// the piece is given up. What is wrong and what to do, for people.
    Failed(String),
}

/// When house-keeping is done: every night.
pub const NIGHTLY: Every = Every::Day { at_hour: 3 };
/// Rows that house-keeping deletes in one transaction: SQLite's only writer is not held for long.
pub const BATCH: i64 = 500;

/// The end of one batch of a deletion: `deleted` rows of `batch` at most, so that there may be more
/// where it was full. `what`: `mails`.
pub fn forgotten(task: &Task, deleted: u64, batch: i64, what: &str) -> Outcome {
    let before: u64 = task.progress.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default();
    let total = before.saturating_add(deleted);
    let result = format!("deleted {total} {what}");
    let full = i64::try_from(deleted).is_ok_and(|deleted| deleted >= batch);
    if full { Outcome::More { progress: total.to_string(), result } } else { Outcome::Done(result) }
}

/// What becomes of a piece of work after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// It waits for another attempt.
    TryAgain {
        /// Not before.
        at: UnixMillis,
    },
    /// It is given up.
    GiveUp,
}

/// The decision after attempt number `attempts` (from 1) has failed.
pub fn after_failure(attempts: u32, now: UnixMillis) -> AfterFailure {
    if attempts >= MAX_ATTEMPTS {
        return AfterFailure::GiveUp;
    }
    AfterFailure::TryAgain { at: UnixMillis(now.0.saturating_add(retry_after_ms(attempts))) }
}

/// 15 s, 30 s, 1 min … 1 h.
fn retry_after_ms(attempts: u32) -> i64 {
    let doublings = attempts.saturating_sub(1).min(20);
    (FIRST_RETRY_MS << doublings).min(LONGEST_RETRY_MS)
}

/// How often recurring work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// At the beginning of each hour.
    Hour,
    /// At this hour (0 to 23) of each day of the installation's zone.
    Day {
        /// Of the clock on the wall.
        at_hour: i8,
    },
}

/// One time at which recurring work is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// `2026-07-14`, `2026-07-14T09`.
    pub period: String,
    /// When.
    pub due_at: UnixMillis,
}

impl Every {
    /// The occurrence of the present period and of the one after it.
    pub fn occurrences(self, now: UnixMillis, zone: &TimeZone) -> [Occurrence; 2] {
        let present =
            Timestamp::from_millisecond(now.0).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone());
        match self {
            // Hours are counted in UTC: where clocks are put back, an hour's name comes twice.
            Self::Hour => [0, 1].map(|later| {
                let begin = UnixMillis((now.0.div_euclid(HOUR_MS) + later) * HOUR_MS);
                let named = Timestamp::from_millisecond(begin.0).unwrap_or(Timestamp::UNIX_EPOCH);
                Occurrence { period: named.strftime("%Y-%m-%dT%H").to_string(), due_at: begin }
            }),
            Self::Day { at_hour } => {
                let today = present.date();
                [today, today.tomorrow().unwrap_or(today)].map(|day| {
                    let wall = DateTime::from_parts(day, jiff::civil::time(at_hour.clamp(0, 23), 0, 0, 0));
                    // An hour that summer time skips is the one after it.
                    let due_at = wall
                        .to_zoned(zone.clone())
                        .map_or(now, |at| UnixMillis(at.timestamp().as_millisecond()));
                    Occurrence { period: day.to_string(), due_at }
                })
            }
        }
    }
}

const HOUR_MS: i64 = 3_600_000;

/// At most [`MAX_TEXT_CHARS`] of it.
pub fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_grow_rarer_and_end() {
        let now = UnixMillis(1_000);
        for (attempts, expected) in [
            (1, AfterFailure::TryAgain { at: UnixMillis(16_000) }),
            (2, AfterFailure::TryAgain { at: UnixMillis(31_000) }),
            (9, AfterFailure::TryAgain { at: UnixMillis(3_601_000) }),
            (MAX_ATTEMPTS, AfterFailure::GiveUp),
        ] {
            assert_eq!(after_failure(attempts, now), expected, "{attempts}");
        }
    }

    #[test]
    fn occurrences_are_named_and_due_in_the_zone() {
        let zone = |name: &str| TimeZone::get(name).expect("bundled");
        let day = Every::Day { at_hour: 3 };
        for (every, zone, now, first, second) in [
            // 2026-07-14T00:30Z is 08:30 in Taipei.
            (
                day,
                zone("Asia/Taipei"),
                1_783_989_000_000,
                ("2026-07-14", 1_783_969_200_000),
                ("2026-07-15", 1_784_055_600_000),
            ),
            (
                Every::Hour,
                zone("Asia/Taipei"),
                1_783_989_000_000,
                ("2026-07-14T00", 1_783_987_200_000),
                ("2026-07-14T01", 1_783_990_800_000),
            ),
            // Berlin has no 02:00 on 2026-03-29: 03:00 summer time, 01:00Z.
            (
                Every::Day { at_hour: 2 },
                zone("Europe/Berlin"),
                1_774_746_000_000,
                ("2026-03-29", 1_774_746_000_000),
                ("2026-03-30", 1_774_828_800_000),
            ),
        ] {
            let named = |(period, due_at): (&str, i64)| Occurrence {
                period: period.into(),
                due_at: UnixMillis(due_at),
            };
            assert_eq!(every.occurrences(UnixMillis(now), &zone), [named(first), named(second)]);
        }
    }
}
