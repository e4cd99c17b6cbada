//! Table `application_numbers`.

use jiff::civil::Date;
use sqlx::Row;

use super::FormNumber;
use crate::approvals::FormKind;
use crate::db::{Conn, DbError};

/// Draws the next number of `kind` on `day`. The counter is locked until the transaction ends.
pub async fn draw(conn: &mut Conn, kind: FormKind, day: Date) -> Result<FormNumber, DbError> {
    let day_text = FormNumber::day_text(day);
    let row = sqlx::query(
        "-- applications.draw_number
         INSERT INTO application_numbers (kind, day, last)
         VALUES ($1, $2, 1)
         ON CONFLICT (kind, day) DO UPDATE SET last = application_numbers.last + 1
         RETURNING last",
    )
    .bind(kind.code())
    .bind(&day_text)
    .fetch_one(&mut *conn)
    .await?;
    let last: i64 = row.try_get("last")?;
    let sequence = u32::try_from(last).map_err(|_| DbError::Inconsistency {
        table: "application_numbers",
        column: "last",
        row: format!("{kind} {day_text}"),
    })?;
    Ok(FormNumber { kind, day, sequence })
}
