//! What the mail about a mail with a secret is given that could not be delivered.

use serde::{Deserialize, Serialize};

use super::MailContext;
use crate::mail::Template;

/// What the mail would have handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    /// A key's pair.
    KeyPair,
    /// An X-Api-Key.
    XApiKey,
    /// A client's password.
    Password,
}

impl SecretKind {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::KeyPair, Self::XApiKey, Self::Password];
}

/// For those who can do something about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// The address that the mail did not reach.
    pub recipient: String,
    /// What came of the last attempt.
    pub reason: String,
    /// Id of the mail in the log.
    pub mail: String,
    /// The call that hands it over again, or another one in its place.
    pub call: String,
}

/// A mail with a secret was given up: to the applicant and to administrators, without the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsUndelivered {
    /// Setting `product_name`.
    pub product_name: String,
    /// What was in it.
    pub secret: SecretKind,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Name of the key; none: a password.
    pub key_name: Option<String>,
    /// Number of the form that led to it.
    pub application: Option<String>,
    /// When it was given up, with its zone.
    pub failed_at: String,
    /// To administrators; none: to the applicant.
    pub remedy: Option<Remedy>,
}

impl MailContext for CredentialsUndelivered {
    const TEMPLATE: Template = Template::CredentialsUndelivered;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            secret: SecretKind::KeyPair,
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            key_name: Some("orders key".into()),
            application: Some("KA-20260714-0001".into()),
            failed_at: "2026-07-14 09:40:00 Asia/Taipei".into(),
            remedy: Some(Remedy {
                recipient: "anna@partner.example".into(),
                reason: "mail.example:25, RCPT TO: 550 5.1.1 no such user".into(),
                mail: "ml_01k0".into(),
                call: "POST /api/v1/keys/key_01k0/resend".into(),
            }),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let to_applicant = Self { remedy: None, ..Self::sample() };
        let of = |secret, key_name| Self { secret, key_name, application: None, ..Self::sample() };
        vec![
            ("to_applicant", to_applicant),
            ("x_api_key", of(SecretKind::XApiKey, Some("orders key".into()))),
            ("password", of(SecretKind::Password, None)),
        ]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}
