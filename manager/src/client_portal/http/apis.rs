//! `/client/v1/apis`: what a client may apply for.

use axum::extract::State;
use gate::id::ApiUid;
use gate::request::CredentialKind;
use gate::wire::directory::{Audience, PathRule};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::app::App;
use crate::catalog::{self, Api, ApiFilter, ApiSource, PathRuleSchema};
use crate::client_portal::sessions::SignedIn;
use crate::clients::Client;
use crate::http::{Json, Page, Path, Query, Routes, page_cursor, page_limit};
use crate::openapi::wire;
use crate::problem::Problem;

pub(super) fn routes() -> Routes {
    Routes::of("client_portal").client(routes!(list_apis)).client(routes!(show_api))
}

/// An API as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = OfferedApi)]
pub(super) struct OfferedApiView {
    /// What forms name it by.
    #[schema(value_type = String)]
    uid: ApiUid,
    /// The back end it belongs to.
    module: String,
    /// Within the module.
    id: String,
    name: String,
    description: String,
    /// Empty: every method.
    methods: Vec<String>,
    #[schema(value_type = PathRuleSchema)]
    path: PathRule,
    /// Where it is called; null: the installation does not say under which host.
    url: Option<String>,
    /// The credentials that it accepts.
    #[schema(value_type = Vec<wire::CredentialKind>)]
    accepts: Vec<CredentialKind>,
    /// No credential is asked for.
    no_auth: bool,
    /// `registered`, or `imported` from a description.
    source: ApiSource,
}

impl OfferedApiView {
    fn of(app: &App, api: Api) -> Self {
        Self {
            url: api.url(app.config.gateway_url.as_deref()),
            module: api.module.to_string(),
            id: api.id.to_string(),
            uid: api.uid,
            name: api.name,
            description: api.description,
            methods: api.methods,
            path: api.path,
            accepts: api.accepts,
            no_auth: api.no_auth,
            source: api.source,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// In module, id, name, description or path, in whatever case.
    keyword: Option<String>,
    /// Those that came like this; absent: all.
    #[param(inline)]
    source: Option<ApiSource>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List the enabled APIs that one's audience permits, by module and id.
#[utoipa::path(get, path = "/client/v1/apis", params(ListQuery))]
async fn list_apis(
    State(app): State<App>,
    SignedIn { client, .. }: SignedIn,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OfferedApiView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let filter = ApiFilter {
        keyword: query.keyword,
        source: query.source,
        audience: Some(client.audience),
        enabled: Some(true),
        ..ApiFilter::default()
    };
    let mut read = app.db.snapshot().await?;
    let apis = catalog::apis::apis(&mut read, &filter, &after, limit).await?;
    Ok(Json(Page::new(apis, limit, Api::title).map(|api| OfferedApiView::of(&app, api))))
}

/// Show an enabled API that one's audience permits.
#[utoipa::path(get, path = "/client/v1/apis/{uid}")]
async fn show_api(
    State(app): State<App>,
    SignedIn { client, .. }: SignedIn,
    Path(uid): Path<String>,
) -> Result<Json<OfferedApiView>, Problem> {
    let api = catalog::api(&mut *app.db.snapshot().await?, &uid).await?;
    match api.filter(|api| is_open(&client, api.enabled, api.audience)) {
        Some(api) => Ok(Json(OfferedApiView::of(&app, api))),
        None => Err(Problem::not_found(format!("no API {uid} is open to you"))),
    }
}

/// Whether a client sees an API: it is enabled, and there is a side from which both may meet.
pub(super) fn is_open(client: &Client, enabled: bool, api: Audience) -> bool {
    enabled && (client.audience == Audience::Both || api == Audience::Both || client.audience == api)
}
