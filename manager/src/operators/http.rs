//! `/api/v1/session`, `/api/v1/operators`, `/api/v1/roles`, and the [`Actor`] of every call.

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::{Deserialize, Serialize};

use super::actions::{self, Changes, IssuedToken, NewOperator, OperatorError};
use super::model::{Actor, Email, Operator, OperatorName, OperatorStatus, Permission, RoleName};
use super::store::{RoleRow, TokenRow};
use crate::app::App;
use crate::http::{IfMatch, Json, Page, Path, Query, Versioned, nullable, page_cursor, page_limit};
use crate::password::Password;
use crate::problem::Problem;

/// Everything about operators.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/session", post(sign_in).get(who_am_i).delete(sign_out))
        .route("/api/v1/operators", post(create).get(list))
        .route("/api/v1/operators/{id}", get(show).patch(update))
        .route("/api/v1/operators/{id}/tokens", post(issue_token).get(list_tokens))
        .route("/api/v1/operators/{id}/tokens/{token}", delete(revoke_token))
        .route("/api/v1/roles", get(list_roles))
        .route("/api/v1/roles/{name}", put(put_role))
}

impl Actor {
    /// 403 unless its roles permit it.
    pub fn require(&self, permission: Permission) -> Result<(), Problem> {
        if self.may(permission) {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "this needs the permission {}, which none of your roles has ({})",
            permission.as_str(),
            self.roles.join(", ")
        )))
    }
}

impl FromRequestParts<App> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        const HOW: &str =
            "present `Authorization: Bearer <token>`, from POST /api/v1/session or an API token of yours";
        let presented = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let Some(token) = presented else { return Err(Problem::unauthenticated(HOW)) };
        actions::authenticate(app, token).await?.ok_or_else(|| {
            Problem::unauthenticated(format!("the token is unknown, expired or revoked: {HOW}"))
        })
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let detail = error.to_string();
        match error {
            OperatorError::NameTaken { .. } => Self::conflict("operator_exists", detail).field("name"),
            OperatorError::Invalid { field, .. } => Self::invalid(field, detail),
            OperatorError::UnknownRole { .. } => Self::invalid("roles", detail),
            OperatorError::NotFound { .. } => Self::not_found(detail),
            OperatorError::WrongPassword => {
                Self::new(StatusCode::UNAUTHORIZED, "wrong_password", "Sign-in refused", detail)
            }
            OperatorError::Locked { .. } => {
                Self::new(StatusCode::FORBIDDEN, "account_locked", "Sign-in refused", detail)
            }
            OperatorError::Disabled => {
                Self::new(StatusCode::FORBIDDEN, "account_disabled", "Sign-in refused", detail)
            }
            OperatorError::LastManager => Self::conflict("last_manager", detail),
            OperatorError::Version { expected, present } => Self::version_mismatch(expected, present),
            OperatorError::TooManyTokens => Self::conflict("too_many_tokens", detail),
            OperatorError::Db(error) => error.into(),
        }
    }
}

#[derive(Serialize)]
struct OperatorView {
    id: String,
    name: String,
    display_name: String,
    email: Option<String>,
    status: OperatorStatus,
    /// Wrong passwords since the last right one.
    failed_attempts: i64,
    roles: Vec<RoleName>,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

impl From<Operator> for OperatorView {
    fn from(operator: Operator) -> Self {
        Self {
            id: operator.id,
            name: operator.name.to_string(),
            display_name: operator.display_name,
            email: operator.email.map(|email| email.as_str().to_string()),
            status: operator.status,
            failed_attempts: operator.failed_attempts,
            roles: operator.roles,
            created_at: operator.created_at.0,
            updated_at: operator.updated_at.0,
            version: operator.version,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    operator: String,
    password: String,
}

async fn sign_in(State(app): State<App>, Json(body): Json<SignIn>) -> Result<Response, Problem> {
    let (operator, token) = actions::sign_in(&app, &body.operator, &body.password).await?;
    let answer = Json(serde_json::json!({
        "token": token.text.as_str(),
        "expires_at": token.expires_at,
        "operator": OperatorView::from(operator),
    }));
    Ok((StatusCode::CREATED, answer).into_response())
}

async fn who_am_i(actor: Actor) -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "operator": actor.operator,
        "name": actor.name,
        "display_name": actor.display_name,
        "email": actor.email,
        "roles": actor.roles,
        "permissions": actor.permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>(),
    }))
}

async fn sign_out(State(app): State<App>, actor: Actor) -> Result<StatusCode, Problem> {
    actions::sign_out(&app, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    display_name: String,
    email: Option<String>,
    password: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

async fn create(State(app): State<App>, actor: Actor, Json(body): Json<Create>) -> Result<Response, Problem> {
    actor.require(Permission::OperatorsManage)?;
    let new = NewOperator {
        name: OperatorName::parse(&body.name).map_err(field("name"))?,
        display_name: body.display_name,
        email: body.email.as_deref().map(Email::parse).transpose().map_err(field("email"))?,
        password: parse_password(body.password.as_deref())?,
        roles: parse_roles(&body.roles)?,
    };
    let operator = actions::create(&app, &actor.audit_name(), new).await?;
    let location = format!("/api/v1/operators/{}", operator.id);
    let answer = Versioned(operator.version, OperatorView::from(operator));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], answer).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OperatorView>>, Problem> {
    actor.require(Permission::OperatorsRead)?;
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let operators = actions::list(&app, &after, limit).await?;
    Ok(Json(Page::new(operators, limit, |operator| operator.name.to_string()).map(OperatorView::from)))
}

async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<OperatorView>, Problem> {
    if id != actor.operator {
        actor.require(Permission::OperatorsRead)?;
    }
    let operator = actions::get(&app, &id).await?;
    Ok(Versioned(operator.version, operator.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    display_name: Option<String>,
    /// null removes it.
    #[serde(default, deserialize_with = "nullable")]
    email: Option<Option<String>>,
    password: Option<String>,
    roles: Option<Vec<String>>,
    status: Option<OperatorStatus>,
    #[serde(default)]
    unlock: bool,
}

async fn update(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Update>,
) -> Result<Versioned<OperatorView>, Problem> {
    actor.require(Permission::OperatorsManage)?;
    let changes = Changes {
        display_name: body.display_name,
        email: match body.email {
            Some(Some(email)) => Some(Some(Email::parse(&email).map_err(field("email"))?)),
            Some(None) => Some(None),
            None => None,
        },
        password: parse_password(body.password.as_deref())?,
        roles: body.roles.as_deref().map(parse_roles).transpose()?,
        status: body.status,
        unlock: body.unlock,
    };
    let operator = actions::update(&app, &actor.audit_name(), &id, expected.0, changes).await?;
    Ok(Versioned(operator.version, operator.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
}

async fn issue_token(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    Json(body): Json<NewToken>,
) -> Result<Response, Problem> {
    require_own_or_manage(&actor, &id)?;
    let IssuedToken { id: token, text, .. } =
        actions::issue_api_token(&app, &actor.audit_name(), &id, &body.name).await?;
    let answer = Json(serde_json::json!({ "id": token, "token": text.as_str() }));
    Ok((StatusCode::CREATED, answer).into_response())
}

#[derive(Serialize)]
struct TokenView {
    id: String,
    name: String,
    created_at: i64,
}

async fn list_tokens(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<Page<TokenView>>, Problem> {
    require_own_or_manage(&actor, &id)?;
    let view = |token: TokenRow| TokenView { id: token.id, name: token.name, created_at: token.created_at };
    let items = actions::api_tokens(&app, &id).await?.into_iter().map(view).collect();
    Ok(Json(Page { items, next: None }))
}

async fn revoke_token(
    State(app): State<App>,
    actor: Actor,
    Path((id, token)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    require_own_or_manage(&actor, &id)?;
    actions::revoke_token(&app, &actor.audit_name(), &id, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct RoleView {
    name: String,
    description: String,
    permissions: Vec<String>,
}

impl From<RoleRow> for RoleView {
    fn from(role: RoleRow) -> Self {
        let permissions = role.permissions.split_ascii_whitespace().map(str::to_string).collect();
        Self { name: role.name, description: role.description, permissions }
    }
}

async fn list_roles(State(app): State<App>, actor: Actor) -> Result<Json<Page<RoleView>>, Problem> {
    actor.require(Permission::OperatorsRead)?;
    let items = actions::roles(&app).await?.into_iter().map(RoleView::from).collect();
    Ok(Json(Page { items, next: None }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutRole {
    #[serde(default)]
    description: String,
    permissions: Vec<String>,
}

async fn put_role(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
    Json(body): Json<PutRole>,
) -> Result<Json<RoleView>, Problem> {
    actor.require(Permission::OperatorsManage)?;
    let name = RoleName::parse(&name).map_err(field("name"))?;
    let role =
        actions::put_role(&app, &actor.audit_name(), &name, &body.description, &body.permissions).await?;
    Ok(Json(role.into()))
}

fn require_own_or_manage(actor: &Actor, operator: &str) -> Result<(), Problem> {
    if actor.operator == operator { Ok(()) } else { actor.require(Permission::OperatorsManage) }
}

fn parse_password(text: Option<&str>) -> Result<Option<Password>, Problem> {
    text.map(Password::parse)
        .transpose()
        .map_err(|error| Problem::invalid("password", format!("password {error}")))
}

fn parse_roles(names: &[String]) -> Result<Vec<RoleName>, Problem> {
    names.iter().map(|name| RoleName::parse(name)).collect::<Result<_, _>>().map_err(field("roles"))
}

/// The refusal of a field whose rule says what it must be.
fn field(name: &'static str) -> impl Fn(String) -> Problem {
    move |reason| Problem::invalid(name, format!("{name} {reason}"))
}
