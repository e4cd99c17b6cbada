//! The only writer of `gateways`, `gateway_tokens` and `holders`.

use gate::id::Revision;
use gate::time::UnixMillis;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::model::{Envoy, Gateway, GatewayName, Sighting, Token};
use crate::db::{Conn, DbError};

/// How often a holder's row is written at most: a call that comes sooner leaves it as it is.
pub const SEEN_EVERY_MS: i64 = 1_000;
/// Holders not seen for so long are forgotten (30 days): each start of an Envoy is a new one.
pub const HOLDER_KEPT_MS: i64 = 30 * 86_400_000;

pub(super) async fn insert(
    conn: &mut Conn,
    id: &str,
    name: &GatewayName,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- gateways.insert
         INSERT INTO gateways (id, name, created_at)
         VALUES ($1, $2, $3)",
    )
    .bind(id)
    .bind(name.as_str())
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// The gateway of that id or name, locked until the transaction ends.
pub(super) async fn lock(conn: &mut Conn, id_or_name: &str) -> Result<Option<Gateway>, DbError> {
    let row = sqlx::query(
        "-- gateways.lock
         UPDATE gateways
            SET name = name
          WHERE id = $1 OR name = $1
      RETURNING id, name, created_at",
    )
    .bind(id_or_name)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(parse_gateway).transpose()
}

/// All gateways by name.
pub(super) async fn list(conn: &mut Conn) -> Result<Vec<Gateway>, DbError> {
    let rows = sqlx::query(
        "-- gateways.list
         SELECT id, name, created_at
           FROM gateways
          ORDER BY name",
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(parse_gateway).collect()
}

pub(super) async fn insert_token(
    conn: &mut Conn,
    id: &str,
    gateway: &str,
    sha256: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- gateways.insert_token
         INSERT INTO gateway_tokens (id, gateway, sha256, created_at, revoked_at)
         VALUES ($1, $2, $3, $4, NULL)",
    )
    .bind(id)
    .bind(gateway)
    .bind(sha256)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// The live tokens of all gateways, oldest first.
pub(super) async fn live_tokens(conn: &mut Conn) -> Result<Vec<Token>, DbError> {
    let rows = sqlx::query(
        "-- gateways.live_tokens
         SELECT id, gateway, created_at
           FROM gateway_tokens
          WHERE revoked_at IS NULL
          ORDER BY created_at, id",
    )
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Token {
                id: row.try_get(0)?,
                gateway: row.try_get(1)?,
                created_at: UnixMillis(row.try_get(2)?),
            })
        })
        .collect()
}

/// Whether it was live until now.
pub(super) async fn revoke_token(
    conn: &mut Conn,
    gateway: &str,
    token: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let revoked = sqlx::query(
        "-- gateways.revoke_token
         UPDATE gateway_tokens
            SET revoked_at = $3
          WHERE id = $2 AND gateway = $1 AND revoked_at IS NULL",
    )
    .bind(gateway)
    .bind(token)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(revoked.rows_affected() == 1)
}

/// The gateway whose live token has that hash.
pub(super) async fn by_token(conn: &mut Conn, sha256: &str) -> Result<Option<Gateway>, DbError> {
    let row = sqlx::query(
        "-- gateways.by_token
         SELECT gateways.id, gateways.name, gateways.created_at
           FROM gateway_tokens
           JOIN gateways ON gateways.id = gateway_tokens.gateway
          WHERE gateway_tokens.sha256 = $1 AND gateway_tokens.revoked_at IS NULL",
    )
    .bind(sha256)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(parse_gateway).transpose()
}

/// Whose holder it is and when it was last seen.
pub(super) async fn holder(conn: &mut Conn, holder: &str) -> Result<Option<(String, UnixMillis)>, DbError> {
    let row = sqlx::query(
        "-- gateways.holder
         SELECT gateway, last_seen_at FROM holders WHERE id = $1",
    )
    .bind(holder)
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((row.try_get(0)?, UnixMillis(row.try_get(1)?)))).transpose()
}

/// Writes down what a filter said of itself; false when the holder is another gateway's.
pub(super) async fn see(
    conn: &mut Conn,
    gateway: &str,
    seen: &Sighting,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let written = sqlx::query(
        "-- gateways.see
         INSERT INTO holders (id, gateway, first_seen_at, last_seen_at,
                              filter_version, directory_revision, feed_revision, leases_held)
         VALUES ($1, $2, $3, $3, COALESCE($4, ''), COALESCE($5, 0), $6, COALESCE($7, 0))
             ON CONFLICT (id) DO UPDATE
            SET last_seen_at       = CASE WHEN excluded.last_seen_at > holders.last_seen_at
                                          THEN excluded.last_seen_at ELSE holders.last_seen_at END,
                filter_version     = COALESCE($4, holders.filter_version),
                directory_revision = COALESCE($5, holders.directory_revision),
                -- Replicas write down what they have gathered late, and not in its order.
                feed_revision      = CASE WHEN excluded.last_seen_at >= holders.last_seen_at
                                          THEN excluded.feed_revision ELSE holders.feed_revision END,
                leases_held        = COALESCE($7, holders.leases_held)
          WHERE holders.gateway = excluded.gateway",
    )
    .bind(seen.holder.to_string())
    .bind(gateway)
    .bind(now.0)
    .bind(seen.filter_version.as_deref())
    .bind(seen.directory.map(|revision| revision.0 as i64))
    .bind(seen.feed.0 as i64)
    .bind(seen.leases_held.map(i64::from))
    .execute(conn)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Envoys that were not seen for long are forgotten.
pub(super) async fn forget_unseen(conn: &mut Conn, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- gateways.forget_unseen
         DELETE FROM holders WHERE last_seen_at < $1",
    )
    .bind(now.0 - HOLDER_KEPT_MS)
    .execute(conn)
    .await?;
    Ok(())
}

/// The Envoys of one gateway, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The gateway's name.
    pub gateway: String,
    /// How many Envoys.
    pub envoys: u64,
    /// The last change that the one which is furthest behind knows.
    pub feed: Revision,
    /// Leases that all of them hold, as they state.
    pub leases_held: u64,
}

/// Gateways with an Envoy that was seen since `since`, by name.
pub async fn seen_since(conn: &mut Conn, since: UnixMillis) -> Result<Vec<Seen>, DbError> {
    let rows = sqlx::query(
        "-- gateways.seen_since
         SELECT gateways.name, COUNT(*), MIN(feed_revision), CAST(SUM(leases_held) AS BIGINT)
           FROM holders
           JOIN gateways ON gateways.id = holders.gateway
          WHERE last_seen_at >= $1
          GROUP BY gateways.name
          ORDER BY gateways.name",
    )
    .bind(since.0)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Seen {
                gateway: row.try_get(0)?,
                envoys: row.try_get::<i64, _>(1)? as u64,
                feed: Revision(row.try_get::<i64, _>(2)? as u64),
                leases_held: row.try_get::<i64, _>(3)? as u64,
            })
        })
        .collect()
}

/// The Envoys seen last, newest first.
pub(super) async fn envoys(conn: &mut Conn, limit: i64) -> Result<Vec<Envoy>, DbError> {
    let rows = sqlx::query(
        "-- gateways.envoys
         SELECT id, gateway, first_seen_at, last_seen_at,
                filter_version, directory_revision, feed_revision, leases_held
           FROM holders
          ORDER BY last_seen_at DESC, id
          LIMIT $1",
    )
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Envoy {
                holder: row.try_get(0)?,
                gateway: row.try_get(1)?,
                first_seen_at: UnixMillis(row.try_get(2)?),
                last_seen_at: UnixMillis(row.try_get(3)?),
                filter_version: row.try_get(4)?,
                directory: Revision(row.try_get::<i64, _>(5)? as u64),
                feed: Revision(row.try_get::<i64, _>(6)? as u64),
                leases_held: row.try_get::<i64, _>(7)? as u32,
            })
        })
        .collect()
}

fn parse_gateway(row: &AnyRow) -> Result<Gateway, DbError> {
    Ok(Gateway { id: row.try_get(0)?, name: row.try_get(1)?, created_at: UnixMillis(row.try_get(2)?) })
}
