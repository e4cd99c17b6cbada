//! What each template is given: one typed context per template, all texts ready to print
//! (dates as `yyyy-MM-dd`, instants with their zone). Who builds one knows its own business;
//! this file knows only what stands in the mail.
//!
//! A context that holds a secret says so by [`MailContext::masked`]: the masked copy is what the
//! mail log keeps.

use serde::{Deserialize, Serialize};

use super::render::Template;

/// The context of one template.
pub trait MailContext: Serialize {
    /// The template that prints it.
    const TEMPLATE: Template;

    /// A copy that may be kept in clear: every secret replaced by [`MASK`] or a mask of its own.
    /// Equal to `self` where nothing is secret.
    fn masked(&self) -> Self;
}

/// Stands in the mail log where the mail itself had a secret.
pub const MASK: &str = "********";

/// An application form was submitted, approved at a level, returned, rejected, withdrawn …: to
/// the applicant and to those whose review is now waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationStep {
    /// Setting `product_name`.
    pub product_name: String,
    /// `KA-20260714-0001`.
    pub number: String,
    /// `API key application`, `API key change`, `API key revocation`.
    pub kind: String,
    /// What happened: `submitted`, `approved at level 1`, `returned` …
    pub step: String,
    /// Who did it.
    pub by: Option<String>,
    /// What they wrote.
    pub comment: Option<String>,
    /// Where the form stands now: `pending order, level 2` …
    pub status: String,
    /// Date of the application.
    pub applied_on: String,
    /// Who applies.
    pub applicant: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Names of the APIs applied for.
    pub apis: Vec<String>,
    /// Where to see the form.
    pub link: Option<String>,
    /// This copy goes to somebody whose review is waited for.
    pub waiting_for_you: bool,
}

impl MailContext for ApplicationStep {
    const TEMPLATE: Template = Template::ApplicationStep;

    fn masked(&self) -> Self {
        self.clone()
    }
}

impl ApplicationStep {
    /// An example of everything that can stand in it.
    pub fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            number: "KA-20260714-0001".into(),
            kind: "API key application".into(),
            step: "approved at level 1".into(),
            by: Some("rita".into()),
            comment: Some("Fine with <me> & the team.".into()),
            status: "pending order, level 2".into(),
            applied_on: "2026-07-14".into(),
            applicant: "anna".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            apis: vec!["orders".into(), "invoices".into()],
            link: Some("https://keygate.example/applications/KA-20260714-0001".into()),
            waiting_for_you: true,
        }
    }
}

/// An application form has ended, or came back: to the applicant, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationResult {
    /// Setting `product_name`.
    pub product_name: String,
    /// `KA-20260714-0001`.
    pub number: String,
    /// `API key application` …
    pub kind: String,
    /// `approved`, `rejected`, `returned`.
    pub result: String,
    /// Who decided last.
    pub by: Option<String>,
    /// What they wrote.
    pub comment: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Name of the key.
    pub key_name: Option<String>,
    /// First day.
    pub effective_on: Option<String>,
    /// Last day.
    pub expires_on: Option<String>,
    /// Names of the APIs.
    pub apis: Vec<String>,
    /// Whole sentences, such as where the credentials are sent and when, or that the effective
    /// date passed during the review.
    pub notes: Vec<String>,
    /// Where to see the form.
    pub link: Option<String>,
}

impl MailContext for ApplicationResult {
    const TEMPLATE: Template = Template::ApplicationResult;

    fn masked(&self) -> Self {
        self.clone()
    }
}

impl ApplicationResult {
    /// An example of everything that can stand in it.
    pub fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            number: "KA-20260714-0001".into(),
            kind: "API key application".into(),
            result: "approved".into(),
            by: Some("ralph".into()),
            comment: Some("Welcome.".into()),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            key_name: Some("orders key".into()),
            effective_on: Some("2026-07-15".into()),
            expires_on: Some("2026-12-31".into()),
            apis: vec!["orders".into(), "invoices".into()],
            notes: vec!["The key pair is sent to the client's addresses in about 10 minutes.".into()],
            link: Some("https://keygate.example/applications/KA-20260714-0001".into()),
        }
    }
}

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

    fn masked(&self) -> Self {
        Self { secret_key: MASK.into(), ..self.clone() }
    }
}

impl std::fmt::Debug for KeyCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyCredentials({}, [redacted])", self.api_key)
    }
}

impl KeyCredentials {
    /// An example of everything that can stand in it.
    pub fn sample() -> Self {
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
        }
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

    fn masked(&self) -> Self {
        self.clone()
    }
}

impl KeyChanged {
    /// An example of everything that can stand in it.
    pub fn sample() -> Self {
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

    fn masked(&self) -> Self {
        Self { x_api_key: self.mask.clone(), ..self.clone() }
    }
}

impl std::fmt::Debug for XApiKeyIssued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "XApiKeyIssued({}, [redacted])", self.mask)
    }
}

impl XApiKeyIssued {
    /// An example of everything that can stand in it.
    pub fn sample() -> Self {
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
}

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

    fn masked(&self) -> Self {
        Self { password: self.password.as_ref().map(|_| MASK.into()), ..self.clone() }
    }
}

impl std::fmt::Debug for ClientCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCreated({}, [redacted])", self.client_id)
    }
}

impl ClientCreated {
    /// An example of everything that can stand in it.
    pub fn sample() -> Self {
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

    fn masked(&self) -> Self {
        Self { password: MASK.into(), ..self.clone() }
    }
}

impl std::fmt::Debug for ClientPasswordReset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientPasswordReset({}, [redacted])", self.client_id)
    }
}

impl ClientPasswordReset {
    /// An example of everything that can stand in it.
    pub fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            password: "k7m2q9wx4bnc8rtz5hvj3dfsyp".into(),
            expires_at: "2026-07-15 09:30:00 Asia/Taipei".into(),
            url: "https://keygate.example/client/v1/password".into(),
        }
    }
}

/// Sent by `keygate mail test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestMail {
    /// Setting `product_name`.
    pub product_name: String,
    /// When, with its zone.
    pub asked_at: String,
    /// By whom.
    pub asked_by: String,
}

impl MailContext for TestMail {
    const TEMPLATE: Template = Template::Test;

    fn masked(&self) -> Self {
        self.clone()
    }
}

impl TestMail {
    /// An example of everything that can stand in it.
    pub fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            asked_at: "2026-07-14 09:30:00 UTC".into(),
            asked_by: "the command line".into(),
        }
    }
}
