//! `/api/v1/users/{id}/consents`: what users have allowed clients.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::store;
use crate::app::App;
use crate::audit;
use crate::http::{Actor, Json, NoContent, Page, Path, Permission, Query, Routes, page_cursor, page_limit};
use crate::problem::Problem;
use crate::users;

/// What a user has allowed a client.
#[derive(Clone, Debug)]
pub(super) struct Consent {
    pub client: String,
    /// Ids of groups and scopes.
    pub scope: Vec<String>,
    pub granted_at: UnixMillis,
}

/// Looked at and withdrawn.
pub fn routes() -> Routes {
    Routes::of("authorization")
        .permitted(&[Permission::UsersRead], routes!(list))
        .permitted(&[Permission::UsersWrite], routes!(withdraw))
}

/// What a user has allowed a client.
#[derive(Serialize, ToSchema)]
#[schema(as = Consent)]
struct ConsentView {
    client: String,
    /// Ids of groups and scopes.
    scope: Vec<String>,
    /// UTC ms, of the last of them.
    granted_at: i64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List what a user has allowed, by client.
#[utoipa::path(get, path = "/api/v1/users/{id}/consents", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ConsentView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let mut read = app.db.snapshot().await?;
    if users::find(&mut read, &id).await?.is_none() {
        return Err(unknown(&id));
    }
    let consents = store::consents(&mut read, &id, &after, limit).await?;
    let page = Page::new(consents, limit, |consent| consent.client.clone());
    Ok(Json(page.map(|Consent { client, scope, granted_at }| ConsentView {
        client,
        scope,
        granted_at: granted_at.0,
    })))
}

/// Withdraw what a user has allowed a client: the user is asked again.
#[utoipa::path(delete, path = "/api/v1/users/{id}/consents/{client}")]
async fn withdraw(
    State(app): State<App>,
    actor: Actor,
    Path((id, client)): Path<(String, String)>,
) -> Result<NoContent, Problem> {
    let now = app.now();
    let mut tx = app.db.write("authorization.withdraw").await?;
    if users::find(&mut tx, &id).await?.is_none() {
        return Err(unknown(&id));
    }
    if store::withdraw(&mut tx, &id, &client).await? == 0 {
        return Err(Problem::not_found(format!("user {id} has allowed client {client} nothing")));
    }
    let entry = audit::Entry {
        actor: actor.audit_name(),
        action: "authorization.withdraw",
        subject: format!("user:{id}"),
        detail: json!({ "client": client }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(NoContent)
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("user {id} does not exist"))
}
