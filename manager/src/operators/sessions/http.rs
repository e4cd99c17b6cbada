//! `/api/v1/session`, `/api/v1/operators/{id}/sessions`, and the [`Actor`] of every call.

use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions;
use crate::app::App;
use crate::bearer;
use crate::caller_address::CallerAddress;
use crate::http::{Added, Confidential, Json, NoContent, Page, Path, Permission, Routes};
use crate::operators::actor::Actor;
use crate::operators::error::OperatorError;
use crate::operators::http::{OWN, OperatorView, require_own_or_manage};
use crate::operators::tokens::{Token, TokenKind};
use crate::password::Password;
use crate::problem::Problem;

/// Everything about sessions.
pub(in crate::operators) fn routes() -> Routes {
    Routes::of("operators")
        .open(routes!(sign_in))
        .own_session(routes!(who_am_i, sign_out))
        .own_session(routes!(change_password))
        .decided(OWN, routes!(list_sessions, end_sessions))
        .decided(OWN, routes!(end_session))
}

/// Whose token it is that a call presents. 401 where it is nobody's.
pub async fn identify(app: &App, headers: &HeaderMap) -> Result<Actor, Problem> {
    const HOW: &str =
        "present `Authorization: Bearer <token>`, from POST /api/v1/session or an API token of yours";
    let Some(token) = bearer::presented(headers) else { return Err(Problem::unauthenticated(HOW)) };
    actions::authenticate(app, token)
        .await?
        .ok_or_else(|| Problem::unauthenticated(format!("the token is unknown, expired or revoked: {HOW}")))
}

/// Who calls, as `Routes` found out before the handler runs.
impl FromRequestParts<App> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("An operation that is open to everybody asks who calls");
            Problem::internal()
        })
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    operator: String,
    password: String,
}

/// A session that was opened.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenedSession)]
struct OpenedView {
    /// To be presented as `Authorization: Bearer <token>`.
    token: String,
    /// UTC ms; it ends then, whether it is used or not.
    expires_at: Option<i64>,
    operator: OperatorView,
}

/// Open a session.
///
/// An unknown name and a locked account are refused as a wrong password is. While the operator's
/// `must_change_password` holds, the session serves for `PUT /api/v1/session/password` alone.
#[utoipa::path(post, path = "/api/v1/session", responses(
    (status = 401, description = "`wrong_password`: also for an unknown name and a locked account"),
    (status = 403, description = "`account_disabled`: told only to who knows the password"),
    (status = 429, description = "`too_many_wrong_passwords`: from the caller's address, within 10 minutes"),
))]
async fn sign_in(
    State(app): State<App>,
    from: CallerAddress,
    Json(body): Json<SignIn>,
) -> Result<Confidential<Added<Json<OpenedView>>>, Problem> {
    let _place = app.passwords.enter()?;
    let tried = app.wrong_passwords.begin(&from, app.now())?;
    let opened = actions::sign_in(&app, &body.operator, &body.password).await;
    if !matches!(opened, Err(OperatorError::WrongPassword { .. })) {
        tried.was_not_wrong();
    }
    let (operator, token) = opened?;
    Ok(Confidential(Added(Json(OpenedView {
        token: token.text.as_str().to_string(),
        expires_at: token.expires_at.map(|at| at.0),
        operator: operator.into(),
    }))))
}

/// Who calls, and what roles and token permit.
#[derive(Serialize, ToSchema)]
#[schema(as = WhoAmI)]
struct ActorView {
    operator: String,
    name: String,
    display_name: String,
    email: Option<String>,
    roles: Vec<String>,
    #[schema(value_type = Vec<Permission>)]
    permissions: Vec<&'static str>,
    /// This session can do nothing but set an own password.
    must_change_password: bool,
    /// `session` or `api`: what the call presents.
    token_kind: &'static str,
    /// When that ends, UTC ms; null: when it is revoked.
    expires_at: Option<i64>,
}

/// Who am I?
#[utoipa::path(get, path = "/api/v1/session")]
async fn who_am_i(actor: Actor) -> Json<ActorView> {
    Json(ActorView {
        permissions: actor.permissions.iter().map(|permission| permission.as_str()).collect(),
        operator: actor.operator,
        name: actor.name,
        display_name: actor.display_name,
        email: actor.email,
        roles: actor.roles,
        must_change_password: actor.must_change_password,
        token_kind: actor.token.kind.as_str(),
        expires_at: actor.token.expires_at.map(|at| at.0),
    })
}

/// End the session, or revoke the API token, that this call presents.
#[utoipa::path(delete, path = "/api/v1/session")]
async fn sign_out(State(app): State<App>, actor: Actor) -> Result<NoContent, Problem> {
    actions::sign_out(&app, &actor).await?;
    Ok(NoContent)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    old_password: String,
    #[schema(value_type = Password)]
    new_password: String,
    /// The new one again.
    #[schema(value_type = Password)]
    new_password_confirmation: String,
}

/// Set one's own password.
///
/// Ends one's other sessions. A wrong old password counts as one at sign-in does.
#[utoipa::path(put, path = "/api/v1/session/password", responses(
    (status = 403, description = "`account_locked` after `lockout_attempts` wrong passwords"),
))]
async fn change_password(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<PasswordChange>,
) -> Result<NoContent, Problem> {
    let new = Password::parse(&body.new_password)
        .map_err(|error| Problem::invalid("new_password", format!("new_password {error}")))?;
    if body.new_password != body.new_password_confirmation {
        return Err(OperatorError::Unconfirmed.into());
    }
    actions::change_password(&app, &actor, &body.old_password, &new).await?;
    Ok(NoContent)
}

/// A session, without its token.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionView {
    id: String,
    /// UTC ms.
    created_at: i64,
    /// Last instant, UTC ms.
    expires_at: Option<i64>,
    /// To the minute, UTC ms; null: never.
    last_used_at: Option<i64>,
    /// Whether this call presents it.
    current: bool,
}

impl SessionView {
    fn new(session: Token, actor: &Actor) -> Self {
        Self {
            current: actor.token.kind == TokenKind::Session && session.id == actor.token.id,
            id: session.id,
            created_at: session.created_at.0,
            expires_at: session.expires_at.map(|at| at.0),
            last_used_at: session.last_used_at.map(|at| at.0),
        }
    }
}

/// List an operator's live sessions, oldest first.
#[utoipa::path(get, path = "/api/v1/operators/{id}/sessions")]
async fn list_sessions(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<Page<SessionView>>, Problem> {
    require_own_or_manage(&actor, &id)?;
    let sessions = actions::list(&app, &id).await?;
    let items = sessions.into_iter().map(|session| SessionView::new(session, &actor)).collect();
    Ok(Json(Page { items, next: None }))
}

/// End all sessions of an operator but the one that this call presents.
#[utoipa::path(delete, path = "/api/v1/operators/{id}/sessions")]
async fn end_sessions(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<NoContent, Problem> {
    require_own_or_manage(&actor, &id)?;
    actions::end(&app, &actor, &id, None).await?;
    Ok(NoContent)
}

/// End a session of an operator.
#[utoipa::path(delete, path = "/api/v1/operators/{id}/sessions/{session}")]
async fn end_session(
    State(app): State<App>,
    actor: Actor,
    Path((id, session)): Path<(String, String)>,
) -> Result<NoContent, Problem> {
    require_own_or_manage(&actor, &id)?;
    actions::end(&app, &actor, &id, Some(&session)).await?;
    Ok(NoContent)
}
