//! Numbers of forms: `KA-20260714-0001`, counted per kind and day of the installation's zone.

mod store;

use std::fmt;

use jiff::civil::Date;

use crate::approvals::FormKind;

pub use store::draw;

/// The number of a form: drawn when it is first submitted, kept for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormNumber {
    /// What the form asks for.
    pub kind: FormKind,
    /// The day of its first submission.
    pub day: Date,
    /// From 1, without gaps within kind and day.
    pub sequence: u32,
}

impl FormNumber {
    /// The number that `text` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let kind = FormKind::parse(parts.next()?)?;
        let day = Date::strptime("%Y%m%d", parts.next()?).ok()?;
        let sequence = parts.next()?.parse().ok()?;
        let number = Self { kind, day, sequence };
        (number.to_string() == text).then_some(number)
    }

    /// The day as counters and numbers write it.
    pub fn day_text(day: Date) -> String {
        format!("{:04}{:02}{:02}", day.year(), day.month(), day.day())
    }
}

impl fmt::Display for FormNumber {
    /// Four digits; a day with more than 9,999 forms goes on with five.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:04}", self.kind, Self::day_text(self.day), self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_they_are_written() {
        let day = jiff::civil::date(2026, 7, 14);
        for (kind, sequence, text) in [
            (FormKind::Apply, 1, "KA-20260714-0001"),
            (FormKind::Change, 9_999, "KU-20260714-9999"),
            (FormKind::Revoke, 10_000, "KR-20260714-10000"),
        ] {
            let number = FormNumber { kind, day, sequence };
            assert_eq!(number.to_string(), text);
            assert_eq!(FormNumber::parse(text), Some(number));
        }
        for wrong in ["", "KA", "KA-20260714", "KX-20260714-0001", "KA-20260231-0001", "KA-20260714-1"] {
            assert_eq!(FormNumber::parse(wrong), None, "{wrong:?}");
        }
    }
}
