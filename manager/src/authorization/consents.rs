//! `/api/v1/users/{id}/consents`: what users have allowed clients, and its withdrawal.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::store;
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::http::{Json, Page, Path, Permission, Query, Routes, page_cursor, page_limit};
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

/// Looked at. (They are withdrawn where their tokens are.)
pub fn routes() -> Routes {
    Routes::of("authorization").permitted(&[Permission::UsersRead], routes!(list))
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

/// Takes back what a user has allowed a client, and spoils codes that are under way. False: there was nothing.
/// Tokens that came of it are the caller's to end.
pub async fn withdraw(conn: &mut Conn, user: &str, client: &str, now: UnixMillis) -> Result<bool, DbError> {
    let any = store::withdraw(conn, user, client).await? > 0;
    store::spoil_codes(conn, user, client, now).await?;
    Ok(any)
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("user {id} does not exist"))
}
