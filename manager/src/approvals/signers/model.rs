//! Who may sign a form at the level that waits, in whose name, and whether enough persons are left
//! for the levels after it.
//!
//! Whoever has a role of the level signs it. With an *escalation*, those of the next level may too;
//! after the last level, administrators. A *delegate* signs what the operator may sign who has
//! delegated, as that operator's delegate, and needs no role; what was delegated to somebody cannot
//! be passed on, since rights come from roles alone.
//!
//! Four eyes: a signature counts for the one who signs and for the one on whose behalf. Neither may
//! have filed the form (a client's form: have one of the client's addresses, or have entered its
//! password), nor have signed another level of the same round. Installations switch off
//! either rule ([`FourEyes`]); whoever signs by escalation signs one level alone in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use super::matching;
use crate::approvals::Flow;
use crate::approvals::rounds::{Author, Round, Signature};

/// Somebody who could sign: an active operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// `op_…`
    pub id: String,
    /// What is typed to sign in.
    pub name: String,
    /// Where mails go.
    pub email: Option<String>,
    /// Names of roles.
    pub roles: BTreeSet<String>,
    /// Has `applications.review`.
    pub reviews: bool,
    /// Has `operators.manage`.
    pub manages: bool,
}

/// A delegation in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The operator whose signing it is.
    pub principal: String,
    /// The operator who signs on its behalf.
    pub delegate: String,
}

/// What an installation allows in spite of four eyes; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FourEyes {
    /// Setting `allow_self_approval`: one's own form is signed.
    pub own_forms: bool,
    /// Setting `allow_signing_two_levels`: another level is signed too.
    pub two_levels: bool,
}

/// Everybody who could sign now, and on whose behalf.
#[derive(Clone, Debug, Default)]
pub struct Circle {
    people: BTreeMap<String, Person>,
    stand_ins: Vec<StandIn>,
    rules: FourEyes,
}

/// Where a right to sign comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// A role of the level.
    Role,
    /// The level was escalated.
    Escalation,
}

/// A right to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// Where it comes from.
    pub grounds: Grounds,
    /// Whose it is, where that is somebody else.
    pub on_behalf_of: Option<String>,
}

/// Somebody who may sign now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Who.
    pub person: Person,
    /// By what.
    pub right: Right,
}

/// What somebody may do at the level that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Has no right at this level.
    Nothing,
    /// May not, although there would be a right.
    Barred(Bar),
    /// May return and reject; an approval would leave other levels without a signer.
    NoApproval(Right, Shortage),
    /// May approve, return and reject.
    Full(Right),
}

/// Why somebody with a right may not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Filed the form, or would sign on behalf of who did.
    OwnForm,
    /// Has signed this level of this round, or would sign on behalf of somebody who has.
    Signed {
        /// Which.
        level: u32,
    },
}

/// Why a form does not find its signers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Shortage {
    /// A level has no signer at all.
    Nobody {
        /// Which, from 1.
        level: u32,
        /// The roles that sign it.
        roles: Vec<String>,
    },
    /// Levels have fewer signers together than they are.
    TooFew {
        /// Which, from 1.
        levels: Vec<u32>,
        /// The names of those signers.
        people: Vec<String>,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody { level, roles } => write!(
                f,
                "level {level} has nobody who could sign: no active operator with the role {} and \
                 applications.review is left for it",
                roles.join(" or ")
            ),
            Self::TooFew { levels, people } => {
                let levels: Vec<_> = levels.iter().map(u32::to_string).collect();
                write!(
                    f,
                    "levels {} have only {} to sign them, and nobody signs two levels of a form",
                    levels.join(", "),
                    people.join(", ")
                )
            }
        }
    }
}

impl Shortage {
    /// The first level concerned, from 1.
    pub fn level(&self) -> u32 {
        match self {
            Self::Nobody { level, .. } => *level,
            Self::TooFew { levels, .. } => levels.first().copied().unwrap_or(1),
        }
    }
}

/// Why a level that waits is not escalated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoEscalation {
    /// Everybody who would be asked may sign already, or may not for another reason.
    #[error(
        "nobody else could sign level {level} either: {to} are the same persons, the applicant, or have signed another level"
    )]
    NobodyNew {
        /// Which.
        level: u32,
        /// Who would be asked.
        to: String,
    },
    /// Who would be asked is needed elsewhere.
    #[error("whoever signed level {level} in their place would be missing afterwards: {shortage}")]
    Leaves {
        /// Which.
        level: u32,
        /// What would be missing.
        shortage: Shortage,
    },
}

impl Circle {
    /// Those persons, their delegations, and what is not asked of them.
    pub fn new(people: Vec<Person>, stand_ins: Vec<StandIn>, rules: FourEyes) -> Self {
        let mut circle = Self {
            people: people.into_iter().map(|person| (person.id.clone(), person)).collect(),
            stand_ins,
            rules,
        };
        // By name, so that the choice among several does not hang on how ids were drawn.
        let name = |id: &str| circle.people.get(id).map(|person| person.name.clone());
        let mut stand_ins = circle.stand_ins.clone();
        stand_ins.sort_by_cached_key(|one| (name(&one.principal), one.principal.clone()));
        circle.stand_ins = stand_ins;
        circle
    }

    /// The person of that id, if active.
    pub fn person(&self, id: &str) -> Option<&Person> {
        self.people.get(id)
    }

    /// Those who can give somebody a role, and so help where nobody can sign.
    pub fn administrators(&self) -> impl Iterator<Item = &Person> {
        self.people.values().filter(|person| person.manages)
    }

    /// What `who` may do at the level of `round` that waits.
    pub fn word(&self, flow: &Flow, round: &Round, who: &str) -> Word {
        let (mut barred, mut limited) = (None, None);
        for right in self.rights(flow, round, who) {
            if let Some(bar) = self.bar(round, who, &right) {
                barred = barred.or(Some(bar));
                continue;
            }
            match self.left_short(flow, round, who, &right) {
                None => return Word::Full(right),
                Some(shortage) => limited = limited.or(Some((right, shortage))),
            }
        }
        match (limited, barred) {
            (Some((right, shortage)), _) => Word::NoApproval(right, shortage),
            (None, Some(bar)) => Word::Barred(bar),
            (None, None) => Word::Nothing,
        }
    }

    /// Everybody who may have a word at the level of `round` that waits.
    pub fn signers(&self, flow: &Flow, round: &Round) -> Vec<Signer> {
        let mut signers: Vec<_> = self
            .people
            .values()
            .filter_map(|person| match self.word(flow, round, &person.id) {
                Word::Full(right) | Word::NoApproval(right, _) => {
                    Some(Signer { person: person.clone(), right })
                }
                Word::Nothing | Word::Barred(_) => None,
            })
            .collect();
        signers.sort_by(|a, b| a.person.name.cmp(&b.person.name));
        signers
    }

    /// Why the levels of `round` that nobody has signed do not all find somebody, each its own.
    ///
    /// Delegates make no difference here: where one may sign, so may the one on whose behalf, and
    /// the signature counts for both.
    pub fn shortage(&self, flow: &Flow, round: &Round) -> Option<Shortage> {
        let mut candidates: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for level in round.unsigned() {
            let by_role = self.free(round, Grounds::Role, |person| signs(person, flow, level));
            candidates.insert(level, by_role);
        }
        if round.escalated_at.is_some() && candidates.contains_key(&round.level) {
            let asked = self.free(round, Grounds::Escalation, |person| asked(person, flow, round));
            let by_role = candidates.entry(round.level).or_default();
            if self.rules.two_levels && by_role.is_empty() && !asked.is_empty() {
                return self.shortage_after_escalation(flow, round, asked);
            }
            by_role.extend(asked);
        }
        if self.rules.two_levels {
            let level = candidates.iter().find(|(_, people)| people.is_empty()).map(|(level, _)| *level);
            return level.map(|level| nobody(flow, level));
        }
        let short = matching::assign(&candidates).err()?;
        Some(match short.first() {
            Some(level) if short.len() == 1 => nobody(flow, *level),
            Some(_) | None => {
                let people: BTreeSet<_> =
                    short.iter().flat_map(|level| candidates.get(level).into_iter().flatten()).collect();
                let name = |id: &&&str| self.people.get(**id).map(|person| person.name.clone());
                let mut people: Vec<_> = people.iter().filter_map(name).collect();
                people.sort();
                Shortage::TooFew { levels: short.into_iter().collect(), people }
            }
        })
    }

    /// Where two levels may be signed, nobody is short of levels but those who sign by escalation:
    /// one of them must do whom the other levels can spare.
    fn shortage_after_escalation(
        &self,
        flow: &Flow,
        round: &Round,
        asked: BTreeSet<&str>,
    ) -> Option<Shortage> {
        let mut first = None;
        for signer in asked {
            let signer = signer.to_owned();
            let signature = Signature { level: round.level, signer, on_behalf_of: None, escalated: true };
            match self.shortage(flow, &round.with(signature)) {
                None => return None,
                Some(shortage) => first = first.or(Some(shortage)),
            }
        }
        first
    }

    /// Whom an escalation of the level that waits would let sign who may not by now.
    pub fn escalate(&self, flow: &Flow, round: &Round) -> Result<Vec<Signer>, NoEscalation> {
        let level = round.level;
        let escalated = Round { escalated_at: Some(round.since), ..round.clone() };
        let free = self.free(round, Grounds::Escalation, |person| asked(person, flow, round));
        let mut new: Vec<_> = free
            .into_iter()
            .filter(|id| matches!(self.word(flow, round, id), Word::Nothing | Word::Barred(_)))
            .collect();
        if new.is_empty() {
            return Err(NoEscalation::NobodyNew { level, to: addressees(flow, round) });
        }
        let mut short = None;
        new.retain(|id| {
            let right = Right { grounds: Grounds::Escalation, on_behalf_of: None };
            match self.left_short(flow, &escalated, id, &right) {
                None => true,
                Some(shortage) => {
                    short = short.take().or(Some(shortage));
                    false
                }
            }
        });
        match short {
            Some(shortage) if new.is_empty() => Err(NoEscalation::Leaves { level, shortage }),
            Some(_) | None => {
                // With those who stand in for the new ones.
                let before: BTreeSet<_> =
                    self.signers(flow, round).into_iter().map(|signer| signer.person.id).collect();
                let mut signers = self.signers(flow, &escalated);
                signers.retain(|signer| !before.contains(&signer.person.id));
                Ok(signers)
            }
        }
    }

    /// Those of a kind whom no rule of four eyes keeps from signing a level of `round`.
    fn free(&self, round: &Round, grounds: Grounds, of: impl Fn(&Person) -> bool) -> BTreeSet<&str> {
        let right = Right { grounds, on_behalf_of: None };
        self.people
            .values()
            .filter(|person| of(person) && self.bar(round, &person.id, &right).is_none())
            .map(|person| person.id.as_str())
            .collect()
    }

    /// What `who` could sign by, best first: as oneself rather than on behalf of another.
    fn rights(&self, flow: &Flow, round: &Round, who: &str) -> Vec<Right> {
        let mut rights = Vec::new();
        if !self.people.contains_key(who) {
            return rights;
        }
        let principals =
            self.stand_ins.iter().filter(|one| one.delegate == who).map(|one| one.principal.as_str());
        let holders: Vec<&str> = std::iter::once(who).chain(principals).collect();
        for grounds in [Grounds::Role, Grounds::Escalation] {
            for holder in &holders {
                let Some(person) = self.people.get(*holder) else { continue };
                let has = match grounds {
                    Grounds::Role => signs(person, flow, round.level),
                    Grounds::Escalation => round.escalated_at.is_some() && asked(person, flow, round),
                };
                if has {
                    let on_behalf_of = (*holder != who).then(|| (*holder).to_owned());
                    rights.push(Right { grounds, on_behalf_of });
                }
            }
        }
        rights
    }

    fn bar(&self, round: &Round, who: &str, right: &Right) -> Option<Bar> {
        let persons = || std::iter::once(who).chain(right.on_behalf_of.as_deref());
        if !self.rules.own_forms && persons().any(|person| self.filed(&round.author, person)) {
            return Some(Bar::OwnForm);
        }
        let binds = |signature: &&Signature| {
            !self.rules.two_levels || signature.escalated || right.grounds == Grounds::Escalation
        };
        let signed = |signature: &&Signature| persons().any(|who| signature.persons().any(|one| one == who));
        round.signatures.iter().filter(binds).find(signed).map(|one| Bar::Signed { level: one.level })
    }

    fn filed(&self, author: &Author, person: &str) -> bool {
        let address = self.people.get(person).and_then(|person| person.email.as_deref());
        let same = |email: &String| address.is_some_and(|address| address.eq_ignore_ascii_case(email));
        author.operator.as_deref() == Some(person) || author.emails.iter().any(same)
    }

    /// What would be missing if `who` approved by `right`. Where the levels do not find their
    /// signers anyway, nobody is kept from signing by it, but by escalation: that was granted
    /// because it would leave enough.
    fn left_short(&self, flow: &Flow, round: &Round, who: &str, right: &Right) -> Option<Shortage> {
        let signature = Signature {
            level: round.level,
            signer: who.to_owned(),
            on_behalf_of: right.on_behalf_of.clone(),
            escalated: right.grounds == Grounds::Escalation,
        };
        let after = Round { escalated_at: None, ..round.with(signature) };
        let shortage = self.shortage(flow, &after)?;
        match right.grounds {
            Grounds::Role => self.shortage(flow, round).is_none().then_some(shortage),
            Grounds::Escalation => Some(shortage),
        }
    }
}

fn signs(person: &Person, flow: &Flow, level: u32) -> bool {
    person.reviews && flow.may_sign(level, person.roles.iter().map(String::as_str))
}

/// Whom an escalation asks: the next level, after the last one administrators. Those manage
/// operators and review: they could give themselves any role, and so gain nothing by it.
fn asked(person: &Person, flow: &Flow, round: &Round) -> bool {
    if round.level < round.levels {
        signs(person, flow, round.level + 1)
    } else {
        person.reviews && person.manages
    }
}

fn addressees(flow: &Flow, round: &Round) -> String {
    if round.level < round.levels {
        let roles: Vec<_> = flow.roles_at(round.level + 1).iter().map(String::as_str).collect();
        format!("the signers of level {} ({})", round.level + 1, roles.join(", "))
    } else {
        "the operators with operators.manage and applications.review".to_owned()
    }
}

fn nobody(flow: &Flow, level: u32) -> Shortage {
    Shortage::Nobody { level, roles: flow.roles_at(level).iter().cloned().collect() }
}
