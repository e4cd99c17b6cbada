//! Table `vault_keys`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use crate::db::{Conn, DbError};

/// Ids and sealed data keys, oldest first.
pub(super) async fn load(conn: &mut Conn) -> Result<Vec<(String, String)>, DbError> {
    sqlx::query(
        "-- vault.load
         SELECT id, sealed_key
           FROM vault_keys
          ORDER BY created_at, id",
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok((row.try_get("id")?, row.try_get("sealed_key")?)))
    .collect()
}

/// Keeps the key that is there, where another replica was first.
pub(super) async fn insert_unless_present(
    conn: &mut Conn,
    id: &str,
    sealed: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- vault.first_key
         INSERT INTO vault_keys (id, sealed_key, created_at)
         VALUES ($1, $2, $3)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(id)
    .bind(sealed)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}
