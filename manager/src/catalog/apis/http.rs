//! `/api/v1/apis`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gate::id::{ApiUid, GroupId};
use gate::request::CredentialKind;
use gate::wire::directory::{Audience, PathRule};
use serde::{Deserialize, Serialize};

use super::actions::{self, ApiFields, NewApi};
use super::batch::{self, Batch};
use super::matching;
use super::model::{Api, ApiSource};
use super::schedule::Moment;
use super::store::{AcceptedCredential, ApiFilter};
use crate::app::App;
use crate::http::{
    Actor, IfMatch, Json, Page, Path, Permission, Query, Versioned, nullable, page_cursor, page_limit,
};
use crate::problem::Problem;

/// Everything about APIs.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/apis", get(list_apis).post(create_api))
        .route("/api/v1/apis/batch", post(change_batch))
        .route("/api/v1/apis/{uid}", get(show_api).patch(update_api).delete(delete_api))
        .merge(matching::routes())
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
    labels: Vec<String>,
    enable_at: Option<i64>,
    disable_at: Option<i64>,
    source: ApiSource,
    groups: Vec<GroupId>,
    scopes: Vec<GroupId>,
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
            labels: api.labels,
            enable_at: api.enable_at.map(|at| at.0),
            disable_at: api.disable_at.map(|at| at.0),
            source: api.source,
            groups: api.groups,
            scopes: api.scopes,
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
    labels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "nullable")]
    enable_at: Option<Option<Moment>>,
    #[serde(default, deserialize_with = "nullable")]
    disable_at: Option<Option<Moment>>,
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
        source: ApiSource::Registered,
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
            labels: body.labels,
            enable_at: body.enable_at,
            disable_at: body.disable_at,
        },
    };
    let api = actions::create(&app, &actor.audit_name(), new).await?;
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
    labels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "nullable")]
    enable_at: Option<Option<Moment>>,
    #[serde(default, deserialize_with = "nullable")]
    disable_at: Option<Option<Moment>>,
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
        labels: body.labels,
        enable_at: body.enable_at,
        disable_at: body.disable_at,
    };
    let api = actions::update(&app, &actor.audit_name(), &uid, expected.0, fields).await?;
    Ok(Versioned(api.version, api.into()))
}

async fn delete_api(
    State(app): State<App>,
    actor: Actor,
    Path(uid): Path<String>,
    expected: IfMatch,
) -> Result<StatusCode, Problem> {
    actor.require(Permission::CatalogWrite)?;
    actions::delete(&app, &actor.audit_name(), &uid, expected.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_api(
    State(app): State<App>,
    actor: Actor,
    Path(uid): Path<String>,
) -> Result<Versioned<ApiView>, Problem> {
    actor.require(Permission::CatalogRead)?;
    let api = actions::show(&app, &uid).await?;
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
    label: Option<String>,
    source: Option<ApiSource>,
    enabled: Option<bool>,
    credential: Option<CredentialName>,
}

/// `no_auth`, or a credential.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CredentialName {
    NoAuth,
    Dgrk,
    XApiKey,
    Bearer,
    Basic,
}

impl From<CredentialName> for AcceptedCredential {
    fn from(name: CredentialName) -> Self {
        match name {
            CredentialName::NoAuth => Self::NoAuth,
            CredentialName::Dgrk => Self::Kind(CredentialKind::Dgrk),
            CredentialName::XApiKey => Self::Kind(CredentialKind::XApiKey),
            CredentialName::Bearer => Self::Kind(CredentialKind::Bearer),
            CredentialName::Basic => Self::Kind(CredentialKind::Basic),
        }
    }
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
        label: query.label,
        source: query.source,
        enabled: query.enabled,
        credential: query.credential.map(AcceptedCredential::from),
    };
    let apis = actions::list(&app, &filter, &after, limit).await?;
    Ok(Json(Page::new(apis, limit, Api::title).map(ApiView::from)))
}

/// What a batch is narrowed by, as a list is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchFilter {
    keyword: Option<String>,
    module: Option<String>,
    group: Option<String>,
    label: Option<String>,
    source: Option<ApiSource>,
    enabled: Option<bool>,
    credential: Option<CredentialName>,
}

impl From<BatchFilter> for ApiFilter {
    fn from(filter: BatchFilter) -> Self {
        Self {
            keyword: filter.keyword,
            module: filter.module,
            group: filter.group,
            label: filter.label,
            source: filter.source,
            enabled: filter.enabled,
            credential: filter.credential.map(AcceptedCredential::from),
        }
    }
}

/// Which APIs (`uids` or `filter`), and what is to become of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBatch {
    uids: Option<Vec<ApiUid>>,
    filter: Option<BatchFilter>,
    enabled: Option<bool>,
    accepts: Option<Vec<CredentialKind>>,
    no_auth: Option<bool>,
}

/// What became of a batch.
#[derive(Serialize)]
struct BatchView {
    /// APIs that were meant.
    matched: usize,
    /// Those that were not so already.
    changed: Vec<ApiUid>,
}

async fn change_batch(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<ChangeBatch>,
) -> Result<Json<BatchView>, Problem> {
    actor.require(Permission::CatalogWrite)?;
    let batch = Batch {
        uids: body.uids,
        filter: body.filter.map(ApiFilter::from),
        enabled: body.enabled,
        accepts: body.accepts,
        no_auth: body.no_auth,
    };
    let outcome = batch::change_batch(&app, &actor.audit_name(), batch).await?;
    Ok(Json(BatchView { matched: outcome.matched, changed: outcome.changed }))
}
