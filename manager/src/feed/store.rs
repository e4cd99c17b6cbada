//! The only writer of `directory_settings`.

use gate::id::Revision;
use gate::wire::directory::Settings;
use sqlx::Row as _;

use crate::db::{Conn, DbError};

/// The settings that filters are given, and the change that announced them.
pub(super) async fn settings(conn: &mut Conn) -> Result<Option<(Settings, Revision)>, DbError> {
    let row = sqlx::query(
        "-- feed.settings
         SELECT settings, revision FROM directory_settings WHERE id = 1",
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let text: String = row.try_get(0)?;
        let settings = serde_json::from_str(&text).map_err(|_| DbError::Inconsistency {
            table: "directory_settings",
            column: "settings",
            row: "1".into(),
        })?;
        Ok((settings, Revision(row.try_get::<i64, _>(1)? as u64)))
    })
    .transpose()
}

pub(super) async fn put_settings(
    conn: &mut Conn,
    settings: &Settings,
    revision: Revision,
) -> Result<(), DbError> {
    let text = serde_json::to_string(settings).expect("settings are numbers and names");
    sqlx::query(
        "-- feed.put_settings
         INSERT INTO directory_settings (id, settings, revision)
         VALUES (1, $1, $2)
             ON CONFLICT (id) DO UPDATE
            SET settings = excluded.settings, revision = excluded.revision",
    )
    .bind(text)
    .bind(revision.0 as i64)
    .execute(conn)
    .await?;
    Ok(())
}
