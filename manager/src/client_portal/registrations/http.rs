//! `/client/v1/registrations`, and `/client/v1/registration` for who follows one.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, RegistrationError, as_applicant};
use super::model::{Asked, Visitor};
use crate::app::App;
use crate::applications::{self, Action, ApplicationView};
use crate::bearer;
use crate::caller_address::CallerAddress;
use crate::client_portal::http::applications::{Comment, OwnDetailView, answer};
use crate::clients::{Binding, ClientCode, ClientDisplayName, ClientEmails};
use crate::http::{Accepted, Added, Confidential, IfMatch, Json, Routes, Versioned};
use crate::openapi::schema::schema_of;
use crate::problem::Problem;

/// Asking, confirming, following.
pub fn routes() -> Routes {
    Routes::of("client_portal")
        .open(routes!(ask_for_client))
        .open(routes!(confirm_registration))
        .visitor(routes!(show_registration, edit_registration))
        .visitor(routes!(resubmit_registration))
        .visitor(routes!(withdraw_registration))
}

/// Whose form it is that a call follows. 401 where it is nobody's.
pub async fn identify(app: &App, headers: &HeaderMap) -> Result<Visitor, Problem> {
    const HOW: &str = "present the token that POST /client/v1/registrations/confirm answered as \
                       `Authorization: Bearer <token>`";
    let Some(token) = bearer::presented(headers) else { return Err(Problem::unauthenticated(HOW)) };
    actions::authenticate(app, token)
        .await?
        .ok_or_else(|| Problem::unauthenticated(format!("the token is unknown or has run out: {HOW}")))
}

/// Who calls, as `Routes` found out before the handler runs.
impl FromRequestParts<App> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("An operation that is not registered for visitors asks which visitor calls");
            Problem::internal()
        })
    }
}

impl From<RegistrationError> for Problem {
    fn from(error: RegistrationError) -> Self {
        let detail = error.to_string();
        let too_many = |detail: String| {
            Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_registrations", "Asked too often", detail)
                .retry_after(actions::RETRY_AFTER_S)
        };
        match error {
            RegistrationError::Closed => {
                Self::new(StatusCode::FORBIDDEN, "registration_closed", "Not offered here", detail)
            }
            RegistrationError::Field(fault) => Self::invalid(fault.field(), detail),
            RegistrationError::CallerRefused | RegistrationError::AllRefused => too_many(detail),
            RegistrationError::UnknownToken => Self::invalid("token", detail),
            RegistrationError::Application(error) => error.without_names().into(),
            RegistrationError::Mail(error) => error.into(),
            RegistrationError::Db(error) => error.into(),
        }
    }
}

enum Purpose {}

schema_of! { Purpose as RegistrationPurpose: text(1, applications::MAX_DESCRIPTION_CHARS) }

/// The client that is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientAskedFor)]
struct AskedJson {
    /// Its code.
    #[schema(value_type = Option<ClientCode>)]
    name: Option<String>,
    /// What people call it.
    #[schema(value_type = Option<ClientDisplayName>)]
    display_name: Option<String>,
    /// What it is for: those who review the question read it.
    #[schema(value_type = Option<Purpose>)]
    description: Option<String>,
    /// Its addresses, separated by commas; the first is that of who asks.
    #[schema(value_type = Option<ClientEmails>)]
    emails: Option<String>,
    /// From where it is to call; none: from everywhere.
    #[schema(max_items = 64)]
    bindings: Option<Vec<Binding>>,
}

impl From<AskedJson> for Asked {
    fn from(json: AskedJson) -> Self {
        let AskedJson { name, display_name, description, emails, bindings } = json;
        Self { name, display_name, description, emails, bindings }
    }
}

/// Ask to become a client, without any account.
///
/// The first address gets a mail with a token, which `POST /client/v1/registrations/confirm` takes.
/// The answer is the same whatever becomes of the mail: an address gets 3 in an hour at most.
#[utoipa::path(post, path = "/client/v1/registrations", responses(
    (status = 403, description = "`registration_closed`: the installation does not offer it"),
    (status = 429, description = "`too_many_registrations`: by this caller, or by all together, within an hour"),
))]
async fn ask_for_client(
    State(app): State<App>,
    from: CallerAddress,
    Json(body): Json<AskedJson>,
) -> Result<Accepted, Problem> {
    actions::ask(&app, &from, body.into()).await?;
    Ok(Accepted)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RegistrationConfirm)]
struct Confirm {
    /// As it was mailed.
    #[schema(max_length = 128)]
    token: String,
}

/// A question for a client that was handed in.
#[derive(Serialize, ToSchema)]
#[schema(as = FiledRegistration)]
struct FiledView {
    /// Follows the form: to be presented as `Authorization: Bearer <token>`; shown this once.
    token: String,
    /// Last instant at which it serves, UTC ms.
    expires_at: i64,
    application: ApplicationView,
}

/// Confirm one's address, which hands the form in.
///
/// Once: the token is used up.
#[utoipa::path(post, path = "/client/v1/registrations/confirm", responses(
    (status = 403, description = "`registration_closed`: the installation does not offer it"),
    (status = 409, description = "what keeps the form from being reviewed, `no_approval_flow` for example; the token stays"),
))]
async fn confirm_registration(
    State(app): State<App>,
    Json(body): Json<Confirm>,
) -> Result<Confidential<Added<Json<FiledView>>>, Problem> {
    let filed = actions::confirm(&app, &body.token).await?;
    Ok(Confidential(Added(Json(FiledView {
        token: filed.token.as_str().to_owned(),
        expires_at: filed.expires_at.0,
        application: filed.application.into(),
    }))))
}

/// Show the form that one follows, and what may be done with it now.
#[utoipa::path(get, path = "/client/v1/registration", responses((status = 404, description = "`not_found`")))]
async fn show_registration(
    State(app): State<App>,
    Visitor { email, application, .. }: Visitor,
) -> Result<Versioned<OwnDetailView>, Problem> {
    let detail = applications::detail(&app, as_applicant(&email), &application).await?;
    Ok(Versioned(detail.application.version, detail.into()))
}

/// Replace what a returned form asks for.
#[utoipa::path(put, path = "/client/v1/registration", params(IfMatch), responses(
    (status = 404, description = "`not_found`"),
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`"),
))]
async fn edit_registration(
    State(app): State<App>,
    Visitor { email, application, .. }: Visitor,
    IfMatch(seen): IfMatch,
    Json(body): Json<AskedJson>,
) -> Result<Versioned<ApplicationView>, Problem> {
    let fields = actions::fields(body.into());
    answer(applications::edit(&app, as_applicant(&email), &application, seen, fields).await)
}

/// Hand a returned form in again.
#[utoipa::path(post, path = "/client/v1/registration/resubmit", params(IfMatch), responses(
    (status = 404, description = "`not_found`"),
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`, or what keeps the form from being reviewed"),
    (status = 422, description = "`invalid_field`: a field no longer holds in the world as it is"),
))]
async fn resubmit_registration(
    State(app): State<App>,
    Visitor { email, application, .. }: Visitor,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<ApplicationView>, Problem> {
    let (caller, action) = (as_applicant(&email), Action::Resubmit);
    answer(applications::submit(&app, caller, &application, seen, action).await)
}

/// Take the form back for good.
#[utoipa::path(post, path = "/client/v1/registration/withdraw", params(IfMatch), responses(
    (status = 404, description = "`not_found`"),
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`, `already_reviewed`"),
))]
async fn withdraw_registration(
    State(app): State<App>,
    Visitor { email, application, .. }: Visitor,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    let done = applications::withdraw(&app, as_applicant(&email), &application, seen, &body.comment).await;
    answer(done)
}
