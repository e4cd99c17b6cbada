//! The only writer of `client_scopes`.

use gate::id::GroupId;
use sqlx::Row as _;

use crate::db::{Conn, DbError};

/// Ids of the client's scopes, sorted.
pub(super) async fn of_client(conn: &mut Conn, client: &str) -> Result<Vec<GroupId>, DbError> {
    sqlx::query(
        "-- clients.scopes_of
         SELECT scope_id
           FROM client_scopes
          WHERE client_id = $1
          ORDER BY scope_id",
    )
    .bind(client)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(GroupId(row.try_get(0)?)))
    .collect()
}

pub(super) async fn insert(conn: &mut Conn, client: &str, scope: &GroupId) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.give_scope
         INSERT INTO client_scopes (client_id, scope_id)
         VALUES ($1, $2)",
    )
    .bind(client)
    .bind(scope.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn delete(conn: &mut Conn, client: &str, scope: &GroupId) -> Result<(), DbError> {
    sqlx::query(
        "-- clients.take_scope
         DELETE FROM client_scopes
          WHERE client_id = $1 AND scope_id = $2",
    )
    .bind(client)
    .bind(scope.as_str())
    .execute(conn)
    .await?;
    Ok(())
}
