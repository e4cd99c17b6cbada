//! Tables `approval_flows` and `approval_flow_roles`.

use std::collections::BTreeMap;

use gate::time::UnixMillis;
use sqlx::Row;

use super::model::{Flow, FormKind, Roles};
use crate::db::{Conn, DbError};

/// A flow as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFlow {
    /// Whose forms pass it.
    pub kind: FormKind,
    /// Its levels.
    pub flow: Flow,
    /// From 1; goes up with every change.
    pub version: i64,
    /// When it was last set.
    pub updated_at: UnixMillis,
    /// By which operator.
    pub updated_by: String,
}

/// The flow of `kind`, if one has been configured.
pub async fn find(conn: &mut Conn, kind: FormKind) -> Result<Option<KeptFlow>, DbError> {
    let row = sqlx::query(
        "-- approvals.find
         SELECT version, updated_at, updated_by FROM approval_flows WHERE kind = $1",
    )
    .bind(kind.code())
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let roles = sqlx::query(
        "-- approvals.find_roles
         SELECT level, role FROM approval_flow_roles WHERE kind = $1 ORDER BY level, role",
    )
    .bind(kind.code())
    .fetch_all(&mut *conn)
    .await?;
    let mut levels = BTreeMap::<i64, Roles>::new();
    for role in roles {
        levels.entry(role.try_get("level")?).or_default().insert(role.try_get("role")?);
    }
    let flow = Flow::of_kept(levels).ok_or_else(|| DbError::Inconsistency {
        table: "approval_flow_roles",
        column: "level",
        row: kind.code().to_owned(),
    })?;
    Ok(Some(KeptFlow {
        kind,
        flow,
        version: row.try_get("version")?,
        updated_at: UnixMillis(row.try_get("updated_at")?),
        updated_by: row.try_get("updated_by")?,
    }))
}

/// Keeps others from setting the flow of `kind` until the transaction ends, where none has been
/// configured too: whoever configures the first one waits for the row that was there for a moment.
pub async fn hold(conn: &mut Conn, kind: FormKind) -> Result<Option<KeptFlow>, DbError> {
    for statement in [
        "-- approvals.hold
         INSERT INTO approval_flows (kind, version, updated_at, updated_by)
         VALUES ($1, 0, 0, '')
         ON CONFLICT (kind) DO UPDATE
            SET version = approval_flows.version",
        "-- approvals.hold.none
         DELETE FROM approval_flows WHERE kind = $1 AND version = 0",
    ] {
        sqlx::query(statement).bind(kind.code()).execute(&mut *conn).await?;
    }
    find(conn, kind).await
}

/// Types of the forms whose flow names `role`.
pub async fn kinds_naming(conn: &mut Conn, role: &str) -> Result<Vec<String>, DbError> {
    sqlx::query(
        "-- approvals.kinds_naming
         SELECT DISTINCT kind FROM approval_flow_roles WHERE role = $1 ORDER BY kind",
    )
    .bind(role)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(row.try_get("kind")?))
    .collect()
}

/// Keeps `kept` in place of version `kept.version - 1` (0: of nothing). False: another version,
/// or another first one, is there, and nothing was written.
pub async fn save(conn: &mut Conn, kept: &KeptFlow) -> Result<bool, DbError> {
    let saved = sqlx::query(
        "-- approvals.save
         INSERT INTO approval_flows (kind, version, updated_at, updated_by)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (kind) DO UPDATE
            SET version    = excluded.version,
                updated_at = excluded.updated_at,
                updated_by = excluded.updated_by
          WHERE approval_flows.version = excluded.version - 1",
    )
    .bind(kept.kind.code())
    .bind(kept.version)
    .bind(kept.updated_at.0)
    .bind(&kept.updated_by)
    .execute(&mut *conn)
    .await?;
    if saved.rows_affected() != 1 {
        return Ok(false);
    }
    sqlx::query(
        "-- approvals.clear_roles
         DELETE FROM approval_flow_roles WHERE kind = $1",
    )
    .bind(kept.kind.code())
    .execute(&mut *conn)
    .await?;
    for (level, roles) in (1i64..).zip(kept.flow.levels()) {
        for role in roles {
            sqlx::query(
                "-- approvals.save_role
                 INSERT INTO approval_flow_roles (kind, level, role) VALUES ($1, $2, $3)",
            )
            .bind(kept.kind.code())
            .bind(level)
            .bind(role)
            .execute(&mut *conn)
            .await?;
        }
    }
    Ok(true)
}
