//! The only writer of `token_keys` and `token_key_head`.

use gate::id::Revision;
use gate::time::UnixMillis;
use gate::wire::directory::TokenKey;
use sqlx::Row as _;

use crate::db::{Conn, DbError};

/// A key as it lies there.
pub(super) struct Stored {
    pub kid: String,
    pub sealed_key: String,
    pub created_at: UnixMillis,
    pub signs_from: UnixMillis,
    /// No access token of it lives any more: it reads refresh tokens alone.
    pub closed: bool,
}

/// The public keys as gateways have them, and the change that announced them as they are.
pub async fn of_directory(conn: &mut Conn) -> Result<(Vec<TokenKey>, Revision), DbError> {
    let rows = sqlx::query(
        "-- tokens.keys.of_directory
         SELECT kid, public_key
           FROM token_keys
          WHERE withdrawn_at IS NULL
            AND closed_at IS NULL
          ORDER BY signs_from, kid",
    )
    .fetch_all(&mut *conn)
    .await?;
    let keys = rows
        .iter()
        .map(|row| Ok(TokenKey { kid: row.try_get("kid")?, spki: row.try_get("public_key")? }))
        .collect::<Result<_, DbError>>()?;
    let revision: i64 = sqlx::query(
        "-- tokens.keys.revision
         SELECT revision FROM token_key_head WHERE id = 1",
    )
    .fetch_one(conn)
    .await?
    .try_get(0)?;
    Ok((keys, Revision(revision as u64)))
}

/// All of them that were not withdrawn, in the order in which they sign.
pub(super) async fn load(conn: &mut Conn) -> Result<Vec<Stored>, DbError> {
    sqlx::query(
        "-- tokens.keys.load
         SELECT kid, sealed_key, created_at, signs_from, closed_at
           FROM token_keys
          WHERE withdrawn_at IS NULL
          ORDER BY signs_from, kid",
    )
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| {
        Ok(Stored {
            kid: row.try_get("kid")?,
            sealed_key: row.try_get("sealed_key")?,
            created_at: UnixMillis(row.try_get("created_at")?),
            signs_from: UnixMillis(row.try_get("signs_from")?),
            closed: row.try_get::<Option<i64>, _>("closed_at")?.is_some(),
        })
    })
    .collect()
}

/// Has others who change the set wait until the transaction ends.
pub(super) async fn hold(conn: &mut Conn) -> Result<(), DbError> {
    sqlx::query(
        "-- tokens.keys.hold
         UPDATE token_key_head
            SET revision = revision
          WHERE id = 1",
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert(conn: &mut Conn, key: &Stored, public_key: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- tokens.keys.insert
         INSERT INTO token_keys (kid, public_key, sealed_key, created_at, signs_from)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&key.kid)
    .bind(public_key)
    .bind(&key.sealed_key)
    .bind(key.created_at.0)
    .bind(key.signs_from.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// The set was announced by that change.
pub(super) async fn announced(conn: &mut Conn, revision: Revision) -> Result<(), DbError> {
    sqlx::query(
        "-- tokens.keys.announced
         UPDATE token_key_head
            SET revision = $1
          WHERE id = 1",
    )
    .bind(revision.0 as i64)
    .execute(conn)
    .await?;
    Ok(())
}

/// It signs from then on.
pub(super) async fn sign_from(conn: &mut Conn, kid: &str, at: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- tokens.keys.sign_from
         UPDATE token_keys
            SET signs_from = $2
          WHERE kid = $1",
    )
    .bind(kid)
    .bind(at.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// It signs and reads nothing more: what was secret of it is gone. False: it is gone already.
pub(super) async fn withdraw(conn: &mut Conn, kid: &str, now: UnixMillis) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- tokens.keys.withdraw
         UPDATE token_keys
            SET withdrawn_at = $2, sealed_key = ''
          WHERE kid = $1
            AND withdrawn_at IS NULL",
    )
    .bind(kid)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// It reads refresh tokens alone. False: it does so already, or is gone.
pub(super) async fn close(conn: &mut Conn, kid: &str, now: UnixMillis) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- tokens.keys.close
         UPDATE token_keys
            SET closed_at = $2
          WHERE kid = $1
            AND withdrawn_at IS NULL
            AND closed_at IS NULL",
    )
    .bind(kid)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets withdrawn keys that no token on record names.
pub(in crate::tokens) async fn forget_withdrawn(conn: &mut Conn) -> Result<(), DbError> {
    sqlx::query(
        "-- tokens.keys.forget_withdrawn
         DELETE FROM token_keys
          WHERE withdrawn_at IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM tokens t WHERE t.kid = token_keys.kid)
            AND NOT EXISTS (SELECT 1 FROM refresh_tokens r WHERE r.kid = token_keys.kid)",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// False: it is gone already.
pub(super) async fn delete(conn: &mut Conn, kid: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- tokens.keys.delete
         DELETE FROM token_keys WHERE kid = $1",
    )
    .bind(kid)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
