//! Table `operator_tokens`: sessions and API tokens.

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::model::{Token, TokenKind};
use crate::db::{Conn, DbError};
use crate::operators::permission::Permission;

pub(in crate::operators) async fn insert(
    conn: &mut Conn,
    token: &Token,
    sha256: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "-- operator_tokens.create
         INSERT INTO operator_tokens (id, operator_id, kind, name, sha256, permissions, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&token.id)
    .bind(&token.operator)
    .bind(token.kind.as_str())
    .bind(&token.name)
    .bind(sha256)
    .bind(token.scope.as_ref().map(Permission::text_of))
    .bind(token.created_at.0)
    .bind(token.expires_at.map(|at| at.0))
    .execute(conn)
    .await?;
    Ok(())
}

pub(in crate::operators) async fn by_hash(conn: &mut Conn, sha256: &str) -> Result<Option<Token>, DbError> {
    sqlx::query(
        "-- operator_tokens.authenticate
         SELECT id, operator_id, kind, name, permissions, created_at, expires_at, last_used_at, revoked_at
           FROM operator_tokens
          WHERE sha256 = $1",
    )
    .bind(sha256)
    .fetch_optional(conn)
    .await?
    .map(|row| read(&row))
    .transpose()
}

/// Tokens of an operator that were not revoked, oldest first; some may have run out.
pub(in crate::operators) async fn of_operator(
    conn: &mut Conn,
    operator: &str,
    kind: TokenKind,
) -> Result<Vec<Token>, DbError> {
    sqlx::query(
        "-- operator_tokens.list
         SELECT id, operator_id, kind, name, permissions, created_at, expires_at, last_used_at, revoked_at
           FROM operator_tokens
          WHERE operator_id = $1
            AND kind = $2
            AND revoked_at IS NULL
          ORDER BY created_at, id",
    )
    .bind(operator)
    .bind(kind.as_str())
    .fetch_all(conn)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// Remembers a use, unless one after `before` is on record.
pub(in crate::operators) async fn used(
    conn: &mut Conn,
    id: &str,
    before: UnixMillis,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- operator_tokens.used
         UPDATE operator_tokens
            SET last_used_at = $1
          WHERE id = $2
            AND (last_used_at IS NULL OR last_used_at <= $3)",
    )
    .bind(now.0)
    .bind(id)
    .bind(before.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Revokes one token of this kind. False: there is none of that id that was not revoked.
pub(in crate::operators) async fn revoke(
    conn: &mut Conn,
    operator: &str,
    kind: TokenKind,
    id: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- operator_tokens.revoke
         UPDATE operator_tokens
            SET revoked_at = $1
          WHERE id = $2
            AND operator_id = $3
            AND kind = $4
            AND revoked_at IS NULL",
    )
    .bind(now.0)
    .bind(id)
    .bind(operator)
    .bind(kind.as_str())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Revokes the sessions of an operator but `except` (`""`: all). How many there were.
pub(in crate::operators) async fn revoke_sessions(
    conn: &mut Conn,
    operator: &str,
    except: &str,
    now: UnixMillis,
) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- operator_tokens.revoke_sessions
         UPDATE operator_tokens
            SET revoked_at = $1
          WHERE operator_id = $2
            AND kind = $3
            AND id <> $4
            AND revoked_at IS NULL",
    )
    .bind(now.0)
    .bind(operator)
    .bind(TokenKind::Session.as_str())
    .bind(except)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Revokes the API tokens of an operator. How many live ones there were.
pub(in crate::operators) async fn revoke_api_tokens(
    conn: &mut Conn,
    operator: &str,
    now: UnixMillis,
) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- operator_tokens.revoke_api_tokens
         UPDATE operator_tokens
            SET revoked_at = $1
          WHERE operator_id = $2
            AND kind = $3
            AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at >= $1)",
    )
    .bind(now.0)
    .bind(operator)
    .bind(TokenKind::Api.as_str())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Revokes the oldest sessions of an operator, so that `kept` are left.
pub(in crate::operators) async fn revoke_oldest_sessions(
    conn: &mut Conn,
    operator: &str,
    kept: i64,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- operator_tokens.revoke_oldest
         UPDATE operator_tokens
            SET revoked_at = $1
          WHERE operator_id = $2
            AND kind = $3
            AND revoked_at IS NULL
            AND id NOT IN (
                SELECT id
                  FROM operator_tokens
                 WHERE operator_id = $2
                   AND kind = $3
                   AND revoked_at IS NULL
                 ORDER BY created_at DESC, id DESC
                 LIMIT $4)",
    )
    .bind(now.0)
    .bind(operator)
    .bind(TokenKind::Session.as_str())
    .bind(kept)
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes up to `limit` that ran out or were revoked before `before`. How many there were.
pub(in crate::operators) async fn delete_ended(
    conn: &mut Conn,
    before: UnixMillis,
    limit: i64,
) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- operator_tokens.delete_ended
         DELETE FROM operator_tokens
          WHERE id IN (SELECT id FROM operator_tokens WHERE expires_at < $1 OR revoked_at < $1 LIMIT $2)",
    )
    .bind(before.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<Token, DbError> {
    let id: String = row.try_get("id")?;
    let bad = |column| DbError::Inconsistency { table: "operator_tokens", column, row: id.clone() };
    let (kind, scope): (String, Option<String>) = (row.try_get("kind")?, row.try_get("permissions")?);
    let instant = |column| Ok::<_, DbError>(row.try_get::<Option<i64>, _>(column)?.map(UnixMillis));
    Ok(Token {
        operator: row.try_get("operator_id")?,
        kind: TokenKind::parse(&kind).ok_or_else(|| bad("kind"))?,
        name: row.try_get("name")?,
        scope: scope
            .map(|text| Permission::parse_set(&text).ok_or_else(|| bad("permissions")))
            .transpose()?,
        created_at: UnixMillis(row.try_get("created_at")?),
        expires_at: instant("expires_at")?,
        last_used_at: instant("last_used_at")?,
        revoked_at: instant("revoked_at")?,
        id,
    })
}
