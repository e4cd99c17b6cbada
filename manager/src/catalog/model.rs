//! What the nouns of the catalogue share: security levels, and texts for people.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::openapi::schema::schema_of;

/// Characters of a description at most.
pub const MAX_DESCRIPTION: usize = 500;

/// A description: several lines, or none.
pub enum Description {}

schema_of! { Description as CatalogDescription: text(0, MAX_DESCRIPTION) }

/// Levels are ordered: a client of one level may be given groups of that level and below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SecurityLevel {
    /// The lowest: what clients and groups begin with.
    #[default]
    System,
    /// Above `SYSTEM`.
    D,
    /// Above `D`.
    C,
    /// Above `C`.
    B,
    /// The highest.
    A,
}

impl SecurityLevel {
    /// From the lowest to the highest.
    pub const ALL: [Self; 5] = [Self::System, Self::D, Self::C, Self::B, Self::A];

    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "SYSTEM",
            Self::D => "D",
            Self::C => "C",
            Self::B => "B",
            Self::A => "A",
        }
    }

    /// What [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }

    /// Whether a client of this level may be given a group of level `group`.
    pub fn covers(self, group: Self) -> bool {
        self >= group
    }
}

/// Checks a text for people: trimmed, `min` to `max` characters, no control characters but
/// line breaks.
pub fn parse_text(text: &str, min: usize, max: usize) -> Result<String, String> {
    let text = text.trim();
    let chars = text.chars().count();
    if chars < min || chars > max {
        return Err(if min == 0 {
            format!("has {chars} characters, {max} at most")
        } else {
            format!("must be {min} to {max} characters, has {chars}")
        });
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err("has a control character".into());
    }
    Ok(text.into())
}

/// Text as searches compare it.
pub fn folded(parts: &[&str]) -> String {
    parts.join("\n").to_lowercase()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn levels_are_ordered_with_a_on_top() {
        use SecurityLevel::{A, B, C, D, System};
        for (client, group, may) in [
            (A, A, true),
            (A, System, true),
            (B, A, false),
            (C, D, true),
            (D, C, false),
            (System, D, false),
            (System, System, true),
        ] {
            assert_eq!(client.covers(group), may, "{client:?} {group:?}");
        }
    }
}
