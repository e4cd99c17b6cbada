//! `/client/v1/usage`: what a client has called.

use axum::extract::State;
use utoipa_axum::routes;

use crate::app::App;
use crate::client_portal::sessions::SignedIn;
use crate::http::{Query, Routes};
use crate::problem::Problem;
use crate::usage::{self, AnswersView, CallsView, OwnAnswersQuery, OwnCallsQuery, Report};

pub(super) fn routes() -> Routes {
    Routes::of("client_portal").client(routes!(list_own_calls)).client(routes!(list_own_answers))
}

/// Count one's own calls by time, credential, API and result, newest first.
#[utoipa::path(get, path = "/client/v1/usage", params(OwnCallsQuery))]
async fn list_own_calls(
    State(app): State<App>,
    SignedIn { session, .. }: SignedIn,
    Query(query): Query<OwnCallsQuery>,
) -> Result<Report<CallsView>, Problem> {
    usage::calls_of_client(&app, &session.client, query).await
}

/// Count how one's own calls were answered and how long that took, newest first.
#[utoipa::path(get, path = "/client/v1/usage/answers", params(OwnAnswersQuery))]
async fn list_own_answers(
    State(app): State<App>,
    SignedIn { session, .. }: SignedIn,
    Query(query): Query<OwnAnswersQuery>,
) -> Result<Report<AnswersView>, Problem> {
    usage::answers_of_client(&app, &session.client, query).await
}
