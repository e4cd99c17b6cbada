//! `/api/v1/clients/{id}/status`, `/security-level`, `/groups`.

use axum::Router;
use axum::extract::State;
use axum::routing::patch;
use gate::wire::exchange::ClientStatus;
use serde::Deserialize;

use super::actions::{self, StatusChange};
use crate::app::App;
use crate::clients::view::ClientView;
use crate::http::{Actor, IfMatch, Json, Path, Permission, Versioned};
use crate::problem::Problem;

/// The pages of the security configuration.
pub fn routes() -> Router<App> {
    Router::new().route("/api/v1/clients/{id}/status", patch(set_status))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetStatus {
    status: Option<ClientStatus>,
    allowed_attempts: Option<u32>,
    #[serde(default)]
    reset_failed_attempts: bool,
}

async fn set_status(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<SetStatus>,
) -> Result<Versioned<ClientView>, Problem> {
    actor.require(Permission::ClientsWrite)?;
    let SetStatus { status, allowed_attempts, reset_failed_attempts } = body;
    let change = StatusChange { status, allowed_attempts, reset_failed_attempts };
    let client = actions::set_status(&app, &actor.audit_name(), &id, expected.0, change).await?;
    Ok(Versioned(client.version, ClientView::from(&client)))
}
