//! `/api/v1/groups`. What a group says of itself in JSON, scopes say too.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gate::id::{ApiUid, GroupId};
use serde::{Deserialize, Serialize};

use super::actions::{self, GroupFields};
use super::model::{Group, GroupKind};
use super::store::GroupFilter;
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

async fn list_groups(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListGroups>,
) -> Result<Json<Page<GroupView>>, Problem> {
    actor.require(Permission::CatalogRead)?;
    query.page(&app, GroupKind::Group).await.map(Json)
}

async fn create_group(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<CreateGroup>,
) -> Result<Response, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let group = actions::create(&app, &actor.audit_name(), GroupKind::Group, body.into()).await?;
    let location = format!("/api/v1/groups/{}", group.id);
    let answer = Versioned(group.version, GroupView::from(group));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], answer).into_response())
}

async fn show_group(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<GroupView>, Problem> {
    actor.require(Permission::CatalogRead)?;
    let group = actions::show(&app, GroupKind::Group, &id).await?;
    Ok(Versioned(group.version, group.into()))
}

async fn update_group(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<UpdateGroup>,
) -> Result<Versioned<GroupView>, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let (by, kind) = (actor.audit_name(), GroupKind::Group);
    let group = actions::update(&app, &by, kind, &id, expected.0, body.into()).await?;
    Ok(Versioned(group.version, group.into()))
}

async fn delete_group(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
) -> Result<StatusCode, Problem> {
    actor.require(Permission::CatalogWrite)?;
    actions::delete(&app, &actor.audit_name(), GroupKind::Group, &id, expected.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A group or a scope.
#[derive(Serialize)]
pub(in crate::catalog) struct GroupView {
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

/// A new group or scope.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::catalog) struct CreateGroup {
    name: String,
    alias: Option<String>,
    description: Option<String>,
    security_level: Option<SecurityLevel>,
    apis: Option<Vec<ApiUid>>,
}

impl From<CreateGroup> for GroupFields {
    fn from(body: CreateGroup) -> Self {
        Self {
            name: Some(body.name),
            alias: body.alias,
            description: body.description,
            security_level: body.security_level,
            apis: body.apis,
        }
    }
}

/// What is to change of a group or scope; what is absent stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::catalog) struct UpdateGroup {
    name: Option<String>,
    alias: Option<String>,
    description: Option<String>,
    security_level: Option<SecurityLevel>,
    apis: Option<Vec<ApiUid>>,
}

impl From<UpdateGroup> for GroupFields {
    fn from(body: UpdateGroup) -> Self {
        Self {
            name: body.name,
            alias: body.alias,
            description: body.description,
            security_level: body.security_level,
            apis: body.apis,
        }
    }
}

/// What a list is narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::catalog) struct ListGroups {
    limit: Option<u32>,
    cursor: Option<String>,
    keyword: Option<String>,
    offered_to: Option<SecurityLevel>,
    api: Option<ApiUid>,
}

impl ListGroups {
    pub(in crate::catalog) async fn page(
        self,
        app: &App,
        kind: GroupKind,
    ) -> Result<Page<GroupView>, Problem> {
        let limit = page_limit(self.limit)?;
        let after = page_cursor(self.cursor.as_deref())?;
        let filter = GroupFilter { keyword: self.keyword, offered_to: self.offered_to, api: self.api };
        let groups = actions::list(app, kind, &filter, &after, limit).await?;
        Ok(Page::new(groups, limit, |group| group.name.clone()).map(GroupView::from))
    }
}
