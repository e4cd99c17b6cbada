//! Random actions by random people on the state machine alone.

use gate::time::UnixMillis;
use proptest::prelude::*;

use crate::applications::model::State as FormState;
use crate::applications::model::{Action, Effect, Next, Signing, Standing};

/// Everybody that the rules tell apart.
fn standings() -> Vec<Standing> {
    let mut all = Vec::new();
    for applicant in [false, true] {
        for overseer in [false, true] {
            for signing in [
                Signing::No,
                Signing::OwnForm,
                Signing::Signed { level: 1 },
                Signing::NoApproval { level: 2 },
                Signing::Full,
            ] {
                all.push(Standing { applicant, signing, overseer });
            }
        }
    }
    all
}

/// What the state machine knows of itself, told again by somebody who only watches.
#[derive(Default)]
struct Watcher {
    /// Levels as submitted last.
    levels: u32,
    /// Approvals since then.
    approvals: u32,
    /// Last signatures ever.
    effects: u32,
    ended: bool,
}

impl Watcher {
    fn sees(&mut self, action: Action, who: Standing, before: &FormState, after: &FormState) {
        let filed = [Action::Edit, Action::Delete, Action::Submit, Action::Resubmit, Action::Withdraw];
        assert!(!filed.contains(&action) || who.applicant, "{action:?} by {who:?}");
        match action {
            Action::Submit | Action::Resubmit => {
                let FormState::PendingOrder { level: 1, levels } = *after else { panic!("{after:?}") };
                (self.levels, self.approvals) = (levels, 0);
            }
            Action::Approve => {
                assert_eq!(who.signing, Signing::Full);
                let FormState::PendingOrder { level, levels } = *before else { panic!("{before:?}") };
                self.approvals += 1;
                assert_eq!((level, levels), (self.approvals, self.levels), "no level is left out");
                match *after {
                    FormState::PendingOrder { level: next, .. } => assert_eq!(next, level + 1),
                    FormState::Approved { .. } => {
                        assert_eq!(self.approvals, self.levels, "every level has signed");
                        self.effects += 1;
                    }
                    ref other => panic!("{other:?}"),
                }
            }
            Action::Return | Action::Reject => {
                assert!(matches!(who.signing, Signing::Full | Signing::NoApproval { .. }));
            }
            Action::Withdraw => assert_eq!(self.approvals_since_return(before), 0),
            Action::Stop => assert!(who.applicant || who.overseer),
            Action::Edit | Action::Delete => {}
        }
        assert!(self.effects <= 1, "one effect for one form");
        assert!(!self.ended, "{action:?} after the end, {before:?}");
        self.ended = after.is_final();
    }

    fn approvals_since_return(&self, before: &FormState) -> u32 {
        match before {
            FormState::PendingOrder { .. } => self.approvals,
            _ => 0,
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_of_actions_reaches_an_illegal_state(
        steps in prop::collection::vec((0..Action::ALL.len(), 0..20_usize, 1..5_u32, any::<bool>()), 1..80),
    ) {
        let everybody = standings();
        let (mut state, mut watcher) = (FormState::Draft, Watcher::default());
        for (at, (action, who, levels, scheduled)) in (1_i64..).zip(steps) {
            let (action, who, now) = (Action::ALL[action], everybody[who], UnixMillis(at));
            let offered = state.actions(who).contains(&action);
            let found = state.act(action, who, levels, now);
            prop_assert_eq!(offered, found.is_ok(), "{:?} on {:?} by {:?}", action, state, who);
            let after = match found {
                Err(_) => continue,
                Ok(Next::Gone) => {
                    prop_assert_eq!(&state, &FormState::Draft, "drafts alone are thrown away");
                    break;
                }
                Ok(Next::Stands(after)) => after,
                Ok(Next::Effect(signature)) => signature.approved(match scheduled {
                    true => Effect::Scheduled { due: now },
                    false => Effect::Done { at: now, key: "key_1".into() },
                }),
            };
            watcher.sees(action, who, &state, &after);
            state = after;
        }
    }
}
