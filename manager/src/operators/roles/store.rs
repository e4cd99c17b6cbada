//! Table `roles`.

use gate::time::UnixMillis;
use sqlx::Row as _;

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
    .map(|row| {
        Ok(RoleRow {
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            permissions: row.try_get("permissions")?,
        })
    })
    .collect()
}

pub(super) async fn put(conn: &mut Conn, role: &RoleRow, now: UnixMillis) -> Result<(), DbError> {
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
