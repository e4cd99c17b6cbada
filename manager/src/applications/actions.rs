//! One function per thing that can happen to a form. Each is one transaction: the form's new
//! state, its history, what the last signature brings about, the mails and the audit entry commit
//! together or not at all.

use gate::id::{ClientId, CredentialId};
use gate::time::UnixMillis;
use jiff::civil::Date;
use serde_json::json;
use thiserror::Error;

use super::form::{FieldFault, Fields, Form, Moment};
use super::model::{Action, Application, Effect, MAX_COMMENT_CHARS, Next, Refusal, Standing, State, Step};
use super::store::{self, Filter, Place};
use super::{effects, mails, world};
use crate::app::App;
use crate::approvals::{self, Flow, FormKind};
use crate::audit;
use crate::db::{Conn, DbError, Write};
use crate::keys::{KeyError, TermsError};
use crate::mail::MailError;
use crate::operators::{Actor, Permission};
use crate::validity::{day_of, print_instant};

/// Scheduled changes that one run of the job makes at most; the rest follows with the next run.
pub const MAX_DUE_PER_RUN: i64 = 100;

/// A form with all that its page shows.
#[derive(Clone, Debug)]
pub struct Detail {
    /// The form.
    pub application: Application,
    /// What happened to it, oldest first.
    pub history: Vec<Step>,
    /// What the caller may do with it now.
    pub actions: Vec<Action>,
}

/// Which forms somebody wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All that the caller may see.
    #[default]
    Everything,
    /// Those that the caller filed.
    Mine,
    /// Those that wait for the caller's signature.
    WaitingForMe,
    /// Those that the caller has approved, returned or rejected.
    Reviewed,
}

/// Why something could not be done with a form.
#[derive(Debug, Error)]
pub enum ApplicationError {
    /// No such form, or none that the caller may see.
    #[error("there is no form `{0}` that you may see")]
    NotFound(String),
    /// A field is at fault.
    #[error(transparent)]
    Field(#[from] FieldFault),
    /// The action may not be.
    #[error("{refusal}{}", told(happened))]
    Refused {
        /// Why not.
        refusal: Refusal,
        /// What last happened to the form, as a sentence.
        happened: String,
    },
    /// The form is not the one that the caller has seen.
    #[error(
        "you acted on version {seen} of the form, but it is now version {present}{}: \
         read it again, then decide",
        told(happened)
    )]
    Changed {
        /// The version that the caller named.
        seen: i64,
        /// The version that there is.
        present: i64,
        /// What last happened to the form, as a sentence.
        happened: String,
    },
    /// A reviewer did not say which version was seen.
    #[error(
        "a review says which version of the form was seen: repeat it with the header \
         If-Match and the ETag of the form that you read"
    )]
    VersionMissing,
    /// Nobody has said who signs such forms.
    #[error(
        "no approval flow is configured for {kind} forms ({}), so nobody could sign this one: \
         an administrator configures it with PUT /api/v1/approval-flows/{kind}; the draft is kept",
        kind.label()
    )]
    NoFlow {
        /// The kind of the form.
        kind: FormKind,
    },
    /// The comment is too long.
    #[error("`comment` has {chars} characters; at most {MAX_COMMENT_CHARS} are allowed")]
    CommentTooLong {
        /// How many were given.
        chars: usize,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A mail about the form could not be written.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The key could not be issued, changed or revoked.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<TermsError> for ApplicationError {
    fn from(error: TermsError) -> Self {
        Self::Key(error.into())
    }
}

/// Saves a new draft.
pub async fn save(
    app: &App,
    caller: &Actor,
    kind: FormKind,
    fields: Fields,
) -> Result<Application, ApplicationError> {
    let now = app.now();
    let mut tx = app.db.write("applications.save").await?;
    let form = parsed(&mut tx, kind, fields).await?;
    world::hold_client(&mut tx, &form).await?;
    checked(&mut tx, app, &form, &caller.operator, None, Moment::Filing).await?;
    let application = Application {
        id: app.random.id("ap"),
        number: None,
        form,
        applicant: caller.operator.clone(),
        state: State::Draft,
        version: 1,
        created_at: now,
        submitted_at: None,
        updated_at: now,
    };
    store::insert(&mut tx, &application).await?;
    let step = step_of(&application, &caller.operator, "save", None, String::new());
    store::record_step(&mut tx, &application.id, &step).await?;
    record(&mut tx, &application, &step).await?;
    tx.commit().await?;
    Ok(application)
}

/// Replaces the fields of a draft or of a returned form.
pub async fn edit(
    app: &App,
    caller: &Actor,
    id: &str,
    seen: Option<i64>,
    fields: Fields,
) -> Result<Application, ApplicationError> {
    let mut tx = app.db.write("applications.edit").await?;
    let turn = Turn::begin(&mut tx, app, caller, id, seen, Action::Edit).await?;
    let form = parsed(&mut tx, turn.before.form.kind(), fields).await?;
    world::hold_client(&mut tx, &form).await?;
    checked(&mut tx, app, &form, &turn.before.applicant, Some(id), Moment::Filing).await?;
    let application = Application { form, ..turn.before.clone() };
    store::replace_apis(&mut tx, &application).await?;
    turn.finish(tx, app, application, String::new()).await
}

/// Throws a draft away. It never had a number, so that no number is missed.
pub async fn delete(app: &App, caller: &Actor, id: &str, seen: Option<i64>) -> Result<(), ApplicationError> {
    let mut tx = app.db.write("applications.delete").await?;
    let turn = Turn::begin(&mut tx, app, caller, id, seen, Action::Delete).await?;
    if !store::delete_draft(&mut tx, id, turn.before.version).await? {
        return Err(overtaken(&mut tx, app, &turn.before).await?);
    }
    let gone = Application { updated_at: turn.now, ..turn.before };
    let step = step_of(&gone, &caller.operator, Action::Delete.name(), None, String::new());
    record(&mut tx, &gone, &step).await?;
    tx.commit().await?;
    Ok(())
}

/// Hands a draft in for review (`Submit`), or a returned form in again (`Resubmit`). The first
/// time draws its number.
pub async fn submit(
    app: &App,
    caller: &Actor,
    id: &str,
    seen: Option<i64>,
    action: Action,
) -> Result<Application, ApplicationError> {
    let mut tx = app.db.write("applications.submit").await?;
    let turn = Turn::begin(&mut tx, app, caller, id, seen, action).await?;
    checked(&mut tx, app, &turn.before.form, &turn.before.applicant, Some(id), Moment::Filing).await?;
    let mut application = Application { submitted_at: Some(turn.now), ..turn.before.clone() };
    if application.number.is_none() {
        let kind = application.form.kind();
        application.number = Some(store::draw_number(&mut tx, kind, today(app, turn.now)).await?);
    }
    turn.finish(tx, app, application, String::new()).await
}

/// A reviewer's word on the level that waits: approve, return or reject. The last level's approval
/// brings about what the form asks for.
pub async fn review(
    app: &App,
    caller: &Actor,
    id: &str,
    seen: Option<i64>,
    action: Action,
    comment: &str,
) -> Result<Application, ApplicationError> {
    let comment = commented(comment)?;
    let mut tx = app.db.write("applications.review").await?;
    let turn = Turn::begin(&mut tx, app, caller, id, seen, action).await?;
    if seen.is_none() {
        return Err(ApplicationError::VersionMissing);
    }
    if action == Action::Approve {
        checked(&mut tx, app, &turn.before.form, &turn.before.applicant, Some(id), Moment::Signing).await?;
    }
    let application = turn.before.clone();
    turn.finish(tx, app, application, comment).await
}

/// Takes a form back for good, as long as no reviewer has signed it.
pub async fn withdraw(
    app: &App,
    caller: &Actor,
    id: &str,
    seen: Option<i64>,
    comment: &str,
) -> Result<Application, ApplicationError> {
    plain(app, caller, id, seen, Action::Withdraw, comment, "applications.withdraw").await
}

/// Stops an approved change or revocation before it is due.
pub async fn stop(
    app: &App,
    caller: &Actor,
    id: &str,
    seen: Option<i64>,
    comment: &str,
) -> Result<Application, ApplicationError> {
    plain(app, caller, id, seen, Action::Stop, comment, "applications.stop").await
}

/// Makes the scheduled changes that are due, each in a transaction of its own and exactly once,
/// whatever other replicas do. Returns how many forms have ended thereby. One that fails does not
/// keep the others waiting; it stays scheduled, is tried again with the next run, and its error is
/// returned after the rest.
pub async fn apply_due(app: &App) -> Result<usize, ApplicationError> {
    let due = store::due(&mut *app.db.read().await?, app.now(), MAX_DUE_PER_RUN).await?;
    let (mut ended, mut failure) = (0, None);
    for id in due {
        match apply_one(app, &id).await {
            Ok(done) => ended += usize::from(done),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(ended), Err)
}

/// Cancels the forms about a client that is being deleted within the caller's transaction, who is
/// the operator `by`; their applicants are told why. Returns the forms as they are now.
pub async fn cancel_all_of(
    conn: &mut Conn,
    app: &App,
    client: &ClientId,
    by: &Actor,
    reason: &str,
    now: UnixMillis,
) -> Result<Vec<Application>, ApplicationError> {
    let mut cancelled = Vec::new();
    for before in store::open_of(conn, client, i64::MAX).await? {
        let Some(state) = before.state.client_gone(now) else { continue };
        let application =
            Application { state, version: before.version + 1, updated_at: now, ..before.clone() };
        if !store::update(conn, &application, &before.state).await? {
            return Err(overtaken(conn, app, &before).await?);
        }
        let step = step_of(&application, &by.operator, "cancel", None, reason.to_owned());
        store::record_step(conn, &application.id, &step).await?;
        mails::announce(conn, app, &application, &step, None).await?;
        record(conn, &application, &step).await?;
        cancelled.push(application);
    }
    Ok(cancelled)
}

/// The form of that id with its history, if the caller may see it.
pub async fn detail(app: &App, caller: &Actor, id: &str) -> Result<Detail, ApplicationError> {
    let mut read = app.db.snapshot().await?;
    let application =
        store::find(&mut read, id).await?.ok_or_else(|| ApplicationError::NotFound(id.to_owned()))?;
    let flow = flow_of(&mut read, application.form.kind()).await?;
    let standing = standing(app, caller, &application, flow.as_ref());
    must_see(&mut read, caller, &application, standing).await?;
    let history = store::history(&mut read, id).await?;
    let actions = application.state.actions(standing);
    Ok(Detail { application, history, actions })
}

/// Up to `limit` forms that the caller may see and wants to, the newest first.
pub async fn list(
    app: &App,
    caller: &Actor,
    view: View,
    filter: Filter,
    place: &Place,
    limit: i64,
) -> Result<Vec<Application>, ApplicationError> {
    let mut read = app.db.snapshot().await?;
    let signable = signable(&mut read, caller).await?;
    let operator = caller.operator.clone();
    let scope = match view {
        View::Everything if caller.may(Permission::ApplicationsRead) => store::Scope::All,
        View::Everything => store::Scope::Visible { operator, signable },
        View::Mine => store::Scope::Mine { operator },
        View::WaitingForMe => {
            store::Scope::WaitingFor { operator, signable, own: app.config.allow_self_approval }
        }
        View::Reviewed => store::Scope::ReviewedBy { operator },
    };
    Ok(store::list(&mut read, &Filter { scope, ..filter }, place, limit).await?)
}

/// One action on one form, from the moment it is found allowed.
struct Turn {
    before: Application,
    action: Action,
    operator: String,
    flow: Option<Flow>,
    next: Next,
    now: UnixMillis,
}

impl Turn {
    /// Finds the form, keeps others from it until the transaction ends, and asks whether the
    /// caller may take `action` on the version that was `seen`.
    async fn begin(
        tx: &mut Write,
        app: &App,
        caller: &Actor,
        id: &str,
        seen: Option<i64>,
        action: Action,
    ) -> Result<Self, ApplicationError> {
        let missing = || ApplicationError::NotFound(id.to_owned());
        if !store::lock(tx, id).await? {
            return Err(missing());
        }
        let before = store::find(tx, id).await?.ok_or_else(missing)?;
        let kind = before.form.kind();
        let flow = flow_of(tx, kind).await?;
        let standing = standing(app, caller, &before, flow.as_ref());
        must_see(tx, caller, &before, standing).await?;
        // What has ended is told as such; only what goes on is worth reading again.
        if let Some(seen) = seen.filter(|seen| *seen != before.version && !before.state.is_final()) {
            let happened = happened(tx, app, &before).await?;
            return Err(ApplicationError::Changed { seen, present: before.version, happened });
        }
        let now = app.now();
        let levels = flow.as_ref().map_or(1, Flow::count);
        let next = match before.state.act(action, standing, levels, now) {
            Ok(next) => next,
            Err(refusal) => {
                let happened = happened(tx, app, &before).await?;
                return Err(ApplicationError::Refused { refusal, happened });
            }
        };
        if flow.is_none() && matches!(next, Next::Stands(State::PendingOrder { .. })) {
            return Err(ApplicationError::NoFlow { kind });
        }
        Ok(Self { before, action, operator: caller.operator.clone(), flow, next, now })
    }

    /// Keeps `application` where the action leads to, with what it brings about, and commits.
    async fn finish(
        self,
        mut tx: Write,
        app: &App,
        application: Application,
        comment: String,
    ) -> Result<Application, ApplicationError> {
        let Self { before, action, operator, flow, next, now } = self;
        let state = match next {
            Next::Stands(state) => state,
            Next::Effect(signature) => {
                let effect =
                    effects::begin(&mut tx, app, &application, &signature, &audit_actor(&operator)).await?;
                signature.approved(effect)
            }
            Next::Gone => unreachable!("only `delete` takes an action that leaves no form"),
        };
        let application = Application { state, version: before.version + 1, updated_at: now, ..application };
        if !store::update(&mut tx, &application, &before.state).await.map_err(|e| taken(e, &application))? {
            return Err(overtaken(&mut tx, app, &before).await?);
        }
        let step = step_of(&application, &operator, action.name(), signed_level(&before, action), comment);
        store::record_step(&mut tx, &application.id, &step).await?;
        if action != Action::Edit {
            mails::announce(&mut tx, app, &application, &step, flow.as_ref()).await?;
        }
        record(&mut tx, &application, &step).await?;
        tx.commit().await?;
        Ok(application)
    }
}

/// An action that changes nothing but the state.
async fn plain(
    app: &App,
    caller: &Actor,
    id: &str,
    seen: Option<i64>,
    action: Action,
    comment: &str,
    name: &'static str,
) -> Result<Application, ApplicationError> {
    let comment = commented(comment)?;
    let mut tx = app.db.write(name).await?;
    let turn = Turn::begin(&mut tx, app, caller, id, seen, action).await?;
    let application = turn.before.clone();
    turn.finish(tx, app, application, comment).await
}

/// Makes one scheduled change. False: somebody else has made or stopped it meanwhile.
async fn apply_one(app: &App, id: &str) -> Result<bool, ApplicationError> {
    let now = app.now();
    let mut tx = app.db.write("applications.apply_due").await?;
    if !store::lock(&mut tx, id).await? {
        return Ok(false);
    }
    let Some(before) = store::find(&mut tx, id).await? else { return Ok(false) };
    let State::Approved { at, effect: Effect::Scheduled { due } } = before.state else { return Ok(false) };
    if due > now {
        return Ok(false);
    }
    let (effect, action, comment) =
        match checked(&mut tx, app, &before.form, &before.applicant, Some(id), Moment::Signing).await {
            Ok(()) => {
                match effects::carry_out(&mut tx, app, &before, &audit_actor(Step::BY_ITSELF), now).await {
                    Ok(effect) => (effect, "apply", String::new()),
                    // What the key itself refuses, before anything of it is written, it will refuse again.
                    Err(ApplicationError::Key(
                        fault @ (KeyError::Terms(_)
                        | KeyError::Revoked { .. }
                        | KeyError::NotFound { .. }
                        | KeyError::UnknownApi { .. }),
                    )) => {
                        let reason = fault.to_string();
                        (Effect::Failed { at: now, reason: reason.clone() }, "fail", reason)
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(ApplicationError::Field(fault)) => {
                let reason = fault.to_string();
                (Effect::Failed { at: now, reason: reason.clone() }, "fail", reason)
            }
            Err(error) => return Err(error),
        };
    let state = State::Approved { at, effect };
    let application = Application { state, version: before.version + 1, updated_at: now, ..before.clone() };
    if !store::update(&mut tx, &application, &before.state).await? {
        return Ok(false);
    }
    let step = step_of(&application, Step::BY_ITSELF, action, None, comment);
    store::record_step(&mut tx, id, &step).await?;
    mails::announce(&mut tx, app, &application, &step, None).await?;
    record(&mut tx, &application, &step).await?;
    tx.commit().await?;
    Ok(true)
}

async fn parsed(conn: &mut Conn, kind: FormKind, fields: Fields) -> Result<Form, ApplicationError> {
    let owner = match fields.key.as_deref().map(str::trim) {
        Some(key) => world::owner_of_key(conn, &CredentialId::from(key)).await?,
        None => None,
    };
    Ok(Form::parse(kind, fields, owner)?)
}

/// Asks the form's rules about the world; `id` is the form itself once it has one.
async fn checked(
    conn: &mut Conn,
    app: &App,
    form: &Form,
    applicant: &str,
    id: Option<&str>,
    moment: Moment,
) -> Result<(), ApplicationError> {
    let today = today(app, app.now());
    let world = world::around(conn, &app.config, form, applicant, id, today).await?;
    Ok(form.check(&world, moment)?)
}

async fn flow_of(conn: &mut Conn, kind: FormKind) -> Result<Option<Flow>, DbError> {
    Ok(approvals::find(conn, kind).await?.map(|kept| kept.flow))
}

fn standing(app: &App, caller: &Actor, application: &Application, flow: Option<&Flow>) -> Standing {
    let signs = |level| {
        caller.may(Permission::ApplicationsReview)
            && flow.is_some_and(|flow| flow.may_sign(level, caller.roles.iter().map(String::as_str)))
    };
    Standing {
        applicant: application.applicant == caller.operator,
        reviewer: match application.state {
            State::PendingOrder { level, .. } => signs(level),
            State::Draft
            | State::Returned { .. }
            | State::Approved { .. }
            | State::Rejected { .. }
            | State::Cancelled { .. } => false,
        },
        overseer: caller.may(Permission::KeysWrite),
        self_approval: app.config.allow_self_approval,
    }
}

/// Who may see a form: its applicant, those who may sign it now or have, and who sees all.
async fn must_see(
    conn: &mut Conn,
    caller: &Actor,
    application: &Application,
    standing: Standing,
) -> Result<(), ApplicationError> {
    let sees = standing.applicant
        || standing.reviewer
        || caller.may(Permission::ApplicationsRead)
        || store::has_reviewed(conn, &application.id, &caller.operator).await?;
    if sees { Ok(()) } else { Err(ApplicationError::NotFound(application.id.clone())) }
}

/// `,KA:1,KU:2,`: what the caller signs now, as [`store::Scope`] wants it.
async fn signable(conn: &mut Conn, caller: &Actor) -> Result<String, DbError> {
    let mut signable = String::from(",");
    if !caller.may(Permission::ApplicationsReview) {
        return Ok(signable);
    }
    for kind in FormKind::ALL {
        let Some(flow) = flow_of(conn, kind).await? else { continue };
        // Levels beyond the flow's last are signed by the last, see `Flow::roles_at`.
        for level in 1..=u32::try_from(approvals::MAX_LEVELS).unwrap_or(u32::MAX) {
            if flow.may_sign(level, caller.roles.iter().map(String::as_str)) {
                signable.push_str(&format!("{kind}:{level},"));
            }
        }
    }
    Ok(signable)
}

/// The refusal of an action on a form that somebody else has moved on meanwhile.
async fn overtaken(
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
    let history = store::history(conn, &application.id).await?;
    let Some(step) = history.last() else { return Ok(String::new()) };
    let actor = world::operator_name(conn, &step.actor).await?;
    let level = step.level.map(|level| format!(" at level {level}")).unwrap_or_default();
    let when = print_instant(step.at, &app.config.zone());
    let now = application.state.label();
    Ok(format!("{actor}: {}{level} at {when}; the form is now: {now}", step.action))
}

fn told(happened: &str) -> String {
    if happened.is_empty() { String::new() } else { format!(" ({happened})") }
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

fn commented(comment: &str) -> Result<String, ApplicationError> {
    let chars = comment.chars().count();
    let comment = comment.trim();
    if chars > MAX_COMMENT_CHARS {
        Err(ApplicationError::CommentTooLong { chars })
    } else {
        Ok(comment.to_owned())
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

fn step_of(
    application: &Application,
    actor: &str,
    action: &str,
    level: Option<u32>,
    comment: String,
) -> Step {
    Step {
        version: application.version,
        at: application.updated_at,
        actor: actor.to_owned(),
        action: action.to_owned(),
        level,
        comment,
        state: application.state.name().to_owned(),
    }
}

/// The day it is in the installation's zone.
fn today(app: &App, now: UnixMillis) -> Date {
    day_of(now, &app.config.zone())
}

/// The audit entry; the last statement before the commit.
async fn record(conn: &mut Conn, application: &Application, step: &Step) -> Result<(), DbError> {
    let entry = audit::Entry {
        actor: audit_actor(&step.actor),
        action: audit_action(&step.action),
        subject: format!("application:{}", application.id),
        detail: json!({
            "number": application.number.map(|number| number.to_string()),
            "type": application.form.kind().code(),
            "client": application.form.client().as_str(),
            "state": step.state,
            "level": step.level,
            "version": application.version,
        }),
    };
    audit::record(conn, entry, step.at).await
}

/// Who did a step, as the audit trail names it.
fn audit_actor(actor: &str) -> String {
    match actor {
        Step::BY_ITSELF => "system".to_owned(),
        operator => format!("operator:{operator}"),
    }
}

/// The name of a step as the audit trail writes it.
fn audit_action(step: &str) -> &'static str {
    const NAMES: [&str; 13] = [
        "applications.save",
        "applications.edit",
        "applications.delete",
        "applications.submit",
        "applications.resubmit",
        "applications.approve",
        "applications.return",
        "applications.reject",
        "applications.withdraw",
        "applications.stop",
        "applications.apply",
        "applications.fail",
        "applications.cancel",
    ];
    let named = |name: &&&str| name.strip_prefix("applications.") == Some(step);
    NAMES.iter().find(named).copied().expect("every step is one of these")
}
