//! Tables `apis`, `api_routes` and `removed_apis`.

use std::collections::BTreeMap;

use super::model::{Api, ApiName, ApiSource};
use super::path::path_key;
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
                enabled, audience, unsigned_forms, source, created_at, updated_at, version
           FROM apis
          WHERE revision > $1
          ORDER BY uid",
    )
    .bind(after)
    .fetch_all(&mut *conn)
    .await?;
    let memberships = sqlx::query(
        "-- catalog.entries
         SELECT m.api_uid, m.group_id
           FROM api_group_apis m
           JOIN apis a ON a.uid = m.api_uid
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
                           no_auth, enabled, audience, unsigned_forms, source, search, sort_key, revision,
                           created_at, updated_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0, $18, $19, $20)",
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
    .bind(source_column(api.source))
    .bind(search_column(api))
    .bind(api.title())
    .bind(api.created_at.0)
    .bind(api.updated_at.0)
    .bind(api.version)
    .execute(&mut *conn)
    .await?;
    insert_routes(conn, api).await
}

/// Saves what an update may change. False: another update came first.
pub(super) async fn update_api(conn: &mut Conn, api: &Api, read_version: i64) -> Result<bool, DbError> {
    let (path_kind, path) = path_columns(&api.path);
    let done = sqlx::query(
        "-- catalog.update_api
         UPDATE apis
            SET name = $1, description = $2, hosts = $3, methods = $4, path_kind = $5, path = $6, accepts = $7,
                no_auth = $8, enabled = $9, audience = $10, unsigned_forms = $11, search = $12,
                updated_at = $13, version = $14
          WHERE uid = $15
            AND version = $16",
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
    delete_routes(conn, &api.uid).await?;
    insert_routes(conn, api).await?;
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

/// Locks the rows of these APIs, one after the other, for the rest of the transaction.
pub(super) async fn hold(conn: &mut Conn, uids: &[ApiUid]) -> Result<(), DbError> {
    for uid in uids {
        sqlx::query(
            "-- catalog.hold
             UPDATE apis
                SET revision = revision
              WHERE uid = $1",
        )
        .bind(uid.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The API of that uid.
pub async fn api(conn: &mut Conn, uid: &str) -> Result<Option<Api>, DbError> {
    let row = sqlx::query(
        "-- catalog.api
         SELECT uid, module, api_id, name, description, hosts, methods, path_kind, path, accepts, no_auth,
                enabled, audience, unsigned_forms, source, created_at, updated_at, version
           FROM apis
          WHERE uid = $1",
    )
    .bind(uid)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(with_groups(conn, &[row]).await?.pop())
}

/// What a list of APIs is narrowed by; absent = not.
#[derive(Clone, Debug, Default)]
pub(super) struct ApiFilter {
    pub keyword: Option<String>,
    pub module: Option<String>,
    pub group: Option<String>,
    pub enabled: Option<bool>,
}

pub(super) async fn apis(
    conn: &mut Conn,
    filter: &ApiFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<Api>, DbError> {
    let rows = sqlx::query(
        "-- catalog.apis
         SELECT uid, module, api_id, name, description, hosts, methods, path_kind, path, accepts, no_auth,
                enabled, audience, unsigned_forms, source, created_at, updated_at, version
           FROM apis
          WHERE sort_key > $1
            AND search LIKE $2 ESCAPE '\\'
            AND ($3 = '' OR module = $3)
            AND ($4 = '' OR uid IN (SELECT api_uid FROM api_group_apis WHERE group_id = $4))
            AND ($5 < 0 OR enabled = $5)
          ORDER BY sort_key
          LIMIT $6",
    )
    .bind(after)
    .bind(like_pattern(filter.keyword.as_deref()))
    .bind(filter.module.as_deref().unwrap_or_default())
    .bind(filter.group.as_deref().unwrap_or_default())
    .bind(filter.enabled.map_or(-1, i64::from))
    .bind(limit + 1)
    .fetch_all(&mut *conn)
    .await?;
    with_groups(conn, &rows).await
}

/// Who answers at one of the places of `api` already.
pub(super) async fn rival(conn: &mut Conn, api: &Api) -> Result<Option<Rival>, DbError> {
    let path = path_key(&api.path);
    for (host, method) in api.places() {
        let row = sqlx::query(
            "-- catalog.rival
             SELECT a.uid, a.module, a.api_id
               FROM api_routes r
               JOIN apis a ON a.uid = r.api_uid
              WHERE r.host = $1
                AND r.method = $2
                AND r.path = $3
                AND r.api_uid <> $4",
        )
        .bind(host)
        .bind(method)
        .bind(&path)
        .bind(api.uid.as_str())
        .fetch_optional(&mut *conn)
        .await?;
        if let Some(row) = row {
            let (module, id): (String, String) = (row.try_get("module")?, row.try_get("api_id")?);
            return Ok(Some(Rival {
                uid: ApiUid(row.try_get("uid")?),
                title: format!("{module}/{id}"),
                host: host.into(),
                method: method.into(),
            }));
        }
    }
    Ok(None)
}

/// An API that answers where another one wants to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its uid.
    pub uid: ApiUid,
    /// `module/id`
    pub title: String,
    /// The host they share; empty = every host.
    pub host: String,
    /// The method they share; empty = every method.
    pub method: String,
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

async fn delete_routes(conn: &mut Conn, uid: &ApiUid) -> Result<(), DbError> {
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
         SELECT api_uid, group_id
           FROM api_group_apis
          WHERE api_uid IN ({})
          ORDER BY api_uid, group_id",
        placeholders(1, rows.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for row in rows {
        query = query.bind(row.try_get::<String, _>("uid")?);
    }
    let groups = group_memberships(&query.fetch_all(conn).await?)?;
    rows.iter().map(|row| read_api(row, &groups)).collect()
}

fn group_memberships(rows: &[AnyRow]) -> Result<BTreeMap<String, Vec<GroupId>>, DbError> {
    let mut groups: BTreeMap<String, Vec<GroupId>> = BTreeMap::new();
    for row in rows {
        groups.entry(row.try_get("api_uid")?).or_default().push(GroupId(row.try_get("group_id")?));
    }
    Ok(groups)
}

fn read_api(row: &AnyRow, groups: &BTreeMap<String, Vec<GroupId>>) -> Result<Api, DbError> {
    let uid: String = row.try_get("uid")?;
    let words = |column: &str| -> Result<Vec<String>, DbError> {
        Ok(row.try_get::<String, _>(column)?.split_ascii_whitespace().map(str::to_string).collect())
    };
    let (module, id): (String, String) = (row.try_get("module")?, row.try_get("api_id")?);
    let path: String = row.try_get("path")?;
    let path = match row.try_get::<String, _>("path_kind")?.as_str() {
        "exact" => PathRule::Exact(path),
        "prefix" => PathRule::Prefix(path),
        "template" => PathRule::Template(path),
        _ => return Err(bad("path_kind", &uid)),
    };
    let accepts = words("accepts")?
        .iter()
        .map(|kind| parse_kind(kind).ok_or_else(|| bad("accepts", &uid)))
        .collect::<Result<_, _>>()?;
    let source = match row.try_get::<String, _>("source")?.as_str() {
        "registered" => ApiSource::Registered,
        _ => return Err(bad("source", &uid)),
    };
    Ok(Api {
        module: ApiName::module(&module).map_err(|_| bad("module", &uid))?,
        id: ApiName::api_id(&id).map_err(|_| bad("api_id", &uid))?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        hosts: words("hosts")?,
        methods: words("methods")?,
        path,
        accepts,
        no_auth: row.try_get::<i64, _>("no_auth")? != 0,
        enabled: row.try_get::<i64, _>("enabled")? != 0,
        audience: parse_audience(row.try_get("audience")?).ok_or_else(|| bad("audience", &uid))?,
        unsigned_forms: row.try_get::<i64, _>("unsigned_forms")? != 0,
        source,
        groups: groups.get(&uid).cloned().unwrap_or_default(),
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        version: row.try_get("version")?,
        uid: ApiUid(uid),
    })
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
    kinds.iter().map(|kind| kind_text(*kind)).collect::<Vec<_>>().join(" ")
}

fn kind_text(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Dgrk => "dgrk",
        CredentialKind::XApiKey => "x_api_key",
        CredentialKind::Bearer => "bearer",
        CredentialKind::Basic => "basic",
    }
}

fn parse_kind(text: &str) -> Option<CredentialKind> {
    [CredentialKind::Dgrk, CredentialKind::XApiKey, CredentialKind::Bearer, CredentialKind::Basic]
        .into_iter()
        .find(|kind| kind_text(*kind) == text)
}

fn source_column(source: ApiSource) -> &'static str {
    match source {
        ApiSource::Registered => "registered",
    }
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
    folded(&[api.module.as_str(), api.id.as_str(), &api.name, path])
}
