//! Scheduled work to be seen, tried again and cancelled: `/api/v1/tasks`.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, ScheduleError};
use super::model::{About, Task, TaskState};
use super::store::{self, Filter};
use crate::app::App;
use crate::http::{
    Actor, Json, Page, Path, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit,
};
use crate::problem::Problem;

/// `/api/v1/tasks` and below.
pub fn routes() -> Routes {
    Routes::of("tasks")
        .permitted(&[Permission::TasksRead], routes!(list))
        .permitted(&[Permission::TasksRead], routes!(show))
        .permitted(&[Permission::TasksWrite], routes!(retry))
        .permitted(&[Permission::TasksWrite], routes!(cancel))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// `<capability>.<action>`, such as `keys.remind_of_expiry`.
    kind: Option<String>,
    #[param(inline, value_type = Option<TaskState>)]
    state: Option<String>,
    /// `<kind>:<id>`, such as `key:key_…`.
    #[param(pattern = ":")]
    about: Option<String>,
    /// UTC ms: due then or later.
    due_from: Option<i64>,
    /// UTC ms: due before.
    due_until: Option<i64>,
}

/// A piece of scheduled work. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Task)]
pub(super) struct TaskJson {
    id: String,
    /// `<capability>.<action>`.
    kind: String,
    about: About,
    /// Names it among all work.
    key: String,
    /// What else the work needs to know, as its kind writes it.
    detail: Value,
    #[schema(value_type = i64)]
    due_at: UnixMillis,
    #[schema(value_type = TaskState)]
    state: &'static str,
    /// While it waits: not before.
    #[schema(value_type = Option<i64>)]
    next_attempt_at: Option<UnixMillis>,
    /// While it runs: another replica may take it then.
    #[schema(value_type = Option<i64>)]
    claimed_until: Option<UnixMillis>,
    /// Attempts begun since it was planned, tried again by hand or last got on.
    attempts: u32,
    /// What came of it so far, or why it was cancelled.
    result: Option<String>,
    /// Why the last attempt failed.
    error: Option<String>,
    #[schema(value_type = i64)]
    created_at: UnixMillis,
    #[schema(value_type = Option<i64>)]
    finished_at: Option<UnixMillis>,
}

impl From<Task> for TaskJson {
    fn from(task: Task) -> Self {
        let (mut next_attempt_at, mut claimed_until, mut finished_at) = (None, None, None);
        match task.state {
            TaskState::Waiting { next_attempt_at: at } => next_attempt_at = Some(at),
            TaskState::Running { claimed_until: until } => claimed_until = Some(until),
            TaskState::Done { finished_at: at }
            | TaskState::Failed { finished_at: at }
            | TaskState::Cancelled { finished_at: at } => finished_at = Some(at),
        }
        Self {
            id: task.id,
            kind: task.kind,
            about: task.about,
            key: task.key,
            detail: task.detail,
            due_at: task.due_at,
            state: task.state.name(),
            next_attempt_at,
            claimed_until,
            attempts: task.attempts,
            result: task.result,
            error: task.last_error,
            created_at: task.created_at,
            finished_at,
        }
    }
}

/// List scheduled work in the order in which it is due.
#[utoipa::path(get, path = "/api/v1/tasks", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<TaskJson>>, Problem> {
    let limit = page_limit(query.limit)?;
    let cursor = page_cursor(query.cursor.as_deref())?;
    let after = match cursor.split_once(' ') {
        Some((at, id)) => (UnixMillis(at.parse().map_err(|_| foreign_cursor())?), id.to_string()),
        None if cursor.is_empty() => (UnixMillis(i64::MIN), String::new()),
        None => return Err(foreign_cursor()),
    };
    if let Some(state) = &query.state
        && !TaskState::NAMES.contains(&state.as_str())
    {
        let known = TaskState::NAMES.join(", ");
        return Err(Problem::invalid_query("state", format!("state is one of {known}")));
    }
    let about = match query.about.as_deref().map(|about| about.split_once(':')) {
        Some(Some((kind, id))) => Some(About::new(kind, id)),
        Some(None) => return Err(Problem::invalid_query("about", "about is <kind>:<id>, such as key:key_…")),
        None => None,
    };
    let filter = Filter {
        kind: query.kind,
        state: query.state,
        about,
        due_from: query.due_from.map(UnixMillis),
        due_until: query.due_until.map(UnixMillis),
    };
    let mut conn = app.db.read().await?;
    let tasks = store::list(&mut conn, &filter, (after.0, &after.1), limit + 1).await?;
    let page = Page::new(tasks, limit, |task| format!("{} {}", task.due_at.0, task.id));
    Ok(Json(page.map(TaskJson::from)))
}

/// Show a piece of scheduled work.
#[utoipa::path(get, path = "/api/v1/tasks/{id}")]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<TaskJson>, Problem> {
    let mut conn = app.db.read().await?;
    let task = store::by_id(&mut conn, &id).await?.ok_or(ScheduleError::NotFound { id })?;
    Ok(Json(task.into()))
}

/// Have a piece of work that failed, was cancelled or waits done at once.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/retry", responses(
    (status = 409, description = "`task_done`, or `task_running` while a replica is at it"),
))]
async fn retry(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<TaskJson>, Problem> {
    Ok(Json(actions::retry(&app, &id, &actor.audit_name()).await?.into()))
}

/// Cancel a piece of work that waits or failed.
#[utoipa::path(post, path = "/api/v1/tasks/{id}/cancel", responses(
    (status = 409, description = "`task_done`, or `task_running` while a replica is at it"),
))]
async fn cancel(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<TaskJson>, Problem> {
    Ok(Json(actions::cancel_one(&app, &id, &actor.audit_name()).await?.into()))
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        let detail = error.to_string();
        match error {
            ScheduleError::NotFound { .. } => Self::not_found(detail),
            ScheduleError::Running { .. } => Self::conflict("task_running", detail),
            ScheduleError::Done { .. } => Self::conflict("task_done", detail),
            ScheduleError::Db(error) => error.into(),
        }
    }
}
