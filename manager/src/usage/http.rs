//! `/api/v1/usage`

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::store::{self, Filter, HourRow};
use crate::app::App;
use crate::http::{Json, Page, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit};
use crate::problem::Problem;

/// `/api/v1/usage`
pub fn routes() -> Routes {
    Routes::of("usage").permitted(&[Permission::UsageRead], routes!(list))
}

#[derive(Deserialize, IntoParams)]
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

/// Calls of one hour that had the same outcome.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageHour)]
struct ShownHour {
    /// Its beginning, UTC ms.
    hour: i64,
    /// null: the caller is unknown.
    credential: Option<String>,
    /// null: the API is unknown.
    api: Option<String>,
    /// `admitted`, or the code of the refusal.
    result: String,
    calls: u64,
}

/// List calls by hour, credential, API and result, newest hour first.
#[utoipa::path(get, path = "/api/v1/usage", params(UsageQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<Page<ShownHour>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        key => Some(HourRow::from_key(key).ok_or_else(foreign_cursor)?),
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
