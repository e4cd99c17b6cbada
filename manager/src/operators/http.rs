//! `/api/v1/operators`, and what all paths of operators share.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, Changes, NewOperator};
use super::actor::{Actor, By};
use super::error::OperatorError;
use super::model::{Email, Operator, OperatorName, OperatorStatus, RoleName};
use super::permission::{Permission, names};
use super::{roles, sessions, tokens};
use crate::app::App;
use crate::http::{
    Created, IfMatch, Json, Page, Path, Query, Routes, Versioned, nullable, page_cursor, page_limit,
};
use crate::password::Password;
use crate::problem::Problem;

/// Who may see and end tokens and sessions.
pub(super) const OWN: &str =
    "One's own, but not with a token that is limited to some permissions; with operators.manage everybody's.";

/// Everything about operators.
pub fn routes() -> Routes {
    Routes::of("operators")
        .permitted(&[Permission::OperatorsRead], routes!(list))
        .permitted(&[Permission::OperatorsManage], routes!(create))
        .decided("Oneself, or with operators.read everybody.", routes!(show))
        .permitted(&[Permission::OperatorsManage], routes!(update))
        .merge(sessions::routes())
        .merge(tokens::routes())
        .merge(roles::routes())
}

impl Actor {
    /// 403 unless its roles, and its token, permit it.
    pub fn require(&self, permission: Permission) -> Result<(), Problem> {
        self.require_one_of(&[permission])
    }

    /// 403 unless its roles, and its token, permit one of them.
    pub fn require_one_of(&self, permissions: &[Permission]) -> Result<(), Problem> {
        if permissions.iter().any(|permission| self.may(*permission)) {
            return Ok(());
        }
        let needed =
            permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(" or ");
        let why = match (&self.token.scope, self.roles.as_slice()) {
            (Some(scope), _) => format!("the token that you present is limited to {}", names(scope)),
            (None, []) => "you have no role".to_string(),
            (None, roles) => format!("none of your roles has it ({})", roles.join(", ")),
        };
        Err(Problem::forbidden(format!("this needs the permission {needed}: {why}")))
    }

    /// 403 while nothing but setting an own password is permitted.
    pub fn require_own_password(&self) -> Result<(), Problem> {
        if !self.must_change_password {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "password_change_required",
            "Change your password first",
            "your password was set by somebody else: set your own one with PUT /api/v1/session/password, then \
             repeat this call",
        ))
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let detail = error.to_string();
        match error {
            OperatorError::NameTaken { .. } => Self::conflict("operator_exists", detail).field("name"),
            OperatorError::Invalid { field, .. } => Self::invalid(field, detail),
            OperatorError::Unconfirmed => Self::invalid("new_password_confirmation", detail),
            OperatorError::UnknownRole { .. } => Self::invalid("roles", detail),
            OperatorError::NotFound { .. } => Self::not_found(detail),
            OperatorError::Exceeds { .. } => Self::forbidden(detail),
            OperatorError::WrongPassword { .. } => {
                Self::new(StatusCode::UNAUTHORIZED, "wrong_password", "Sign-in refused", detail)
            }
            OperatorError::Locked { .. } => {
                Self::new(StatusCode::FORBIDDEN, "account_locked", "Account locked", detail)
            }
            OperatorError::Disabled => {
                Self::new(StatusCode::FORBIDDEN, "account_disabled", "Sign-in refused", detail)
            }
            OperatorError::LastManager => Self::conflict("last_manager", detail),
            OperatorError::RoleHeld { .. } => Self::conflict("role_in_use", detail),
            OperatorError::Version { expected, present } => Self::version_mismatch(expected, present),
            OperatorError::TooManyTokens => Self::conflict("too_many_tokens", detail),
            OperatorError::Db(error) => error.into(),
        }
    }
}

/// An operator. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Operator)]
pub(super) struct OperatorView {
    id: String,
    #[schema(value_type = OperatorName)]
    name: String,
    display_name: String,
    email: Option<String>,
    status: OperatorStatus,
    /// Its password was set by somebody else: a session can do nothing but set an own one.
    must_change_password: bool,
    /// Wrong passwords since the last right one; at `lockout_attempts` it is locked.
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
            must_change_password: operator.must_change_password,
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
#[schema(as = OperatorCreate)]
struct Create {
    #[schema(value_type = OperatorName)]
    name: String,
    #[serde(default)]
    display_name: String,
    #[schema(value_type = Option<Email>)]
    email: Option<String>,
    /// Serves only to set an own one; without one it works by API token alone.
    #[schema(value_type = Option<Password>)]
    password: Option<String>,
    #[serde(default)]
    #[schema(value_type = Vec<RoleName>)]
    roles: Vec<String>,
}

/// Create an operator.
///
/// Nobody gives roles that are worth more than they hold.
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
        roles: roles::parse_names(&body.roles)?,
    };
    let operator = actions::create(&app, By::Operator(&actor), new).await?;
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
    /// Not one's own: see `PUT /api/v1/session/password`.
    #[schema(value_type = Option<Password>)]
    password: Option<String>,
    #[schema(value_type = Option<Vec<RoleName>>)]
    roles: Option<Vec<String>>,
    status: Option<OperatorStatus>,
    /// Lets it try passwords again.
    #[serde(default)]
    unlock: bool,
    /// With `password`: whether that ends its API tokens too; absent: it does.
    end_tokens: Option<bool>,
}

/// Change an operator; what is absent stays.
///
/// A new password or a disabled account ends its sessions, a new password its API tokens too; one set
/// here serves only to set an own one. Nobody changes an operator who holds more than they do.
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
    if body.end_tokens.is_some() && body.password.is_none() {
        let reason = "end_tokens says what a new password does: name password too, or revoke the tokens";
        return Err(Problem::invalid("end_tokens", reason));
    }
    let changes = Changes {
        display_name: body.display_name,
        email: match body.email {
            Some(Some(email)) => Some(Some(Email::parse(&email).map_err(field("email"))?)),
            Some(None) => Some(None),
            None => None,
        },
        password: parse_password(body.password.as_deref())?,
        roles: body.roles.as_deref().map(roles::parse_names).transpose()?,
        status: body.status,
        unlock: body.unlock,
        keep_tokens: body.end_tokens == Some(false),
    };
    let operator = actions::update(&app, By::Operator(&actor), &id, expected.0, changes).await?;
    Ok(Versioned(operator.version, operator.into()))
}

/// See [`OWN`].
pub(super) fn require_own_or_manage(actor: &Actor, operator: &str) -> Result<(), Problem> {
    if actor.operator == operator && actor.token.scope.is_none() {
        return Ok(());
    }
    actor.require(Permission::OperatorsManage)
}

fn parse_password(text: Option<&str>) -> Result<Option<Password>, Problem> {
    text.map(Password::parse)
        .transpose()
        .map_err(|error| Problem::invalid("password", format!("password {error}")))
}

/// The refusal of a field whose rule says what it must be.
pub(super) fn field(name: &'static str) -> impl Fn(String) -> Problem {
    move |reason| Problem::invalid(name, format!("{name} {reason}"))
}
