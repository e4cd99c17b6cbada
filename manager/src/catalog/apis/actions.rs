//! What is done with APIs: one function per use case, one named transaction each.

use gate::id::ApiUid;
use gate::request::CredentialKind;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::directory::{Audience, PathRule};
use serde_json::json;

use super::model::{Api, ApiName, ApiSource, MAX_API_NAME, parse_hosts, parse_methods};
use super::path::check_path;
use super::store::{self, ApiFilter, Rival};
use crate::app::App;
use crate::audit;
use crate::catalog::error::{CatalogError, invalid, require_version};
use crate::catalog::groups;
use crate::catalog::model::{MAX_DESCRIPTION, parse_text};
use crate::changes;
use crate::db::{Conn, DbError};

/// What a new API is made from.
#[derive(Clone, Debug)]
pub(super) struct NewApi {
    pub module: String,
    pub id: String,
    pub fields: ApiFields,
}

/// The fields that create and update share; None leaves as it is, or takes the default.
#[derive(Clone, Debug, Default)]
pub(super) struct ApiFields {
    pub name: Option<String>,
    pub description: Option<String>,
    pub hosts: Option<Vec<String>>,
    pub methods: Option<Vec<String>>,
    pub path: Option<PathRule>,
    pub accepts: Option<Vec<CredentialKind>>,
    pub no_auth: Option<bool>,
    pub enabled: Option<bool>,
    pub audience: Option<Audience>,
    pub unsigned_forms: Option<bool>,
}

pub(super) async fn create_api(app: &App, by: &str, new: NewApi) -> Result<Api, CatalogError> {
    let now = app.now();
    let id = ApiName::api_id(&new.id).map_err(invalid("id"))?;
    let mut api = Api {
        uid: ApiUid(app.random.id("api")),
        module: ApiName::module(&new.module).map_err(invalid("module"))?,
        name: id.to_string(),
        id,
        description: String::new(),
        hosts: Vec::new(),
        methods: Vec::new(),
        // Replaced below: an API without a path is refused.
        path: PathRule::Exact(String::new()),
        accepts: Vec::new(),
        no_auth: false,
        enabled: true,
        audience: Audience::Both,
        unsigned_forms: false,
        source: ApiSource::Registered,
        groups: Vec::new(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    apply(&mut api, new.fields)?;
    let mut tx = app.db.write("catalog.create_api").await?;
    if let Some(rival) = store::rival(&mut tx, &api).await? {
        return Err(CatalogError::SamePlace { title: api.title(), rival });
    }
    store::insert_api(&mut tx, &api).await.map_err(|error| collision(error, &api))?;
    directory_changed(&mut tx, std::slice::from_ref(&api.uid), now).await?;
    record(&mut tx, by, "catalog.create_api", format!("api:{}", api.uid), api_detail(&api), now).await?;
    tx.commit().await?;
    Ok(api)
}

pub(super) async fn update_api(
    app: &App,
    by: &str,
    uid: &str,
    expected: Option<i64>,
    fields: ApiFields,
) -> Result<Api, CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.update_api").await?;
    let mut api = load_api(&mut tx, uid).await?;
    let read_version = api.version;
    require_version(expected, read_version)?;
    apply(&mut api, fields)?;
    (api.updated_at, api.version) = (now, read_version + 1);
    if let Some(rival) = store::rival(&mut tx, &api).await? {
        return Err(CatalogError::SamePlace { title: api.title(), rival });
    }
    let saved =
        store::update_api(&mut tx, &api, read_version).await.map_err(|error| collision(error, &api))?;
    if !saved {
        return Err(CatalogError::Version { expected: read_version, present: read_version + 1 });
    }
    directory_changed(&mut tx, std::slice::from_ref(&api.uid), now).await?;
    record(&mut tx, by, "catalog.update_api", format!("api:{}", api.uid), api_detail(&api), now).await?;
    tx.commit().await?;
    Ok(api)
}

pub(super) async fn delete_api(
    app: &App,
    by: &str,
    uid: &str,
    expected: Option<i64>,
) -> Result<(), CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.delete_api").await?;
    let api = load_api(&mut tx, uid).await?;
    require_version(expected, api.version)?;
    groups::forget_api(&mut tx, &api.uid).await?;
    store::delete_api(&mut tx, &api.uid).await?;
    let revision = changes::record(&mut tx, &Subject::Directory, now).await?;
    store::bury_api(&mut tx, &api.uid, revision).await?;
    record(&mut tx, by, "catalog.delete_api", format!("api:{}", api.uid), api_detail(&api), now).await?;
    tx.commit().await?;
    Ok(())
}

pub(super) async fn api(app: &App, uid: &str) -> Result<Api, CatalogError> {
    load_api(&mut *app.db.snapshot().await?, uid).await
}

pub(super) async fn apis(
    app: &App,
    filter: &ApiFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<Api>, CatalogError> {
    Ok(store::apis(&mut *app.db.snapshot().await?, filter, after, limit).await?)
}

/// Takes over what is given and checks the whole.
fn apply(api: &mut Api, fields: ApiFields) -> Result<(), CatalogError> {
    if let Some(name) = fields.name {
        api.name = parse_text(&name, 1, MAX_API_NAME).map_err(invalid("name"))?;
    }
    if let Some(description) = fields.description {
        api.description = parse_text(&description, 0, MAX_DESCRIPTION).map_err(invalid("description"))?;
    }
    if let Some(hosts) = fields.hosts {
        api.hosts = parse_hosts(&hosts).map_err(invalid("hosts"))?;
    }
    if let Some(methods) = fields.methods {
        api.methods = parse_methods(&methods).map_err(invalid("methods"))?;
    }
    if let Some(path) = fields.path {
        check_path(&path).map_err(invalid("path"))?;
        api.path = path;
    }
    if let Some(mut accepts) = fields.accepts {
        accepts.sort();
        accepts.dedup();
        api.accepts = accepts;
    }
    api.no_auth = fields.no_auth.unwrap_or(api.no_auth);
    api.enabled = fields.enabled.unwrap_or(api.enabled);
    api.audience = fields.audience.unwrap_or(api.audience);
    api.unsigned_forms = fields.unsigned_forms.unwrap_or(api.unsigned_forms);
    if api.no_auth && !api.accepts.is_empty() {
        let reason = "must be empty together with no_auth: true, which asks for no credential".into();
        return Err(CatalogError::Invalid { field: "accepts", reason });
    }
    if !api.no_auth && api.accepts.is_empty() {
        let reason =
            "must name a credential (dgrk, x_api_key, bearer, basic), or no_auth must be true".into();
        return Err(CatalogError::Invalid { field: "accepts", reason });
    }
    Ok(())
}

/// Records the change and stamps the APIs whose entries it altered.
pub(in crate::catalog) async fn directory_changed(
    conn: &mut Conn,
    uids: &[ApiUid],
    now: UnixMillis,
) -> Result<(), DbError> {
    // Rows before the feed's head, and in order: two who touch the same APIs wait, never for each other.
    let mut uids = uids.to_vec();
    uids.sort_unstable();
    store::hold(conn, &uids).await?;
    let revision = changes::record(conn, &Subject::Directory, now).await?;
    store::stamp(conn, &uids, revision).await
}

async fn load_api(conn: &mut Conn, uid: &str) -> Result<Api, CatalogError> {
    store::api(conn, uid).await?.ok_or_else(|| CatalogError::NotFound { what: format!("API {uid}") })
}

/// A unique index refused what another call has just saved.
fn collision(error: DbError, api: &Api) -> CatalogError {
    if error.violates("apis_module_api_id_key") || error.violates("apis_sort_key_key") {
        CatalogError::ApiExists { title: api.title() }
    } else if error.violates("api_routes_host_method_path_key") {
        let rival = Rival {
            uid: ApiUid("created just now".into()),
            title: "another API".into(),
            host: api.hosts.first().cloned().unwrap_or_default(),
            method: api.methods.first().cloned().unwrap_or_default(),
        };
        CatalogError::SamePlace { title: api.title(), rival }
    } else {
        error.into()
    }
}

fn api_detail(api: &Api) -> serde_json::Value {
    json!({
        "title": api.title(),
        "path": api.path,
        "hosts": api.hosts,
        "methods": api.methods,
        "accepts": api.accepts,
        "no_auth": api.no_auth,
        "enabled": api.enabled,
        "audience": api.audience,
        "unsigned_forms": api.unsigned_forms,
    })
}

async fn record(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    subject: String,
    detail: serde_json::Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    audit::record(conn, audit::Entry { actor: by.into(), action, subject, detail }, now).await
}
