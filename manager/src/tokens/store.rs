//! The only writer of `tokens`.

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::model::{Ending, Token, parse_scope, scope_text};
use super::revocation::Ended;
use crate::clients::token_settings::GrantType;
use crate::db::{Conn, DbError};

const COLUMNS: &str = "id, sha256, client_id, user_name, grant_type, scope, kid, family, issued_at, expires_at, \
     uses, ended_at, ended_by";

pub(super) async fn insert(conn: &mut Conn, token: &Token) -> Result<(), DbError> {
    sqlx::query(
        "-- tokens.insert
         INSERT INTO tokens (id, sha256, client_id, user_name, grant_type, scope, kid, family, issued_at,
                             expires_at, uses)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(&token.id)
    .bind(&token.sha256)
    .bind(&token.client)
    .bind(token.user.as_deref())
    .bind(token.grant.as_str())
    .bind(scope_text(&token.scope))
    .bind(&token.kid)
    .bind(token.family.as_deref())
    .bind(token.issued_at.0)
    .bind(token.expires_at.0)
    .bind(i64::from(token.uses))
    .execute(conn)
    .await?;
    Ok(())
}

/// The token of that text, by its hash.
pub async fn by_sha256(conn: &mut Conn, sha256: &str) -> Result<Option<Token>, DbError> {
    one(conn, "sha256", sha256).await
}

/// The token of that id.
pub async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Token>, DbError> {
    one(conn, "id", id).await
}

async fn one(conn: &mut Conn, column: &'static str, value: &str) -> Result<Option<Token>, DbError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- tokens.by_{column}
         SELECT {COLUMNS}
           FROM tokens
          WHERE {column} = $1"
    )))
    .bind(value)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Ends a token that nobody has ended; empty: somebody has, or it is gone.
pub(super) async fn end(
    conn: &mut Conn,
    id: &str,
    by: Ending,
    now: UnixMillis,
) -> Result<Vec<Ended>, DbError> {
    let rows = sqlx::query(
        "-- tokens.end
         UPDATE tokens
            SET ended_at = $2, ended_by = $3
          WHERE id = $1
            AND ended_at IS NULL
      RETURNING id, sha256",
    )
    .bind(id)
    .bind(now.0)
    .bind(by.as_str())
    .fetch_all(conn)
    .await?;
    ended(&rows)
}

/// Ends all that came from a refresh token and live.
pub(super) async fn end_family(
    conn: &mut Conn,
    family: &str,
    by: Ending,
    now: UnixMillis,
) -> Result<Vec<Ended>, DbError> {
    let rows = sqlx::query(
        "-- tokens.end_family
         UPDATE tokens
            SET ended_at = $2, ended_by = $3
          WHERE family = $1
            AND ended_at IS NULL
            AND expires_at >= $2
      RETURNING id, sha256",
    )
    .bind(family)
    .bind(now.0)
    .bind(by.as_str())
    .fetch_all(conn)
    .await?;
    ended(&rows)
}

fn ended(rows: &[AnyRow]) -> Result<Vec<Ended>, DbError> {
    rows.iter().map(|row| Ok(Ended { id: row.try_get("id")?, sha256: row.try_get("sha256")? })).collect()
}

/// Notes from which code it comes.
pub(super) async fn set_code(conn: &mut Conn, id: &str, code: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- tokens.set_code
         UPDATE tokens
            SET code_id = $2
          WHERE id = $1",
    )
    .bind(id)
    .bind(code)
    .execute(conn)
    .await?;
    Ok(())
}

/// What was issued for a code.
pub(super) async fn of_code(conn: &mut Conn, code: &str) -> Result<Vec<Token>, DbError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- tokens.of_code
         SELECT {COLUMNS}
           FROM tokens
          WHERE code_id = $1"
    )))
    .bind(code)
    .fetch_all(conn)
    .await?
    .iter()
    .map(read)
    .collect()
}

/// Whether a token may still live that this key has signed.
pub(super) async fn live_of_key(conn: &mut Conn, kid: &str, now: UnixMillis) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- tokens.live_of_key
         SELECT id
           FROM tokens
          WHERE expires_at >= $2 AND kid = $1
          LIMIT 1",
    )
    .bind(kid)
    .bind(now.0)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

fn read(row: &AnyRow) -> Result<Token, DbError> {
    let id: String = row.try_get("id")?;
    let wrong = |column: &'static str| DbError::Inconsistency { table: "tokens", column, row: id.clone() };
    let ended_by: Option<String> = row.try_get("ended_by")?;
    let ended = match row.try_get::<Option<i64>, _>("ended_at")? {
        Some(at) => {
            let by = ended_by.as_deref().and_then(Ending::parse).ok_or_else(|| wrong("ended_by"))?;
            Some((UnixMillis(at), by))
        }
        None => None,
    };
    Ok(Token {
        sha256: row.try_get("sha256")?,
        client: row.try_get("client_id")?,
        user: row.try_get("user_name")?,
        grant: GrantType::parse(row.try_get("grant_type")?).map_err(|_| wrong("grant_type"))?,
        scope: parse_scope(row.try_get("scope")?),
        kid: row.try_get("kid")?,
        family: row.try_get("family")?,
        issued_at: UnixMillis(row.try_get("issued_at")?),
        expires_at: UnixMillis(row.try_get("expires_at")?),
        uses: u32::try_from(row.try_get::<i64, _>("uses")?).map_err(|_| wrong("uses"))?,
        ended,
        id,
    })
}

/// Tokens of a client, the newest first, that were issued before that one.
pub(super) async fn of_client(
    conn: &mut Conn,
    client: &str,
    (at, id): (UnixMillis, &str),
    limit: i64,
) -> Result<Vec<Token>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- tokens.of_client
         SELECT {COLUMNS}
           FROM tokens
          WHERE client_id = $1
            AND (issued_at, id) < ($2, $3)
          ORDER BY issued_at DESC, id DESC
          LIMIT $4"
    )))
    .bind(client)
    .bind(at.0)
    .bind(id)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Those of them whose time runs and that nobody has ended.
pub async fn live_of_client(
    conn: &mut Conn,
    client: &str,
    now: UnixMillis,
    (at, id): (UnixMillis, &str),
    limit: i64,
) -> Result<Vec<Token>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- tokens.live_of_client
         SELECT {COLUMNS}
           FROM tokens
          WHERE client_id = $1
            AND (issued_at, id) < ($2, $3)
            AND ended_at IS NULL
            AND expires_at >= $4
          ORDER BY issued_at DESC, id DESC
          LIMIT $5"
    )))
    .bind(client)
    .bind(at.0)
    .bind(id)
    .bind(now.0)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// A token that was deleted.
pub(super) struct Gone {
    pub id: String,
    /// It has a meter.
    pub counted: bool,
}

/// Deletes up to `batch` whose time ended before `before`.
pub(super) async fn forget(conn: &mut Conn, before: UnixMillis, batch: i64) -> Result<Vec<Gone>, DbError> {
    let rows = sqlx::query(
        "-- tokens.forget
         DELETE FROM tokens
          WHERE id IN (SELECT id FROM tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)
      RETURNING id, uses",
    )
    .bind(before.0)
    .bind(batch)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| Ok(Gone { id: row.try_get("id")?, counted: row.try_get::<i64, _>("uses")? > 0 }))
        .collect()
}
