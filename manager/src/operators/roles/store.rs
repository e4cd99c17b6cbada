//! Table `roles`.

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::db::{Conn, DbError};

/// A role as stored.
pub(super) struct RoleRow {
    pub name: String,
    pub description: String,
    /// Names separated by spaces.
    pub permissions: String,
}

pub(super) async fn all(conn: &mut Conn) -> Result<Vec<RoleRow>, DbError> {
    sqlx::query(
        "-- roles.list
         SELECT name, description, permissions
           FROM roles
          ORDER BY name",
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// The role as it is, held until the transaction ends: what is decided by it stays true. None: there
/// is none of that name. (An update that changes nothing: `FOR UPDATE` is unknown to SQLite.)
pub(super) async fn hold(conn: &mut Conn, name: &str) -> Result<Option<RoleRow>, DbError> {
    let row = sqlx::query(
        "-- roles.hold
         UPDATE roles
            SET name = name
          WHERE name = $1
      RETURNING name, description, permissions",
    )
    .bind(name)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// [`hold`], or None: it has just been made, and permits nothing yet.
pub(super) async fn hold_or_make(
    conn: &mut Conn,
    name: &str,
    now: UnixMillis,
) -> Result<Option<RoleRow>, DbError> {
    loop {
        // Waits for another transaction that makes the same one.
        let made = sqlx::query(
            "-- roles.make
             INSERT INTO roles (name, description, permissions, created_at)
             VALUES ($1, '', '', $2)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(name)
        .bind(now.0)
        .execute(&mut *conn)
        .await?;
        if made.rows_affected() == 1 {
            return Ok(None);
        }
        if let Some(role) = hold(&mut *conn, name).await? {
            return Ok(Some(role));
        }
        // It was deleted in between.
    }
}

/// Saves a role that is held.
pub(super) async fn save(conn: &mut Conn, role: &RoleRow) -> Result<(), DbError> {
    sqlx::query(
        "-- roles.put
         UPDATE roles
            SET description = $1, permissions = $2
          WHERE name = $3",
    )
    .bind(&role.description)
    .bind(&role.permissions)
    .bind(&role.name)
    .execute(conn)
    .await?;
    Ok(())
}

/// False: there is none of that name.
pub(super) async fn delete(conn: &mut Conn, name: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- roles.delete
         DELETE FROM roles
          WHERE name = $1",
    )
    .bind(name)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn read(row: &AnyRow) -> Result<RoleRow, DbError> {
    Ok(RoleRow {
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        permissions: row.try_get("permissions")?,
    })
}
