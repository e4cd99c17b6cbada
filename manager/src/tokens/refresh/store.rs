//! The only writer of `refresh_tokens`.

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::model::RefreshToken;
use crate::clients::token_settings::GrantType;
use crate::db::{Conn, DbError};
use crate::tokens::model::{Ending, Owner, parse_scope, scope_text};
use crate::tokens::store::{ending, ending_columns};

/// `code`: the authorization code that it comes from.
pub(in crate::tokens) async fn insert(
    conn: &mut Conn,
    token: &RefreshToken,
    code: Option<&str>,
) -> Result<(), DbError> {
    let authorities = token.owner.as_ref().map(|owner| owner.authorities.join(" ")).unwrap_or_default();
    let account = token.owner.as_ref().and_then(|owner| owner.account.as_ref());
    sqlx::query(
        "-- tokens.refresh.insert
         INSERT INTO refresh_tokens (id, sha256, client_id, user_name, authorities, grant_type, scope, kid,
                                     access, issued_at, expires_at, uses, used, code_id, user_id, user_epoch)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $14, $15)",
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
    .bind(code)
    .bind(account.map(|account| account.id.as_str()))
    .bind(account.map(|account| account.epoch))
    .execute(conn)
    .await?;
    Ok(())
}

/// A statement that [`read`] reads the rows of.
macro_rules! select {
    ($name:literal, $rest:literal) => {
        sqlx::query(concat!(
            "-- tokens.refresh.",
            $name,
            "
         SELECT id, sha256, client_id, user_name, authorities, grant_type, scope, kid, access, issued_at,
                expires_at, uses, used, ",
            ending_columns!("refresh_tokens"),
            "
           FROM refresh_tokens
          ",
            $rest
        ))
    };
}

/// The one of that id.
pub(in crate::tokens) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<RefreshToken>, DbError> {
    let row = select!("by_id", "WHERE id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// What was issued for a code.
pub(in crate::tokens) async fn of_code(conn: &mut Conn, code: &str) -> Result<Vec<RefreshToken>, DbError> {
    select!("of_code", "WHERE code_id = $1").bind(code).fetch_all(conn).await?.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<RefreshToken, DbError> {
    let id: String = row.try_get("id")?;
    let wrong =
        |column: &'static str| DbError::Inconsistency { table: "refresh_tokens", column, row: id.clone() };
    let number = |column: &'static str| -> Result<u32, DbError> {
        u32::try_from(row.try_get::<i64, _>(column)?).map_err(|_| wrong(column))
    };
    let (name, authorities): (Option<String>, String) =
        (row.try_get("user_name")?, row.try_get("authorities")?);
    let authorities = authorities.split_ascii_whitespace().map(str::to_owned).collect();
    let issued_at = UnixMillis(row.try_get("issued_at")?);
    let (account, ended) = ending(row, issued_at, wrong)?;
    Ok(RefreshToken {
        sha256: row.try_get("sha256")?,
        client: row.try_get("client_id")?,
        owner: name.map(|name| Owner { name, authorities, account }),
        grant: GrantType::parse(row.try_get("grant_type")?).map_err(|_| wrong("grant_type"))?,
        scope: parse_scope(row.try_get("scope")?),
        kid: row.try_get("kid")?,
        access: row.try_get("access")?,
        issued_at,
        expires_at: UnixMillis(row.try_get("expires_at")?),
        uses: number("uses")?,
        used: number("used")?,
        ended,
        id,
    })
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
            AND (uses = 0 OR used < uses)
            AND (user_id IS NULL OR EXISTS (SELECT 1
                                              FROM users u
                                             WHERE u.id = refresh_tokens.user_id
                                               AND u.token_epoch = refresh_tokens.user_epoch))
            AND NOT EXISTS (SELECT 1
                              FROM token_keys k
                             WHERE k.kid = refresh_tokens.kid
                               AND k.withdrawn_at IS NOT NULL)",
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

/// Ends all of a client that live, or those alone that one user has. How many there were.
pub(in crate::tokens) async fn end_of_client(
    conn: &mut Conn,
    client: &str,
    user: Option<&str>,
    by: Ending,
    now: UnixMillis,
) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- tokens.refresh.end_of_client
         UPDATE refresh_tokens
            SET ended_at = $3, ended_by = $4
          WHERE client_id = $1
            AND ($2 = '' OR user_name = $2)
            AND ended_at IS NULL
            AND expires_at >= $3",
    )
    .bind(client)
    .bind(user.unwrap_or_default())
    .bind(now.0)
    .bind(by.as_str())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Whether a refresh token lives that had a text by `until`, whichever key has signed its present one.
pub(in crate::tokens) async fn lives_since(
    conn: &mut Conn,
    until: UnixMillis,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- tokens.refresh.lives_since
         SELECT id
           FROM refresh_tokens
          WHERE expires_at >= $2
            AND issued_at <= $1
            AND ended_at IS NULL
          LIMIT 1",
    )
    .bind(until.0)
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
