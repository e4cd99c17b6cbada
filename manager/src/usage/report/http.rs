//! `/api/v1/usage`, and the same for a client about itself.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use gate::time::UnixMillis;
use gate::wire::exchange::ANSWERED;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{self, ContentBuilder, RefOr};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};
use utoipa_axum::routes;

use super::actions;
use super::csv::{self, Line};
use super::model::{Answers, Asked, Calls, Dimensions, Filter, Place, Row};
use super::store::Counted;
pub use super::view::{AnswersView, CallsView};
use super::view::{STATUSES, StatusClass};
use crate::app::App;
use crate::http::{Json, Page, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit};
use crate::problem::Problem;
use crate::search::{refusal_code, several};
use crate::usage::actions::installation_zone;
use crate::usage::model::{Bucket, Range, RangeFault};

/// Stands for every result but `admitted`.
const REFUSED: &str = "refused";
/// Rows of a table at most.
const MAX_TABLE_ROWS: i64 = 10_000;

/// `/api/v1/usage` and below.
pub fn routes() -> Routes {
    Routes::of("usage")
        .permitted(&[Permission::UsageRead], routes!(list_calls))
        .permitted(&[Permission::UsageRead], routes!(list_answers))
}

/// A query string: what every report is asked with, and what this one is asked besides.
macro_rules! query {
    (
        $(#[$doc:meta])*
        $vis:vis struct $name:ident { $(#[$group_by:meta])* group_by, $($(#[$own:meta])* $field:ident: $type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Deserialize, IntoParams)]
        #[serde(deny_unknown_fields)]
        $vis struct $name {
            limit: Option<u32>,
            cursor: Option<String>,
            /// Default: `day`, in the installation's zone.
            #[param(inline, value_type = Option<Bucket>)]
            bucket: Option<String>,
            /// UTC ms; the bucket that contains it is included. Default: an hour of minutes, a day of hours,
            /// 30 days, a year of months.
            from: Option<i64>,
            /// UTC ms; the bucket that contains it is included. Default: now.
            until: Option<i64>,
            $(#[$group_by])*
            group_by: Option<String>,
            $($(#[$own])* $field: $type,)*
            /// `csv`: everything at once as a table, 10,000 rows at most. Default: `json`.
            #[param(inline)]
            format: Option<Format>,
        }

        impl $name {
            /// What every report is asked with.
            fn extent(&self) -> Extent<'_> {
                Extent {
                    limit: self.limit,
                    cursor: self.cursor.as_deref(),
                    bucket: self.bucket.as_deref(),
                    from: self.from,
                    until: self.until,
                    group_by: self.group_by.as_deref(),
                    format: self.format,
                }
            }
        }
    };
}

query! {
    struct CallsQuery {
        /// `client`, `credential`, `api`, `result`; several with commas. Default: none, all calls together.
        group_by,
        /// Of this client.
        client: Option<String>,
        /// true: of unknown callers.
        unknown: Option<bool>,
        /// With this credential.
        credential: Option<String>,
        /// Of this API, by its uid.
        api: Option<String>,
        /// `admitted`, `refused` (every other one), or the code of a refusal.
        result: Option<String>,
    }
}

query! {
    struct AnswersQuery {
        /// `client`, `api`, `status`; several with commas. Default: none, all answers together.
        group_by,
        /// To this client.
        client: Option<String>,
        /// true: to unknown callers, of APIs that ask for no credential.
        unknown: Option<bool>,
        /// Of this API, by its uid.
        api: Option<String>,
        #[param(inline, value_type = Option<StatusClass>)]
        status: Option<String>,
    }
}

query! {
    /// What a client asks about its own calls.
    pub struct OwnCallsQuery {
        /// `credential`, `api`, `result`; several with commas. Default: none, all calls together.
        group_by,
        /// With this credential.
        credential: Option<String>,
        /// Of this API, by its uid.
        api: Option<String>,
        /// `admitted`, `refused` (every other one), or the code of a refusal.
        result: Option<String>,
    }
}

query! {
    /// What a client asks about the answers to its calls.
    pub struct OwnAnswersQuery {
        /// `api`, `status`; several with commas. Default: none, all answers together.
        group_by,
        /// Of this API, by its uid.
        api: Option<String>,
        #[param(inline, value_type = Option<StatusClass>)]
        status: Option<String>,
    }
}

/// What every report is asked with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent<'q> {
    pub limit: Option<u32>,
    pub cursor: Option<&'q str>,
    pub bucket: Option<&'q str>,
    pub from: Option<i64>,
    pub until: Option<i64>,
    pub group_by: Option<&'q str>,
    pub format: Option<Format>,
}

/// How a report is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = UsageFormat)]
pub enum Format {
    /// A page.
    Json,
    /// All as a table.
    Csv,
}

/// A page, or the whole as a table.
pub enum Report<T> {
    /// A page.
    Page(Json<Page<T>>),
    /// CSV.
    Table(String),
}

impl<T: Serialize> IntoResponse for Report<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Page(page) => page.into_response(),
            Self::Table(text) => (
                [
                    (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
                    (header::CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
                    (header::CACHE_CONTROL, "no-store"),
                ],
                text,
            )
                .into_response(),
        }
    }
}

impl<T: ToSchema> IntoResponses for Report<T>
where
    Json<Page<T>>: IntoResponses,
{
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let mut responses = Json::<Page<T>>::responses();
        for response in responses.values_mut() {
            if let RefOr::T(response) = response {
                let table = ContentBuilder::new().schema(Some(String::schema())).build();
                response.content.insert("text/csv".into(), table.into());
            }
        }
        responses
    }
}

/// Count calls by time, client, credential, API and result, newest first.
///
/// The client of a credential stays known when both are gone. Calls are counted in the minute in which
/// the gateway reports them, a second or two after they were let in or refused.
#[utoipa::path(get, path = "/api/v1/usage", params(CallsQuery))]
async fn list_calls(
    State(app): State<App>,
    Query(query): Query<CallsQuery>,
) -> Result<Report<CallsView>, Problem> {
    let filter = calls_filter(query.credential.clone(), query.api.clone(), query.result.clone())?;
    let filter = of_client(filter, query.client.clone(), query.unknown)?;
    report::<Calls, _>(&app, query.extent(), &["client", "credential", "api", "result"], filter).await
}

/// Count how calls that were let in were answered and how long that took, newest first.
///
/// The time is that from the head of the request to the end of the answer, as the gateway sees it. Calls
/// that it refused are not among them.
#[utoipa::path(get, path = "/api/v1/usage/answers", params(AnswersQuery))]
async fn list_answers(
    State(app): State<App>,
    Query(query): Query<AnswersQuery>,
) -> Result<Report<AnswersView>, Problem> {
    let filter = answers_filter(query.api.clone(), query.status.as_deref())?;
    let filter = of_client(filter, query.client.clone(), query.unknown)?;
    report::<Answers, _>(&app, query.extent(), &["client", "api", "status"], filter).await
}

/// The calls of one client.
pub async fn calls_of_client(
    app: &App,
    client: &str,
    query: OwnCallsQuery,
) -> Result<Report<CallsView>, Problem> {
    let filter = calls_filter(query.credential.clone(), query.api.clone(), query.result.clone())?;
    let filter = Filter { client: Some(client.into()), ..filter };
    report::<Calls, _>(app, query.extent(), &["credential", "api", "result"], filter).await
}

/// The answers to one client.
pub async fn answers_of_client(
    app: &App,
    client: &str,
    query: OwnAnswersQuery,
) -> Result<Report<AnswersView>, Problem> {
    let filter = answers_filter(query.api.clone(), query.status.as_deref())?;
    let filter = Filter { client: Some(client.into()), ..filter };
    report::<Answers, _>(app, query.extent(), &["api", "status"], filter).await
}

pub(super) fn calls_filter(
    credential: Option<String>,
    api: Option<String>,
    result: Option<String>,
) -> Result<Filter, Problem> {
    if let Some(result) = &result {
        refusal_code("result", result, &["admitted", REFUSED])?;
    }
    let refused = result.as_deref() == Some(REFUSED);
    Ok(Filter { client: None, credential, api, result: result.filter(|_| !refused), refused })
}

fn answers_filter(api: Option<String>, status: Option<&str>) -> Result<Filter, Problem> {
    let result = match status {
        None => None,
        Some(status) => {
            let at = STATUSES.iter().position(|name| *name == status).ok_or_else(|| {
                let detail = format!("status is `{status}`; it is one of {}", STATUSES.join(", "));
                Problem::invalid_query("status", detail)
            })?;
            ANSWERED.get(at).map(|result| (*result).to_owned())
        }
    };
    Ok(Filter { api, result, ..Filter::default() })
}

fn of_client(filter: Filter, client: Option<String>, unknown: Option<bool>) -> Result<Filter, Problem> {
    let client = match (client, unknown) {
        (Some(_), Some(true)) => {
            let detail = "unknown callers are no client's: leave client or unknown out";
            return Err(Problem::invalid_query("unknown", detail));
        }
        (None, Some(true)) => Some(String::new()),
        (client, Some(false) | None) => client,
    };
    Ok(Filter { client, ..filter })
}

/// What is asked for, told apart by some of `names`; behind `after` where that is a page's end.
pub(super) fn asked(
    app: &App,
    extent: Extent<'_>,
    names: &[&str],
    filter: Filter,
    after: Option<&Place>,
) -> Result<Asked, Problem> {
    let bucket = match extent.bucket {
        None => Bucket::Day,
        Some(name) => Bucket::parse(name).ok_or_else(|| {
            let names = Bucket::ALL.map(Bucket::name).join(", ");
            Problem::invalid_query("bucket", format!("bucket is `{name}`; it is one of {names}"))
        })?,
    };
    let by = several("group_by", extent.group_by, names)?;
    let by = Dimensions {
        client: by.contains(&"client"),
        credential: by.contains(&"credential"),
        api: by.contains(&"api"),
        result: by.contains(&"result") || by.contains(&"status"),
    };
    // What was not said is what it was for the first page, however late the next one is asked for.
    let from = extent.from.map(UnixMillis).or(after.map(|after| after.range.from));
    let until = extent.until.map(UnixMillis).or(after.map(|after| after.range.until));
    let range = Range::of(bucket, from, until, app.now())?;
    let spans = range.buckets(bucket, &installation_zone(app))?;
    Ok(Asked { bucket, range, spans, by, filter })
}

impl From<RangeFault> for Problem {
    fn from(fault: RangeFault) -> Self {
        let field = match fault {
            RangeFault::NoInstant(field) => field,
            RangeFault::Backwards | RangeFault::TooLong => "from",
        };
        Self::invalid_query(field, format!("{field}: {fault}"))
    }
}

async fn report<C, V>(
    app: &App,
    extent: Extent<'_>,
    names: &[&str],
    filter: Filter,
) -> Result<Report<V>, Problem>
where
    C: Counted,
    V: From<Row<C>> + Line,
{
    let Some((limit, after)) = page_of(extent)? else {
        let asked = asked(app, extent, names, filter, None)?;
        let rows = actions::rows::<C>(app, &asked, None, MAX_TABLE_ROWS + 1).await?;
        return table(app, rows.into_iter().map(V::from).collect());
    };
    let asked = asked(app, extent, names, filter, after.as_ref())?;
    let rows = actions::rows::<C>(app, &asked, after.as_ref(), limit + 1).await?;
    let end = |row: &Row<C>| Place { range: asked.range, start: row.span.start, key: row.key.clone() };
    Ok(Report::Page(Json(Page::new(rows, limit, |row| end(row).text()).map(V::from))))
}

/// Limit and place of a page; None: all is asked for as a table.
fn page_of(extent: Extent<'_>) -> Result<Option<(i64, Option<Place>)>, Problem> {
    let Extent { limit, cursor, format, .. } = extent;
    if format == Some(Format::Csv) {
        for (field, given) in [("limit", limit.is_some()), ("cursor", cursor.is_some())] {
            if given {
                let detail =
                    format!("{field} does not go with a table, which holds everything: leave it out");
                return Err(Problem::invalid_query(field, detail));
            }
        }
        return Ok(None);
    }
    let after = match page_cursor(cursor)?.as_str() {
        "" => None,
        text => Some(Place::read(text).ok_or_else(foreign_cursor)?),
    };
    Ok(Some((page_limit(limit)?, after)))
}

fn table<T: Line>(app: &App, rows: Vec<T>) -> Result<Report<T>, Problem> {
    if rows.len() as i64 > MAX_TABLE_ROWS {
        let detail =
            format!("a table has {MAX_TABLE_ROWS} rows at most: ask for less time, or a larger bucket");
        return Err(Problem::invalid_query("from", detail));
    }
    Ok(Report::Table(csv::table(&rows, &app.config.zone())))
}
