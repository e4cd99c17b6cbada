//! What each template is given: one typed context per template. No sentence stands in it, for the
//! mail may be in any language: what happened is an enum, dates are `yyyy-MM-dd`, instants come
//! with their zone, and texts are names or what people wrote. Who builds one knows its own
//! business; this folder knows only what stands in the mail.
//!
//! A context that holds a secret says so by [`MailContext::masked`]: the masked copy is what the
//! mail log keeps.

mod applications;
mod clients;
mod earlier;
mod keys;
mod quotas;
mod reviews;
mod undelivered;

use serde::{Deserialize, Serialize};

pub use applications::{
    ApplicationResult, ApplicationStep, Doer, Event, FormType, Happened, Note, Outcome, PairTo, Status,
};
pub use clients::{Calls, ClientCreated, ClientPasswordReset, Per, RegistrationConfirmation, Span};
pub use earlier::brought_up;
pub use keys::{
    CallableApi, KeyChanged, KeyCredentials, KeyEvent, KeyExpiring, Occasion, XApiKeyExpiring, XApiKeyIssued,
};
pub use quotas::QuotaReached;
pub use reviews::{Lack, ReviewStuck, ReviewWaiting};
pub use undelivered::{CredentialsUndelivered, Remedy, SecretKind};

use super::templates::Template;

/// The context of one template.
pub trait MailContext: Serialize + Sized {
    /// The template that prints it.
    const TEMPLATE: Template;

    /// An example of everything that can stand in it.
    fn sample() -> Self;

    /// Further examples, by name: the least that can stand in it, and whatever is worded otherwise.
    fn variants() -> Vec<(&'static str, Self)> {
        Vec::new()
    }

    /// A copy that may be kept in clear: every secret replaced by [`MASK`] or a mask of its own.
    /// Equal to `self` where nothing is secret.
    fn masked(&self) -> Self;
}

/// Stands in the mail log where the mail itself had a secret.
pub const MASK: &str = "********";

/// The context of a mail in which a link can stand in for the secret.
pub trait ByLink: MailContext + Clone {
    /// The mail without its secret, with `link`.
    fn by_link(self, link: OneTimeLink) -> Self;
}

/// Where a secret is shown once.
#[derive(Clone)]
pub struct OneTimeLink {
    /// Its address, a secret itself.
    pub url: String,
    /// Until when it opens, with its zone.
    pub expires_at: String,
}

impl OneTimeLink {
    fn sample() -> Self {
        Self {
            url: "https://keygate.example/credentials#crl_0.SDFzIHNlY3JldCBvcGVucyB0aGUgbGluaw".into(),
            expires_at: "2026-07-18 09:30:00 Asia/Taipei".into(),
        }
    }
}

/// What opens the link goes, where it leads to stays.
fn masked_link(url: &str) -> String {
    format!("{}#{MASK}", url.split('#').next().unwrap_or_default())
}

/// Sent by `keygate mail test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestMail {
    /// Setting `product_name`.
    pub product_name: String,
    /// When, with its zone.
    pub asked_at: String,
    /// By whom; none: from the command line.
    pub asked_by: Option<String>,
}

impl MailContext for TestMail {
    const TEMPLATE: Template = Template::TestMail;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            asked_at: "2026-07-14 09:30:00 UTC".into(),
            asked_by: Some("Anna".into()),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        vec![("command_line", Self { asked_by: None, ..Self::sample() })]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}
