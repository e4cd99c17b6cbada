//! `/api/v1/meters`.

use axum::extract::State;
use gate::wire::exchange::MeterKind;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, ReclaimError};
use super::model::{LeaseTerms, Meter};
use super::store::{Outstanding, kind_text, parse_kind};
use super::view::LeasesView;
use crate::app::App;
use crate::http::{Actor, Json, Path, Permission, Routes};
use crate::openapi::schema::schema_of;
use crate::problem::Problem;

/// What a meter counts.
enum Kind {}

schema_of! { Kind as MeterKind: one_of(
    [MeterKind::ClientQuota, MeterKind::KeyUses, MeterKind::TokenUses].map(kind_text)
) }

/// Everything about meters.
pub fn routes() -> Routes {
    Routes::of("quotas")
        .permitted(&[Permission::QuotasRead], routes!(show_meter))
        .permitted(&[Permission::QuotasReclaim], routes!(reclaim))
}

impl From<ReclaimError> for Problem {
    fn from(error: ReclaimError) -> Self {
        let detail = error.to_string();
        match error {
            ReclaimError::NoMeter { .. } => Self::not_found(detail),
            ReclaimError::NotATotal { .. } => Self::conflict("quota_has_windows", detail),
            ReclaimError::Db(error) => error.into(),
        }
    }
}

/// One counted limit as it stands.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaMeter)]
struct MeterView {
    #[schema(value_type = Kind)]
    kind: &'static str,
    /// Client id, key id or token id.
    owner: String,
    /// Calls per period, those among them that were given back by `reclaim`.
    limit: u64,
    /// Of the limit, calls by which `reclaim` has raised it.
    reclaimed: u64,
    /// `day`, `week`, `month`, or `total`: it never begins again.
    period: &'static str,
    /// Calls handed to gateways, net of what they gave back.
    used: u64,
    /// Of these, calls that gateways hold and have not spent, as far as is known.
    held: u64,
    /// Of these, calls that gateways held which never told what became of them: nobody can use them.
    withheld: u64,
    /// Calls that can still be handed out.
    remaining: u64,
    #[serde(flatten)]
    leases: LeasesView,
    /// First instant of the window, UTC ms; null: it has none.
    window_start: Option<i64>,
    /// First instant of the next window, UTC ms; null: there is none.
    window_end: Option<i64>,
}

impl MeterView {
    fn of(app: &App, meter: &Meter, out: Outstanding) -> Self {
        Self {
            kind: kind_text(meter.kind),
            owner: meter.owner.clone(),
            limit: meter.in_force(),
            reclaimed: meter.reclaimed,
            period: meter.limit.period.as_str(),
            used: meter.debited,
            held: out.leased,
            withheld: out.withheld,
            remaining: meter.remaining(),
            leases: LeasesView::of(meter, LeaseTerms::of(&app.config)),
            window_start: meter.window.map(|window| window.start.0),
            window_end: meter.window.map(|window| window.end.0),
        }
    }
}

/// What was given to others, and how the meter stands then.
#[derive(Serialize, ToSchema)]
#[schema(as = ReclaimedUnits)]
struct ReclaimedView {
    /// By so many the limit was raised; 0: nothing was withheld.
    units: u64,
    /// Leases that they were in.
    leases: u64,
    meter: MeterView,
}

/// Show how a counted limit stands.
#[utoipa::path(get, path = "/api/v1/meters/{kind}/{owner}")]
async fn show_meter(
    State(app): State<App>,
    Path((kind, owner)): Path<(String, String)>,
) -> Result<Json<MeterView>, Problem> {
    Ok(Json(shown(&app, kind_of(&kind)?, &owner).await?))
}

/// Give withheld units of a quota that never begins again to others, which raises its limit by them.
///
/// Whether they were spent, nobody knows. A gateway that comes back with them is refused. A repeat
/// finds nothing withheld and changes nothing.
#[utoipa::path(post, path = "/api/v1/meters/{kind}/{owner}/reclaim", responses(
    (status = 409, description = "`quota_has_windows`"),
))]
async fn reclaim(
    State(app): State<App>,
    actor: Actor,
    Path((kind, owner)): Path<(String, String)>,
) -> Result<Json<ReclaimedView>, Problem> {
    let kind = kind_of(&kind)?;
    let reclaimed = actions::reclaim(&app, &actor.audit_name(), kind, &owner).await?;
    let meter = shown(&app, kind, &owner).await?;
    Ok(Json(ReclaimedView { units: reclaimed.units, leases: reclaimed.leases, meter }))
}

async fn shown(app: &App, kind: MeterKind, owner: &str) -> Result<MeterView, Problem> {
    match actions::get(app, kind, owner).await? {
        Some((meter, out)) => Ok(MeterView::of(app, &meter, out)),
        None => Err(ReclaimError::NoMeter { kind, owner: owner.into() }.into()),
    }
}

fn kind_of(text: &str) -> Result<MeterKind, Problem> {
    parse_kind(text).ok_or_else(|| {
        Problem::not_found(format!(
            "there are no meters of the kind {text:?}: write client_quota, key_uses or token_uses"
        ))
    })
}
