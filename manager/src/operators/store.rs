//! Tables `operators`, `roles`, `operator_roles` and `operator_tokens`.

use std::collections::{BTreeMap, BTreeSet};

use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{Email, Operator, OperatorName, OperatorStatus, RoleName, TokenKind};
use crate::db::{Conn, DbError, placeholders};

/// A role as stored.
pub(super) struct RoleRow {
    pub name: String,
    pub description: String,
    pub permissions: String,
}

/// A token as stored, with its owner's state.
pub(super) struct TokenRow {
    pub id: String,
    pub operator_id: String,
    pub kind: String,
    pub name: String,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
}

pub(super) async fn insert(
    conn: &mut Conn,
    operator: &Operator,
    password_hash: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "-- operators.create
         INSERT INTO operators (id, name, display_name, email, password_hash, status, failed_attempts,
                                created_at, updated_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9)",
    )
    .bind(&operator.id)
    .bind(operator.name.as_str())
    .bind(&operator.display_name)
    .bind(operator.email.as_ref().map(Email::as_str))
    .bind(password_hash)
    .bind(operator.status.as_str())
    .bind(operator.created_at.0)
    .bind(operator.updated_at.0)
    .bind(operator.version)
    .execute(&mut *conn)
    .await?;
    replace_roles(conn, &operator.id, &operator.roles).await
}

/// Saves what an update may change. False: another update came first.
pub(super) async fn update(conn: &mut Conn, operator: &Operator, read_version: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- operators.update
         UPDATE operators
            SET display_name = $1, email = $2, status = $3, failed_attempts = $4, updated_at = $5, version = $6
          WHERE id = $7
            AND version = $8",
    )
    .bind(&operator.display_name)
    .bind(operator.email.as_ref().map(Email::as_str))
    .bind(operator.status.as_str())
    .bind(operator.failed_attempts)
    .bind(operator.updated_at.0)
    .bind(operator.version)
    .bind(&operator.id)
    .bind(read_version)
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() != 1 {
        return Ok(false);
    }
    replace_roles(conn, &operator.id, &operator.roles).await?;
    Ok(true)
}

pub(super) async fn set_password(conn: &mut Conn, id: &str, hash: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- operators.set_password
         UPDATE operators
            SET password_hash = $1, failed_attempts = 0
          WHERE id = $2",
    )
    .bind(hash)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

async fn replace_roles(conn: &mut Conn, id: &str, roles: &[RoleName]) -> Result<(), DbError> {
    sqlx::query(
        "-- operators.roles
         DELETE FROM operator_roles
          WHERE operator_id = $1",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    for role in roles {
        sqlx::query(
            "-- operators.roles
             INSERT INTO operator_roles (operator_id, role)
             VALUES ($1, $2)",
        )
        .bind(id)
        .bind(role.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

pub(super) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Operator>, DbError> {
    let row = sqlx::query(
        "-- operators.by_id
         SELECT id, name, display_name, email, status, failed_attempts, created_at, updated_at, version
           FROM operators
          WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => Ok(Some(with_roles(conn, &row).await?)),
        None => Ok(None),
    }
}

/// Id, password hash, failed attempts and status of the operator of that name.
pub(super) async fn for_sign_in(
    conn: &mut Conn,
    name: &OperatorName,
) -> Result<Option<(Operator, Option<String>)>, DbError> {
    let row = sqlx::query(
        "-- operators.sign_in
         SELECT id, name, display_name, email, status, failed_attempts, created_at, updated_at, version,
                password_hash
           FROM operators
          WHERE name = $1",
    )
    .bind(name.as_str())
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => {
            let hash = row.try_get("password_hash")?;
            Ok(Some((with_roles(conn, &row).await?, hash)))
        }
        None => Ok(None),
    }
}

/// Id and name of each of these operators.
pub(super) async fn names(
    conn: &mut Conn,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, DbError> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sql = format!(
        "-- operators.names
         SELECT id, name
           FROM operators
          WHERE id IN ({})",
        placeholders(1, ids.len())
    );
    let query = ids.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(*id));
    query.fetch_all(conn).await?.iter().map(|row| Ok((row.try_get("id")?, row.try_get("name")?))).collect()
}

pub(super) async fn id_of(conn: &mut Conn, name: &OperatorName) -> Result<Option<String>, DbError> {
    let row = sqlx::query(
        "-- operators.id_of
         SELECT id
           FROM operators
          WHERE name = $1",
    )
    .bind(name.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}

/// One more wrong password; how many there are now.
pub(super) async fn count_failure(conn: &mut Conn, id: &str) -> Result<Option<i64>, DbError> {
    let row = sqlx::query(
        "-- operators.sign_in
         UPDATE operators
            SET failed_attempts = failed_attempts + 1
          WHERE id = $1
      RETURNING failed_attempts",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The right password: the count begins again, unless it has reached `limit` (0 = none) by now.
pub(super) async fn let_in(conn: &mut Conn, id: &str, limit: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- operators.sign_in
         UPDATE operators
            SET failed_attempts = 0
          WHERE id = $1
            AND ($2 = 0 OR failed_attempts < $2)",
    )
    .bind(id)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn list(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<Operator>, DbError> {
    let rows = sqlx::query(
        "-- operators.list
         SELECT id, name, display_name, email, status, failed_attempts, created_at, updated_at, version
           FROM operators
          WHERE name > $1
          ORDER BY name
          LIMIT $2",
    )
    .bind(after)
    .bind(limit + 1)
    .fetch_all(&mut *conn)
    .await?;
    let mut operators = Vec::with_capacity(rows.len());
    for row in &rows {
        operators.push(with_roles(conn, row).await?);
    }
    Ok(operators)
}

pub(super) async fn count(conn: &mut Conn) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- operators.count
         SELECT COUNT(*) AS n
           FROM operators",
    )
    .fetch_one(conn)
    .await?;
    Ok(row.try_get("n")?)
}

/// Active operators with one of these roles, by name.
pub(super) async fn active_with_role(conn: &mut Conn, role: &str) -> Result<Vec<Operator>, DbError> {
    let rows = sqlx::query(
        "-- operators.with_role
         SELECT id, name, display_name, email, status, failed_attempts, created_at, updated_at, version
           FROM operators
          WHERE status = 'active'
            AND id IN (SELECT operator_id FROM operator_roles WHERE role = $1)
          ORDER BY name",
    )
    .bind(role)
    .fetch_all(&mut *conn)
    .await?;
    let mut operators = Vec::with_capacity(rows.len());
    for row in &rows {
        operators.push(with_roles(conn, row).await?);
    }
    Ok(operators)
}

pub(super) async fn roles(conn: &mut Conn) -> Result<Vec<RoleRow>, DbError> {
    sqlx::query(
        "-- roles.list
         SELECT name, description, permissions
           FROM roles
          ORDER BY name",
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| {
        Ok(RoleRow {
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            permissions: row.try_get("permissions")?,
        })
    })
    .collect()
}

pub(super) async fn put_role(conn: &mut Conn, role: &RoleRow, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- roles.put
         INSERT INTO roles (name, description, permissions, created_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE
            SET description = excluded.description, permissions = excluded.permissions",
    )
    .bind(&role.name)
    .bind(&role.description)
    .bind(&role.permissions)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert_token(conn: &mut Conn, token: &TokenRow, sha256: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- operator_tokens.create
         INSERT INTO operator_tokens (id, operator_id, kind, name, sha256, created_at, expires_at, revoked_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&token.id)
    .bind(&token.operator_id)
    .bind(&token.kind)
    .bind(&token.name)
    .bind(sha256)
    .bind(token.created_at)
    .bind(token.expires_at)
    .bind(token.revoked_at)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn token_by_hash(conn: &mut Conn, sha256: &str) -> Result<Option<TokenRow>, DbError> {
    sqlx::query(
        "-- operator_tokens.authenticate
         SELECT id, operator_id, kind, name, created_at, expires_at, revoked_at
           FROM operator_tokens
          WHERE sha256 = $1",
    )
    .bind(sha256)
    .fetch_optional(conn)
    .await?
    .map(|row| read_token(&row))
    .transpose()
}

/// Live API tokens of an operator, oldest first.
pub(super) async fn api_tokens(conn: &mut Conn, operator: &str) -> Result<Vec<TokenRow>, DbError> {
    sqlx::query(
        "-- operator_tokens.list
         SELECT id, operator_id, kind, name, created_at, expires_at, revoked_at
           FROM operator_tokens
          WHERE operator_id = $1
            AND kind = $2
            AND revoked_at IS NULL
          ORDER BY created_at, id",
    )
    .bind(operator)
    .bind(TokenKind::Api.as_str())
    .fetch_all(conn)
    .await?
    .iter()
    .map(read_token)
    .collect()
}

/// Revokes one live token. False: there is none of that id.
pub(super) async fn revoke_token(
    conn: &mut Conn,
    operator: &str,
    id: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- operator_tokens.revoke
         UPDATE operator_tokens
            SET revoked_at = $1
          WHERE id = $2
            AND operator_id = $3
            AND revoked_at IS NULL",
    )
    .bind(now.0)
    .bind(id)
    .bind(operator)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Revokes the sessions of an operator, whose password or status changed.
pub(super) async fn revoke_sessions(conn: &mut Conn, operator: &str, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- operator_tokens.revoke_sessions
         UPDATE operator_tokens
            SET revoked_at = $1
          WHERE operator_id = $2
            AND kind = $3
            AND revoked_at IS NULL",
    )
    .bind(now.0)
    .bind(operator)
    .bind(TokenKind::Session.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes sessions that ran out before `before`.
pub(super) async fn delete_expired(conn: &mut Conn, before: UnixMillis) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- operator_tokens.delete_expired
         DELETE FROM operator_tokens
          WHERE expires_at < $1",
    )
    .bind(before.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

fn read_token(row: &AnyRow) -> Result<TokenRow, DbError> {
    Ok(TokenRow {
        id: row.try_get("id")?,
        operator_id: row.try_get("operator_id")?,
        kind: row.try_get("kind")?,
        name: row.try_get("name")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

async fn with_roles(conn: &mut Conn, row: &AnyRow) -> Result<Operator, DbError> {
    let id: String = row.try_get("id")?;
    let bad = |column| DbError::Inconsistency { table: "operators", column, row: id.clone() };
    let (name, status): (String, String) = (row.try_get("name")?, row.try_get("status")?);
    let email: Option<String> = row.try_get("email")?;
    let roles = sqlx::query(
        "-- operators.roles
         SELECT role
           FROM operator_roles
          WHERE operator_id = $1
          ORDER BY role",
    )
    .bind(&id)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| RoleName::parse(row.try_get("role")?).map_err(|_| bad("role")))
    .collect::<Result<Vec<_>, _>>()?;
    Ok(Operator {
        name: OperatorName::parse(&name).map_err(|_| bad("name"))?,
        display_name: row.try_get("display_name")?,
        email: email.map(|email| Email::parse(&email)).transpose().map_err(|_| bad("email"))?,
        status: OperatorStatus::parse(&status).ok_or_else(|| bad("status"))?,
        failed_attempts: row.try_get("failed_attempts")?,
        roles,
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        version: row.try_get("version")?,
        id,
    })
}
