//! `/api/v1/apis`.

use axum::extract::State;
use gate::id::{ApiUid, GroupId};
use gate::request::CredentialKind;
use gate::wire::directory::{Audience, PathRule};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, ApiFields, NewApi};
use super::batch::{self, Batch, Uids};
use super::import;
use super::matching;
use super::model::{Api, ApiId, ApiSource, ApiTitle, Hosts, Labels, Methods, Module};
use super::path::PathRuleSchema;
use super::schedule::Moment;
use super::store::{AcceptedCredential, ApiFilter};
use crate::app::App;
use crate::catalog::model::Description;
use crate::http::{
    Actor, Created, IfMatch, Json, NoContent, Page, Path, Permission, Query, Routes, Versioned, nullable,
    page_cursor, page_limit,
};
use crate::openapi::wire;
use crate::problem::Problem;

/// Everything about APIs.
pub fn routes() -> Routes {
    Routes::of("catalog")
        .permitted(&[Permission::CatalogRead], routes!(list_apis))
        .permitted(&[Permission::CatalogWrite], routes!(create_api))
        .permitted(&[Permission::CatalogWrite], routes!(change_batch))
        .merge(import::routes())
        .merge(matching::routes())
        .permitted(&[Permission::CatalogRead], routes!(show_api))
        .permitted(&[Permission::CatalogWrite], routes!(update_api, delete_api))
}

/// An API. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Api)]
struct ApiView {
    #[schema(value_type = String)]
    uid: ApiUid,
    module: String,
    id: String,
    name: String,
    description: String,
    /// Empty: every host.
    hosts: Vec<String>,
    /// Empty: every method.
    methods: Vec<String>,
    #[schema(value_type = PathRuleSchema)]
    path: PathRule,
    #[schema(value_type = Vec<wire::CredentialKind>)]
    accepts: Vec<CredentialKind>,
    /// No credential is asked for.
    no_auth: bool,
    /// false: calls are answered 503.
    enabled: bool,
    #[schema(value_type = wire::Audience)]
    audience: Audience,
    /// Form and multipart bodies go unsigned under DGRK.
    unsigned_forms: bool,
    labels: Vec<String>,
    /// When it becomes enabled by itself; null: not planned.
    enable_at: Option<i64>,
    /// When it becomes disabled by itself; null: not planned.
    disable_at: Option<i64>,
    source: ApiSource,
    #[schema(value_type = Vec<String>)]
    groups: Vec<GroupId>,
    #[schema(value_type = Vec<String>)]
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

/// A new API.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiCreate)]
struct CreateApi {
    #[schema(value_type = Module)]
    module: String,
    #[schema(value_type = ApiId)]
    id: String,
    /// Default: the id.
    #[schema(value_type = Option<ApiTitle>)]
    name: Option<String>,
    #[schema(value_type = Option<Description>)]
    description: Option<String>,
    #[schema(value_type = Option<Hosts>)]
    hosts: Option<Vec<String>>,
    #[schema(value_type = Option<Methods>)]
    methods: Option<Vec<String>>,
    #[schema(value_type = PathRuleSchema)]
    path: PathRule,
    /// None together with `no_auth: true`, else one at least.
    #[schema(value_type = Option<Vec<wire::CredentialKind>>)]
    accepts: Option<Vec<CredentialKind>>,
    no_auth: Option<bool>,
    enabled: Option<bool>,
    #[schema(value_type = Option<wire::Audience>)]
    audience: Option<Audience>,
    unsigned_forms: Option<bool>,
    #[schema(value_type = Option<Labels>)]
    labels: Option<Vec<String>>,
    /// `2026-02-01` or `2026-02-01T08:00` in the installation's zone, `2026-02-01T08:00:00Z`, or UTC ms.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Moment>)]
    enable_at: Option<Option<Moment>>,
    /// The same.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Moment>)]
    disable_at: Option<Option<Moment>>,
}

/// Register an API.
#[utoipa::path(post, path = "/api/v1/apis", responses(
    (status = 409, description = "`api_exists`, `same_place` or `ambiguous_path`"),
))]
async fn create_api(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<CreateApi>,
) -> Result<Created<Versioned<ApiView>>, Problem> {
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
    Ok(Created(location, answer))
}

/// What is to change of an API.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiUpdate)]
struct UpdateApi {
    #[schema(value_type = Option<ApiTitle>)]
    name: Option<String>,
    #[schema(value_type = Option<Description>)]
    description: Option<String>,
    #[schema(value_type = Option<Hosts>)]
    hosts: Option<Vec<String>>,
    #[schema(value_type = Option<Methods>)]
    methods: Option<Vec<String>>,
    #[schema(value_type = Option<PathRuleSchema>)]
    path: Option<PathRule>,
    /// None together with `no_auth: true`, else one at least.
    #[schema(value_type = Option<Vec<wire::CredentialKind>>)]
    accepts: Option<Vec<CredentialKind>>,
    no_auth: Option<bool>,
    enabled: Option<bool>,
    #[schema(value_type = Option<wire::Audience>)]
    audience: Option<Audience>,
    unsigned_forms: Option<bool>,
    #[schema(value_type = Option<Labels>)]
    labels: Option<Vec<String>>,
    /// `2026-02-01` or `2026-02-01T08:00` in the installation's zone, `2026-02-01T08:00:00Z`, or UTC ms.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Moment>)]
    enable_at: Option<Option<Moment>>,
    /// The same.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Moment>)]
    disable_at: Option<Option<Moment>>,
}

/// Change an API; what is absent stays.
#[utoipa::path(patch, path = "/api/v1/apis/{uid}", params(IfMatch), responses(
    (status = 409, description = "`same_place` or `ambiguous_path`"),
))]
async fn update_api(
    State(app): State<App>,
    actor: Actor,
    Path(uid): Path<String>,
    expected: IfMatch,
    Json(body): Json<UpdateApi>,
) -> Result<Versioned<ApiView>, Problem> {
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

/// Remove an API that no key lists, from its groups and scopes too.
#[utoipa::path(delete, path = "/api/v1/apis/{uid}", params(IfMatch), responses(
    (status = 409, description = "`api_in_use`: `detail` names the keys that list it"),
))]
async fn delete_api(
    State(app): State<App>,
    actor: Actor,
    Path(uid): Path<String>,
    expected: IfMatch,
) -> Result<NoContent, Problem> {
    actions::delete(&app, &actor.audit_name(), &uid, expected.0).await?;
    Ok(NoContent)
}

/// Show an API.
#[utoipa::path(get, path = "/api/v1/apis/{uid}")]
async fn show_api(State(app): State<App>, Path(uid): Path<String>) -> Result<Versioned<ApiView>, Problem> {
    let api = actions::show(&app, &uid).await?;
    Ok(Versioned(api.version, api.into()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListApis {
    limit: Option<u32>,
    cursor: Option<String>,
    /// In module, id, name, description or path; of whatever case.
    keyword: Option<String>,
    module: Option<String>,
    /// A group or scope that contains them.
    group: Option<String>,
    /// A whole label, of whatever case.
    label: Option<String>,
    #[param(inline)]
    source: Option<ApiSource>,
    enabled: Option<bool>,
    #[param(inline)]
    credential: Option<CredentialName>,
}

/// What an API accepts.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
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

/// List APIs by module and id.
#[utoipa::path(get, path = "/api/v1/apis", params(ListApis))]
async fn list_apis(
    State(app): State<App>,
    Query(query): Query<ListApis>,
) -> Result<Json<Page<ApiView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let filter = ApiFilter {
        keyword: query.keyword,
        module: query.module,
        group: query.group,
        label: query.label,
        source: query.source,
        audience: None,
        enabled: query.enabled,
        credential: query.credential.map(AcceptedCredential::from),
    };
    let apis = actions::list(&app, &filter, &after, limit).await?;
    Ok(Json(Page::new(apis, limit, Api::title).map(ApiView::from)))
}

/// The conditions of a list; one at least.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiFilter)]
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
            audience: None,
            enabled: filter.enabled,
            credential: filter.credential.map(AcceptedCredential::from),
        }
    }
}

/// Which APIs (`uids` or `filter`), and what is to become of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiBatch)]
struct ChangeBatch {
    /// These; or
    #[schema(value_type = Option<Uids>)]
    uids: Option<Vec<ApiUid>>,
    /// those that fit.
    filter: Option<BatchFilter>,
    enabled: Option<bool>,
    #[schema(value_type = Option<Vec<wire::CredentialKind>>)]
    accepts: Option<Vec<CredentialKind>>,
    no_auth: Option<bool>,
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiBatchOutcome)]
struct BatchView {
    /// APIs that were meant.
    matched: usize,
    /// Those that were not so already.
    #[schema(value_type = Vec<String>)]
    changed: Vec<ApiUid>,
}

/// Switch many APIs, or what they accept: all of them or none.
#[utoipa::path(post, path = "/api/v1/apis/batch")]
async fn change_batch(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<ChangeBatch>,
) -> Result<Json<BatchView>, Problem> {
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
