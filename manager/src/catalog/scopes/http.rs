//! `/api/v1/scopes`.

use axum::extract::State;
use utoipa_axum::routes;

use crate::app::App;
use crate::catalog::groups::GroupKind;
use crate::catalog::groups::actions;
use crate::catalog::groups::http::{CreateGroup, GroupView, ListGroups, UpdateGroup};
use crate::http::{
    Actor, Created, IfMatch, Json, NoContent, Page, Path, Permission, Query, Routes, Versioned,
};
use crate::problem::Problem;

/// Everything about scopes.
pub fn routes() -> Routes {
    Routes::of("catalog")
        .permitted(&[Permission::CatalogRead], routes!(list_scopes))
        .permitted(&[Permission::CatalogWrite], routes!(create_scope))
        .permitted(&[Permission::CatalogRead], routes!(show_scope))
        .permitted(&[Permission::CatalogWrite], routes!(update_scope, delete_scope))
}

/// List scopes by name.
#[utoipa::path(get, path = "/api/v1/scopes", params(ListGroups))]
async fn list_scopes(
    State(app): State<App>,
    Query(query): Query<ListGroups>,
) -> Result<Json<Page<GroupView>>, Problem> {
    query.page(&app, GroupKind::Scope).await.map(Json)
}

/// Make a scope.
#[utoipa::path(post, path = "/api/v1/scopes", responses(
    (status = 409, description = "`group_exists`"),
))]
async fn create_scope(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<CreateGroup>,
) -> Result<Created<Versioned<GroupView>>, Problem> {
    let scope = actions::create(&app, &actor.audit_name(), GroupKind::Scope, body.into()).await?;
    let location = format!("/api/v1/scopes/{}", scope.id);
    let answer = Versioned(scope.version, GroupView::from(scope));
    Ok(Created(location, answer))
}

/// Show a scope.
#[utoipa::path(get, path = "/api/v1/scopes/{id}")]
async fn show_scope(State(app): State<App>, Path(id): Path<String>) -> Result<Versioned<GroupView>, Problem> {
    let scope = actions::show(&app, GroupKind::Scope, &id).await?;
    Ok(Versioned(scope.version, scope.into()))
}

/// Change a scope; what is absent stays.
#[utoipa::path(patch, path = "/api/v1/scopes/{id}", params(IfMatch), responses(
    (status = 409, description = "`group_exists`"),
))]
async fn update_scope(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<UpdateGroup>,
) -> Result<Versioned<GroupView>, Problem> {
    let (by, kind) = (actor.audit_name(), GroupKind::Scope);
    let scope = actions::update(&app, &by, kind, &id, expected.0, body.into()).await?;
    Ok(Versioned(scope.version, scope.into()))
}

/// Delete a scope that nobody has been given.
#[utoipa::path(delete, path = "/api/v1/scopes/{id}", params(IfMatch), responses(
    (status = 409, description = "`scope_in_use`: `detail` names who has it"),
))]
async fn delete_scope(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
) -> Result<NoContent, Problem> {
    actions::delete(&app, &actor.audit_name(), GroupKind::Scope, &id, expected.0).await?;
    Ok(NoContent)
}
