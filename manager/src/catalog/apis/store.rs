//! Tables `apis`, `api_routes` and `removed_apis`.

use std::collections::BTreeMap;

use super::model::{Api, ApiName, ApiSource, credential_name};
use super::path::path_key;
use super::place::Place;
use crate::catalog::groups::GroupKind;
use crate::catalog::model::folded;
use crate::db::{Conn, DbError, MAX_IN, like_pattern, placeholders};
use gate::id::{ApiUid, GroupId, Revision};
use gate::request::CredentialKind;
use gate::time::UnixMillis;
use gate::wire::directory::{ApiEntry, Audience, PathRule};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

/// The directory, or what of it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// All APIs, or those that changed.
    pub apis: Vec<ApiEntry>,
    /// Those that are gone; none when everything was asked for.
    pub removed: Vec<ApiUid>,
}

/// What other capabilities ask of an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSummary {
    /// Its uid.
    pub uid: ApiUid,
    /// Its module.
    pub module: String,
    /// Its id within the module.
    pub id: String,
    /// Its name.
    pub name: String,
    /// From where it may be called.
    pub audience: Audience,
    /// Whether calls are let in.
    pub enabled: bool,
}

/// The APIs as gates hold them: all, or what changed after revision `since`.
pub async fn entries(conn: &mut Conn, since: Option<Revision>) -> Result<Entries, DbError> {
    // -1: every API has a revision of 0 at least.
    let after = since.map_or(-1, |revision| i64::try_from(revision.0).unwrap_or(i64::MAX));
    let rows = sqlx::query(
        "-- catalog.entries
         SELECT uid, module, api_id, name, description, hosts, methods, path_kind, path, accepts, no_auth,
                enabled, audience, unsigned_forms, labels, enable_at, disable_at, source, created_at,
                updated_at, version
           FROM apis
          WHERE revision > $1
          ORDER BY uid",
    )
    .bind(after)
    .fetch_all(&mut *conn)
    .await?;
    let memberships = sqlx::query(
        "-- catalog.entries
         SELECT m.api_uid, m.group_id, g.kind
           FROM api_group_apis m
           JOIN apis a ON a.uid = m.api_uid
           JOIN api_groups g ON g.id = m.group_id
          WHERE a.revision > $1
          ORDER BY m.api_uid, m.group_id",
    )
    .bind(after)
    .fetch_all(&mut *conn)
    .await?;
    let groups = group_memberships(&memberships)?;
    let apis =
        rows.iter().map(|row| Ok(read_api(row, &groups)?.entry())).collect::<Result<Vec<_>, DbError>>()?;
    let removed = match since {
        None => Vec::new(),
        Some(_) => sqlx::query(
            "-- catalog.entries
             SELECT uid
               FROM removed_apis
              WHERE revision > $1
              ORDER BY uid",
        )
        .bind(after)
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| Ok(ApiUid(row.try_get("uid")?)))
        .collect::<Result<_, DbError>>()?,
    };
    Ok(Entries { apis, removed })
}

/// Those of `uids` that exist, in order of their uids.
pub async fn known_apis(conn: &mut Conn, uids: &[ApiUid]) -> Result<Vec<ApiSummary>, DbError> {
    let mut known = Vec::with_capacity(uids.len());
    for part in uids.chunks(MAX_IN) {
        let sql = format!(
            "-- catalog.known_apis
             SELECT uid, module, api_id, name, audience, enabled
               FROM apis
              WHERE uid IN ({})",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for uid in part {
            query = query.bind(uid.as_str());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let uid: String = row.try_get("uid")?;
            let audience = parse_audience(row.try_get("audience")?).ok_or_else(|| bad("audience", &uid))?;
            known.push(ApiSummary {
                uid: ApiUid(uid),
                module: row.try_get("module")?,
                id: row.try_get("api_id")?,
                name: row.try_get("name")?,
                audience,
                enabled: row.try_get::<i64, _>("enabled")? != 0,
            });
        }
    }
    known.sort_by(|a, b| a.uid.cmp(&b.uid));
    known.dedup();
    Ok(known)
}

pub(super) async fn insert_api(conn: &mut Conn, api: &Api) -> Result<(), DbError> {
    let (path_kind, path) = path_columns(&api.path);
    sqlx::query(
        "-- catalog.create_api
         INSERT INTO apis (uid, module, api_id, name, description, hosts, methods, path_kind, path, accepts,
                           no_auth, enabled, audience, unsigned_forms, labels, label_keys, enable_at, disable_at,
                           source, search, sort_key, revision, created_at, updated_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                 0, $22, $23, $24)",
    )
    .bind(api.uid.as_str())
    .bind(api.module.as_str())
    .bind(api.id.as_str())
    .bind(&api.name)
    .bind(&api.description)
    .bind(api.hosts.join(" "))
    .bind(api.methods.join(" "))
    .bind(path_kind)
    .bind(path)
    .bind(accepts_column(&api.accepts))
    .bind(i64::from(api.no_auth))
    .bind(i64::from(api.enabled))
    .bind(audience_column(api.audience))
    .bind(i64::from(api.unsigned_forms))
    .bind(api.labels.join("\n"))
    .bind(label_keys(api))
    .bind(api.enable_at.map(|at| at.0))
    .bind(api.disable_at.map(|at| at.0))
    .bind(api.source.as_str())
    .bind(search_column(api))
    .bind(api.title())
    .bind(api.created_at.0)
    .bind(api.updated_at.0)
    .bind(api.version)
    .execute(&mut *conn)
    .await?;
    insert_routes(conn, api).await
}

/// Saves what an update may change; its routes too if it `moved`. False: another update came first.
pub(super) async fn update_api(
    conn: &mut Conn,
    api: &Api,
    read_version: i64,
    moved: bool,
) -> Result<bool, DbError> {
    let (path_kind, path) = path_columns(&api.path);
    let done = sqlx::query(
        "-- catalog.update_api
         UPDATE apis
            SET name = $1, description = $2, hosts = $3, methods = $4, path_kind = $5, path = $6, accepts = $7,
                no_auth = $8, enabled = $9, audience = $10, unsigned_forms = $11, labels = $12, label_keys = $13,
                enable_at = $14, disable_at = $15, search = $16, updated_at = $17, version = $18
          WHERE uid = $19
            AND version = $20",
    )
    .bind(&api.name)
    .bind(&api.description)
    .bind(api.hosts.join(" "))
    .bind(api.methods.join(" "))
    .bind(path_kind)
    .bind(path)
    .bind(accepts_column(&api.accepts))
    .bind(i64::from(api.no_auth))
    .bind(i64::from(api.enabled))
    .bind(audience_column(api.audience))
    .bind(i64::from(api.unsigned_forms))
    .bind(api.labels.join("\n"))
    .bind(label_keys(api))
    .bind(api.enable_at.map(|at| at.0))
    .bind(api.disable_at.map(|at| at.0))
    .bind(search_column(api))
    .bind(api.updated_at.0)
    .bind(api.version)
    .bind(api.uid.as_str())
    .bind(read_version)
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() != 1 {
        return Ok(false);
    }
    if moved {
        delete_routes(conn, &api.uid).await?;
        insert_routes(conn, api).await?;
    }
    Ok(true)
}

pub(super) async fn delete_api(conn: &mut Conn, uid: &ApiUid) -> Result<(), DbError> {
    delete_routes(conn, uid).await?;
    sqlx::query(
        "-- catalog.delete_api
         DELETE FROM apis
          WHERE uid = $1",
    )
    .bind(uid.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// Remembers for holders of older directories that an API is gone.
pub(super) async fn bury_api(conn: &mut Conn, uid: &ApiUid, revision: Revision) -> Result<(), DbError> {
    sqlx::query(
        "-- catalog.delete_api
         INSERT INTO removed_apis (uid, revision)
         VALUES ($1, $2)",
    )
    .bind(uid.as_str())
    .bind(number(revision))
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks the APIs as changed with `revision`.
pub(super) async fn stamp(conn: &mut Conn, uids: &[ApiUid], revision: Revision) -> Result<(), DbError> {
    for part in uids.chunks(MAX_IN) {
        let sql = format!(
            "-- catalog.stamp
             UPDATE apis
                SET revision = $1
              WHERE uid IN ({})",
            placeholders(2, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(number(revision));
        for uid in part {
            query = query.bind(uid.as_str());
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// The API of that uid.
pub async fn api(conn: &mut Conn, uid: &str) -> Result<Option<Api>, DbError> {
    let row = sqlx::query(
        "-- catalog.api
         SELECT uid, module, api_id, name, description, hosts, methods, path_kind, path, accepts, no_auth,
                enabled, audience, unsigned_forms, labels, enable_at, disable_at, source, created_at,
                updated_at, version
           FROM apis
          WHERE uid = $1",
    )
    .bind(uid)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(with_groups(conn, &[row]).await?.pop())
}

/// The APIs of these uids that exist, by module and id.
pub async fn apis_of(conn: &mut Conn, uids: &[ApiUid]) -> Result<Vec<Api>, DbError> {
    let mut apis = Vec::with_capacity(uids.len());
    for part in uids.chunks(MAX_IN) {
        let sql = format!(
            "-- catalog.apis_of
             SELECT uid, module, api_id, name, description, hosts, methods, path_kind, path, accepts, no_auth,
                    enabled, audience, unsigned_forms, labels, enable_at, disable_at, source, created_at,
                    updated_at, version
               FROM apis
              WHERE uid IN ({})",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for uid in part {
            query = query.bind(uid.as_str());
        }
        let rows = query.fetch_all(&mut *conn).await?;
        apis.extend(with_groups(conn, &rows).await?);
    }
    apis.sort_by_key(Api::title);
    Ok(apis)
}

/// Up to `limit` APIs that are planned to be switched until `now`, in order of their uids.
pub(super) async fn due(conn: &mut Conn, now: UnixMillis, limit: i64) -> Result<Vec<Api>, DbError> {
    let rows = sqlx::query(
        "-- catalog.due
         SELECT uid, module, api_id, name, description, hosts, methods, path_kind, path, accepts, no_auth,
                enabled, audience, unsigned_forms, labels, enable_at, disable_at, source, created_at,
                updated_at, version
           FROM apis
          WHERE enable_at <= $1
             OR disable_at <= $1
          ORDER BY uid
          LIMIT $2",
    )
    .bind(now.0)
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    with_groups(conn, &rows).await
}

/// What a list of APIs is narrowed by; absent = not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiFilter {
    /// Module, id, name, description or path contain it.
    pub keyword: Option<String>,
    /// Its APIs alone.
    pub module: Option<String>,
    /// Those that this group or scope contains.
    pub group: Option<String>,
    /// Those with this label, whatever its case.
    pub label: Option<String>,
    /// Those that came like this.
    pub source: Option<ApiSource>,
    /// Those that callers of one of its sides may reach.
    pub audience: Option<Audience>,
    /// Those whose calls are let in, or are not.
    pub enabled: Option<bool>,
    /// Those that accept it.
    pub credential: Option<AcceptedCredential>,
}

/// What an API may be looked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedCredential {
    /// None is asked for.
    NoAuth,
    /// This one is among those it accepts.
    Kind(CredentialKind),
}

/// Up to `limit + 1` APIs after the sort key `after`.
pub async fn apis(conn: &mut Conn, filter: &ApiFilter, after: &str, limit: i64) -> Result<Vec<Api>, DbError> {
    let label = match &filter.label {
        // As a line of its own among the folded labels.
        Some(label) => {
            let escaped = like_pattern(Some(label));
            let escaped =
                escaped.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).unwrap_or_default();
            format!("%\n{escaped}\n%")
        }
        None => like_pattern(None),
    };
    let (no_auth, kind) = match filter.credential {
        Some(AcceptedCredential::NoAuth) => (1, ""),
        Some(AcceptedCredential::Kind(kind)) => (-1, credential_name(kind)),
        None => (-1, ""),
    };
    let rows = sqlx::query(
        "-- catalog.apis
         SELECT uid, module, api_id, name, description, hosts, methods, path_kind, path, accepts, no_auth,
                enabled, audience, unsigned_forms, labels, enable_at, disable_at, source, created_at,
                updated_at, version
           FROM apis
          WHERE sort_key > $1
            AND search LIKE $2 ESCAPE '\\'
            AND ($3 = '' OR module = $3)
            AND ($4 = '' OR uid IN (SELECT api_uid FROM api_group_apis WHERE group_id = $4))
            AND label_keys LIKE $5 ESCAPE '\\'
            AND ($6 = '' OR source = $6)
            AND ($7 < 0 OR enabled = $7)
            AND ($8 < 0 OR no_auth = $8)
            AND ' ' || accepts || ' ' LIKE $9
            AND ($10 = '' OR audience = 'both' OR audience = $10)
          ORDER BY sort_key
          LIMIT $11",
    )
    .bind(after)
    .bind(like_pattern(filter.keyword.as_deref()))
    .bind(filter.module.as_deref().unwrap_or_default())
    .bind(filter.group.as_deref().unwrap_or_default())
    .bind(label)
    .bind(filter.source.map_or("", ApiSource::as_str))
    .bind(filter.enabled.map_or(-1, i64::from))
    .bind(no_auth)
    .bind(if kind.is_empty() { "%".into() } else { format!("% {kind} %") })
    // Whoever calls from both sides reaches them all.
    .bind(match filter.audience {
        None | Some(Audience::Both) => "",
        Some(side) => audience_column(side),
    })
    .bind(limit + 1)
    .fetch_all(&mut *conn)
    .await?;
    with_groups(conn, &rows).await
}

/// The keys that list these APIs and are not revoked, `<name> (<id>) of <client>`. They stand above
/// the catalogue, which reads them and writes none.
pub(super) async fn keys_listing(
    conn: &mut Conn,
    uids: &[ApiUid],
) -> Result<BTreeMap<ApiUid, Vec<String>>, DbError> {
    let mut listing: BTreeMap<ApiUid, Vec<String>> = BTreeMap::new();
    for part in uids.chunks(MAX_IN) {
        let sql = format!(
            "-- catalog.keys_listing
             SELECT m.api_uid, k.id, k.alias, k.client_id
               FROM key_apis m
               JOIN keys k ON k.id = m.key_id
              WHERE k.state <> 'revoked'
                AND m.api_uid IN ({})
              ORDER BY k.id",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for uid in part {
            query = query.bind(uid.as_str());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let (key, name): (String, String) = (row.try_get("id")?, row.try_get("alias")?);
            let client: String = row.try_get("client_id")?;
            let uid = ApiUid(row.try_get("api_uid")?);
            listing.entry(uid).or_default().push(format!("{name} ({key}) of {client}"));
        }
    }
    Ok(listing)
}

/// Where every API answers.
pub(in crate::catalog) async fn places(conn: &mut Conn) -> Result<Vec<Place>, DbError> {
    let rows = sqlx::query(
        "-- catalog.places
         SELECT uid, sort_key, hosts, methods, path_kind, path
           FROM apis",
    )
    .fetch_all(conn)
    .await?;
    let place = |row: &AnyRow| {
        let uid: String = row.try_get("uid")?;
        let path = read_path(row, &uid)?;
        let (hosts, methods) = (words(row, "hosts")?, words(row, "methods")?);
        Ok(Place::new(ApiUid(uid), row.try_get("sort_key")?, hosts, methods, &path))
    };
    rows.iter().map(place).collect()
}

async fn insert_routes(conn: &mut Conn, api: &Api) -> Result<(), DbError> {
    let path = path_key(&api.path);
    for (host, method) in api.places() {
        sqlx::query(
            "-- catalog.routes
             INSERT INTO api_routes (host, method, path, api_uid)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(host)
        .bind(method)
        .bind(&path)
        .bind(api.uid.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Leaves its places to others.
pub(super) async fn delete_routes(conn: &mut Conn, uid: &ApiUid) -> Result<(), DbError> {
    sqlx::query(
        "-- catalog.routes
         DELETE FROM api_routes
          WHERE api_uid = $1",
    )
    .bind(uid.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

async fn with_groups(conn: &mut Conn, rows: &[AnyRow]) -> Result<Vec<Api>, DbError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "-- catalog.groups_of
         SELECT m.api_uid, m.group_id, g.kind
           FROM api_group_apis m
           JOIN api_groups g ON g.id = m.group_id
          WHERE m.api_uid IN ({})
          ORDER BY m.api_uid, m.group_id",
        placeholders(1, rows.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for row in rows {
        query = query.bind(row.try_get::<String, _>("uid")?);
    }
    let groups = group_memberships(&query.fetch_all(conn).await?)?;
    rows.iter().map(|row| read_api(row, &groups)).collect()
}

/// The groups and the scopes of each API.
type Memberships = BTreeMap<String, (Vec<GroupId>, Vec<GroupId>)>;

fn group_memberships(rows: &[AnyRow]) -> Result<Memberships, DbError> {
    let mut memberships = Memberships::new();
    for row in rows {
        let (groups, scopes) = memberships.entry(row.try_get("api_uid")?).or_default();
        let id: String = row.try_get("group_id")?;
        match GroupKind::parse(row.try_get("kind")?) {
            Some(GroupKind::Group) => groups.push(GroupId(id)),
            Some(GroupKind::Scope) => scopes.push(GroupId(id)),
            None => return Err(DbError::Inconsistency { table: "api_groups", column: "kind", row: id }),
        }
    }
    Ok(memberships)
}

fn read_api(row: &AnyRow, memberships: &Memberships) -> Result<Api, DbError> {
    let uid: String = row.try_get("uid")?;
    let (module, id): (String, String) = (row.try_get("module")?, row.try_get("api_id")?);
    let accepts = words(row, "accepts")?
        .iter()
        .map(|kind| parse_kind(kind).ok_or_else(|| bad("accepts", &uid)))
        .collect::<Result<_, _>>()?;
    let (groups, scopes) = memberships.get(&uid).cloned().unwrap_or_default();
    let labels: String = row.try_get("labels")?;
    Ok(Api {
        module: ApiName::module(&module).map_err(|_| bad("module", &uid))?,
        id: ApiName::api_id(&id).map_err(|_| bad("api_id", &uid))?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        hosts: words(row, "hosts")?,
        methods: words(row, "methods")?,
        path: read_path(row, &uid)?,
        accepts,
        no_auth: row.try_get::<i64, _>("no_auth")? != 0,
        enabled: row.try_get::<i64, _>("enabled")? != 0,
        audience: parse_audience(row.try_get("audience")?).ok_or_else(|| bad("audience", &uid))?,
        unsigned_forms: row.try_get::<i64, _>("unsigned_forms")? != 0,
        labels: labels.lines().map(str::to_string).collect(),
        enable_at: row.try_get::<Option<i64>, _>("enable_at")?.map(UnixMillis),
        disable_at: row.try_get::<Option<i64>, _>("disable_at")?.map(UnixMillis),
        source: ApiSource::parse(row.try_get("source")?).ok_or_else(|| bad("source", &uid))?,
        groups,
        scopes,
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        version: row.try_get("version")?,
        uid: ApiUid(uid),
    })
}

/// A column of words separated by spaces.
fn words(row: &AnyRow, column: &str) -> Result<Vec<String>, DbError> {
    Ok(row.try_get::<String, _>(column)?.split_ascii_whitespace().map(str::to_string).collect())
}

fn read_path(row: &AnyRow, uid: &str) -> Result<PathRule, DbError> {
    let path: String = row.try_get("path")?;
    match row.try_get::<String, _>("path_kind")?.as_str() {
        "exact" => Ok(PathRule::Exact(path)),
        "prefix" => Ok(PathRule::Prefix(path)),
        "template" => Ok(PathRule::Template(path)),
        _ => Err(bad("path_kind", uid)),
    }
}

fn bad(column: &'static str, uid: &str) -> DbError {
    DbError::Inconsistency { table: "apis", column, row: uid.into() }
}

fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn path_columns(rule: &PathRule) -> (&'static str, &str) {
    match rule {
        PathRule::Exact(path) => ("exact", path),
        PathRule::Prefix(path) => ("prefix", path),
        PathRule::Template(path) => ("template", path),
    }
}

fn accepts_column(kinds: &[CredentialKind]) -> String {
    kinds.iter().map(|kind| credential_name(*kind)).collect::<Vec<_>>().join(" ")
}

fn parse_kind(text: &str) -> Option<CredentialKind> {
    [CredentialKind::Dgrk, CredentialKind::XApiKey, CredentialKind::Bearer, CredentialKind::Basic]
        .into_iter()
        .find(|kind| credential_name(*kind) == text)
}

fn audience_column(audience: Audience) -> &'static str {
    match audience {
        Audience::Both => "both",
        Audience::Internal => "internal",
        Audience::External => "external",
    }
}

fn parse_audience(text: &str) -> Option<Audience> {
    [Audience::Both, Audience::Internal, Audience::External]
        .into_iter()
        .find(|audience| audience_column(*audience) == text)
}

fn search_column(api: &Api) -> String {
    let (_, path) = path_columns(&api.path);
    folded(&[api.module.as_str(), api.id.as_str(), &api.name, path, &api.description])
}

/// `\n<label>\n<label>\n`, folded.
fn label_keys(api: &Api) -> String {
    if api.labels.is_empty() { String::new() } else { folded(&[&format!("\n{}\n", api.labels.join("\n"))]) }
}
