//! One action on one form, from the moment it is found allowed to its commit.

use std::slice::from_ref;

use gate::time::UnixMillis;

use super::applicant::{Applicant, Caller};
use super::error::ApplicationError;
use super::form::FieldFault;
use super::history::{self, audit_actor, record, step_of};
use super::model::{Action, Application, Next, Refusal, Standing, State};
use super::signing::{self, Position};
use super::{effects, mails, store, world};
use crate::app::App;
use crate::approvals::rounds::Round;
use crate::approvals::signers::{Grounds, Right};
use crate::approvals::{self, Flow, FormKind};
use crate::clients::NewPassword;
use crate::db::{Conn, DbError};
use crate::operators::Permission;
use crate::validity::print_instant;

/// One action on one form, from the moment it is found allowed.
pub(super) struct Turn {
    pub before: Application,
    action: Action,
    by: Applicant,
    round: Option<Round>,
    right: Option<Right>,
    next: Next,
    pub now: UnixMillis,
    /// For the client that a last signature makes: drawn before the transaction, it takes long.
    pub first_password: Option<NewPassword>,
}

impl Turn {
    /// Finds the form, keeps others from it until the transaction ends, and asks whether the
    /// caller may take `action` on the version that was `seen`.
    pub async fn begin(
        conn: &mut Conn,
        app: &App,
        caller: Caller<'_>,
        id: &str,
        seen: Option<i64>,
        action: Action,
    ) -> Result<Self, ApplicationError> {
        // Asked before whether the form is there: to whoever may not look, that tells nothing.
        if action.is_review()
            && caller.operator().is_some()
            && !caller.reaches(Permission::ApplicationsReview)
        {
            let (refusal, happened) = (Refusal::TokenOutOfReach, String::new());
            return Err(ApplicationError::Refused { refusal, happened });
        }
        let missing = || ApplicationError::NotFound(id.to_owned());
        if !store::lock(conn, id).await? {
            return Err(missing());
        }
        let before = store::find(conn, id).await?.ok_or_else(missing)?;
        let kind = before.form.kind();
        let flow = flow_of(conn, kind).await?;
        let position = signing::positions(conn, app, caller, from_ref(&before)).await?.remove(0);
        must_see(conn, caller, &before, position.standing).await?;
        // What has ended is told as such; only what goes on is worth reading again.
        if let Some(seen) = seen.filter(|seen| *seen != before.version && !before.state.is_final())
            && !history::stands_as_in(conn, &before, seen).await?
        {
            let happened = happened(conn, app, &before).await?;
            return Err(ApplicationError::Changed { seen, present: before.version, happened });
        }
        let now = app.now();
        let levels = flow.as_ref().map_or(1, Flow::count);
        let next = match before.state.act(action, position.standing, levels, now) {
            Ok(next) => next,
            Err(refusal) => {
                let happened = happened(conn, app, &before).await?;
                return Err(ApplicationError::Refused { refusal, happened });
            }
        };
        if flow.is_none() && matches!(next, Next::Stands(State::PendingOrder { .. })) {
            return Err(ApplicationError::NoFlow { kind });
        }
        let Position { round, right, .. } = position;
        Ok(Self { before, action, by: caller.applicant(), round, right, next, now, first_password: None })
    }

    /// Keeps `application` where the action leads to, with what it brings about.
    pub async fn finish(
        self,
        conn: &mut Conn,
        app: &App,
        application: Application,
        comment: String,
    ) -> Result<Application, ApplicationError> {
        let Self { before, action, by, round, right, next, now, first_password } = self;
        let signed = (round, right.as_ref());
        let (state, signed) = match next {
            Next::Stands(state) => (state, Some(signed)),
            Next::Effect(signature) => {
                // An effect records what it changes: rows of the form itself come before.
                signing::follow(conn, app, &application, action, by.id(), signed, now).await?;
                let by_name = audit_actor(&by.to_string());
                let effect =
                    effects::begin(conn, app, &application, &signature, &by_name, first_password).await?;
                (signature.approved(effect), None)
            }
            Next::Gone => unreachable!("only `delete` takes an action that leaves no form"),
        };
        let application = Application { state, version: before.version + 1, updated_at: now, ..application };
        if !store::update(conn, &application, &before.state).await.map_err(|e| taken(e, &application))? {
            return Err(overtaken(conn, app, &before).await?);
        }
        let mut step = step_of(&application, &by, action.name(), signed_level(&before, action), comment);
        if let Some(right) = right.as_ref().filter(|_| step.level.is_some()) {
            step.on_behalf_of = right.on_behalf_of.clone();
            step.escalated = right.grounds == Grounds::Escalation;
        }
        history::add(conn, &application.id, &step).await?;
        let waiting = match signed {
            Some(signed) => signing::follow(conn, app, &application, action, by.id(), signed, now).await?,
            None => None,
        };
        if action != Action::Edit {
            let signers = match &waiting {
                Some(round) => signing::signers_of(conn, app, round).await?,
                None => Vec::new(),
            };
            mails::announce(conn, app, &application, &step, &signers).await?;
        }
        record(conn, &application, &step).await?;
        if let (Action::Submit | Action::Resubmit, Some(round)) = (action, &waiting) {
            signing::must_find_signers(conn, app, round).await?;
        }
        Ok(application)
    }
}

pub(super) async fn flow_of(conn: &mut Conn, kind: FormKind) -> Result<Option<Flow>, DbError> {
    Ok(approvals::find(conn, kind).await?.map(|kept| kept.flow))
}

/// Who may see a form: its applicant, the client that it is about, those who may sign it now or have, who sees all, and while its
/// change is scheduled who may stop that.
pub(super) async fn must_see(
    conn: &mut Conn,
    caller: Caller<'_>,
    application: &Application,
    standing: Standing,
) -> Result<(), ApplicationError> {
    let sees = standing.sees()
        || caller.is_client_of(application)
        || (standing.overseer && application.state.is_scheduled())
        || caller.may(Permission::ApplicationsRead)
        || caller.reaches(Permission::ApplicationsReview)
            && history::has_reviewed(conn, &application.id, &caller.applicant()).await?;
    if sees { Ok(()) } else { Err(ApplicationError::NotFound(application.id.clone())) }
}

/// The refusal of an action on a form that somebody else has moved on meanwhile.
pub(super) async fn overtaken(
    conn: &mut Conn,
    app: &App,
    before: &Application,
) -> Result<ApplicationError, ApplicationError> {
    let present =
        store::find(conn, &before.id).await?.ok_or_else(|| ApplicationError::NotFound(before.id.clone()))?;
    let happened = happened(conn, app, &present).await?;
    Ok(ApplicationError::Changed { seen: before.version, present: present.version, happened })
}

/// What last happened to a form, as a sentence.
async fn happened(conn: &mut Conn, app: &App, application: &Application) -> Result<String, DbError> {
    let history = history::of(conn, &application.id).await?;
    let Some(step) = history.last() else { return Ok(String::new()) };
    let actor = world::doer(conn, step).await?;
    let level = step.level.map(|level| format!(" at level {level}")).unwrap_or_default();
    let when = print_instant(step.at, &app.config.zone());
    let now = application.state.label();
    let what = step.action.replace('_', " ");
    Ok(format!("{actor}: {what}{level} at {when}; the form is now: {now}"))
}

/// Another form came first: the constraint says so where two were submitted at the same moment.
fn taken(error: DbError, application: &Application) -> ApplicationError {
    match application.form.key() {
        Some(key) if error.violates(store::ONE_OPEN_FORM_PER_KEY) => {
            FieldFault::KeyHasOpenForm { key: key.clone(), form: "submitted a moment ago".to_owned() }.into()
        }
        Some(_) | None => error.into(),
    }
}

fn signed_level(before: &Application, action: Action) -> Option<u32> {
    match (&before.state, action) {
        (State::PendingOrder { level, .. }, Action::Approve | Action::Return | Action::Reject) => {
            Some(*level)
        }
        (_, _) => None,
    }
}
