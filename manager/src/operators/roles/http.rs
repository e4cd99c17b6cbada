//! `/api/v1/roles`. Deleting one lies above, with those who name roles (`approvals`).

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions;
use super::store::RoleRow;
use crate::app::App;
use crate::http::{Json, Page, Path, Permission, Routes};
use crate::operators::actor::{Actor, By};
use crate::operators::http::field;
use crate::operators::model::RoleName;
use crate::problem::Problem;

/// Everything about roles.
pub(in crate::operators) fn routes() -> Routes {
    Routes::of("operators")
        .permitted(&[Permission::OperatorsRead], routes!(list_roles))
        .permitted(&[Permission::OperatorsManage], routes!(put_role))
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
    let items = actions::list(&app).await?.into_iter().map(RoleView::from).collect();
    Ok(Json(Page { items, next: None }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoleDefinition)]
struct PutRole {
    /// Absent: as it is.
    description: Option<String>,
    /// `*` alone: all of them.
    permissions: Vec<String>,
}

/// Make a role, or change it.
///
/// Nobody gives more than they hold, nor changes what is worth more.
#[utoipa::path(put, path = "/api/v1/roles/{name}", responses(
    (status = 409, description = "`last_manager`: nobody would be left who manages operators"),
))]
async fn put_role(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
    Json(body): Json<PutRole>,
) -> Result<Json<RoleView>, Problem> {
    let name = RoleName::parse(&name).map_err(field("name"))?;
    let by = By::Operator(&actor);
    let role = actions::put(&app, by, &name, body.description.as_deref(), &body.permissions).await?;
    Ok(Json(role.into()))
}

/// The roles of these names, which may not exist.
pub(in crate::operators) fn parse_names(names: &[String]) -> Result<Vec<RoleName>, Problem> {
    names.iter().map(|name| RoleName::parse(name)).collect::<Result<_, _>>().map_err(field("roles"))
}
