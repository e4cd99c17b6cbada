//! Tables `applications`, `application_apis` and `application_bindings`.

use std::collections::BTreeMap;

use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::applicant::Applicant;
use super::model::{Application, State};
use super::row::{Columns, Lists, application};
use crate::clients::Binding;
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
             client, key_id, name, display_name, emails, effective_date, expiry_date, quota, reset_usage,
             description, search, state, level, levels, ended_at,
             effect, effect_at, effect_key, effect_client, effect_failure, open_key, credentials_go_to)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                 $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)",
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
    .bind(columns.client)
    .bind(application.form.key().map(|key| key.0.clone()))
    .bind(columns.name)
    .bind(columns.display_name)
    .bind(columns.emails)
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
    .bind(columns.effect_client)
    .bind(columns.effect_failure)
    .bind(columns.open_key)
    .bind(columns.credentials_go_to)
    .execute(&mut *conn)
    .await?;
    insert_lists(conn, application).await
}

/// Keeps everything of a form that can change, in place of the version before
/// `application.version`, which must stand at `before`. False: it does not, nothing was written.
pub async fn update(conn: &mut Conn, application: &Application, before: &State) -> Result<bool, DbError> {
    let columns = Columns::of(application);
    let updated = sqlx::query(
        "-- applications.update
         UPDATE applications
            SET number            = $1,
                version           = $2,
                submitted_at      = $3,
                updated_at        = $4,
                client            = $5,
                key_id            = $6,
                name              = $7,
                display_name      = $8,
                emails            = $9,
                effective_date    = $10,
                expiry_date       = $11,
                quota             = $12,
                reset_usage       = $13,
                description       = $14,
                search            = $15,
                state             = $16,
                level             = $17,
                levels            = $18,
                ended_at          = $19,
                effect            = $20,
                effect_at         = $21,
                effect_key        = $22,
                effect_client     = $23,
                effect_failure    = $24,
                open_key          = $25,
                credentials_go_to = $26
          WHERE id = $27 AND version = $2 - 1 AND state = $28",
    )
    .bind(columns.number)
    .bind(application.version)
    .bind(application.submitted_at.map(|at| at.0))
    .bind(application.updated_at.0)
    .bind(columns.client)
    .bind(application.form.key().map(|key| key.0.clone()))
    .bind(columns.name)
    .bind(columns.display_name)
    .bind(columns.emails)
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
    .bind(columns.effect_client)
    .bind(columns.effect_failure)
    .bind(columns.open_key)
    .bind(columns.credentials_go_to)
    .bind(&application.id)
    .bind(before.name())
    .execute(&mut *conn)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Replaces the APIs and the addresses that a form lists.
pub async fn replace_lists(conn: &mut Conn, application: &Application) -> Result<(), DbError> {
    delete_lists(conn, &application.id).await?;
    insert_lists(conn, application).await
}

/// Throws a draft away with what it lists. False: it is no longer a draft of that version.
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
    delete_lists(conn, id).await?;
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
            let lists = lists_of(conn, id).await?;
            application(&row, lists).map(Some)
        }
        None => Ok(None),
    }
}

/// The form that issued that key (`kind` is `key`), or made that client (`client`).
pub async fn that_made(conn: &mut Conn, kind: &str, id: &str) -> Result<Option<Application>, DbError> {
    let row = sqlx::query(
        "-- applications.that_made
         SELECT id
           FROM applications
          WHERE (kind = 'KA' AND $1 = 'key' AND effect_key = $2)
             OR (kind = 'CR' AND $1 = 'client' AND effect_client = $2)",
    )
    .bind(kind)
    .bind(id)
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => find(conn, row.try_get("id")?).await,
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

/// Forms whose scheduled effect is due, the longest overdue first, behind the one that `after` names:
/// since when, and their ids.
pub async fn due(
    conn: &mut Conn,
    now: UnixMillis,
    after: &(i64, String),
    limit: i64,
) -> Result<Vec<(i64, String)>, DbError> {
    let rows = sqlx::query(
        "-- applications.due
         SELECT id, effect_at FROM applications
          WHERE effect = 'scheduled' AND effect_at <= $1 AND (effect_at, id) > ($2, $3)
          ORDER BY effect_at, id
          LIMIT $4",
    )
    .bind(now.0)
    .bind(after.0)
    .bind(&after.1)
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("effect_at")?, row.try_get("id")?))).collect()
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

/// How many forms of an applicant are drafts, wait, or came back.
pub async fn count_open_by(conn: &mut Conn, applicant: &Applicant) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- applications.count_open_by
         SELECT COUNT(*)
           FROM applications
          WHERE applicant_kind = $1 AND applicant = $2 AND state IN ('draft', 'pending_order', 'returned')",
    )
    .bind(applicant.kind())
    .bind(applicant.id())
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
        let lists = lists_of(conn, &id).await?;
        found.push(application(&row, lists)?);
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

/// Up to `limit` forms whose round stands elsewhere than they do, or that have none.
pub async fn astray(conn: &mut Conn, limit: i64) -> Result<Vec<String>, DbError> {
    let sql = format!(
        "-- applications.astray
         SELECT id FROM ({ASTRAY}) AS astray LIMIT $1"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(limit).fetch_all(&mut *conn).await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Whether that form is one of [`astray`].
pub async fn is_astray(conn: &mut Conn, id: &str) -> Result<bool, DbError> {
    let sql = format!(
        "-- applications.is_astray
         SELECT id FROM ({ASTRAY}) AS astray WHERE id = $1"
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.to_owned()).fetch_optional(&mut *conn).await?;
    Ok(row.is_some())
}

/// Rounds are counted with every submission.
const ASTRAY: &str = "SELECT a.id
           FROM applications a
           LEFT JOIN approval_rounds r ON r.form = a.id
          WHERE a.state = 'pending_order'
            AND (r.level IS NULL OR r.level <> a.level OR r.levels <> a.levels
                 OR r.round <> (SELECT COUNT(*)
                                  FROM application_history h
                                 WHERE h.application_id = a.id AND h.action IN ('submit', 'resubmit')))
      UNION ALL
         SELECT a.id
           FROM approval_rounds r
           JOIN applications a ON a.id = r.form
          WHERE r.level IS NOT NULL
            AND a.state <> 'pending_order'";

/// What a form keeps beside its row.
pub async fn lists_of(conn: &mut Conn, id: &str) -> Result<Lists, DbError> {
    let lists = lists_of_each(conn, &[id.to_owned()]).await?.remove(id);
    Ok(lists.unwrap_or_default())
}

/// What each of these forms keeps beside its row, by form.
pub async fn lists_of_each(conn: &mut Conn, ids: &[String]) -> Result<BTreeMap<String, Lists>, DbError> {
    let mut lists: BTreeMap<String, Lists> = BTreeMap::new();
    for part in ids.chunks(MAX_IN) {
        let marks = placeholders(1, part.len());
        let apis = format!(
            "-- applications.apis_of_each
             SELECT application_id, api_uid FROM application_apis WHERE application_id IN ({marks})"
        );
        for row in of_part(conn, apis, part).await? {
            let of_form = lists.entry(row.try_get("application_id")?).or_default();
            of_form.apis.insert(ApiUid(row.try_get("api_uid")?));
        }
        let bindings = format!(
            "-- applications.bindings_of_each
             SELECT application_id, name, address FROM application_bindings
              WHERE application_id IN ({marks})
              ORDER BY application_id, position"
        );
        for row in of_part(conn, bindings, part).await? {
            let of_form = lists.entry(row.try_get("application_id")?).or_default();
            of_form.bindings.push(binding(&row)?);
        }
    }
    Ok(lists)
}

async fn of_part(conn: &mut Conn, sql: String, ids: &[String]) -> Result<Vec<AnyRow>, DbError> {
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for id in ids {
        query = query.bind(id.clone());
    }
    Ok(query.fetch_all(&mut *conn).await?)
}

fn binding(row: &AnyRow) -> Result<Binding, DbError> {
    Ok(Binding { name: row.try_get("name")?, address: row.try_get("address")? })
}

async fn insert_lists(conn: &mut Conn, application: &Application) -> Result<(), DbError> {
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
    let bindings = application.form.registration().into_iter().flat_map(|asked| &asked.bindings);
    for (position, binding) in (1_i64..).zip(bindings) {
        sqlx::query(
            "-- applications.insert_binding
             INSERT INTO application_bindings (application_id, position, name, address)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(&application.id)
        .bind(position)
        .bind(&binding.name)
        .bind(&binding.address)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn delete_lists(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    for statement in [
        "-- applications.delete_apis
         DELETE FROM application_apis WHERE application_id = $1",
        "-- applications.delete_bindings
         DELETE FROM application_bindings WHERE application_id = $1",
    ] {
        sqlx::query(statement).bind(id).execute(&mut *conn).await?;
    }
    Ok(())
}
