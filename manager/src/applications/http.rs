//! `/api/v1/applications`

use axum::Router;
use axum::extract::State as AppState;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use gate::id::ApiUid;
use serde::{Deserialize, Serialize};

use super::actions::{self, ApplicationError, Detail, View};
use super::form::{Fields, Form};
use super::model::{Action, Application, Effect, Refusal, State, Step};
use super::store::{Filter, Place};
use crate::app::App;
use crate::approvals::FormKind;
use crate::http::{Actor, IfMatch, Json, Page, Path, Permission, Query, Versioned, page_cursor, page_limit};
use crate::problem::Problem;

/// Characters of a keyword at most: no field that is searched is longer.
const MAX_KEYWORD_CHARS: usize = 500;

/// Everything about forms.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/applications", post(save).get(list))
        .route("/api/v1/applications/{id}", get(show).put(edit).delete(remove))
        .route("/api/v1/applications/{id}/submit", post(submit))
        .route("/api/v1/applications/{id}/resubmit", post(resubmit))
        .route("/api/v1/applications/{id}/approve", post(approve))
        .route("/api/v1/applications/{id}/return", post(send_back))
        .route("/api/v1/applications/{id}/reject", post(reject))
        .route("/api/v1/applications/{id}/withdraw", post(withdraw))
        .route("/api/v1/applications/{id}/stop", post(stop))
}

#[derive(Serialize)]
struct ApplicationView {
    id: String,
    /// `KA-20260714-0001`; null until first submitted.
    number: Option<String>,
    /// `KA`, `KU` or `KR`.
    r#type: &'static str,
    /// `draft`, `pending_order`, `returned`, `approved`, `rejected`, `cancelled`.
    state: &'static str,
    /// The state in words.
    status: String,
    /// The level that waits, returned or rejected; else null.
    level: Option<u32>,
    /// Levels as submitted, while it is under review or returned; else null.
    levels: Option<u32>,
    /// What became of an approved form; else null.
    effect: Option<EffectView>,
    /// Operator.
    applicant: String,
    client: String,
    /// The key to change or revoke, or that was issued; else null.
    key: Option<String>,
    name: Option<String>,
    effective_date: String,
    expiry_date: Option<String>,
    /// -1 = unlimited; null on KR.
    quota: Option<i64>,
    description: String,
    apis: Vec<ApiUid>,
    /// KU alone; else null.
    reset_usage: Option<bool>,
    created_at: i64,
    submitted_at: Option<i64>,
    updated_at: i64,
    /// For `If-Match`.
    version: i64,
}

#[derive(Serialize)]
struct EffectView {
    /// `done`, `scheduled`, `stopped`, `failed`.
    state: &'static str,
    /// When it was done, stopped or failed, or is due; UTC ms.
    at: i64,
    /// Why it failed; else null.
    reason: Option<String>,
}

#[derive(Serialize)]
struct DetailView {
    #[serde(flatten)]
    application: ApplicationView,
    /// What happened, oldest first.
    history: Vec<StepView>,
    /// What the caller may do now.
    actions: Vec<&'static str>,
}

#[derive(Serialize)]
struct StepView {
    version: i64,
    at: i64,
    /// Operator, or `keygate`.
    actor: String,
    action: String,
    level: Option<u32>,
    comment: String,
    /// The state afterwards.
    state: String,
}

impl From<Application> for ApplicationView {
    fn from(application: Application) -> Self {
        let Application { id, number, form, applicant, state, version, created_at, submitted_at, updated_at } =
            application;
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
            applicant,
            client: form.client().0.clone(),
            key: form.key().map(|key| key.0.clone()).or(issued),
            name: terms.map(|terms| terms.name.clone()),
            effective_date: form.effective_date().to_string(),
            expiry_date: terms.map(|terms| terms.expiry_date.to_string()),
            quota: terms.map(|terms| terms.quota.map_or(-1, i64::from)),
            description: form.description().to_owned(),
            apis: terms.map(|terms| terms.apis.iter().cloned().collect()).unwrap_or_default(),
            reset_usage: match &form {
                Form::Change { reset_usage, .. } => Some(*reset_usage),
                Form::Apply { .. } | Form::Revoke { .. } => None,
            },
            created_at: created_at.0,
            submitted_at: submitted_at.map(|at| at.0),
            updated_at: updated_at.0,
            version,
        }
    }
}

fn effect_view(state: &State) -> Option<EffectView> {
    let State::Approved { effect, .. } = state else { return None };
    Some(match effect {
        Effect::Done { at, .. } => EffectView { state: "done", at: at.0, reason: None },
        Effect::Scheduled { due } => EffectView { state: "scheduled", at: due.0, reason: None },
        Effect::Stopped { at } => EffectView { state: "stopped", at: at.0, reason: None },
        Effect::Failed { at, reason } => {
            EffectView { state: "failed", at: at.0, reason: Some(reason.clone()) }
        }
    })
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        let Step { version, at, actor, action, level, comment, state } = step;
        Self { version, at: at.0, actor, action, level, comment, state }
    }
}

/// A new form. What it asks for stands beside its type.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewForm {
    r#type: String,
    client: Option<String>,
    key: Option<String>,
    name: Option<String>,
    effective_date: Option<String>,
    expiry_date: Option<String>,
    quota: Option<i64>,
    description: Option<String>,
    apis: Option<Vec<String>>,
    reset_usage: Option<bool>,
}

/// All fields of a form in place of those it had; its type stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditedForm {
    client: Option<String>,
    key: Option<String>,
    name: Option<String>,
    effective_date: Option<String>,
    expiry_date: Option<String>,
    quota: Option<i64>,
    description: Option<String>,
    apis: Option<Vec<String>>,
    reset_usage: Option<bool>,
}

impl EditedForm {
    fn fields(self) -> Fields {
        let Self { client, key, name, effective_date, expiry_date, quota, description, apis, reset_usage } =
            self;
        Fields { client, key, name, effective_date, expiry_date, quota, description, apis, reset_usage }
    }
}

impl NewForm {
    fn fields(self) -> Fields {
        let Self {
            r#type: _,
            client,
            key,
            name,
            effective_date,
            expiry_date,
            quota,
            description,
            apis,
            reset_usage,
        } = self;
        Fields { client, key, name, effective_date, expiry_date, quota, description, apis, reset_usage }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Comment {
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    view: Option<String>,
    state: Option<String>,
    r#type: Option<String>,
    client: Option<String>,
    keyword: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn save(
    AppState(app): AppState<App>,
    actor: Actor,
    Json(body): Json<NewForm>,
) -> Result<Response, Problem> {
    actor.require(Permission::ApplicationsApply)?;
    let kind = FormKind::parse(&body.r#type).ok_or_else(|| unknown_type(&body.r#type))?;
    let application = actions::save(&app, &actor, kind, body.fields()).await?;
    let location = HeaderValue::try_from(format!("/api/v1/applications/{}", application.id));
    let mut response =
        (StatusCode::CREATED, Versioned(application.version, ApplicationView::from(application)))
            .into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn edit(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<EditedForm>,
) -> Result<Versioned<ApplicationView>, Problem> {
    actor.require(Permission::ApplicationsApply)?;
    answer(actions::edit(&app, &actor, &id, seen, body.fields()).await)
}

async fn remove(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<StatusCode, Problem> {
    actor.require(Permission::ApplicationsApply)?;
    actions::delete(&app, &actor, &id, seen).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn submit(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<ApplicationView>, Problem> {
    actor.require(Permission::ApplicationsApply)?;
    answer(actions::submit(&app, &actor, &id, seen, Action::Submit).await)
}

async fn resubmit(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<ApplicationView>, Problem> {
    actor.require(Permission::ApplicationsApply)?;
    answer(actions::submit(&app, &actor, &id, seen, Action::Resubmit).await)
}

async fn approve(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    actor.require(Permission::ApplicationsReview)?;
    answer(actions::review(&app, &actor, &id, seen, Action::Approve, &body.comment).await)
}

async fn send_back(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    actor.require(Permission::ApplicationsReview)?;
    answer(actions::review(&app, &actor, &id, seen, Action::Return, &body.comment).await)
}

async fn reject(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    actor.require(Permission::ApplicationsReview)?;
    answer(actions::review(&app, &actor, &id, seen, Action::Reject, &body.comment).await)
}

async fn withdraw(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    actor.require(Permission::ApplicationsApply)?;
    answer(actions::withdraw(&app, &actor, &id, seen, &body.comment).await)
}

/// Who may is the action's business: the applicant, or who administers keys.
async fn stop(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::stop(&app, &actor, &id, seen, &body.comment).await)
}

async fn show(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<DetailView>, Problem> {
    let Detail { application, history, actions } = actions::detail(&app, &actor, &id).await?;
    let version = application.version;
    let view = DetailView {
        application: application.into(),
        history: history.into_iter().map(StepView::from).collect(),
        actions: actions.into_iter().map(Action::name).collect(),
    };
    Ok(Versioned(version, view))
}

async fn list(
    AppState(app): AppState<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ApplicationView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let place = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => Place::newest(),
        text => Place::parse(text).ok_or_else(|| {
            invalid_query("cursor", "cursor is not one of this list: take it from `next` of the page before")
        })?,
    };
    let (view, filter) = conditions(query)?;
    let found = actions::list(&app, &actor, view, filter, &place, limit + 1).await?;
    let page = Page::new(found, limit, |application| Place::of(application).to_string());
    Ok(Json(page.map(ApplicationView::from)))
}

fn conditions(query: ListQuery) -> Result<(View, Filter), Problem> {
    let view = match query.view.as_deref() {
        None | Some("all") => View::Everything,
        Some("mine") => View::Mine,
        Some("waiting-for-me") => View::WaitingForMe,
        Some("reviewed") => View::Reviewed,
        Some(other) => {
            let detail = format!("view is `{other}`, must be all, mine, waiting-for-me or reviewed");
            return Err(invalid_query("view", detail));
        }
    };
    if let Some(state) = query.state.as_deref().filter(|state| !State::NAMES.contains(state)) {
        let detail = format!("state is `{state}`, must be one of {}", State::NAMES.join(", "));
        return Err(invalid_query("state", detail));
    }
    let kind = match query.r#type.as_deref() {
        Some(code) => Some(
            FormKind::parse(code)
                .ok_or_else(|| invalid_query("type", format!("type is `{code}`, must be KA, KU or KR")))?,
        ),
        None => None,
    };
    if query.keyword.as_ref().is_some_and(|keyword| keyword.chars().count() > MAX_KEYWORD_CHARS) {
        let detail = format!("keyword has more than {MAX_KEYWORD_CHARS} characters");
        return Err(invalid_query("keyword", detail));
    }
    let keyword =
        query.keyword.map(|keyword| keyword.trim().to_owned()).filter(|keyword| !keyword.is_empty());
    Ok((view, Filter { state: query.state, kind, client: query.client, keyword, ..Filter::default() }))
}

fn answer(result: Result<Application, ApplicationError>) -> Result<Versioned<ApplicationView>, Problem> {
    let application = result?;
    Ok(Versioned(application.version, application.into()))
}

fn unknown_type(given: &str) -> Problem {
    Problem::invalid(
        "type",
        format!("`type` is `{given}`: it must be KA (apply for a key), KU (change one) or KR (revoke one)"),
    )
}

fn invalid_query(field: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_query", "The query string is invalid", detail).field(field)
}

impl From<ApplicationError> for Problem {
    fn from(error: ApplicationError) -> Self {
        let detail = error.to_string();
        match error {
            ApplicationError::NotFound(_) => Self::not_found(detail),
            ApplicationError::Field(fault) => Self::invalid(fault.field(), detail),
            ApplicationError::Refused { refusal, .. } => match refusal {
                Refusal::WrongState { .. } => Self::conflict("wrong_state", detail),
                Refusal::ReviewerActed { .. } => Self::conflict("already_reviewed", detail),
                Refusal::OwnForm => {
                    Self::new(StatusCode::FORBIDDEN, "self_approval", "Not permitted", detail)
                }
                Refusal::NotApplicant { .. } | Refusal::NotReviewer { .. } | Refusal::NotOverseer => {
                    Self::forbidden(detail)
                }
            },
            ApplicationError::Changed { .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", "Changed meanwhile", detail)
                    .field("If-Match")
            }
            ApplicationError::VersionMissing => Self::new(
                StatusCode::PRECONDITION_REQUIRED,
                "version_required",
                "Say which version was seen",
                detail,
            )
            .field("If-Match"),
            ApplicationError::NoFlow { .. } => Self::conflict("no_approval_flow", detail),
            ApplicationError::CommentTooLong { .. } => Self::invalid("comment", detail),
            ApplicationError::Db(error) => error.into(),
            ApplicationError::Mail(error) => error.into(),
            ApplicationError::Key(error) => error.into(),
        }
    }
}
