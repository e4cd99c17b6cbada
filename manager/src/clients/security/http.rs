//! `/api/v1/clients/{id}/status`, `/security-level`, `/groups`, `/offered-groups`.

use axum::extract::State;
use gate::id::GroupId;
use gate::wire::exchange::ClientStatus;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, StatusChange};
use crate::app::App;
use crate::catalog::SecurityLevel;
use crate::catalog::groups::Group;
use crate::clients::actions::details;
use crate::clients::http::shown;
use crate::clients::view::DetailsView;
use crate::http::{
    Actor, IfMatch, Json, Page, Path, Permission, Query, Routes, Versioned, page_cursor, page_limit,
};
use crate::openapi::wire;
use crate::problem::Problem;

/// The pages of the security configuration.
pub fn routes() -> Routes {
    Routes::of("clients")
        .permitted(&[Permission::ClientsWrite], routes!(set_status))
        .permitted(&[Permission::ClientsWrite], routes!(set_security_level))
        .permitted(&[Permission::ClientsRead], routes!(offered_groups))
        .permitted(&[Permission::ClientsWrite], routes!(add_groups))
        .permitted(&[Permission::ClientsWrite], routes!(remove_group))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientStatusChange)]
struct SetStatus {
    /// `locked` and `disabled` stop everything.
    #[schema(value_type = Option<wire::ClientStatus>)]
    status: Option<ClientStatus>,
    /// Wrong passwords after which password credentials are closed.
    #[schema(minimum = 1)]
    allowed_attempts: Option<u32>,
    /// Wrong passwords so far no longer count: password credentials are open again.
    #[serde(default)]
    reset_failed_attempts: bool,
}

/// Set a client's status, and let one that was locked out try again; what is absent stays.
#[utoipa::path(patch, path = "/api/v1/clients/{id}/status", params(IfMatch))]
async fn set_status(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<SetStatus>,
) -> Result<Versioned<DetailsView>, Problem> {
    let SetStatus { status, allowed_attempts, reset_failed_attempts } = body;
    let change = StatusChange { status, allowed_attempts, reset_failed_attempts };
    let client = actions::set_status(&app, &actor.audit_name(), &id, expected.0, change).await?;
    Ok(shown(details(&app, client).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientSecurityLevel)]
struct SetLevel {
    security_level: SecurityLevel,
    /// Groups and scopes above the level are taken from the client.
    #[serde(default)]
    confirm: bool,
}

/// Set a client's security level.
///
/// With a lower one the client loses the groups and scopes above it, once that is confirmed.
#[utoipa::path(put, path = "/api/v1/clients/{id}/security-level", params(IfMatch), responses(
    (status = 409, description = "`confirm_lower_level`: `affected` lists the groups and scopes it would lose"),
))]
async fn set_security_level(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<SetLevel>,
) -> Result<Versioned<DetailsView>, Problem> {
    let SetLevel { security_level, confirm } = body;
    let by = actor.audit_name();
    let client = actions::set_level(&app, &by, &id, expected.0, security_level, confirm).await?;
    Ok(shown(details(&app, client).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct OfferedQuery {
    /// Name, alias or description contain it.
    keyword: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A group that a client may be given.
#[derive(Serialize, ToSchema)]
#[schema(as = OfferedGroup)]
struct OfferedView {
    #[schema(value_type = String)]
    id: GroupId,
    name: String,
    alias: String,
    description: String,
    security_level: SecurityLevel,
    /// How many APIs it opens.
    apis: usize,
    /// The client has it already.
    given: bool,
}

impl OfferedView {
    fn of(group: Group, given: bool) -> Self {
        Self {
            id: group.id,
            name: group.name,
            alias: group.alias,
            description: group.description,
            security_level: group.security_level,
            apis: group.apis.len(),
            given,
        }
    }
}

/// List the groups that a client may be given, by name: none above its security level.
#[utoipa::path(get, path = "/api/v1/clients/{id}/offered-groups", params(OfferedQuery))]
async fn offered_groups(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<OfferedQuery>,
) -> Result<Json<Page<OfferedView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let (client, offered) = actions::offered_groups(&app, &id, query.keyword, &after, limit).await?;
    let page = Page::new(offered, limit, |group| group.name.clone());
    Ok(Json(page.map(|group| {
        let given = client.groups.contains(&group.id);
        OfferedView::of(group, given)
    })))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientGroupsAdd)]
struct AddGroups {
    #[schema(value_type = Vec<String>, max_items = 205)]
    groups: Vec<GroupId>,
}

/// Give a client further groups, none of them above its security level.
#[utoipa::path(post, path = "/api/v1/clients/{id}/groups", params(IfMatch))]
async fn add_groups(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<AddGroups>,
) -> Result<Versioned<DetailsView>, Problem> {
    let client = actions::add_groups(&app, &actor.audit_name(), &id, expected.0, body.groups).await?;
    Ok(shown(details(&app, client).await?))
}

/// Take a group from a client: its credentials no longer open it.
#[utoipa::path(delete, path = "/api/v1/clients/{id}/groups/{group}", params(IfMatch))]
async fn remove_group(
    State(app): State<App>,
    actor: Actor,
    Path((id, group)): Path<(String, String)>,
    expected: IfMatch,
) -> Result<Versioned<DetailsView>, Problem> {
    let group = GroupId(group);
    let client = actions::remove_group(&app, &actor.audit_name(), &id, expected.0, &group).await?;
    Ok(shown(details(&app, client).await?))
}
