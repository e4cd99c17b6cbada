//! `/api/v1/groups`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gate::id::{ApiUid, GroupId};
use serde::{Deserialize, Serialize};

use super::actions::{self, GroupFields};
use super::model::Group;
use crate::app::App;
use crate::catalog::SecurityLevel;
use crate::http::{Actor, IfMatch, Json, Page, Path, Permission, Query, Versioned, page_cursor, page_limit};
use crate::problem::Problem;

/// Everything about groups.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/groups", get(list_groups).post(create_group))
        .route("/api/v1/groups/{id}", get(show_group).patch(update_group).delete(delete_group))
}

#[derive(Serialize)]
struct GroupView {
    id: GroupId,
    name: String,
    alias: String,
    description: String,
    security_level: SecurityLevel,
    apis: Vec<ApiUid>,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            id: group.id,
            name: group.name,
            alias: group.alias,
            description: group.description,
            security_level: group.security_level,
            apis: group.apis,
            created_at: group.created_at.0,
            updated_at: group.updated_at.0,
            version: group.version,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateGroup {
    name: String,
    alias: Option<String>,
    description: Option<String>,
    security_level: Option<SecurityLevel>,
    apis: Option<Vec<ApiUid>>,
}

async fn create_group(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<CreateGroup>,
) -> Result<Response, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let fields = GroupFields {
        name: Some(body.name),
        alias: body.alias,
        description: body.description,
        security_level: body.security_level,
        apis: body.apis,
    };
    let group = actions::create_group(&app, &actor.audit_name(), fields).await?;
    let location = format!("/api/v1/groups/{}", group.id);
    let answer = Versioned(group.version, GroupView::from(group));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], answer).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateGroup {
    name: Option<String>,
    alias: Option<String>,
    description: Option<String>,
    security_level: Option<SecurityLevel>,
    apis: Option<Vec<ApiUid>>,
}

async fn update_group(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<UpdateGroup>,
) -> Result<Versioned<GroupView>, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let fields = GroupFields {
        name: body.name,
        alias: body.alias,
        description: body.description,
        security_level: body.security_level,
        apis: body.apis,
    };
    let group = actions::update_group(&app, &actor.audit_name(), &id, expected.0, fields).await?;
    Ok(Versioned(group.version, group.into()))
}

async fn delete_group(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
) -> Result<StatusCode, Problem> {
    actor.require(Permission::CatalogWrite)?;
    actions::delete_group(&app, &actor.audit_name(), &id, expected.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_group(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<GroupView>, Problem> {
    actor.require(Permission::CatalogRead)?;
    let group = actions::group(&app, &id).await?;
    Ok(Versioned(group.version, group.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListGroups {
    limit: Option<u32>,
    cursor: Option<String>,
    keyword: Option<String>,
}

async fn list_groups(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListGroups>,
) -> Result<Json<Page<GroupView>>, Problem> {
    actor.require(Permission::CatalogRead)?;
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let groups = actions::groups(&app, query.keyword.as_deref(), &after, limit).await?;
    Ok(Json(Page::new(groups, limit, |group| group.name.clone()).map(GroupView::from)))
}
