//! `/api/v1/decisions`

use std::net::IpAddr;

use axum::extract::State;
use gate::request::CredentialKind;
use gate::time::UnixMillis;
use gate::wire::decisions::{Decision, LeaseSeen, MeterSeen, OriginSeen, Word};
use gate::wire::exchange::MeterKind;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, Missing};
use super::explain;
use super::model::{Filter, Kept};
use crate::app::App;
use crate::http::{Json, Page, Path, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit};
use crate::openapi::wire;
use crate::problem::Problem;
use crate::search::refusal_code;

/// `/api/v1/decisions` and below, `/api/v1/explain`.
pub fn routes() -> Routes {
    Routes::of("decisions")
        .permitted(&[Permission::DecisionsRead], routes!(list))
        .permitted(&[Permission::DecisionsRead], routes!(show))
        .merge(explain::routes())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// UTC ms: received then or later. Default: a day before `until`.
    from: Option<i64>,
    /// UTC ms: received before. Default: no end.
    until: Option<i64>,
    /// Code of the refusal.
    code: Option<String>,
    client: Option<String>,
    credential: Option<String>,
    /// uid.
    api: Option<String>,
    /// Of the caller.
    address: Option<String>,
    /// Id of a gateway.
    gateway: Option<String>,
}

impl ListQuery {
    fn filter(self) -> Result<Filter, Problem> {
        if let Some(code) = &self.code {
            refusal_code("code", code, &[])?;
        }
        let address = self.address.map(|text| text.parse::<IpAddr>()).transpose().map_err(|_| {
            let detail = "address is an IP address, such as 192.0.2.7 or 2001:db8::7";
            Problem::invalid_query("address", detail)
        })?;
        if self.from.zip(self.until).is_some_and(|(from, until)| from >= until) {
            return Err(Problem::invalid_query(
                "from",
                "from is not before until: nothing can be between them",
            ));
        }
        Ok(Filter {
            from: self.from.map(UnixMillis),
            until: self.until.map(UnixMillis),
            code: self.code,
            client: self.client,
            credential: self.credential,
            api: self.api,
            address: address.map(|address| address.to_string()),
            gateway: self.gateway,
        })
    }
}

/// Refusals on record, and how many of that time are not.
#[derive(Serialize, ToSchema)]
struct DecisionPage {
    /// At most `limit`.
    items: Vec<DecisionView>,
    /// Opaque.
    next: Option<String>,
    /// Refusals of the hours asked for of which only the number is known, whatever else was asked for.
    not_kept: Vec<NotKeptView>,
}

/// How many refusals with a code are not on record one by one.
#[derive(Serialize, ToSchema)]
#[schema(as = DecisionsNotKept)]
struct NotKeptView {
    code: String,
    count: u64,
}

/// What led to a refusal, as the node knew it. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Decision)]
struct DecisionView {
    /// As the caller was told.
    id: String,
    /// By the node's clock, which it decided by.
    at: i64,
    received_at: i64,
    /// Id of the gateway.
    gateway: String,
    /// The rule that decided.
    code: String,
    /// What the caller could read.
    detail: String,
    method: String,
    host: String,
    /// Without its query.
    path: String,
    /// uid; null: none is meant.
    api: Option<String>,
    #[schema(value_type = Option<wire::CredentialKind>)]
    kind: Option<CredentialKind>,
    /// Whose grant was looked at; with `signature_incorrect` that is not proven.
    client: Option<String>,
    credential: Option<String>,
    /// Of the caller, as the proxy trusts it.
    address: Option<String>,
    /// `internal` or `external`.
    origin: Option<&'static str>,
    /// Revision of the directory that was held.
    directory: u64,
    /// The last change that was known.
    feed: u64,
    /// Since the newest answered poll for changes was sent; null: none was.
    polled_ms_ago: Option<u64>,
    /// For which the grant had been held.
    grant_held_ms: Option<u64>,
    /// For which the request had waited.
    waited_ms: Option<u64>,
    room: Option<RoomView>,
    rate: Option<RateView>,
    meters: Vec<MeterView>,
}

/// How full the worker was.
#[derive(Serialize, ToSchema)]
#[schema(as = DecisionRoom)]
struct RoomView {
    priority: u8,
    in_flight: u32,
    capacity: u32,
}

/// The client's rate on the node.
#[derive(Serialize, ToSchema)]
#[schema(as = DecisionRate)]
struct RateView {
    tps: u32,
    /// In that second, over all workers.
    admitted: u32,
}

/// A limit as the node knew it.
#[derive(Serialize, ToSchema)]
#[schema(as = DecisionMeter)]
struct MeterView {
    meter: u64,
    /// `client_quota`, `key_uses` or `token_uses`.
    kind: &'static str,
    limit: u64,
    /// Units on the node that could be spent.
    held: u64,
    /// What the ledger had left when it granted the newest lease that is still there.
    ledger_left: Option<u64>,
    leases: Vec<LeaseView>,
    /// The ledger's last word where it was a no: `contended`, `exhausted` or `gone`.
    word: Option<&'static str>,
    /// A renewal was on its way.
    renewing: bool,
}

/// A lease on the node.
#[derive(Serialize, ToSchema)]
#[schema(as = DecisionLease)]
struct LeaseView {
    lease: u64,
    generation: u64,
    units: u32,
    left: u32,
}

/// List refusals on record, newest first.
///
/// This is also the list of bad attempts: by code, client, credential, API, address, gateway and time.
#[utoipa::path(get, path = "/api/v1/decisions", params(ListQuery))]
async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Result<Json<DecisionPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let cursor = page_cursor(query.cursor.as_deref())?;
    let after = match cursor.split_once(' ') {
        Some((at, id)) => Some((UnixMillis(at.parse().map_err(|_| foreign_cursor())?), id)),
        None if cursor.is_empty() => None,
        None => return Err(foreign_cursor()),
    };
    let listed = actions::list(&app, query.filter()?, after, limit + 1).await?;
    let page =
        Page::new(listed.decisions, limit, |kept| format!("{} {}", kept.received_at.0, kept.decision.id));
    let page = page.map(DecisionView::from);
    let not_kept = listed.not_kept.into_iter().map(|(code, count)| NotKeptView { code, count }).collect();
    Ok(Json(DecisionPage { items: page.items, next: page.next, not_kept }))
}

/// Show what led to a refusal, by the id that its caller was told.
#[utoipa::path(get, path = "/api/v1/decisions/{id}")]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<DecisionView>, Problem> {
    Ok(Json(actions::find(&app, &id).await?.into()))
}

pub(super) fn origin_name(origin: OriginSeen) -> &'static str {
    match origin {
        OriginSeen::Internal => "internal",
        OriginSeen::External => "external",
    }
}

pub(super) fn meter_name(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::ClientQuota => "client_quota",
        MeterKind::KeyUses => "key_uses",
        MeterKind::TokenUses => "token_uses",
    }
}

fn word_name(word: Word) -> &'static str {
    match word {
        Word::Contended => "contended",
        Word::Exhausted => "exhausted",
        Word::Gone => "gone",
    }
}

impl From<Kept> for DecisionView {
    fn from(kept: Kept) -> Self {
        let Kept { received_at, gateway, decision } = kept;
        let Decision {
            id,
            at,
            code,
            detail,
            method,
            host,
            path,
            api,
            kind,
            client,
            credential,
            address,
            origin,
            directory,
            feed,
            polled_ms_ago,
            grant_held_ms,
            waited_ms,
            room,
            rate,
            meters,
        } = decision;
        Self {
            id,
            at: at.0,
            received_at: received_at.0,
            gateway,
            code,
            detail,
            method,
            host,
            path,
            api: api.map(|uid| uid.0),
            kind,
            client: client.map(|id| id.0),
            credential: credential.map(|id| id.0),
            address,
            origin: origin.map(origin_name),
            directory: directory.0,
            feed: feed.0,
            polled_ms_ago,
            grant_held_ms,
            waited_ms,
            room: room.map(|room| RoomView {
                priority: room.priority,
                in_flight: room.in_flight,
                capacity: room.capacity,
            }),
            rate: rate.map(|rate| RateView { tps: rate.tps, admitted: rate.admitted }),
            meters: meters.into_iter().map(MeterView::from).collect(),
        }
    }
}

impl From<MeterSeen> for MeterView {
    fn from(meter: MeterSeen) -> Self {
        let MeterSeen { meter, kind, limit, held, ledger_left, leases, word, renewing } = meter;
        let lease = |seen: LeaseSeen| LeaseView {
            lease: seen.lease.0,
            generation: seen.generation.0,
            units: seen.units,
            left: seen.left,
        };
        Self {
            meter: meter.0,
            kind: meter_name(kind),
            limit,
            held,
            ledger_left,
            leases: leases.into_iter().map(lease).collect(),
            word: word.map(word_name),
            renewing,
        }
    }
}

impl From<Missing> for Problem {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Db(error) => error.into(),
            missing @ (Missing::NoId { .. } | Missing::NeverHeard { .. } | Missing::NotKept { .. }) => {
                Self::not_found(missing.to_string())
            }
        }
    }
}
