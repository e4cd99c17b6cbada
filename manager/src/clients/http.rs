//! `/api/v1/clients`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gate::id::GroupId;
use gate::wire::directory::Audience;
use gate::wire::exchange::ClientStatus;
use serde::{Deserialize, Serialize};

use super::actions::{self, Account, ClientError, Profile};
use super::hosts::{Host, Refusal};
use super::model::{
    Binding, Client, ClientName, DEFAULT_ALLOWED_ATTEMPTS, DEFAULT_PRIORITY, DEFAULT_TPS, Dates, Quota,
    ServiceTime, parse_emails, parse_status, status_text,
};
use super::store::Filter;
use crate::app::App;
use crate::catalog::SecurityLevel;
use crate::http::{
    Actor, IfMatch, Json, Page, Path, Permission, Query, Versioned, nullable, page_cursor, page_limit,
};
use crate::operators::Email;
use crate::password::Password;
use crate::problem::Problem;
use crate::quotas::{Period, Zone};

/// Everything about clients.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/clients", get(list).post(create))
        .route("/api/v1/clients/{id}", get(show).patch(update))
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
            ClientError::Invalid { field, .. } => Self::invalid(field, detail),
            ClientError::UnknownGroup { .. } | ClientError::GroupAboveLevel { .. } => {
                Self::invalid("groups", detail)
            }
            ClientError::NotFound { .. } => Self::not_found(detail),
            ClientError::Version { expected, present } => Self::version_mismatch(expected, present),
            ClientError::Db(error) => error.into(),
        }
    }
}

/// A client as it is read.
#[derive(Serialize)]
struct ClientView {
    id: ClientName,
    name: ClientName,
    display_name: String,
    application_number: Option<String>,
    status: ClientStatus,
    bindings: Vec<Binding>,
    hosts: Vec<HostView>,
    start_date: Option<String>,
    expiry_date: Option<String>,
    service_from: Option<String>,
    service_until: Option<String>,
    time_zone: String,
    /// 0 = unlimited.
    quota: u64,
    quota_period: &'static str,
    /// 0 = unlimited.
    tps: u32,
    priority: u8,
    audience: Audience,
    security_level: SecurityLevel,
    groups: Vec<GroupId>,
    note: String,
    emails: String,
    remark: String,
    failed_attempts: u32,
    allowed_attempts: u32,
    password_locked: bool,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

impl From<Client> for ClientView {
    fn from(client: Client) -> Self {
        let clock = |time: jiff::civil::Time| time.strftime("%H:%M").to_string();
        Self {
            password_locked: client.password_locked(),
            id: client.id,
            name: client.name,
            display_name: client.display_name,
            application_number: client.application_number,
            status: client.status,
            bindings: client.bindings,
            hosts: client.hosts.into_iter().map(HostView::from).collect(),
            start_date: client.dates.map(|dates| dates.start.to_string()),
            expiry_date: client.dates.map(|dates| dates.expiry.to_string()),
            service_from: client.service_time.map(|times| clock(times.from)),
            service_until: client.service_time.map(|times| clock(times.until)),
            time_zone: client.zone.name().into(),
            quota: client.quota.map_or(0, |quota| quota.calls),
            quota_period: client.quota.map_or(Period::Day, |quota| quota.period).as_str(),
            tps: client.tps,
            priority: client.priority,
            audience: client.audience,
            security_level: client.security_level,
            groups: client.groups,
            note: client.note,
            emails: client.emails.iter().map(Email::as_str).collect::<Vec<_>>().join(","),
            remark: client.remark,
            failed_attempts: client.failed_attempts,
            allowed_attempts: client.allowed_attempts,
            created_at: client.created_at.0,
            updated_at: client.updated_at.0,
            version: client.version,
        }
    }
}

/// What a host name among the bindings means.
#[derive(Serialize)]
struct HostView {
    name: String,
    /// From which the client may call; none: nobody matches this binding.
    addresses: Vec<String>,
    /// When the last good answer came.
    resolved_at: Option<i64>,
    /// When the name was asked for last.
    tried_at: Option<i64>,
    /// Addresses of the last answer that may not be used.
    refused: Vec<RefusedView>,
    /// What was wrong with the last answer.
    last_error: Option<String>,
}

#[derive(Serialize)]
struct RefusedView {
    address: String,
    reason: &'static str,
}

impl From<Host> for HostView {
    fn from(host: Host) -> Self {
        let refused = |address: &std::net::IpAddr| RefusedView {
            address: address.to_string(),
            reason: Refusal::of(*address).map_or("", Refusal::as_str),
        };
        Self {
            name: host.name.as_str().into(),
            addresses: host.addresses.iter().map(ToString::to_string).collect(),
            resolved_at: host.resolved_at.map(|at| at.0),
            tried_at: host.tried_at.map(|at| at.0),
            refused: host.refused.iter().map(refused).collect(),
            last_error: host.last_error,
        }
    }
}

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
    #[serde(default)]
    bindings: Vec<Binding>,
    start_date: Option<String>,
    expiry_date: Option<String>,
    service_from: Option<String>,
    service_until: Option<String>,
    time_zone: Option<String>,
    quota: Option<u64>,
    quota_period: Option<String>,
    tps: Option<u32>,
    priority: Option<u8>,
    #[serde(default)]
    audience: Audience,
    security_level: Option<SecurityLevel>,
    #[serde(default)]
    groups: Vec<GroupId>,
    note: String,
    #[serde(default)]
    emails: String,
    #[serde(default)]
    remark: String,
    allowed_attempts: Option<u32>,
}

async fn create(State(app): State<App>, actor: Actor, Json(body): Json<Create>) -> Result<Response, Problem> {
    actor.require(Permission::ClientsWrite)?;
    let id = match body.id.as_deref() {
        None | Some("") => None,
        Some(id) => Some(ClientName::parse_id(id).map_err(field("id"))?),
    };
    let password = confirmed(&body.password, &body.password_confirmation)?;
    let zone = match body.time_zone.as_deref() {
        Some(zone) => parse_zone(zone)?,
        None => {
            let needed = body.start_date.is_some() || body.service_from.is_some();
            if needed {
                return Err(Problem::invalid("time_zone", "Time zone must be filled in, e.g. Asia/Taipei"));
            }
            parse_zone(&app.config.time_zone)?
        }
    };
    let profile = Profile {
        name: ClientName::parse_name(&body.name).map_err(field("name"))?,
        display_name: body.display_name,
        application_number: body.application_number.filter(|number| !number.is_empty()),
        status: body.status.unwrap_or(ClientStatus::Active),
        bindings: body.bindings,
        dates: Dates::parse(body.start_date.as_deref(), body.expiry_date.as_deref()).map_err(named)?,
        service_time: ServiceTime::parse(body.service_from.as_deref(), body.service_until.as_deref())
            .map_err(named)?,
        zone,
        quota: quota(body.quota.unwrap_or(0), body.quota_period.as_deref().unwrap_or("day"))?,
        tps: body.tps.unwrap_or(DEFAULT_TPS),
        priority: body.priority.unwrap_or(DEFAULT_PRIORITY),
        audience: body.audience,
        security_level: body.security_level.unwrap_or_default(),
        groups: body.groups,
        note: body.note,
        emails: parse_emails(&body.emails).map_err(field("emails"))?,
        remark: body.remark,
        allowed_attempts: body.allowed_attempts.unwrap_or(DEFAULT_ALLOWED_ATTEMPTS),
    };
    let client = actions::create(&app, &actor.audit_name(), id, profile, &password).await?;
    Ok((StatusCode::CREATED, Versioned(client.version, ClientView::from(client))).into_response())
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
    Ok(Json(Page::new(clients, limit, |client| client.id.as_str().into()).map(ClientView::from)))
}

async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<ClientView>, Problem> {
    actor.require(Permission::ClientsRead)?;
    let client = actions::get(&app, &id).await?;
    Ok(Versioned(client.version, client.into()))
}

/// What is absent stays as it is; null removes what can be absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    name: Option<String>,
    display_name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    application_number: Option<Option<String>>,
    status: Option<ClientStatus>,
    bindings: Option<Vec<Binding>>,
    #[serde(default, deserialize_with = "nullable")]
    start_date: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    expiry_date: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    service_from: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    service_until: Option<Option<String>>,
    time_zone: Option<String>,
    quota: Option<u64>,
    quota_period: Option<String>,
    tps: Option<u32>,
    priority: Option<u8>,
    audience: Option<Audience>,
    security_level: Option<SecurityLevel>,
    groups: Option<Vec<GroupId>>,
    note: Option<String>,
    emails: Option<String>,
    remark: Option<String>,
    allowed_attempts: Option<u32>,
    #[serde(default)]
    reset_failed_attempts: bool,
    password: Option<String>,
    password_confirmation: Option<String>,
}

async fn update(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Update>,
) -> Result<Versioned<ClientView>, Problem> {
    actor.require(Permission::ClientsWrite)?;
    let password = match (&body.password, &body.password_confirmation) {
        (None, None) => None,
        (Some(password), confirmation) => {
            Some(confirmed(password, confirmation.as_deref().unwrap_or_default())?)
        }
        (None, Some(_)) => return Err(Problem::invalid("password", "Please fill in the password")),
    };
    let account = Account { password, reset_failed_attempts: body.reset_failed_attempts };
    let change = |present: Profile| body.apply(present);
    let client = actions::update(&app, &actor.audit_name(), &id, expected.0, account, change).await?;
    Ok(Versioned(client.version, client.into()))
}

impl Update {
    fn apply(self, present: Profile) -> Result<Profile, ClientError> {
        let invalid = |field| move |reason| ClientError::Invalid { field, reason };
        let pair = |(field, reason)| ClientError::Invalid { field, reason };
        let day = |date: jiff::civil::Date| date.to_string();
        let clock = |time: jiff::civil::Time| time.strftime("%H:%M").to_string();
        let start = self.start_date.unwrap_or(present.dates.map(|dates| day(dates.start)));
        let expiry = self.expiry_date.unwrap_or(present.dates.map(|dates| day(dates.expiry)));
        let from = self.service_from.unwrap_or(present.service_time.map(|times| clock(times.from)));
        let until = self.service_until.unwrap_or(present.service_time.map(|times| clock(times.until)));
        let present_calls = present.quota.map_or(0, |quota| quota.calls);
        let present_period = present.quota.map_or(Period::Day, |quota| quota.period);
        Ok(Profile {
            name: match self.name {
                Some(name) => ClientName::parse_name(&name).map_err(invalid("name"))?,
                None => present.name,
            },
            display_name: self.display_name.unwrap_or(present.display_name),
            application_number: match self.application_number {
                Some(number) => number.filter(|number| !number.is_empty()),
                None => present.application_number,
            },
            status: self.status.unwrap_or(present.status),
            bindings: self.bindings.unwrap_or(present.bindings),
            dates: Dates::parse(start.as_deref(), expiry.as_deref()).map_err(pair)?,
            service_time: ServiceTime::parse(from.as_deref(), until.as_deref()).map_err(pair)?,
            zone: match self.time_zone {
                Some(zone) => Zone::parse(&zone).ok_or_else(|| invalid("time_zone")(unknown_zone(&zone)))?,
                None => present.zone,
            },
            quota: quota_of(
                self.quota.unwrap_or(present_calls),
                self.quota_period.as_deref().unwrap_or(present_period.as_str()),
            )
            .map_err(invalid("quota_period"))?,
            tps: self.tps.unwrap_or(present.tps),
            priority: self.priority.unwrap_or(present.priority),
            audience: self.audience.unwrap_or(present.audience),
            security_level: self.security_level.unwrap_or(present.security_level),
            groups: self.groups.unwrap_or(present.groups),
            note: self.note.unwrap_or(present.note),
            emails: match self.emails {
                Some(emails) => parse_emails(&emails).map_err(invalid("emails"))?,
                None => present.emails,
            },
            remark: self.remark.unwrap_or(present.remark),
            allowed_attempts: self.allowed_attempts.unwrap_or(present.allowed_attempts),
        })
    }
}

fn confirmed(password: &str, confirmation: &str) -> Result<Password, Problem> {
    let password = Password::parse(password)
        .map_err(|error| Problem::invalid("password", format!("password {error}")))?;
    let same = Password::parse(confirmation).is_ok_and(|confirmation| confirmation == password);
    if same {
        Ok(password)
    } else {
        Err(Problem::invalid("password_confirmation", "The password does not match the reconfirmed password"))
    }
}

fn parse_zone(name: &str) -> Result<Zone, Problem> {
    Zone::parse(name)
        .ok_or_else(|| Problem::invalid("time_zone", format!("time_zone {}", unknown_zone(name))))
}

fn unknown_zone(name: &str) -> String {
    format!("{name:?} is no time zone of the IANA database, e.g. Asia/Taipei")
}

fn quota(calls: u64, period: &str) -> Result<Option<Quota>, Problem> {
    quota_of(calls, period).map_err(field("quota_period"))
}

fn quota_of(calls: u64, period: &str) -> Result<Option<Quota>, String> {
    let period = Period::parse(period).ok_or("must be day, week, month or total")?;
    Ok((calls > 0).then_some(Quota { calls, period }))
}

/// The refusal of a field whose rule says what it must be.
fn field(name: &'static str) -> impl Fn(String) -> Problem {
    move |reason| Problem::invalid(name, format!("{name} {reason}"))
}

/// The same, where the rule names the field.
fn named((name, reason): (&'static str, String)) -> Problem {
    field(name)(reason)
}
