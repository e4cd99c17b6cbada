//! What is done with groups: one function per use case, one named transaction each.

use gate::id::{ApiUid, GroupId};
use gate::time::UnixMillis;
use serde_json::json;

use super::model::{Group, MAX_GROUP_APIS, MAX_GROUP_NAME, parse_group_name};
use super::store;
use crate::app::App;
use crate::audit;
use crate::catalog::SecurityLevel;
use crate::catalog::apis::{directory_changed, known_apis};
use crate::catalog::error::{CatalogError, invalid, require_version};
use crate::catalog::model::{MAX_DESCRIPTION, parse_text};
use crate::db::{Conn, DbError};

/// The fields of a group; None leaves as it is, or takes the default.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupFields {
    pub name: Option<String>,
    pub alias: Option<String>,
    pub description: Option<String>,
    pub security_level: Option<SecurityLevel>,
    pub apis: Option<Vec<ApiUid>>,
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

async fn load_group(conn: &mut Conn, id: &str) -> Result<Group, CatalogError> {
    store::group(conn, id).await?.ok_or_else(|| CatalogError::NotFound { what: format!("group {id}") })
}

async fn require_apis(conn: &mut Conn, uids: &[ApiUid]) -> Result<(), CatalogError> {
    let known = known_apis(conn, uids).await?;
    match uids.iter().find(|uid| known.iter().all(|api| api.uid != **uid)) {
        Some(uid) => Err(CatalogError::UnknownApi { uid: uid.clone() }),
        None => Ok(()),
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
