//! `/api/v1/apis/match`

use axum::extract::State;
use gate::id::ApiUid;
use gate::wire::directory::{ApiEntry, PathRule};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::explain_match;
use super::model::{Explanation, NearMiss, Refusal};
use crate::app::App;
use crate::catalog::PathRuleSchema;
use crate::catalog::error::CatalogError;
use crate::http::{Json, Permission, Query, Routes};
use crate::problem::Problem;

/// What explains requests.
pub fn routes() -> Routes {
    Routes::of("catalog").permitted(&[Permission::CatalogRead], routes!(match_request))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct MatchQuery {
    /// E.g. GET.
    method: String,
    /// `https://host/path`, or a path alone for a host that no API names.
    url: String,
}

/// What gates do with a request before they look at its credential.
#[derive(Serialize, ToSchema)]
#[schema(as = Match)]
struct MatchView {
    method: String,
    /// As it is compared; empty: none was named.
    host: String,
    /// As it is compared; null where it is refused before.
    path: Option<String>,
    /// The API that is meant.
    api: Option<PlaceView>,
    /// Null where an API is meant and enabled, or where what is not registered goes upstream.
    refusal: Option<RefusalView>,
    /// The nearest first, 5 at most.
    near_misses: Vec<NearMissView>,
}

/// An API and where it answers.
#[derive(Serialize, ToSchema)]
#[schema(as = Place)]
struct PlaceView {
    #[schema(value_type = String)]
    uid: ApiUid,
    module: String,
    id: String,
    hosts: Vec<String>,
    methods: Vec<String>,
    #[schema(value_type = PathRuleSchema)]
    path: PathRule,
    enabled: bool,
}

/// Why gates refuse it.
#[derive(Serialize, ToSchema)]
#[schema(as = MatchRefusal)]
struct RefusalView {
    /// HTTP status, where refusals are problem documents.
    status: u16,
    code: &'static str,
    reason: String,
}

/// An API that nearly answers, and why it does not.
#[derive(Serialize, ToSchema)]
#[schema(as = NearMiss)]
struct NearMissView {
    api: PlaceView,
    reasons: Vec<String>,
}

/// Which API does a request mean?
///
/// Answered by what gates choose with: the API and its rule, or why the request is refused, and
/// what nearly fits.
#[utoipa::path(get, path = "/api/v1/apis/match", params(MatchQuery))]
async fn match_request(
    State(app): State<App>,
    Query(query): Query<MatchQuery>,
) -> Result<Json<MatchView>, Problem> {
    match explain_match(&app, &query.method, &query.url).await {
        Ok(explanation) => Ok(Json(explanation.into())),
        // What is wrong stands in the query here, and in no body.
        Err(error @ CatalogError::Invalid { field, .. }) => {
            Err(Problem::invalid_query(field, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

impl From<Explanation> for MatchView {
    fn from(explanation: Explanation) -> Self {
        Self {
            method: explanation.target.method,
            host: explanation.target.host,
            path: explanation.normal_path,
            api: explanation.meant.map(PlaceView::from),
            refusal: explanation.refusal.map(RefusalView::from),
            near_misses: explanation.near.into_iter().map(NearMissView::from).collect(),
        }
    }
}

impl From<ApiEntry> for PlaceView {
    fn from(api: ApiEntry) -> Self {
        Self {
            uid: api.uid,
            module: api.module,
            id: api.id,
            hosts: api.hosts,
            methods: api.methods,
            path: api.path,
            enabled: api.enabled,
        }
    }
}

impl From<Refusal> for RefusalView {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status, code: refusal.code, reason: refusal.reason }
    }
}

impl From<NearMiss> for NearMissView {
    fn from(miss: NearMiss) -> Self {
        Self { api: miss.api.into(), reasons: miss.reasons }
    }
}
