//! Table `catalog_head`: its row is the lock under which the catalogue changes.

use crate::db::{Conn, DbError};

/// Waits until nobody else changes the catalogue, and keeps it so until the transaction ends.
pub(super) async fn hold(conn: &mut Conn) -> Result<(), DbError> {
    sqlx::query(
        "-- catalog.hold
         UPDATE catalog_head
            SET writes = writes + 1
          WHERE id = 1",
    )
    .execute(conn)
    .await?;
    Ok(())
}
