//! `/api/v1/explain`

use std::net::IpAddr;

use axum::extract::State;
use gate::decide::Origin;
use gate::id::CredentialId;
use gate::request::CredentialKind;
use gate::time::{Interval, UnixMillis};
use gate::wire::directory::Audience;
use gate::wire::exchange::{ClientStatus, Grant, Permission as Permitted};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, ExplainError};
use super::model::{Described, Explanation, MeterState};
use crate::app::App;
use crate::decisions::http::meter_name;
use crate::feed::Named;
use crate::gateways::Envoy;
use crate::http::{Json, Permission, Routes};
use crate::openapi::wire;
use crate::problem::Problem;

/// `/api/v1/explain`
pub fn routes() -> Routes {
    Routes::of("decisions").permitted(&[Permission::DecisionsRead], routes!(ask))
}

/// A request as it would be sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Question {
    /// E.g. GET.
    method: String,
    /// As in the Host header; absent or empty: one that no API names.
    host: Option<String>,
    /// As sent; a query does not matter.
    path: String,
    /// Of the caller: needed where the client is bound to addresses, and of no account elsewhere.
    address: Option<String>,
    /// From which side; absent: external.
    origin: Option<Side>,
    /// Absent: the request presents none.
    credential: Option<Presented>,
    /// Id or name: shows how far behind its Envoys are.
    gateway: Option<String>,
    /// UTC ms; absent: now.
    at: Option<i64>,
}

/// From which side a request comes.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(as = RequestOrigin)]
#[serde(rename_all = "snake_case")]
enum Side {
    Internal,
    External,
}

/// A credential, named without its secret: `id` or `api_key`.
#[derive(Deserialize, ToSchema)]
#[schema(as = NamedCredential)]
#[serde(deny_unknown_fields)]
struct Presented {
    /// `key_…`, `xak_…`, `tk_…` of a token, or `basic:<client>` for a client's own id and password.
    id: Option<String>,
    /// The public text of a DGRK key.
    api_key: Option<String>,
}

/// What would be decided, and what leads to it. The secret is taken for proven. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanation)]
struct ExplanationView {
    /// The moment it is about.
    at: i64,
    admitted: bool,
    /// `admitted`, or the code of the refusal.
    code: &'static str,
    /// Which check decided; null: none refuses it.
    rule: Option<&'static str>,
    /// HTTP status of the refusal, where refusals are problem documents.
    status: Option<u16>,
    title: Option<&'static str>,
    /// What the caller would read.
    detail: Option<String>,
    /// null: none is meant.
    api: Option<MeantView>,
    /// null: nothing was presented.
    grant: Option<GrantView>,
    /// Limits by the ledger: what of them nodes hold is in `leased`.
    meters: Vec<LedgerView>,
    /// Requests in flight that one worker takes; 0: no shedding. How full a worker is only it knows.
    capacity: u32,
    /// Revision of the directory.
    directory: u64,
    /// Number of the newest change.
    feed: u64,
    /// Of the gateway that was named: one with a lag decides by something older.
    envoys: Vec<EnvoyView>,
}

/// The API that a request means.
#[derive(Serialize, ToSchema)]
#[schema(as = MeantApi)]
struct MeantView {
    uid: String,
    module: String,
    id: String,
    enabled: bool,
    no_auth: bool,
    #[schema(value_type = Vec<wire::CredentialKind>)]
    accepts: Vec<CredentialKind>,
    #[schema(value_type = wire::Audience)]
    audience: Audience,
    groups: Vec<String>,
}

/// What a gate would hold of the credential. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = ExplainedGrant)]
struct GrantView {
    #[schema(value_type = wire::CredentialKind)]
    kind: CredentialKind,
    credential: String,
    client: String,
    #[schema(value_type = wire::ClientStatus)]
    client_status: ClientStatus,
    client_validity: Option<SpanView>,
    /// Of the next 48 hours; null: all day.
    service_time: Option<Vec<SpanView>>,
    /// null: from everywhere.
    addresses: Option<Vec<String>>,
    active: bool,
    effective_at: Option<i64>,
    revoked_at: Option<i64>,
    expires_at: Option<i64>,
    /// uids; null: it goes by groups.
    apis: Option<Vec<String>>,
    /// The credential's groups that the client still has; null: it goes by APIs.
    groups: Option<Vec<String>>,
    #[schema(value_type = wire::Audience)]
    audience: Audience,
    priority: u8,
    /// Requests a second on each node; 0: unlimited. How many there were only the node knows.
    tps: u32,
}

/// Both ends are part of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Span)]
struct SpanView {
    from: i64,
    until: i64,
}

/// A limit by the ledger.
#[derive(Serialize, ToSchema)]
#[schema(as = LedgerMeter)]
struct LedgerView {
    meter: u64,
    /// `client_quota`, `key_uses` or `token_uses`.
    kind: &'static str,
    limit: u64,
    /// Neither used nor leased.
    remaining: u64,
    /// In leases that nodes may still spend or give back. Where nothing remains they let a request in at once
    /// where they are, and elsewhere once they are collected; `quota_contended` refuses it if others spend them
    /// meanwhile.
    leased: u64,
    /// In leases whose nodes have never reported.
    withheld: u64,
    generation: u64,
    window_ends_at: Option<i64>,
}

/// How far an Envoy was when it was last seen.
#[derive(Serialize, ToSchema)]
#[schema(as = ExplainedEnvoy)]
struct EnvoyView {
    holder: String,
    last_seen_at: i64,
    directory_revision: u64,
    feed_revision: u64,
    /// Changes that it had not heard of.
    feed_lag: u64,
}

/// Say what would be decided of a request, and what leads to it.
///
/// The directory and the grant are those that a gate would be given, and the gate's own functions look at them.
#[utoipa::path(post, path = "/api/v1/explain", responses(
    (status = 409, description = "`not_usable`: gates could not use what is on record"),
))]
async fn ask(
    State(app): State<App>,
    Json(question): Json<Question>,
) -> Result<Json<ExplanationView>, Problem> {
    let described = question.described()?;
    let explanation = actions::explain(&app, &described).await?;
    Ok(Json(explanation.into()))
}

impl Question {
    fn described(self) -> Result<Described, Problem> {
        let address = self.address.map(|text| text.parse::<IpAddr>());
        let address = address.transpose().map_err(|_| {
            Problem::invalid("address", "address is an IP address, such as 192.0.2.7 or 2001:db8::7")
        })?;
        let named = "credential has either id or api_key: an X-Api-Key is named by its id";
        let credential = match self.credential {
            None => None,
            Some(Presented { id: Some(id), api_key: None }) => Some(Named::Id(CredentialId(id))),
            Some(Presented { id: None, api_key: Some(text) }) => Some(Named::ApiKey(text)),
            Some(Presented { .. }) => return Err(Problem::invalid("credential", named)),
        };
        let described = Described {
            method: self.method,
            host: self.host.unwrap_or_default(),
            path: self.path,
            address,
            origin: match self.origin {
                Some(Side::Internal) => Origin::Internal,
                Some(Side::External) | None => Origin::External,
            },
            credential,
            gateway: self.gateway,
            at: self.at.map(UnixMillis),
        };
        described.checked().map_err(|fault| Problem::invalid(fault.field(), fault.to_string()))
    }
}

impl From<Explanation> for ExplanationView {
    fn from(explanation: Explanation) -> Self {
        let Explanation { at, api, denial, grant, limits, capacity, directory, feed, envoys } = explanation;
        let client = grant.as_ref().map_or("", |(_, grant)| grant.client.as_str());
        let detail = denial.as_ref().map(|denial| denial.detail(client));
        let lag = |envoy: Envoy| EnvoyView {
            holder: envoy.holder,
            last_seen_at: envoy.last_seen_at.0,
            directory_revision: envoy.directory.0,
            feed_revision: envoy.feed.0,
            feed_lag: feed.0.saturating_sub(envoy.feed.0),
        };
        Self {
            at: at.0,
            admitted: denial.is_none(),
            code: denial.as_ref().map_or("admitted", |denial| denial.code()),
            rule: denial.as_ref().map(|denial| denial.rule()),
            status: denial.as_ref().map(|denial| denial.status()),
            title: denial.as_ref().map(|denial| denial.title()),
            detail,
            api: api.map(|api| MeantView {
                uid: api.uid.0,
                module: api.module,
                id: api.id,
                enabled: api.enabled,
                no_auth: api.no_auth,
                accepts: api.accepts,
                audience: api.audience,
                groups: api.groups.into_iter().map(|group| group.0).collect(),
            }),
            grant: grant.map(|(kind, grant)| GrantView::of(kind, grant)),
            meters: limits.meters.into_iter().map(LedgerView::from).collect(),
            capacity,
            directory: directory.0,
            feed: feed.0,
            envoys: envoys.into_iter().map(lag).collect(),
        }
    }
}

impl GrantView {
    fn of(kind: CredentialKind, grant: Grant) -> Self {
        let span = |Interval { from, until }| SpanView { from: from.0, until: until.0 };
        let (apis, groups) = match grant.permission {
            Permitted::Apis { apis } => (Some(apis.into_iter().map(|uid| uid.0).collect()), None),
            Permitted::Groups { groups } => (None, Some(groups.into_iter().map(|group| group.0).collect())),
        };
        Self {
            kind,
            credential: grant.credential.0,
            client: grant.client.0,
            client_status: grant.client_status,
            client_validity: grant.client_validity.map(span),
            service_time: grant.service_time.map(|times| times.into_iter().map(span).collect()),
            addresses: grant.bound.then_some(grant.addresses),
            active: grant.active,
            effective_at: grant.effective_at.map(|at| at.0),
            revoked_at: grant.revoked_at.map(|at| at.0),
            expires_at: grant.expires_at.map(|at| at.0),
            apis,
            groups,
            audience: grant.audience,
            priority: grant.priority,
            tps: grant.tps,
        }
    }
}

impl From<MeterState> for LedgerView {
    fn from(state: MeterState) -> Self {
        Self {
            meter: state.meter.0,
            kind: meter_name(state.kind),
            limit: state.limit,
            remaining: state.remaining,
            leased: state.leased,
            withheld: state.withheld,
            generation: state.generation.0,
            window_ends_at: state.window_ends_at.map(|at| at.0),
        }
    }
}

impl From<ExplainError> for Problem {
    fn from(error: ExplainError) -> Self {
        let detail = error.to_string();
        match error {
            ExplainError::NoCredential { .. } | ExplainError::NoApiKey => Self::invalid("credential", detail),
            ExplainError::NoClient { .. } => Self::invalid("client", detail),
            ExplainError::NoGateway { .. } => Self::invalid("gateway", detail),
            ExplainError::NoAddress { .. } => Self::invalid("address", detail),
            ExplainError::Grant(_) | ExplainError::Directory(_) => Self::conflict("not_usable", detail),
            ExplainError::Db(error) => error.into(),
        }
    }
}
