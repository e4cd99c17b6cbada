//! Random stories through the router: whoever has to do with forms takes random actions on one, while hours
//! pass and levels are escalated. Whatever is offered is accepted and nothing else, and the form has its
//! effect once or not at all.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::applications::model::Action;

const HOUR_MS: i64 = 3_600_000;

/// Hours after which a level that waits is escalated.
const ESCALATION_H: u32 = 1;

/// Times at most that a story waits for that long: dates of the form are not to pass meanwhile.
const MAX_WAITS: u32 = 20;

/// Who takes part, by which door.
struct Person {
    name: &'static str,
    caller: Caller,
    door: Door,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Operator,
    Client,
    Visitor,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    /// One of those who take part, by number, takes an action.
    Act(usize, Action),
    /// Hours pass.
    Wait,
}

#[derive(Debug)]
struct Story {
    kind: &'static str,
    filed_by: Door,
    moves: Vec<Move>,
}

/// What has happened in all stories, so that nobody takes part in name alone.
#[derive(Debug, Default)]
struct Seen {
    done: BTreeSet<(&'static str, &'static str)>,
    by_delegates: u32,
    by_escalation: u32,
    refused_to_clients: u32,
}

fn story(kind: &'static str, filed_by: Door) -> impl Strategy<Value = Story> {
    // More words of reviewers than of others, or few forms would come to an end.
    let action = prop_oneof![
        2 => prop::sample::select(Action::ALL.to_vec()),
        4 => Just(Action::Approve),
        1 => Just(Action::Submit),
        1 => Just(Action::Resubmit),
    ];
    let act = (0..32_usize, action).prop_map(|(who, action)| Move::Act(who, action));
    let moves = prop::collection::vec(prop_oneof![6 => act, 1 => Just(Move::Wait)], 45);
    moves.prop_map(move |moves| Story { kind, filed_by, moves })
}

impl Person {
    fn path(&self, id: &str) -> String {
        match self.door {
            Door::Operator => format!("{FORMS}/{id}"),
            Door::Client => format!("/client/v1/applications/{id}"),
            Door::Visitor => "/client/v1/registration".to_owned(),
        }
    }

    /// None: there is no such call behind that door.
    async fn act(&self, id: &str, action: Action, version: i64, body: &Value) -> Option<Answer> {
        let reviews = action.is_review();
        match self.door {
            Door::Operator => {}
            Door::Client if reviews => return None,
            Door::Client => {}
            Door::Visitor if !matches!(action, Action::Edit | Action::Resubmit | Action::Withdraw) => {
                return None;
            }
            Door::Visitor => {}
        }
        let (path, etag) = (self.path(id), format!("\"{version}\""));
        let headers = [("if-match", etag.as_str())];
        let comment = Some(json!({ "comment": "" }));
        let send = async |method, path: &str, body| self.caller.send(method, path, &headers, body).await;
        Some(match action {
            Action::Edit => send(Method::PUT, &path, Some(without(body.clone(), "type"))).await,
            Action::Delete => send(Method::DELETE, &path, None).await,
            Action::Submit | Action::Resubmit => {
                send(Method::POST, &format!("{path}/{}", action.name()), None).await
            }
            _ => send(Method::POST, &format!("{path}/{}", action.name()), comment).await,
        })
    }
}

impl Stage {
    async fn signed_in(&self, client: &str, password: &str) -> Caller {
        let body = json!({ "client": client, "password": password });
        let session = self.world.anon().post("/client/v1/session", body).await.expect(201);
        self.world.bearer(session["token"].as_str().expect("a token"))
    }

    /// Files the form of a visitor, who has confirmed an address.
    async fn asked(&self, body: &Value) -> (Caller, String) {
        self.world.mailed().await;
        let ask = self.world.anon().post("/client/v1/registrations", without(body.clone(), "type")).await;
        ask.expect(202);
        let mails = self.world.mailed().await;
        let token =
            mails.iter().find_map(|mail| mail.text.lines().find_map(|line| line.strip_prefix("Token:")));
        let token = json!({ "token": token.expect("a token").trim() });
        let filed = self.world.anon().post("/client/v1/registrations/confirm", token).await.expect(201);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (self.world.bearer(&text(&filed["token"])), text(&filed["application"]["id"]))
    }

    async fn body_of(&self, kind: &str) -> Value {
        let from = json!("2026-01-20");
        match kind {
            "KA" => with(self.form(), "effective_date", from),
            "CR" => json!({
                "type": "CR", "name": "globex", "display_name": "Globex", "emails": "ops@globex.example",
                "description": "x",
            }),
            _ => {
                let key = self.key().await;
                let form = json!({ "type": kind, "key": key, "effective_date": from, "description": "x" });
                match kind {
                    "KR" => form,
                    _ => json!({
                        "type": kind, "key": key, "effective_date": from, "description": "x", "name": "new",
                        "expiry_date": "2026-12-31", "quota": 5, "apis": [self.apis[0]],
                    }),
                }
            }
        }
    }

    /// Keys, clients, and how often a key was changed or revoked.
    async fn effects(&self) -> i64 {
        self.count(
            "SELECT (SELECT COUNT(*) FROM keys) + (SELECT COUNT(*) FROM clients)
                  + (SELECT COUNT(*) FROM audit_entries WHERE action IN ('keys.change', 'keys.revoke'))",
        )
        .await
    }

    /// The form, whose history and trail have no gap, and no round of which anybody signed twice.
    async fn sound(&self, id: &str, about: &str) -> Value {
        let form = self.read(id).await;
        let history = form["history"].as_array().expect("a history");
        let versions: Vec<_> = history.iter().map(|step| step["version"].as_i64()).collect();
        let expected: Vec<_> = (1..=form["version"].as_i64().expect("a version")).map(Some).collect();
        assert_eq!(versions, expected, "{about}: no version is missing");
        assert_eq!(history.last().map(|step| &step["state"]), Some(&form["state"]), "{about}");
        let trail = self.admin.get(&path(id, "trail")).await.expect(200);
        for round in trail["rounds"].as_array().expect("rounds") {
            let mut persons = BTreeSet::new();
            let levels = round["levels"].as_array().expect("levels");
            for (level, told) in (1_u64..).zip(levels) {
                assert_eq!(told["level"], json!(level), "{about}: no level is left out: {trail:#}");
                let last = usize::try_from(level).expect("small") == levels.len();
                assert!(last || told["result"] == "approve", "{about}: {trail:#}");
                if told["result"] == "approve" {
                    for person in [&told["by"]["id"], &told["on_behalf_of"]["id"]] {
                        let again = person.is_string() && !persons.insert(person.to_string());
                        assert!(!again, "{about}: signed two levels: {trail:#}");
                        assert_ne!(person, &form["applicant"], "{about}: the own form");
                    }
                }
            }
        }
        form
    }
}

/// Plays a story on one form.
async fn play(stage: &Stage, story: &Story, seen: &mut Seen) {
    let body = stage.body_of(story.kind).await;
    let before = stage.effects().await;
    let acme = stage.signed_in("acme", "secret-1").await;
    let (filer, id) = match story.filed_by {
        Door::Operator => (stage.anna.clone(), stage.draft(body.clone()).await),
        Door::Client => {
            let draft = acme.post("/client/v1/applications", body.clone()).await.expect(201);
            (acme.clone(), draft["id"].as_str().expect("an id").to_owned())
        }
        Door::Visitor => stage.asked(&body).await,
    };
    let operator = async |name: &str, role: &str| stage.world.operator(name, &[role]).await;
    let (rosa, della) = (operator("rosa", "reviewer_2").await, operator("della", "applicant").await);
    let (arthur, otto) = (operator("arthur", "applicant").await, operator("otto", "client_manager").await);
    let leave = json!({ "delegate": della.id, "until": World::START.0 + 30 * DAY_MS, "reason": "leave" });
    stage.rita.post("/api/v1/delegations", leave).await.expect(201);
    let other = stage.world.client("other").await;
    let person = |name, caller: &Caller, door| Person { name, caller: caller.clone(), door };
    // Those who bring a form further more often than the others, most of whose actions are refused.
    let mut people = Vec::new();
    for times in [0, 1, 2] {
        people.push(person("filer", &filer, story.filed_by));
        people.push(person("rita", &stage.rita, Door::Operator));
        people.push(person("ralph", &stage.ralph, Door::Operator));
        people.push(person("della", &della, Door::Operator));
        people.push(person("rosa", &rosa, Door::Operator));
        if times == 0 {
            people.push(person("ann", &stage.admin, Door::Operator));
            people.push(person("anna", &stage.anna, Door::Operator));
            people.push(person("arthur", &arthur, Door::Operator));
            people.push(person("otto", &otto, Door::Operator));
            people.push(person("acme", &acme, Door::Client));
            people.push(person("other", &other, Door::Client));
        }
    }
    let mut version = stage.read(&id).await["version"].as_i64().expect("a version");
    let mut waits = 0;
    for (turn, step) in story.moves.iter().enumerate() {
        let &Move::Act(who, action) = step else {
            if waits < MAX_WAITS {
                waits += 1;
                stage.world.advance_ms(i64::from(ESCALATION_H) * HOUR_MS);
                stage.world.run_due().await;
                // An escalation is a version of its own.
                version = stage.sound(&id, "waited").await["version"].as_i64().expect("a version");
            }
            continue;
        };
        let person = &people[who % people.len()];
        let about = format!("{story:?}, move {turn}: {} {action:?}", person.name);
        let shown = person.caller.get(&person.path(&id)).await;
        let offered = match shown.status {
            200 => shown.body["actions"].as_array().expect("a list").contains(&json!(action.name())),
            _ => false,
        };
        let Some(answer) = person.act(&id, action, version, &body).await else {
            assert!(!offered, "{about}: offered without a way to take it");
            continue;
        };
        assert!(answer.status < 500, "{about}: {:#}", answer.body);
        let accepted = answer.status < 300;
        assert_eq!(accepted, offered, "{about}: {} {:#}", answer.status, answer.body);
        seen.refused_to_clients += u32::from(person.name == "acme" && shown.status == 200 && !accepted);
        if accepted && action == Action::Delete {
            stage.admin.get(&path(&id, "")).await.problem(404, "not_found");
            assert_eq!(stage.effects().await - 1, before, "of `other` alone: {about}");
            return;
        }
        version += i64::from(accepted);
        let form = stage.sound(&id, &about).await;
        assert_eq!(form["version"], json!(version), "{about}");
        if accepted && action.is_review() {
            let step = form["history"].as_array().and_then(|steps| steps.last()).expect("a step");
            seen.by_delegates += u32::from(step["on_behalf_of"].is_string());
            seen.by_escalation += u32::from(step["escalated"] == true);
        }
    }
    let scheduled = stage.read(&id).await["effect"]["state"] == "scheduled";
    for _ in 0..2 {
        stage.world.advance_ms(6 * DAY_MS);
        apply_due(&stage.world.app).await.expect("a run");
    }
    let form = stage.sound(&id, "at the end").await;
    let done = form["effect"]["state"] == "done";
    assert!(!scheduled || done, "{story:?}: {form:#}");
    let effects = stage.effects().await - 1 - before;
    assert_eq!(effects, i64::from(done), "{story:?}: one effect or none: {form:#}");
    if done {
        seen.done.insert((
            story.kind,
            match story.filed_by {
                Door::Operator => "operator",
                Door::Client => "client",
                Door::Visitor => "visitor",
            },
        ));
    }
}

#[tokio::test]
async fn no_random_story_ends_in_two_effects_or_a_gap() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Cases::default(), rng);
    let mut seen = Seen::default();
    for (kind, filed_by) in [
        ("KA", Door::Operator),
        ("KA", Door::Client),
        ("KU", Door::Operator),
        ("KU", Door::Client),
        ("KR", Door::Operator),
        ("KR", Door::Client),
        ("CR", Door::Operator),
        ("CR", Door::Visitor),
    ] {
        for _ in 0..2 {
            let story = story(kind, filed_by).new_tree(&mut runner).expect("a story").current();
            let adjust = |config: &mut Config| {
                config.review_escalation_h = ESCALATION_H;
                config.client_registration = true;
            };
            let stage = Stage::set(World::sqlite_with(adjust).await).await;
            for kind in ["KA", "KU", "KR", "CR"] {
                stage.flow(kind, json!([["reviewer_1"], ["reviewer_2"]])).await;
            }
            play(&stage, &story, &mut seen).await;
        }
    }
    let Seen { done, by_delegates, by_escalation, refused_to_clients } = &seen;
    assert!(done.len() >= 5, "forms of many kinds come to their end: {seen:#?}");
    let doors: BTreeSet<_> = done.iter().map(|(_, filed_by)| *filed_by).collect();
    assert_eq!(doors.len(), 3, "of operators, clients and visitors: {seen:#?}");
    assert!(*by_delegates > 0 && *by_escalation > 0 && *refused_to_clients > 0, "{seen:#?}");
}
