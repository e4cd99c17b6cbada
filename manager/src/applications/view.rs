//! A form as the API shows it.

use std::collections::BTreeMap;

use gate::id::ApiUid;
use serde::Serialize;
use utoipa::ToSchema;

use super::applicant::{Applicant, ApplicantKind};
use super::form::Form;
use super::model::{Action, Application, Effect, State, Step};
use super::review::{ApiName, ReviewView, Warning, WarningView};
use super::waiting::Waiting;
use super::worklist::{Called, Detail};
use crate::approvals::FormKind;
use crate::approvals::signers::{Grounds, Signer};
use crate::clients::{Binding, Registration};
use crate::mail;
use crate::openapi::schema::{Day, schema_of};

/// A form. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Application)]
pub struct ApplicationView {
    id: String,
    /// `KA-20260714-0001`; null until first submitted.
    number: Option<String>,
    #[schema(value_type = FormKind)]
    r#type: &'static str,
    #[schema(value_type = State)]
    state: &'static str,
    /// The state in words.
    status: String,
    /// The level that waits, returned or rejected; else null.
    level: Option<u32>,
    /// Levels as submitted, while it is under review or returned; else null.
    levels: Option<u32>,
    /// What became of an approved form; else null.
    effect: Option<EffectView>,
    /// Who filed it.
    #[schema(value_type = ApplicantKind)]
    applicant_kind: &'static str,
    /// Operator's or client's id, or visitor's address; to clients null for operators.
    applicant: Option<String>,
    /// Whose key it is about, or the client that a CR made; null on CR before.
    client: Option<String>,
    /// The key to change or revoke, or that was issued; else null.
    key: Option<String>,
    /// The key's, CR: the client's. KR: told of a form that is listed or shown, else null.
    name: Option<String>,
    /// CR alone; else null.
    display_name: Option<String>,
    /// CR alone: separated by commas; else null.
    emails: Option<String>,
    /// CR alone; else empty.
    bindings: Vec<Binding>,
    /// Null on CR.
    #[schema(value_type = Option<Day>)]
    effective_date: Option<String>,
    #[schema(value_type = Option<Day>)]
    expiry_date: Option<String>,
    /// -1 = unlimited; null on KR and CR.
    quota: Option<i64>,
    description: String,
    #[schema(value_type = Vec<String>)]
    apis: Vec<ApiUid>,
    /// KU alone; else null.
    reset_usage: Option<bool>,
    created_at: i64,
    submitted_at: Option<i64>,
    updated_at: i64,
    /// For `If-Match`.
    version: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationEffect)]
pub struct EffectView {
    #[schema(value_type = EffectState)]
    state: &'static str,
    /// When it was done, stopped or failed, or is due; UTC ms.
    at: i64,
    /// Why it failed; else null.
    reason: Option<String>,
}

/// A form after a step, and what to know about it.
#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationMoved)]
pub struct MovedView {
    #[serde(flatten)]
    application: ApplicationView,
    /// Once saved or handed in, what speaks against the form; after a step that mails tell about, what keeps
    /// them from going out. Empty: nothing.
    warnings: Vec<WarningView>,
}

impl MovedView {
    /// The form, and what to know about it and its mails.
    pub fn new(application: Application, remarks: Vec<Warning>, mails: Vec<mail::Warning>) -> Self {
        let remarks = remarks.into_iter().map(WarningView::from);
        let warnings = remarks.chain(mails.into_iter().map(WarningView::from)).collect();
        Self { application: application.into(), warnings }
    }
}

/// A form with its history.
#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationDetail)]
pub struct DetailView {
    #[serde(flatten)]
    application: ApplicationView,
    /// Of who filed it.
    applicant_name: String,
    /// Of the client that it is about or asks for.
    client_name: String,
    /// Of `apis`, in their order.
    api_names: Vec<ApiName>,
    /// What happened, oldest first.
    history: Vec<StepView>,
    /// What the caller may do now.
    #[schema(value_type = Vec<Action>)]
    actions: Vec<&'static str>,
    /// What a reviewer looks at; null once the form has ended: what was then is not what is now.
    review: Option<ReviewView>,
    /// KA: the addresses to which the new key's credentials go, as when it was submitted last; null: not
    /// submitted since it was edited, by an older version, no KA, or without clients.read.
    credentials_go_to: Option<Vec<String>>,
    /// Who may sign the level that waits; null: none waits, or the caller is no operator.
    waiting: Option<WaitingView>,
}

/// How a form that waits stands among its signers. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationWaiting)]
pub struct WaitingView {
    /// Which submission, from 1.
    round: u32,
    /// When the level began to wait.
    since: i64,
    /// Null: its reviewers were not reminded.
    reminded_at: Option<i64>,
    /// When the next level, after the last one administrators, came to sign it too; null: not.
    escalated_at: Option<i64>,
    /// Who may sign it now.
    signers: Vec<SignerView>,
    /// Why the levels that are left do not all find a signer; null: they do.
    problem: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationSigner)]
pub struct SignerView {
    /// Operator.
    operator: String,
    name: String,
    /// The operator whose delegate this is; null: the signer's own signature.
    on_behalf_of: Option<String>,
    /// Only since the level was escalated.
    by_escalation: bool,
}

impl From<Waiting> for WaitingView {
    fn from(Waiting { round, signers, shortage }: Waiting) -> Self {
        let signer = |Signer { person, right }: Signer| SignerView {
            operator: person.id,
            name: person.name,
            on_behalf_of: right.on_behalf_of,
            by_escalation: right.grounds == Grounds::Escalation,
        };
        Self {
            round: round.round,
            since: round.since.0,
            reminded_at: round.reminded_at.map(|at| at.0),
            escalated_at: round.escalated_at.map(|at| at.0),
            signers: signers.into_iter().map(signer).collect(),
            problem: shortage.map(|shortage| shortage.to_string()),
        }
    }
}

enum EffectState {}

schema_of! { EffectState: one_of(["done", "scheduled", "stopped", "failed"]) }

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationStep)]
pub struct StepView {
    version: i64,
    at: i64,
    /// Operator, `client:` or `visitor:` with who it is, or `keygate`.
    actor: String,
    /// As people call them.
    actor_name: String,
    action: String,
    level: Option<u32>,
    /// The operator on whose behalf it was signed, returned or rejected; null: the actor's own.
    on_behalf_of: Option<String>,
    /// As people call that operator; null: the actor's own.
    on_behalf_of_name: Option<String>,
    /// It took an escalation.
    escalated: bool,
    comment: String,
    /// The state afterwards.
    state: String,
}

impl From<Application> for ApplicationView {
    fn from(application: Application) -> Self {
        let Application {
            id,
            number,
            form,
            applicant,
            state,
            version,
            created_at,
            submitted_at,
            updated_at,
            ..
        } = application;
        let (level, levels) = match state {
            State::PendingOrder { level, levels } | State::Returned { level, levels } => {
                (Some(level), Some(levels))
            }
            State::Rejected { level, .. } => (Some(level), None),
            State::Draft | State::Approved { .. } | State::Cancelled { .. } => (None, None),
        };
        let issued = match &state {
            State::Approved { effect: Effect::Done { key, .. }, .. } => Some(key.0.clone()),
            _ => None,
        };
        let made = match &state {
            State::Approved { effect: Effect::Registered { client, .. }, .. } => Some(client.0.clone()),
            _ => None,
        };
        let registration = form.registration();
        let terms = form.terms();
        Self {
            id,
            number: number.map(|number| number.to_string()),
            r#type: form.kind().code(),
            state: state.name(),
            status: state.label(),
            level,
            levels,
            effect: effect_view(&state),
            applicant_kind: applicant.kind(),
            applicant: Some(applicant.id().to_owned()),
            client: form.client().map(|client| client.0.clone()).or(made),
            key: form.key().map(|key| key.0.clone()).or(issued),
            name: terms
                .map(|terms| terms.name.clone())
                .or_else(|| registration.map(|asked| asked.name.as_str().to_owned())),
            display_name: registration.map(|asked| asked.display_name.clone()),
            emails: registration.map(Registration::emails_text),
            bindings: registration.map(|asked| asked.bindings.clone()).unwrap_or_default(),
            effective_date: form.effective_date().map(|date| date.to_string()),
            expiry_date: terms.map(|terms| terms.expiry_date.to_string()),
            quota: terms.map(|terms| terms.quota.map_or(-1, i64::from)),
            description: form.description().to_owned(),
            apis: terms.map(|terms| terms.apis.iter().cloned().collect()).unwrap_or_default(),
            reset_usage: match &form {
                Form::Change { reset_usage, .. } => Some(*reset_usage),
                Form::Apply { .. } | Form::Revoke { .. } | Form::Client { .. } => None,
            },
            created_at: created_at.0,
            submitted_at: submitted_at.map(|at| at.0),
            updated_at: updated_at.0,
            version,
        }
    }
}

impl ApplicationView {
    /// With that name, where the form brings none.
    pub fn or_named(self, name: Option<String>) -> Self {
        Self { name: self.name.or(name), ..self }
    }

    /// As a client sees it, to whom operators have no names.
    pub fn to_client(application: Application) -> Self {
        let by_operator = matches!(application.applicant, Applicant::Operator(_));
        let view = Self::from(application);
        Self { applicant: view.applicant.clone().filter(|_| !by_operator), ..view }
    }
}

fn effect_view(state: &State) -> Option<EffectView> {
    let State::Approved { effect, .. } = state else { return None };
    Some(match effect {
        Effect::Done { at, .. } | Effect::Registered { at, .. } => {
            EffectView { state: "done", at: at.0, reason: None }
        }
        Effect::Scheduled { due } => EffectView { state: "scheduled", at: due.0, reason: None },
        Effect::Stopped { at } => EffectView { state: "stopped", at: at.0, reason: None },
        Effect::Failed { at, reason } => {
            EffectView { state: "failed", at: at.0, reason: Some(reason.clone()) }
        }
    })
}

impl StepView {
    fn new(step: Step, names: &BTreeMap<String, String>) -> Self {
        let name = |who: &String| names.get(who).unwrap_or(who).clone();
        let Step { version, at, actor, action, level, on_behalf_of, escalated, comment, state } = step;
        let (actor_name, on_behalf_of_name) = (name(&actor), on_behalf_of.as_ref().map(name));
        Self {
            version,
            at: at.0,
            actor,
            actor_name,
            action,
            level,
            on_behalf_of,
            on_behalf_of_name,
            escalated,
            comment,
            state,
        }
    }
}

impl DetailView {
    /// `with_emails`: the reader may see the addresses of clients.
    pub fn new((detail, called): (Detail, Called), with_emails: bool) -> Self {
        let Called { applicant, client, apis, actors } = called;
        let Detail { application, history, actions, review, waiting, revokes } = detail;
        Self {
            credentials_go_to: application.credentials_go_to.clone().filter(|_| with_emails),
            application: ApplicationView::from(application).or_named(revokes),
            applicant_name: applicant,
            client_name: client,
            api_names: apis.into_iter().map(|(uid, name)| ApiName { uid, name }).collect(),
            history: history.into_iter().map(|step| StepView::new(step, &actors)).collect(),
            actions: actions.into_iter().map(Action::name).collect(),
            review: review.map(|review| ReviewView::new(review, with_emails)),
            waiting: waiting.map(WaitingView::from),
        }
    }
}
