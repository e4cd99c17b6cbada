//! `/api/v1/clients`.

use axum::extract::State;
use axum::http::StatusCode;
use gate::id::GroupId;
use gate::wire::directory::Audience;
use gate::wire::exchange::ClientStatus;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, ClientError, Details, NewClient};
use super::form::Fields;
use super::model::{Binding, ClientName, Fault, parse_status, status_text};
use super::password::{self, NewPassword};
use super::schema::{
    ApplicationNumber, ClientCode, ClientDisplayName, ClientEmails, ClientId, ClientNote, ClientRemark,
    QuotaPeriod, TimeOfDay,
};
use super::security;
use super::store::Filter;
use super::view::{ClientView, DetailsView, QuotaUsageView};
use crate::app::App;
use crate::catalog::{GroupSummary, SecurityLevel};
use crate::http::{
    Actor, Created, IfMatch, Json, Page, Path, Permission, Query, Routes, Versioned, page_cursor, page_limit,
};
use crate::openapi::wire;
use crate::password::Password;
use crate::problem::{Affected, AffectedThing, Problem};
use crate::quotas::{LeaseHorizon, MaxLeasePercent};

/// Everything about clients.
pub fn routes() -> Routes {
    Routes::of("clients")
        .permitted(&[Permission::ClientsRead], routes!(list))
        .permitted(&[Permission::ClientsWrite], routes!(create))
        .permitted(&[Permission::ClientsRead], routes!(show))
        .permitted(&[Permission::ClientsWrite], routes!(update))
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
            ClientError::ScopeAboveLevel { .. } => Self::invalid("security_level", detail),
            ClientError::ConfirmLowerLevel { above, .. } => {
                let things = |groups: Vec<GroupSummary>| {
                    groups.into_iter().map(|g| AffectedThing { id: g.id.0, name: g.name }).collect()
                };
                let affected =
                    Affected::from([("groups", things(above.groups)), ("scopes", things(above.scopes))]);
                Self::conflict("confirm_lower_level", detail).affecting(affected)
            }
            ClientError::NotGiven { .. } => Self::not_found(detail),
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
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientCreate)]
struct Create {
    #[schema(value_type = Option<ClientId>)]
    id: Option<String>,
    #[schema(value_type = ClientCode)]
    name: String,
    #[schema(value_type = ClientDisplayName)]
    display_name: String,
    #[schema(value_type = Password)]
    password: String,
    /// The same once more.
    #[schema(value_type = Password)]
    password_confirmation: String,
    #[schema(value_type = Option<ApplicationNumber>)]
    application_number: Option<String>,
    /// Default: active.
    #[schema(value_type = Option<wire::ClientStatus>)]
    status: Option<ClientStatus>,
    /// From where it may call; none: from everywhere.
    #[schema(max_items = 64)]
    bindings: Option<Vec<Binding>>,
    /// First day in `time_zone`, together with `expiry_date`.
    #[schema(format = Date)]
    start_date: Option<String>,
    /// Last day.
    #[schema(format = Date)]
    expiry_date: Option<String>,
    /// First minute of each day in `time_zone`, together with `service_until`.
    #[schema(value_type = Option<TimeOfDay>)]
    service_from: Option<String>,
    /// Last minute of each day.
    #[schema(value_type = Option<TimeOfDay>)]
    service_until: Option<String>,
    /// IANA name; required with dates or a service time. Default: the installation's.
    time_zone: Option<String>,
    /// Calls per period; 0, the default: unlimited.
    #[schema(maximum = 9007199254740992u64)]
    quota: Option<u64>,
    /// Default: day.
    #[schema(value_type = Option<QuotaPeriod>)]
    quota_period: Option<String>,
    /// Seconds of demand that a gateway's lease of its quotas is meant to last for. Default: the installation's.
    #[schema(value_type = Option<LeaseHorizon>)]
    lease_horizon_s: Option<u32>,
    /// Percent of a limit that one lease may have, a unit at least. Default: the installation's.
    #[schema(value_type = Option<MaxLeasePercent>)]
    max_lease_percent: Option<u32>,
    /// Requests per second and node, default 10; 0: unlimited.
    tps: Option<u32>,
    /// 0 (best) to 9, default 5.
    #[schema(maximum = 9)]
    priority: Option<u8>,
    /// Default: both.
    #[schema(value_type = Option<wire::Audience>)]
    audience: Option<Audience>,
    /// Default: SYSTEM.
    security_level: Option<SecurityLevel>,
    /// Group ids, none above the security level.
    #[schema(value_type = Option<Vec<String>>, max_items = 205)]
    groups: Option<Vec<GroupId>>,
    /// The owner.
    #[schema(value_type = ClientNote)]
    note: String,
    #[schema(value_type = Option<ClientEmails>)]
    emails: Option<String>,
    #[schema(value_type = Option<ClientRemark>)]
    remark: Option<String>,
    /// Wrong passwords after which password credentials are closed, default 3.
    #[schema(minimum = 1)]
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
                lease_horizon_s: Some(self.lease_horizon_s),
                max_lease_percent: Some(self.max_lease_percent),
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

/// Make a client.
///
/// Its addresses are told by mail, with the password, when credentials are mailed. Without an `id`
/// it gets its name in Base64, or one that is drawn where that is too long or was given before.
#[utoipa::path(post, path = "/api/v1/clients", responses(
    (status = 409, description = "`client_exists`: `field` says what of it is taken"),
))]
async fn create(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<Create>,
) -> Result<Created<Versioned<DetailsView>>, Problem> {
    let password = confirmed("password", &body.password, &body.password_confirmation)?;
    let password = NewPassword::new(&app, password).await;
    let new = body.into_new(password).map_err(ClientError::from)?;
    let client = actions::create(&app, &actor.audit_name(), new).await?;
    let path = format!("/api/v1/clients/{}", client.id.as_str());
    Ok(Created(path, shown(actions::details(&app, client).await?)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Stands, in whatever case, in id, names, application number or the name of a group.
    keyword: Option<String>,
    /// Default: all.
    #[param(value_type = Option<wire::ClientStatus>)]
    status: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List clients, by id.
#[utoipa::path(get, path = "/api/v1/clients", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ClientView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let status = match query.status.as_deref() {
        None => None,
        Some(status) => Some(parse_status(status).map(status_text).ok_or_else(|| {
            Problem::invalid_query(
                "status",
                "status must be active, disabled or locked; leave it out for all",
            )
        })?),
    };
    let keyword = query.keyword.as_deref().map(str::trim).filter(|keyword| !keyword.is_empty());
    let filter = Filter { keyword, status };
    let clients = actions::list(&app, &filter, &after, limit).await?;
    let page = Page::new(clients, limit, |client| client.id.as_str().into());
    Ok(Json(page.map(|client| ClientView::from(&client))))
}

/// Show a client, and what it has used of its quota.
#[utoipa::path(get, path = "/api/v1/clients/{id}")]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Versioned<DetailsView>, Problem> {
    Ok(shown(actions::get(&app, &id).await?))
}

/// Change a client; what is absent stays.
///
/// Null removes `application_number`, `emails`, `remark`, the dates, the service time and what is said of
/// leases, and leaves every other field as it is. An empty text is refused. `bindings` and `groups` are replaced as a
/// whole. The id never changes.
#[utoipa::path(patch, path = "/api/v1/clients/{id}", params(IfMatch), responses(
    (status = 409, description = "`client_exists`: `field` says what of it is taken"),
))]
async fn update(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Fields>,
) -> Result<Versioned<DetailsView>, Problem> {
    let client = actions::update(&app, &actor.audit_name(), &id, expected.0, body).await?;
    Ok(shown(actions::details(&app, client).await?))
}

/// A client as most answers show it.
pub(super) fn shown(details: Details) -> Versioned<DetailsView> {
    let Details { client, meter, installation } = details;
    let view = DetailsView {
        client: ClientView::from(&client),
        quota_usage: meter
            .map(|(meter, out, forecast)| QuotaUsageView::of(&meter, out, forecast, installation)),
    };
    Versioned(client.version, view)
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
