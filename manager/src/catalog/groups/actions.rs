//! What is done with groups and scopes: one function per use case, one named transaction each.
//! What ends in `_in` does all of it in a transaction of the caller's, who holds the catalogue.

use gate::id::{ApiUid, GroupId};
use gate::time::UnixMillis;
use serde_json::json;

use super::model::{Group, GroupKind, MAX_GROUP_APIS, MAX_GROUP_NAME, parse_group_name};
use super::store::{self, GroupFilter};
use crate::app::App;
use crate::audit;
use crate::catalog::apis::{directory_changed, known_apis};
use crate::catalog::error::{CatalogError, invalid, require_version};
use crate::catalog::held::{Held, hold};
use crate::catalog::model::{MAX_DESCRIPTION, SecurityLevel, parse_text};
use crate::db::{Conn, DbError};

/// The fields of a group or scope; None leaves as it is, or takes the default.
#[derive(Clone, Debug, Default)]
pub struct GroupFields {
    /// Required in a new one.
    pub name: Option<String>,
    /// Default: the name.
    pub alias: Option<String>,
    /// Default: none.
    pub description: Option<String>,
    /// Default: `SYSTEM`.
    pub security_level: Option<SecurityLevel>,
    /// All of its APIs. Default: none.
    pub apis: Option<Vec<ApiUid>>,
}

pub(in crate::catalog) async fn create(
    app: &App,
    by: &str,
    kind: GroupKind,
    fields: GroupFields,
) -> Result<Group, CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.create_group").await?;
    let held = hold(&mut tx).await?;
    let group = create_in(&mut tx, &held, app, by, kind, fields, now).await?;
    tx.commit().await?;
    Ok(group)
}

/// Makes a group or a scope.
pub async fn create_in(
    conn: &mut Conn,
    _: &Held,
    app: &App,
    by: &str,
    kind: GroupKind,
    fields: GroupFields,
    now: UnixMillis,
) -> Result<Group, CatalogError> {
    let name = parse_group_name(fields.name.as_deref().unwrap_or_default()).map_err(invalid("name"))?;
    let mut group = Group {
        id: GroupId(app.random.id(kind.id_prefix())),
        kind,
        alias: name.clone(),
        name,
        description: String::new(),
        security_level: SecurityLevel::System,
        apis: Vec::new(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    apply(&mut group, fields)?;
    require_apis(conn, &group.apis).await?;
    store::insert_group(conn, &group).await.map_err(|error| taken(error, &group))?;
    directory_changed(conn, &group.apis, now).await?;
    record(conn, by, "create", &group, view(&group), now).await?;
    Ok(group)
}

pub(in crate::catalog) async fn update(
    app: &App,
    by: &str,
    kind: GroupKind,
    id: &str,
    expected: Option<i64>,
    fields: GroupFields,
) -> Result<Group, CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.update_group").await?;
    let held = hold(&mut tx).await?;
    let group = update_in(&mut tx, &held, by, (kind, id), expected, fields, now).await?;
    tx.commit().await?;
    Ok(group)
}

/// Changes what `fields` name.
pub async fn update_in(
    conn: &mut Conn,
    _: &Held,
    by: &str,
    (kind, id): (GroupKind, &str),
    expected: Option<i64>,
    fields: GroupFields,
    now: UnixMillis,
) -> Result<Group, CatalogError> {
    let before = load(conn, kind, id).await?;
    require_version(expected, before.version)?;
    let mut group = before.clone();
    apply(&mut group, fields)?;
    if group == before {
        return Ok(before);
    }
    (group.updated_at, group.version) = (now, before.version + 1);
    require_apis(conn, &group.apis).await?;
    if !store::update_group(conn, &group, before.version).await.map_err(|error| taken(error, &group))? {
        return Err(CatalogError::Version { expected: before.version, present: before.version + 1 });
    }
    // Only those that came or went have another entry.
    let joined = group.apis.iter().filter(|uid| before.apis.binary_search(uid).is_err());
    let left = before.apis.iter().filter(|uid| group.apis.binary_search(uid).is_err());
    let touched: Vec<_> = joined.chain(left).cloned().collect();
    directory_changed(conn, &touched, now).await?;
    let detail = json!({ "name": group.name, "changed": audit::changed(&view(&before), &view(&group)) });
    record(conn, by, "update", &group, detail, now).await?;
    Ok(group)
}

pub(in crate::catalog) async fn delete(
    app: &App,
    by: &str,
    kind: GroupKind,
    id: &str,
    expected: Option<i64>,
) -> Result<(), CatalogError> {
    let now = app.now();
    let mut tx = app.db.write("catalog.delete_group").await?;
    let held = hold(&mut tx).await?;
    delete_in(&mut tx, &held, by, (kind, id), expected, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes one that nobody has been given.
pub async fn delete_in(
    conn: &mut Conn,
    _: &Held,
    by: &str,
    (kind, id): (GroupKind, &str),
    expected: Option<i64>,
    now: UnixMillis,
) -> Result<(), CatalogError> {
    let group = load(conn, kind, id).await?;
    require_version(expected, group.version)?;
    let holders = store::holders(conn, &group.id).await?;
    if !holders.is_empty() {
        return Err(CatalogError::GroupInUse { kind, name: group.name, holders });
    }
    store::delete_group(conn, &group.id).await.map_err(|error| {
        // Given to a client in this very moment: the constraint saw it first.
        if error.violates_reference() {
            CatalogError::GroupInUse { kind, name: group.name.clone(), holders: Vec::new() }
        } else {
            error.into()
        }
    })?;
    directory_changed(conn, &group.apis, now).await?;
    record(conn, by, "delete", &group, view(&group), now).await?;
    Ok(())
}

pub(in crate::catalog) async fn show(app: &App, kind: GroupKind, id: &str) -> Result<Group, CatalogError> {
    load(&mut *app.db.snapshot().await?, kind, id).await
}

pub(in crate::catalog) async fn list(
    app: &App,
    kind: GroupKind,
    filter: &GroupFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<Group>, CatalogError> {
    Ok(store::groups(&mut *app.db.snapshot().await?, kind, filter, after, limit).await?)
}

/// Takes over what is given.
fn apply(group: &mut Group, fields: GroupFields) -> Result<(), CatalogError> {
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

async fn load(conn: &mut Conn, kind: GroupKind, id: &str) -> Result<Group, CatalogError> {
    store::group(conn, kind, id)
        .await?
        .ok_or_else(|| CatalogError::NotFound { what: format!("{} {id}", kind.as_str()) })
}

async fn require_apis(conn: &mut Conn, uids: &[ApiUid]) -> Result<(), CatalogError> {
    let known = known_apis(conn, uids).await?;
    let unknown: Vec<ApiUid> =
        uids.iter().filter(|uid| known.binary_search_by(|api| api.uid.cmp(uid)).is_err()).cloned().collect();
    if unknown.is_empty() { Ok(()) } else { Err(CatalogError::UnknownApis { field: "apis", uids: unknown }) }
}

fn taken(error: DbError, group: &Group) -> CatalogError {
    if error.violates("api_groups_name_key") {
        CatalogError::GroupExists { kind: group.kind, field: "name", value: group.name.clone() }
    } else if error.violates("api_groups_alias_key") {
        CatalogError::GroupExists { kind: group.kind, field: "alias", value: group.alias.clone() }
    } else {
        error.into()
    }
}

/// As the audit trail shows it.
fn view(group: &Group) -> serde_json::Value {
    json!({
        "name": group.name,
        "alias": group.alias,
        "description": group.description,
        "security_level": group.security_level,
        "apis": group.apis,
    })
}

async fn record(
    conn: &mut Conn,
    by: &str,
    verb: &'static str,
    group: &Group,
    detail: serde_json::Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    let action = match (group.kind, verb) {
        (GroupKind::Group, "create") => "catalog.create_group",
        (GroupKind::Group, "update") => "catalog.update_group",
        (GroupKind::Group, _) => "catalog.delete_group",
        (GroupKind::Scope, "create") => "catalog.create_scope",
        (GroupKind::Scope, "update") => "catalog.update_scope",
        (GroupKind::Scope, _) => "catalog.delete_scope",
    };
    let subject = format!("{}:{}", group.kind.as_str(), group.id);
    audit::record(conn, audit::Entry { actor: by.into(), action, subject, detail }, now).await
}
