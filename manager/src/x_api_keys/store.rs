//! The only writer of `x_api_keys` and `x_api_key_groups`.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::{ClientId, CredentialId, GroupId};
use gate::time::{Interval, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{Alias, Origin, Trace, XApiKey};
use crate::db::{Conn, DbError, MAX_IN, like_pattern, placeholders};
use crate::expiry::Ending;

const COLUMNS: &str = "id, client_id, alias, sha256, mask, effective_at, expires_at, origin, last_used_at, \
     created_at, created_by";

/// What a list is narrowed by; absent = not.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Whose.
    pub client: Option<String>,
    /// Occurs in alias or mask, or in the id, names or application number of the client.
    pub keyword: Option<String>,
}

/// The key whose text has that SHA-256 (lower-case hex).
pub async fn find_by_sha256(conn: &mut Conn, sha256: &str) -> Result<Option<XApiKey>, DbError> {
    find(conn, "find_by_sha256", "sha256", sha256).await
}

/// The key of that id.
pub async fn by_id(conn: &mut Conn, id: &CredentialId) -> Result<Option<XApiKey>, DbError> {
    find(conn, "by_id", "id", id.as_str()).await
}

async fn find(conn: &mut Conn, name: &str, column: &str, value: &str) -> Result<Option<XApiKey>, DbError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "-- x_api_keys.{name}
         SELECT {COLUMNS}
           FROM x_api_keys
          WHERE {column} = $1"
    )))
    .bind(value)
    .fetch_optional(&mut *conn)
    .await?;
    Ok(complete(conn, row.as_slice()).await?.pop())
}

/// Up to `limit + 1` keys after the id `after`, by id.
pub async fn list(
    conn: &mut Conn,
    filter: &Filter,
    after: &str,
    limit: i64,
) -> Result<Vec<XApiKey>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "-- x_api_keys.list
         SELECT {COLUMNS}
           FROM x_api_keys
          WHERE id > $1
            AND ($2 = '' OR client_id = $2)
            AND (search LIKE $3 ESCAPE '\\'
                 OR client_id IN (SELECT id FROM clients WHERE search LIKE $3 ESCAPE '\\'))
          ORDER BY id
          LIMIT $4"
    )))
    .bind(after)
    .bind(filter.client.as_deref().unwrap_or_default())
    .bind(like_pattern(filter.keyword.as_deref()))
    .bind(limit + 1)
    .fetch_all(&mut *conn)
    .await?;
    complete(conn, &rows).await
}

/// How many keys a client has.
pub async fn count_of_client(conn: &mut Conn, client: &ClientId) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- x_api_keys.count_of_client
         SELECT COUNT(*)
           FROM x_api_keys
          WHERE client_id = $1",
    )
    .bind(client.as_str())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}

/// The keys of a client, by id: the first `limit`.
pub async fn of_client(conn: &mut Conn, client: &ClientId, limit: i64) -> Result<Vec<XApiKey>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "-- x_api_keys.of_client
         SELECT {COLUMNS}
           FROM x_api_keys
          WHERE client_id = $1
          ORDER BY id
          LIMIT $2"
    )))
    .bind(client.as_str())
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    complete(conn, &rows).await
}

/// Keeps others from the keys of a client until the transaction ends: one after the other by id, as
/// whoever deletes several takes them too.
pub async fn lock_all_of(conn: &mut Conn, client: &ClientId) -> Result<(), DbError> {
    for key in of_client(conn, client, i64::MAX).await? {
        lock(conn, &key.id).await?;
    }
    Ok(())
}

/// Keeps others from a key until the transaction ends. False: there is none.
async fn lock(conn: &mut Conn, id: &CredentialId) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- x_api_keys.lock
         UPDATE x_api_keys
            SET client_id = client_id
          WHERE id = $1",
    )
    .bind(id.as_str())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many APIs a key opens at present: those of its groups that the client still has.
pub(super) async fn count_apis(conn: &mut Conn, id: &CredentialId) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- x_api_keys.count_apis
         SELECT COUNT(DISTINCT member.api_uid)
           FROM x_api_keys own
           JOIN x_api_key_groups opened ON opened.x_api_key_id = own.id
           JOIN client_groups held ON held.client_id = own.client_id AND held.group_id = opened.group_id
           JOIN api_group_apis member ON member.group_id = opened.group_id
          WHERE own.id = $1",
    )
    .bind(id.as_str())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}

pub(super) async fn insert(conn: &mut Conn, key: &XApiKey) -> Result<(), DbError> {
    sqlx::query(
        "-- x_api_keys.insert
         INSERT INTO x_api_keys (id, client_id, alias, sha256, mask, effective_at, expires_at, origin, search,
                                 created_at, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(key.id.as_str())
    .bind(key.client.as_str())
    .bind(key.alias.as_str())
    .bind(&key.trace.sha256)
    .bind(&key.trace.mask)
    .bind(key.validity.from.0)
    .bind(key.validity.until.0)
    .bind(key.origin.name())
    .bind([key.alias.as_str(), &key.trace.mask].join(" ").to_lowercase())
    .bind(key.created_at.0)
    .bind(&key.created_by)
    .execute(&mut *conn)
    .await?;
    for group in &key.groups {
        sqlx::query(
            "-- x_api_keys.insert.group
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

/// Those of all keys that end from `now` to `until`, by their end and id: `limit` after `after`.
pub(super) async fn ending(
    conn: &mut Conn,
    (now, until): (UnixMillis, UnixMillis),
    after: &(i64, String),
    limit: i64,
) -> Result<Vec<Ending>, DbError> {
    // One lower bound, by which the index is entered: many keys end at the same time.
    let after = if after.0 < now.0 { (now.0, "") } else { (after.0, after.1.as_str()) };
    let rows = sqlx::query(
        "-- x_api_keys.ending
         SELECT id, expires_at, created_at AS set_at, reminded_days
           FROM x_api_keys
          WHERE (expires_at, id) > ($1, $2)
            AND expires_at <= $3
          ORDER BY expires_at, id
          LIMIT $4",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(until.0)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Ending {
                id: CredentialId(row.try_get("id")?),
                expires_at: UnixMillis(row.try_get("expires_at")?),
                set_at: UnixMillis(row.try_get("set_at")?),
                reminded_days: row.try_get("reminded_days")?,
                works: true,
            })
        })
        .collect()
}

/// Whether the key was there still, and had not been reminded of so late.
pub(super) async fn set_reminded(conn: &mut Conn, id: &CredentialId, days: u16) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- x_api_keys.set_reminded
         UPDATE x_api_keys
            SET reminded_days = $2
          WHERE id = $1 AND (reminded_days IS NULL OR reminded_days > $2)",
    )
    .bind(id.as_str())
    .bind(i64::from(days))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that a gateway let in a call with that key at `at`.
pub async fn note_used(conn: &mut Conn, id: &CredentialId, at: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- x_api_keys.note_used
         UPDATE x_api_keys
            SET last_used_at = $2
          WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
    )
    .bind(id.as_str())
    .bind(at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether there was such a key.
pub(super) async fn delete(conn: &mut Conn, id: &CredentialId) -> Result<bool, DbError> {
    // Its own row before those of its groups, as everybody takes them.
    if !lock(conn, id).await? {
        return Ok(false);
    }
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

/// The keys of `rows` with their groups.
async fn complete(conn: &mut Conn, rows: &[AnyRow]) -> Result<Vec<XApiKey>, DbError> {
    let mut groups = groups_of(conn, rows).await?;
    rows.iter()
        .map(|row| {
            let id: String = row.try_get("id")?;
            let wrong = |column| DbError::Inconsistency { table: "x_api_keys", column, row: id.clone() };
            let last_used_at: Option<i64> = row.try_get("last_used_at")?;
            Ok(XApiKey {
                client: ClientId(row.try_get("client_id")?),
                alias: Alias::parse(row.try_get("alias")?).map_err(|_| wrong("alias"))?,
                trace: Trace { sha256: row.try_get("sha256")?, mask: row.try_get("mask")? },
                validity: Interval {
                    from: UnixMillis(row.try_get("effective_at")?),
                    until: UnixMillis(row.try_get("expires_at")?),
                },
                groups: groups.remove(&id).unwrap_or_default(),
                origin: Origin::parse(row.try_get("origin")?).ok_or_else(|| wrong("origin"))?,
                last_used_at: last_used_at.map(UnixMillis),
                created_at: UnixMillis(row.try_get("created_at")?),
                created_by: row.try_get("created_by")?,
                id: CredentialId(id),
            })
        })
        .collect()
}

/// The groups of the keys in `rows`, by the id of the key.
async fn groups_of(conn: &mut Conn, rows: &[AnyRow]) -> Result<BTreeMap<String, BTreeSet<GroupId>>, DbError> {
    let mut groups: BTreeMap<String, BTreeSet<GroupId>> = BTreeMap::new();
    for rows in rows.chunks(MAX_IN) {
        let sql = format!(
            "-- x_api_keys.groups_of
             SELECT x_api_key_id, group_id
               FROM x_api_key_groups
              WHERE x_api_key_id IN ({})",
            placeholders(1, rows.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for row in rows {
            query = query.bind(row.try_get::<String, _>("id")?);
        }
        for row in &query.fetch_all(&mut *conn).await? {
            let group = GroupId(row.try_get("group_id")?);
            groups.entry(row.try_get("x_api_key_id")?).or_default().insert(group);
        }
    }
    Ok(groups)
}
