//! The only writer of `client_quota_warnings`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::model::Percents;
use crate::db::{Conn, DbError};

/// What counts for a client at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// At which parts it is told.
    pub percents: Percents,
    /// When that was saved; None: never.
    pub updated_at: Option<UnixMillis>,
    /// For `If-Match`; 0 = never saved.
    pub version: i64,
}

/// Of a client. Whether there is such a client is not asked.
pub async fn of_client(conn: &mut Conn, client: &str) -> Result<Saved, DbError> {
    let row = sqlx::query(
        "-- quota_warnings.of_client
         SELECT percents, updated_at, version FROM client_quota_warnings WHERE client_id = $1",
    )
    .bind(client)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else {
        return Ok(Saved { percents: Percents::default(), updated_at: None, version: 0 });
    };
    let senseless = || DbError::Inconsistency {
        table: "client_quota_warnings",
        column: "percents",
        row: client.to_owned(),
    };
    let text: String = row.try_get(0)?;
    let numbers: Result<Vec<u32>, _> = text.split_whitespace().map(str::parse).collect();
    let percents = Percents::of(&numbers.map_err(|_| senseless())?).map_err(|_| senseless())?;
    Ok(Saved { percents, updated_at: Some(UnixMillis(row.try_get(1)?)), version: row.try_get(2)? })
}

/// Saves over that version. False: something else was saved meanwhile.
pub async fn save(
    conn: &mut Conn,
    client: &str,
    read_version: i64,
    percents: &Percents,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let text: Vec<String> = percents.iter().map(|percent| percent.to_string()).collect();
    let done = sqlx::query(
        "-- quota_warnings.save
         INSERT INTO client_quota_warnings (client_id, percents, updated_at, version)
         VALUES ($1, $2, $3, $4 + 1)
             ON CONFLICT (client_id) DO UPDATE
            SET percents = excluded.percents, updated_at = excluded.updated_at, version = excluded.version
          WHERE client_quota_warnings.version = $4",
    )
    .bind(client)
    .bind(text.join(" "))
    .bind(now.0)
    .bind(read_version)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
