//! The only writer of `keys`, `key_secrets` and `key_apis`.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::{Interval, UnixMillis};
use gate::wire::exchange::Secret;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{ApiKey, Key, KeyName, KeyState, Origin, SealedSecret, SecretKey, Terms, UseQuota};
use crate::db::{Conn, DbError, MAX_IN, placeholders};
use crate::expiry::Ending;
use crate::vault::Vault;

/// A key with its secrets opened: what a grant is made of.
#[derive(Clone, Debug)]
pub struct OpenedKey {
    /// The key.
    pub key: Key,
    /// Its live secrets in clear, newest first.
    pub secrets: Vec<Secret>,
}

impl OpenedKey {
    /// The secrets that sign at `now`, newest first. One whose time is over is not among them,
    /// whatever became of the task that was to retire it.
    pub fn signing(&self, now: UnixMillis) -> Vec<Secret> {
        let both = self.key.secrets.iter().zip(&self.secrets);
        both.filter(|(sealed, _)| !sealed.is_over(now)).map(|(_, opened)| opened.clone()).collect()
    }

    /// When the next of them ends by itself.
    pub fn next_end(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.key.secrets.iter().filter_map(|secret| secret.ends_at).filter(|at| *at > now).min()
    }
}

const COLUMNS: &str = "id, client_id, api_key, alias, effective_at, expires_at, use_quota, state, revoked_at, \
     origin, version, created_at, updated_at";

/// The key that a request presents, with its secrets opened. The comparison minds the case.
pub async fn find_by_api_key(
    conn: &mut Conn,
    vault: &Vault,
    api_key: &str,
) -> Result<Option<OpenedKey>, DbError> {
    let Some(key) = find(conn, "find_by_api_key", "api_key", api_key).await? else { return Ok(None) };
    let secrets = open_secrets(vault, &key)?;
    Ok(Some(OpenedKey { key, secrets }))
}

/// The live secrets of a key in clear, newest first.
pub(super) fn open_secrets(vault: &Vault, key: &Key) -> Result<Vec<Secret>, DbError> {
    key.secrets
        .iter()
        .map(|secret| {
            let unusable =
                || DbError::Inconsistency { table: "key_secrets", column: "sealed", row: secret.id.clone() };
            let clear = vault.open(&purpose(&secret.id), &secret.sealed).map_err(|_| unusable())?;
            let text = std::str::from_utf8(&clear).map_err(|_| unusable())?;
            Ok(Secret { id: secret.id.clone(), text: text.into() })
        })
        .collect()
}

/// First and last characters of each live secret of a key, newest first.
pub fn masks(vault: &Vault, key: &Key) -> Result<Vec<Option<String>>, DbError> {
    let mask = |secret: &Secret| SecretKey::parse(&secret.text).ok().map(|secret| secret.mask());
    Ok(open_secrets(vault, key)?.iter().map(mask).collect())
}

/// What a secret is sealed for.
pub(super) fn purpose(secret_id: &str) -> String {
    format!("keys.secret:{secret_id}")
}

/// The key of that id.
pub async fn by_id(conn: &mut Conn, id: &CredentialId) -> Result<Option<Key>, DbError> {
    find(conn, "by_id", "id", id.as_str()).await
}

async fn find(conn: &mut Conn, name: &str, column: &str, value: &str) -> Result<Option<Key>, DbError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "-- keys.{name}
         SELECT {COLUMNS}
           FROM keys
          WHERE {column} = $1"
    )))
    .bind(value)
    .fetch_optional(&mut *conn)
    .await?;
    Ok(complete(conn, row.as_slice()).await?.pop())
}

/// Up to `limit` keys after the id `after`, by id; of one client, or of all.
pub async fn list(
    conn: &mut Conn,
    client: Option<&ClientId>,
    after: &str,
    limit: i64,
) -> Result<Vec<Key>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "-- keys.list
         SELECT {COLUMNS}
           FROM keys
          WHERE id > $1
            AND ($2 = '' OR client_id = $2)
          ORDER BY id
          LIMIT $3"
    )))
    .bind(after)
    .bind(client.map_or("", ClientId::as_str))
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    complete(conn, &rows).await
}

/// How many keys of a client are not revoked.
pub async fn count_live_of(conn: &mut Conn, client: &ClientId) -> Result<i64, DbError> {
    let row = sqlx::query(
        "-- keys.count_live_of
         SELECT COUNT(*)
           FROM keys
          WHERE client_id = $1 AND state <> 'revoked'",
    )
    .bind(client.as_str())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}

/// The keys of a client that are not revoked, by id: up to `limit` after the id `after`.
pub async fn live_of(
    conn: &mut Conn,
    client: &ClientId,
    after: &str,
    limit: i64,
) -> Result<Vec<Key>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "-- keys.live_of
         SELECT {COLUMNS}
           FROM keys
          WHERE client_id = $1 AND state <> 'revoked'
            AND id > $2
          ORDER BY id
          LIMIT $3"
    )))
    .bind(client.as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    complete(conn, &rows).await
}

/// Keeps others from the keys of a client until the transaction ends.
pub async fn lock_all_of(conn: &mut Conn, client: &ClientId) -> Result<(), DbError> {
    sqlx::query(
        "-- keys.lock_all_of
         UPDATE keys
            SET version = version
          WHERE client_id = $1 AND state <> 'revoked'",
    )
    .bind(client.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// The operator who applied for the key, if it was one.
pub(super) async fn applied_by(conn: &mut Conn, id: &CredentialId) -> Result<Option<String>, DbError> {
    let row = sqlx::query(
        "-- keys.applied_by
         SELECT applied_by FROM keys WHERE id = $1",
    )
    .bind(id.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

pub(super) async fn insert(conn: &mut Conn, key: &Key, applied_by: Option<&str>) -> Result<(), DbError> {
    sqlx::query(
        "-- keys.insert
         INSERT INTO keys (id, client_id, api_key, alias, effective_at, expires_at, use_quota, state, origin,
                           search, version, created_at, updated_at, applied_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(key.id.as_str())
    .bind(key.client.as_str())
    .bind(key.api_key.as_str())
    .bind(key.name.as_str())
    .bind(key.validity.from.0)
    .bind(key.validity.until.0)
    .bind(key.uses.as_number())
    .bind(key.state.name())
    .bind(key.origin.name())
    .bind(key.name.as_str().to_lowercase())
    .bind(key.version)
    .bind(key.created_at.0)
    .bind(key.updated_at.0)
    .bind(applied_by)
    .execute(&mut *conn)
    .await?;
    for secret in &key.secrets {
        insert_secret(conn, &key.id, secret).await?;
    }
    insert_apis(conn, &key.id, &key.apis).await
}

pub(super) async fn insert_secret(
    conn: &mut Conn,
    key: &CredentialId,
    secret: &SealedSecret,
) -> Result<(), DbError> {
    sqlx::query(
        "-- keys.insert_secret
         INSERT INTO key_secrets (id, key_id, sealed, created_at)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(&secret.id)
    .bind(key.as_str())
    .bind(&secret.sealed)
    .bind(secret.created_at.0)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn set_secret_end(conn: &mut Conn, secret: &str, at: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- keys.set_secret_end
         UPDATE key_secrets
            SET ends_at = $2
          WHERE id = $1",
    )
    .bind(secret)
    .bind(at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// None of the key's secrets ends by itself.
pub(super) async fn keep_secrets(conn: &mut Conn, key: &CredentialId) -> Result<(), DbError> {
    sqlx::query(
        "-- keys.keep_secrets
         UPDATE key_secrets
            SET ends_at = NULL
          WHERE key_id = $1 AND ends_at IS NOT NULL",
    )
    .bind(key.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether there was such a secret.
pub(super) async fn delete_secret(
    conn: &mut Conn,
    key: &CredentialId,
    secret: &str,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- keys.delete_secret
         DELETE FROM key_secrets
          WHERE key_id = $1 AND id = $2",
    )
    .bind(key.as_str())
    .bind(secret)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the key was there in that version and not revoked.
pub(super) async fn set_terms(
    conn: &mut Conn,
    id: &CredentialId,
    version: i64,
    terms: &Terms,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- keys.change
         UPDATE keys
            SET alias = $3, effective_at = $4, expires_at = $5, use_quota = $6, search = $7, version = version + 1,
                updated_at = $8, expiry_set_at = CASE WHEN expires_at = $5 THEN expiry_set_at ELSE $8 END,
                reminded_days = CASE WHEN expires_at = $5 THEN reminded_days END
          WHERE id = $1 AND version = $2 AND state <> 'revoked'",
    )
    .bind(id.as_str())
    .bind(version)
    .bind(terms.name.as_str())
    .bind(terms.validity.from.0)
    .bind(terms.validity.until.0)
    .bind(terms.uses.as_number())
    .bind(terms.name.as_str().to_lowercase())
    .bind(now.0)
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "-- keys.change.apis
         DELETE FROM key_apis WHERE key_id = $1",
    )
    .bind(id.as_str())
    .execute(&mut *conn)
    .await?;
    insert_apis(conn, id, &terms.apis).await?;
    Ok(true)
}

/// Whether the key was there in that version and not revoked.
pub(super) async fn revoke(
    conn: &mut Conn,
    id: &CredentialId,
    version: i64,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- keys.revoke
         UPDATE keys
            SET state = 'revoked', revoked_at = $3, version = version + 1, updated_at = $3
          WHERE id = $1 AND version = $2 AND state <> 'revoked'",
    )
    .bind(id.as_str())
    .bind(version)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the key was there in that version and not revoked.
pub(super) async fn set_state(
    conn: &mut Conn,
    id: &CredentialId,
    version: i64,
    state: KeyState,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- keys.set_state
         UPDATE keys
            SET state = $3, version = version + 1, updated_at = $4
          WHERE id = $1 AND version = $2 AND state <> 'revoked'",
    )
    .bind(id.as_str())
    .bind(version)
    .bind(state.name())
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps others from the key until the transaction ends. Whether it was there in that version and
/// not revoked.
pub(super) async fn hold(conn: &mut Conn, id: &CredentialId, version: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- keys.hold
         UPDATE keys
            SET version = version
          WHERE id = $1 AND version = $2 AND state <> 'revoked'",
    )
    .bind(id.as_str())
    .bind(version)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes a change of something that hangs on the key. Whether it was there in that version.
pub(super) async fn touch(
    conn: &mut Conn,
    id: &CredentialId,
    version: i64,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- keys.touch
         UPDATE keys
            SET version = version + 1, updated_at = $3
          WHERE id = $1 AND version = $2 AND state <> 'revoked'",
    )
    .bind(id.as_str())
    .bind(version)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Those of all keys that end from `now` to `until`, by their end and id: `limit` after `after`.
pub(super) async fn ending(
    conn: &mut Conn,
    (now, until): (UnixMillis, UnixMillis),
    after: &(i64, String),
    limit: i64,
) -> Result<Vec<Ending>, DbError> {
    // One lower bound, by which the index is entered: many keys end at the same time.
    let after = if after.0 < now.0 { (now.0, "") } else { (after.0, after.1.as_str()) };
    let rows = sqlx::query(
        "-- keys.ending
         SELECT id, expires_at, COALESCE(expiry_set_at, created_at) AS set_at, reminded_days, state
           FROM keys
          WHERE (expires_at, id) > ($1, $2)
            AND expires_at <= $3
          ORDER BY expires_at, id
          LIMIT $4",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(until.0)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Ending {
                id: CredentialId(row.try_get("id")?),
                expires_at: UnixMillis(row.try_get("expires_at")?),
                set_at: UnixMillis(row.try_get("set_at")?),
                reminded_days: row.try_get("reminded_days")?,
                works: row.try_get::<String, _>("state")? == KeyState::Active.name(),
            })
        })
        .collect()
}

/// Whether the key was active and ended then still, and had not been reminded of so late.
pub(super) async fn set_reminded(conn: &mut Conn, ending: &Ending, days: u16) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- keys.set_reminded
         UPDATE keys
            SET reminded_days = $3
          WHERE id = $1 AND expires_at = $2 AND state = 'active' AND (reminded_days IS NULL OR reminded_days > $3)",
    )
    .bind(ending.id.as_str())
    .bind(ending.expires_at.0)
    .bind(i64::from(days))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that a gateway admitted a request signed with that secret at `at`.
pub async fn note_secret_used(conn: &mut Conn, secret: &str, at: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- keys.note_secret_used
         UPDATE key_secrets
            SET last_used_at = $2
          WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
    )
    .bind(secret)
    .bind(at.0)
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_apis(conn: &mut Conn, key: &CredentialId, apis: &BTreeSet<ApiUid>) -> Result<(), DbError> {
    for api in apis {
        sqlx::query(
            "-- keys.insert_api
             INSERT INTO key_apis (key_id, api_uid)
             VALUES ($1, $2)",
        )
        .bind(key.as_str())
        .bind(api.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// The keys of `rows` with what hangs on them, which is asked once for all.
async fn complete(conn: &mut Conn, rows: &[AnyRow]) -> Result<Vec<Key>, DbError> {
    let ids: Vec<String> = rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
    let mut secrets = secrets_of(conn, &ids).await?;
    let mut apis = apis_of(conn, &ids).await?;
    let mut taken =
        |id: &String| (secrets.remove(id).unwrap_or_default(), apis.remove(id).unwrap_or_default());
    rows.iter().zip(&ids).map(|(row, id)| read(row, taken(id))).collect()
}

fn read(row: &AnyRow, (secrets, apis): (Vec<SealedSecret>, BTreeSet<ApiUid>)) -> Result<Key, DbError> {
    let id: String = row.try_get("id")?;
    let inconsistent =
        |column: &'static str| DbError::Inconsistency { table: "keys", column, row: id.clone() };
    let api_key: String = row.try_get("api_key")?;
    let name: String = row.try_get("alias")?;
    let state: String = row.try_get("state")?;
    let revoked_at: Option<i64> = row.try_get("revoked_at")?;
    let state = match (state.as_str(), revoked_at) {
        ("active", None) => KeyState::Active,
        ("inactive", None) => KeyState::Inactive,
        ("revoked", Some(at)) => KeyState::Revoked { revoked_at: UnixMillis(at) },
        _ => return Err(inconsistent("state")),
    };
    let origin: String = row.try_get("origin")?;
    let origin = [Origin::Issued, Origin::Imported]
        .into_iter()
        .find(|known| known.name() == origin)
        .ok_or_else(|| inconsistent("origin"))?;
    let id = CredentialId(id.clone());
    Ok(Key {
        client: ClientId(row.try_get("client_id")?),
        api_key: ApiKey::parse(&api_key).map_err(|_| inconsistent("api_key"))?,
        secrets,
        name: KeyName::parse(&name).map_err(|_| inconsistent("alias"))?,
        validity: Interval {
            from: UnixMillis(row.try_get("effective_at")?),
            until: UnixMillis(row.try_get("expires_at")?),
        },
        uses: UseQuota::parse(row.try_get("use_quota")?).map_err(|_| inconsistent("use_quota"))?,
        apis,
        state,
        origin,
        version: row.try_get("version")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        id,
    })
}

/// The secrets of these keys, newest first.
async fn secrets_of(
    conn: &mut Conn,
    keys: &[String],
) -> Result<BTreeMap<String, Vec<SealedSecret>>, DbError> {
    let mut found: BTreeMap<String, Vec<SealedSecret>> = BTreeMap::new();
    for part in keys.chunks(MAX_IN) {
        let sql = format!(
            "-- keys.secrets_of
             SELECT key_id, id, sealed, created_at, last_used_at, ends_at
               FROM key_secrets
              WHERE key_id IN ({})
              ORDER BY created_at DESC, id DESC",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for key in part {
            query = query.bind(key.as_str());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let (last_used_at, ends_at): (Option<i64>, Option<i64>) =
                (row.try_get("last_used_at")?, row.try_get("ends_at")?);
            let secret = SealedSecret {
                id: row.try_get("id")?,
                sealed: row.try_get("sealed")?,
                created_at: UnixMillis(row.try_get("created_at")?),
                last_used_at: last_used_at.map(UnixMillis),
                ends_at: ends_at.map(UnixMillis),
            };
            found.entry(row.try_get("key_id")?).or_default().push(secret);
        }
    }
    Ok(found)
}

async fn apis_of(conn: &mut Conn, keys: &[String]) -> Result<BTreeMap<String, BTreeSet<ApiUid>>, DbError> {
    let mut found: BTreeMap<String, BTreeSet<ApiUid>> = BTreeMap::new();
    for part in keys.chunks(MAX_IN) {
        let sql = format!(
            "-- keys.apis_of
             SELECT key_id, api_uid FROM key_apis WHERE key_id IN ({})",
            placeholders(1, part.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for key in part {
            query = query.bind(key.as_str());
        }
        for row in query.fetch_all(&mut *conn).await? {
            found.entry(row.try_get("key_id")?).or_default().insert(ApiUid(row.try_get("api_uid")?));
        }
    }
    Ok(found)
}

/// A secret, sealed for its row.
pub(super) fn sealed(vault: &Vault, id: String, secret: &SecretKey, now: UnixMillis) -> SealedSecret {
    let sealed = vault.seal(&purpose(&id), secret.reveal().as_bytes());
    SealedSecret { id, sealed, created_at: now, last_used_at: None, ends_at: None }
}
