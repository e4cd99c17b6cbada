//! A client and its rules.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gate::address::Block;
use gate::id::GroupId;
use gate::time::{Interval, UnixMillis};
use gate::wire::directory::Audience;
use gate::wire::exchange::ClientStatus;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::hosts::{Host, HostName};
use super::schema::{BindingAddress, BindingName};
pub use super::service_time::ServiceTime;
use crate::catalog::SecurityLevel;
use crate::operators::Email;
use crate::quotas::{LeaseTerms, Limit, Period, Zone};
use crate::validity::Validity;

/// Characters of a client id at most.
pub const MAX_ID: usize = 40;
/// Characters of a name or display name at most.
pub const MAX_NAME: usize = 50;
/// Characters of an application number at most.
pub const MAX_APPLICATION_NUMBER: usize = 100;
/// Characters of the note at most.
pub const MAX_NOTE: usize = 50;
/// Characters of the remark at most.
pub const MAX_REMARK: usize = 300;
/// Characters of all e-mail addresses with their commas at most.
pub const MAX_EMAILS: usize = 500;
/// Address bindings of one client at most: each call compares all of them.
pub const MAX_BINDINGS: usize = 64;
/// Characters of a binding's name at most.
pub const MAX_BINDING_NAME: usize = 30;
/// Characters of a binding's address at most: those of a host name.
pub const MAX_BINDING_ADDRESS: usize = 255;
/// Groups and scopes of one client at most, together.
pub const MAX_GROUPS: usize = 205;
/// Requests per second and node of a new client.
pub const DEFAULT_TPS: u32 = 10;
/// Priority of a new client.
pub const DEFAULT_PRIORITY: u8 = 5;
/// Wrong passwords after which password credentials are closed.
pub const DEFAULT_ALLOWED_ATTEMPTS: u32 = 3;

/// What is wrong with a field, as a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Fault {
    /// `field` is at fault.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// A client as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its user name; never changes.
    pub id: ClientName,
    /// Its code.
    pub name: ClientName,
    /// For people.
    pub display_name: String,
    /// Of the application, if it has one.
    pub application_number: Option<String>,
    /// Whether its calls are let in.
    pub status: ClientStatus,
    /// From where it may call; none = from everywhere.
    pub bindings: Vec<Binding>,
    /// What the host names among the bindings mean, sorted by name.
    pub hosts: Vec<Host>,
    /// First and last day; None = always.
    pub dates: Option<Dates>,
    /// Hours of the day; None = all day.
    pub service_time: Option<ServiceTime>,
    /// Whose days and hours these are, and whose midnight turns the quota's window.
    pub zone: Zone,
    /// Calls per period.
    pub quota: Quota,
    /// How large the leases of its meters are, where that is not as the installation has it.
    pub leases: LeaseTerms,
    /// Requests per second and node; 0 = unlimited.
    pub tps: u32,
    /// 0 (best) to 9.
    pub priority: u8,
    /// From which side it may call.
    pub audience: Audience,
    /// Which groups it may be given.
    pub security_level: SecurityLevel,
    /// Group ids, sorted.
    pub groups: Vec<GroupId>,
    /// Who owns it.
    pub note: String,
    /// Where its mails go.
    pub emails: Vec<Email>,
    /// For people.
    pub remark: String,
    /// Whether password credentials can serve it.
    pub password: PasswordState,
    /// Wrong passwords since the last right one.
    pub failed_attempts: u32,
    /// At so many, password credentials are closed.
    pub allowed_attempts: u32,
    /// When.
    pub created_at: UnixMillis,
    /// When.
    pub updated_at: UnixMillis,
    /// For `If-Match`.
    pub version: i64,
}

/// What a client's password is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordState {
    /// There is none: password credentials are closed until one is set.
    None,
    /// It opens password credentials.
    Set,
    /// It was mailed, and serves only to set a new one.
    Reset {
        /// From then on not even for that.
        expires_at: UnixMillis,
    },
}

impl PasswordState {
    /// As answers and the audit trail call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Set => "set",
            Self::Reset { .. } => "reset",
        }
    }
}

/// What keeps a client out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockedBy {
    /// Its status: nothing of it is let in.
    Operator,
    /// Too many wrong passwords: its password credentials are closed.
    WrongPasswords,
}

/// A client id or name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ClientName(String);

impl ClientName {
    /// Reads a client id: at most [`MAX_ID`] characters.
    pub fn parse_id(text: &str) -> Result<Self, Fault> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-=".contains(c);
        Self::parse(
            "id",
            "Client account",
            text,
            MAX_ID,
            fits,
            "Only alphanumeric characters, '_', '-' and '=' are accepted",
        )
    }

    /// Reads a client's name: at most [`MAX_NAME`] characters.
    pub fn parse_name(text: &str) -> Result<Self, Fault> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        Self::parse(
            "name",
            "Client code",
            text,
            MAX_NAME,
            fits,
            "only English letters a~z, A~Z, numbers, '_' and '-' can be entered without blanks",
        )
    }

    /// The id of a client that is given none: its name in Base64, where that is short enough.
    /// (Of the characters of a name Base64 makes neither `+` nor `/`.)
    pub fn id_of_name(name: &Self) -> Option<Self> {
        Self::parse_id(&STANDARD.encode(&name.0)).ok()
    }

    fn parse(
        field: &'static str,
        label: &str,
        text: &str,
        max: usize,
        fits: impl Fn(char) -> bool,
        allowed: &str,
    ) -> Result<Self, Fault> {
        check_length(field, label, text, 1, max)?;
        if !text.chars().all(fits) {
            return Err(Fault::new(field, format!("{label}: {allowed}")));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text of `least` to `most` characters on one line; blanks around it do not count.
pub fn line(
    field: &'static str,
    label: &str,
    text: &str,
    least: usize,
    most: usize,
) -> Result<String, Fault> {
    let text = text.trim();
    check_length(field, label, text, least, most)?;
    if text.chars().any(char::is_control) {
        return Err(Fault::new(field, format!("{label}: without line breaks and other control characters")));
    }
    Ok(text.into())
}

/// `least` to `most` characters.
pub fn check_length(
    field: &'static str,
    label: &str,
    text: &str,
    least: usize,
    most: usize,
) -> Result<(), Fault> {
    let characters = text.chars().count();
    if characters < least {
        return Err(Fault::new(field, format!("{label}: Required parameters")));
    }
    if characters > most {
        let reason =
            format!("{label}: length limit [{most}] characters, you enter [{characters}] characters");
        return Err(Fault::new(field, reason));
    }
    Ok(())
}

/// An address, a block of them, or a host name that is resolved, from which a client may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// What people call it.
    #[schema(value_type = BindingName)]
    pub name: String,
    /// IPv4, IPv6, CIDR or host name.
    #[schema(value_type = BindingAddress)]
    pub address: String,
}

impl Binding {
    /// Checks name and address.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.chars().count() > MAX_BINDING_NAME {
            return Err(format!("a binding's name must be 1 to {MAX_BINDING_NAME} characters"));
        }
        match Block::parse(&self.address) {
            Ok(_) => Ok(()),
            Err(_) => HostName::parse(&self.address).map(drop),
        }
    }

    /// The host name, if it is one.
    pub fn host(&self) -> Option<HostName> {
        match Block::parse(&self.address) {
            Ok(_) => None,
            Err(_) => HostName::parse(&self.address).ok(),
        }
    }
}

/// First and last day of a client, both whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// First.
    pub start: Date,
    /// Last.
    pub expiry: Date,
}

impl Dates {
    /// Both or none, in order.
    pub fn parse(start: Option<&str>, expiry: Option<&str>) -> Result<Option<Self>, Fault> {
        const BOTH: &str = "Start date and due date must be filled in, both or none";
        let date = |field, label: &str, text: &str| {
            text.parse().map_err(|_| {
                Fault::new(field, format!("{label}:Only date format such as 2026-07-14, not {text:?}"))
            })
        };
        match (start, expiry) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(Fault::new("expiry_date", BOTH)),
            (None, Some(_)) => Err(Fault::new("start_date", BOTH)),
            (Some(start), Some(expiry)) => {
                let dates = Self {
                    start: date("start_date", "Start date", start)?,
                    expiry: date("expiry_date", "End date", expiry)?,
                };
                if dates.expiry < dates.start {
                    let reason = format!("The expiration date cannot be less than the start date {start}");
                    return Err(Fault::new("expiry_date", reason));
                }
                Ok(Some(dates))
            }
        }
    }
}

/// Calls per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// 0 = unlimited.
    pub calls: u64,
    /// When it begins again.
    pub period: Period,
}

impl Client {
    /// The instants of its first and last day.
    pub fn validity(&self) -> Option<Interval> {
        let instants = |dates: Dates| {
            let days = Validity::new(dates.start, dates.expiry).expect("in order since they were parsed");
            days.instants(&self.time_zone())
        };
        self.dates.map(instants)
    }

    /// The times at which it is served, from a little before now over the next two days, in order.
    pub fn service_intervals(&self, now: UnixMillis) -> Option<Vec<Interval>> {
        Some(self.service_time?.intervals(&self.time_zone(), now))
    }

    /// From where it may call now, as gates compare it: addresses, blocks, and what its host names
    /// mean. None although it has bindings: from nowhere.
    pub fn addresses(&self, now: UnixMillis, keep_ms: i64) -> Vec<String> {
        let blocks = self.bindings.iter().filter(|binding| binding.host().is_none());
        let resolved = self.hosts.iter().flat_map(|host| host.in_force(now, keep_ms));
        blocks.map(|binding| binding.address.clone()).chain(resolved.map(ToString::to_string)).collect()
    }

    /// The limit that the ledger holds for it; None = unlimited.
    pub fn limit(&self) -> Option<Limit> {
        let Quota { calls, period } = self.quota;
        (calls > 0).then(|| Limit { units: calls, period, zone: self.zone.clone() })
    }

    /// Whether password credentials are closed after too many wrong passwords.
    pub fn password_locked(&self) -> bool {
        self.failed_attempts >= self.allowed_attempts
    }

    /// What keeps it out. An operator's word comes first.
    pub fn locked_by(&self) -> Option<LockedBy> {
        match self.status {
            ClientStatus::Locked => Some(LockedBy::Operator),
            ClientStatus::Active | ClientStatus::Disabled => {
                self.password_locked().then_some(LockedBy::WrongPasswords)
            }
        }
    }

    fn time_zone(&self) -> TimeZone {
        TimeZone::get(self.zone.name()).unwrap_or(TimeZone::UTC)
    }
}

/// Splits and checks what was entered as `a@example.com, b@example.com`.
pub fn parse_emails(text: &str) -> Result<Vec<Email>, Fault> {
    check_length("emails", "Email account", text, 1, MAX_EMAILS)?;
    let emails = text
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(|address| {
            Email::parse(address)
                .map_err(|reason| Fault::new("emails", format!("Email account:Email format only; {reason}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if emails.is_empty() {
        return Err(Fault::new("emails", "Email account:Email format only; there is none"));
    }
    Ok(emails)
}

/// Addresses as they are entered and shown.
pub fn emails_text(emails: &[Email]) -> String {
    emails.iter().map(Email::as_str).collect::<Vec<_>>().join(",")
}

/// As stored and as the wire says it.
pub fn status_text(status: ClientStatus) -> &'static str {
    match status {
        ClientStatus::Active => "active",
        ClientStatus::Disabled => "disabled",
        ClientStatus::Locked => "locked",
    }
}

/// What [`status_text`] wrote.
pub fn parse_status(text: &str) -> Option<ClientStatus> {
    [ClientStatus::Active, ClientStatus::Disabled, ClientStatus::Locked]
        .into_iter()
        .find(|status| status_text(*status) == text)
}

/// As stored and as the wire says it.
pub fn audience_text(audience: Audience) -> &'static str {
    match audience {
        Audience::Both => "both",
        Audience::Internal => "internal",
        Audience::External => "external",
    }
}

/// What [`audience_text`] wrote.
pub fn parse_audience(text: &str) -> Option<Audience> {
    [Audience::Both, Audience::Internal, Audience::External]
        .into_iter()
        .find(|audience| audience_text(*audience) == text)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn client(zone: &str) -> Client {
        Client {
            id: ClientName::parse_id("acme").expect("plain"),
            name: ClientName::parse_name("acme").expect("plain"),
            display_name: "Acme".into(),
            application_number: None,
            status: ClientStatus::Active,
            bindings: vec![],
            hosts: vec![],
            dates: Dates::parse(Some("2026-03-28"), Some("2026-03-29")).expect("in order"),
            service_time: ServiceTime::parse(Some("01:30"), Some("18:00")).expect("in order"),
            zone: Zone::parse(zone).expect("bundled"),
            quota: Quota { calls: 0, period: Period::Day },
            leases: LeaseTerms::default(),
            tps: DEFAULT_TPS,
            priority: DEFAULT_PRIORITY,
            audience: Audience::Both,
            security_level: SecurityLevel::System,
            groups: vec![],
            note: "Ann".into(),
            emails: vec![],
            remark: String::new(),
            password: PasswordState::None,
            failed_attempts: 0,
            allowed_attempts: DEFAULT_ALLOWED_ATTEMPTS,
            created_at: UnixMillis(0),
            updated_at: UnixMillis(0),
            version: 1,
        }
    }

    #[test]
    fn first_and_last_day_are_whole_in_the_clients_zone() {
        for (zone, start, expiry, from, until) in [
            ("UTC", "2026-07-14", "2026-07-14", "2026-07-14T00:00:00Z", "2026-07-14T23:59:59.999Z"),
            ("Asia/Taipei", "2026-07-14", "2026-07-15", "2026-07-13T16:00:00Z", "2026-07-15T15:59:59.999Z"),
            // 23 and 25 hours.
            ("Europe/Berlin", "2026-03-29", "2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59.999Z"),
            ("Europe/Berlin", "2026-10-25", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59.999Z"),
            // A first day without midnight, the last day before it, and midnight twice.
            ("Asia/Beirut", "2026-03-29", "2026-03-29", "2026-03-28T22:00:00Z", "2026-03-29T20:59:59.999Z"),
            ("Asia/Beirut", "2026-03-28", "2026-03-28", "2026-03-27T22:00:00Z", "2026-03-28T21:59:59.999Z"),
            (
                "America/Havana",
                "2026-11-01",
                "2026-11-01",
                "2026-11-01T04:00:00Z",
                "2026-11-02T04:59:59.999Z",
            ),
            ("Asia/Taipei", "2026-07-14", "9999-12-31", "2026-07-13T16:00:00Z", "9999-12-31T23:59:59.999Z"),
        ] {
            let dates = Dates::parse(Some(start), Some(expiry)).expect("in order");
            let client = Client { dates, ..client(zone) };
            // The end of time is written as what is counted with, one millisecond short of year 10000.
            let at = |text: &str| match text.parse::<jiff::Timestamp>() {
                Ok(at) => UnixMillis(at.as_millisecond()),
                Err(_) => UnixMillis(253_402_300_799_999),
            };
            let expected = Interval { from: at(from), until: at(until) };
            assert_eq!(client.validity(), Some(expected), "{zone} {start} to {expiry}");
        }
    }

    #[test]
    fn dates_and_hours_come_in_pairs_and_in_order() {
        for (start, expiry, field) in [
            (Some("2026-01-02"), Some("2026-01-01"), Some("expiry_date")),
            (Some("2026-01-01"), Some("2026-01-01"), None),
            (Some("2026-01-01"), None, Some("expiry_date")),
            (None, Some("2026-01-01"), Some("start_date")),
            (Some("01/01/2026"), Some("2026-01-01"), Some("start_date")),
            (None, None, None),
        ] {
            assert_eq!(Dates::parse(start, expiry).err().map(|fault| fault.field), field);
        }
        for (from, until, field) in [
            (Some("09:00"), Some("08:59"), Some("service_until")),
            (Some("09:00"), Some("09:00"), None),
            (Some("9"), Some("10:00"), Some("service_from")),
            (Some("00:00"), Some("24:00"), Some("service_until")),
            (None, Some("10:00"), Some("service_from")),
        ] {
            assert_eq!(ServiceTime::parse(from, until).err().map(|fault| fault.field), field);
        }
    }

    #[test]
    fn names_at_their_edges() {
        for (text, name, id) in [
            ("Acme_1-x", true, true),
            ("YQ==", false, true),
            ("", false, false),
            ("a b", false, false),
            ("ü", false, false),
        ] {
            assert_eq!(ClientName::parse_name(text).is_ok(), name, "{text}");
            assert_eq!(ClientName::parse_id(text).is_ok(), id, "{text}");
        }
        assert!(ClientName::parse_id(&"a".repeat(MAX_ID)).is_ok());
        assert!(ClientName::parse_id(&"a".repeat(MAX_ID + 1)).is_err());
        assert!(ClientName::parse_name(&"a".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn addresses_are_split_at_commas() {
        let read = |text| parse_emails(text).map(|emails| emails.len());
        assert_eq!(read("a@example.com, b@example.com,"), Ok(2));
        assert!(read("a@example.com; b@example.com").is_err());
        assert!(read(&format!("{}@example.com", "a".repeat(MAX_EMAILS))).is_err());
    }
}
