//! `/api/v1/clients/{id}/scopes`.

use axum::extract::State;
use gate::id::GroupId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, ScopesError};
use crate::app::App;
use crate::catalog::groups::Group;
use crate::catalog::{GroupSummary, SecurityLevel};
use crate::clients::model::Client;
use crate::http::{
    Actor, IfMatch, Json, Page, Path, Permission, Query, Routes, Versioned, page_cursor, page_limit,
};
use crate::problem::Problem;

/// Everything about the scopes of clients.
pub fn routes() -> Routes {
    Routes::of("clients")
        .permitted(&[Permission::ClientsRead], routes!(show_scopes))
        .permitted(&[Permission::ClientsWrite], routes!(set_scopes))
        .permitted(&[Permission::ClientsRead], routes!(offered_scopes))
}

impl From<ScopesError> for Problem {
    fn from(error: ScopesError) -> Self {
        let detail = error.to_string();
        match error {
            ScopesError::Unknown { .. } | ScopesError::AboveLevel { .. } | ScopesError::TooMany(_) => {
                Self::invalid("scopes", detail)
            }
            ScopesError::Client(error) => error.into(),
        }
    }
}

/// The scopes of a client. The version is the client's.
#[derive(Serialize, ToSchema)]
struct ClientScopes {
    scopes: Vec<ScopeOfClient>,
    version: i64,
}

#[derive(Serialize, ToSchema)]
struct ScopeOfClient {
    #[schema(value_type = String)]
    id: GroupId,
    name: String,
    security_level: SecurityLevel,
}

fn view((client, scopes): (Client, Vec<GroupSummary>)) -> Versioned<ClientScopes> {
    let scope = |scope: GroupSummary| ScopeOfClient {
        id: scope.id,
        name: scope.name,
        security_level: scope.security_level,
    };
    let scopes = scopes.into_iter().map(scope).collect();
    Versioned(client.version, ClientScopes { scopes, version: client.version })
}

/// Show the scopes of a client.
#[utoipa::path(get, path = "/api/v1/clients/{id}/scopes")]
async fn show_scopes(
    State(app): State<App>,
    Path(client): Path<String>,
) -> Result<Versioned<ClientScopes>, Problem> {
    Ok(view(actions::get(&app, &client).await?))
}

#[derive(Deserialize, ToSchema)]
#[schema(as = ClientScopesPut)]
#[serde(deny_unknown_fields)]
struct Set {
    /// Ids of scopes, all of them.
    #[schema(value_type = Vec<String>, max_items = 205)]
    scopes: Vec<GroupId>,
}

/// Set the scopes of a client, none of them above its security level.
#[utoipa::path(put, path = "/api/v1/clients/{id}/scopes", params(IfMatch))]
async fn set_scopes(
    State(app): State<App>,
    actor: Actor,
    Path(client): Path<String>,
    expected: IfMatch,
    Json(body): Json<Set>,
) -> Result<Versioned<ClientScopes>, Problem> {
    Ok(view(actions::set(&app, &actor.audit_name(), &client, expected.0, body.scopes).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct OfferedQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Occurs in name, alias or description.
    keyword: Option<String>,
}

/// A scope that a client may be given.
#[derive(Serialize, ToSchema)]
struct OfferedScope {
    #[schema(value_type = String)]
    id: GroupId,
    name: String,
    alias: String,
    description: String,
    security_level: SecurityLevel,
    /// The client has it already.
    given: bool,
}

impl From<(Group, bool)> for OfferedScope {
    fn from((scope, given): (Group, bool)) -> Self {
        Self {
            id: scope.id,
            name: scope.name,
            alias: scope.alias,
            description: scope.description,
            security_level: scope.security_level,
            given,
        }
    }
}

/// List the scopes that a client may be given, by name: none above its security level.
#[utoipa::path(get, path = "/api/v1/clients/{id}/offered-scopes", params(OfferedQuery))]
async fn offered_scopes(
    State(app): State<App>,
    Path(client): Path<String>,
    Query(query): Query<OfferedQuery>,
) -> Result<Json<Page<OfferedScope>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let offered = actions::offered(&app, &client, query.keyword, &after, limit).await?;
    Ok(Json(Page::new(offered, limit, |(scope, _)| scope.name.clone()).map(OfferedScope::from)))
}
