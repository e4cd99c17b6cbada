//! Reads `keys`, `clients`, `deleted_clients`, `applications` and `application_history`; writes
//! nothing.

use std::collections::BTreeMap;

use gate::time::{Interval, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{ClientNames, Filter, FormOfKey, KeyHistory, KeyStatus, Place, Signature};
use crate::approvals::FormKind;
use crate::db::{Conditions, Conn, DbError, MAX_IN, placeholders};

/// Up to `limit` keys, the newest first, that come after `place`; without their forms.
pub async fn keys(
    conn: &mut Conn,
    filter: &Filter,
    place: Option<&Place>,
    limit: i64,
    now: UnixMillis,
) -> Result<Vec<KeyHistory>, DbError> {
    let (sql, wanted) = keys_statement(filter, place, now);
    let rows = wanted.bind(sqlx::query(AssertSqlSafe(sql))).bind(limit).fetch_all(conn).await?;
    rows.iter().map(|row| key(row, now)).collect()
}

pub(super) fn keys_statement(
    filter: &Filter,
    place: Option<&Place>,
    now: UnixMillis,
) -> (String, Conditions) {
    let mut wanted = Conditions::default();
    if let Some(place) = place {
        wanted.after("(k.created_at, k.id) < (#)", place.created_at.0, &place.id);
    }
    if let Some(created) = filter.created {
        wanted.number("k.created_at >= #", created.from.0);
        wanted.number("k.created_at <= #", created.until.0);
    }
    if let Some(client) = &filter.client {
        wanted.text("k.client_id = #", client);
    }
    if !filter.statuses.is_empty() {
        let stored: Vec<&str> = filter.statuses.iter().map(|status| status.stored()).collect();
        wanted.any_of("k.state IN (#)", &stored);
    }
    match filter.overdue {
        Some(true) => wanted.number("k.expires_at < #", now.0),
        Some(false) => wanted.number("k.expires_at >= #", now.0),
        None => {}
    }
    if let Some(signers) = &filter.signers {
        // In the round that approved it, by themselves or by a delegate.
        wanted.any_of(
            "k.id IN (SELECT a.effect_key
                        FROM application_history h
                        JOIN applications a ON a.id = h.application_id
                       WHERE (h.actor IN (#) OR h.on_behalf_of IN (#))
                         AND h.action = 'approve'
                         AND a.effect_key IS NOT NULL
                         AND NOT EXISTS (SELECT 1
                                           FROM application_history r
                                          WHERE r.application_id = h.application_id
                                            AND r.action = 'resubmit'
                                            AND r.version > h.version))",
            signers,
        );
    }
    for pattern in filter.words.patterns() {
        wanted.text(
            "(k.search LIKE # ESCAPE '\\'
              OR LOWER(k.api_key) LIKE # ESCAPE '\\'
              OR k.id LIKE # ESCAPE '\\'
              OR c.search LIKE # ESCAPE '\\'
              OR d.search LIKE # ESCAPE '\\')",
            &pattern,
        );
    }
    let sql = format!(
        "-- reports.keys
         SELECT k.id, k.client_id, k.api_key, k.alias, k.effective_at, k.expires_at, k.state, k.revoked_at,
                k.origin, k.created_at, COALESCE(c.name, d.name) AS client_name,
                COALESCE(c.display_name, d.display_name) AS client_display_name
           FROM keys k
           LEFT JOIN clients c ON c.id = k.client_id
           LEFT JOIN deleted_clients d ON d.id = k.client_id
          WHERE {}
          ORDER BY k.created_at DESC, k.id DESC
          LIMIT ${}",
        wanted.sql(),
        wanted.next()
    );
    (sql, wanted)
}

/// The forms that had their effect on these keys, oldest first, by key.
pub async fn forms_of(conn: &mut Conn, keys: &[&str]) -> Result<BTreeMap<String, Vec<FormOfKey>>, DbError> {
    let mut found: BTreeMap<String, Vec<FormOfKey>> = BTreeMap::new();
    for part in keys.chunks(MAX_IN) {
        let sql = format!(
            "-- reports.forms_of
             SELECT id, number, kind, effect_key, effect_at
               FROM applications
              WHERE effect = 'done' AND effect_key IN ({})
              ORDER BY effect_at, id",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for key in part {
            query = query.bind((*key).to_owned());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let (id, kind): (String, String) = (row.try_get("id")?, row.try_get("kind")?);
            let wrong = |column| DbError::Inconsistency { table: "applications", column, row: id.clone() };
            let number: Option<String> = row.try_get("number")?;
            let form = FormOfKey {
                number: number.ok_or_else(|| wrong("number"))?,
                kind: FormKind::parse(&kind).ok_or_else(|| wrong("kind"))?,
                done_at: UnixMillis(row.try_get("effect_at")?),
                signatures: Vec::new(),
                id,
            };
            found.entry(row.try_get("effect_key")?).or_default().push(form);
        }
    }
    Ok(found)
}

/// The signatures of these forms in their last round, level after level, by form.
pub async fn signatures_of(
    conn: &mut Conn,
    forms: &[&str],
) -> Result<BTreeMap<String, Vec<Signature>>, DbError> {
    let mut found: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
    for part in forms.chunks(MAX_IN) {
        let sql = format!(
            "-- reports.signatures_of
             SELECT application_id, action, level, actor, on_behalf_of, at
               FROM application_history
              WHERE application_id IN ({})
                AND action IN ('submit', 'resubmit', 'approve')
              ORDER BY application_id, version",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for form in part {
            query = query.bind((*form).to_owned());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let (form, action): (String, String) = (row.try_get("application_id")?, row.try_get("action")?);
            let signatures = found.entry(form.clone()).or_default();
            if action != "approve" {
                // A new round: what was signed before no longer counts.
                signatures.clear();
                continue;
            }
            let level: Option<i64> = row.try_get("level")?;
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.ok_or(DbError::Inconsistency {
                table: "application_history",
                column: "level",
                row: form,
            })?;
            let (by, at) = (row.try_get("actor")?, UnixMillis(row.try_get("at")?));
            let on_behalf_of = row.try_get("on_behalf_of")?;
            signatures.push(Signature { level, by, name: None, on_behalf_of, on_behalf_of_name: None, at });
        }
    }
    Ok(found)
}

fn key(row: &AnyRow, now: UnixMillis) -> Result<KeyHistory, DbError> {
    let (id, state): (String, String) = (row.try_get("id")?, row.try_get("state")?);
    let status = KeyStatus::ALL.into_iter().find(|status| status.stored() == state);
    let status =
        status.ok_or_else(|| DbError::Inconsistency { table: "keys", column: "state", row: id.clone() })?;
    let validity = Interval {
        from: UnixMillis(row.try_get("effective_at")?),
        until: UnixMillis(row.try_get("expires_at")?),
    };
    let origin: String = row.try_get("origin")?;
    Ok(KeyHistory {
        client: ClientNames {
            id: row.try_get("client_id")?,
            name: row.try_get("client_name")?,
            display_name: row.try_get("client_display_name")?,
        },
        api_key: row.try_get("api_key")?,
        name: row.try_get("alias")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        overdue: validity.until < now,
        validity,
        status,
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(UnixMillis),
        imported: origin == "imported",
        forms: Vec::new(),
        id,
    })
}
