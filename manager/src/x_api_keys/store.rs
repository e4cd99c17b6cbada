//! The only writer of `x_api_keys` and `x_api_key_groups`.

use std::collections::BTreeSet;

use gate::id::{ClientId, CredentialId, GroupId};
use gate::time::{Interval, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{Alias, XApiKey};
use crate::db::{Conn, DbError};

const COLUMNS: &str = "id, client_id, alias, sha256, mask, effective_at, expires_at, created_at, created_by";

/// The key whose text has that SHA-256 (lower-case hex).
pub async fn find_by_sha256(conn: &mut Conn, sha256: &str) -> Result<Option<XApiKey>, DbError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "-- x_api_keys.find_by_sha256
         SELECT {COLUMNS} FROM x_api_keys WHERE sha256 = $1"
    )))
    .bind(sha256)
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => Ok(Some(complete(conn, &row).await?)),
        None => Ok(None),
    }
}

/// The key of that id.
pub async fn by_id(conn: &mut Conn, id: &CredentialId) -> Result<Option<XApiKey>, DbError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "-- x_api_keys.by_id
         SELECT {COLUMNS} FROM x_api_keys WHERE id = $1"
    )))
    .bind(id.as_str())
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => Ok(Some(complete(conn, &row).await?)),
        None => Ok(None),
    }
}

/// Up to `limit` keys after the id `after`, by id; of one client, or of all.
pub async fn list(
    conn: &mut Conn,
    client: Option<&ClientId>,
    after: &str,
    limit: i64,
) -> Result<Vec<XApiKey>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "-- x_api_keys.list
         SELECT {COLUMNS}
           FROM x_api_keys
          WHERE id > $1
            AND ($2 = '' OR client_id = $2)
          ORDER BY id
          LIMIT $3"
    )))
    .bind(after)
    .bind(client.map_or("", ClientId::as_str))
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        keys.push(complete(conn, row).await?);
    }
    Ok(keys)
}

pub(super) async fn insert(conn: &mut Conn, key: &XApiKey) -> Result<(), DbError> {
    sqlx::query(
        "-- x_api_keys.create
         INSERT INTO x_api_keys (id, client_id, alias, sha256, mask, effective_at, expires_at, created_at, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(key.id.as_str())
    .bind(key.client.as_str())
    .bind(key.alias.as_str())
    .bind(&key.sha256)
    .bind(&key.mask)
    .bind(key.validity.from.0)
    .bind(key.validity.until.0)
    .bind(key.created_at.0)
    .bind(&key.created_by)
    .execute(&mut *conn)
    .await?;
    for group in &key.groups {
        sqlx::query(
            "-- x_api_keys.create.group
             INSERT INTO x_api_key_groups (x_api_key_id, group_id)
             VALUES ($1, $2)",
        )
        .bind(key.id.as_str())
        .bind(group.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Whether there was such a key.
pub(super) async fn delete(conn: &mut Conn, id: &CredentialId) -> Result<bool, DbError> {
    sqlx::query(
        "-- x_api_keys.delete.groups
         DELETE FROM x_api_key_groups WHERE x_api_key_id = $1",
    )
    .bind(id.as_str())
    .execute(&mut *conn)
    .await?;
    let done = sqlx::query(
        "-- x_api_keys.delete
         DELETE FROM x_api_keys WHERE id = $1",
    )
    .bind(id.as_str())
    .execute(&mut *conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The key of `row` with its groups.
async fn complete(conn: &mut Conn, row: &AnyRow) -> Result<XApiKey, DbError> {
    let id: String = row.try_get("id")?;
    let alias: String = row.try_get("alias")?;
    let alias = Alias::parse(&alias).map_err(|_| DbError::Inconsistency {
        table: "x_api_keys",
        column: "alias",
        row: id.clone(),
    })?;
    let groups = groups_of(conn, &id).await?;
    Ok(XApiKey {
        id: CredentialId(id),
        client: ClientId(row.try_get("client_id")?),
        alias,
        sha256: row.try_get("sha256")?,
        mask: row.try_get("mask")?,
        validity: Interval {
            from: UnixMillis(row.try_get("effective_at")?),
            until: UnixMillis(row.try_get("expires_at")?),
        },
        groups,
        created_at: UnixMillis(row.try_get("created_at")?),
        created_by: row.try_get("created_by")?,
    })
}

async fn groups_of(conn: &mut Conn, id: &str) -> Result<BTreeSet<GroupId>, DbError> {
    sqlx::query(
        "-- x_api_keys.groups_of
         SELECT group_id FROM x_api_key_groups WHERE x_api_key_id = $1",
    )
    .bind(id)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(GroupId(row.try_get(0)?)))
    .collect()
}
