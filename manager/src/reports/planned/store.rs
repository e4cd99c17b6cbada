//! Reads `tasks`, `applications` and `apis`; none is written here.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::model::Planned;
use crate::db::{Conn, DbError};

/// The next `limit` after the one that `after` names: when it is due, its kind and what it is about.
pub(super) async fn list(
    conn: &mut Conn,
    after: (i64, &str, &str),
    limit: i64,
) -> Result<Vec<Planned>, DbError> {
    let rows = sqlx::query(
        "-- reports.planned
         SELECT due_at, kind, about_kind, about_id, task
           FROM (SELECT due_at, kind, about_kind, about_id, id AS task
                   FROM tasks
                  WHERE finished_at IS NULL
              UNION ALL
                 SELECT effect_at, 'applications.apply', 'application', id, NULL
                   FROM applications
                  WHERE effect = 'scheduled'
              UNION ALL
                 SELECT enable_at, 'catalog.enable_api', 'api', uid, NULL
                   FROM apis
                  WHERE enable_at IS NOT NULL
              UNION ALL
                 SELECT disable_at, 'catalog.disable_api', 'api', uid, NULL
                   FROM apis
                  WHERE disable_at IS NOT NULL) AS planned
          WHERE due_at > $1
             OR (due_at = $1 AND (kind > $2 OR (kind = $2 AND about_id > $3)))
          ORDER BY due_at, kind, about_id
          LIMIT $4",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(after.2)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Planned {
                due_at: UnixMillis(row.try_get("due_at")?),
                kind: row.try_get("kind")?,
                about_kind: row.try_get("about_kind")?,
                about_id: row.try_get("about_id")?,
                task: row.try_get("task")?,
            })
        })
        .collect()
}
