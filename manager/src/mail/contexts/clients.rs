//! What mails about a client's account are given.

use serde::{Deserialize, Serialize};

use super::{ByLink, MASK, MailContext, OneTimeLink, masked_link};
use crate::mail::Template;

/// A client was created.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCreated {
    /// Setting `product_name`.
    pub product_name: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Where it signs in.
    pub url: String,
    /// The password in clear, if it is to be sent. The only secret of this context.
    pub password: Option<String>,
    /// First and last day.
    pub validity: Option<Span>,
    /// From when to when on each day.
    pub service_time: Option<Span>,
    /// How often it may call; none = unlimited.
    pub api_quota: Option<Calls>,
    /// Calls per second and node; none = unlimited.
    pub tps: Option<u32>,
    /// Addresses it may call from; none = from everywhere.
    pub hosts: Vec<String>,
    /// Where the password is shown once, in clear: then `password` is none. A secret, too.
    pub link: Option<String>,
    /// Until when the link opens, with its zone.
    pub link_expires_at: Option<String>,
}

/// From one day or hour to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// `2026-07-15` or `08:00`.
    pub from: String,
    /// `2026-12-31` or `18:00`.
    pub until: String,
    /// In which zone.
    pub zone: String,
}

/// So many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// How many.
    pub calls: u64,
    /// In which time.
    pub per: Per,
}

/// After which time a count begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Never.
    Total,
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
}

impl Per {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Total, Self::Day, Self::Week, Self::Month];
}

impl MailContext for ClientCreated {
    const TEMPLATE: Template = Template::ClientCreated;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            url: "https://keygate.example/client/v1/session".into(),
            password: Some("correct horse".into()),
            validity: Some(Span {
                from: "2026-07-15".into(),
                until: "2026-12-31".into(),
                zone: "Asia/Taipei".into(),
            }),
            service_time: Some(Span {
                from: "08:00".into(),
                until: "18:00".into(),
                zone: "Asia/Taipei".into(),
            }),
            api_quota: Some(Calls { calls: 1000, per: Per::Day }),
            tps: Some(10),
            hosts: vec!["192.0.2.0/24 (office)".into()],
            link: None,
            link_expires_at: None,
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let least = Self {
            password: None,
            validity: None,
            service_time: None,
            api_quota: None,
            tps: None,
            hosts: Vec::new(),
            ..Self::sample()
        };
        vec![("least", least), ("link", Self::sample().by_link(OneTimeLink::sample()))]
    }

    fn masked(&self) -> Self {
        Self {
            password: self.password.as_ref().map(|_| MASK.into()),
            link: self.link.as_deref().map(masked_link),
            ..self.clone()
        }
    }
}

impl ByLink for ClientCreated {
    fn by_link(self, link: OneTimeLink) -> Self {
        Self { password: None, link: Some(link.url), link_expires_at: Some(link.expires_at), ..self }
    }
}

impl std::fmt::Debug for ClientCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCreated({}, [redacted])", self.client_id)
    }
}

/// A client's password was reset.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPasswordReset {
    /// Setting `product_name`.
    pub product_name: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// What serves to set a new password, and for nothing else. The only secret of this context.
    pub password: String,
    /// Until when, with its zone.
    pub expires_at: String,
    /// Where a new password is set.
    pub url: String,
    /// Where the password is shown once, in clear: then `password` is empty. A secret, too.
    pub link: Option<String>,
    /// Until when the link opens, with its zone.
    pub link_expires_at: Option<String>,
}

impl MailContext for ClientPasswordReset {
    const TEMPLATE: Template = Template::ClientPasswordReset;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            password: "k7m2q9wx4bnc8rtz5hvj3dfsyp".into(),
            expires_at: "2026-07-15 09:30:00 Asia/Taipei".into(),
            url: "https://keygate.example/client/v1/password".into(),
            link: None,
            link_expires_at: None,
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let sample = Self::sample();
        let until = OneTimeLink { expires_at: sample.expires_at.clone(), ..OneTimeLink::sample() };
        vec![("link", sample.by_link(until))]
    }

    fn masked(&self) -> Self {
        Self {
            password: if self.link.is_some() { String::new() } else { MASK.into() },
            link: self.link.as_deref().map(masked_link),
            ..self.clone()
        }
    }
}

impl ByLink for ClientPasswordReset {
    fn by_link(self, link: OneTimeLink) -> Self {
        Self { password: String::new(), link: Some(link.url), link_expires_at: Some(link.expires_at), ..self }
    }
}

impl std::fmt::Debug for ClientPasswordReset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientPasswordReset({}, [redacted])", self.client_id)
    }
}

/// Somebody asks for a client: whoever reads the mail confirms that the address is theirs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationConfirmation {
    /// Setting `product_name`.
    pub product_name: String,
    /// What the client is to be called.
    pub client_name: String,
    /// What confirms. The only secret of this context.
    pub token: String,
    /// Until when, with its zone.
    pub expires_at: String,
    /// Where it is confirmed.
    pub url: String,
}

impl MailContext for RegistrationConfirmation {
    const TEMPLATE: Template = Template::RegistrationConfirmation;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            client_name: "Partner One".into(),
            token: "kgr_Zk3T0uVb5mQ1sW8xYc2dEf4gHj6kLn9pRt7vXz0aBsQ".into(),
            expires_at: "2026-07-15 09:30:00 Asia/Taipei".into(),
            url: "https://keygate.example/client/v1/registrations/confirm".into(),
        }
    }

    fn masked(&self) -> Self {
        Self { token: MASK.into(), ..self.clone() }
    }
}

impl std::fmt::Debug for RegistrationConfirmation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistrationConfirmation({}, [redacted])", self.client_name)
    }
}
