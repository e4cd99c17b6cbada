//! Tables `operators` and `operator_roles`.

use std::collections::{BTreeMap, BTreeSet};

use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{ActiveOperator, Email, Operator, OperatorName, OperatorStatus, RoleName};
use super::permission::Permission;
use crate::db::{Conn, DbError, placeholders};

pub(super) async fn insert(
    conn: &mut Conn,
    operator: &Operator,
    password_hash: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "-- operators.create
         INSERT INTO operators (id, name, display_name, email, password_hash, status, must_change_password,
                                failed_attempts, created_at, active_since, updated_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $8, $9, $10)",
    )
    .bind(&operator.id)
    .bind(operator.name.as_str())
    .bind(&operator.display_name)
    .bind(operator.email.as_ref().map(Email::as_str))
    .bind(password_hash)
    .bind(operator.status.as_str())
    .bind(i64::from(operator.must_change_password))
    .bind(operator.created_at.0)
    .bind(operator.updated_at.0)
    .bind(operator.version)
    .execute(&mut *conn)
    .await?;
    replace_roles(conn, &operator.id, &operator.roles).await
}

/// Saves what an update may change, but for password and count of attempts, which have statements of
/// their own. False: another update came first.
pub(super) async fn update(conn: &mut Conn, operator: &Operator, read_version: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- operators.update
         UPDATE operators
            SET display_name = $1, email = $2, must_change_password = $4, updated_at = $5, version = $6,
                active_since = CASE WHEN status = $3 THEN active_since ELSE $5 END,
                status = $3
          WHERE id = $7
            AND version = $8",
    )
    .bind(&operator.display_name)
    .bind(operator.email.as_ref().map(Email::as_str))
    .bind(operator.status.as_str())
    .bind(i64::from(operator.must_change_password))
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
            SET password_hash = $1
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
         SELECT id, name, display_name, email, status, must_change_password, failed_attempts, created_at,
                updated_at, version
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

/// Id of each of these operators, and what people call it.
pub(super) async fn display_names(
    conn: &mut Conn,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, DbError> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sql = format!(
        "-- operators.display_names
         SELECT id, CASE WHEN display_name = '' THEN name ELSE display_name END AS name
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

/// An attempt at a password that may be tried.
pub(super) struct Attempt {
    /// The operator's id.
    pub id: String,
    /// How many there are with this one.
    pub number: i64,
    /// What the password is held against; none: there is none.
    pub hash: Option<String>,
}

/// One more attempt at the password of that name, wrong until it is shown to be right. None: nobody has it,
/// or there are `limit` (0 = no limit) attempts already.
pub(super) async fn count_attempt(
    conn: &mut Conn,
    name: Option<&OperatorName>,
    limit: i64,
) -> Result<Option<Attempt>, DbError> {
    let row = sqlx::query(
        "-- operators.password_attempt
         UPDATE operators
            SET failed_attempts = failed_attempts + 1
          WHERE name = $1
            AND ($2 = 0 OR failed_attempts < $2)
      RETURNING id, failed_attempts, password_hash",
    )
    .bind(name.map(OperatorName::as_str))
    .bind(limit)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Attempt {
        id: row.try_get("id")?,
        number: row.try_get("failed_attempts")?,
        hash: row.try_get("password_hash")?,
    }))
}

/// Lets it try passwords again.
pub(super) async fn unlock(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- operators.unlock
         UPDATE operators
            SET failed_attempts = 0
          WHERE id = $1",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// The password was right: the count begins again. False: it is another one by now.
pub(super) async fn forget_failures(conn: &mut Conn, id: &str, hash: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- operators.forget_failures
         UPDATE operators
            SET failed_attempts = 0
          WHERE id = $1
            AND password_hash = $2",
    )
    .bind(id)
    .bind(hash)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Names of all operators with this role, whatever their status.
pub(super) async fn names_with_role(conn: &mut Conn, role: &str) -> Result<Vec<String>, DbError> {
    sqlx::query(
        "-- operators.names_with_role
         SELECT name
           FROM operators
          WHERE id IN (SELECT operator_id FROM operator_roles WHERE role = $1)
          ORDER BY name",
    )
    .bind(role)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(row.try_get("name")?))
    .collect()
}

pub(super) async fn list(conn: &mut Conn, after: &str, limit: i64) -> Result<Vec<Operator>, DbError> {
    let rows = sqlx::query(
        "-- operators.list
         SELECT id, name, display_name, email, status, must_change_password, failed_attempts, created_at,
                updated_at, version
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

/// Every active operator with all that its roles are worth, in no order.
pub(super) async fn active(conn: &mut Conn) -> Result<Vec<ActiveOperator>, DbError> {
    let mut roles: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let held = sqlx::query(
        "-- operators.active.roles
         SELECT h.operator_id, r.name, r.permissions
           FROM operator_roles h
           JOIN operators o ON o.id = h.operator_id
           JOIN roles r ON r.name = h.role
          WHERE o.status = 'active'",
    )
    .fetch_all(&mut *conn)
    .await?;
    for row in held {
        let role = (row.try_get("name")?, row.try_get("permissions")?);
        roles.entry(row.try_get("operator_id")?).or_default().push(role);
    }
    let rows = sqlx::query(
        "-- operators.active
         SELECT id, name, display_name, email, active_since
           FROM operators
          WHERE status = 'active'",
    )
    .fetch_all(conn)
    .await?;
    let mut active = Vec::with_capacity(rows.len());
    for row in rows {
        let mut operator = ActiveOperator {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            display_name: row.try_get("display_name")?,
            email: row.try_get("email")?,
            active_since: UnixMillis(row.try_get("active_since")?),
            roles: BTreeSet::new(),
            permissions: BTreeSet::new(),
        };
        for (role, permissions) in roles.remove(&operator.id).unwrap_or_default() {
            let permitted = Permission::parse_set(&permissions).ok_or_else(|| DbError::Inconsistency {
                table: "roles",
                column: "permissions",
                row: role.clone(),
            })?;
            operator.permissions.extend(permitted);
            operator.roles.insert(role);
        }
        active.push(operator);
    }
    Ok(active)
}

/// Active operators with one of these roles, by name.
pub(super) async fn active_with_role(conn: &mut Conn, role: &str) -> Result<Vec<Operator>, DbError> {
    let rows = sqlx::query(
        "-- operators.with_role
         SELECT id, name, display_name, email, status, must_change_password, failed_attempts, created_at,
                updated_at, version
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
        must_change_password: row.try_get::<i64, _>("must_change_password")? != 0,
        failed_attempts: row.try_get("failed_attempts")?,
        roles,
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        version: row.try_get("version")?,
        id,
    })
}
