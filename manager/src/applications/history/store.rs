//! Table `application_history`.

use std::collections::BTreeSet;

use gate::time::UnixMillis;
use sqlx::{AssertSqlSafe, Row};

use super::super::applicant::Applicant;
use super::super::model::Step;
use super::super::row::optional_level;
use crate::db::{Conn, DbError, MAX_IN, placeholders};

/// Adds to what happened to a form.
pub async fn add(conn: &mut Conn, application_id: &str, step: &Step) -> Result<(), DbError> {
    sqlx::query(
        "-- applications.record_step
         INSERT INTO application_history (application_id, version, at, actor, action, level, comment, state,
                                          on_behalf_of, escalated)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(application_id)
    .bind(step.version)
    .bind(step.at.0)
    .bind(&step.actor)
    .bind(&step.action)
    .bind(step.level.map(i64::from))
    .bind(&step.comment)
    .bind(&step.state)
    .bind(&step.on_behalf_of)
    .bind(i64::from(step.escalated))
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// What happened to a form, oldest first.
pub async fn of(conn: &mut Conn, application_id: &str) -> Result<Vec<Step>, DbError> {
    let rows = sqlx::query(
        "-- applications.history
         SELECT version, at, actor, action, level, comment, state, on_behalf_of, escalated
           FROM application_history
          WHERE application_id = $1
          ORDER BY version",
    )
    .bind(application_id)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Step {
                version: row.try_get("version")?,
                at: UnixMillis(row.try_get("at")?),
                actor: row.try_get("actor")?,
                action: row.try_get("action")?,
                level: optional_level(row, "application_history", application_id)?,
                on_behalf_of: row.try_get("on_behalf_of")?,
                escalated: row.try_get::<Option<i64>, _>("escalated")? == Some(1),
                comment: row.try_get("comment")?,
                state: row.try_get("state")?,
            })
        })
        .collect()
}

/// Whether somebody has signed, returned or refused a form, or a delegate on their behalf.
pub async fn has_reviewed(conn: &mut Conn, application_id: &str, who: &Applicant) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- applications.has_reviewed
         SELECT version FROM application_history
          WHERE application_id = $1 AND (actor = $2 OR on_behalf_of = $2) AND action IN ('approve', 'return', 'reject')
          LIMIT 1",
    )
    .bind(application_id)
    .bind(who.to_string())
    .fetch_optional(&mut *conn)
    .await?;
    Ok(row.is_some())
}

/// Those of these forms that somebody has signed, returned or refused.
pub async fn reviewed_among(
    conn: &mut Conn,
    ids: &[&str],
    who: &Applicant,
) -> Result<BTreeSet<String>, DbError> {
    let mut reviewed = BTreeSet::new();
    for part in ids.chunks(MAX_IN) {
        let sql = format!(
            "-- applications.reviewed_among
             SELECT DISTINCT application_id FROM application_history
              WHERE (actor = $1 OR on_behalf_of = $1)
                AND action IN ('approve', 'return', 'reject')
                AND application_id IN ({})",
            placeholders(2, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(who.to_string());
        for id in part {
            query = query.bind((*id).to_owned());
        }
        for row in query.fetch_all(&mut *conn).await? {
            reviewed.insert(row.try_get("application_id")?);
        }
    }
    Ok(reviewed)
}

/// How often somebody has handed a form in, or in again, after `since`.
pub async fn submissions_by(conn: &mut Conn, who: &Applicant, since: UnixMillis) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- applications.submissions_by
         SELECT COUNT(*) FROM application_history
          WHERE actor = $1 AND action IN ('submit', 'resubmit') AND at > $2",
    )
    .bind(who.to_string())
    .bind(since.0)
    .fetch_one(&mut *conn)
    .await?;
    Ok(row.try_get(0)?)
}

/// Forgets what happened to a form that is thrown away.
pub async fn forget(conn: &mut Conn, application_id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- applications.forget_history
         DELETE FROM application_history WHERE application_id = $1",
    )
    .bind(application_id)
    .execute(&mut *conn)
    .await?;
    Ok(())
}
