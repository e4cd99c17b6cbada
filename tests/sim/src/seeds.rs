//! The seeds that every run plays.

use std::ops::Range;

use crate::case::Case;
use crate::faults::Fault;
use crate::reference::Violation;
use crate::scenario::Weather;
use crate::world::run;

/// Past failures, each as small as it could be made.
pub const KEPT: &str = include_str!("../seeds.txt");

/// The fixed seeds of a weather.
pub fn ci_seeds(weather: Weather) -> Range<u64> {
    match weather {
        Weather::Fair => 1..4,
        Weather::Rough => 100..260,
        Weather::Stormy => 1_000..1_160,
        Weather::Crowded => 2_000..2_006,
        Weather::Wide => 3_000..3_001,
        Weather::ClearGates => 4_000..4_004,
        Weather::Gates => 5_000..5_024,
        Weather::StormyGates => 6_000..6_012,
    }
}

/// The cases of [`KEPT`].
pub fn kept() -> impl Iterator<Item = Result<Case, String>> {
    KEPT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::parse)
}

/// After how many of the fixed seeds a fault is noticed, and by which promise.
pub fn find(fault: Fault, weather: Weather) -> Option<(usize, Violation)> {
    ci_seeds(weather).enumerate().find_map(|(at, seed)| {
        let violation = run(&Case::whole(weather, seed), fault).violations.into_iter().next()?;
        Some((at + 1, violation))
    })
}
