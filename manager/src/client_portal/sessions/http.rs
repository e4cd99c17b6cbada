//! `/client/v1/session`, and the [`SignedIn`] of every call of a client.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, SessionError};
use super::model::SignedIn;
use crate::app::App;
use crate::bearer;
use crate::caller_address::CallerAddress;
use crate::http::{Added, Confidential, Json, NoContent, Routes};
use crate::problem::Problem;

/// Signing in and out.
pub fn routes() -> Routes {
    Routes::of("client_portal").open(routes!(sign_in)).client(routes!(show_session, sign_out))
}

/// Whose session it is that a call presents. 401 where it is nobody's.
pub async fn identify(app: &App, headers: &HeaderMap) -> Result<SignedIn, Problem> {
    const HOW: &str = "sign in as a client with POST /client/v1/session and present its token as \
                       `Authorization: Bearer <token>`";
    let Some(token) = bearer::presented(headers) else { return Err(Problem::unauthenticated(HOW)) };
    actions::authenticate(app, token)
        .await?
        .ok_or_else(|| Problem::unauthenticated(format!("the session is unknown or has ended: {HOW}")))
}

/// Who calls, as `Routes` found out before the handler runs.
impl FromRequestParts<App> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("An operation that is not registered for clients asks which client calls");
            Problem::internal()
        })
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        let detail = error.to_string();
        match error {
            SessionError::Wrong => {
                Self::new(StatusCode::UNAUTHORIZED, "wrong_password", "Sign-in failed", detail)
            }
            SessionError::Mailed => {
                Self::new(StatusCode::FORBIDDEN, "password_change_required", "Set a password first", detail)
            }
            SessionError::Barred(_) => {
                Self::new(StatusCode::FORBIDDEN, "client_not_active", "Not permitted", detail)
            }
            SessionError::Invalid(fault) => fault.into(),
            SessionError::Db(error) => error.into(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientSignIn)]
struct SignIn {
    /// The client's id.
    client: String,
    #[schema(max_length = 128)]
    password: String,
}

/// A session of a client that was opened.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenedClientSession)]
struct OpenedView {
    /// To be presented as `Authorization: Bearer <token>`; shown this once.
    token: String,
    #[serde(flatten)]
    session: SessionView,
}

/// A session of a client.
#[derive(Serialize, ToSchema)]
#[schema(as = ClientSession)]
struct SessionView {
    /// The client's id.
    client: String,
    /// What people call it.
    display_name: String,
    /// When it was opened, UTC ms.
    created_at: i64,
    /// Last instant, UTC ms; use moves it where the installation wants it so.
    expires_at: i64,
}

impl From<SignedIn> for SessionView {
    fn from(SignedIn { client, session }: SignedIn) -> Self {
        Self {
            client: session.client,
            display_name: client.display_name,
            created_at: session.created_at.0,
            expires_at: session.expires_at.0,
        }
    }
}

/// Sign in as a client.
///
/// With the client's id and its own password; one that was mailed serves only for
/// `POST /client/v1/password`. Wrong ones count there and here together. An unknown id and closed
/// password credentials are refused as a wrong password is.
#[utoipa::path(post, path = "/client/v1/session", responses(
    (status = 401, description = "`wrong_password`: also for an unknown client and after too many wrong ones"),
    (
        status = 403,
        description = "told only to who knows the password: `password_change_required`: it was mailed; \
            `client_not_active`: the client is disabled or locked, or its days are to come or over"
    ),
    (status = 429, description = "`too_many_wrong_passwords`: from the caller's address, within 10 minutes"),
))]
async fn sign_in(
    State(app): State<App>,
    from: CallerAddress,
    Json(body): Json<SignIn>,
) -> Result<Confidential<Added<Json<OpenedView>>>, Problem> {
    let _place = app.passwords.enter()?;
    let tried = app.wrong_passwords.begin(&from, app.now())?;
    let opened = actions::sign_in(&app, &body.client, &body.password).await;
    if !matches!(opened, Err(SessionError::Wrong)) {
        tried.was_not_wrong();
    }
    let opened = opened?;
    let token = opened.token.as_str().to_owned();
    Ok(Confidential(Added(Json(OpenedView { token, session: opened.signed_in.into() }))))
}

/// Show the session that this call presents.
#[utoipa::path(get, path = "/client/v1/session")]
async fn show_session(caller: SignedIn) -> Json<SessionView> {
    Json(caller.into())
}

/// End the session that this call presents.
#[utoipa::path(delete, path = "/client/v1/session")]
async fn sign_out(State(app): State<App>, caller: SignedIn) -> Result<NoContent, Problem> {
    actions::sign_out(&app, &caller).await?;
    Ok(NoContent)
}
