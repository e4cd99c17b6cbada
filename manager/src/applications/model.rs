//! The life of a form:
//! `Draft → PendingOrder(level) → Approved | Rejected | Returned → …`, `Cancelled`.
//!
//! [`State::act`] is the only place that says which action leads where and who may take it.

use gate::id::{ClientId, CredentialId};
use gate::time::UnixMillis;
use thiserror::Error;

use super::applicant::Applicant;
use super::form::Form;
use super::number::FormNumber;
use crate::openapi::schema::schema_of;

/// Characters of a reviewer's or applicant's comment at most.
pub const MAX_COMMENT_CHARS: usize = 500;

/// A form with what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Opaque, for addresses and tables.
    pub id: String,
    /// Drawn at the first submission.
    pub number: Option<FormNumber>,
    /// What it asks for.
    pub form: Form,
    /// Who filed it.
    pub applicant: Applicant,
    /// KA: the addresses to which the new key's credentials go, as when it was submitted last; none:
    /// not submitted since it was edited, by an older version, or no KA.
    pub credentials_go_to: Option<Vec<String>>,
    /// Where it stands.
    pub state: State,
    /// Goes up with every action: what `If-Match` compares.
    pub version: i64,
    /// When it was first saved.
    pub created_at: UnixMillis,
    /// When it was submitted last; none while it never was.
    pub submitted_at: Option<UnixMillis>,
    /// When anything last happened to it.
    pub updated_at: UnixMillis,
}

/// Where a form stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Saved, not submitted.
    Draft,
    /// Waits for a signature.
    PendingOrder {
        /// The level that signs next, from 1.
        level: u32,
        /// How many levels there were when it was submitted.
        levels: u32,
    },
    /// Sent back to the applicant, who may edit and re-submit it.
    Returned {
        /// The level that returned it.
        level: u32,
        /// How many levels there were when it was submitted.
        levels: u32,
    },
    /// Signed by every level.
    Approved {
        /// When the last level signed.
        at: UnixMillis,
        /// What became of what it asked for.
        effect: Effect,
    },
    /// Refused for good.
    Rejected {
        /// When.
        at: UnixMillis,
        /// The level that refused it.
        level: u32,
    },
    /// Withdrawn by the applicant for good, or its client was deleted.
    Cancelled {
        /// When.
        at: UnixMillis,
    },
}

/// What became of what an approved form asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The key was issued, changed or revoked.
    Done {
        /// When.
        at: UnixMillis,
        /// Which key.
        key: CredentialId,
    },
    /// The client was made.
    Registered {
        /// When.
        at: UnixMillis,
        /// Which client.
        client: ClientId,
    },
    /// The change happens later; until then the key runs on its old settings.
    Scheduled {
        /// 00:00 of the effective date in the installation's zone.
        due: UnixMillis,
    },
    /// Somebody stopped the scheduled change before it was due.
    Stopped {
        /// When.
        at: UnixMillis,
    },
    /// The scheduled change could not be made when it was due.
    Failed {
        /// When.
        at: UnixMillis,
        /// Why, as the people who read the form are told.
        reason: String,
    },
}

/// What somebody may do with a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Replace the fields.
    Edit,
    /// Throw a draft away.
    Delete,
    /// Hand a draft in for review.
    Submit,
    /// Hand a returned form in again.
    Resubmit,
    /// Sign the level that waits.
    Approve,
    /// Send the form back to the applicant.
    Return,
    /// Refuse the form for good.
    Reject,
    /// Take the form back for good.
    Withdraw,
    /// Stop an approved change that is not yet due.
    Stop,
}

/// Who acts, as far as the rules want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Filed the form.
    pub applicant: bool,
    /// Their word at the level that waits.
    pub signing: Signing,
    /// May stop scheduled changes of others.
    pub overseer: bool,
}

/// What somebody may say at the level that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// Nothing: neither a role nor a delegation or an escalation makes them a signer of it.
    #[default]
    No,
    /// Nothing: they, or those on whose behalf they would sign, filed the form.
    OwnForm,
    /// Nothing: they, or those on whose behalf they would sign, have signed another level.
    Signed {
        /// Which.
        level: u32,
    },
    /// To return or reject it; with an approval of theirs a level would be left without signers.
    NoApproval {
        /// Which.
        level: u32,
    },
    /// To approve, return or reject it.
    Full,
}

/// One thing that happened to a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The version of the form that it made.
    pub version: i64,
    /// When.
    pub at: UnixMillis,
    /// Who did it, as an [`Applicant`] is written, or [`Step::BY_ITSELF`].
    pub actor: String,
    /// `save`, the name of an [`Action`], `apply` and `fail` for a scheduled change, or `cancel`:
    /// the client was deleted.
    pub action: String,
    /// The level that signed, returned or refused.
    pub level: Option<u32>,
    /// The operator on whose behalf the actor signed, returned or refused as a delegate.
    pub on_behalf_of: Option<String>,
    /// It took an escalation for the actor to be allowed.
    pub escalated: bool,
    /// What the actor said about it; empty = nothing.
    pub comment: String,
    /// The name of the state that the form stood in afterwards.
    pub state: String,
}

impl Step {
    /// The actor of what the manager did when it was due.
    pub const BY_ITSELF: &str = "keygate";
    /// The action of an escalation that found nobody: it changes nothing.
    pub const ESCALATION_REFUSED: &str = "escalation_refused";
}

/// Where an action leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The form is gone.
    Gone,
    /// The form stands there.
    Stands(State),
    /// The last level signed: what the form asks for is to be done now.
    Effect(LastSignature),
}

/// Proof that every level has signed. Only [`State::act`] makes one, so that nothing is issued,
/// changed or revoked without it.
#[derive(Debug, PartialEq, Eq)]
pub struct LastSignature {
    at: UnixMillis,
}

impl Action {
    /// Every action, in the order in which they are offered.
    pub const ALL: [Self; 9] = [
        Self::Edit,
        Self::Delete,
        Self::Submit,
        Self::Resubmit,
        Self::Approve,
        Self::Return,
        Self::Reject,
        Self::Withdraw,
        Self::Stop,
    ];

    /// Whether it is a reviewer's word on the level that waits.
    pub fn is_review(self) -> bool {
        matches!(self, Self::Approve | Self::Return | Self::Reject)
    }

    /// As the API, the history and messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Submit => "submit",
            Self::Resubmit => "resubmit",
            Self::Approve => "approve",
            Self::Return => "return",
            Self::Reject => "reject",
            Self::Withdraw => "withdraw",
            Self::Stop => "stop",
        }
    }
}

schema_of! { State as ApplicationState: one_of(State::NAMES) }
schema_of! { Action as ApplicationAction: one_of(Action::ALL.map(Action::name)) }

impl State {
    /// The names of all states, see [`State::name`].
    pub const NAMES: [&str; 6] = ["draft", "pending_order", "returned", "approved", "rejected", "cancelled"];

    /// What `action` by somebody of that `standing` leads to, or why it may not be.
    ///
    /// `flow_levels` is the number of levels the flow has now: what a form is submitted with.
    pub fn act(
        &self,
        action: Action,
        standing: Standing,
        flow_levels: u32,
        now: UnixMillis,
    ) -> Result<Next, Refusal> {
        use Next::{Effect as Last, Gone, Stands};
        let refuse = || Err(Refusal::WrongState { action, state: self.name() });
        let pending = |level| State::PendingOrder { level, levels: flow_levels };
        match (self, action) {
            (Self::Draft | Self::Returned { .. }, Action::Edit) => {
                standing.must_be_applicant(action)?;
                Ok(Stands(self.clone()))
            }
            (Self::Draft, Action::Delete) => standing.must_be_applicant(action).map(|()| Gone),
            (Self::Draft, Action::Submit) | (Self::Returned { .. }, Action::Resubmit) => {
                standing.must_be_applicant(action).map(|()| Stands(pending(1)))
            }
            (&Self::PendingOrder { level, levels }, Action::Approve) => {
                standing.must_approve(level)?;
                if level < levels {
                    Ok(Stands(Self::PendingOrder { level: level + 1, levels }))
                } else {
                    Ok(Last(LastSignature { at: now }))
                }
            }
            (&Self::PendingOrder { level, levels }, Action::Return) => {
                standing.must_sign(level).map(|()| Stands(Self::Returned { level, levels }))
            }
            (&Self::PendingOrder { level, .. }, Action::Reject) => {
                standing.must_sign(level).map(|()| Stands(Self::Rejected { at: now, level }))
            }
            (Self::Draft | Self::PendingOrder { .. } | Self::Returned { .. }, Action::Withdraw) => {
                standing.must_be_applicant(action)?;
                match *self {
                    // A second level waits only because a reviewer of the first has signed.
                    Self::PendingOrder { level, .. } if level > 1 => Err(Refusal::ReviewerActed { level }),
                    _ => Ok(Stands(Self::Cancelled { at: now })),
                }
            }
            (Self::Approved { at, effect: Effect::Scheduled { .. } }, Action::Stop) => {
                standing.must_oversee()?;
                Ok(Stands(Self::Approved { at: *at, effect: Effect::Stopped { at: now } }))
            }
            (
                Self::Draft,
                Action::Resubmit | Action::Approve | Action::Return | Action::Reject | Action::Stop,
            )
            | (Self::PendingOrder { .. }, Action::Edit | Action::Delete | Action::Submit)
            | (Self::PendingOrder { .. }, Action::Resubmit | Action::Stop)
            | (Self::Returned { .. }, Action::Delete | Action::Submit | Action::Approve)
            | (Self::Returned { .. }, Action::Return | Action::Reject | Action::Stop)
            | (Self::Approved { .. } | Self::Rejected { .. } | Self::Cancelled { .. }, _) => refuse(),
        }
    }

    /// Where the form ends when its client is deleted; None: it has ended already.
    pub fn client_gone(&self, now: UnixMillis) -> Option<Self> {
        match self {
            Self::Draft | Self::PendingOrder { .. } | Self::Returned { .. } => {
                Some(Self::Cancelled { at: now })
            }
            Self::Approved { at, effect: Effect::Scheduled { .. } } => {
                Some(Self::Approved { at: *at, effect: Effect::Stopped { at: now } })
            }
            Self::Approved { .. } | Self::Rejected { .. } | Self::Cancelled { .. } => None,
        }
    }

    /// What somebody of that standing may do now.
    pub fn actions(&self, standing: Standing) -> Vec<Action> {
        let may = |action: &Action| self.act(*action, standing, 1, UnixMillis(0)).is_ok();
        Action::ALL.into_iter().filter(may).collect()
    }

    /// As the API and the table call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::PendingOrder { .. } => "pending_order",
            Self::Returned { .. } => "returned",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// As people read it.
    pub fn label(&self) -> String {
        match self {
            Self::Draft => "Draft".to_owned(),
            Self::PendingOrder { level, levels } => format!("Pending order (level {level} of {levels})"),
            Self::Returned { level, .. } => format!("Returned by level {level}"),
            Self::Approved { effect: Effect::Scheduled { .. }, .. } => "Approved, scheduled".to_owned(),
            Self::Approved { effect: Effect::Stopped { .. }, .. } => "Approved, then stopped".to_owned(),
            Self::Approved { effect: Effect::Failed { .. }, .. } => "Approved, but not applied".to_owned(),
            Self::Approved { effect: Effect::Done { .. } | Effect::Registered { .. }, .. } => {
                "Approved".to_owned()
            }
            Self::Rejected { level, .. } => format!("Rejected by level {level}"),
            Self::Cancelled { .. } => "Cancelled".to_owned(),
        }
    }

    /// Whether nothing more can happen to it.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Draft | Self::PendingOrder { .. } | Self::Returned { .. } => false,
            Self::Approved { effect, .. } => !matches!(effect, Effect::Scheduled { .. }),
            Self::Rejected { .. } | Self::Cancelled { .. } => true,
        }
    }

    /// Whether a change or revocation was approved and waits for its day.
    pub fn is_scheduled(&self) -> bool {
        matches!(self, Self::Approved { effect: Effect::Scheduled { .. }, .. })
    }

    /// Whether the form keeps other change and revoke forms away from its key.
    pub fn holds_key(&self) -> bool {
        !matches!(self, Self::Draft) && !self.is_final()
    }
}

impl LastSignature {
    /// The state of a form whose effect has been carried out or put off.
    pub fn approved(self, effect: Effect) -> State {
        State::Approved { at: self.at, effect }
    }

    /// When the last level signed.
    pub fn at(&self) -> UnixMillis {
        self.at
    }
}

impl Standing {
    fn must_be_applicant(self, action: Action) -> Result<(), Refusal> {
        if self.applicant { Ok(()) } else { Err(Refusal::NotApplicant { action }) }
    }

    fn must_sign(self, level: u32) -> Result<(), Refusal> {
        match self.signing {
            Signing::No => Err(Refusal::NotReviewer { level }),
            Signing::OwnForm => Err(Refusal::OwnForm),
            Signing::Signed { level } => Err(Refusal::SignedAnother { level }),
            Signing::NoApproval { .. } | Signing::Full => Ok(()),
        }
    }

    fn must_approve(self, level: u32) -> Result<(), Refusal> {
        self.must_sign(level)?;
        match self.signing {
            Signing::NoApproval { level } => Err(Refusal::NeededElsewhere { level }),
            Signing::No | Signing::OwnForm | Signing::Signed { .. } | Signing::Full => Ok(()),
        }
    }

    /// Whether that alone lets somebody see the form.
    pub fn sees(self) -> bool {
        self.applicant || self.signing != Signing::No
    }

    fn must_oversee(self) -> Result<(), Refusal> {
        if self.applicant || self.overseer { Ok(()) } else { Err(Refusal::NotOverseer) }
    }
}

/// Why an action may not be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The form does not stand where the action begins.
    #[error("cannot {} a form that is {state}", action.name())]
    WrongState {
        /// What was tried.
        action: Action,
        /// Where the form stands.
        state: &'static str,
    },
    /// Only who filed the form may.
    #[error("only the applicant can {} a form", action.name())]
    NotApplicant {
        /// What was tried.
        action: Action,
    },
    /// No role of the level that waits.
    #[error("level {level} waits for a signature, and neither a role nor a delegation of yours signs it")]
    NotReviewer {
        /// The level that waits.
        level: u32,
    },
    /// The token was issued for less than reviewing.
    #[error(
        "your token does not reach `applications.review`, which it takes to approve, return or reject: use one that \
         does, or sign in"
    )]
    TokenOutOfReach,
    /// The applicant has the role, but signs only forms of others.
    #[error(
        "applicants cannot review their own forms, nor can their delegates do it for them, or they for others \
         (setting `allow_self_approval`); a client's form counts as filed by the operators with one of its addresses \
         and by the one who entered its password, too"
    )]
    OwnForm,
    /// Signed another level of this round.
    #[error(
        "you, or the one on whose behalf you would sign, have signed level {level} since the form was submitted, and \
         nobody signs two levels (setting `allow_signing_two_levels`; never after an escalation)"
    )]
    SignedAnother {
        /// Which.
        level: u32,
    },
    /// An approval would leave another level without.
    #[error(
        "if you approved, nobody would be left to sign level {level}: leave this one to another reviewer; you may \
         return or reject the form"
    )]
    NeededElsewhere {
        /// Which.
        level: u32,
    },
    /// Neither the applicant nor somebody who administers keys.
    #[error("only the applicant or an administrator of keys can stop a scheduled change")]
    NotOverseer,
    /// Too late to withdraw.
    #[error("a reviewer has already signed, the form waits at level {level}: ask a reviewer to return it")]
    ReviewerActed {
        /// The level that waits.
        level: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn pending(level: u32, levels: u32) -> State {
        State::PendingOrder { level, levels }
    }

    fn approved(effect: Effect) -> State {
        State::Approved { at: UnixMillis(1), effect }
    }

    fn actors() -> [(&'static str, Standing); 8] {
        let nobody = Standing::default();
        let signing = |signing| Standing { signing, ..nobody };
        [
            ("stranger", nobody),
            ("applicant", Standing { applicant: true, ..nobody }),
            ("reviewer", signing(Signing::Full)),
            ("own reviewer", Standing { applicant: true, ..signing(Signing::OwnForm) }),
            ("own reviewer, allowed", Standing { applicant: true, ..signing(Signing::Full) }),
            ("overseer", Standing { overseer: true, ..nobody }),
            ("signer of another level", signing(Signing::Signed { level: 1 })),
            ("needed elsewhere", signing(Signing::NoApproval { level: 2 })),
        ]
    }

    /// Every (state, action) with what it leads to for (stranger, applicant, reviewer, own
    /// reviewer, own reviewer with self-approval, overseer, signer of another level, one who is
    /// needed there): `>` goes on, `a` not the applicant, `r` not a reviewer, `o` own form, `2` has
    /// signed another level, `n` needed elsewhere, `s` may not stop, `l` too late. Pairs not listed are refused to all as the wrong state.
    #[test]
    fn every_state_action_and_actor() {
        let scheduled = approved(Effect::Scheduled { due: UnixMillis(2_000) });
        let done = approved(Effect::Done { at: NOW, key: "key_1".into() });
        let stopped = approved(Effect::Stopped { at: NOW });
        let failed = approved(Effect::Failed { at: NOW, reason: "the key was revoked".into() });
        let rejected = State::Rejected { at: NOW, level: 1 };
        let cancelled = State::Cancelled { at: NOW };
        let returned = State::Returned { level: 2, levels: 2 };
        let last = || Next::Effect(LastSignature { at: NOW });
        let to = Next::Stands;
        let own = "a>a>>aaa";
        let sign = "rr>o>r2n";
        let word = "rr>o>r2>";
        let table = vec![
            (State::Draft, Edit, own, to(State::Draft)),
            (State::Draft, Delete, own, Next::Gone),
            (State::Draft, Submit, own, to(pending(1, 3))),
            (State::Draft, Withdraw, own, to(cancelled.clone())),
            (pending(1, 2), Approve, sign, to(pending(2, 2))),
            (pending(1, 2), Return, word, to(State::Returned { level: 1, levels: 2 })),
            (pending(1, 2), Reject, word, to(rejected.clone())),
            (pending(1, 2), Withdraw, own, to(cancelled.clone())),
            (pending(2, 2), Approve, sign, last()),
            (pending(2, 2), Return, word, to(returned.clone())),
            (pending(2, 2), Reject, word, to(State::Rejected { at: NOW, level: 2 })),
            (pending(2, 2), Withdraw, "alallaaa", last()),
            (pending(1, 1), Approve, sign, last()),
            (pending(1, 1), Return, word, to(State::Returned { level: 1, levels: 1 })),
            (pending(1, 1), Reject, word, to(rejected.clone())),
            (pending(1, 1), Withdraw, own, to(cancelled.clone())),
            (returned.clone(), Edit, own, to(returned.clone())),
            (returned.clone(), Resubmit, own, to(pending(1, 3))),
            (returned.clone(), Withdraw, own, to(cancelled.clone())),
            (scheduled.clone(), Stop, "s>s>>>ss", to(stopped.clone())),
        ];
        let states = [
            State::Draft,
            pending(1, 2),
            pending(2, 2),
            pending(1, 1),
            returned,
            scheduled,
            done,
            stopped,
            failed,
            rejected,
            cancelled,
        ];
        for state in &states {
            for action in Action::ALL {
                let row = table.iter().find(|row| (&row.0, row.1) == (state, action));
                for (place, (who, standing)) in actors().into_iter().enumerate() {
                    // The time of a stopped change's approval stays; the rest happens now.
                    let found = state.act(action, standing, 3, NOW);
                    let told = row.map_or("wwwwwwww", |row| row.2).as_bytes()[place];
                    let as_told = match (told, &found) {
                        (b'>', Ok(next)) => row.is_some_and(|row| &row.3 == next),
                        (b'a', Err(Refusal::NotApplicant { .. })) => true,
                        (b'r', Err(Refusal::NotReviewer { .. })) => true,
                        (b'o', Err(Refusal::OwnForm)) => true,
                        (b'2', Err(Refusal::SignedAnother { level: 1 })) => true,
                        (b'n', Err(Refusal::NeededElsewhere { level: 2 })) => true,
                        (b's', Err(Refusal::NotOverseer)) => true,
                        (b'l', Err(Refusal::ReviewerActed { level: 2 })) => true,
                        (b'w', Err(Refusal::WrongState { .. })) => true,
                        _ => false,
                    };
                    assert!(as_told, "{who} takes {action:?} on {state:?}: {found:?}");
                    let offered = state.actions(standing).contains(&action);
                    assert_eq!(offered, found.is_ok(), "{who} is offered {action:?} on {state:?}");
                }
            }
        }
    }

    #[test]
    fn a_form_holds_its_key_from_submission_to_its_end() {
        let holding = [
            (State::Draft, false),
            (pending(1, 1), true),
            (State::Returned { level: 1, levels: 1 }, true),
            (approved(Effect::Scheduled { due: NOW }), true),
            (approved(Effect::Stopped { at: NOW }), false),
            (approved(Effect::Done { at: NOW, key: "key_1".into() }), false),
            (approved(Effect::Failed { at: NOW, reason: String::new() }), false),
            (State::Rejected { at: NOW, level: 1 }, false),
            (State::Cancelled { at: NOW }, false),
        ];
        for (state, holds) in holding {
            assert_eq!(state.holds_key(), holds, "{state:?}");
        }
    }
}
