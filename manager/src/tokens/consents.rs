//! `DELETE /api/v1/users/{id}/consents/{client}`: with what a user has allowed, the tokens go that came of it.

use axum::extract::State;
use utoipa_axum::routes;

use super::endings;
use crate::app::App;
use crate::http::{Actor, NoContent, Path, Permission, Routes};
use crate::problem::Problem;
use crate::users;

pub(super) fn routes() -> Routes {
    Routes::of("authorization").permitted(&[Permission::UsersWrite], routes!(withdraw))
}

/// Withdraw what a user has allowed a client: the user is asked again.
///
/// What the client holds on the user's behalf ends: refresh tokens, and access tokens within a second.
#[utoipa::path(delete, path = "/api/v1/users/{id}/consents/{client}")]
async fn withdraw(
    State(app): State<App>,
    actor: Actor,
    Path((id, client)): Path<(String, String)>,
) -> Result<NoContent, Problem> {
    let user = users::find(&mut *app.db.read().await?, &id).await?;
    let user = user.ok_or_else(|| Problem::not_found(format!("user {id} does not exist")))?;
    let named = (user.id.as_str(), user.name.as_str());
    if !endings::withdraw_consent(&app, named, &client, &actor.audit_name()).await? {
        return Err(Problem::not_found(format!("user {id} has allowed client {client} nothing")));
    }
    Ok(NoContent)
}
