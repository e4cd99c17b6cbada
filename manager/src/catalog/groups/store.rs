//! Tables `api_groups` and `api_group_apis`.

use std::collections::BTreeSet;

use gate::id::{ApiUid, GroupId};
use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{Group, GroupKind, GroupSummary, Holder};
use crate::catalog::model::{SecurityLevel, folded};
use crate::db::{Conn, DbError, Dialect, MAX_IN, like_pattern, placeholders};

/// What a list of groups is narrowed by; absent = not.
#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    /// Name, alias or description contain it.
    pub keyword: Option<String>,
    /// Those that a client of this level may be given.
    pub offered_to: Option<SecurityLevel>,
    /// Those that contain this API.
    pub api: Option<ApiUid>,
}

/// Those of the groups `ids` that exist, in order of their ids.
pub async fn known_groups(conn: &mut Conn, ids: &[GroupId]) -> Result<Vec<GroupSummary>, DbError> {
    known(conn, GroupKind::Group, ids).await
}

/// Those of the scopes `ids` that exist, in order of their ids.
pub async fn known_scopes(conn: &mut Conn, ids: &[GroupId]) -> Result<Vec<GroupSummary>, DbError> {
    known(conn, GroupKind::Scope, ids).await
}

async fn known(conn: &mut Conn, kind: GroupKind, ids: &[GroupId]) -> Result<Vec<GroupSummary>, DbError> {
    let mut known = Vec::with_capacity(ids.len());
    for part in ids.chunks(MAX_IN) {
        let sql = format!(
            "-- catalog.known_groups
             SELECT id, name, security_level
               FROM api_groups
              WHERE kind = $1
                AND id IN ({})",
            placeholders(2, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(kind.as_str());
        for id in part {
            query = query.bind(id.as_str());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let id: String = row.try_get("id")?;
            let security_level = read_level(&row, &id)?;
            known.push(GroupSummary { id: GroupId(id), name: row.try_get("name")?, security_level });
        }
    }
    known.sort_by(|a, b| a.id.cmp(&b.id));
    known.dedup();
    Ok(known)
}

/// Waits for those who are giving one of `ids` to somebody, and lets nobody else do so until the
/// transaction ends: a reference keeps a group from being deleted and from another alias. On SQLite
/// one transaction writes at a time.
pub async fn hold(conn: &mut Conn, dialect: Dialect, ids: &BTreeSet<GroupId>) -> Result<(), DbError> {
    if dialect == Dialect::Sqlite {
        return Ok(());
    }
    for id in ids {
        sqlx::query(
            "-- catalog.hold_group
             SELECT id
               FROM api_groups
              WHERE id = $1
                FOR UPDATE",
        )
        .bind(id.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Who has been given it: clients, then X-Api-Keys, in order of their ids.
pub(super) async fn holders(conn: &mut Conn, id: &GroupId) -> Result<Vec<Holder>, DbError> {
    let clients = sqlx::query(
        "-- catalog.holders
         SELECT client_id
           FROM client_groups
          WHERE group_id = $1
          UNION
         SELECT client_id
           FROM client_scopes
          WHERE scope_id = $1
          ORDER BY client_id",
    )
    .bind(id.as_str())
    .fetch_all(&mut *conn)
    .await?;
    let x_api_keys = sqlx::query(
        "-- catalog.holders
         SELECT x.id, x.alias, x.client_id
           FROM x_api_key_groups g
           JOIN x_api_keys x ON x.id = g.x_api_key_id
          WHERE g.group_id = $1
          ORDER BY x.id",
    )
    .bind(id.as_str())
    .fetch_all(conn)
    .await?;
    let mut holders = Vec::with_capacity(clients.len() + x_api_keys.len());
    for row in &clients {
        holders.push(Holder::Client { id: row.try_get("client_id")? });
    }
    for row in &x_api_keys {
        holders.push(Holder::XApiKey {
            id: row.try_get("id")?,
            alias: row.try_get("alias")?,
            client: row.try_get("client_id")?,
        });
    }
    Ok(holders)
}

pub(super) async fn insert_group(conn: &mut Conn, group: &Group) -> Result<(), DbError> {
    sqlx::query(
        "-- catalog.create_group
         INSERT INTO api_groups (id, kind, name, alias, description, security_level, search,
                                 created_at, updated_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(group.id.as_str())
    .bind(group.kind.as_str())
    .bind(&group.name)
    .bind(&group.alias)
    .bind(&group.description)
    .bind(group.security_level.as_str())
    .bind(folded(&[&group.name, &group.alias, &group.description]))
    .bind(group.created_at.0)
    .bind(group.updated_at.0)
    .bind(group.version)
    .execute(&mut *conn)
    .await?;
    replace_members(conn, group).await
}

/// Saves what an update may change. False: another update came first.
pub(super) async fn update_group(conn: &mut Conn, group: &Group, read_version: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- catalog.update_group
         UPDATE api_groups
            SET name = $1, alias = $2, description = $3, security_level = $4, search = $5,
                updated_at = $6, version = $7
          WHERE id = $8
            AND version = $9",
    )
    .bind(&group.name)
    .bind(&group.alias)
    .bind(&group.description)
    .bind(group.security_level.as_str())
    .bind(folded(&[&group.name, &group.alias, &group.description]))
    .bind(group.updated_at.0)
    .bind(group.version)
    .bind(group.id.as_str())
    .bind(read_version)
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() != 1 {
        return Ok(false);
    }
    replace_members(conn, group).await?;
    Ok(true)
}

/// A client that still has it refuses this by its foreign key.
pub(super) async fn delete_group(conn: &mut Conn, id: &GroupId) -> Result<(), DbError> {
    sqlx::query(
        "-- catalog.delete_group
         DELETE FROM api_group_apis
          WHERE group_id = $1",
    )
    .bind(id.as_str())
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "-- catalog.delete_group
         DELETE FROM api_groups
          WHERE id = $1",
    )
    .bind(id.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn group(conn: &mut Conn, kind: GroupKind, id: &str) -> Result<Option<Group>, DbError> {
    let row = sqlx::query(
        "-- catalog.group
         SELECT id, kind, name, alias, description, security_level, created_at, updated_at, version
           FROM api_groups
          WHERE id = $1
            AND kind = $2",
    )
    .bind(id)
    .bind(kind.as_str())
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => Ok(Some(with_members(conn, &row).await?)),
        None => Ok(None),
    }
}

/// Up to `limit + 1` of a kind after the name `after`, by name.
pub async fn groups(
    conn: &mut Conn,
    kind: GroupKind,
    filter: &GroupFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<Group>, DbError> {
    let levels = SecurityLevel::ALL.into_iter().filter(|level| match filter.offered_to {
        Some(client) => client.covers(*level),
        None => true,
    });
    let levels: Vec<_> = levels.map(SecurityLevel::as_str).collect();
    let sql = format!(
        "-- catalog.groups
         SELECT id, kind, name, alias, description, security_level, created_at, updated_at, version
           FROM api_groups
          WHERE kind = $1
            AND name > $2
            AND search LIKE $3 ESCAPE '\\'
            AND ($4 = '' OR id IN (SELECT group_id FROM api_group_apis WHERE api_uid = $4))
            AND security_level IN ({})
          ORDER BY name
          LIMIT $5",
        placeholders(6, levels.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(kind.as_str())
        .bind(after)
        .bind(like_pattern(filter.keyword.as_deref()))
        .bind(filter.api.as_ref().map_or("", ApiUid::as_str))
        .bind(limit + 1);
    for level in levels {
        query = query.bind(level);
    }
    let rows = query.fetch_all(&mut *conn).await?;
    let mut groups = Vec::with_capacity(rows.len());
    for row in &rows {
        groups.push(with_members(conn, row).await?);
    }
    Ok(groups)
}

/// Takes an API that goes out of every group.
pub(in crate::catalog) async fn forget_api(conn: &mut Conn, uid: &ApiUid) -> Result<(), DbError> {
    sqlx::query(
        "-- catalog.delete_api
         DELETE FROM api_group_apis
          WHERE api_uid = $1",
    )
    .bind(uid.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

async fn replace_members(conn: &mut Conn, group: &Group) -> Result<(), DbError> {
    sqlx::query(
        "-- catalog.members
         DELETE FROM api_group_apis
          WHERE group_id = $1",
    )
    .bind(group.id.as_str())
    .execute(&mut *conn)
    .await?;
    for uid in &group.apis {
        sqlx::query(
            "-- catalog.members
             INSERT INTO api_group_apis (group_id, api_uid)
             VALUES ($1, $2)",
        )
        .bind(group.id.as_str())
        .bind(uid.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn with_members(conn: &mut Conn, row: &AnyRow) -> Result<Group, DbError> {
    let id: String = row.try_get("id")?;
    let apis = sqlx::query(
        "-- catalog.members
         SELECT api_uid
           FROM api_group_apis
          WHERE group_id = $1
          ORDER BY api_uid",
    )
    .bind(&id)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(ApiUid(row.try_get("api_uid")?)))
    .collect::<Result<_, DbError>>()?;
    let kind = GroupKind::parse(row.try_get("kind")?).ok_or_else(|| bad("kind", &id))?;
    Ok(Group {
        kind,
        name: row.try_get("name")?,
        alias: row.try_get("alias")?,
        description: row.try_get("description")?,
        security_level: read_level(row, &id)?,
        apis,
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        version: row.try_get("version")?,
        id: GroupId(id),
    })
}

fn read_level(row: &AnyRow, id: &str) -> Result<SecurityLevel, DbError> {
    SecurityLevel::parse(row.try_get("security_level")?).ok_or_else(|| bad("security_level", id))
}

fn bad(column: &'static str, id: &str) -> DbError {
    DbError::Inconsistency { table: "api_groups", column, row: id.into() }
}
