//! What mails about a client's account are given.

use serde::{Deserialize, Serialize};

use super::{MASK, MailContext};
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
    /// The password in clear, if it is to be sent. The only secret of this context.
    pub password: Option<String>,
    /// `2026-07-15 to 2026-12-31`.
    pub validity: Option<String>,
    /// `08:00 to 18:00, Asia/Taipei`.
    pub service_time: Option<String>,
    /// `1000 per day` or `unlimited`.
    pub api_quota: String,
    /// `10` or `unlimited`.
    pub tps: String,
    /// Addresses it may call from; none = from everywhere.
    pub hosts: Vec<String>,
}

impl MailContext for ClientCreated {
    const TEMPLATE: Template = Template::ClientCreated;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            password: Some("correct horse".into()),
            validity: Some("2026-07-15 to 2026-12-31".into()),
            service_time: Some("08:00 to 18:00, Asia/Taipei".into()),
            api_quota: "1000 per day".into(),
            tps: "10".into(),
            hosts: vec!["192.0.2.0/24 (office)".into()],
        }
    }

    fn masked(&self) -> Self {
        Self { password: self.password.as_ref().map(|_| MASK.into()), ..self.clone() }
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
        }
    }

    fn masked(&self) -> Self {
        Self { password: MASK.into(), ..self.clone() }
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
