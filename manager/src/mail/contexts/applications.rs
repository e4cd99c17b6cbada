//! What mails about forms are given.

use serde::{Deserialize, Serialize};

use super::MailContext;
use crate::mail::Template;

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

    fn sample() -> Self {
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

    fn masked(&self) -> Self {
        self.clone()
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

    fn sample() -> Self {
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

    fn masked(&self) -> Self {
        self.clone()
    }
}
