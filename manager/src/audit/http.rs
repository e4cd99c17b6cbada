//! `GET /api/v1/audit`.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::model::{Recorded, Search};
use super::store;
use crate::app::App;
use crate::http::{Json, Page, Permission, Query, Routes, page_cursor, page_limit};
use crate::problem::Problem;

/// `/api/v1/audit`
pub fn routes() -> Routes {
    Routes::of("audit").permitted(&[Permission::AuditRead], routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// `<kind>:<id>`, such as `client:acme`.
    subject: Option<String>,
}

/// List what was done, newest first.
#[utoipa::path(get, path = "/api/v1/audit", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Recorded>>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        seq => Some(seq.parse().map_err(|_| Problem::invalid("cursor", "cursor is not one of ours"))?),
    };
    let mut conn = app.db.read().await?;
    let search = Search { subject: query.subject, before, ..Search::default() };
    let entries = store::search(&mut conn, &search, limit).await?;
    Ok(Json(Page::new(entries, limit, |entry| entry.seq.to_string())))
}
