//! Who signs what: the levels of a form kind, and the roles of each level.
//!
//! A submitted form keeps the number of levels it was submitted with; which roles sign a level is
//! looked up at the moment of signing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::openapi::schema::schema_of;

/// Levels of a flow at most. Nobody has asked for more than four; the bound keeps a mistyped
/// document from building a flow that nobody can finish.
pub const MAX_LEVELS: usize = 9;
/// Roles of one level at most.
pub const MAX_ROLES_PER_LEVEL: usize = 32;

/// What a form asks for. Each kind has its own flow and its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FormKind {
    /// `KA`: a new key.
    Apply,
    /// `KU`: other terms for a key.
    Change,
    /// `KR`: the end of a key.
    Revoke,
    /// `CR`: a new client.
    Client,
}

schema_of! { FormKind as FormType: one_of(FormKind::ALL.map(FormKind::code)) }

impl FormKind {
    /// Every kind, in the order in which lists show them.
    pub const ALL: [Self; 4] = [Self::Apply, Self::Change, Self::Revoke, Self::Client];

    /// The two letters that begin its numbers and name it in the API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Apply => "KA",
            Self::Change => "KU",
            Self::Revoke => "KR",
            Self::Client => "CR",
        }
    }

    /// As people call it, in mails and messages.
    pub fn label(self) -> &'static str {
        match self {
            Self::Apply => "API key application",
            Self::Change => "API key change",
            Self::Revoke => "API key revocation",
            Self::Client => "API client registration",
        }
    }

    /// The kind that `code` names, exactly as [`FormKind::code`] writes it.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl fmt::Display for FormKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The roles of one level, never none: whoever has one of them may sign, and one signature does.
pub type Roles = BTreeSet<String>;

/// The levels of a flow as somebody writes them.
pub enum Levels {}

/// The names of roles of one level as somebody writes them.
pub enum RoleNames {}

schema_of! { Levels as FlowLevels: list::<RoleNames>(1, MAX_LEVELS) }
schema_of! { RoleNames: list::<String>(1, MAX_ROLES_PER_LEVEL).unique_items(true) }

/// The levels that a form passes, in order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    levels: Vec<Roles>,
}

impl Flow {
    /// A flow from its levels as somebody wrote them; `known` are the roles that exist.
    pub fn parse(levels: Vec<Vec<String>>, known: &[&str]) -> Result<Self, FlowFault> {
        if levels.is_empty() {
            return Err(FlowFault::NoLevels);
        }
        if levels.len() > MAX_LEVELS {
            return Err(FlowFault::TooManyLevels { levels: levels.len() });
        }
        let parsed = (1u32..).zip(levels).map(|(level, roles)| roles_of_level(level, roles, known));
        Ok(Self { levels: parsed.collect::<Result<_, _>>()? })
    }

    /// Err: it names a role that is not among those that exist.
    pub fn require_known(&self, known: &[&str]) -> Result<(), FlowFault> {
        let named =
            (1u32..).zip(&self.levels).flat_map(|(level, roles)| roles.iter().map(move |role| (level, role)));
        match named.into_iter().find(|(_, role)| !known.contains(&role.as_str())) {
            Some((level, role)) => {
                Err(FlowFault::UnknownRole { level, role: role.clone(), known: known.join(", ") })
            }
            None => Ok(()),
        }
    }

    /// A flow from what was kept of it; none unless the levels are 1, 2, 3 … without gaps.
    pub fn of_kept(levels: BTreeMap<i64, Roles>) -> Option<Self> {
        let in_order = (1..).zip(levels.keys()).all(|(expected, level)| expected == *level);
        (in_order && !levels.is_empty()).then(|| Self { levels: levels.into_values().collect() })
    }

    /// How many levels there are; at least 1.
    pub fn count(&self) -> u32 {
        u32::try_from(self.levels.len()).unwrap_or(u32::MAX)
    }

    /// Level after level.
    pub fn levels(&self) -> &[Roles] {
        &self.levels
    }

    /// The roles that sign `level` (counted from 1). A form that was submitted when there were
    /// more levels has its surplus levels signed by the last one there is: nothing gets stuck.
    pub fn roles_at(&self, level: u32) -> &Roles {
        let last = self.levels.len().saturating_sub(1);
        let index = usize::try_from(level.saturating_sub(1)).unwrap_or(last).min(last);
        self.levels.get(index).expect("a flow has at least one level")
    }

    /// Whether somebody with `roles` may sign `level`.
    pub fn may_sign<'a>(&self, level: u32, roles: impl IntoIterator<Item = &'a str>) -> bool {
        let signing = self.roles_at(level);
        roles.into_iter().any(|role| signing.contains(role))
    }
}

/// Why levels do not make a flow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FlowFault {
    /// An empty list.
    #[error("a flow has at least one level: give `levels` one list of roles per level")]
    NoLevels,
    /// More than [`MAX_LEVELS`].
    #[error("a flow has at most {MAX_LEVELS} levels, not {levels}")]
    TooManyLevels {
        /// How many were given.
        levels: usize,
    },
    /// Nobody could ever sign it.
    #[error(
        "level {level} has no role, so nobody could sign it: name at least one role or leave the level out"
    )]
    NoRoles {
        /// Which level, from 1.
        level: u32,
    },
    /// More than [`MAX_ROLES_PER_LEVEL`].
    #[error("level {level} has {roles} roles; at most {MAX_ROLES_PER_LEVEL} are allowed")]
    TooManyRoles {
        /// Which level, from 1.
        level: u32,
        /// How many were given.
        roles: usize,
    },
    /// A role that nobody can have.
    #[error("level {level} names the role `{role}`, which does not exist: the roles are {known}")]
    UnknownRole {
        /// Which level, from 1.
        level: u32,
        /// What was given.
        role: String,
        /// All there are, by name.
        known: String,
    },
    /// The same role twice in one level.
    #[error("level {level} names the role `{role}` twice")]
    RoleTwice {
        /// Which level, from 1.
        level: u32,
        /// Which role.
        role: String,
    },
}

fn roles_of_level(level: u32, names: Vec<String>, known: &[&str]) -> Result<Roles, FlowFault> {
    if names.is_empty() {
        return Err(FlowFault::NoRoles { level });
    }
    if names.len() > MAX_ROLES_PER_LEVEL {
        return Err(FlowFault::TooManyRoles { level, roles: names.len() });
    }
    let mut roles = Roles::new();
    for role in names {
        if !known.contains(&role.as_str()) {
            return Err(FlowFault::UnknownRole { level, role, known: known.join(", ") });
        }
        if let Some(role) = roles.replace(role) {
            return Err(FlowFault::RoleTwice { level, role });
        }
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["manager", "reviewer", "supervisor"];

    fn parse(levels: &[&[&str]]) -> Result<Flow, FlowFault> {
        let own = |roles: &&[&str]| roles.iter().map(|role| role.to_string()).collect();
        Flow::parse(levels.iter().map(own).collect(), &KNOWN)
    }

    #[test]
    fn a_flow_has_one_to_nine_levels_of_known_roles() {
        let nine = [["reviewer"].as_slice(); MAX_LEVELS];
        let ten = [["reviewer"].as_slice(); MAX_LEVELS + 1];
        assert_eq!(parse(&nine).map(|flow| flow.count()), Ok(9));
        assert_eq!(parse(&ten), Err(FlowFault::TooManyLevels { levels: 10 }));
        assert_eq!(parse(&[]), Err(FlowFault::NoLevels));
        assert_eq!(parse(&[&["reviewer"], &[]]), Err(FlowFault::NoRoles { level: 2 }));
        let twice = FlowFault::RoleTwice { level: 1, role: "manager".into() };
        assert_eq!(parse(&[&["manager", "manager"]]), Err(twice));
        let unknown = parse(&[&["reviewer"], &["king"]]).expect_err("no such role");
        assert_eq!(
            unknown.to_string(),
            "level 2 names the role `king`, which does not exist: the roles are manager, reviewer, supervisor"
        );
        let crowd = vec![vec!["reviewer".to_string(); MAX_ROLES_PER_LEVEL + 1]];
        assert_eq!(Flow::parse(crowd, &KNOWN), Err(FlowFault::TooManyRoles { level: 1, roles: 33 }));
    }

    #[test]
    fn any_role_of_the_level_signs_it() {
        let flow = parse(&[&["reviewer", "manager"], &["supervisor"]]).expect("two levels");
        for (level, roles, may) in [
            (1, vec!["reviewer"], true),
            (1, vec!["manager"], true),
            (1, vec!["supervisor"], false),
            (1, vec![], false),
            (2, vec!["reviewer", "supervisor"], true),
            (2, vec!["reviewer"], false),
        ] {
            assert_eq!(flow.may_sign(level, roles.iter().copied()), may, "level {level}, {roles:?}");
        }
    }

    #[test]
    fn a_level_that_is_gone_is_signed_by_the_last_one_there_is() {
        let flow = parse(&[&["reviewer"], &["supervisor"]]).expect("two levels");
        assert!(flow.may_sign(3, ["supervisor"]));
        assert!(!flow.may_sign(3, ["reviewer"]));
    }

    #[test]
    fn kinds_are_known_by_their_code_alone() {
        for kind in FormKind::ALL {
            assert_eq!(FormKind::parse(kind.code()), Some(kind));
        }
        for wrong in ["", "ka", "KX", "KA "] {
            assert_eq!(FormKind::parse(wrong), None, "{wrong:?}");
        }
    }
}
