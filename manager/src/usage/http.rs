//! `/api/v1/usage`

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::store::{self, Filter, HourRow};
use crate::app::App;
use crate::http::{Actor, Json, Page, Permission, Query, page_cursor, page_limit};
use crate::problem::Problem;

/// `/api/v1/usage`
pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/usage", get(list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// UTC ms; the hour that contains it is included.
    from: Option<i64>,
    /// UTC ms.
    until: Option<i64>,
    credential: Option<String>,
    api: Option<String>,
}

#[derive(Serialize)]
struct ShownHour {
    hour: i64,
    credential: Option<String>,
    api: Option<String>,
    result: String,
    calls: u64,
}

async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<UsageQuery>,
) -> Result<Json<Page<ShownHour>>, Problem> {
    actor.require(Permission::UsageRead)?;
    let limit = page_limit(query.limit)?;
    let after = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        key => Some(
            HourRow::from_key(key).ok_or_else(|| Problem::invalid("cursor", "cursor is not one of ours"))?,
        ),
    };
    let filter = Filter {
        from: query.from.map(UnixMillis),
        until: query.until.map(UnixMillis),
        credential: query.credential,
        api: query.api,
    };
    let mut read = app.db.read().await?;
    let rows = store::hours(&mut read, &filter, after.as_ref(), limit + 1).await?;
    Ok(Json(Page::new(rows, limit, HourRow::key).map(|row| ShownHour {
        hour: row.hour.0,
        credential: row.credential,
        api: row.api,
        result: row.result,
        calls: row.calls,
    })))
}

impl HourRow {
    /// What a page's cursor holds of its last row.
    fn key(&self) -> String {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        format!("{}\n{}\n{}\n{}", self.hour.0, text(&self.credential), text(&self.api), self.result)
    }

    fn from_key(key: &str) -> Option<Self> {
        let mut parts = key.split('\n');
        let hour = UnixMillis(parts.next()?.parse().ok()?);
        let mut named = || parts.next().map(|text| (!text.is_empty()).then(|| text.to_string()));
        Some(Self { hour, credential: named()?, api: named()?, result: named()??, calls: 0 })
    }
}
