//! `/api/v1/groups`. What a group says of itself in JSON, scopes say too.

use axum::extract::State;
use gate::id::{ApiUid, GroupId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, GroupFields};
use super::model::{Group, GroupAlias, GroupApis, GroupKind, GroupName};
use super::store::GroupFilter;
use crate::app::App;
use crate::catalog::SecurityLevel;
use crate::catalog::model::Description;
use crate::http::{
    Actor, Created, IfMatch, Json, NoContent, Page, Path, Permission, Query, Routes, Versioned, page_cursor,
    page_limit,
};
use crate::problem::Problem;

/// Everything about groups.
pub fn routes() -> Routes {
    Routes::of("catalog")
        .permitted(&[Permission::CatalogRead], routes!(list_groups))
        .permitted(&[Permission::CatalogWrite], routes!(create_group))
        .permitted(&[Permission::CatalogRead], routes!(show_group))
        .permitted(&[Permission::CatalogWrite], routes!(update_group, delete_group))
}

/// List groups by name.
#[utoipa::path(get, path = "/api/v1/groups", params(ListGroups))]
async fn list_groups(
    State(app): State<App>,
    Query(query): Query<ListGroups>,
) -> Result<Json<Page<GroupView>>, Problem> {
    query.page(&app, GroupKind::Group).await.map(Json)
}

/// Make a group.
#[utoipa::path(post, path = "/api/v1/groups", responses(
    (status = 409, description = "`group_exists`"),
))]
async fn create_group(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<CreateGroup>,
) -> Result<Created<Versioned<GroupView>>, Problem> {
    let group = actions::create(&app, &actor.audit_name(), GroupKind::Group, body.into()).await?;
    let location = format!("/api/v1/groups/{}", group.id);
    let answer = Versioned(group.version, GroupView::from(group));
    Ok(Created(location, answer))
}

/// Show a group.
#[utoipa::path(get, path = "/api/v1/groups/{id}")]
async fn show_group(State(app): State<App>, Path(id): Path<String>) -> Result<Versioned<GroupView>, Problem> {
    let group = actions::show(&app, GroupKind::Group, &id).await?;
    Ok(Versioned(group.version, group.into()))
}

/// Change a group; what is absent stays.
#[utoipa::path(patch, path = "/api/v1/groups/{id}", params(IfMatch), responses(
    (status = 409, description = "`group_exists`"),
))]
async fn update_group(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<UpdateGroup>,
) -> Result<Versioned<GroupView>, Problem> {
    let (by, kind) = (actor.audit_name(), GroupKind::Group);
    let group = actions::update(&app, &by, kind, &id, expected.0, body.into()).await?;
    Ok(Versioned(group.version, group.into()))
}

/// Delete a group that nobody has been given.
#[utoipa::path(delete, path = "/api/v1/groups/{id}", params(IfMatch), responses(
    (status = 409, description = "`group_in_use`: `detail` names who has it"),
))]
async fn delete_group(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
) -> Result<NoContent, Problem> {
    actions::delete(&app, &actor.audit_name(), GroupKind::Group, &id, expected.0).await?;
    Ok(NoContent)
}

/// A group or a scope. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Group)]
pub(in crate::catalog) struct GroupView {
    #[schema(value_type = String)]
    id: GroupId,
    name: String,
    alias: String,
    description: String,
    security_level: SecurityLevel,
    #[schema(value_type = Vec<String>)]
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
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupCreate)]
pub(in crate::catalog) struct CreateGroup {
    #[schema(value_type = GroupName)]
    name: String,
    /// Default: the name.
    #[schema(value_type = Option<GroupAlias>)]
    alias: Option<String>,
    #[schema(value_type = Option<Description>)]
    description: Option<String>,
    security_level: Option<SecurityLevel>,
    /// All of them.
    #[schema(value_type = Option<GroupApis>)]
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
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GroupUpdate)]
pub(in crate::catalog) struct UpdateGroup {
    #[schema(value_type = Option<GroupName>)]
    name: Option<String>,
    #[schema(value_type = Option<GroupAlias>)]
    alias: Option<String>,
    #[schema(value_type = Option<Description>)]
    description: Option<String>,
    security_level: Option<SecurityLevel>,
    /// All of them.
    #[schema(value_type = Option<GroupApis>)]
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
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::catalog) struct ListGroups {
    limit: Option<u32>,
    cursor: Option<String>,
    /// In name, alias or description; of whatever case.
    keyword: Option<String>,
    /// Those that a client of this security level may be given.
    #[param(inline)]
    offered_to: Option<SecurityLevel>,
    /// Those that contain this API.
    #[param(value_type = Option<String>)]
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
