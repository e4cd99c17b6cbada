//! What mails about keys are given.

use serde::{Deserialize, Serialize};

use super::{MASK, MailContext};
use crate::mail::Template;

/// A DGRK key pair, with its secret: the mail that the whole procedure is for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCredentials {
    /// Setting `product_name`.
    pub product_name: String,
    /// First sentence: what happened.
    pub headline: String,
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
    /// `1000 calls` or `unlimited`.
    pub use_quota: String,
    /// First day.
    pub effective_on: String,
    /// Last day.
    pub expires_on: String,
    /// Zone of the days.
    pub time_zone: String,
    /// Whole sentences that matter to the receiver.
    pub notes: Vec<String>,
    /// What may be called.
    pub apis: Vec<CallableApi>,
    /// Where the pair is shown once, in clear: then `secret_key` is empty. A secret, too.
    #[serde(default)]
    pub link: Option<String>,
    /// Until when the link opens, with its zone.
    #[serde(default)]
    pub link_expires_at: Option<String>,
}

/// One API with what a ready call needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallableApi {
    /// Its name.
    pub name: String,
    /// A method that it accepts.
    pub method: String,
    /// Where it is called; may hold placeholders.
    pub url: String,
    /// A minified body for the example; empty where the method has none.
    pub sample_body: String,
}

impl MailContext for KeyCredentials {
    const TEMPLATE: Template = Template::KeyCredentials;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            headline: "Your application was approved and this API key was issued.".into(),
            api_key: "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==".into(),
            secret_key:
                "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw=="
                    .into(),
            key_name: "orders key".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            application: Some("KA-20260714-0001".into()),
            use_quota: "1000 calls".into(),
            effective_on: "2026-07-15".into(),
            expires_on: "2026-12-31".into(),
            time_zone: "Asia/Taipei".into(),
            notes: vec!["The key works from its effective date on.".into()],
            apis: vec![
                CallableApi {
                    name: "orders".into(),
                    method: "POST".into(),
                    url: "https://api.example/orders".into(),
                    sample_body: r#"{"placeholder":"it's your request"}"#.into(),
                },
                CallableApi {
                    name: "invoices".into(),
                    method: "GET".into(),
                    url: "https://api.example/invoices/{id}".into(),
                    sample_body: String::new(),
                },
            ],
            link: None,
            link_expires_at: None,
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let url = "https://keygate.example/credentials#crl_0.SDFzIHNlY3JldCBvcGVucyB0aGUgbGluaw";
        let link = Self {
            secret_key: String::new(),
            link: Some(url.into()),
            link_expires_at: Some("2026-07-18 09:30:00 Asia/Taipei".into()),
            ..Self::sample()
        };
        vec![("link", link)]
    }

    fn masked(&self) -> Self {
        // What opens the link goes, where it leads to stays.
        let masked_link = |url: &String| {
            let page = url.split('#').next().unwrap_or_default();
            format!("{page}#{MASK}")
        };
        Self {
            secret_key: if self.link.is_some() { String::new() } else { MASK.into() },
            link: self.link.as_ref().map(masked_link),
            ..self.clone()
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
    /// `changed` or `revoked`.
    pub change: String,
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
    /// `1000 calls` or `unlimited`.
    pub use_quota: String,
    /// First day.
    pub effective_on: String,
    /// Last day.
    pub expires_on: String,
    /// When it was revoked, with its zone.
    pub revoked_at: Option<String>,
    /// Names of the APIs.
    pub apis: Vec<String>,
}

impl MailContext for KeyChanged {
    const TEMPLATE: Template = Template::KeyChanged;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            change: "changed".into(),
            api_key: "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==".into(),
            key_name: "orders key".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            application: Some("KU-20260801-0001".into()),
            use_quota: "unlimited".into(),
            effective_on: "2026-07-15".into(),
            expires_on: "2027-06-30".into(),
            revoked_at: None,
            apis: vec!["orders".into(), "invoices".into()],
        }
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
    /// Where a later expiry date can be applied for.
    pub link: Option<String>,
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
            link: Some("https://keygate.example/applications".into()),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let least = |days_left| Self { days_left, apis: Vec::new(), link: None, ..Self::sample() };
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
    /// The key's text. The only secret of this context.
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
    /// Where APIs are called; may hold placeholders.
    pub gateway_url: String,
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
            gateway_url: "https://api.example/<path of an API>".into(),
        }
    }

    fn masked(&self) -> Self {
        Self { x_api_key: self.mask.clone(), ..self.clone() }
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
