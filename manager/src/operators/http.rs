//! `/api/v1/session`, `/api/v1/operators`, `/api/v1/roles`, and the [`Actor`] of every call.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, Changes, IssuedToken, NewOperator, OperatorError};
use super::model::{Actor, Email, Operator, OperatorName, OperatorStatus, Permission, RoleName};
use super::store::{RoleRow, TokenRow};
use crate::app::App;
use crate::http::{
    Added, Created, IfMatch, Json, NoContent, Page, Path, Query, Routes, Versioned, nullable, page_cursor,
    page_limit,
};
use crate::password::Password;
use crate::problem::Problem;

/// Everything about operators.
pub fn routes() -> Routes {
    const OWN: &str = "Own tokens, or with operators.manage those of everybody.";
    Routes::of("operators")
        .open(routes!(sign_in))
        .signed_in(routes!(who_am_i, sign_out))
        .permitted(&[Permission::OperatorsRead], routes!(list))
        .permitted(&[Permission::OperatorsManage], routes!(create))
        .decided("Oneself, or with operators.read everybody.", routes!(show))
        .permitted(&[Permission::OperatorsManage], routes!(update))
        .decided(OWN, routes!(list_tokens, issue_token))
        .decided(OWN, routes!(revoke_token))
        .permitted(&[Permission::OperatorsRead], routes!(list_roles))
        .permitted(&[Permission::OperatorsManage], routes!(put_role))
}

impl Actor {
    /// 403 unless its roles permit it.
    pub fn require(&self, permission: Permission) -> Result<(), Problem> {
        self.require_one_of(&[permission])
    }

    /// 403 unless its roles permit one of them.
    pub fn require_one_of(&self, permissions: &[Permission]) -> Result<(), Problem> {
        if permissions.iter().any(|permission| self.may(*permission)) {
            return Ok(());
        }
        let names: Vec<_> = permissions.iter().map(|permission| permission.as_str()).collect();
        let roles = match self.roles.as_slice() {
            [] => "you have no role".to_string(),
            roles => format!("none of your roles has it ({})", roles.join(", ")),
        };
        Err(Problem::forbidden(format!("this needs the permission {}: {roles}", names.join(" or "))))
    }
}

/// Whose token it is that a call presents. 401 where it is nobody's.
pub async fn identify(app: &App, headers: &HeaderMap) -> Result<Actor, Problem> {
    const HOW: &str =
        "present `Authorization: Bearer <token>`, from POST /api/v1/session or an API token of yours";
    let presented = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Some(token) = presented else { return Err(Problem::unauthenticated(HOW)) };
    actions::authenticate(app, token)
        .await?
        .ok_or_else(|| Problem::unauthenticated(format!("the token is unknown, expired or revoked: {HOW}")))
}

/// Who calls, as `Routes` found out before the handler runs.
impl FromRequestParts<App> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match parts.extensions.get::<Self>() {
            Some(actor) => Ok(actor.clone()),
            None => identify(app, &parts.headers).await,
        }
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

/// An operator. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Operator)]
struct OperatorView {
    id: String,
    #[schema(value_type = OperatorName)]
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

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    operator: String,
    password: String,
}

/// A session that was opened.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionView {
    /// To be presented as `Authorization: Bearer <token>`.
    token: String,
    /// UTC ms.
    expires_at: Option<i64>,
    operator: OperatorView,
}

/// Open a session.
///
/// An unknown name is refused as a wrong password is.
#[utoipa::path(post, path = "/api/v1/session", responses(
    (status = 401, description = "`wrong_password`"),
    (status = 403, description = "`account_locked` after too many wrong passwords, `account_disabled`"),
))]
async fn sign_in(
    State(app): State<App>,
    Json(body): Json<SignIn>,
) -> Result<Added<Json<SessionView>>, Problem> {
    let (operator, token) = actions::sign_in(&app, &body.operator, &body.password).await?;
    Ok(Added(Json(SessionView {
        token: token.text.as_str().to_string(),
        expires_at: token.expires_at.map(|at| at.0),
        operator: operator.into(),
    })))
}

/// Who calls, and what the roles permit.
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
#[schema(as = OperatorCreate)]
struct Create {
    #[schema(value_type = OperatorName)]
    name: String,
    #[serde(default)]
    display_name: String,
    #[schema(value_type = Option<Email>)]
    email: Option<String>,
    /// Without one it works by API token alone.
    #[schema(value_type = Option<Password>)]
    password: Option<String>,
    #[serde(default)]
    #[schema(value_type = Vec<RoleName>)]
    roles: Vec<String>,
}

/// Create an operator.
#[utoipa::path(post, path = "/api/v1/operators", responses(
    (status = 409, description = "`operator_exists`"),
))]
async fn create(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<Create>,
) -> Result<Created<Versioned<OperatorView>>, Problem> {
    let new = NewOperator {
        name: OperatorName::parse(&body.name).map_err(field("name"))?,
        display_name: body.display_name,
        email: body.email.as_deref().map(Email::parse).transpose().map_err(field("email"))?,
        password: parse_password(body.password.as_deref())?,
        roles: parse_roles(&body.roles)?,
    };
    let operator = actions::create(&app, &actor.audit_name(), new).await?;
    let location = format!("/api/v1/operators/{}", operator.id);
    Ok(Created(location, Versioned(operator.version, operator.into())))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List operators by name.
#[utoipa::path(get, path = "/api/v1/operators", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OperatorView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let operators = actions::list(&app, &after, limit).await?;
    Ok(Json(Page::new(operators, limit, |operator| operator.name.to_string()).map(OperatorView::from)))
}

/// Show an operator.
#[utoipa::path(get, path = "/api/v1/operators/{id}")]
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

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OperatorUpdate)]
struct Update {
    display_name: Option<String>,
    /// null removes it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Email>)]
    email: Option<Option<String>>,
    #[schema(value_type = Option<Password>)]
    password: Option<String>,
    #[schema(value_type = Option<Vec<RoleName>>)]
    roles: Option<Vec<String>>,
    status: Option<OperatorStatus>,
    /// Lets it try passwords again.
    #[serde(default)]
    unlock: bool,
}

/// Change an operator; what is absent stays.
///
/// A new password or a disabled account ends its sessions.
#[utoipa::path(patch, path = "/api/v1/operators/{id}", params(IfMatch), responses(
    (status = 409, description = "`last_manager`: nobody would be left who manages operators"),
))]
async fn update(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Update>,
) -> Result<Versioned<OperatorView>, Problem> {
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

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
}

/// An API token just issued: the only answer that shows its text.
#[derive(Serialize, ToSchema)]
#[schema(as = IssuedToken)]
struct IssuedTokenView {
    id: String,
    token: String,
}

/// Issue an API token.
#[utoipa::path(post, path = "/api/v1/operators/{id}/tokens", responses(
    (status = 409, description = "`too_many_tokens`"),
))]
async fn issue_token(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    Json(body): Json<NewToken>,
) -> Result<Added<Json<IssuedTokenView>>, Problem> {
    require_own_or_manage(&actor, &id)?;
    let IssuedToken { id: token, text, .. } =
        actions::issue_api_token(&app, &actor.audit_name(), &id, &body.name).await?;
    Ok(Added(Json(IssuedTokenView { id: token, token: text.as_str().to_string() })))
}

/// An API token, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
struct TokenView {
    id: String,
    name: String,
    /// UTC ms.
    created_at: i64,
}

/// List an operator's API tokens.
#[utoipa::path(get, path = "/api/v1/operators/{id}/tokens")]
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

/// Revoke an API token.
#[utoipa::path(delete, path = "/api/v1/operators/{id}/tokens/{token}")]
async fn revoke_token(
    State(app): State<App>,
    actor: Actor,
    Path((id, token)): Path<(String, String)>,
) -> Result<NoContent, Problem> {
    require_own_or_manage(&actor, &id)?;
    actions::revoke_token(&app, &actor.audit_name(), &id, &token).await?;
    Ok(NoContent)
}

/// A role.
#[derive(Serialize, ToSchema)]
#[schema(as = Role)]
struct RoleView {
    name: String,
    description: String,
    /// `*`: all of them.
    permissions: Vec<String>,
}

impl From<RoleRow> for RoleView {
    fn from(role: RoleRow) -> Self {
        let permissions = role.permissions.split_ascii_whitespace().map(str::to_string).collect();
        Self { name: role.name, description: role.description, permissions }
    }
}

/// List all roles.
#[utoipa::path(get, path = "/api/v1/roles")]
async fn list_roles(State(app): State<App>) -> Result<Json<Page<RoleView>>, Problem> {
    let items = actions::roles(&app).await?.into_iter().map(RoleView::from).collect();
    Ok(Json(Page { items, next: None }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoleDefinition)]
struct PutRole {
    #[serde(default)]
    description: String,
    /// `*`: all of them.
    permissions: Vec<String>,
}

/// Make a role, or change it.
#[utoipa::path(put, path = "/api/v1/roles/{name}")]
async fn put_role(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
    Json(body): Json<PutRole>,
) -> Result<Json<RoleView>, Problem> {
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
