//! Settings: one TOML file, every setting overridable by an environment variable. The list
//! below is the only place that names a setting, its default and its meaning; the page
//! `docs/operations.md` is checked against it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use gate::address::Block;
use gate::time::UnixMillis;
use gate::wire::directory::{DenialFormat, Unregistered};
use serde::Deserialize;

use crate::db::DatabaseSettings;
use crate::expiry::ReminderDays;
use crate::mail::Language;
use crate::telemetry::LogFormat;

/// Version of the file's format.
pub const CONFIG_VERSION: i64 = 1;
/// The file that is read when nothing names another and it exists.
pub const DEFAULT_FILE: &str = "keygate.toml";
/// What the environment variable of every setting begins with.
pub const ENV_PREFIX: &str = "KEYGATE_";

/// One line of the settings table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the file; the variable is `KEYGATE_` and the name in upper case.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Where a text must not be shown.
    kind: Kind,
}

/// How a value is read from an environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Switch,
}

trait Value {
    const KIND: Kind;
}

macro_rules! values {
    ($kind:ident: $($type:ty),+) => { $(impl Value for $type { const KIND: Kind = Kind::$kind; })+ };
}
values!(Text: String, PathBuf, SocketAddr, LogFormat, Unregistered, DenialFormat);
values!(Text: MailTransport, MailSecurity, CredentialDelivery, CredentialRecipients, Language, LockoutScope);
values!(Text: NewUsers, Proxies, RefreshTokenReuse);
values!(Text: ReminderDays, Sensitive);
values!(Number: i8, u8, u16, u32, u64);
values!(Switch: bool);
impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+) => {
        /// Every setting, with its default where neither file nor environment names it.
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            /// Version of the file's format.
            pub version: i64,
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { version: CONFIG_VERSION, $($name: $default,)+ }
            }
        }

        /// Every setting, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { name: stringify!($name), doc: concat!($($doc),+), kind: <$type as Value>::KIND },)+
        ];
    };
}

// One setting per line or two; each capability appends to its block.
settings! {
    // Listening.
    /// Address and port of the management API.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
    /// Address and port of the gateway API; absent: it is served on `listen` too.
    gateway_listen: Option<SocketAddr> = None;
    /// PEM file of the server's certificate chain; together with `tls_key`.
    tls_cert: Option<PathBuf> = None;
    /// PEM file of the certificate's private key.
    tls_key: Option<PathBuf> = None;
    /// Allows plain HTTP on an address other than loopback; logged at every start.
    allow_plaintext: bool = false;
    /// Where people and mails reach this installation; absent: derived from `listen`.
    public_url: Option<String> = None;
    /// Where operators find a console with a page per form, below `/applications`; absent: there is none.
    console_url: Option<String> = None;
    /// Seconds that calls in flight get to end after the order to stop.
    shutdown_grace_s: u64 = 10;

    // Storage and secrets.
    /// `sqlite:<file>` or `postgres://<user>:<password>@<host>/<database>`.
    database_url: Sensitive = Sensitive("sqlite:keygate.db".into());
    /// Database connections of this process at most.
    database_connections: u32 = 8;
    /// Milliseconds that SQLite waits for another process's write.
    database_busy_timeout_ms: u64 = 5_000;
    /// File of the key-encryption key; generated with mode 0600 when missing.
    kek_file: PathBuf = PathBuf::from("keygate.kek");
    /// The key-encryption key itself, 32 bytes in Base64; wins over `kek_file`.
    kek: Option<Sensitive> = None;

    // Logs.
    /// Level (`info`) or list of `target=level`.
    log_filter: String = "info,sqlx=warn".into();
    /// `text` or `json`.
    log_format: LogFormat = LogFormat::Text;

    // The installation.
    /// Name of the product in mails and pages.
    product_name: String = "Keygate".into();
    /// Time zone of forms, numbers and mails (IANA name).
    time_zone: String = "UTC".into();
    /// Where clients call the gateway, for the ready calls in mails; absent: the API's first host.
    gateway_url: Option<String> = None;

    // Tokens.
    /// Where client applications reach `/oauth`, as tokens and their discovery name it: scheme and host, without a
    /// path; absent: `gateway_url`, or else `public_url`.
    token_issuer: Option<String> = None;
    /// What becomes of a refresh token of which a text is presented that was used before: `revoke` (it ends with all
    /// tokens that came from it) or `allow` (each of its texts serves, as with digiRunner).
    refresh_token_reuse: RefreshTokenReuse = RefreshTokenReuse::Revoke;

    // Operators and clients.
    /// Seconds for which a sign-in lasts.
    session_ttl_s: u64 = 28_800;
    /// Visitors may ask for a client below `/client/v1`.
    client_registration: bool = false;
    /// Header in which the proxies in front tell the caller's address, `x-keygate-caller-address` as
    /// `envoy/envoy.yaml` sets it; absent: the address of the connection.
    client_address_header: Option<String> = None;
    /// Addresses and blocks of the proxies whose `client_address_header` is believed, `10.0.0.0/24, 10.1.0.7`:
    /// from anybody else it is nothing. Set both or none.
    client_address_proxies: Option<Proxies> = None;
    /// Seconds for which a client's sign-in below `/client/v1` lasts.
    client_session_ttl_s: u64 = 3_600;
    /// Each use of a client's session begins its seconds anew, for a day at most; false: they begin at
    /// the sign-in alone.
    client_session_sliding: bool = true;
    /// Seconds that an API token lasts at most, and when no end is asked for; 0 = no end.
    api_token_ttl_s: u64 = 31_536_000;
    /// Wrong passwords in a row after which an operator's or a user's account takes none; 0 = never. Clients have
    /// `allowed_attempts` each.
    lockout_attempts: u32 = 3;
    /// What a client's lock after wrong passwords closes: `password` (Basic, sign-in, setting a new password) or
    /// `all` of its credentials.
    lockout_scope: LockoutScope = LockoutScope::Password;

    // Users who sign in elsewhere.
    /// Issuer of the OpenID provider at which users may sign in too; absent: here alone.
    oidc_issuer: Option<String> = None;
    /// The client id that the provider has given to this installation.
    oidc_client_id: Option<String> = None;
    /// The secret that belongs to it; absent: none, as a public client.
    oidc_client_secret: Option<Sensitive> = None;
    /// What is asked of the provider; `openid` is among it.
    oidc_scopes: String = "openid profile email".into();
    /// What people call the provider, on the button.
    oidc_name: String = "OpenID".into();
    /// Somebody signs in there whom no user is linked to: `refuse` or `create` a user.
    oidc_new_users: NewUsers = NewUsers::Refuse;

    // Host names in address bindings.
    /// Name servers, `192.0.2.53, [2001:db8::53]:5353`; absent: the system's.
    dns_servers: Option<String> = None;
    /// Seconds between two questions for a name.
    host_refresh_s: u32 = 60;
    /// Seconds for which a name's last good answer serves when it is not answered.
    host_keep_s: u32 = 600;
    /// Addresses of private networks, this machine and the like are taken from answers too.
    host_allow_private: bool = false;

    // Forms.
    /// An applicant may sign his own form.
    allow_self_approval: bool = false;
    /// One person may sign two levels of a form.
    allow_signing_two_levels: bool = false;
    /// Hours after which the reviewers of a level that waits are reminded; 0 = never.
    review_reminder_h: u32 = 24;
    /// Hours after which the next level may sign one that waits, after the last one administrators;
    /// 0 = never.
    review_escalation_h: u32 = 0;
    /// Who gets issued credentials: `client`, `applicant` or `both`.
    credential_recipients: CredentialRecipients = CredentialRecipients::Client;
    /// How issued credentials are handed over: `mail` (they stand in it) or `link` (it holds a link to a page
    /// that shows them once).
    credential_delivery: CredentialDelivery = CredentialDelivery::Mail;
    /// Hours for which such a link can be opened, from when its mail may go out.
    credential_link_ttl_h: u32 = 72;
    /// Seconds between the approval (or rotation) and the mail with the credentials.
    credential_mail_delay_s: u64 = 600;

    // Mail.
    /// Language of mails to those who asked for none: `en` or `zh-TW`.
    mail_language: Language = Language::En;
    /// Directory of texts that stand in for the built-in ones of mails; absent: none do.
    mail_templates_dir: Option<PathBuf> = None;
    /// `none` (mails wait, visibly), `file` or `smtp`.
    mail_transport: MailTransport = MailTransport::None;
    /// Sender of every mail.
    mail_from: String = "keygate@localhost".into();
    /// Where answers to mails go; absent: to `mail_from`.
    mail_reply_to: Option<String> = None;
    /// Hours after which a mail that no server takes is given up.
    mail_give_up_h: u32 = 72;
    /// Directory of `mail_transport = "file"`; each mail is a file of mode 0600.
    mail_file_dir: PathBuf = PathBuf::from("mails");
    /// SMTP server.
    smtp_host: Option<String> = None;
    /// Its port.
    smtp_port: u16 = 587;
    /// `starttls`, `tls` or `none`.
    smtp_security: MailSecurity = MailSecurity::Starttls;
    /// SMTP user; absent: no authentication.
    smtp_username: Option<String> = None;
    /// SMTP password.
    smtp_password: Option<Sensitive> = None;
    /// Server that is asked when the first one fails; absent: none.
    smtp_secondary_host: Option<String> = None;
    /// Its port.
    smtp_secondary_port: u16 = 587;
    /// `starttls`, `tls` or `none`.
    smtp_secondary_security: MailSecurity = MailSecurity::Starttls;
    /// Its user.
    smtp_secondary_username: Option<String> = None;
    /// Its password.
    smtp_secondary_password: Option<Sensitive> = None;
    /// PEM file of a certificate authority that both servers may use besides the system's.
    smtp_ca_file: Option<PathBuf> = None;
    /// What is said in EHLO; absent: this machine's name.
    smtp_hello_name: Option<String> = None;

    // Scheduled work.
    /// Days before the last day of a key on which its client is reminded, `30, 14, 7, 1`; `off`: never.
    key_expiry_reminder_days: ReminderDays = ReminderDays::default();
    /// Hour of the day (0 to 23, in `time_zone`) at which reminders of expiry are written.
    key_expiry_reminder_hour: i8 = 9;
    /// Hours for which the old secret of a key works beside the new one after a rotation; 0: until it is
    /// retired by hand.
    key_secret_overlap_h: u32 = 0;
    /// Days for which mails are kept in the mail log after they were sent or given up.
    mail_log_retention_days: u32 = 365;
    /// Days for which counts of calls by the minute are kept.
    usage_minute_retention_days: u32 = 3;
    /// Days for which counts of calls by the hour are kept.
    usage_hour_retention_days: u32 = 90;
    /// Days for which counts of calls by the day are kept.
    usage_retention_days: u32 = 730;
    /// Days for which it is kept what led to refusals.
    decision_retention_days: u32 = 7;
    /// Hours for which tokens are kept on record after their time has ended.
    token_retention_h: u32 = 24;
    /// Days for which tasks are kept after they ended.
    task_retention_days: u32 = 90;

    // What every gate obeys (goes out with the directory).
    /// A request that matches no API: `refuse` or `pass`.
    unregistered: Unregistered = Unregistered::Refuse;
    /// Format of refusals: `problem` or `digirunner`.
    denial_format: DenialFormat = DenialFormat::Problem;
    /// Seconds for which a cut-off filter goes on with what it holds.
    max_staleness_s: u32 = 60;
    /// Milliseconds a request may wait for a unit of quota.
    quota_wait_ms: u32 = 300;
    /// Milliseconds a request may wait for its credential to be looked up.
    lookup_wait_ms: u32 = 2_000;
    /// Bytes of a body that is checked against its signature.
    max_signed_body_bytes: u32 = 1 << 20;
    /// Unauthenticated CORS preflights pass, uncounted.
    cors_preflight: bool = true;
    /// The credential header is removed before the request goes upstream.
    strip_credential: bool = false;
    /// Requests in flight that one worker takes; 0 = no shedding.
    worker_capacity: u32 = 1_000;
    /// Admitted answers carry `RateLimit` fields too.
    ratelimit_on_success: bool = false;

    // Leases.
    /// Seconds of demand that one lease is meant to last for.
    lease_horizon_s: u32 = 30;
    /// Percent of a limit that one lease may have, a unit at least: what a crash of an Envoy may cost, twice.
    max_lease_percent: u32 = 1;
}

/// See [`Config::mail_transport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTransport {
    /// Mails wait in the outbox.
    None,
    /// One file per mail.
    File,
    /// An SMTP server.
    Smtp,
}

/// See [`Config::smtp_security`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailSecurity {
    /// Plain at first, then TLS; refused if the server does not offer it.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// No encryption.
    None,
}

/// See [`Config::credential_delivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialDelivery {
    /// In the mail.
    Mail,
    /// On a page that shows them once, to which the mail links.
    Link,
}

/// See [`Config::credential_recipients`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialRecipients {
    /// The client's addresses.
    Client,
    /// The applicant's address.
    Applicant,
    /// Both.
    Both,
}

/// See [`Config::client_address_proxies`].
#[derive(Clone, Debug)]
pub struct Proxies(Vec<Block>);

impl Proxies {
    /// `10.0.0.0/24, 10.1.0.7`
    pub fn parse(text: &str) -> Result<Self, String> {
        let blocks = text.split(',').map(str::trim).map(Block::parse).collect::<Result<_, _>>();
        blocks.map(Self).map_err(|error| error.to_string())
    }

    /// Whether that address is one of theirs.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(address))
    }
}

impl<'de> Deserialize<'de> for Proxies {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// See [`Config::refresh_token_reuse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshTokenReuse {
    /// Whoever presents it, thief or victim: both lose it.
    Revoke,
    /// As digiRunner does.
    Allow,
}

/// See [`Config::oidc_new_users`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewUsers {
    /// Nobody signs in there whom no operator has linked to a user.
    Refuse,
    /// A user is made.
    Create,
}

/// See [`Config::lockout_scope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockoutScope {
    /// Password credentials only.
    Password,
    /// All credentials of the client, as digiRunner does.
    All,
}

/// A setting that is not to be shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// The value.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Sensitive {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What is wrong with the settings, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {reason}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file says something that is not a setting.
    #[error("{}:{line}: {reason}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong and with which setting.
        reason: String,
    },
    /// An environment variable has a value that its setting cannot take.
    #[error("environment variable {variable}: {reason}")]
    Environment {
        /// Which one.
        variable: String,
        /// What is wrong.
        reason: String,
    },
    /// The settings contradict each other or cannot be obeyed.
    #[error("setting {setting}: {reason}")]
    Setting {
        /// The one to change.
        setting: &'static str,
        /// Why, and to what.
        reason: String,
    },
}

impl Setting {
    /// The environment variable that overrides it.
    pub fn variable(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.to_ascii_uppercase())
    }
}

impl Config {
    /// Reads the file (`None`: none, all defaults), then `environment` over it, and checks
    /// the whole. An empty variable counts as absent.
    pub fn load(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(file) => read_file(file)?,
            None => toml::Table::new(),
        };
        for setting in SETTINGS {
            let variable = setting.variable();
            let Some(text) = environment(&variable).filter(|text| !text.is_empty()) else { continue };
            let value = setting
                .read(text)
                .map_err(|reason| ConfigError::Environment { variable: variable.clone(), reason })?;
            table.insert(setting.name.into(), value);
            // One at a time, so that the message names the variable.
            Self::deserialize(table.clone()).map_err(|error| ConfigError::Environment {
                variable,
                reason: error.message().trim().to_string(),
            })?;
        }
        let config = Self::deserialize(table)
            .map_err(|error| ConfigError::Setting { setting: "version", reason: error.message().into() })?;
        config.check()?;
        Ok(config)
    }

    /// Where the database is.
    pub fn database(&self) -> DatabaseSettings {
        DatabaseSettings {
            url: self.database_url.reveal().into(),
            max_connections: self.database_connections,
            busy_timeout_ms: self.database_busy_timeout_ms,
        }
    }

    /// The installation's zone.
    pub fn zone(&self) -> jiff::tz::TimeZone {
        jiff::tz::TimeZone::get(&self.time_zone).expect("checked when the settings were loaded")
    }

    /// When a mail with credentials that is written now may go: late enough to be taken back.
    pub fn credentials_not_before(&self, now: UnixMillis) -> UnixMillis {
        let delay_ms = self.credential_mail_delay_s.saturating_mul(1_000);
        UnixMillis(now.0.saturating_add(i64::try_from(delay_ms).unwrap_or(i64::MAX)))
    }

    /// Where people reach this installation, without a trailing slash.
    pub fn base_url(&self) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_string(),
            None => {
                let scheme = if self.tls_cert.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", self.listen)
            }
        }
    }

    /// Who issues tokens, without a trailing slash.
    pub fn issuer(&self) -> String {
        match self.token_issuer.as_ref().or(self.gateway_url.as_ref()) {
            Some(url) => url.trim_end_matches('/').to_string(),
            None => self.base_url(),
        }
    }

    /// Where the console has that page, if there is a console.
    pub fn console_page(&self, path: &str) -> Option<String> {
        self.console_url.as_ref().map(|url| format!("{}/{path}", url.trim_end_matches('/')))
    }

    /// Addresses on which plain HTTP leaves the machine, though allowed: worth a warning.
    pub fn plaintext_exposed(&self) -> Vec<SocketAddr> {
        if self.tls_cert.is_some() {
            return Vec::new();
        }
        let listeners = [Some(self.listen), self.gateway_listen];
        listeners.into_iter().flatten().filter(|address| !address.ip().is_loopback()).collect()
    }

    /// Whether callers from elsewhere may come through a proxy that nobody has named here: they would all
    /// count as one.
    pub fn callers_may_look_alike(&self) -> bool {
        let listeners = [Some(self.listen), self.gateway_listen];
        self.client_address_header.is_none()
            && listeners.into_iter().flatten().any(|address| !address.ip().is_loopback())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |setting, reason: String| Err(ConfigError::Setting { setting, reason });
        if self.version != CONFIG_VERSION {
            return wrong(
                "version",
                format!("is {}, this program reads version {CONFIG_VERSION}", self.version),
            );
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => {
                return wrong("tls_key", "is missing beside tls_cert; set both or none".into());
            }
            (None, Some(_)) => {
                return wrong("tls_cert", "is missing beside tls_key; set both or none".into());
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        if let Some(address) = self.plaintext_exposed().first()
            && !self.allow_plaintext
        {
            let setting = if *address == self.listen { "listen" } else { "gateway_listen" };
            return wrong(
                setting,
                format!(
                    "{address} is not a loopback address and TLS is off: set tls_cert and tls_key, \
                     or allow_plaintext = true where something in front ends TLS"
                ),
            );
        }
        match (&self.client_address_header, &self.client_address_proxies) {
            (Some(_), None) => {
                let reason = "is missing beside client_address_header: name the addresses of your proxies (Envoys), \
                              or every caller could choose its own address";
                return wrong("client_address_proxies", reason.into());
            }
            (None, Some(_)) => {
                let reason = "is missing beside client_address_proxies; set both or none";
                return wrong("client_address_header", reason.into());
            }
            (Some(header), Some(_)) if axum::http::HeaderName::from_bytes(header.as_bytes()).is_err() => {
                return wrong("client_address_header", format!("{header:?} is no name of a header"));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        if self.gateway_listen == Some(self.listen) && self.listen.port() != 0 {
            return wrong("gateway_listen", "equals listen; leave it out to serve both on one port".into());
        }
        if jiff::tz::TimeZone::get(&self.time_zone).is_err() {
            return wrong(
                "time_zone",
                format!("{:?} is no IANA time zone, e.g. Asia/Taipei", self.time_zone),
            );
        }
        crate::mail::MailSettings::of(self)?;
        if let Some(servers) = &self.dns_servers
            && let Err(reason) = crate::clients::hosts::parse_servers(servers)
        {
            return wrong("dns_servers", reason);
        }
        if self.host_keep_s < self.host_refresh_s {
            return wrong(
                "host_keep_s",
                format!("is {}, must be at least host_refresh_s ({})", self.host_keep_s, self.host_refresh_s),
            );
        }
        self.check_secrets_on_their_way()?;
        self.check_issuer()?;
        self.check_openid_provider()?;
        let hour = self.key_expiry_reminder_hour;
        if !(0..=23).contains(&hour) {
            return wrong("key_expiry_reminder_hour", format!("is {hour}, must be 0 to 23"));
        }
        for (setting, value, low, high) in [
            ("database_connections", u64::from(self.database_connections), 1, 1_000),
            ("session_ttl_s", self.session_ttl_s, 60, 31_536_000),
            ("client_session_ttl_s", self.client_session_ttl_s, 60, 31_536_000),
            ("api_token_ttl_s", self.api_token_ttl_s, 0, 315_360_000),
            ("max_staleness_s", u64::from(self.max_staleness_s), 1, 86_400),
            ("quota_wait_ms", u64::from(self.quota_wait_ms), 0, 10_000),
            ("lookup_wait_ms", u64::from(self.lookup_wait_ms), 1, 30_000),
            ("max_signed_body_bytes", u64::from(self.max_signed_body_bytes), 0, 64 << 20),
            ("lease_horizon_s", u64::from(self.lease_horizon_s), 1, 86_400),
            ("max_lease_percent", u64::from(self.max_lease_percent), 1, 100),
            ("credential_mail_delay_s", self.credential_mail_delay_s, 0, 604_800),
            ("credential_link_ttl_h", u64::from(self.credential_link_ttl_h), 1, 720),
            ("mail_give_up_h", u64::from(self.mail_give_up_h), 1, 720),
            ("shutdown_grace_s", self.shutdown_grace_s, 0, 600),
            ("key_secret_overlap_h", u64::from(self.key_secret_overlap_h), 0, 8_760),
            ("mail_log_retention_days", u64::from(self.mail_log_retention_days), 1, 36_500),
            ("usage_minute_retention_days", u64::from(self.usage_minute_retention_days), 1, 36_500),
            ("usage_hour_retention_days", u64::from(self.usage_hour_retention_days), 1, 36_500),
            ("decision_retention_days", u64::from(self.decision_retention_days), 1, 3_650),
            ("usage_retention_days", u64::from(self.usage_retention_days), 1, 36_500),
            ("task_retention_days", u64::from(self.task_retention_days), 1, 36_500),
            ("host_refresh_s", u64::from(self.host_refresh_s), 1, 86_400),
            ("host_keep_s", u64::from(self.host_keep_s), 1, 604_800),
        ] {
            if value < low || value > high {
                return wrong(setting, format!("is {value}, must be {low} to {high}"));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Links that show credentials, and the calls of visitors, go to `public_url`: nobody may read them
    /// on their way. And a link lives at least as long as its mail is tried.
    fn check_secrets_on_their_way(&self) -> Result<(), ConfigError> {
        let wrong = |setting, reason: String| Err(ConfigError::Setting { setting, reason });
        let by_link = self.credential_delivery == CredentialDelivery::Link;
        let asked_by = match (by_link, self.client_registration) {
            (true, _) => Some("credential_delivery = \"link\""),
            (false, true) => Some("client_registration = true"),
            (false, false) => None,
        };
        if let Some(asked_by) = asked_by
            && !is_unreadable_on_the_way(&self.base_url())
        {
            let url = self.base_url();
            return wrong(
                "public_url",
                format!(
                    "{url} would have secrets travel in clear; with {asked_by} it must begin with https:// \
                     or be of this machine"
                ),
            );
        }
        if by_link && self.credential_link_ttl_h < self.mail_give_up_h {
            return wrong(
                "credential_link_ttl_h",
                format!(
                    "is {}, must be at least mail_give_up_h ({}): a link would end before its mail is given up",
                    self.credential_link_ttl_h, self.mail_give_up_h
                ),
            );
        }
        Ok(())
    }
}

impl Config {
    /// Tokens and their discovery name it, and programs compare it (RFC 8414, section 2).
    fn check_issuer(&self) -> Result<(), ConfigError> {
        let is_origin = |text: &str| {
            url::Url::parse(text).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.as_str().ends_with('/')
            })
        };
        match self.token_issuer.as_deref().filter(|issuer| !is_origin(issuer)) {
            None => Ok(()),
            Some(issuer) => Err(ConfigError::Setting {
                setting: "token_issuer",
                reason: format!(
                    "{issuer} is not http:// or https:// with a host alone, without a path, ? and #, such as \
                     https://api.example.com"
                ),
            }),
        }
    }

    fn check_openid_provider(&self) -> Result<(), ConfigError> {
        let wrong = |setting, reason: &str| Err(ConfigError::Setting { setting, reason: reason.into() });
        let Some(issuer) = &self.oidc_issuer else { return Ok(()) };
        if !is_unreadable_on_the_way(issuer) || issuer.contains(['?', '#']) {
            return wrong("oidc_issuer", "must begin with https:// or be of this machine, without ? and #");
        }
        if self.oidc_client_id.as_deref().unwrap_or_default().is_empty() {
            return wrong("oidc_client_id", "is missing beside oidc_issuer");
        }
        if !self.oidc_scopes.split_ascii_whitespace().any(|scope| scope == "openid") {
            return wrong("oidc_scopes", "must have openid among them: without it there is no ID token");
        }
        Ok(())
    }
}

/// By TLS, or because it does not leave the machine.
pub(crate) fn is_unreadable_on_the_way(url: &str) -> bool {
    let Ok(url) = url.parse::<axum::http::Uri>() else { return false };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => true,
        Some("http") => loopback,
        _ => false,
    }
}

/// Variables that begin like ours and name no setting: most likely typing errors, but never
/// refused, since container platforms invent such variables after a service's name.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    // Read by other parts: the file's place, tokens, the manager that commands call, tests.
    const OTHERS: &[&str] = &[
        "KEYGATE_CONFIG",
        "KEYGATE_GATEWAY_TOKEN",
        "KEYGATE_PASSWORD",
        "KEYGATE_PASSWORD_HASH",
        "KEYGATE_SIGN_API_KEY",
        "KEYGATE_SIGN_SECRET_KEY",
        "KEYGATE_TOKEN",
        "KEYGATE_URL",
    ];
    names
        .filter(|name| name.starts_with(ENV_PREFIX) && !name.starts_with("KEYGATE_TEST_"))
        .filter(|name| !OTHERS.contains(&name.as_str()))
        .filter(|name| SETTINGS.iter().all(|setting| setting.variable() != *name))
        .collect()
}

impl Setting {
    fn read(&self, text: String) -> Result<toml::Value, String> {
        match self.kind {
            Kind::Text => Ok(toml::Value::String(text)),
            Kind::Number => text
                .trim()
                .parse()
                .map(toml::Value::Integer)
                .map_err(|_| format!("{text:?} is no whole number")),
            Kind::Switch => match text.trim() {
                "true" | "1" => Ok(toml::Value::Boolean(true)),
                "false" | "0" => Ok(toml::Value::Boolean(false)),
                _ => Err(format!("{text:?} is neither true nor false")),
            },
        }
    }
}

fn read_file(file: &Path) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::Unreadable { file: file.into(), reason: error.to_string() })?;
    let at = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let wrong = |error: &toml::de::Error| ConfigError::File {
        file: file.into(),
        line: at(error.span().map_or(0, |span| span.start)),
        reason: match error.span().and_then(|span| setting_at(&text, span.start)) {
            Some(setting) if !error.message().contains(&format!("`{setting}`")) => {
                format!("{setting}: {}", error.message().trim())
            }
            _ => error.message().trim().to_string(),
        },
    };
    let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(&error))?;
    // Against the typed form here, where the error still knows its line.
    toml::from_str::<Config>(&text).map_err(|error| wrong(&error))?;
    if !table.contains_key("version") {
        return Err(ConfigError::File {
            file: file.into(),
            line: 1,
            reason: format!("version is missing: begin the file with `version = {CONFIG_VERSION}`"),
        });
    }
    Ok(table)
}

/// The name to the left of the `=` on the line that holds `offset`.
fn setting_at(text: &str, offset: usize) -> Option<&str> {
    let begin = text.get(..offset)?.rfind('\n').map_or(0, |newline| newline + 1);
    let name = text.get(begin..)?.split(['=', '\n']).next()?.trim();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("keygate.toml");
        std::fs::write(&file, text).expect("writable");
        let read = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        Config::load(Some(&file), read)
            .map_err(|error| error.to_string().replace(&format!("{}", dir.path().display()), ""))
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
        let config = load(
            "version = 1\nquota_wait_ms = 100\nproduct_name = \"A\"\n",
            &[
                ("KEYGATE_QUOTA_WAIT_MS", "200"),
                ("KEYGATE_CORS_PREFLIGHT", "false"),
                ("KEYGATE_MAIL_FROM", ""),
            ],
        )
        .expect("valid");
        assert_eq!((config.quota_wait_ms, config.cors_preflight), (200, false));
        assert_eq!((config.product_name.as_str(), config.mail_from.as_str()), ("A", "keygate@localhost"));
        assert!(load("", &[]).is_err(), "a file states its version");
        assert!(Config::load(None, |_| None).is_ok(), "no file is needed");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, environment, message) in [
            ("version = 1\n\nlisen = 1\n", &[][..], "/keygate.toml:3: unknown field `lisen`"),
            ("version = 1\nlisten = \"here\"\n", &[], "/keygate.toml:2: listen: invalid socket address"),
            ("version = 1\nquota_wait_ms = -1\n", &[], "/keygate.toml:2: quota_wait_ms: invalid value"),
            ("version = 1\nquota_wait_ms\n", &[], "/keygate.toml:2: "),
            ("quota_wait_ms = 1\n", &[], "/keygate.toml:1: version is missing"),
            ("version = 2\n", &[], "setting version: is 2, this program reads version 1"),
            (
                "version = 1\ntoken_issuer = \"https://id.example/?x\"\n",
                &[],
                "setting token_issuer: https://id.example/?x is not http:// or https:// with a host alone",
            ),
            ("version = 1\ntoken_issuer = \"https://id.example#x\"\n", &[], "setting token_issuer: "),
            ("version = 1\ntoken_issuer = \"https://id.example/keygate\"\n", &[], "setting token_issuer: "),
            ("version = 1\ntoken_issuer = \"ftp://id.example\"\n", &[], "setting token_issuer: "),
            ("version = 1\ntoken_issuer = \"id.example\"\n", &[], "setting token_issuer: "),
            (
                "version = 1\n",
                &[("KEYGATE_QUOTA_WAIT_MS", "x")],
                "environment variable KEYGATE_QUOTA_WAIT_MS: \"x\" is no whole number",
            ),
            (
                "version = 1\n",
                &[("KEYGATE_DENIAL_FORMAT", "x")],
                "environment variable KEYGATE_DENIAL_FORMAT: unknown variant `x`",
            ),
            (
                "version = 1\n",
                &[("KEYGATE_ALLOW_PLAINTEXT", "yes")],
                "environment variable KEYGATE_ALLOW_PLAINTEXT: \"yes\" is neither",
            ),
            (
                "version = 1\nlisten = \"0.0.0.0:80\"\n",
                &[],
                "setting listen: 0.0.0.0:80 is not a loopback address",
            ),
            (
                "version = 1\ngateway_listen = \"0.0.0.0:81\"\n",
                &[],
                "setting gateway_listen: 0.0.0.0:81 is not",
            ),
            ("version = 1\ntls_cert = \"a\"\n", &[], "setting tls_key: is missing"),
            (
                "version = 1\nclient_address_header = \"x-address\"\n",
                &[],
                "setting client_address_proxies: is missing beside client_address_header",
            ),
            (
                "version = 1\nclient_address_proxies = \"10.0.0.7\"\n",
                &[],
                "setting client_address_header: is missing beside client_address_proxies",
            ),
            (
                "version = 1\nclient_address_header = \"x address\"\nclient_address_proxies = \"10.0.0.7\"\n",
                &[],
                "setting client_address_header: \"x address\" is no name of a header",
            ),
            ("version = 1\ntime_zone = \"Mars/Base\"\n", &[], "setting time_zone: \"Mars/Base\" is no IANA"),
            ("version = 1\nmail_transport = \"smtp\"\n", &[], "setting smtp_host: is needed"),
            ("version = 1\ndns_servers = \"dns\"\n", &[], "setting dns_servers: \"dns\" is no name server's"),
            (
                "version = 1\nhost_keep_s = 59\n",
                &[],
                "setting host_keep_s: is 59, must be at least host_refresh_s",
            ),
            ("version = 1\nhost_refresh_s = 0\n", &[], "setting host_refresh_s: is 0, must be 1 to 86400"),
            ("version = 1\nlease_horizon_s = 0\n", &[], "setting lease_horizon_s: is 0, must be 1 to 86400"),
            (
                "version = 1\nmax_lease_percent = 101\n",
                &[],
                "setting max_lease_percent: is 101, must be 1 to 100",
            ),
        ] {
            let error = load(text, environment).expect_err(message);
            assert!(error.starts_with(message), "{error}\n   instead of {message}");
        }
    }

    #[test]
    fn secrets_travel_by_tls_or_not_at_all_and_links_outlive_their_mails() {
        let link = "credential_delivery = \"link\"\n";
        let visitors = "client_registration = true\n";
        let outside = "listen = \"0.0.0.0:80\"\nallow_plaintext = true\n";
        for (settings, public_url, refused) in [
            (link, "", None),
            (visitors, "", None),
            (link, "http://keygate.example", Some("public_url")),
            (visitors, "http://keygate.example", Some("public_url")),
            (visitors, "http://localhost.example", Some("public_url")),
            (visitors, "ftp://localhost", Some("public_url")),
            (visitors, "keygate.example", Some("public_url")),
            (link, "https://keygate.example/", None),
            (visitors, "http://localhost:8080", None),
            (visitors, "http://[::1]:8080/", None),
            ("", "http://keygate.example", None),
            (
                "credential_delivery = \"link\"\ncredential_link_ttl_h = 71\n",
                "",
                Some("credential_link_ttl_h"),
            ),
            ("credential_link_ttl_h = 71\n", "", None),
        ] {
            let url = match public_url {
                "" => String::new(),
                url => format!("public_url = \"{url}\"\n"),
            };
            let found = load(&format!("version = 1\n{settings}{url}"), &[]).err();
            let named = found.as_deref().and_then(|error| error.strip_prefix("setting "));
            let named = named.and_then(|error| error.split(':').next());
            assert_eq!((named, found.is_some()), (refused, refused.is_some()), "{settings}{url}{found:?}");
        }
        // Derived from where it listens.
        let error = load(&format!("version = 1\n{outside}{visitors}"), &[]).expect_err("in clear");
        assert!(error.starts_with("setting public_url: http://0.0.0.0:80 would"), "{error}");
    }

    #[test]
    fn plaintext_beyond_loopback_is_allowed_by_a_word() {
        let config =
            load("version = 1\nlisten = \"0.0.0.0:80\"\nallow_plaintext = true\n", &[]).expect("allowed");
        assert_eq!(config.plaintext_exposed(), [SocketAddr::from(([0, 0, 0, 0], 80))]);
    }

    #[test]
    fn secrets_among_the_settings_are_not_printed() {
        let config = load("version = 1\nsmtp_password = \"hunter2\"\n", &[]).expect("valid");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn variables_that_name_nothing_are_noticed() {
        let names = ["KEYGATE_LISTEN", "KEYGATE_LISEN", "KEYGATE_TEST_POSTGRES_URL", "PATH"];
        assert_eq!(unknown_variables(names.into_iter().map(String::from)), ["KEYGATE_LISEN"]);
    }
}
