//! `/api/v1/applications`

use axum::extract::State as AppState;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions;
use super::body::{EditedForm, NewForm};
use super::bounds::RETRY_AFTER_S;
use super::error::ApplicationError;
use super::model::{Action, Application, MAX_COMMENT_CHARS, Refusal};
use super::picking;
use super::review::remarks;
use super::trail::{self, TrailView};
use super::view::{ApplicationView, DetailView, MovedView};
use super::worklist;
use crate::app::App;
use crate::http::{Actor, Created, IfMatch, Json, NoContent, Path, Permission, Routes, Versioned};
use crate::mail;
use crate::openapi::schema::schema_of;
use crate::problem::Problem;

/// Everything about forms.
pub fn routes() -> Routes {
    const SEEN: &str = "Its applicant, who may sign it now or has, or with applications.read everybody.";
    const SIGNS: &str =
        "With applications.review and a role of the level, or as the delegate of somebody with both.";
    Routes::of("applications")
        .permitted(&[Permission::ApplicationsApply], routes!(save))
        .merge(worklist::http::routes())
        .merge(picking::routes())
        .decided(SEEN, routes!(show))
        .decided(SEEN, routes!(show_trail))
        .permitted(&[Permission::ApplicationsApply], routes!(edit, remove))
        .permitted(&[Permission::ApplicationsApply], routes!(submit))
        .permitted(&[Permission::ApplicationsApply], routes!(resubmit))
        .decided(SIGNS, routes!(approve))
        .decided(SIGNS, routes!(send_back))
        .decided(SIGNS, routes!(reject))
        .permitted(&[Permission::ApplicationsApply], routes!(withdraw))
        .decided("Its applicant, or with keys.write everybody.", routes!(stop))
}

enum CommentText {}

schema_of! { CommentText: text(0, MAX_COMMENT_CHARS) }

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Comment {
    #[serde(default)]
    #[schema(value_type = CommentText)]
    comment: String,
}

/// Save a form as a draft.
#[utoipa::path(post, path = "/api/v1/applications")]
async fn save(
    AppState(app): AppState<App>,
    actor: Actor,
    Json(body): Json<NewForm>,
) -> Result<Created<Versioned<MovedView>>, Problem> {
    let kind = body.kind()?;
    let application = actions::save(&app, (&actor).into(), kind, body.fields()).await?;
    let location = format!("/api/v1/applications/{}", application.id);
    let remarks = remarks(&app, (&actor).into(), &application).await?;
    let version = application.version;
    let view = MovedView::new(application, remarks, Vec::new());
    Ok(Created(location, Versioned(version, view)))
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
) -> Result<Versioned<MovedView>, Problem> {
    let application = actions::edit(&app, (&actor).into(), &id, seen, body.fields()).await?;
    let remarks = remarks(&app, (&actor).into(), &application).await?;
    Ok(Versioned(application.version, MovedView::new(application, remarks, Vec::new())))
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
    actions::delete(&app, (&actor).into(), &id, seen).await?;
    Ok(NoContent)
}

/// Hand a draft in for review.
#[utoipa::path(post, path = "/api/v1/applications/{id}/submit", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`, `no_approval_flow`, `no_signer`"),
    (status = 422, description = "`invalid_field`: a field no longer holds in the world as it is"),
))]
async fn submit(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<MovedView>, Problem> {
    handed_in(&app, &actor, &id, seen, Action::Submit).await
}

/// Hand a returned form in again.
#[utoipa::path(post, path = "/api/v1/applications/{id}/resubmit", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`, `no_approval_flow`, `no_signer`"),
    (status = 422, description = "`invalid_field`: a field no longer holds in the world as it is"),
))]
async fn resubmit(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<MovedView>, Problem> {
    handed_in(&app, &actor, &id, seen, Action::Resubmit).await
}

/// Sign the level that waits.
#[utoipa::path(post, path = "/api/v1/applications/{id}/approve", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`; `no_signer`: another level would be left without; `credential_addresses_changed`: the credentials would go elsewhere than when it was submitted; or what keeps the key from being issued, changed or revoked, or the client from being made"),
    (status = 403, description = "`forbidden`: no role of the level with applications.review, nor a delegation; `self_approval`: one's own form; `signed_another_level`: of this round"),
    (status = 428, description = "`version_required`: send `If-Match`"),
))]
async fn approve(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<MovedView>, Problem> {
    moved(&app, actions::review(&app, (&actor).into(), &id, seen, Action::Approve, &body.comment).await).await
}

/// Send a form back to its applicant.
#[utoipa::path(post, path = "/api/v1/applications/{id}/return", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`"),
    (status = 403, description = "`forbidden`: no role of the level with applications.review, nor a delegation; `self_approval`: one's own form; `signed_another_level`: of this round"),
    (status = 428, description = "`version_required`: send `If-Match`"),
))]
async fn send_back(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<MovedView>, Problem> {
    moved(&app, actions::review(&app, (&actor).into(), &id, seen, Action::Return, &body.comment).await).await
}

/// Refuse a form for good.
#[utoipa::path(post, path = "/api/v1/applications/{id}/reject", params(IfMatch), responses(
    (status = 409, description = "`wrong_state`"),
    (status = 403, description = "`forbidden`: no role of the level with applications.review, nor a delegation; `self_approval`: one's own form; `signed_another_level`: of this round"),
    (status = 428, description = "`version_required`: send `If-Match`"),
))]
async fn reject(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<MovedView>, Problem> {
    moved(&app, actions::review(&app, (&actor).into(), &id, seen, Action::Reject, &body.comment).await).await
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
) -> Result<Versioned<MovedView>, Problem> {
    moved(&app, actions::withdraw(&app, (&actor).into(), &id, seen, &body.comment).await).await
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
    answer(actions::stop(&app, (&actor).into(), &id, seen, &body.comment).await)
}

/// Show a form, its history, what the caller may do now, and what its reviewers look at.
#[utoipa::path(get, path = "/api/v1/applications/{id}")]
async fn show(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<DetailView>, Problem> {
    let detail = worklist::detail_with_names(&app, (&actor).into(), &id).await?;
    let with_emails = actor.may(Permission::ClientsRead);
    Ok(Versioned(detail.0.application.version, DetailView::new(detail, with_emails)))
}

/// Show all that happened to a form: round by round who signed what, its mails, its audit entries.
#[utoipa::path(get, path = "/api/v1/applications/{id}/trail")]
async fn show_trail(
    AppState(app): AppState<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<TrailView>, Problem> {
    Ok(Json(trail::of(&app, &actor, &id).await?.into()))
}

fn answer(result: Result<Application, ApplicationError>) -> Result<Versioned<ApplicationView>, Problem> {
    let application = result?;
    Ok(Versioned(application.version, application.into()))
}

/// The answer to a step that mails tell about: who takes it should know that they do not go out.
async fn moved(
    app: &App,
    result: Result<Application, ApplicationError>,
) -> Result<Versioned<MovedView>, Problem> {
    let application = result?;
    let warnings = mail::warnings(&mut *app.db.read().await?, app).await?;
    Ok(Versioned(application.version, MovedView::new(application, Vec::new(), warnings)))
}

async fn handed_in(
    app: &App,
    actor: &Actor,
    id: &str,
    seen: Option<i64>,
    action: Action,
) -> Result<Versioned<MovedView>, Problem> {
    let application = actions::submit(app, actor.into(), id, seen, action).await?;
    let remarks = remarks(app, actor.into(), &application).await?;
    let mails = mail::warnings(&mut *app.db.read().await?, app).await?;
    Ok(Versioned(application.version, MovedView::new(application, remarks, mails)))
}

impl From<ApplicationError> for Problem {
    fn from(error: ApplicationError) -> Self {
        let detail = error.to_string();
        match error {
            ApplicationError::NotFound(_) => Self::not_found(detail),
            ApplicationError::Field(fault) | ApplicationError::Reworded { fault, .. } => {
                Self::invalid(fault.field(), detail)
            }
            ApplicationError::Refused { refusal, .. } => match refusal {
                Refusal::WrongState { .. } => Self::conflict("wrong_state", detail),
                Refusal::ReviewerActed { .. } => Self::conflict("already_reviewed", detail),
                Refusal::NeededElsewhere { .. } => Self::conflict("no_signer", detail),
                Refusal::SignedAnother { .. } => {
                    Self::new(StatusCode::FORBIDDEN, "signed_another_level", "Not permitted", detail)
                }
                Refusal::OwnForm => {
                    Self::new(StatusCode::FORBIDDEN, "self_approval", "Not permitted", detail)
                }
                Refusal::NotApplicant { .. }
                | Refusal::NotReviewer { .. }
                | Refusal::NotOverseer
                | Refusal::TokenOutOfReach => Self::forbidden(detail),
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
            ApplicationError::NoSigner { .. } | ApplicationError::NoSignerAtPresent => {
                Self::conflict("no_signer", detail)
            }
            ApplicationError::CredentialsRedirected => Self::conflict("credential_addresses_changed", detail),
            ApplicationError::NoFlow { .. } => Self::conflict("no_approval_flow", detail),
            ApplicationError::TooManyOpen => Self::conflict("too_many_open_forms", detail),
            ApplicationError::TooManyVersions { .. } => Self::conflict("too_many_versions", detail),
            ApplicationError::TooManySubmissions => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_submissions",
                "Handed in too often",
                detail,
            )
            .retry_after(RETRY_AFTER_S),
            ApplicationError::NotFiledBy { .. } => Self::invalid("type", detail),
            ApplicationError::CommentTooLong { .. } => Self::invalid("comment", detail),
            ApplicationError::Db(error) => error.into(),
            ApplicationError::Mail(error) => error.into(),
            ApplicationError::Key(error) => error.into(),
            ApplicationError::Client(error) => error.into(),
        }
    }
}
