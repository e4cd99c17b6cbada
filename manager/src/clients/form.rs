//! The form of a client: what is entered of it, field by field, with limits, defaults and
//! messages. The same form makes a client and changes one.

use std::collections::BTreeSet;

use gate::id::GroupId;
use gate::time::UnixMillis;
use gate::wire::directory::Audience;
use gate::wire::exchange::ClientStatus;
use serde::Deserialize;
use utoipa::ToSchema;

use super::hosts;
use super::model::{
    Binding, Client, ClientName, DEFAULT_ALLOWED_ATTEMPTS, DEFAULT_PRIORITY, DEFAULT_TPS, Dates, Fault,
    MAX_APPLICATION_NUMBER, MAX_BINDINGS, MAX_GROUPS, MAX_NAME, MAX_NOTE, MAX_REMARK, PasswordState, Quota,
    ServiceTime, check_length, line, parse_emails,
};
use super::schema::{
    ApplicationNumber, ClientCode, ClientDisplayName, ClientEmails, ClientNote, ClientRemark, QuotaPeriod,
    TimeOfDay,
};
use crate::catalog::SecurityLevel;
use crate::config::Config;
use crate::http::nullable;
use crate::openapi::wire;
use crate::quotas::{LeaseHorizon, LeaseTerms, MAX_LIMIT_UNITS, MaxLeasePercent, Period, Zone};

/// What is entered. A field that is absent has its default in a new client, and leaves a client
/// that exists as it is. `Some(None)` removes what can be absent. An empty text is refused, so
/// that nothing is reset by an input that was left empty.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientUpdate)]
pub struct Fields {
    /// The code: letters, digits, `_` and `-`. Required.
    #[schema(value_type = Option<ClientCode>)]
    pub name: Option<String>,
    /// For people. Required.
    #[schema(value_type = Option<ClientDisplayName>)]
    pub display_name: Option<String>,
    /// Of the application.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<ApplicationNumber>)]
    pub application_number: Option<Option<String>>,
    /// Default: active.
    #[schema(value_type = Option<wire::ClientStatus>)]
    pub status: Option<ClientStatus>,
    /// From where it may call, as a whole; none: from everywhere.
    #[schema(max_items = 64)]
    pub bindings: Option<Vec<Binding>>,
    /// First day, `2026-07-14`, in `time_zone`; together with `expiry_date`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, format = Date)]
    pub start_date: Option<Option<String>>,
    /// Last day.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, format = Date)]
    pub expiry_date: Option<Option<String>>,
    /// First minute of each day, `08:30`, in `time_zone`; together with `service_until`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<TimeOfDay>)]
    pub service_from: Option<Option<String>>,
    /// Last minute of each day.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<TimeOfDay>)]
    pub service_until: Option<Option<String>>,
    /// IANA name. Default: the installation's; a new client with dates or a service time names it.
    pub time_zone: Option<String>,
    /// Calls per period; 0, the default: unlimited.
    #[schema(maximum = 9007199254740992u64)]
    pub quota: Option<u64>,
    /// `day` (default), `week`, `month`, `total` (or `none`).
    #[schema(value_type = Option<QuotaPeriod>)]
    pub quota_period: Option<String>,
    /// Seconds of demand that a gateway's lease of its quotas is meant to last for: what an outage of the
    /// manager is survived with. Default: the installation's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<LeaseHorizon>)]
    pub lease_horizon_s: Option<Option<u32>>,
    /// Percent of a limit that one lease may have, a unit at least: what the crash of an Envoy may cost,
    /// twice. Default: the installation's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<MaxLeasePercent>)]
    pub max_lease_percent: Option<Option<u32>>,
    /// Requests per second and node; 0: unlimited.
    pub tps: Option<u32>,
    /// 0 (best) to 9.
    #[schema(maximum = 9)]
    pub priority: Option<u8>,
    /// Default: both.
    #[schema(value_type = Option<wire::Audience>)]
    pub audience: Option<Audience>,
    /// Default: `SYSTEM`.
    pub security_level: Option<SecurityLevel>,
    /// Group ids, as a whole.
    #[schema(value_type = Option<Vec<String>>, max_items = 205)]
    pub groups: Option<Vec<GroupId>>,
    /// The owner. Required.
    #[schema(value_type = Option<ClientNote>)]
    pub note: Option<String>,
    /// Separated by commas.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<ClientEmails>)]
    pub emails: Option<Option<String>>,
    /// For people.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<ClientRemark>)]
    pub remark: Option<Option<String>>,
    /// Wrong passwords after which password credentials are closed.
    #[schema(minimum = 1)]
    pub allowed_attempts: Option<u32>,
}

impl Fields {
    /// A new client. Without an `id` the caller gives it one: see [`Fields::code`].
    pub fn create(self, id: ClientName, default_zone: &Zone, now: UnixMillis) -> Result<Client, Fault> {
        let timed = matches!(self.start_date, Some(Some(_))) || matches!(self.service_from, Some(Some(_)));
        if timed && self.time_zone.is_none() {
            return Err(Fault::new("time_zone", "Time zone must be filled in, e.g. Asia/Taipei"));
        }
        for (field, label, text) in
            [("display_name", "Client name", &self.display_name), ("note", "Owner", &self.note)]
        {
            check_length(field, label, text.as_deref().unwrap_or_default(), 1, usize::MAX)?;
        }
        let blank = Client {
            id,
            name: self.code()?,
            display_name: String::new(),
            application_number: None,
            status: ClientStatus::Active,
            bindings: Vec::new(),
            // Read back once the bindings are saved.
            hosts: Vec::new(),
            dates: None,
            service_time: None,
            zone: default_zone.clone(),
            quota: Quota { calls: 0, period: Period::Day },
            leases: LeaseTerms::default(),
            tps: DEFAULT_TPS,
            priority: DEFAULT_PRIORITY,
            audience: Audience::Both,
            security_level: SecurityLevel::default(),
            groups: Vec::new(),
            note: String::new(),
            emails: Vec::new(),
            remark: String::new(),
            password: PasswordState::None,
            failed_attempts: 0,
            allowed_attempts: DEFAULT_ALLOWED_ATTEMPTS,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        self.change(blank)
    }

    /// The client's name, which a new client must have.
    pub fn code(&self) -> Result<ClientName, Fault> {
        ClientName::parse_name(self.name.as_deref().unwrap_or_default())
    }

    /// The client as it becomes. What only the database can tell (is the name free, does the group
    /// exist) is not asked here.
    pub fn change(self, present: Client) -> Result<Client, Fault> {
        let date = |date: jiff::civil::Date| date.to_string();
        let (start, expiry) = present.dates.map(|dates| (date(dates.start), date(dates.expiry))).unzip();
        let (from, until) = present
            .service_time
            .map(|times| (ServiceTime::clock(times.from), ServiceTime::clock(times.until)))
            .unzip();
        let (start, expiry) = (self.start_date.unwrap_or(start), self.expiry_date.unwrap_or(expiry));
        let (from, until) = (self.service_from.unwrap_or(from), self.service_until.unwrap_or(until));
        let client = Client {
            name: match self.name {
                Some(name) => ClientName::parse_name(&name)?,
                None => present.name,
            },
            display_name: match self.display_name {
                Some(name) => line("display_name", "Client name", &name, 1, MAX_NAME)?,
                None => present.display_name,
            },
            application_number: match self.application_number {
                Some(number) => removable("application_number", "Sign number", number)?
                    .map(|number| {
                        line("application_number", "Sign number", &number, 1, MAX_APPLICATION_NUMBER)
                    })
                    .transpose()?,
                None => present.application_number,
            },
            status: self.status.unwrap_or(present.status),
            bindings: self.bindings.unwrap_or(present.bindings),
            dates: Dates::parse(start.as_deref(), expiry.as_deref())?,
            service_time: ServiceTime::parse(from.as_deref(), until.as_deref())?,
            zone: match self.time_zone {
                Some(zone) => parse_zone(&zone)?,
                None => present.zone,
            },
            quota: Quota {
                calls: self.quota.unwrap_or(present.quota.calls),
                period: match self.quota_period {
                    Some(period) => parse_period(&period)?,
                    None => present.quota.period,
                },
            },
            leases: LeaseTerms {
                horizon_s: self.lease_horizon_s.unwrap_or(present.leases.horizon_s),
                max_percent: self.max_lease_percent.unwrap_or(present.leases.max_percent),
            },
            tps: self.tps.unwrap_or(present.tps),
            priority: self.priority.unwrap_or(present.priority),
            audience: self.audience.unwrap_or(present.audience),
            security_level: self.security_level.unwrap_or(present.security_level),
            groups: match self.groups {
                Some(groups) => groups.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
                None => present.groups,
            },
            note: match self.note {
                Some(note) => line("note", "Owner", &note, 1, MAX_NOTE)?,
                None => present.note,
            },
            emails: match self.emails {
                Some(emails) => removable("emails", "Email account", emails)?
                    .as_deref()
                    .map(parse_emails)
                    .transpose()?
                    .unwrap_or_default(),
                None => present.emails,
            },
            remark: match self.remark {
                Some(remark) => removable("remark", "Remark", remark)?
                    .map(|remark| parse_remark(&remark))
                    .transpose()?
                    .unwrap_or_default(),
                None => present.remark,
            },
            allowed_attempts: self.allowed_attempts.unwrap_or(present.allowed_attempts),
            ..present
        };
        check(&client)?;
        Ok(client)
    }
}

/// What holds of the whole, and of numbers and lists.
fn check(client: &Client) -> Result<(), Fault> {
    if client.priority > gate::grant::LOWEST_PRIORITY {
        return Err(Fault::new("priority", "Priority: 0 (highest) to 9 (lowest)"));
    }
    if client.allowed_attempts == 0 {
        return Err(Fault::new("allowed_attempts", "Allowed failed attempts: at least 1"));
    }
    if client.quota.calls > MAX_LIMIT_UNITS {
        return Err(Fault::new("quota", format!("API quota: 0 (unlimited) to {MAX_LIMIT_UNITS}")));
    }
    client.leases.check().map_err(|(field, reason)| Fault::new(field, reason))?;
    check_group_count(client.groups.len())?;
    if client.bindings.len() > MAX_BINDINGS {
        let reason = format!("Host list: {MAX_BINDINGS} rows at most, you enter {}", client.bindings.len());
        return Err(Fault::new("bindings", reason));
    }
    let names = client.bindings.iter().filter(|binding| binding.host().is_some()).count();
    if names > hosts::MAX_NAMES {
        let reason = format!("Host list: {} host names at most, you enter {names}", hosts::MAX_NAMES);
        return Err(Fault::new("bindings", reason));
    }
    let mut seen = BTreeSet::new();
    for binding in &client.bindings {
        binding.check().map_err(|reason| Fault::new("bindings", reason))?;
        for (label, text) in [("name", &binding.name), ("IP", &binding.address)] {
            if !seen.insert((label, text.to_lowercase())) {
                return Err(Fault::new("bindings", format!("Host {label} duplicated: {text}")));
            }
        }
    }
    Ok(())
}

/// Groups and scopes of a client together.
pub fn check_group_count(count: usize) -> Result<(), Fault> {
    if count <= MAX_GROUPS {
        return Ok(());
    }
    let reason =
        format!("Upper limit of {MAX_GROUPS} Groups per Group List, scopes included; these are {count}");
    Err(Fault::new("groups", reason))
}

/// A remark may have several lines.
fn parse_remark(text: &str) -> Result<String, Fault> {
    let text = text.trim();
    check_length("remark", "Remark", text, 1, MAX_REMARK)?;
    if text.chars().any(|c| c.is_control() && !"\r\n\t".contains(c)) {
        return Err(Fault::new("remark", "Remark: without control characters but line breaks"));
    }
    Ok(text.into())
}

/// A value that null removes: an empty text is no value.
fn removable(field: &'static str, label: &str, text: Option<String>) -> Result<Option<String>, Fault> {
    if text.as_deref() == Some("") {
        return Err(Fault::new(field, format!("{label}: is empty; send null to remove it, or leave it out")));
    }
    Ok(text)
}

/// The zone of a new client that names none.
pub fn installation_zone(config: &Config) -> Result<Zone, Fault> {
    parse_zone(&config.time_zone)
}

fn parse_zone(name: &str) -> Result<Zone, Fault> {
    if name.is_empty() {
        return Err(Fault::new("time_zone", "Time zone must be filled in, e.g. Asia/Taipei"));
    }
    Zone::parse(name).ok_or_else(|| {
        Fault::new("time_zone", format!("Time zone: {name:?} is none of the IANA database, e.g. Asia/Taipei"))
    })
}

fn parse_period(text: &str) -> Result<Period, Fault> {
    Period::parse(text)
        .ok_or_else(|| Fault::new("quota_period", "API quota's period: day, week, month or total"))
}
