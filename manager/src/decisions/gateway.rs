//! `/gateway/v1/decisions`: reports of gateways.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use gate::wire::decisions::{DecisionsAnswer, DecisionsReport, MAX_REPORT_BYTES};
use gate::wire::{DECISIONS_PATH, WIRE_VERSION};

use super::actions;
use super::model::{self, ReportFault, Reported};
use crate::app::App;
use crate::feed;
use crate::gateways::{self, FromGateway};
use crate::http::{Json, read_gateway_json};
use crate::problem::Problem;

/// `/gateway/v1/decisions`
pub fn gateway_routes() -> Router<App> {
    Router::new().route(DECISIONS_PATH, post(take)).layer(axum::middleware::map_response(feed::marked))
}

async fn take(
    State(app): State<App>,
    FromGateway(gateway): FromGateway,
    request: Request,
) -> Result<Json<DecisionsAnswer>, Problem> {
    let report: DecisionsReport = read_gateway_json(request, MAX_REPORT_BYTES).await?;
    model::check(&report)?;
    gateways::own(&app, &gateway, report.holder).await?;
    let seq = report.seq;
    actions::take(&app, &Reported { gateway: gateway.id, holder: report.holder, report }).await?;
    Ok(Json(DecisionsAnswer { version: WIRE_VERSION, seq }))
}

impl From<ReportFault> for Problem {
    fn from(fault: ReportFault) -> Self {
        let detail = fault.to_string();
        Self::new(StatusCode::BAD_REQUEST, "invalid_report", "The report is invalid", detail)
            .field(fault.field)
    }
}
