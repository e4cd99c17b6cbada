//! `/api/v1/apis`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gate::id::{ApiUid, GroupId};
use gate::request::CredentialKind;
use gate::wire::directory::{Audience, PathRule};
use serde::{Deserialize, Serialize};

use super::actions::{self, ApiFields, NewApi};
use super::model::{Api, ApiSource};
use super::store::ApiFilter;
use crate::app::App;
use crate::http::{Actor, IfMatch, Json, Page, Path, Permission, Query, Versioned, page_cursor, page_limit};
use crate::problem::Problem;

/// Everything about APIs.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/apis", get(list_apis).post(create_api))
        .route("/api/v1/apis/{uid}", get(show_api).patch(update_api).delete(delete_api))
}

#[derive(Serialize)]
struct ApiView {
    uid: ApiUid,
    module: String,
    id: String,
    name: String,
    description: String,
    hosts: Vec<String>,
    methods: Vec<String>,
    path: PathRule,
    accepts: Vec<CredentialKind>,
    no_auth: bool,
    enabled: bool,
    audience: Audience,
    unsigned_forms: bool,
    source: ApiSource,
    groups: Vec<GroupId>,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

impl From<Api> for ApiView {
    fn from(api: Api) -> Self {
        Self {
            uid: api.uid,
            module: api.module.to_string(),
            id: api.id.to_string(),
            name: api.name,
            description: api.description,
            hosts: api.hosts,
            methods: api.methods,
            path: api.path,
            accepts: api.accepts,
            no_auth: api.no_auth,
            enabled: api.enabled,
            audience: api.audience,
            unsigned_forms: api.unsigned_forms,
            source: api.source,
            groups: api.groups,
            created_at: api.created_at.0,
            updated_at: api.updated_at.0,
            version: api.version,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateApi {
    module: String,
    id: String,
    name: Option<String>,
    description: Option<String>,
    hosts: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    path: PathRule,
    accepts: Option<Vec<CredentialKind>>,
    no_auth: Option<bool>,
    enabled: Option<bool>,
    audience: Option<Audience>,
    unsigned_forms: Option<bool>,
}

async fn create_api(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<CreateApi>,
) -> Result<Response, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let new = NewApi {
        module: body.module,
        id: body.id,
        fields: ApiFields {
            name: body.name,
            description: body.description,
            hosts: body.hosts,
            methods: body.methods,
            path: Some(body.path),
            accepts: body.accepts,
            no_auth: body.no_auth,
            enabled: body.enabled,
            audience: body.audience,
            unsigned_forms: body.unsigned_forms,
        },
    };
    let api = actions::create_api(&app, &actor.audit_name(), new).await?;
    let location = format!("/api/v1/apis/{}", api.uid);
    let answer = Versioned(api.version, ApiView::from(api));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], answer).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateApi {
    name: Option<String>,
    description: Option<String>,
    hosts: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    path: Option<PathRule>,
    accepts: Option<Vec<CredentialKind>>,
    no_auth: Option<bool>,
    enabled: Option<bool>,
    audience: Option<Audience>,
    unsigned_forms: Option<bool>,
}

async fn update_api(
    State(app): State<App>,
    actor: Actor,
    Path(uid): Path<String>,
    expected: IfMatch,
    Json(body): Json<UpdateApi>,
) -> Result<Versioned<ApiView>, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let fields = ApiFields {
        name: body.name,
        description: body.description,
        hosts: body.hosts,
        methods: body.methods,
        path: body.path,
        accepts: body.accepts,
        no_auth: body.no_auth,
        enabled: body.enabled,
        audience: body.audience,
        unsigned_forms: body.unsigned_forms,
    };
    let api = actions::update_api(&app, &actor.audit_name(), &uid, expected.0, fields).await?;
    Ok(Versioned(api.version, api.into()))
}

async fn delete_api(
    State(app): State<App>,
    actor: Actor,
    Path(uid): Path<String>,
    expected: IfMatch,
) -> Result<StatusCode, Problem> {
    actor.require(Permission::CatalogWrite)?;
    actions::delete_api(&app, &actor.audit_name(), &uid, expected.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_api(
    State(app): State<App>,
    actor: Actor,
    Path(uid): Path<String>,
) -> Result<Versioned<ApiView>, Problem> {
    actor.require(Permission::CatalogRead)?;
    let api = actions::api(&app, &uid).await?;
    Ok(Versioned(api.version, api.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListApis {
    limit: Option<u32>,
    cursor: Option<String>,
    keyword: Option<String>,
    module: Option<String>,
    group: Option<String>,
    enabled: Option<bool>,
}

async fn list_apis(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListApis>,
) -> Result<Json<Page<ApiView>>, Problem> {
    actor.require(Permission::CatalogRead)?;
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let filter = ApiFilter {
        keyword: query.keyword,
        module: query.module,
        group: query.group,
        enabled: query.enabled,
    };
    let apis = actions::apis(&app, &filter, &after, limit).await?;
    Ok(Json(Page::new(apis, limit, Api::title).map(ApiView::from)))
}
