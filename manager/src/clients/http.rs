//! `/api/v1/clients`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gate::id::GroupId;
use gate::wire::directory::Audience;
use gate::wire::exchange::ClientStatus;
use serde::Deserialize;

use super::actions::{self, ClientError, NewClient};
use super::form::Fields;
use super::model::{Binding, ClientName, Fault, parse_status, status_text};
use super::password::{self, NewPassword};
use super::security;
use super::store::Filter;
use super::view::ClientView;
use crate::app::App;
use crate::catalog::SecurityLevel;
use crate::http::{Actor, IfMatch, Json, Page, Path, Permission, Query, Versioned, page_cursor, page_limit};
use crate::password::Password;
use crate::problem::Problem;

/// Everything about clients.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/clients", get(list).post(create))
        .route("/api/v1/clients/{id}", get(show).patch(update))
        .merge(password::routes())
        .merge(security::routes())
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        ClientError::from(fault).into()
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        let detail = error.to_string();
        match error {
            ClientError::IdTaken { .. } => Self::conflict("client_exists", detail).field("id"),
            ClientError::NameTaken { .. } => Self::conflict("client_exists", detail).field("name"),
            ClientError::DisplayNameTaken { .. } => {
                Self::conflict("client_exists", detail).field("display_name")
            }
            ClientError::IdBuried { .. } => Self::conflict("client_exists", detail).field("id"),
            ClientError::Invalid(Fault { field, .. }) => Self::invalid(field, detail),
            ClientError::UnknownGroup { .. } | ClientError::GroupAboveLevel { .. } => {
                Self::invalid("groups", detail)
            }
            ClientError::NotFound { .. } => Self::not_found(detail),
            ClientError::NoAddress { .. } => Self::conflict("client_without_address", detail).field("emails"),
            ClientError::WrongPassword => {
                Self::new(StatusCode::FORBIDDEN, "wrong_password", "Original password is incorrect", detail)
            }
            ClientError::NotActive { .. } => Self::forbidden(detail),
            ClientError::Mail(error) => {
                tracing::error!(%error, "A mail to a client could not be written");
                Self::internal()
            }
            ClientError::Version { expected, present } => Self::version_mismatch(expected, present),
            ClientError::Db(error) => error.into(),
        }
    }
}

/// What a new client is made from. An empty text where none is required counts as none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    id: Option<String>,
    name: String,
    display_name: String,
    password: String,
    password_confirmation: String,
    application_number: Option<String>,
    status: Option<ClientStatus>,
    bindings: Option<Vec<Binding>>,
    start_date: Option<String>,
    expiry_date: Option<String>,
    service_from: Option<String>,
    service_until: Option<String>,
    time_zone: Option<String>,
    quota: Option<u64>,
    quota_period: Option<String>,
    tps: Option<u32>,
    priority: Option<u8>,
    audience: Option<Audience>,
    security_level: Option<SecurityLevel>,
    groups: Option<Vec<GroupId>>,
    note: String,
    emails: Option<String>,
    remark: Option<String>,
    allowed_attempts: Option<u32>,
}

impl Create {
    fn into_new(self, password: NewPassword) -> Result<NewClient, Fault> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(NewClient {
            id: given(self.id).map(|id| ClientName::parse_id(&id)).transpose()?,
            password: Some(password),
            fields: Fields {
                name: Some(self.name),
                display_name: Some(self.display_name),
                application_number: Some(given(self.application_number)),
                status: self.status,
                bindings: self.bindings,
                start_date: Some(given(self.start_date)),
                expiry_date: Some(given(self.expiry_date)),
                service_from: Some(given(self.service_from)),
                service_until: Some(given(self.service_until)),
                time_zone: given(self.time_zone),
                quota: self.quota,
                quota_period: given(self.quota_period),
                tps: self.tps,
                priority: self.priority,
                audience: self.audience,
                security_level: self.security_level,
                groups: self.groups,
                note: Some(self.note),
                emails: Some(given(self.emails)),
                remark: Some(given(self.remark)),
                allowed_attempts: self.allowed_attempts,
            },
        })
    }
}

async fn create(State(app): State<App>, actor: Actor, Json(body): Json<Create>) -> Result<Response, Problem> {
    actor.require(Permission::ClientsWrite)?;
    let password = confirmed("password", &body.password, &body.password_confirmation)?;
    let password = NewPassword::new(&app, password).await;
    let new = body.into_new(password).map_err(ClientError::from)?;
    let client = actions::create(&app, &actor.audit_name(), new).await?;
    Ok((StatusCode::CREATED, Versioned(client.version, ClientView::from(&client))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    keyword: Option<String>,
    status: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ClientView>>, Problem> {
    actor.require(Permission::ClientsRead)?;
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let status = match query.status.as_deref() {
        None | Some("") => None,
        Some(status) => Some(parse_status(status).map(status_text).ok_or_else(|| {
            Problem::invalid("status", "status must be active, disabled or locked; leave it out for all")
        })?),
    };
    let keyword = query.keyword.as_deref().map(str::trim).filter(|keyword| !keyword.is_empty());
    let filter = Filter { keyword, status };
    let clients = actions::list(&app, &filter, &after, limit).await?;
    Ok(Json(
        Page::new(clients, limit, |client| client.id.as_str().into()).map(|client| ClientView::from(&client)),
    ))
}

async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<ClientView>, Problem> {
    actor.require(Permission::ClientsRead)?;
    let client = actions::get(&app, &id).await?;
    Ok(Versioned(client.version, ClientView::from(&client)))
}

async fn update(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Fields>,
) -> Result<Versioned<ClientView>, Problem> {
    actor.require(Permission::ClientsWrite)?;
    let client = actions::update(&app, &actor.audit_name(), &id, expected.0, body).await?;
    Ok(Versioned(client.version, ClientView::from(&client)))
}

/// A password that was entered twice, under the name `field` and as `password_confirmation`.
pub(super) fn confirmed(field: &'static str, password: &str, confirmation: &str) -> Result<Password, Fault> {
    if password.is_empty() {
        return Err(Fault::new(field, "Please fill in the password"));
    }
    let parsed =
        Password::parse(password).map_err(|error| Fault::new(field, format!("Password: {error}")))?;
    if password != confirmation {
        let reason = match field {
            "new_password" => "The new password does not match the reconfirmed password",
            _ => "The password does not match the reconfirmed password",
        };
        return Err(Fault::new("password_confirmation", reason));
    }
    Ok(parsed)
}
