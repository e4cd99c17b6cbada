//! What happens to a form that waits for too long: its reviewers are reminded, then others may sign
//! in their place. Both are scheduled work, planned in the transaction that makes a level wait. And
//! what is told of a form that nobody can sign.

mod mails;
mod taken_over;

use gate::time::UnixMillis;
use serde_json::json;

use super::error::ApplicationError;
use super::history::{self, record, step_of};
use super::model::{Application, State, Step};
use super::store;
use super::turn::flow_of;
use crate::app::App;
use crate::approvals::rounds::{self, Mark, Round};
use crate::approvals::signers::{self, Grounds, NoEscalation, Person, Shortage, Signer};
use crate::approvals::{Flow, FormKind};
use crate::audit;
use crate::db::{Conn, DbError};
use crate::mail;
use crate::schedule::{self, About, NewTask, Outcome, Task};

/// Reminds the reviewers of a level.
pub(super) const REMIND: &str = "applications.remind";
/// Has others sign a level too.
pub(super) const ESCALATE: &str = "applications.escalate";

/// The progress of an escalation that was refused and reported.
const REFUSED: &str = "refused";
/// The progress of one that was refused while no administrator had an address.
const REFUSED_UNTOLD: &str = "refused, nobody told";

/// What helps where nobody has an address.
const GIVE_ADDRESSES: &str =
    "give them e-mail addresses with PATCH /api/v1/operators/{id}, then `keygate tasks retry`";

const HOUR_MS: i64 = 3_600_000;

/// How a form that waits for a signature stands among its signers.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Where it waits.
    pub round: Round,
    /// Who may sign it now, by name.
    pub signers: Vec<Signer>,
    /// Why its levels do not find their signers, if they do not.
    pub shortage: Option<Shortage>,
}

/// Plans what is to happen if the level at which `round` waits goes on waiting.
pub(super) async fn plan(conn: &mut Conn, app: &App, round: &Round, now: UnixMillis) -> Result<(), DbError> {
    for task in wanted(app, round) {
        schedule::plan(conn, app, task, now).await?;
    }
    Ok(())
}

/// What the settings want for the level at which `round` waits, counted from when it began to, and
/// has not happened yet.
fn wanted(app: &App, round: &Round) -> Vec<NewTask> {
    let (reminder_h, escalation_h) = (app.config.review_reminder_h, app.config.review_escalation_h);
    let kinds = [(REMIND, reminder_h, round.reminded_at), (ESCALATE, escalation_h, round.escalated_at)];
    let kinds = kinds.into_iter().filter(|(_, hours, happened)| *hours > 0 && happened.is_none());
    let task = |(kind, hours, _): (&'static str, u32, _)| NewTask {
        kind,
        about: About::new("application", round.form.clone()),
        key: format!("{kind}:{}:{}:{}", round.form, round.round, round.level),
        due_at: UnixMillis(round.since.0.saturating_add(i64::from(hours).saturating_mul(HOUR_MS))),
        detail: json!({ "round": round.round, "level": round.level }),
    };
    kinds.map(task).collect()
}

/// Plans what is wanted for levels that began to wait before it was: under an older version, or while
/// the setting was off.
async fn plan_missing(app: &App, waiting: &[Round]) -> Result<(), ApplicationError> {
    let keys: Vec<String> =
        waiting.iter().flat_map(|round| wanted(app, round)).map(|task| task.key).collect();
    // Asked by reading: only what is missing writes.
    let planned = schedule::planned(&mut *app.db.read().await?, &keys).await?;
    for round in waiting {
        if wanted(app, round).iter().all(|task| planned.contains(&task.key)) {
            continue;
        }
        let mut tx = app.db.write("applications.plan_missing").await?;
        if !store::lock(&mut tx, &round.form).await? {
            continue;
        }
        let Some(present) = rounds::find(&mut tx, &round.form).await? else { continue };
        for task in wanted(app, &present) {
            // What is on record stays as it is: an operator may have cancelled it.
            if !planned.contains(&task.key) {
                schedule::plan(&mut tx, app, task, app.now()).await?;
            }
        }
        tx.commit().await?;
    }
    Ok(())
}

/// What was planned for the level that waited so far is no longer wanted.
pub(super) async fn forget(conn: &mut Conn, form: &str, now: UnixMillis) -> Result<(), DbError> {
    let about = About::new("application", form);
    for kind in [REMIND, ESCALATE] {
        schedule::cancel(conn, kind, &about, "the level was signed, or the form has ended or come back", now)
            .await?;
    }
    Ok(())
}

/// Reminds the reviewers of the level that waits, once.
pub(super) async fn remind(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let now = app.now();
    if app.config.review_reminder_h == 0 {
        return Ok(later(now, task, "reminders are switched off".to_owned()));
    }
    let Some((application, round, flow)) = waits_still(conn, task, now).await? else {
        return Ok(not_wanted("the level waits no longer"));
    };
    let signers = signers::circle(conn, &app.config, now).await?.signers(&flow, &round);
    let reach = Reach::of_signers(&signers);
    if reach.is_nobody() {
        // Not marked: whoever has it tried again has them reminded.
        let (number, unreached) = (&round.number, reach.unreached.join(", "));
        return Ok(Outcome::Failed(format!(
            "{number}: nobody was reminded, since {unreached} may sign and have no e-mail address: {GIVE_ADDRESSES}"
        )));
    }
    if !rounds::mark(conn, &round, Mark::Reminded, now).await? {
        return Ok(not_wanted("its reviewers were reminded"));
    }
    mails::remind(conn, app, &application, &round, &signers, now).await?;
    let told = reach.to_string();
    tell(conn, &application, &round, "applications.remind", &told, now).await?;
    Ok(Outcome::Done(format!("{}: reminded {told}", round.number)))
}

/// Has the next level, after the last one administrators, sign the level that waits too; or reports
/// that this would leave no signer, once, and looks again every hour: somebody may have come.
pub(super) async fn escalate(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let now = app.now();
    if app.config.review_escalation_h == 0 {
        return Ok(later(now, task, "escalation is switched off".to_owned()));
    }
    let Some((application, round, flow)) = waits_still(conn, task, now).await? else {
        return Ok(not_wanted("the level waits no longer"));
    };
    let circle = signers::circle(conn, &app.config, now).await?;
    if round.escalated_at.is_some() {
        // Nobody had an address when it was escalated, and somebody has it tried again.
        let signers = circle.signers(&flow, &round);
        let by_escalation = |signer: &Signer| signer.right.grounds == Grounds::Escalation;
        let signers: Vec<_> = signers.into_iter().filter(by_escalation).collect();
        return tell_escalated(conn, app, &application, &round, &signers, now).await;
    }
    match circle.escalate(&flow, &round) {
        Ok(signers) => {
            if !rounds::mark(conn, &round, Mark::Escalated, now).await? {
                return Ok(not_wanted("it was escalated"));
            }
            let comment = format!("to {}", names(&signers));
            let done = add_step(conn, &application, &round, "escalate", comment, now).await?;
            let moved = Application { version: done.version, ..application };
            let outcome = tell_escalated(conn, app, &moved, &round, &signers, now).await?;
            record(conn, &moved, &done).await?;
            Ok(outcome)
        }
        Err(why) => {
            let reason = why.to_string();
            let reach = Reach::of(circle.administrators());
            let told = if reach.is_nobody() {
                format!(
                    "and no administrator could be told, since none has an e-mail address: {GIVE_ADDRESSES}"
                )
            } else {
                format!("administrators were told ({reach})")
            };
            let result = format!("{}: not escalated, {told}: {reason}", round.number);
            let progress = task.progress.as_deref();
            if progress == Some(REFUSED) || (progress == Some(REFUSED_UNTOLD) && reach.is_nobody()) {
                return Ok(later(now, task, result));
            }
            let missing = match why {
                NoEscalation::NobodyNew { .. } => None,
                NoEscalation::Leaves { shortage, .. } => Some(shortage),
            };
            let refused = match progress {
                None => Some(
                    add_step(conn, &application, &round, "escalation_refused", reason.clone(), now).await?,
                ),
                Some(_) => None,
            };
            mails::stuck(conn, app, &application, &round, &circle, (missing.as_ref(), true), now).await?;
            if let Some(refused) = refused {
                record(conn, &application, &refused).await?;
            }
            if reach.is_nobody() {
                tracing::warn!(form = round.number, "A form cannot be escalated, and {told}");
            }
            let progress = if reach.is_nobody() { REFUSED_UNTOLD } else { REFUSED }.to_owned();
            Ok(Outcome::Later { at: in_an_hour(now), progress, result })
        }
    }
}

/// Tells those who may sign too from now on. Where nobody can be told, they may sign all the same, and
/// the task fails.
async fn tell_escalated(
    conn: &mut Conn,
    app: &App,
    application: &Application,
    round: &Round,
    signers: &[Signer],
    now: UnixMillis,
) -> anyhow::Result<Outcome> {
    mails::escalated(conn, app, application, round, signers, now).await?;
    let (number, level, reach) = (&round.number, round.level, Reach::of_signers(signers));
    Ok(if reach.is_nobody() {
        let unreached = reach.unreached.join(", ");
        Outcome::Failed(format!(
            "{number}: {unreached} may sign level {level} too, but nobody was told, since they have no e-mail \
             address: {GIVE_ADDRESSES}"
        ))
    } else {
        Outcome::Done(format!("{number}: may sign level {level} too, and was told: {reach}"))
    })
}

/// Tells administrators of the forms that nobody can sign, once for each: an operator was disabled or
/// lost a role. A form that finds its signers again is told of anew the next time. Returns how many.
/// Plans reminders and escalations that are missing, too, and puts rounds right that a replica of an
/// older version knew nothing of.
pub async fn report_stuck(app: &App) -> Result<usize, ApplicationError> {
    taken_over::take_over(app).await?;
    let mut read = app.db.snapshot().await?;
    let waiting = rounds::waiting(&mut read, None).await?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let circle = signers::circle(&mut read, &app.config, app.now()).await?;
    let mut flows = Vec::new();
    for kind in FormKind::ALL {
        flows.push((kind, flow_of(&mut read, kind).await?));
    }
    drop(read);
    plan_missing(app, &waiting).await?;
    let mut reported = 0;
    for round in waiting {
        let flow = flows.iter().find(|(kind, _)| *kind == round.kind).and_then(|(_, flow)| flow.as_ref());
        let short = flow.is_some_and(|flow| circle.shortage(flow, &round).is_some());
        if short != round.reported_at.is_some() {
            reported += usize::from(report(app, &round.form).await?);
        }
    }
    Ok(reported)
}

/// Notes whether nobody can sign that form, and tells it the first time.
async fn report(app: &App, form: &str) -> Result<bool, ApplicationError> {
    let now = app.now();
    let mut tx = app.db.write("applications.report_stuck").await?;
    if !store::lock(&mut tx, form).await? {
        return Ok(false);
    }
    let (Some(application), Some(round)) =
        (store::find(&mut tx, form).await?, rounds::find(&mut tx, form).await?)
    else {
        return Ok(false);
    };
    let Some(flow) = flow_of(&mut tx, round.kind).await? else { return Ok(false) };
    let circle = signers::circle(&mut tx, &app.config, now).await?;
    let told = match circle.shortage(&flow, &round) {
        None => {
            rounds::forget_report(&mut tx, form).await?;
            false
        }
        Some(_) if Reach::of(circle.administrators()).is_nobody() => {
            // Not marked: it is told as soon as one of them has an address.
            tracing::warn!(
                form,
                "Nobody can sign a form, and no administrator has an e-mail address to be told at: \
                 PATCH /api/v1/operators/{{id}} gives one"
            );
            return Ok(false);
        }
        Some(shortage) => {
            if !rounds::mark(&mut tx, &round, Mark::Reported, now).await? {
                return Ok(false);
            }
            let reason = shortage.to_string();
            mails::stuck(&mut tx, app, &application, &round, &circle, (Some(&shortage), false), now).await?;
            tell(&mut tx, &application, &round, "applications.stuck", &reason, now).await?;
            true
        }
    };
    tx.commit().await?;
    Ok(told)
}

/// How a form stands among its signers; None: it waits for none.
pub(super) async fn of(conn: &mut Conn, app: &App, form: &str) -> Result<Option<Waiting>, DbError> {
    let Some(round) = rounds::find(conn, form).await? else { return Ok(None) };
    let Some(flow) = flow_of(conn, round.kind).await? else { return Ok(None) };
    let circle = signers::circle(conn, &app.config, app.now()).await?;
    let (signers, shortage) = (circle.signers(&flow, &round), circle.shortage(&flow, &round));
    Ok(Some(Waiting { round, signers, shortage }))
}

/// The form of a task, held until the transaction ends; None: it no longer waits at the level for
/// which the task was planned.
async fn waits_still(
    conn: &mut Conn,
    task: &Task,
    now: UnixMillis,
) -> anyhow::Result<Option<(Application, Round, Flow)>> {
    let form = task.about.id.as_str();
    if !store::lock(conn, form).await? {
        return Ok(None);
    }
    let Some(round) = rounds::find(conn, form).await? else { return Ok(None) };
    // Before its time it has nothing to do here, whoever had it done: a task that is not due is a fault.
    if task.due_at > now {
        anyhow::bail!("the task is due at {} and not before", task.due_at.0);
    }
    if task.detail["round"] != json!(round.round) || task.detail["level"] != json!(round.level) {
        return Ok(None);
    }
    let flow = flow_of(conn, round.kind).await?;
    // A replica of an older version moves forms without their rounds, until they are taken over.
    let stands = |form: &Application| match form.state {
        State::PendingOrder { level, .. } => level == round.level,
        _ => false,
    };
    let application = store::find(conn, form).await?.filter(stands);
    Ok(application.zip(flow).map(|(application, flow)| (application, round, flow)))
}

/// Adds a step that the manager did by itself to the history of a form that stays where it is: whoever
/// acts on what they read before, reads it again.
async fn add_step(
    conn: &mut Conn,
    before: &Application,
    round: &Round,
    action: &str,
    comment: String,
    now: UnixMillis,
) -> anyhow::Result<Step> {
    // The form waits since it came to this level, and not since this.
    let application = Application { version: before.version + 1, ..before.clone() };
    anyhow::ensure!(store::update(conn, &application, &before.state).await?, "the form is held by this");
    let step = step_of(&application, &Step::BY_ITSELF, action, Some(round.level), comment);
    let step = Step { at: now, ..step };
    history::add(conn, &application.id, &step).await?;
    Ok(step)
}

async fn tell(
    conn: &mut Conn,
    application: &Application,
    round: &Round,
    action: &'static str,
    told: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    let entry = audit::Entry {
        actor: history::audit_actor(Step::BY_ITSELF),
        action,
        subject: format!("application:{}", application.id),
        detail: json!({ "number": round.number, "round": round.round, "level": round.level, "told": told }),
    };
    audit::record(conn, entry, now).await
}

/// Which of some people mails reach.
#[derive(Debug)]
struct Reach {
    reached: Vec<String>,
    unreached: Vec<String>,
}

impl Reach {
    fn of<'a>(people: impl Iterator<Item = &'a Person>) -> Self {
        let (reached, unreached): (Vec<_>, Vec<_>) = people.partition(|person| person.email.is_some());
        let names = |people: Vec<&Person>| {
            let mut names: Vec<_> = people.into_iter().map(|person| person.name.clone()).collect();
            names.sort();
            names.dedup();
            names
        };
        Self { reached: names(reached), unreached: names(unreached) }
    }

    fn of_signers(signers: &[Signer]) -> Self {
        Self::of(signers.iter().map(|signer| &signer.person))
    }

    /// There is somebody, and no mail reaches anybody.
    fn is_nobody(&self) -> bool {
        self.reached.is_empty() && !self.unreached.is_empty()
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.reached.as_slice() {
            [] => f.write_str("nobody")?,
            reached => f.write_str(&reached.join(", "))?,
        }
        match self.unreached.as_slice() {
            [] => Ok(()),
            unreached => write!(f, "; no mail to {}: no e-mail address", unreached.join(", ")),
        }
    }
}

/// Whether mails about forms that nobody signs reach somebody: a warning where they would not.
pub async fn warnings(conn: &mut Conn, app: &App) -> Result<Vec<mail::Warning>, DbError> {
    let circle = signers::circle(conn, &app.config, app.now()).await?;
    let reach = Reach::of(circle.administrators());
    Ok(reach.is_nobody().then(|| mail::Warning {
        code: "administrators_without_address",
        message: "No active operator with operators.manage has an e-mail address: nobody is told of forms that \
                  nobody can sign, and of credentials that could not be mailed. Give one with PATCH \
                  /api/v1/operators/{id}."
            .into(),
    })
    .into_iter()
    .collect())
}

fn names(signers: &[Signer]) -> String {
    let names: Vec<_> = signers.iter().map(|signer| signer.person.name.as_str()).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// To be looked at again, as far as it has come.
fn later(now: UnixMillis, task: &Task, result: String) -> Outcome {
    Outcome::Later { at: in_an_hour(now), progress: task.progress.clone().unwrap_or_default(), result }
}

fn in_an_hour(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_add(HOUR_MS))
}

fn not_wanted(why: &str) -> Outcome {
    Outcome::Done(format!("no longer wanted: {why}"))
}
