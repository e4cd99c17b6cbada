//! Reads `clients`, `client_groups`, `api_groups`, `apis` and `api_group_apis`; writes nothing.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row};

use crate::db::{Conditions, Conn, DbError, placeholders};
use crate::search::Words;

/// A client as far as an applicant sees it.
#[derive(Debug)]
pub(super) struct PickedClient {
    pub id: String,
    pub name: String,
    pub display_name: String,
    pub status: String,
    pub has_address: bool,
}

/// An API as far as an applicant sees it.
#[derive(Debug)]
pub(super) struct PickedApi {
    pub uid: String,
    pub sort_key: String,
    pub module: String,
    pub id: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub source: String,
    pub audience: String,
    /// Names of credentials, with blanks between them.
    pub accepts: String,
    pub no_auth: bool,
}

/// Up to `limit` clients after the id `after`. `groups`: names of their groups are searched too.
pub(super) async fn clients(
    conn: &mut Conn,
    words: &Words,
    groups: bool,
    after: &str,
    limit: i64,
) -> Result<Vec<PickedClient>, DbError> {
    let mut wanted = Conditions::default();
    wanted.text("c.id > #", after);
    for pattern in words.patterns() {
        match groups {
            true => wanted.text(
                "(c.search LIKE # ESCAPE '\\'
                  OR EXISTS (SELECT 1 FROM client_groups g JOIN api_groups a ON a.id = g.group_id
                              WHERE g.client_id = c.id AND LOWER(a.name) LIKE # ESCAPE '\\'))",
                &pattern,
            ),
            false => wanted.text("c.search LIKE # ESCAPE '\\'", &pattern),
        }
    }
    let sql = format!(
        "-- applications.pick_clients
         SELECT c.id, c.name, c.display_name, c.status,
                CAST(CASE WHEN c.emails = '' THEN 0 ELSE 1 END AS BIGINT) AS has_address
           FROM clients c
          WHERE {}
          ORDER BY c.id
          LIMIT ${}",
        wanted.sql(),
        wanted.next()
    );
    let rows = wanted.bind(sqlx::query(AssertSqlSafe(sql))).bind(limit).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(PickedClient {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                display_name: row.try_get("display_name")?,
                status: row.try_get("status")?,
                has_address: row.try_get::<i64, _>("has_address")? != 0,
            })
        })
        .collect()
}

/// Up to `limit` APIs after the sort key `after`; those that are disabled or were not registered only
/// where asked for.
pub(super) async fn apis(
    conn: &mut Conn,
    words: &Words,
    (disabled, unregistered): (bool, bool),
    after: &str,
    limit: i64,
) -> Result<Vec<PickedApi>, DbError> {
    let mut wanted = Conditions::default();
    wanted.text("sort_key > #", after);
    if !disabled {
        wanted.plain("enabled = 1");
    }
    if !unregistered {
        wanted.plain("source = 'registered'");
    }
    for pattern in words.patterns() {
        wanted.text("search LIKE # ESCAPE '\\'", &pattern);
    }
    let sql = format!(
        "-- applications.pick_apis
         SELECT uid, sort_key, module, api_id, name, description, enabled, source, audience, accepts,
                no_auth
           FROM apis
          WHERE {}
          ORDER BY sort_key
          LIMIT ${}",
        wanted.sql(),
        wanted.next()
    );
    let rows = wanted.bind(sqlx::query(AssertSqlSafe(sql))).bind(limit).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(PickedApi {
                uid: row.try_get("uid")?,
                sort_key: row.try_get("sort_key")?,
                module: row.try_get("module")?,
                id: row.try_get("api_id")?,
                name: row.try_get("name")?,
                description: row.try_get("description")?,
                enabled: row.try_get::<i64, _>("enabled")? != 0,
                source: row.try_get("source")?,
                audience: row.try_get("audience")?,
                accepts: row.try_get("accepts")?,
                no_auth: row.try_get::<i64, _>("no_auth")? != 0,
            })
        })
        .collect()
}

/// The levels of the groups that contain these APIs (a page of them), by API.
pub(super) async fn levels_of(
    conn: &mut Conn,
    uids: &[&str],
) -> Result<BTreeMap<String, Vec<String>>, DbError> {
    let mut levels: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if uids.is_empty() {
        return Ok(levels);
    }
    let sql = format!(
        "-- applications.pick_levels
         SELECT m.api_uid, g.security_level
           FROM api_group_apis m
           JOIN api_groups g ON g.id = m.group_id
          WHERE g.kind = 'group' AND m.api_uid IN ({})",
        placeholders(1, uids.len())
    );
    let query = uids.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, uid| query.bind((*uid).to_owned()));
    for row in query.fetch_all(conn).await? {
        levels.entry(row.try_get("api_uid")?).or_default().push(row.try_get("security_level")?);
    }
    Ok(levels)
}
