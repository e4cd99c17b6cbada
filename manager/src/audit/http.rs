//! `GET /api/v1/audit`.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;

use super::model::Recorded;
use super::store;
use crate::app::App;
use crate::http::{Actor, Json, Page, Permission, Query, page_cursor, page_limit};
use crate::problem::Problem;

/// `/api/v1/audit`
pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/audit", get(list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    subject: Option<String>,
}

async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Recorded>>, Problem> {
    actor.require(Permission::AuditRead)?;
    let limit = page_limit(query.limit)?;
    let before = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        seq => Some(seq.parse().map_err(|_| Problem::invalid("cursor", "cursor is not one of ours"))?),
    };
    let mut conn = app.db.read().await?;
    let entries = store::list(&mut conn, before, query.subject.as_deref(), limit).await?;
    Ok(Json(Page::new(entries, limit, |entry| entry.seq.to_string())))
}
