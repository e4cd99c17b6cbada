//! `/api/v1/applications`

use axum::extract::State as AppState;
use axum::http::StatusCode;
use gate::id::ApiUid;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions;
use super::error::ApplicationError;
use super::form::{self, Fields, Form};
use super::model::{Action, Application, Effect, MAX_COMMENT_CHARS, Refusal, State, Step};
use super::worklist::{self, Detail, Filter, Place, View};
use crate::app::App;
use crate::approvals::FormKind;
use crate::http::{
    Actor, Created, IfMatch, Json, NoContent, Page, Path, Permission, Query, Routes, Versioned,
    foreign_cursor, page_cursor, page_limit,
};
use crate::openapi::schema::{Day, schema_of};
use crate::problem::Problem;

/// Characters of a keyword at most: no field that is searched is longer.
const MAX_KEYWORD_CHARS: usize = 500;

/// Everything about forms.
pub fn routes() -> Routes {
    const SEEN: &str = "Its applicant, who may sign it now or has, or with applications.read everybody.";
    Routes::of("applications")
        .permitted(&[Permission::ApplicationsApply], routes!(save))
        .signed_in(routes!(list))
        .decided(SEEN, routes!(show))
        .permitted(&[Permission::ApplicationsApply], routes!(edit, remove))
        .permitted(&[Permission::ApplicationsApply], routes!(submit))
        .permitted(&[Permission::ApplicationsApply], routes!(resubmit))
        .permitted(&[Permission::ApplicationsReview], routes!(approve))
        .permitted(&[Permission::ApplicationsReview], routes!(send_back))
        .permitted(&[Permission::ApplicationsReview], routes!(reject))
        .permitted(&[Permission::ApplicationsApply], routes!(withdraw))
        .decided("Its applicant, or with keys.write everybody.", routes!(stop))
}

/// A form. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Application)]
struct ApplicationView {
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
    /// Operator.
    applicant: String,
    client: String,
    /// The key to change or revoke, or that was issued; else null.
    key: Option<String>,
    name: Option<String>,
    #[schema(value_type = Day)]
    effective_date: String,
    #[schema(value_type = Option<Day>)]
    expiry_date: Option<String>,
    /// -1 = unlimited; null on KR.
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
struct EffectView {
    #[schema(value_type = EffectState)]
    state: &'static str,
    /// When it was done, stopped or failed, or is due; UTC ms.
    at: i64,
    /// Why it failed; else null.
    reason: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationDetail)]
struct DetailView {
    #[serde(flatten)]
    application: ApplicationView,
    /// What happened, oldest first.
    history: Vec<StepView>,
    /// What the caller may do now.
    #[schema(value_type = Vec<Action>)]
    actions: Vec<&'static str>,
}

enum EffectState {}

schema_of! { EffectState: one_of(["done", "scheduled", "stopped", "failed"]) }

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationStep)]
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

enum ViewName {}
enum Keyword {}
enum CommentText {}

schema_of! { ViewName: one_of(["all", "mine", "waiting-for-me", "reviewed"]) }
schema_of! { Keyword: text(0, MAX_KEYWORD_CHARS) }
schema_of! { CommentText: text(0, MAX_COMMENT_CHARS) }

/// A new form. What it asks for stands beside its type.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewForm {
    #[schema(value_type = FormKind)]
    r#type: String,
    /// Of a KA.
    client: Option<String>,
    /// Of a KU or KR.
    key: Option<String>,
    #[schema(value_type = Option<form::Name>)]
    name: Option<String>,
    #[schema(value_type = Option<Day>)]
    effective_date: Option<String>,
    #[schema(value_type = Option<Day>)]
    expiry_date: Option<String>,
    #[schema(value_type = Option<form::Quota>)]
    quota: Option<i64>,
    #[schema(value_type = Option<form::Description>)]
    description: Option<String>,
    #[schema(value_type = Option<form::Apis>)]
    apis: Option<Vec<String>>,
    /// Of a KU.
    reset_usage: Option<bool>,
}

/// All fields of a form in place of those it had; its type stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EditedForm {
    /// Of a KA.
    client: Option<String>,
    /// Of a KU or KR.
    key: Option<String>,
    #[schema(value_type = Option<form::Name>)]
    name: Option<String>,
    #[schema(value_type = Option<Day>)]
    effective_date: Option<String>,
    #[schema(value_type = Option<Day>)]
    expiry_date: Option<String>,
    #[schema(value_type = Option<form::Quota>)]
    quota: Option<i64>,
    #[schema(value_type = Option<form::Description>)]
    description: Option<String>,
    #[schema(value_type = Option<form::Apis>)]
    apis: Option<Vec<String>>,
    /// Of a KU.
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

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Comment {
    #[serde(default)]
    #[schema(value_type = CommentText)]
    comment: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[param(inline, value_type = Option<ViewName>)]
    view: Option<String>,
    #[param(inline, value_type = Option<State>)]
    state: Option<String>,
    #[param(inline, value_type = Option<FormKind>)]
    r#type: Option<String>,
    client: Option<String>,
    /// In number, client, name or description, in whatever case.
    #[param(inline, value_type = Option<Keyword>)]
    keyword: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Save a form as a draft.
#[utoipa::path(post, path = "/api/v1/applications")]
async fn save(
    AppState(app): AppState<App>,
    actor: Actor,
    Json(body): Json<NewForm>,
) -> Result<Created<Versioned<ApplicationView>>, Problem> {
    let kind = FormKind::parse(&body.r#type).ok_or_else(|| unknown_type(&body.r#type))?;
    let application = actions::save(&app, &actor, kind, body.fields()).await?;
    let location = format!("/api/v1/applications/{}", application.id);
    Ok(Created(location, Versioned(application.version, application.into())))
}

/// Replace the fields of a draft or a returned form.
#[utoipa::path(put, path = "/api/v1/applications/{id}", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`"),
))]
async fn edit(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<EditedForm>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::edit(&app, &actor, &id, seen, body.fields()).await)
}

/// Throw a draft away.
#[utoipa::path(delete, path = "/api/v1/applications/{id}", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`"),
))]
async fn remove(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<NoContent, Problem> {
    actions::delete(&app, &actor, &id, seen).await?;
    Ok(NoContent)
}

/// Hand a draft in for review.
#[utoipa::path(post, path = "/api/v1/applications/{id}/submit", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`, `no_approval_flow`"),
    (status = 422, description = "`invalid_field`: a field no longer holds in the world as it is"),
))]
async fn submit(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::submit(&app, &actor, &id, seen, Action::Submit).await)
}

/// Hand a returned form in again.
#[utoipa::path(post, path = "/api/v1/applications/{id}/resubmit", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`, `no_approval_flow`"),
    (status = 422, description = "`invalid_field`: a field no longer holds in the world as it is"),
))]
async fn resubmit(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::submit(&app, &actor, &id, seen, Action::Resubmit).await)
}

/// Sign the level that waits.
#[utoipa::path(post, path = "/api/v1/applications/{id}/approve", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`, or what keeps the key from being issued, changed or revoked"),
    (status = 403, description = "`forbidden`: the role of the level or applications.review is missing; `self_approval`: one's own form"),
    (status = 428, description = "`version_required`: send `If-Match`"),
))]
async fn approve(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::review(&app, &actor, &id, seen, Action::Approve, &body.comment).await)
}

/// Send a form back to its applicant.
#[utoipa::path(post, path = "/api/v1/applications/{id}/return", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`"),
    (status = 403, description = "`forbidden`: the role of the level or applications.review is missing; `self_approval`: one's own form"),
    (status = 428, description = "`version_required`: send `If-Match`"),
))]
async fn send_back(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::review(&app, &actor, &id, seen, Action::Return, &body.comment).await)
}

/// Refuse a form for good.
#[utoipa::path(post, path = "/api/v1/applications/{id}/reject", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`"),
    (status = 403, description = "`forbidden`: the role of the level or applications.review is missing; `self_approval`: one's own form"),
    (status = 428, description = "`version_required`: send `If-Match`"),
))]
async fn reject(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::review(&app, &actor, &id, seen, Action::Reject, &body.comment).await)
}

/// Take one's form back for good.
#[utoipa::path(post, path = "/api/v1/applications/{id}/withdraw", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`, `already_reviewed`"),
))]
async fn withdraw(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::withdraw(&app, &actor, &id, seen, &body.comment).await)
}

/// Stop an approved change or revocation that is not yet due.
#[utoipa::path(post, path = "/api/v1/applications/{id}/stop", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`"),
))]
async fn stop(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(actions::stop(&app, &actor, &id, seen, &body.comment).await)
}

/// Show a form, its history, and what the caller may do now.
#[utoipa::path(get, path = "/api/v1/applications/{id}")]
async fn show(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<DetailView>, Problem> {
    let Detail { application, history, actions } = worklist::detail(&app, &actor, &id).await?;
    let version = application.version;
    let view = DetailView {
        application: application.into(),
        history: history.into_iter().map(StepView::from).collect(),
        actions: actions.into_iter().map(Action::name).collect(),
    };
    Ok(Versioned(version, view))
}

/// List forms, newest first.
///
/// Without applications.read: one's own, those that wait for one's signature, and those one has signed,
/// returned or rejected.
#[utoipa::path(get, path = "/api/v1/applications", params(ListQuery))]
async fn list(
    AppState(app): AppState<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ApplicationView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let place = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => Place::newest(),
        text => Place::parse(text).ok_or_else(foreign_cursor)?,
    };
    let (view, filter) = conditions(query)?;
    let found = worklist::list(&app, &actor, view, filter, &place, limit + 1).await?;
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
            return Err(Problem::invalid_query("view", detail));
        }
    };
    if let Some(state) = query.state.as_deref().filter(|state| !State::NAMES.contains(state)) {
        let detail = format!("state is `{state}`, must be one of {}", State::NAMES.join(", "));
        return Err(Problem::invalid_query("state", detail));
    }
    let kind = match query.r#type.as_deref() {
        Some(code) => Some(FormKind::parse(code).ok_or_else(|| {
            Problem::invalid_query("type", format!("type is `{code}`, must be KA, KU or KR"))
        })?),
        None => None,
    };
    if query.keyword.as_ref().is_some_and(|keyword| keyword.chars().count() > MAX_KEYWORD_CHARS) {
        let detail = format!("keyword has more than {MAX_KEYWORD_CHARS} characters");
        return Err(Problem::invalid_query("keyword", detail));
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
