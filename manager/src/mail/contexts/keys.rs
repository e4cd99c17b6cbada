//! What mails about keys are given.

use serde::{Deserialize, Serialize};

use super::{ByLink, MASK, MailContext, OneTimeLink, masked_link};
use crate::mail::Template;

/// A DGRK key pair, with its secret: the mail that the whole procedure is for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCredentials {
    /// Setting `product_name`.
    pub product_name: String,
    /// What happened.
    pub occasion: Occasion,
    /// The public half.
    pub api_key: String,
    /// The secret half, in clear. The only secret of this context.
    pub secret_key: String,
    /// Alias of the key.
    pub key_name: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Number of the application that led to it.
    pub application: Option<String>,
    /// Calls in all; none = unlimited.
    pub use_quota: Option<u32>,
    /// First day.
    pub effective_on: String,
    /// The first day lies ahead: the key is not accepted yet.
    pub not_yet_effective: bool,
    /// Last day.
    pub expires_on: String,
    /// Zone of the days.
    pub time_zone: String,
    /// What may be called; the first one is the ready call's.
    pub apis: Vec<CallableApi>,
    /// Where the pair is shown once, in clear: then `secret_key` is empty. A secret, too.
    #[serde(default)]
    pub link: Option<String>,
    /// Until when the link opens, with its zone.
    #[serde(default)]
    pub link_expires_at: Option<String>,
}

/// Why a pair is mailed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Occasion {
    /// A form was approved and the key issued.
    Issued,
    /// The key got a second secret; the old one works until it is retired.
    Rotated {
        /// When it is retired at the latest, with its zone.
        old_until: Option<String>,
    },
    /// The same pair once more.
    Resent,
}

/// One API with what a ready call needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallableApi {
    /// Its name.
    pub name: String,
    /// A method that it accepts.
    pub method: String,
    /// Scheme and host; none where nobody told them.
    pub base: Option<String>,
    /// The path; may hold placeholders such as `{id}`.
    pub path: String,
    /// The method has a body.
    pub has_body: bool,
}

impl MailContext for KeyCredentials {
    const TEMPLATE: Template = Template::KeyCredentials;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            occasion: Occasion::Issued,
            api_key: "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==".into(),
            secret_key:
                "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw=="
                    .into(),
            key_name: "orders key".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            application: Some("KA-20260714-0001".into()),
            use_quota: Some(1000),
            effective_on: "2026-07-15".into(),
            not_yet_effective: true,
            expires_on: "2026-12-31".into(),
            time_zone: "Asia/Taipei".into(),
            apis: vec![
                CallableApi {
                    name: "orders".into(),
                    method: "POST".into(),
                    base: Some("https://api.example".into()),
                    path: "/orders".into(),
                    has_body: true,
                },
                CallableApi {
                    name: "invoices".into(),
                    method: "GET".into(),
                    base: Some("https://api.example".into()),
                    path: "/invoices/{id}".into(),
                    has_body: false,
                },
            ],
            link: None,
            link_expires_at: None,
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let api = |n: u32| CallableApi {
            name: format!("A service of the Ministry's data exchange, number {n}"),
            method: "GET".into(),
            base: None,
            path: format!("/exchange/v1/registers/{n}/entries/{{entry_id}}/attachments/{{attachment_id}}"),
            has_body: false,
        };
        let rotated = Self {
            occasion: Occasion::Rotated { old_until: None },
            application: None,
            use_quota: None,
            not_yet_effective: false,
            apis: Vec::new(),
            ..Self::sample()
        };
        let large = Self {
            key_name: "The key of the nightly settlement between the two warehouses in Taoyuan and Kaohsiung"
                .into(),
            client_name: "Far_Eastern_Integrated_Logistics_and_Warehousing_Cooperative_Limited".into(),
            apis: (1..=50).map(api).collect(),
            ..Self::sample()
        };
        let link = Self::sample().by_link(OneTimeLink::sample());
        let until = Some("2026-07-22 09:30:00 Asia/Taipei".into());
        let overlap = Self { occasion: Occasion::Rotated { old_until: until }, ..rotated.clone() };
        let resent = Self { occasion: Occasion::Resent, ..rotated.clone() };
        vec![("rotated", rotated), ("overlap", overlap), ("resent", resent), ("large", large), ("link", link)]
    }

    fn masked(&self) -> Self {
        Self {
            secret_key: if self.link.is_some() { String::new() } else { MASK.into() },
            link: self.link.as_deref().map(masked_link),
            ..self.clone()
        }
    }
}

impl ByLink for KeyCredentials {
    fn by_link(self, link: OneTimeLink) -> Self {
        Self {
            secret_key: String::new(),
            link: Some(link.url),
            link_expires_at: Some(link.expires_at),
            ..self
        }
    }
}

impl std::fmt::Debug for KeyCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyCredentials({}, [redacted])", self.api_key)
    }
}

/// A DGRK key was changed or revoked. Its secret stays what it was and is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanged {
    /// Setting `product_name`.
    pub product_name: String,
    /// What happened.
    pub change: KeyEvent,
    /// The public half.
    pub api_key: String,
    /// Alias of the key.
    pub key_name: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Number of the application that led to it.
    pub application: Option<String>,
    /// Calls in all; none = unlimited.
    pub use_quota: Option<u32>,
    /// First day.
    pub effective_on: String,
    /// Last day.
    pub expires_on: String,
    /// When it was revoked, with its zone.
    pub revoked_at: Option<String>,
    /// Names of the APIs.
    pub apis: Vec<String>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyEvent {
    /// It has other terms.
    Changed,
    /// It has ended for good.
    Revoked,
}

impl MailContext for KeyChanged {
    const TEMPLATE: Template = Template::KeyChanged;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            change: KeyEvent::Changed,
            api_key: "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==".into(),
            key_name: "orders key".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            application: Some("KU-20260801-0001".into()),
            use_quota: None,
            effective_on: "2026-07-15".into(),
            expires_on: "2027-06-30".into(),
            revoked_at: None,
            apis: vec!["orders".into(), "invoices".into()],
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let revoked = Self {
            change: KeyEvent::Revoked,
            application: None,
            revoked_at: Some("2026-08-01 12:00:00 Asia/Taipei".into()),
            ..Self::sample()
        };
        vec![("revoked", revoked)]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}

/// A DGRK key ends soon. No secret is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyExpiring {
    /// Setting `product_name`.
    pub product_name: String,
    /// The public half.
    pub api_key: String,
    /// Alias of the key.
    pub key_name: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Days from today to the last day: 1 = the last day is tomorrow, 0 = it is today.
    pub days_left: u32,
    /// Last day.
    pub expires_on: String,
    /// Zone of the days.
    pub time_zone: String,
    /// Names of the APIs that it calls.
    pub apis: Vec<String>,
    /// Where its client can apply for a later expiry date.
    pub url: String,
}

impl MailContext for KeyExpiring {
    const TEMPLATE: Template = Template::KeyExpiring;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            api_key: "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==".into(),
            key_name: "orders key".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            days_left: 30,
            expires_on: "2026-12-31".into(),
            time_zone: "Asia/Taipei".into(),
            apis: vec!["orders".into(), "invoices".into()],
            url: "https://keygate.example/client/v1/applications".into(),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let least = |days_left| Self { days_left, apis: Vec::new(), ..Self::sample() };
        vec![("tomorrow", least(1)), ("today", least(0))]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}

/// An X-Api-Key, in clear.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct XApiKeyIssued {
    /// Setting `product_name`.
    pub product_name: String,
    /// The key's text, in clear. The only secret of this context.
    pub x_api_key: String,
    /// `abc***xyz`.
    pub mask: String,
    /// Alias of the key.
    pub key_name: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// First day.
    pub effective_on: String,
    /// Last day.
    pub expires_on: String,
    /// Zone of the days.
    pub time_zone: String,
    /// The operator who created it.
    pub created_by: String,
    /// Names of the groups.
    pub groups: Vec<String>,
    /// Where the gateway is called; none where nobody told it.
    pub gateway_url: Option<String>,
    /// Where the key is shown once, in clear: then `x_api_key` is empty. A secret, too.
    pub link: Option<String>,
    /// Until when the link opens, with its zone.
    pub link_expires_at: Option<String>,
}

impl MailContext for XApiKeyIssued {
    const TEMPLATE: Template = Template::XApiKeyIssued;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            x_api_key: "YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm".into(),
            mask: "YjN***GJm".into(),
            key_name: "dashboard".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            effective_on: "2026-07-15".into(),
            expires_on: "2026-12-31".into(),
            time_zone: "Asia/Taipei".into(),
            created_by: "admin".into(),
            groups: vec!["reporting".into()],
            gateway_url: Some("https://api.example".into()),
            link: None,
            link_expires_at: None,
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let least = Self { groups: Vec::new(), gateway_url: None, ..Self::sample() };
        vec![("least", least), ("link", Self::sample().by_link(OneTimeLink::sample()))]
    }

    fn masked(&self) -> Self {
        Self {
            x_api_key: if self.link.is_some() { String::new() } else { self.mask.clone() },
            link: self.link.as_deref().map(masked_link),
            ..self.clone()
        }
    }
}

impl ByLink for XApiKeyIssued {
    fn by_link(self, link: OneTimeLink) -> Self {
        Self {
            x_api_key: String::new(),
            link: Some(link.url),
            link_expires_at: Some(link.expires_at),
            ..self
        }
    }
}

impl std::fmt::Debug for XApiKeyIssued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "XApiKeyIssued({}, [redacted])", self.mask)
    }
}

/// An X-Api-Key ends soon. There is no form for a later end: its holder needs another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XApiKeyExpiring {
    /// Setting `product_name`.
    pub product_name: String,
    /// `abc***xyz`.
    pub mask: String,
    /// Alias of the key.
    pub key_name: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Days from today to the last day: 1 = the last day is tomorrow, 0 = it is today.
    pub days_left: u32,
    /// Last day.
    pub expires_on: String,
    /// Zone of the days.
    pub time_zone: String,
}

impl MailContext for XApiKeyExpiring {
    const TEMPLATE: Template = Template::XApiKeyExpiring;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            mask: "YjN***GJm".into(),
            key_name: "dashboard".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            days_left: 30,
            expires_on: "2026-12-31".into(),
            time_zone: "Asia/Taipei".into(),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let left = |days_left| Self { days_left, ..Self::sample() };
        vec![("tomorrow", left(1)), ("today", left(0))]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}
