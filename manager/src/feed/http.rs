//! `/gateway/v1`

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gate::id::{Epoch, HolderId, Revision};
use gate::wire::changes::{ChangesAnswer, POLL_WAIT_MS};
use gate::wire::exchange::{ExchangeAnswer, ExchangeRequest, MAX_EXCHANGE_BYTES};
use gate::wire::{CHANGES_PATH, DIRECTORY_PATH, EXCHANGE_PATH, MANAGER_MARK, MANAGER_MARK_VALUE};
use serde::Deserialize;

use super::actions::{self, Directory};
use super::model::{self, ExchangeFault};
use crate::app::App;
use crate::gateways::{self, FromGateway, Sighting};
use crate::http::{Json, Query, read_gateway_json};
use crate::problem::Problem;
use crate::telemetry::Stopwatch;

/// The longest that a poll may ask to wait.
pub const MAX_POLL_WAIT_MS: u64 = 30_000;

/// `/gateway/v1`
pub fn routes() -> Router<App> {
    Router::new()
        .route(DIRECTORY_PATH, get(directory))
        .route(CHANGES_PATH, get(changes))
        .route(EXCHANGE_PATH, post(exchange))
        .layer(axum::middleware::map_response(marked))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryQuery {
    epoch: Option<u64>,
    revision: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesQuery {
    epoch: Option<u64>,
    since: u64,
    wait_ms: Option<u64>,
    /// Who polls, so that the overview of gateways shows how far behind it is.
    holder: Option<String>,
}

async fn directory(
    State(app): State<App>,
    _: FromGateway,
    Query(query): Query<DirectoryQuery>,
) -> Result<Response, Problem> {
    let known = query.revision.map(Revision);
    Ok(match actions::directory(&app, query.epoch.map(Epoch), known).await? {
        Directory::Unchanged => StatusCode::NOT_MODIFIED.into_response(),
        Directory::Answer(answer) => Json(answer).into_response(),
    })
}

async fn changes(
    State(app): State<App>,
    FromGateway(gateway): FromGateway,
    Query(query): Query<ChangesQuery>,
) -> Result<Json<ChangesAnswer>, Problem> {
    let wait_ms = query.wait_ms.unwrap_or(POLL_WAIT_MS);
    if wait_ms > MAX_POLL_WAIT_MS {
        return Err(bad_query("wait_ms", format!("wait_ms is {wait_ms}, at most {MAX_POLL_WAIT_MS}")));
    }
    if i64::try_from(query.since).is_err() {
        return Err(bad_query("since", "since is a revision, below 2^63".into()));
    }
    if let Some(holder) = query.holder {
        let holder = HolderId::try_from(holder).map_err(|expected| bad_query("holder", expected.into()))?;
        let seen = Sighting {
            holder,
            filter_version: None,
            directory: None,
            feed: Revision(query.since),
            leases_held: None,
        };
        gateways::see(&app, &gateway, &seen).await?;
    }
    let wait = Duration::from_millis(wait_ms);
    let epoch = query.epoch.map(Epoch);
    Ok(Json(actions::changes_after(&app, epoch, Revision(query.since), wait).await?))
}

async fn exchange(
    State(app): State<App>,
    FromGateway(gateway): FromGateway,
    request: Request,
) -> Result<Json<ExchangeAnswer>, Problem> {
    let stopwatch = Stopwatch::start();
    let request: ExchangeRequest = read_gateway_json(request, MAX_EXCHANGE_BYTES).await?;
    model::check(&request)?;
    let seen = Sighting {
        holder: request.holder,
        filter_version: Some(request.filter_version.clone()),
        directory: Some(request.directory),
        feed: request.feed,
        leases_held: Some(request.leases_held),
    };
    gateways::see(&app, &gateway, &seen).await?;
    let answer = actions::exchange(&app, request).await?;
    app.metrics.observe("keygate_exchange_seconds", stopwatch.elapsed_us());
    Ok(Json(answer))
}

/// Envoy's own 503 looks like the manager's: what has this header is from here.
pub async fn marked(mut response: Response) -> Response {
    let name = HeaderName::from_static(MANAGER_MARK);
    response.headers_mut().insert(name, HeaderValue::from_static(MANAGER_MARK_VALUE));
    response
}

fn bad_query(field: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_query", "The query string is invalid", detail).field(field)
}

impl From<ExchangeFault> for Problem {
    fn from(fault: ExchangeFault) -> Self {
        let (field, detail) = (fault.field().to_string(), fault.to_string());
        match fault {
            ExchangeFault::Version { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "unsupported_version", "Unsupported version", detail)
            }
            ExchangeFault::TooMany { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_entries", "Too many entries", detail)
            }
            ExchangeFault::Value { .. } => Self::invalid("", detail),
        }
        .field(field)
    }
}
