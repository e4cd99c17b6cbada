//! A review as the API shows it.

use gate::id::ApiUid;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::model::{Review, Term, Usage, Warning};
use crate::clients::{Client, ClientView};
use crate::mail;

/// What a reviewer looks at before signing.
#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationReview)]
pub struct ReviewView {
    /// Name, expiry date and quota of the key, and on KR its state; CR: what the client is to be.
    terms: Vec<TermView>,
    apis: ApisView,
    usage: UsageView,
    /// The client; null: it is gone.
    client: Option<ClientStateView>,
    /// What speaks against a signature.
    warnings: Vec<WarningView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationReviewTerm)]
struct TermView {
    field: &'static str,
    /// Null: there is no key or client yet.
    before: Value,
    after: Value,
    changed: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationReviewApis)]
struct ApisView {
    added: Vec<ApiName>,
    removed: Vec<ApiName>,
    kept: Vec<ApiName>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationReviewApi)]
pub struct ApiName {
    /// Which.
    #[schema(value_type = String)]
    pub uid: ApiUid,
    /// The uid of one that is gone.
    pub name: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationReviewUsage)]
struct UsageView {
    /// Uses so far; null: no key, or one that is unlimited.
    used: Option<u64>,
    /// Uses that are left now; null: the same.
    remaining: Option<u64>,
    /// Uses left once the form has its effect, KR: 0; null: unlimited, or CR.
    remaining_after: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationReviewClient)]
struct ClientStateView {
    id: String,
    name: String,
    display_name: String,
    status: String,
    /// First and last day, in `time_zone`; null: always.
    start_date: Option<String>,
    expiry_date: Option<String>,
    /// First and last minute of each day; null: all day.
    service_from: Option<String>,
    service_until: Option<String>,
    time_zone: String,
    audience: String,
    security_level: String,
    /// How many addresses are on file.
    addresses: usize,
    /// Which; null without clients.read.
    emails: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationReviewWarning)]
pub struct WarningView {
    code: &'static str,
    message: String,
    /// The API that it is about; null: none.
    #[schema(value_type = Option<String>)]
    api: Option<ApiUid>,
}

impl ReviewView {
    /// `with_emails`: the reader may see clients.
    pub fn new(review: Review, with_emails: bool) -> Self {
        let named =
            |apis: Vec<(ApiUid, String)>| apis.into_iter().map(|(uid, name)| ApiName { uid, name }).collect();
        let Usage { used, remaining, remaining_after } = review.usage;
        let term =
            |Term { field, before, after }| TermView { changed: before != after, field, before, after };
        Self {
            terms: review.terms.into_iter().map(term).collect(),
            apis: ApisView {
                added: named(review.apis.added),
                removed: named(review.apis.removed),
                kept: named(review.apis.kept),
            },
            usage: UsageView { used, remaining, remaining_after },
            client: review.client.map(|client| client_state(&client, with_emails)),
            warnings: review.warnings.into_iter().map(WarningView::from).collect(),
        }
    }
}

impl From<Warning> for WarningView {
    fn from(Warning { code, message, api }: Warning) -> Self {
        Self { code, message, api }
    }
}

impl From<mail::Warning> for WarningView {
    fn from(mail::Warning { code, message }: mail::Warning) -> Self {
        Self { code, message, api: None }
    }
}

fn client_state(client: &Client, with_emails: bool) -> ClientStateView {
    let view = ClientView::from(client);
    // As everywhere else: what serde writes of these is their name.
    let written = |value: serde_json::Result<Value>| {
        value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    ClientStateView {
        id: view.id.as_str().to_owned(),
        name: view.name.as_str().to_owned(),
        display_name: view.display_name,
        status: written(serde_json::to_value(view.status)),
        start_date: view.start_date,
        expiry_date: view.expiry_date,
        service_from: view.service_from,
        service_until: view.service_until,
        time_zone: view.time_zone,
        audience: written(serde_json::to_value(view.audience)),
        security_level: view.security_level.as_str().to_owned(),
        addresses: client.emails.len(),
        emails: view.emails.filter(|_| with_emails),
    }
}
