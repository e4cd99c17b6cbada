//! The only writer of `refresh_tokens`.

use gate::time::UnixMillis;
use sqlx::Row as _;

use super::model::RefreshToken;
use crate::clients::token_settings::GrantType;
use crate::db::{Conn, DbError};
use crate::tokens::model::{Ending, Owner, parse_scope, scope_text};

pub(in crate::tokens) async fn insert(conn: &mut Conn, token: &RefreshToken) -> Result<(), DbError> {
    let authorities = token.owner.as_ref().map(|owner| owner.authorities.join(" ")).unwrap_or_default();
    sqlx::query(
        "-- tokens.refresh.insert
         INSERT INTO refresh_tokens (id, sha256, client_id, user_name, authorities, grant_type, scope, kid,
                                     access, issued_at, expires_at, uses, used)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0)",
    )
    .bind(&token.id)
    .bind(&token.sha256)
    .bind(&token.client)
    .bind(token.owner.as_ref().map(|owner| owner.name.as_str()))
    .bind(authorities)
    .bind(token.grant.as_str())
    .bind(scope_text(&token.scope))
    .bind(&token.kid)
    .bind(&token.access)
    .bind(token.issued_at.0)
    .bind(token.expires_at.0)
    .bind(i64::from(token.uses))
    .execute(conn)
    .await?;
    Ok(())
}

/// The one of that id.
pub(in crate::tokens) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<RefreshToken>, DbError> {
    let row = sqlx::query(
        "-- tokens.refresh.by_id
         SELECT sha256, client_id, user_name, authorities, grant_type, scope, kid, access, issued_at, expires_at,
                uses, used, ended_at, ended_by
           FROM refresh_tokens
          WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let wrong =
        |column: &'static str| DbError::Inconsistency { table: "refresh_tokens", column, row: id.into() };
    let number = |column: &'static str| -> Result<u32, DbError> {
        u32::try_from(row.try_get::<i64, _>(column)?).map_err(|_| wrong(column))
    };
    let (name, authorities): (Option<String>, String) =
        (row.try_get("user_name")?, row.try_get("authorities")?);
    let authorities = authorities.split_ascii_whitespace().map(str::to_owned).collect();
    let (ended_at, ended_by): (Option<i64>, Option<String>) =
        (row.try_get("ended_at")?, row.try_get("ended_by")?);
    let ended = match (ended_at, ended_by) {
        (Some(at), Some(by)) => Some((UnixMillis(at), Ending::parse(&by).ok_or_else(|| wrong("ended_by"))?)),
        (None, None) => None,
        _ => return Err(wrong("ended_by")),
    };
    Ok(Some(RefreshToken {
        id: id.into(),
        sha256: row.try_get("sha256")?,
        client: row.try_get("client_id")?,
        owner: name.map(|name| Owner { name, authorities }),
        grant: GrantType::parse(row.try_get("grant_type")?).map_err(|_| wrong("grant_type"))?,
        scope: parse_scope(row.try_get("scope")?),
        kid: row.try_get("kid")?,
        access: row.try_get("access")?,
        issued_at: UnixMillis(row.try_get("issued_at")?),
        expires_at: UnixMillis(row.try_get("expires_at")?),
        uses: number("uses")?,
        used: number("used")?,
        ended,
    }))
}

/// One renewal.
pub(super) struct Renewal<'a> {
    /// Of which.
    pub id: &'a str,
    /// The text that must serve; None: any of its texts.
    pub of_text: Option<&'a str>,
    /// The hash of the text that serves from now on.
    pub sha256: &'a str,
    /// The key that signed it.
    pub kid: &'a str,
    /// The access token that goes with it.
    pub access: &'a str,
}

/// Counts a renewal and changes the text, in one statement: of many at once as many succeed as there are uses
/// left. False: none is left, it has ended, or its text is another one.
pub(super) async fn renew(conn: &mut Conn, step: &Renewal<'_>, now: UnixMillis) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- tokens.refresh.renew
         UPDATE refresh_tokens
            SET used = used + 1, sha256 = $3, access = $4, kid = $6
          WHERE id = $1
            AND ($2 = '' OR sha256 = $2)
            AND ended_at IS NULL
            AND expires_at >= $5
            AND (uses = 0 OR used < uses)",
    )
    .bind(step.id)
    .bind(step.of_text.unwrap_or_default())
    .bind(step.sha256)
    .bind(step.access)
    .bind(now.0)
    .bind(step.kid)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends it. False: it has been ended, or is gone.
pub(in crate::tokens) async fn end(
    conn: &mut Conn,
    id: &str,
    by: Ending,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- tokens.refresh.end
         UPDATE refresh_tokens
            SET ended_at = $2, ended_by = $3
          WHERE id = $1
            AND ended_at IS NULL",
    )
    .bind(id)
    .bind(now.0)
    .bind(by.as_str())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether a text may still live that this key has signed.
pub(in crate::tokens) async fn live_of_key(
    conn: &mut Conn,
    kid: &str,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- tokens.refresh.live_of_key
         SELECT id
           FROM refresh_tokens
          WHERE expires_at >= $2 AND kid = $1
          LIMIT 1",
    )
    .bind(kid)
    .bind(now.0)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Deletes up to `batch` that ended before `before`.
pub(in crate::tokens) async fn forget(
    conn: &mut Conn,
    before: UnixMillis,
    batch: i64,
) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- tokens.refresh.forget
         DELETE FROM refresh_tokens
          WHERE id IN (SELECT id FROM refresh_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
    )
    .bind(before.0)
    .bind(batch)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
