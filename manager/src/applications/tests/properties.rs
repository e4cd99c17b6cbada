//! Random actions by random people: on the state machine alone, and through the router.

use gate::time::UnixMillis;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config as Cases, TestRunner};

use super::*;
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

/// One who acts in a random story, and the action.
type Move = (usize, usize);

#[derive(Debug)]
struct Story {
    kind: &'static str,
    moves: Vec<Move>,
}

fn story() -> impl Strategy<Value = Story> {
    let kind = prop::sample::select(vec!["KA", "KU", "KR", "CR"]);
    // Towards the end of the actions there are more approvals, or few forms would come to an end.
    let moves = prop::collection::vec((0..7_usize, 0..Action::ALL.len() + 4), 30);
    (kind, moves).prop_map(|(kind, moves)| Story { kind, moves })
}

fn action_of(index: usize) -> Action {
    Action::ALL.get(index).copied().unwrap_or(match index % 2 {
        0 => Action::Approve,
        _ => Action::Submit,
    })
}

/// Plays a story on one form; whatever is offered is accepted, and nothing else.
async fn play(stage: &Stage, people: &[Caller], story: &Story) {
    let body = match story.kind {
        "KA" => stage.form(),
        "CR" => json!({
            "type": "CR", "name": "globex", "display_name": "Globex", "emails": "ops@globex.example",
            "description": "x",
        }),
        kind => {
            let key = stage.key().await;
            let form =
                json!({ "type": kind, "key": key, "effective_date": "2026-01-20", "description": "x" });
            match kind {
                "KR" => form,
                _ => json!({
                    "type": kind, "key": key, "effective_date": "2026-01-20", "description": "x", "name": "new",
                    "expiry_date": "2026-12-31", "quota": 5, "apis": [stage.apis[0]],
                }),
            }
        }
    };
    let counted = async || {
        (
            stage.count("SELECT COUNT(*) FROM keys").await,
            stage.count("SELECT COUNT(*) FROM clients").await,
            stage
                .count("SELECT COUNT(*) FROM audit_entries WHERE action IN ('keys.change', 'keys.revoke')")
                .await,
        )
    };
    let before = counted().await;
    let id = stage.draft(body.clone()).await;
    let mut version = 1;
    for (turn, (who, action)) in story.moves.iter().enumerate() {
        let (caller, action) = (&people[who % people.len()], action_of(*action));
        let about = format!("{story:?}, move {turn}: {} {action:?}", caller.id);
        let seen = caller.get(&path(&id, "")).await;
        let offers = |action: Action| match seen.status {
            200 => seen.body["actions"].as_array().expect("a list").contains(&json!(action.name())),
            _ => false,
        };
        let etag = format!("\"{version}\"");
        let headers = [("if-match", etag.as_str())];
        let answer = match action {
            Action::Edit => {
                let fields = Some(without(body.clone(), "type"));
                caller.send(Method::PUT, &path(&id, ""), &headers, fields).await
            }
            Action::Delete => caller.send(Method::DELETE, &path(&id, ""), &headers, None).await,
            _ => stage.act_on(caller, &id, action.name(), &etag, "").await,
        };
        assert!(answer.status < 500, "{about}: {:#}", answer.body);
        let accepted = answer.status < 300;
        assert_eq!(accepted, offers(action), "{about}: {} {:#}", answer.status, answer.body);
        if accepted && action == Action::Delete {
            stage.admin.get(&path(&id, "")).await.problem(404, "not_found");
            return;
        }
        version += i64::from(accepted);
        let form = stage.read(&id).await;
        assert_eq!(form["version"], json!(version), "{about}");
        let history = form["history"].as_array().expect("a history");
        let versions: Vec<_> = history.iter().map(|step| step["version"].as_i64()).collect();
        assert_eq!(versions, (1..=version).map(Some).collect::<Vec<_>>(), "{about}: no version is missing");
        assert_eq!(history.last().map(|step| &step["state"]), Some(&form["state"]), "{about}");
    }
    let scheduled = stage.read(&id).await["effect"]["state"] == "scheduled";
    for _ in 0..2 {
        stage.world.advance_ms(6 * DAY_MS);
        apply_due(&stage.world.app).await.expect("a run");
    }
    let form = stage.read(&id).await;
    assert!(!scheduled || form["effect"]["state"] == "done", "{story:?}: {form:#}");
    let after = counted().await;
    let effects = (after.0 - before.0) + (after.1 - before.1) + (after.2 - before.2);
    assert_eq!(
        effects,
        i64::from(form["effect"]["state"] == "done"),
        "{story:?}: one effect or none: {form:#}"
    );
}

#[tokio::test]
async fn no_random_story_ends_in_two_effects_or_a_gap() {
    let mut runner = TestRunner::new_with_rng(
        Cases::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    for _ in 0..10 {
        let story = story().new_tree(&mut runner).expect("a story").current();
        let stage = Stage::set(World::sqlite().await).await;
        for kind in ["KA", "KU", "KR", "CR"] {
            stage.flow(kind, json!([["reviewer_1"], ["reviewer_2"]])).await;
        }
        let stranger = stage.world.operator("arthur", &["applicant"]).await;
        let delegate = stage.world.operator("della", &["applicant"]).await;
        let leave =
            json!({ "delegate": delegate.id, "until": World::START.0 + 30 * DAY_MS, "reason": "leave" });
        stage.rita.post("/api/v1/delegations", leave).await.expect(201);
        let overseer = stage.world.operator("otto", &["client_manager"]).await;
        // The applicant and the reviewers twice: most of the others' actions are refused.
        let people = [
            stage.anna.clone(),
            stage.rita.clone(),
            stage.ralph.clone(),
            stage.anna.clone(),
            stranger,
            delegate,
            overseer,
        ];
        play(&stage, &people, &story).await;
    }
}
