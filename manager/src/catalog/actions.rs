//! What is done with APIs and groups: one function per use case, one named transaction each.

use gate::id::{ApiUid, GroupId};
use gate::request::CredentialKind;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::directory::{Audience, PathRule};
use serde_json::json;

use super::model::{
    Api, ApiName, ApiSource, Group, MAX_API_NAME, MAX_DESCRIPTION, MAX_GROUP_APIS, MAX_GROUP_NAME,
    SecurityLevel, check_path, parse_group_name, parse_hosts, parse_methods, parse_text,
};
use super::store::{self, ApiFilter, Rival};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::{audit, changes};

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

/// The fields of a group; None leaves as it is, or takes the default.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupFields {
    pub name: Option<String>,
    pub alias: Option<String>,
    pub description: Option<String>,
    pub security_level: Option<SecurityLevel>,
    pub apis: Option<Vec<ApiUid>>,
}

/// Why an action was refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A field cannot be taken.
    #[error("{field} {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An API of that module and id exists.
    #[error("API {title} exists: choose another id, or change that one")]
    ApiExists {
        /// `module/id`
        title: String,
    },
    /// Another API answers at the same place.
    #[error(
        "{title} would answer at the same place as {} ({}): {}{} with the same path; change host, method or path of one of them",
        rival.title, rival.uid, if rival.method.is_empty() { "every method" } else { &rival.method },
        if rival.host.is_empty() { String::new() } else { format!(" at {}", rival.host) }
    )]
    SamePlace {
        /// The API that was to be saved, `module/id`.
        title: String,
        /// The one that is there.
        rival: Rival,
    },
    /// The group's name or alias is taken.
    #[error("{}: {field} {value:?} is taken", if *field == "name" { "Group code exists" } else { "Group name exists" })]
    GroupExists {
        /// `name` or `alias`.
        field: &'static str,
        /// The value.
        value: String,
    },
    /// The group lists an API that does not exist.
    #[error("API not found: {uid}")]
    UnknownApi {
        /// Which.
        uid: ApiUid,
    },
    /// A client has the group.
    #[error("the group is given to clients: take it from them first")]
    GroupInUse,
    /// No such API or group.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// Changed meanwhile.
    #[error("version {expected} was named, {present} is present")]
    Version {
        /// By the caller.
        expected: i64,
        /// In the database.
        present: i64,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
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

pub(super) async fn create_group(app: &App, by: &str, fields: GroupFields) -> Result<Group, CatalogError> {
    let now = app.now();
    let name = fields.name.clone().unwrap_or_default();
    let mut group = Group {
        id: GroupId(app.random.id("gr")),
        alias: name.clone(),
        name,
        description: String::new(),
        security_level: SecurityLevel::System,
        apis: Vec::new(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let name = parse_group_name(&group.name).map_err(invalid("name"))?;
    apply_group(&mut group, GroupFields { name: Some(name), ..fields })?;
    let mut tx = app.db.write("catalog.create_group").await?;
    require_apis(&mut tx, &group.apis).await?;
    store::insert_group(&mut tx, &group).await.map_err(|error| group_collision(error, &group))?;
    if !group.apis.is_empty() {
        directory_changed(&mut tx, &group.apis, now).await?;
    }
    record(&mut tx, by, "catalog.create_group", format!("group:{}", group.id), group_detail(&group), now)
        .await?;
    tx.commit().await?;
    Ok(group)
}

pub(super) async fn update_group(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    fields: GroupFields,
) -> Result<Group, CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.update_group").await?;
    let mut group = load_group(&mut tx, id).await?;
    let (read_version, before) = (group.version, group.apis.clone());
    require_version(expected, read_version)?;
    apply_group(&mut group, fields)?;
    (group.updated_at, group.version) = (now, read_version + 1);
    require_apis(&mut tx, &group.apis).await?;
    let saved = store::update_group(&mut tx, &group, read_version)
        .await
        .map_err(|error| group_collision(error, &group))?;
    if !saved {
        return Err(CatalogError::Version { expected: read_version, present: read_version + 1 });
    }
    // Only those that came or went have another entry.
    let (joined, left) = (group.apis.iter(), before.iter());
    let touched: Vec<_> = joined
        .filter(|uid| !before.contains(uid))
        .chain(left.filter(|uid| !group.apis.contains(uid)))
        .cloned()
        .collect();
    if !touched.is_empty() {
        directory_changed(&mut tx, &touched, now).await?;
    }
    record(&mut tx, by, "catalog.update_group", format!("group:{}", group.id), group_detail(&group), now)
        .await?;
    tx.commit().await?;
    Ok(group)
}

pub(super) async fn delete_group(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
) -> Result<(), CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.delete_group").await?;
    let group = load_group(&mut tx, id).await?;
    require_version(expected, group.version)?;
    store::delete_group(&mut tx, &group.id)
        .await
        .map_err(|error| if error.violates_reference() { CatalogError::GroupInUse } else { error.into() })?;
    if !group.apis.is_empty() {
        directory_changed(&mut tx, &group.apis, now).await?;
    }
    record(&mut tx, by, "catalog.delete_group", format!("group:{}", group.id), group_detail(&group), now)
        .await?;
    tx.commit().await?;
    Ok(())
}

pub(super) async fn group(app: &App, id: &str) -> Result<Group, CatalogError> {
    load_group(&mut *app.db.snapshot().await?, id).await
}

pub(super) async fn groups(
    app: &App,
    keyword: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<Group>, CatalogError> {
    Ok(store::groups(&mut *app.db.snapshot().await?, keyword, after, limit).await?)
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

fn apply_group(group: &mut Group, fields: GroupFields) -> Result<(), CatalogError> {
    if let Some(name) = fields.name {
        group.name = parse_group_name(&name).map_err(invalid("name"))?;
    }
    if let Some(alias) = fields.alias {
        group.alias = parse_text(&alias, 1, MAX_GROUP_NAME).map_err(invalid("alias"))?;
    }
    if let Some(description) = fields.description {
        group.description = parse_text(&description, 0, MAX_DESCRIPTION).map_err(invalid("description"))?;
    }
    group.security_level = fields.security_level.unwrap_or(group.security_level);
    if let Some(mut apis) = fields.apis {
        apis.sort();
        apis.dedup();
        if apis.len() > MAX_GROUP_APIS {
            let reason = format!("has {} entries, {MAX_GROUP_APIS} at most", apis.len());
            return Err(CatalogError::Invalid { field: "apis", reason });
        }
        group.apis = apis;
    }
    Ok(())
}

/// Records the change and stamps the APIs whose entries it altered.
async fn directory_changed(conn: &mut Conn, uids: &[ApiUid], now: UnixMillis) -> Result<(), DbError> {
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

async fn load_group(conn: &mut Conn, id: &str) -> Result<Group, CatalogError> {
    store::group(conn, id).await?.ok_or_else(|| CatalogError::NotFound { what: format!("group {id}") })
}

async fn require_apis(conn: &mut Conn, uids: &[ApiUid]) -> Result<(), CatalogError> {
    let known = store::known_apis(conn, uids).await?;
    match uids.iter().find(|uid| known.iter().all(|api| api.uid != **uid)) {
        Some(uid) => Err(CatalogError::UnknownApi { uid: uid.clone() }),
        None => Ok(()),
    }
}

fn require_version(expected: Option<i64>, present: i64) -> Result<(), CatalogError> {
    match expected {
        Some(expected) if expected != present => Err(CatalogError::Version { expected, present }),
        Some(_) | None => Ok(()),
    }
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

fn group_collision(error: DbError, group: &Group) -> CatalogError {
    if error.violates("api_groups_name_key") {
        CatalogError::GroupExists { field: "name", value: group.name.clone() }
    } else if error.violates("api_groups_alias_key") {
        CatalogError::GroupExists { field: "alias", value: group.alias.clone() }
    } else {
        error.into()
    }
}

fn invalid(field: &'static str) -> impl Fn(String) -> CatalogError {
    move |reason| CatalogError::Invalid { field, reason }
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

fn group_detail(group: &Group) -> serde_json::Value {
    json!({ "name": group.name, "security_level": group.security_level, "apis": group.apis })
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
