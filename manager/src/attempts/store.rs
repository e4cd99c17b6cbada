//! Table `password_attempts`.

use crate::db::{Conn, DbError};

pub(super) async fn note(conn: &mut Conn, slot: i64) -> Result<(), DbError> {
    sqlx::query(
        "-- attempts.note
         INSERT INTO password_attempts (slot, attempts)
         VALUES ($1, 1)
             ON CONFLICT (slot)
             DO UPDATE SET attempts = password_attempts.attempts + 1",
    )
    .bind(slot)
    .execute(conn)
    .await?;
    Ok(())
}
