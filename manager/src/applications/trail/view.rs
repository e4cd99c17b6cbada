//! A trail as the API shows it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::model::Step;
use super::{Level, Round, Told, Trail};
use crate::audit::Recorded;
use crate::mail::Mail;

/// All that happened to a form. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationTrail)]
pub struct TrailView {
    id: String,
    number: Option<String>,
    /// The state in words.
    status: String,
    rounds: Vec<RoundView>,
    /// Every step, oldest first.
    steps: Vec<StepView>,
    /// What was written about it, oldest first; null without mail.read.
    mails: Option<Vec<MailView>>,
    /// The audit entries about it, oldest first; null without audit.read.
    audit: Option<Vec<AuditView>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationTrailRound)]
struct RoundView {
    /// From 1.
    round: u32,
    submitted_at: i64,
    levels: Vec<LevelView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationTrailLevel)]
struct LevelView {
    level: u32,
    /// When it began to wait.
    since: i64,
    /// `approve`, `return` or `reject`; null: nothing was said.
    result: Option<String>,
    at: Option<i64>,
    /// How long it waited for that; null: nothing was said.
    waited_ms: Option<i64>,
    by: Option<WhoView>,
    /// The operator as whose delegate that was said; else null.
    on_behalf_of: Option<WhoView>,
    /// It took an escalation for them to be allowed.
    escalated: bool,
    comment: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationTrailWho)]
struct WhoView {
    /// Operator, `client:` or `visitor:` with who it is, or `keygate`.
    id: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationTrailStep)]
struct StepView {
    at: i64,
    /// Since the step before; 0 of the first.
    after_ms: i64,
    by: WhoView,
    action: String,
    level: Option<u32>,
    comment: String,
    /// The state afterwards.
    state: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationTrailMail)]
struct MailView {
    id: String,
    template: String,
    recipient: String,
    subject: String,
    state: String,
    attempts: u32,
    last_error: Option<String>,
    created_at: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationTrailEntry)]
struct AuditView {
    seq: i64,
    at: i64,
    actor: String,
    action: String,
    #[schema(value_type = Object)]
    detail: Value,
}

type Names = BTreeMap<String, String>;

impl From<Trail> for TrailView {
    fn from(trail: Trail) -> Self {
        let Trail { application, rounds, steps, mails, audit, names } = trail;
        Self {
            id: application.id,
            number: application.number.map(|number| number.to_string()),
            status: application.state.label(),
            rounds: rounds.into_iter().map(|round| RoundView::new(round, &names)).collect(),
            steps: steps.into_iter().map(|told| StepView::new(told, &names)).collect(),
            mails: mails.map(|mails| mails.into_iter().map(MailView::from).collect()),
            audit: audit.map(|entries| entries.into_iter().map(AuditView::from).collect()),
        }
    }
}

impl WhoView {
    fn new(id: String, names: &Names) -> Self {
        Self { name: names.get(&id).cloned().unwrap_or_else(|| id.clone()), id }
    }
}

impl RoundView {
    fn new(round: Round, names: &Names) -> Self {
        let levels = round.levels.into_iter().map(|level| LevelView::new(level, names)).collect();
        Self { round: round.round, submitted_at: round.submitted_at.0, levels }
    }
}

impl LevelView {
    fn new(of: Level, names: &Names) -> Self {
        let Level { level, since, step } = of;
        let nothing = Self {
            level,
            since: since.0,
            result: None,
            at: None,
            waited_ms: None,
            by: None,
            on_behalf_of: None,
            escalated: false,
            comment: None,
        };
        let Some(Step { at, actor, action, on_behalf_of, escalated, comment, .. }) = step else {
            return nothing;
        };
        Self {
            result: Some(action),
            at: Some(at.0),
            waited_ms: Some(at.0 - since.0),
            by: Some(WhoView::new(actor, names)),
            on_behalf_of: on_behalf_of.map(|who| WhoView::new(who, names)),
            escalated,
            comment: Some(comment).filter(|comment| !comment.is_empty()),
            ..nothing
        }
    }
}

impl StepView {
    fn new(told: Told, names: &Names) -> Self {
        let Told { step, after_ms } = told;
        Self {
            at: step.at.0,
            after_ms,
            by: WhoView::new(step.actor, names),
            action: step.action,
            level: step.level,
            comment: step.comment,
            state: step.state,
        }
    }
}

impl From<Mail> for MailView {
    fn from(mail: Mail) -> Self {
        Self {
            template: mail.template.name().to_owned(),
            state: mail.state.name().to_owned(),
            id: mail.id,
            recipient: mail.recipient,
            subject: mail.subject,
            attempts: mail.attempts,
            last_error: mail.last_error,
            created_at: mail.created_at.0,
        }
    }
}

impl From<Recorded> for AuditView {
    fn from(entry: Recorded) -> Self {
        let Recorded { seq, at, actor, action, detail, .. } = entry;
        Self { seq, at, actor, action, detail }
    }
}
