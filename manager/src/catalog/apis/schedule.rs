//! When an API becomes enabled or disabled by itself.

use gate::time::UnixMillis;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};

use super::model::Api;
use crate::openapi::schema::schema_of;
use crate::validity::parse_date;

/// 9999-12-30T22:00:00.999Z, the calendar's last instant.
const LATEST_MS: i64 = 253_402_207_200_999;

/// A moment as operators name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// An instant.
    At(UnixMillis),
    /// By the clock of the installation's zone; a date is the beginning of its day.
    Local(DateTime),
}

schema_of! { Moment: either([text(10, 64), number(0, LATEST_MS)]) }

/// A switch that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What the API becomes.
    pub enabled: bool,
    /// When it was planned for.
    pub planned_at: UnixMillis,
}

impl Moment {
    /// `yyyy-MM-dd`, `yyyy-MM-ddTHH:mm[:ss]`, or the same with `Z` or an offset.
    pub fn parse(text: &str) -> Result<Self, String> {
        let local =
            |text: &str| text.parse::<DateTime>().ok().filter(|_| text.as_bytes().get(10) == Some(&b'T'));
        let instant = |text: &str| text.parse::<Timestamp>().ok();
        if let Some(date) = parse_date(text) {
            Ok(Self::Local(date.to_datetime(jiff::civil::Time::midnight())))
        } else if let Some(at) = instant(text) {
            Ok(Self::At(UnixMillis(at.as_millisecond())))
        } else if let Some(local) = local(text) {
            Ok(Self::Local(local))
        } else {
            Err(format!(
                "{text:?} is no moment: write a day as 2026-02-01, a time in the installation's zone as \
                 2026-02-01T08:00, an instant as 2026-02-01T08:00:00Z or as milliseconds since 1970"
            ))
        }
    }

    /// The instant. A local time that a change to summer time skips is as much later as is skipped: 02:30
    /// becomes 03:30. One that comes twice is the first.
    pub fn instant(self, zone: &TimeZone) -> Result<UnixMillis, String> {
        let at = match self {
            Self::At(at) => at,
            Self::Local(local) => {
                let zoned = local.to_zoned(zone.clone()).map_err(|error| error.to_string())?;
                UnixMillis(zoned.timestamp().as_millisecond())
            }
        };
        if (0..=LATEST_MS).contains(&at.0) { Ok(at) } else { Err("lies beyond the calendar".into()) }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a text such as \"2026-02-01T08:00\", or milliseconds since 1970"
        )]
        enum Written {
            Millis(i64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Millis(millis) => Ok(Self::At(UnixMillis(millis))),
            Written::Text(text) => Self::parse(&text).map_err(serde::de::Error::custom),
        }
    }
}

impl Api {
    /// What was planned until now, in order; it is planned no more, and done.
    pub fn take_turns(&mut self, now: UnixMillis) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (enabled, planned) in [(true, &mut self.enable_at), (false, &mut self.disable_at)] {
            if let Some(planned_at) = planned.take_if(|at| *at <= now) {
                turns.push(Turn { enabled, planned_at });
            }
        }
        turns.sort_by_key(|turn| turn.planned_at);
        self.enabled = turns.last().map_or(self.enabled, |turn| turn.enabled);
        turns
    }

    /// What was switched by hand need not be switched by plan: the next turn goes if it would bring
    /// what is there now.
    pub fn drop_needless_turn(&mut self) {
        match self.next_turn() {
            Some(Turn { enabled: true, .. }) if self.enabled => self.enable_at = None,
            Some(Turn { enabled: false, .. }) if !self.enabled => self.disable_at = None,
            Some(_) | None => {}
        }
    }

    /// Checks a plan. The error names the field.
    pub fn check_plan(&self, now: UnixMillis) -> Result<(), (&'static str, String)> {
        for (field, at) in [("enable_at", self.enable_at), ("disable_at", self.disable_at)] {
            if at.is_some_and(|at| at <= now) {
                return Err((field, "lies in the past: name a later moment, or set \"enabled\" now".into()));
            }
        }
        if self.enable_at.is_some() && self.enable_at == self.disable_at {
            return Err((
                "disable_at",
                "is the same moment as enable_at: one of them must come first".into(),
            ));
        }
        match self.next_turn() {
            Some(Turn { enabled: true, .. }) if self.enabled => Err((
                "enable_at",
                "would enable what is enabled: disable the API until then (\"enabled\": false), name an earlier \
                 disable_at, or leave enable_at null"
                    .into(),
            )),
            Some(Turn { enabled: false, .. }) if !self.enabled => Err((
                "disable_at",
                "would disable what is disabled: enable the API until then (\"enabled\": true), name an earlier \
                 enable_at, or leave disable_at null"
                    .into(),
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn next_turn(&self) -> Option<Turn> {
        let turn = |enabled| move |planned_at| Turn { enabled, planned_at };
        let turns = [self.enable_at.map(turn(true)), self.disable_at.map(turn(false))];
        turns.into_iter().flatten().min_by_key(|turn| turn.planned_at)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn moments_are_days_local_times_or_instants() {
        // 2026-02-01T00:00Z is 1769904000000.
        for (text, zone, millis) in [
            ("2026-02-01", "UTC", 1_769_904_000_000),
            ("2026-02-01", "Asia/Taipei", 1_769_875_200_000),
            ("2026-02-01T08:00", "Asia/Taipei", 1_769_904_000_000),
            ("2026-02-01T08:00:00", "Asia/Taipei", 1_769_904_000_000),
            ("2026-02-01T08:00:00+08:00", "UTC", 1_769_904_000_000),
            ("2026-02-01T00:00:00Z", "Asia/Taipei", 1_769_904_000_000),
            // Beirut goes from 2026-03-29 00:00 to 01:00, which is 2026-03-28T22:00Z.
            ("2026-03-29", "Asia/Beirut", 1_774_735_200_000),
            // Berlin goes from 2026-03-29 02:00 to 03:00: this is 03:30 there, 2026-03-29T01:30Z.
            ("2026-03-29T02:30", "Europe/Berlin", 1_774_747_800_000),
            ("2026-03-29T03:30", "Europe/Berlin", 1_774_747_800_000),
            // And from 2026-10-25 03:00 to 02:00: the first of both, 2026-10-25T00:30Z.
            ("2026-10-25T02:30", "Europe/Berlin", 1_792_888_200_000),
        ] {
            let zone = TimeZone::get(zone).expect("bundled");
            let instant = Moment::parse(text).and_then(|moment| moment.instant(&zone));
            assert_eq!(instant, Ok(UnixMillis(millis)), "{text}");
        }
        for text in
            ["", "tomorrow", "2026-02-30", "2026-02-01 08:00", "20260201", "08:00", "2026-02-01T25:00"]
        {
            assert!(Moment::parse(text).is_err(), "{text}");
        }
        assert!(Moment::At(UnixMillis(i64::MAX)).instant(&TimeZone::UTC).is_err());
    }
}
