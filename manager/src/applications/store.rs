//! Tables `applications` and `application_apis`.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::UnixMillis;
use sqlx::{AssertSqlSafe, Row};

use super::model::{Application, State};
use super::row::{Columns, application};
use crate::db::{Conn, DbError, MAX_IN, placeholders};

/// The index that lets one form at a time hold a key.
pub const ONE_OPEN_FORM_PER_KEY: &str = "applications_open_key_key";

/// Keeps a new form; its version is 1.
pub async fn insert(conn: &mut Conn, application: &Application) -> Result<(), DbError> {
    let columns = Columns::of(application);
    sqlx::query(
        "-- applications.insert
         INSERT INTO applications
            (id, kind, number, applicant_kind, applicant, version, created_at, submitted_at, updated_at,
             client, key_id, name, effective_date, expiry_date, quota, reset_usage, description, search,
             state, level, levels, ended_at, effect, effect_at, effect_key, effect_failure, open_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                 $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)",
    )
    .bind(&application.id)
    .bind(application.form.kind().code())
    .bind(columns.number)
    .bind(application.applicant.kind())
    .bind(application.applicant.id())
    .bind(application.version)
    .bind(application.created_at.0)
    .bind(application.submitted_at.map(|at| at.0))
    .bind(application.updated_at.0)
    .bind(application.form.client().as_str())
    .bind(application.form.key().map(|key| key.0.clone()))
    .bind(columns.name)
    .bind(columns.effective_date)
    .bind(columns.expiry_date)
    .bind(columns.quota)
    .bind(columns.reset_usage)
    .bind(application.form.description())
    .bind(columns.search)
    .bind(application.state.name())
    .bind(columns.level)
    .bind(columns.levels)
    .bind(columns.ended_at)
    .bind(columns.effect)
    .bind(columns.effect_at)
    .bind(columns.effect_key)
    .bind(columns.effect_failure)
    .bind(columns.open_key)
    .execute(&mut *conn)
    .await?;
    insert_apis(conn, application).await
}

/// Keeps everything of a form that can change, in place of the version before
/// `application.version`, which must stand at `before`. False: it does not, nothing was written.
pub async fn update(conn: &mut Conn, application: &Application, before: &State) -> Result<bool, DbError> {
    let columns = Columns::of(application);
    let updated = sqlx::query(
        "-- applications.update
         UPDATE applications
            SET number         = $1,
                version        = $2,
                submitted_at   = $3,
                updated_at     = $4,
                client         = $5,
                key_id         = $6,
                name           = $7,
                effective_date = $8,
                expiry_date    = $9,
                quota          = $10,
                reset_usage    = $11,
                description    = $12,
                search         = $13,
                state          = $14,
                level          = $15,
                levels         = $16,
                ended_at       = $17,
                effect         = $18,
                effect_at      = $19,
                effect_key     = $20,
                effect_failure = $21,
                open_key       = $22
          WHERE id = $23 AND version = $2 - 1 AND state = $24",
    )
    .bind(columns.number)
    .bind(application.version)
    .bind(application.submitted_at.map(|at| at.0))
    .bind(application.updated_at.0)
    .bind(application.form.client().as_str())
    .bind(application.form.key().map(|key| key.0.clone()))
    .bind(columns.name)
    .bind(columns.effective_date)
    .bind(columns.expiry_date)
    .bind(columns.quota)
    .bind(columns.reset_usage)
    .bind(application.form.description())
    .bind(columns.search)
    .bind(application.state.name())
    .bind(columns.level)
    .bind(columns.levels)
    .bind(columns.ended_at)
    .bind(columns.effect)
    .bind(columns.effect_at)
    .bind(columns.effect_key)
    .bind(columns.effect_failure)
    .bind(columns.open_key)
    .bind(&application.id)
    .bind(before.name())
    .execute(&mut *conn)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Replaces the APIs that a form chooses.
pub async fn replace_apis(conn: &mut Conn, application: &Application) -> Result<(), DbError> {
    delete_apis(conn, &application.id).await?;
    insert_apis(conn, application).await
}

/// Throws a draft away with its APIs. False: it is no longer a draft of that version.
pub async fn delete_draft(conn: &mut Conn, id: &str, version: i64) -> Result<bool, DbError> {
    let deleted = sqlx::query(
        "-- applications.delete_draft
         DELETE FROM applications WHERE id = $1 AND version = $2 AND state = 'draft'",
    )
    .bind(id)
    .bind(version)
    .execute(&mut *conn)
    .await?;
    if deleted.rows_affected() != 1 {
        return Ok(false);
    }
    delete_apis(conn, id).await?;
    Ok(true)
}

/// Keeps others from the form until the transaction ends, so that what [`find`] then reads stays
/// true. False: there is no such form.
pub async fn lock(conn: &mut Conn, id: &str) -> Result<bool, DbError> {
    let locked = sqlx::query(
        "-- applications.lock
         UPDATE applications SET version = version WHERE id = $1",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    Ok(locked.rows_affected() == 1)
}

/// The form of that id.
pub async fn find(conn: &mut Conn, id: &str) -> Result<Option<Application>, DbError> {
    let row = sqlx::query(
        "-- applications.find
         SELECT * FROM applications WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => {
            let apis = apis_of(conn, id).await?;
            application(&row, apis).map(Some)
        }
        None => Ok(None),
    }
}

/// The form that holds `key` now, other than `except`: its number, or its id while it has none.
pub async fn holder_of_key(
    conn: &mut Conn,
    key: &CredentialId,
    except: Option<&str>,
) -> Result<Option<String>, DbError> {
    let row = sqlx::query(
        "-- applications.holder_of_key
         SELECT COALESCE(number, id) AS number FROM applications WHERE open_key = $1 AND id <> $2",
    )
    .bind(key.as_str())
    .bind(except.unwrap_or_default())
    .fetch_optional(&mut *conn)
    .await?;
    Ok(row.map(|row| row.try_get("number")).transpose()?)
}

/// Ids of forms whose scheduled effect is due, the longest overdue first.
pub async fn due(conn: &mut Conn, now: UnixMillis, limit: i64) -> Result<Vec<String>, DbError> {
    let rows = sqlx::query(
        "-- applications.due
         SELECT id FROM applications
          WHERE effect = 'scheduled' AND effect_at <= $1
          ORDER BY effect_at, id
          LIMIT $2",
    )
    .bind(now.0)
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// How many forms about a client can still go on.
pub async fn count_open_of(conn: &mut Conn, client: &ClientId) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- applications.count_open_of
         SELECT COUNT(*)
           FROM applications
          WHERE client = $1
            AND (state IN ('draft', 'pending_order', 'returned') OR effect = 'scheduled')",
    )
    .bind(client.as_str())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}

/// The forms about a client that can still go on, the oldest first: `limit` of them.
pub async fn open_of(conn: &mut Conn, client: &ClientId, limit: i64) -> Result<Vec<Application>, DbError> {
    let rows = sqlx::query(
        "-- applications.open_of
         SELECT * FROM applications
          WHERE client = $1
            AND (state IN ('draft', 'pending_order', 'returned') OR effect = 'scheduled')
          ORDER BY created_at, id
          LIMIT $2",
    )
    .bind(client.as_str())
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id: String = row.try_get("id")?;
        let apis = apis_of(conn, &id).await?;
        found.push(application(&row, apis)?);
    }
    Ok(found)
}

/// Keeps others from the forms about a client until the transaction ends.
pub async fn lock_all_of(conn: &mut Conn, client: &ClientId) -> Result<(), DbError> {
    sqlx::query(
        "-- applications.lock_all_of
         UPDATE applications SET version = version WHERE client = $1",
    )
    .bind(client.as_str())
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// The APIs that a form chooses.
pub async fn apis_of(conn: &mut Conn, id: &str) -> Result<BTreeSet<ApiUid>, DbError> {
    let rows = sqlx::query(
        "-- applications.apis_of
         SELECT api_uid FROM application_apis WHERE application_id = $1",
    )
    .bind(id)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| Ok(ApiUid(row.try_get("api_uid")?))).collect()
}

/// The APIs that each of these forms chooses, by form.
pub async fn apis_of_each(
    conn: &mut Conn,
    ids: &[String],
) -> Result<BTreeMap<String, BTreeSet<ApiUid>>, DbError> {
    let mut chosen: BTreeMap<String, BTreeSet<ApiUid>> = BTreeMap::new();
    for part in ids.chunks(MAX_IN) {
        let sql = format!(
            "-- applications.apis_of_each
             SELECT application_id, api_uid FROM application_apis WHERE application_id IN ({})",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for id in part {
            query = query.bind(id.clone());
        }
        for row in query.fetch_all(&mut *conn).await? {
            chosen.entry(row.try_get("application_id")?).or_default().insert(ApiUid(row.try_get("api_uid")?));
        }
    }
    Ok(chosen)
}

async fn insert_apis(conn: &mut Conn, application: &Application) -> Result<(), DbError> {
    for api in application.form.terms().into_iter().flat_map(|terms| &terms.apis) {
        sqlx::query(
            "-- applications.insert_api
             INSERT INTO application_apis (application_id, api_uid) VALUES ($1, $2)",
        )
        .bind(&application.id)
        .bind(api.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn delete_apis(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- applications.delete_apis
         DELETE FROM application_apis WHERE application_id = $1",
    )
    .bind(id)
    .execute(&mut *conn)
    .await?;
    Ok(())
}
