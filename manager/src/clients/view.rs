//! A client as it is read: by operators, and by the audit trail, which compares two of them.

use gate::id::GroupId;
use gate::wire::directory::Audience;
use gate::wire::exchange::ClientStatus;
use serde::Serialize;
use utoipa::ToSchema;

use super::hosts::{Host, Refusal};
use super::model::{Binding, Client, ClientName, LockedBy, PasswordState, ServiceTime, emails_text};
use super::schema::{ClientCode, ClientId, QuotaPeriod};
use crate::catalog::SecurityLevel;
use crate::openapi::wire;
use crate::quotas::{LeaseTerms, LeasesView, Meter, Outstanding};
use crate::usage::Forecast;

/// A client as it is read. Fields that can be entered have the form in which they are entered.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Client)]
pub struct ClientView {
    /// Its user name; never changes.
    #[schema(value_type = ClientId)]
    pub id: ClientName,
    /// The code.
    #[schema(value_type = ClientCode)]
    pub name: ClientName,
    /// For people.
    pub display_name: String,
    /// Of the application.
    pub application_number: Option<String>,
    /// As an operator has set it.
    #[schema(value_type = wire::ClientStatus)]
    pub status: ClientStatus,
    /// From where it may call; none: from everywhere.
    pub bindings: Vec<Binding>,
    /// What the host names among the bindings mean.
    pub hosts: Vec<HostView>,
    /// First day, in `time_zone`.
    pub start_date: Option<String>,
    /// Last day.
    pub expiry_date: Option<String>,
    /// First minute of each day, in `time_zone`.
    pub service_from: Option<String>,
    /// Last minute of each day.
    pub service_until: Option<String>,
    /// IANA name.
    pub time_zone: String,
    /// Calls per period; 0: unlimited.
    pub quota: u64,
    /// `day`, `week`, `month` or `total`.
    #[schema(value_type = QuotaPeriod)]
    pub quota_period: &'static str,
    /// Seconds of demand that a lease of its quotas is meant to last for; null: the installation's.
    pub lease_horizon_s: Option<u32>,
    /// Percent of a limit that one lease may have; null: the installation's.
    pub max_lease_percent: Option<u32>,
    /// Requests per second and node; 0: unlimited.
    pub tps: u32,
    /// 0 (best) to 9.
    pub priority: u8,
    /// From which side it may call.
    #[schema(value_type = wire::Audience)]
    pub audience: Audience,
    /// Which groups and scopes it may be given.
    pub security_level: SecurityLevel,
    /// Group ids, sorted.
    #[schema(value_type = Vec<String>)]
    pub groups: Vec<GroupId>,
    /// The owner.
    pub note: String,
    /// Separated by commas.
    pub emails: Option<String>,
    /// For people.
    pub remark: Option<String>,
    /// `none`, `set`, or `reset`: one was mailed that serves only to set a new one.
    pub password_state: &'static str,
    /// Until when a mailed password serves; UTC ms.
    pub password_reset_expires_at: Option<i64>,
    /// Wrong passwords since the last right one.
    pub failed_attempts: u32,
    /// At so many, password credentials are closed.
    pub allowed_attempts: u32,
    /// Whether password credentials are closed after too many wrong ones. Keys and tokens go on.
    pub password_locked: bool,
    /// What keeps it out, if anything does: `operator` (its status, which stops everything) or
    /// `wrong_passwords` (which close password credentials).
    pub locked_by: Option<LockedBy>,
    /// UTC ms.
    pub created_at: i64,
    /// UTC ms.
    pub updated_at: i64,
    /// For `If-Match`.
    pub version: i64,
}

impl From<&Client> for ClientView {
    fn from(client: &Client) -> Self {
        let client = client.clone();
        Self {
            password_locked: client.password_locked(),
            locked_by: client.locked_by(),
            emails: Some(emails_text(&client.emails)).filter(|emails| !emails.is_empty()),
            id: client.id,
            name: client.name,
            display_name: client.display_name,
            application_number: client.application_number,
            status: client.status,
            bindings: client.bindings,
            hosts: client.hosts.into_iter().map(HostView::from).collect(),
            start_date: client.dates.map(|dates| dates.start.to_string()),
            expiry_date: client.dates.map(|dates| dates.expiry.to_string()),
            service_from: client.service_time.map(|times| ServiceTime::clock(times.from)),
            service_until: client.service_time.map(|times| ServiceTime::clock(times.until)),
            time_zone: client.zone.name().into(),
            quota: client.quota.calls,
            quota_period: client.quota.period.as_str(),
            lease_horizon_s: client.leases.horizon_s,
            max_lease_percent: client.leases.max_percent,
            tps: client.tps,
            priority: client.priority,
            audience: client.audience,
            security_level: client.security_level,
            groups: client.groups,
            note: client.note,
            remark: Some(client.remark).filter(|remark| !remark.is_empty()),
            password_state: client.password.name(),
            password_reset_expires_at: match client.password {
                PasswordState::Reset { expires_at } => Some(expires_at.0),
                PasswordState::None | PasswordState::Set => None,
            },
            failed_attempts: client.failed_attempts,
            allowed_attempts: client.allowed_attempts,
            created_at: client.created_at.0,
            updated_at: client.updated_at.0,
            version: client.version,
        }
    }
}

/// What a host name among the bindings means.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = HostOfClient)]
pub struct HostView {
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

/// An address that a host name may not mean.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RefusedAddress)]
pub struct RefusedView {
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

/// A client with what it has used of its quota.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ClientDetails)]
pub struct DetailsView {
    /// The client.
    #[serde(flatten)]
    pub client: ClientView,
    /// What was used of its quota in this window; null: it is unlimited.
    pub quota_usage: Option<QuotaUsageView>,
}

/// What was used of a quota in the present window.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QuotaUsage)]
pub struct QuotaUsageView {
    /// Calls of the window: the quota, and what `reclaim` gave back of it.
    limit: u64,
    /// Of these, calls by which `reclaim` has raised it.
    reclaimed: u64,
    /// Calls handed to gateways, net of what they gave back.
    used: u64,
    /// Of these, calls that gateways hold and have not spent, as far as is known.
    held: u64,
    /// Of these, calls that gateways held which never told what became of them: nobody can use them.
    withheld: u64,
    /// Calls that can still be handed out.
    remaining: u64,
    #[serde(flatten)]
    forecast: Forecast,
    #[serde(flatten)]
    leases: LeasesView,
    /// First instant of the window, UTC ms; null: it has none.
    window_start: Option<i64>,
    /// First instant of the next window, UTC ms; null: there is none.
    window_end: Option<i64>,
}

impl QuotaUsageView {
    /// What `meter` says, as it stands now, of which `outstanding` is out.
    pub(super) fn of(
        meter: &Meter,
        outstanding: Outstanding,
        forecast: Forecast,
        installation: LeaseTerms<u32>,
    ) -> Self {
        Self {
            limit: meter.in_force(),
            reclaimed: meter.reclaimed,
            used: meter.debited,
            held: outstanding.leased,
            withheld: outstanding.withheld,
            remaining: meter.remaining(),
            forecast,
            leases: LeasesView::of(meter, installation),
            window_start: meter.window.map(|window| window.start.0),
            window_end: meter.window.map(|window| window.end.0),
        }
    }
}
