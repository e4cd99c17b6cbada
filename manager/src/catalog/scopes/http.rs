//! `/api/v1/scopes`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::catalog::groups::GroupKind;
use crate::catalog::groups::actions;
use crate::catalog::groups::http::{CreateGroup, GroupView, ListGroups, UpdateGroup};
use crate::http::{Actor, IfMatch, Json, Page, Path, Permission, Query, Versioned};
use crate::problem::Problem;

/// Everything about scopes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/scopes", get(list_scopes).post(create_scope))
        .route("/api/v1/scopes/{id}", get(show_scope).patch(update_scope).delete(delete_scope))
}

async fn list_scopes(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListGroups>,
) -> Result<Json<Page<GroupView>>, Problem> {
    actor.require(Permission::CatalogRead)?;
    query.page(&app, GroupKind::Scope).await.map(Json)
}

async fn create_scope(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<CreateGroup>,
) -> Result<Response, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let scope = actions::create(&app, &actor.audit_name(), GroupKind::Scope, body.into()).await?;
    let location = format!("/api/v1/scopes/{}", scope.id);
    let answer = Versioned(scope.version, GroupView::from(scope));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], answer).into_response())
}

async fn show_scope(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<GroupView>, Problem> {
    actor.require(Permission::CatalogRead)?;
    let scope = actions::show(&app, GroupKind::Scope, &id).await?;
    Ok(Versioned(scope.version, scope.into()))
}

async fn update_scope(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<UpdateGroup>,
) -> Result<Versioned<GroupView>, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let (by, kind) = (actor.audit_name(), GroupKind::Scope);
    let scope = actions::update(&app, &by, kind, &id, expected.0, body.into()).await?;
    Ok(Versioned(scope.version, scope.into()))
}

async fn delete_scope(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
) -> Result<StatusCode, Problem> {
    actor.require(Permission::CatalogWrite)?;
    actions::delete(&app, &actor.audit_name(), GroupKind::Scope, &id, expected.0).await?;
    Ok(StatusCode::NO_CONTENT)
}
