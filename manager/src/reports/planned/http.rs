//! `GET /api/v1/planned`.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::model::Planned;
use super::store;
use crate::app::App;
use crate::http::{Json, Page, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit};
use crate::problem::Problem;

/// `/api/v1/planned`.
pub fn routes() -> Routes {
    Routes::of("planned").permitted(&[Permission::TasksRead], routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Something that is to happen by itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Planned)]
struct PlannedJson {
    /// UTC ms.
    #[schema(value_type = i64)]
    due_at: UnixMillis,
    /// The kind of a task, `applications.apply`, `catalog.enable_api` or `catalog.disable_api`.
    kind: String,
    /// `<kind>:<id>` of what it is about.
    about: String,
    /// The task, where it is one; a form is stopped and an API's plan changed where they are.
    task: Option<String>,
}

impl From<Planned> for PlannedJson {
    fn from(planned: Planned) -> Self {
        Self {
            due_at: planned.due_at,
            kind: planned.kind,
            about: format!("{}:{}", planned.about_kind, planned.about_id),
            task: planned.task,
        }
    }
}

/// List what is to happen by itself, in the order in which it is due.
#[utoipa::path(get, path = "/api/v1/planned", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<PlannedJson>>, Problem> {
    let limit = page_limit(query.limit)?;
    let cursor = page_cursor(query.cursor.as_deref())?;
    let after = if cursor.is_empty() { (i64::MIN, "", "") } else { place(&cursor)? };
    let planned = store::list(&mut *app.db.read().await?, after, limit + 1).await?;
    let page = Page::new(planned, limit, |planned| {
        format!("{} {} {}", planned.due_at.0, planned.kind, planned.about_id)
    });
    Ok(Json(page.map(PlannedJson::from)))
}

fn place(cursor: &str) -> Result<(i64, &str, &str), Problem> {
    let mut parts = cursor.splitn(3, ' ');
    match (parts.next().and_then(|at| at.parse().ok()), parts.next(), parts.next()) {
        (Some(at), Some(kind), Some(id)) => Ok((at, kind, id)),
        _ => Err(foreign_cursor()),
    }
}
