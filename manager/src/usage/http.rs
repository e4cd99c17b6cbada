//! `/api/v1/usage`, and the same for a client about itself.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use gate::denial::status_of;
use gate::time::UnixMillis;
use gate::wire::exchange::ANSWERED;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{self, ContentBuilder, RefOr};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, Asked, Place, installation_zone};
use super::csv::{self, Line};
use super::model::{Answers, Bucket, Calls, Dimensions, Filter, Key, RangeFault, buckets};
use crate::app::App;
use crate::http::{Json, Page, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit};
use crate::openapi::schema::schema_of;
use crate::problem::Problem;
use crate::search::several;

/// Rows of a table at most.
const MAX_TABLE_ROWS: i64 = 10_000;
/// What calls can be told apart by.
const CALLS_BY: [&str; 4] = ["client", "credential", "api", "result"];
/// What answers can be told apart by.
const ANSWERS_BY: [&str; 3] = ["client", "api", "status"];
/// Classes of status, in the order of [`ANSWERED`].
const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// First digit of a status; none: the stream ended without an answer.
enum StatusClass {}

schema_of! { StatusClass as UsageStatus: one_of(STATUSES) }

/// `/api/v1/usage` and below.
pub fn routes() -> Routes {
    Routes::of("usage")
        .permitted(&[Permission::UsageRead], routes!(list_calls))
        .permitted(&[Permission::UsageRead], routes!(list_answers))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct CallsQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Default: `day`, in the installation's zone.
    #[param(inline, value_type = Option<Bucket>)]
    bucket: Option<String>,
    /// UTC ms; the bucket that contains it is included. Default: an hour of minutes, a day of hours, 30
    /// days, a year of months.
    from: Option<i64>,
    /// UTC ms; the bucket that contains it is included. Default: now.
    until: Option<i64>,
    /// `client`, `credential`, `api`, `result`; several with commas. Default: none, all calls together.
    group_by: Option<String>,
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
    /// `csv`: everything at once as a table, 10,000 rows at most. Default: `json`.
    #[param(inline)]
    format: Option<Format>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct AnswersQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Default: `day`, in the installation's zone.
    #[param(inline, value_type = Option<Bucket>)]
    bucket: Option<String>,
    /// UTC ms; the bucket that contains it is included. Default: an hour of minutes, a day of hours, 30
    /// days, a year of months.
    from: Option<i64>,
    /// UTC ms; the bucket that contains it is included. Default: now.
    until: Option<i64>,
    /// `client`, `api`, `status`; several with commas. Default: none, all answers together.
    group_by: Option<String>,
    /// To this client.
    client: Option<String>,
    /// true: to unknown callers, of APIs that ask for no credential.
    unknown: Option<bool>,
    /// Of this API, by its uid.
    api: Option<String>,
    #[param(inline, value_type = Option<StatusClass>)]
    status: Option<String>,
    /// `csv`: everything at once as a table, 10,000 rows at most. Default: `json`.
    #[param(inline)]
    format: Option<Format>,
}

/// What a client asks about its own calls.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct OwnCallsQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Default: `day`, in the installation's zone.
    #[param(inline, value_type = Option<Bucket>)]
    bucket: Option<String>,
    /// UTC ms; the bucket that contains it is included. Default: an hour of minutes, a day of hours, 30
    /// days, a year of months.
    from: Option<i64>,
    /// UTC ms; the bucket that contains it is included. Default: now.
    until: Option<i64>,
    /// `credential`, `api`, `result`; several with commas. Default: none, all calls together.
    group_by: Option<String>,
    /// With this credential.
    credential: Option<String>,
    /// Of this API, by its uid.
    api: Option<String>,
    /// `admitted`, `refused` (every other one), or the code of a refusal.
    result: Option<String>,
    /// `csv`: everything at once as a table, 10,000 rows at most. Default: `json`.
    #[param(inline)]
    format: Option<Format>,
}

/// What a client asks about the answers to its calls.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct OwnAnswersQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Default: `day`, in the installation's zone.
    #[param(inline, value_type = Option<Bucket>)]
    bucket: Option<String>,
    /// UTC ms; the bucket that contains it is included. Default: an hour of minutes, a day of hours, 30
    /// days, a year of months.
    from: Option<i64>,
    /// UTC ms; the bucket that contains it is included. Default: now.
    until: Option<i64>,
    /// `api`, `status`; several with commas. Default: none, all answers together.
    group_by: Option<String>,
    /// Of this API, by its uid.
    api: Option<String>,
    #[param(inline, value_type = Option<StatusClass>)]
    status: Option<String>,
    /// `csv`: everything at once as a table, 10,000 rows at most. Default: `json`.
    #[param(inline)]
    format: Option<Format>,
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

/// Calls that are counted together.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UsageCalls)]
pub struct CallsView {
    /// First instant, UTC ms.
    pub start: i64,
    /// First instant after it, UTC ms.
    pub end: i64,
    /// null: not told apart by clients, or the caller is unknown.
    pub client: Option<String>,
    /// null: not told apart by credentials, or the caller is unknown.
    pub credential: Option<String>,
    /// null: not told apart by APIs, or none matched.
    pub api: Option<String>,
    /// `admitted`, or the code of the refusal; null: not told apart by results.
    pub result: Option<String>,
    /// HTTP status of that refusal; null: there is none.
    pub status: Option<u16>,
    /// All.
    pub calls: u64,
    /// Those let in.
    pub admitted: u64,
    /// The others.
    pub refused: u64,
}

/// Answers that are counted together.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UsageAnswers)]
pub struct AnswersView {
    /// First instant, UTC ms.
    pub start: i64,
    /// First instant after it, UTC ms.
    pub end: i64,
    /// null: not told apart by clients, or nobody had to prove who calls.
    pub client: Option<String>,
    /// null: not told apart by APIs.
    pub api: Option<String>,
    /// null: not told apart by status.
    #[schema(value_type = Option<StatusClass>)]
    pub status: Option<&'static str>,
    /// All.
    pub answers: u64,
    /// Those with a status below 400.
    pub succeeded: u64,
    /// The others; also streams that ended without an answer.
    pub failed: u64,
    /// Average time from the head of the request to the end of the answer, in milliseconds; null: there
    /// is no answer.
    pub mean_ms: Option<u64>,
    /// Half of the answers took no longer, in milliseconds: the end of that bucket of `latency`; null:
    /// it has no end.
    pub p50_ms: Option<u64>,
    /// Nine of ten took no longer.
    pub p90_ms: Option<u64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<u64>,
    /// How many took how long, ascending; buckets without an answer are left out.
    pub latency: Vec<LatencyView>,
}

/// Answers that took about as long.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UsageLatency)]
pub struct LatencyView {
    /// They took this many milliseconds at most, and more than the bucket before; null: more than the
    /// last one that has an end.
    pub le_ms: Option<u64>,
    /// How many, without those of other buckets.
    pub answers: u64,
}

impl From<Calls> for CallsView {
    fn from(calls: Calls) -> Self {
        let Calls { span, key, calls, admitted } = calls;
        let (client, credential, api, result) = named(key);
        Self {
            start: span.start.0,
            end: span.end.0,
            status: result.as_deref().and_then(status_of),
            client,
            credential,
            api,
            result,
            calls,
            admitted,
            refused: calls.saturating_sub(admitted),
        }
    }
}

impl From<Answers> for AnswersView {
    fn from(answers: Answers) -> Self {
        let (count, ms) = (answers.count(), answers.ms);
        let quantile = |of| answers.quantile(of);
        let (p50_ms, p90_ms, p99_ms) = (quantile(500), quantile(900), quantile(990));
        let (client, _, api, result) = named(answers.key);
        let status = result.and_then(|result| ANSWERED.iter().position(|name| *name == result));
        Self {
            start: answers.span.start.0,
            end: answers.span.end.0,
            client,
            api,
            status: status.and_then(|at| STATUSES.get(at).copied()),
            answers: count,
            succeeded: answers.succeeded,
            failed: count.saturating_sub(answers.succeeded),
            mean_ms: ms.checked_div(count),
            p50_ms,
            p90_ms,
            p99_ms,
            latency: answers
                .latency
                .into_iter()
                .map(|(le_ms, answers)| LatencyView { le_ms, answers })
                .collect(),
        }
    }
}

fn named(key: Key) -> (Option<String>, Option<String>, Option<String>, Option<String>) {
    let named = |text: String| (!text.is_empty()).then_some(text);
    (named(key.client), named(key.credential), named(key.api), named(key.result))
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
    let CallsQuery {
        limit,
        cursor,
        bucket,
        from,
        until,
        group_by,
        client,
        unknown,
        credential,
        api,
        result,
        format,
    } = query;
    let by = several("group_by", group_by.as_deref(), &CALLS_BY)?;
    let asked = asked(&app, bucket.as_deref(), (from, until), &by, calls_filter(credential, api, result))?;
    let asked = of_client(asked, client, unknown)?;
    calls_report(&app, asked, limit, cursor, format).await
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
    let AnswersQuery { limit, cursor, bucket, from, until, group_by, client, unknown, api, status, format } =
        query;
    let by = several("group_by", group_by.as_deref(), &ANSWERS_BY)?;
    let asked = asked(&app, bucket.as_deref(), (from, until), &by, answers_filter(api, status)?)?;
    let asked = of_client(asked, client, unknown)?;
    answers_report(&app, asked, limit, cursor, format).await
}

/// The calls of one client.
pub async fn calls_of_client(
    app: &App,
    client: &str,
    query: OwnCallsQuery,
) -> Result<Report<CallsView>, Problem> {
    let OwnCallsQuery { limit, cursor, bucket, from, until, group_by, credential, api, result, format } =
        query;
    let by = several("group_by", group_by.as_deref(), &["credential", "api", "result"])?;
    let mut asked = asked(app, bucket.as_deref(), (from, until), &by, calls_filter(credential, api, result))?;
    asked.filter.client = Some(client.into());
    calls_report(app, asked, limit, cursor, format).await
}

/// The answers to one client.
pub async fn answers_of_client(
    app: &App,
    client: &str,
    query: OwnAnswersQuery,
) -> Result<Report<AnswersView>, Problem> {
    let OwnAnswersQuery { limit, cursor, bucket, from, until, group_by, api, status, format } = query;
    let by = several("group_by", group_by.as_deref(), &["api", "status"])?;
    let mut asked = asked(app, bucket.as_deref(), (from, until), &by, answers_filter(api, status)?)?;
    asked.filter.client = Some(client.into());
    answers_report(app, asked, limit, cursor, format).await
}

pub(super) fn calls_filter(
    credential: Option<String>,
    api: Option<String>,
    result: Option<String>,
) -> Filter {
    let refused = result.as_deref() == Some("refused");
    Filter { client: None, credential, api, result: result.filter(|_| !refused), refused }
}

fn answers_filter(api: Option<String>, status: Option<String>) -> Result<Filter, Problem> {
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

fn of_client(mut asked: Asked, client: Option<String>, unknown: Option<bool>) -> Result<Asked, Problem> {
    asked.filter.client = match (client, unknown) {
        (Some(_), Some(true)) => {
            let detail = "unknown callers are no client's: leave client or unknown out";
            return Err(Problem::invalid_query("unknown", detail));
        }
        (None, Some(true)) => Some(String::new()),
        (client, Some(false) | None) => client,
    };
    Ok(asked)
}

pub(super) fn asked(
    app: &App,
    bucket: Option<&str>,
    (from, until): (Option<i64>, Option<i64>),
    by: &[&str],
    filter: Filter,
) -> Result<Asked, Problem> {
    let bucket = match bucket {
        None => Bucket::Day,
        Some(name) => Bucket::parse(name).ok_or_else(|| {
            let names = Bucket::ALL.map(Bucket::name).join(", ");
            Problem::invalid_query("bucket", format!("bucket is `{name}`; it is one of {names}"))
        })?,
    };
    let (from, until) = (from.map(UnixMillis), until.map(UnixMillis));
    let spans = buckets(bucket, from, until, app.now(), &installation_zone(app))?;
    let by = Dimensions {
        client: by.contains(&"client"),
        credential: by.contains(&"credential"),
        api: by.contains(&"api"),
        result: by.contains(&"result") || by.contains(&"status"),
    };
    Ok(Asked { bucket, spans, by, filter })
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

async fn calls_report(
    app: &App,
    asked: Asked,
    limit: Option<u32>,
    cursor: Option<String>,
    format: Option<Format>,
) -> Result<Report<CallsView>, Problem> {
    let Some((limit, after)) = page_of(limit, cursor, format)? else {
        let rows = actions::calls(app, &asked, None, MAX_TABLE_ROWS + 1).await?;
        return table::<CallsView>(app, rows.into_iter().map(CallsView::from).collect());
    };
    let rows = actions::calls(app, &asked, after.as_ref(), limit + 1).await?;
    let page = Page::new(rows, limit, |row| place_text(row.span.start, &row.key));
    Ok(Report::Page(Json(page.map(CallsView::from))))
}

async fn answers_report(
    app: &App,
    asked: Asked,
    limit: Option<u32>,
    cursor: Option<String>,
    format: Option<Format>,
) -> Result<Report<AnswersView>, Problem> {
    let Some((limit, after)) = page_of(limit, cursor, format)? else {
        let rows = actions::answers(app, &asked, None, MAX_TABLE_ROWS + 1).await?;
        return table::<AnswersView>(app, rows.into_iter().map(AnswersView::from).collect());
    };
    let rows = actions::answers(app, &asked, after.as_ref(), limit + 1).await?;
    let page = Page::new(rows, limit, |row| place_text(row.span.start, &row.key));
    Ok(Report::Page(Json(page.map(AnswersView::from))))
}

/// Limit and place of a page; None: all is asked for as a table.
fn page_of(
    limit: Option<u32>,
    cursor: Option<String>,
    format: Option<Format>,
) -> Result<Option<(i64, Option<Place>)>, Problem> {
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
    let after = match page_cursor(cursor.as_deref())?.as_str() {
        "" => None,
        text => Some(read_place(text).ok_or_else(foreign_cursor)?),
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

/// What a page's cursor holds of its last row.
fn place_text(start: UnixMillis, key: &Key) -> String {
    format!("{}\n{}\n{}\n{}\n{}", start.0, key.client, key.credential, key.api, key.result)
}

fn read_place(text: &str) -> Option<Place> {
    let mut parts = text.split('\n').map(str::to_owned);
    let start = UnixMillis(parts.next()?.parse().ok()?);
    let key =
        Key { client: parts.next()?, credential: parts.next()?, api: parts.next()?, result: parts.next()? };
    parts.next().is_none().then_some((start, key))
}
