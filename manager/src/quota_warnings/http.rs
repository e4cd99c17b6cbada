//! `/api/v1/clients/{id}/quota-warnings`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions;
use super::model::{ALL, MAX_PERCENTS, NoPercents, Percents};
use super::store::Saved;
use crate::app::App;
use crate::http::{Actor, IfMatch, Json, Path, Permission, Routes, Versioned};
use crate::openapi::schema::schema_of;
use crate::problem::Problem;
use crate::quotas::LEAST_PERCENT;

/// Everything about warnings.
pub fn routes() -> Routes {
    Routes::of("clients")
        .permitted(&[Permission::QuotasRead], routes!(show_quota_warnings))
        .permitted(&[Permission::QuotasWrite], routes!(set_quota_warnings))
}

/// A part of a quota, in percent.
enum Percent {}

schema_of! { Percent as QuotaPercent: number(i64::from(LEAST_PERCENT), i64::from(ALL)) }

/// See [`MAX_PERCENTS`].
enum PercentList {}

schema_of! { PercentList as QuotaPercents: list::<Percent>(0, MAX_PERCENTS) }

/// At which parts of its quotas a client is told.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = QuotaWarnings)]
struct WarningsForm {
    /// In percent, each once; empty: never.
    #[schema(value_type = PercentList)]
    percents: Vec<u32>,
}

/// At which parts of its quotas a client is told.
#[derive(Serialize, ToSchema)]
#[schema(as = SavedQuotaWarnings)]
struct SavedView {
    /// In percent, ascending.
    #[schema(value_type = PercentList)]
    percents: Vec<u8>,
    /// Null: never saved, these are those of a new client.
    updated_at: Option<i64>,
    version: i64,
}

impl From<Saved> for Versioned<SavedView> {
    fn from(saved: Saved) -> Self {
        let Saved { percents, updated_at, version } = saved;
        let percents = percents.iter().collect();
        Self(version, SavedView { percents, updated_at: updated_at.map(|at| at.0), version })
    }
}

impl From<NoPercents> for Problem {
    fn from(error: NoPercents) -> Self {
        Self::invalid("percents", error.to_string())
    }
}

/// Show at which parts of its quotas a client is told.
#[utoipa::path(get, path = "/api/v1/clients/{id}/quota-warnings")]
async fn show_quota_warnings(
    State(app): State<App>,
    Path(client): Path<String>,
) -> Result<Versioned<SavedView>, Problem> {
    Ok(actions::get(&app, &client).await?.into())
}

/// Set at which parts of its quotas a client is told.
///
/// What was told of the present window is not told again.
#[utoipa::path(put, path = "/api/v1/clients/{id}/quota-warnings", params(IfMatch))]
async fn set_quota_warnings(
    State(app): State<App>,
    actor: Actor,
    Path(client): Path<String>,
    expected: IfMatch,
    Json(body): Json<WarningsForm>,
) -> Result<Versioned<SavedView>, Problem> {
    let percents = Percents::of(&body.percents)?;
    Ok(actions::set(&app, &actor.audit_name(), &client, expected.0, percents).await?.into())
}
