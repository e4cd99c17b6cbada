//! `/api/v1/clients/{id}/password` for operators, `/client/v1/password` for the client itself.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{post, put};
use serde::Deserialize;

use super::actions::{self, NewPassword};
use crate::app::App;
use crate::clients::http::confirmed;
use crate::clients::view::ClientView;
use crate::http::{Actor, IfMatch, Json, Path, Permission, Versioned};
use crate::problem::Problem;

/// Set, reset, replace.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/clients/{id}/password", put(set))
        .route("/api/v1/clients/{id}/password/reset", post(reset))
        .route("/client/v1/password", post(replace))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    password: String,
    password_confirmation: String,
}

async fn set(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Set>,
) -> Result<Versioned<ClientView>, Problem> {
    actor.require(Permission::ClientsWrite)?;
    let password = confirmed("password", &body.password, &body.password_confirmation)?;
    let password = NewPassword::new(&app, password).await;
    let client = actions::set(&app, &actor.audit_name(), &id, expected.0, &password).await?;
    Ok(Versioned(client.version, ClientView::from(&client)))
}

async fn reset(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
) -> Result<Versioned<ClientView>, Problem> {
    actor.require(Permission::ClientsWrite)?;
    let client = actions::reset(&app, &actor.audit_name(), &id, expected.0).await?;
    Ok(Versioned(client.version, ClientView::from(&client)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replace {
    client: String,
    password: String,
    new_password: String,
    password_confirmation: String,
}

async fn replace(State(app): State<App>, Json(body): Json<Replace>) -> Result<StatusCode, Problem> {
    // What is wrong with the new password is found out before the old one counts as an attempt.
    let password = confirmed("new_password", &body.new_password, &body.password_confirmation)?;
    actions::replace(&app, &body.client, &body.password, password).await?;
    Ok(StatusCode::NO_CONTENT)
}
