//! Plan, cancel, do what is due; try again and cancel by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use gate::time::UnixMillis;
use serde_json::{Value, json};

use super::executors::Executors;
use super::model::{
    About, AfterFailure, BATCH, CLAIM_MS, MAX_ATTEMPTS, Occurrence, Outcome, PERIOD, Task, TaskState,
    after_failure, forgotten,
};
use super::store::{self, Claimed, NewRow};
use crate::app::App;
use crate::audit;
use crate::db::{Conn, DbError};

/// Pieces of work of one run of the worker; the next run goes on.
const TASKS_PER_RUN: usize = 500;

const DAY_MS: i64 = 86_400_000;

/// A piece of work to be planned.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// `<capability>.<action>`, as [`Executors`] know it.
    pub kind: &'static str,
    /// What it is about.
    pub about: About,
    /// Names it among all work, `<kind>:<…>`: what is planned again under the same key stays one.
    pub key: String,
    /// Not done before.
    pub due_at: UnixMillis,
    /// What else the executor needs to know; an object.
    pub detail: Value,
}

/// What one run of the worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Attempts after which a piece was done.
    pub done: usize,
    /// Attempts that left more to do, at once or later.
    pub continued: usize,
    /// Failed for now.
    pub postponed: usize,
    /// Failed for good.
    pub given_up: usize,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// No such task.
    #[error("there is no task {id}")]
    NotFound {
        /// As asked for.
        id: String,
    },
    /// A replica is at it.
    #[error("task {id} is being done at the moment: look again in a minute")]
    Running {
        /// Which one.
        id: String,
    },
    /// It has been done.
    #[error("task {id} is done already")]
    Done {
        /// Which one.
        id: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Plans a piece of work within the caller's transaction. Whether it is new: one of that key that
/// waits, runs or has ended stays what it is; one that was cancelled is planned anew.
pub async fn plan(conn: &mut Conn, app: &App, task: NewTask, now: UnixMillis) -> Result<bool, DbError> {
    let row = NewRow {
        id: &app.random.id("task"),
        kind: task.kind,
        about: &task.about,
        key: &task.key,
        detail: &task.detail.to_string(),
        due_at: task.due_at,
        now,
    };
    // What was cancelled first: a task that runs is neither changed nor waited for.
    Ok(store::revive(conn, &row).await? || store::insert(conn, &row).await?)
}

/// Those of these keys that are on record, whatever became of them: what an operator cancelled too.
pub async fn planned(conn: &mut Conn, keys: &[String]) -> Result<BTreeSet<String>, DbError> {
    store::planned(conn, keys).await
}

/// Cancels the pieces of that kind about that thing that wait, within the caller's transaction;
/// `why` is for people. How many there were. One that is being done at the moment is not stopped:
/// its executor asks itself whether it is still wanted.
pub async fn cancel(
    conn: &mut Conn,
    kind: &str,
    about: &About,
    why: &str,
    now: UnixMillis,
) -> Result<u64, DbError> {
    store::cancel_waiting(conn, kind, about, why, now).await
}

/// Does what is due, in the order in which it became so. Run by the job `schedule`; any number of
/// processes may run it at once. A failing piece of work does not keep the others from being done.
pub async fn run_due(app: &App, executors: &Executors) -> Result<Ran, DbError> {
    plan_recurring(app, executors).await?;
    let kinds = executors.kinds();
    let mut ran = Ran::default();
    for _ in 0..TASKS_PER_RUN {
        let Some(claimed) = claim(app, &kinds).await? else { break };
        attempt(app, executors, &claimed, &mut ran).await?;
    }
    Ok(ran)
}

/// A row for the present period of each recurring work, and for the next one once that is due.
async fn plan_recurring(app: &App, executors: &Executors) -> Result<(), DbError> {
    let (now, zone) = (app.now(), app.config.zone());
    let mut wanted: Vec<(&'static str, Occurrence)> = Vec::new();
    for (kind, every) in executors.periods() {
        let [present, next] = every.occurrences(now, &zone);
        let is_due = present.due_at <= now;
        wanted.push((*kind, present));
        if is_due {
            wanted.push((*kind, next));
        }
    }
    // Asked by reading: only the first look of a period writes.
    let mut missing = Vec::new();
    {
        let mut conn = app.db.read().await?;
        for (kind, occurrence) in wanted {
            if !store::is_planned(&mut conn, &period_key(kind, &occurrence)).await? {
                missing.push((kind, occurrence));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut tx = app.db.write("schedule.plan_recurring").await?;
    for (kind, occurrence) in missing {
        if occurrence.due_at <= now {
            let why = format!("not done in its time, {} is done instead", occurrence.period);
            store::supersede(&mut tx, kind, PERIOD, occurrence.due_at, &why, now).await?;
        }
        let task = NewTask {
            kind,
            key: period_key(kind, &occurrence),
            about: About::new(PERIOD, occurrence.period),
            due_at: occurrence.due_at,
            detail: json!({}),
        };
        plan(&mut tx, app, task, now).await?;
    }
    tx.commit().await
}

fn period_key(kind: &str, occurrence: &Occurrence) -> String {
    format!("{kind}:{}", occurrence.period)
}

pub(super) async fn claim(app: &App, kinds: &[&'static str]) -> Result<Option<Claimed>, DbError> {
    let now = app.now();
    if !store::is_any_due(&mut *app.db.read().await?, kinds, now).await? {
        return Ok(None);
    }
    let mut tx = app.db.write("schedule.claim").await?;
    let until = UnixMillis(now.0.saturating_add(CLAIM_MS));
    let claimed = store::claim(&mut tx, kinds, &app.random.id("tc"), until, now).await?;
    tx.commit().await?;
    Ok(claimed)
}

/// One attempt: its effects and what becomes of the row commit together.
pub(super) async fn attempt(
    app: &App,
    executors: &Executors,
    claimed: &Claimed,
    ran: &mut Ran,
) -> Result<(), DbError> {
    let task = &claimed.task;
    let limit = Duration::from_millis(u64::try_from(CLAIM_MS).unwrap_or_default());
    let outcome = match tokio::time::timeout(limit, execute(app, executors, claimed)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("it took longer than {} s and was cut off", limit.as_secs())),
    };
    let error = match outcome {
        Ok(Some(Outcome::Done(_))) => {
            ran.done += 1;
            return Ok(());
        }
        Ok(Some(Outcome::More { .. } | Outcome::Later { .. })) => {
            ran.continued += 1;
            return Ok(());
        }
        Ok(Some(Outcome::Failed(error))) => {
            ran.given_up += 1;
            tracing::error!(task.id, task.kind, task.attempts, "A task was given up: {error}");
            return Ok(());
        }
        Ok(None) => {
            tracing::warn!(task.id, task.kind, "Another replica has taken a task over");
            return Ok(());
        }
        Err(error) => format!("{error:#}"),
    };
    let now = app.now();
    let mut tx = app.db.write("schedule.attempted").await?;
    match after_failure(task.attempts, now) {
        AfterFailure::TryAgain { at } => {
            ran.postponed += 1;
            tracing::warn!(
                task.id,
                task.kind,
                task.attempts,
                "A task failed and will be tried again: {error}"
            );
            store::waits_again(&mut tx, claimed, at, &error).await?;
        }
        AfterFailure::GiveUp => {
            ran.given_up += 1;
            tracing::error!(task.id, task.kind, task.attempts, "A task was given up: {error}");
            store::given_up(&mut tx, claimed, &error, now).await?;
        }
    }
    tx.commit().await
}

/// None: it is no longer ours.
async fn execute(app: &App, executors: &Executors, claimed: &Claimed) -> anyhow::Result<Option<Outcome>> {
    let task = &claimed.task;
    // Earlier attempts ended without a word (the process was killed): not for ever.
    if task.attempts > MAX_ATTEMPTS {
        anyhow::bail!("{MAX_ATTEMPTS} attempts ended without a word");
    }
    let executor = executors
        .of(&task.kind)
        .ok_or_else(|| anyhow::anyhow!("this process does not know work of kind {}", task.kind))?;
    let mut tx = app.db.write("schedule.execute").await?;
    // Held to the end: nobody takes it over while what it does may yet be committed.
    if !store::hold(&mut tx, claimed).await? {
        return Ok(None);
    }
    let outcome = executor(app, &mut tx, task).await?;
    let now = app.now();
    match &outcome {
        Outcome::Done(result) => store::done(&mut tx, claimed, result, now).await?,
        Outcome::More { progress, result } => store::got_on(&mut tx, claimed, progress, result, now).await?,
        Outcome::Later { at, progress, result } => {
            store::got_on(&mut tx, claimed, progress, result, *at).await?;
        }
        Outcome::Failed(error) => store::given_up(&mut tx, claimed, error, now).await?,
    }
    tx.commit().await?;
    Ok(Some(outcome))
}

/// Has a task that failed, was cancelled or waits tried again at once, but not before it is due.
pub(super) async fn retry(app: &App, id: &str, by: &str) -> Result<Task, ScheduleError> {
    change(app, id, by, "schedule.retry", async |conn, task, now| {
        match task.state {
            TaskState::Done { .. } => return Err(ScheduleError::Done { id: task.id.clone() }),
            TaskState::Waiting { .. }
            | TaskState::Running { .. }
            | TaskState::Failed { .. }
            | TaskState::Cancelled { .. } => {}
        }
        Ok(store::retry(conn, &task.id, now).await?)
    })
    .await
}

/// Cancels a task that waits or failed.
pub(super) async fn cancel_one(app: &App, id: &str, by: &str) -> Result<Task, ScheduleError> {
    let why = format!("cancelled by {by}");
    change(app, id, by, "schedule.cancel", async |conn, task, now| {
        match task.state {
            TaskState::Done { .. } => return Err(ScheduleError::Done { id: task.id.clone() }),
            // It stays as it is.
            TaskState::Cancelled { .. } => return Ok(false),
            TaskState::Waiting { .. } | TaskState::Running { .. } | TaskState::Failed { .. } => {}
        }
        Ok(store::cancel_one(conn, &task.id, &why, now).await?)
    })
    .await
}

/// What an operator does with one task. `act` says whether it changed anything.
async fn change(
    app: &App,
    id: &str,
    by: &str,
    action: &'static str,
    act: impl AsyncFnOnce(&mut Conn, &Task, UnixMillis) -> Result<bool, ScheduleError>,
) -> Result<Task, ScheduleError> {
    let now = app.now();
    let mut tx = app.db.write(action).await?;
    let not_found = || ScheduleError::NotFound { id: id.into() };
    if !store::lock(&mut tx, id).await? {
        return Err(not_found());
    }
    let before = store::by_id(&mut tx, id).await?.ok_or_else(not_found)?;
    if before.state.is_held(now) {
        return Err(ScheduleError::Running { id: id.into() });
    }
    if !act(&mut tx, &before, now).await? {
        return Ok(before);
    }
    let after = store::by_id(&mut tx, id).await?.ok_or_else(not_found)?;
    let entry = audit::Entry {
        actor: by.into(),
        action,
        subject: format!("task:{id}"),
        detail: json!({
            "kind": after.kind,
            "about": after.about,
            "changed": audit::changed(
                &json!({ "state": before.state.name() }),
                &json!({ "state": after.state.name() }),
            ),
        }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(after)
}

/// Tasks that ended `task_retention_days` ago are forgotten; a key of theirs may be planned anew then.
pub(super) async fn forget_tasks(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let kept_ms = i64::from(app.config.task_retention_days).saturating_mul(DAY_MS);
    let deleted = store::forget(conn, UnixMillis(app.now().0.saturating_sub(kept_ms)), BATCH).await?;
    Ok(forgotten(task, deleted, BATCH, "tasks"))
}
