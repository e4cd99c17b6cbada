//! When an API switches itself, as files say it. Files stay as they are while time goes by: a
//! moment that has passed has happened, and is not planned again.

use gate::time::UnixMillis;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize};

use super::ApiSpec;
use crate::catalog::apis::{ApiFields, Moment};
use crate::definitions::work::Refusal;

/// A moment as files have it: a text. Milliseconds since 1970 are read too.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MomentText(String);

impl From<UnixMillis> for MomentText {
    /// `2026-02-01T08:00:00Z`, with milliseconds where there are some.
    fn from(at: UnixMillis) -> Self {
        Self(
            Timestamp::from_millisecond(at.0)
                .map_or_else(|_| at.0.to_string(), |instant| instant.to_string()),
        )
    }
}

impl<'de> Deserialize<'de> for MomentText {
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
        Ok(match Written::deserialize(deserializer)? {
            Written::Millis(millis) => UnixMillis(millis).into(),
            Written::Text(text) => Self(text),
        })
    }
}

impl MomentText {
    /// As the API's call takes it.
    pub fn parse(&self, field: &'static str) -> Result<Moment, Refusal> {
        Moment::parse(&self.0).map_err(|reason| Refusal::Field(field, reason))
    }
}

/// What is planned already.
struct Present {
    enabled: bool,
    enable_at: Option<UnixMillis>,
    disable_at: Option<UnixMillis>,
}

impl Present {
    fn of(spec: &ApiSpec, zone: &TimeZone) -> Result<Self, Refusal> {
        let at = |field, text: &Option<Option<MomentText>>| {
            text.iter().flatten().next().map(|text| instant(field, text.parse(field)?, zone)).transpose()
        };
        Ok(Self {
            enabled: spec.enabled.unwrap_or_default(),
            enable_at: at("enable_at", &spec.enable_at)?,
            disable_at: at("disable_at", &spec.disable_at)?,
        })
    }
}

/// Takes out of `fields` what has happened: moments that have passed and are planned no more, whose
/// effect takes the place of `enabled`; and, where `enabled` is not managed, the next switch if
/// somebody has made it by hand. `before`: what is there; None where the API is new.
pub fn settle(
    fields: &mut ApiFields,
    before: Option<&ApiSpec>,
    zone: &TimeZone,
    now: UnixMillis,
) -> Result<(), Refusal> {
    let present = before.map(|spec| Present::of(spec, zone)).transpose()?;
    let (enable, disable) =
        present.as_ref().map_or((None, None), |present| (present.enable_at, present.disable_at));
    let mut passed: Vec<(UnixMillis, bool)> = Vec::new();
    for (field, enabled, wanted, planned) in [
        ("enable_at", true, &mut fields.enable_at, enable),
        ("disable_at", false, &mut fields.disable_at, disable),
    ] {
        let Some(Some(moment)) = *wanted else { continue };
        let at = instant(field, moment, zone)?;
        if at <= now && planned.is_none_or(|planned| planned == at) {
            *wanted = None;
            passed.push((at, enabled));
        }
    }
    if let [(enable_at, _), (disable_at, _)] = passed.as_slice()
        && enable_at == disable_at
    {
        let reason = "is the same moment as enable_at: one of them must come first";
        return Err(Refusal::Field("disable_at", reason.into()));
    }
    let effect = passed.into_iter().max_by_key(|(at, _)| *at).map(|(_, enabled)| enabled);
    if let Some(enabled) = effect
        && (present.is_none() || fields.enabled.is_some())
    {
        fields.enabled = Some(enabled);
    }
    let Some(present) = present.filter(|_| fields.enabled.is_none()) else { return Ok(()) };
    let coming = |field, wanted: Option<Option<Moment>>, planned| match wanted {
        None => Ok(planned),
        Some(moment) => moment.map(|moment| instant(field, moment, zone)).transpose(),
    };
    let enable_at = coming("enable_at", fields.enable_at, enable)?;
    let disable_at = coming("disable_at", fields.disable_at, disable)?;
    let turns = [enable_at.map(|at| (at, true)), disable_at.map(|at| (at, false))];
    match turns.into_iter().flatten().min() {
        Some((_, true)) if present.enabled && enable.is_none() => fields.enable_at = None,
        Some((_, false)) if !present.enabled && disable.is_none() => fields.disable_at = None,
        Some(_) | None => {}
    }
    Ok(())
}

fn instant(field: &'static str, moment: Moment, zone: &TimeZone) -> Result<UnixMillis, Refusal> {
    moment.instant(zone).map_err(|reason| Refusal::Field(field, reason))
}
