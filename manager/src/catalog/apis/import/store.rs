//! What an import asks of keys, which stand above the catalogue: it reads them and writes none.

use std::collections::BTreeMap;

use gate::id::ApiUid;
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::{Conn, DbError, MAX_IN, placeholders};

/// The keys that list these APIs and are not revoked: `<name> (<id>) of <client>`.
pub(super) async fn keys_listing(
    conn: &mut Conn,
    uids: &[ApiUid],
) -> Result<BTreeMap<ApiUid, Vec<String>>, DbError> {
    let mut listing: BTreeMap<ApiUid, Vec<String>> = BTreeMap::new();
    for part in uids.chunks(MAX_IN) {
        let sql = format!(
            "-- catalog.import_apis
             SELECT m.api_uid, k.id, k.alias, k.client_id
               FROM key_apis m
               JOIN keys k ON k.id = m.key_id
              WHERE k.state <> 'revoked'
                AND m.api_uid IN ({})
              ORDER BY k.id",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for uid in part {
            query = query.bind(uid.as_str());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let (key, name): (String, String) = (row.try_get("id")?, row.try_get("alias")?);
            let client: String = row.try_get("client_id")?;
            let uid = ApiUid(row.try_get("api_uid")?);
            listing.entry(uid).or_default().push(format!("{name} ({key}) of {client}"));
        }
    }
    Ok(listing)
}
