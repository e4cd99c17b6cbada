//! What is done with APIs: one function per use case, one named transaction each. What ends in
//! `_in` does all of it in a transaction of the caller's, who holds the catalogue.

use gate::id::ApiUid;
use gate::request::CredentialKind;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::directory::{Audience, PathRule};
use serde_json::json;

use super::model::{Api, ApiName, ApiSource, MAX_API_NAME, parse_hosts, parse_labels, parse_methods};
use super::path::check_path;
use super::place::Place;
use super::schedule::Moment;
use super::store::{self, ApiFilter};
use crate::app::App;
use crate::catalog::error::{CatalogError, invalid, require_version};
use crate::catalog::groups;
use crate::catalog::held::{Held, hold};
use crate::catalog::model::{MAX_DESCRIPTION, parse_text};
use crate::db::{Conn, DbError};
use crate::{audit, changes};

/// What a new API is made from.
#[derive(Clone, Debug)]
pub struct NewApi {
    /// Checked by [`ApiName::module`].
    pub module: String,
    /// Checked by [`ApiName::api_id`].
    pub id: String,
    /// How it comes here.
    pub source: ApiSource,
    /// Everything else; a path among it.
    pub fields: ApiFields,
}

/// The fields that create and update share; None leaves as it is, or takes the default.
#[derive(Clone, Debug, Default)]
pub struct ApiFields {
    /// Default: the id.
    pub name: Option<String>,
    /// Default: none.
    pub description: Option<String>,
    /// Default: every host.
    pub hosts: Option<Vec<String>>,
    /// Default: every method.
    pub methods: Option<Vec<String>>,
    /// Required in a new one.
    pub path: Option<PathRule>,
    /// Required unless `no_auth`.
    pub accepts: Option<Vec<CredentialKind>>,
    /// Default: false.
    pub no_auth: Option<bool>,
    /// Default: true.
    pub enabled: Option<bool>,
    /// Default: both.
    pub audience: Option<Audience>,
    /// Default: false.
    pub unsigned_forms: Option<bool>,
    /// Default: none.
    pub labels: Option<Vec<String>>,
    /// Some(None): not planned, which is the default.
    pub enable_at: Option<Option<Moment>>,
    /// Some(None): not planned, which is the default.
    pub disable_at: Option<Option<Moment>>,
}

pub(super) async fn create(app: &App, by: &str, new: NewApi) -> Result<Api, CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.create_api").await?;
    let mut held = hold(&mut tx).await?;
    let api = create_in(&mut tx, &mut held, app, by, new, now).await?;
    tx.commit().await?;
    Ok(api)
}

/// Registers an API.
pub async fn create_in(
    conn: &mut Conn,
    held: &mut Held,
    app: &App,
    by: &str,
    new: NewApi,
    now: UnixMillis,
) -> Result<Api, CatalogError> {
    let id = ApiName::api_id(&new.id).map_err(invalid("id"))?;
    let Some(path) = new.fields.path.clone() else {
        return Err(CatalogError::Invalid { field: "path", reason: "is required".into() });
    };
    let mut api = Api {
        uid: ApiUid(app.random.id("api")),
        module: ApiName::module(&new.module).map_err(invalid("module"))?,
        name: id.to_string(),
        id,
        description: String::new(),
        hosts: Vec::new(),
        methods: Vec::new(),
        path,
        accepts: Vec::new(),
        no_auth: false,
        enabled: true,
        audience: Audience::Both,
        unsigned_forms: false,
        labels: Vec::new(),
        enable_at: None,
        disable_at: None,
        source: new.source,
        groups: Vec::new(),
        scopes: Vec::new(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    apply(app, &mut api, new.fields, now)?;
    take_place(conn, held, &api).await?;
    store::insert_api(conn, &api).await.map_err(|error| taken(error, &api))?;
    held.saved(Place::of(&api));
    directory_changed(conn, std::slice::from_ref(&api.uid), now).await?;
    record(conn, by, "catalog.create_api", &api, view(&api), now).await?;
    Ok(api)
}

pub(super) async fn update(
    app: &App,
    by: &str,
    uid: &str,
    expected: Option<i64>,
    fields: ApiFields,
) -> Result<Api, CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.update_api").await?;
    let mut held = hold(&mut tx).await?;
    let api = update_in(&mut tx, &mut held, app, by, uid, expected, fields, now).await?;
    tx.commit().await?;
    Ok(api)
}

/// Changes what `fields` name.
#[expect(clippy::too_many_arguments, reason = "a transaction's context, which API, what to change")]
pub async fn update_in(
    conn: &mut Conn,
    held: &mut Held,
    app: &App,
    by: &str,
    uid: &str,
    expected: Option<i64>,
    fields: ApiFields,
    now: UnixMillis,
) -> Result<Api, CatalogError> {
    let before = load(conn, uid).await?;
    require_version(expected, before.version)?;
    let mut api = before.clone();
    apply(app, &mut api, fields, now)?;
    if api == before {
        return Ok(before);
    }
    save(conn, held, &before, &mut api, now).await?;
    if before.entry() != api.entry() {
        directory_changed(conn, std::slice::from_ref(&api.uid), now).await?;
    }
    record(conn, by, "catalog.update_api", &api, change(&before, &api), now).await?;
    Ok(api)
}

pub(super) async fn delete(
    app: &App,
    by: &str,
    uid: &str,
    expected: Option<i64>,
) -> Result<(), CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.delete_api").await?;
    let mut held = hold(&mut tx).await?;
    delete_in(&mut tx, &mut held, by, uid, expected, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Removes an API that no key lists, from its groups and scopes too.
pub async fn delete_in(
    conn: &mut Conn,
    held: &mut Held,
    by: &str,
    uid: &str,
    expected: Option<i64>,
    now: UnixMillis,
) -> Result<(), CatalogError> {
    let api = load(conn, uid).await?;
    require_version(expected, api.version)?;
    if let Some(keys) = store::keys_listing(conn, std::slice::from_ref(&api.uid)).await?.remove(&api.uid) {
        return Err(CatalogError::ApiInUse { title: api.title(), keys });
    }
    groups::forget_api(conn, &api.uid).await?;
    store::delete_api(conn, &api.uid).await?;
    held.deleted(&api.uid);
    let revision = changes::record(conn, &Subject::Directory, now).await?;
    store::bury_api(conn, &api.uid, revision).await?;
    record(conn, by, "catalog.delete_api", &api, view(&api), now).await?;
    Ok(())
}

pub(super) async fn show(app: &App, uid: &str) -> Result<Api, CatalogError> {
    load(&mut *app.db.snapshot().await?, uid).await
}

pub(super) async fn list(
    app: &App,
    filter: &ApiFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<Api>, CatalogError> {
    Ok(store::apis(&mut *app.db.snapshot().await?, filter, after, limit).await?)
}

/// Records the change and stamps the APIs whose entries it altered, if any.
pub(in crate::catalog) async fn directory_changed(
    conn: &mut Conn,
    uids: &[ApiUid],
    now: UnixMillis,
) -> Result<(), DbError> {
    if uids.is_empty() {
        return Ok(());
    }
    let revision = changes::record(conn, &Subject::Directory, now).await?;
    store::stamp(conn, uids, revision).await
}

/// Takes over what is given and checks the whole.
pub(super) fn apply(
    app: &App,
    api: &mut Api,
    fields: ApiFields,
    now: UnixMillis,
) -> Result<(), CatalogError> {
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
    if let Some(labels) = fields.labels {
        api.labels = parse_labels(&labels).map_err(invalid("labels"))?;
    }
    api.no_auth = fields.no_auth.unwrap_or(api.no_auth);
    api.audience = fields.audience.unwrap_or(api.audience);
    api.unsigned_forms = fields.unsigned_forms.unwrap_or(api.unsigned_forms);
    if api.no_auth && !api.accepts.is_empty() {
        let reason = "must be empty together with no_auth: true, which asks for no credential".into();
        return Err(CatalogError::Invalid { field: "accepts", reason });
    }
    if !api.no_auth && api.accepts.is_empty() {
        let reason =
            "must name a credential (dgrk, x_api_key, bearer, basic), or no_auth must be true: nobody \
                      could call it. To close an API, disable it"
                .into();
        return Err(CatalogError::Invalid { field: "accepts", reason });
    }
    if let Some(enabled) = fields.enabled {
        api.enabled = enabled;
        if fields.enable_at.is_none() && fields.disable_at.is_none() {
            api.drop_needless_turn();
        }
    }
    plan(app, api, fields.enable_at, fields.disable_at, now)
}

fn plan(
    app: &App,
    api: &mut Api,
    enable_at: Option<Option<Moment>>,
    disable_at: Option<Option<Moment>>,
    now: UnixMillis,
) -> Result<(), CatalogError> {
    let zone = app.config.zone();
    let instant = |moment: Option<Moment>| moment.map(|moment| moment.instant(&zone)).transpose();
    let named = enable_at.is_some() || disable_at.is_some();
    if let Some(moment) = enable_at {
        api.enable_at = instant(moment).map_err(invalid("enable_at"))?;
    }
    if let Some(moment) = disable_at {
        api.disable_at = instant(moment).map_err(invalid("disable_at"))?;
    }
    if named {
        api.check_plan(now).map_err(|(field, reason)| CatalogError::Invalid { field, reason })?;
    }
    Ok(())
}

/// Saves `api` as the next version of `before`; where it answers is checked if that changed.
pub(super) async fn save(
    conn: &mut Conn,
    held: &mut Held,
    before: &Api,
    api: &mut Api,
    now: UnixMillis,
) -> Result<(), CatalogError> {
    (api.updated_at, api.version) = (now, before.version + 1);
    let moved = Place::of(before) != Place::of(api);
    if moved {
        take_place(conn, held, api).await?;
    }
    if !store::update_api(conn, api, before.version, moved).await.map_err(|error| taken(error, api))? {
        return Err(CatalogError::Version { expected: before.version, present: before.version + 1 });
    }
    if moved {
        held.saved(Place::of(api));
    }
    Ok(())
}

async fn take_place(conn: &mut Conn, held: &mut Held, api: &Api) -> Result<(), CatalogError> {
    match held.clash(conn, &Place::of(api)).await? {
        Some(clash) => Err(CatalogError::Clash { title: api.title(), clash: Box::new(clash) }),
        None => Ok(()),
    }
}

async fn load(conn: &mut Conn, uid: &str) -> Result<Api, CatalogError> {
    store::api(conn, uid).await?.ok_or_else(|| CatalogError::NotFound { what: format!("API {uid}") })
}

pub(super) fn taken(error: DbError, api: &Api) -> CatalogError {
    if error.violates("apis_module_api_id_key") || error.violates("apis_sort_key_key") {
        CatalogError::ApiExists { title: api.title() }
    } else {
        error.into()
    }
}

/// As the audit trail shows it.
pub(super) fn view(api: &Api) -> serde_json::Value {
    json!({
        "title": api.title(),
        "name": api.name,
        "description": api.description,
        "path": api.path,
        "hosts": api.hosts,
        "methods": api.methods,
        "accepts": api.accepts,
        "no_auth": api.no_auth,
        "enabled": api.enabled,
        "audience": api.audience,
        "unsigned_forms": api.unsigned_forms,
        "labels": api.labels,
        "enable_at": api.enable_at.map(|at| at.0),
        "disable_at": api.disable_at.map(|at| at.0),
        "source": api.source,
    })
}

/// What an update says in the audit trail.
pub(super) fn change(before: &Api, after: &Api) -> serde_json::Value {
    json!({ "title": after.title(), "changed": audit::changed(&view(before), &view(after)) })
}

pub(super) async fn record(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    api: &Api,
    detail: serde_json::Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    let subject = format!("api:{}", api.uid);
    audit::record(conn, audit::Entry { actor: by.into(), action, subject, detail }, now).await
}
