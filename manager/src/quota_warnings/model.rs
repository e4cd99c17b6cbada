//! At which parts of a quota a client is told.

use crate::quotas::LEAST_PERCENT;

/// Parts of one client at most.
pub const MAX_PERCENTS: usize = 10;
/// The part that is all of it.
pub const ALL: u8 = 100;

/// Parts of a quota in percent, ascending; none: nobody is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Percents(Vec<u8>);

/// Why some numbers are no parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "these are no parts of a quota: up to {MAX_PERCENTS} different numbers of {LEAST_PERCENT} to {ALL}, such as [80, 100], \
     or [] for none"
)]
pub struct NoPercents;

impl Percents {
    /// Checks and sorts.
    pub fn of(numbers: &[u32]) -> Result<Self, NoPercents> {
        let mut percents = Vec::with_capacity(numbers.len());
        for number in numbers {
            let percent = u8::try_from(*number).map_err(|_| NoPercents)?;
            if !(LEAST_PERCENT..=ALL).contains(&percent) || percents.contains(&percent) {
                return Err(NoPercents);
            }
            percents.push(percent);
        }
        if percents.len() > MAX_PERCENTS {
            return Err(NoPercents);
        }
        percents.sort_unstable();
        Ok(Self(percents))
    }

    /// Ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u8> + '_ {
        self.0.iter().copied()
    }
}

impl Default for Percents {
    fn default() -> Self {
        Self(vec![80, ALL])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_at_their_edges() {
        for (numbers, percents) in [
            (&[100, 80][..], Some(vec![80, 100])),
            (&[50], Some(vec![50])),
            (&[], Some(vec![])),
            (&[49], None),
            (&[101], None),
            (&[1_000_080], None),
            (&[80, 80], None),
            (&[50, 51, 52, 53, 54, 55, 56, 57, 58, 59], Some((50..60).collect())),
            (&[50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60], None),
        ] {
            assert_eq!(Percents::of(numbers).ok().map(|found| found.0), percents, "{numbers:?}");
        }
    }
}
