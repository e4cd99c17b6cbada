//! The only writer of `tokens`.

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::model::{Account, Ending, Token, parse_scope, scope_text};
use super::revocation::Ended;
use crate::clients::token_settings::GrantType;
use crate::db::{Conn, DbError};

/// What [`ending`] reads of a row of that table: what was written into it, and what has become of its user's
/// sign-ins and of its key since.
macro_rules! ending_columns {
    ($table:literal) => {
        concat!(
            "user_id, user_epoch, ended_at, ended_by,
                (SELECT k.withdrawn_at FROM token_keys k WHERE k.kid = ",
            $table,
            ".kid) AS key_withdrawn_at,
                (SELECT u.token_epoch FROM users u WHERE u.id = ",
            $table,
            ".user_id) AS token_epoch,
                (SELECT u.signed_out_at FROM users u WHERE u.id = ",
            $table,
            ".user_id) AS signed_out_at"
        )
    };
}

pub(super) use ending_columns;

/// A statement that [`read`] reads the rows of.
macro_rules! select {
    ($name:literal, $($rest:expr),+) => {
        sqlx::query(concat!(
            "-- tokens.",
            $name,
            "
         SELECT id, sha256, client_id, user_name, grant_type, scope, kid, family, issued_at, expires_at, uses,
                ",
            ending_columns!("tokens"),
            "
           FROM tokens
          ",
            $($rest),+
        ))
    };
}

/// `code`: the authorization code that it comes from.
pub(super) async fn insert(conn: &mut Conn, token: &Token, code: Option<&str>) -> Result<(), DbError> {
    sqlx::query(
        "-- tokens.insert
         INSERT INTO tokens (id, sha256, client_id, user_name, grant_type, scope, kid, family, issued_at,
                             expires_at, uses, code_id, user_id, user_epoch)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
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
    .bind(code)
    .bind(token.account.as_ref().map(|account| account.id.as_str()))
    .bind(token.account.as_ref().map(|account| account.epoch))
    .execute(conn)
    .await?;
    Ok(())
}

/// The token of that text, by its hash.
pub async fn by_sha256(conn: &mut Conn, sha256: &str) -> Result<Option<Token>, DbError> {
    let row = select!("by_sha256", "WHERE sha256 = $1").bind(sha256).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// The token of that id.
pub async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<Token>, DbError> {
    let row = select!("by_id", "WHERE id = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// What was issued for a code.
pub(super) async fn of_code(conn: &mut Conn, code: &str) -> Result<Vec<Token>, DbError> {
    select!("of_code", "WHERE code_id = $1").bind(code).fetch_all(conn).await?.iter().map(read).collect()
}

/// Tokens of a client, the newest first, that were issued before that one.
pub(super) async fn of_client(
    conn: &mut Conn,
    client: &str,
    (at, id): (UnixMillis, &str),
    limit: i64,
) -> Result<Vec<Token>, DbError> {
    let rows = select!(
        "of_client",
        "WHERE client_id = $1
            AND (issued_at, id) < ($2, $3)
          ORDER BY issued_at DESC, id DESC
          LIMIT $4"
    );
    rows.bind(client).bind(at.0).bind(id).bind(limit).fetch_all(conn).await?.iter().map(read).collect()
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

/// Ends all of a client that live, or those alone that one user has. How many there were.
pub(super) async fn end_of_client(
    conn: &mut Conn,
    client: &str,
    user: Option<&str>,
    by: Ending,
    now: UnixMillis,
) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- tokens.end_of_client
         UPDATE tokens
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

fn ended(rows: &[AnyRow]) -> Result<Vec<Ended>, DbError> {
    rows.iter().map(|row| Ok(Ended { id: row.try_get("id")?, sha256: row.try_get("sha256")? })).collect()
}

/// Whether a token lives that this key has signed.
pub(super) async fn live_of_key(conn: &mut Conn, kid: &str, now: UnixMillis) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- tokens.live_of_key
         SELECT id
           FROM tokens
          WHERE expires_at >= $2
            AND kid = $1
            AND ended_at IS NULL
          LIMIT 1",
    )
    .bind(kid)
    .bind(now.0)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Clients that hold tokens that live and that this key has signed.
pub(super) async fn clients_of_key(
    conn: &mut Conn,
    kid: &str,
    now: UnixMillis,
) -> Result<Vec<String>, DbError> {
    sqlx::query(
        "-- tokens.clients_of_key
         SELECT DISTINCT client_id
           FROM tokens
          WHERE expires_at >= $2
            AND kid = $1
            AND ended_at IS NULL
          ORDER BY client_id",
    )
    .bind(kid)
    .bind(now.0)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(row.try_get("client_id")?))
    .collect()
}

fn read(row: &AnyRow) -> Result<Token, DbError> {
    let id: String = row.try_get("id")?;
    let wrong = |column: &'static str| DbError::Inconsistency { table: "tokens", column, row: id.clone() };
    let issued_at = UnixMillis(row.try_get("issued_at")?);
    let (account, ended) = ending(row, issued_at, wrong)?;
    Ok(Token {
        sha256: row.try_get("sha256")?,
        client: row.try_get("client_id")?,
        user: row.try_get("user_name")?,
        account,
        grant: GrantType::parse(row.try_get("grant_type")?).map_err(|_| wrong("grant_type"))?,
        scope: parse_scope(row.try_get("scope")?),
        kid: row.try_get("kid")?,
        family: row.try_get("family")?,
        issued_at,
        expires_at: UnixMillis(row.try_get("expires_at")?),
        uses: u32::try_from(row.try_get::<i64, _>("uses")?).map_err(|_| wrong("uses"))?,
        ended,
        id,
    })
}

type AccountAndEnding = (Option<Account>, Option<(UnixMillis, Ending)>);

/// Reads `ending_columns!`: whose it is, and when and why it ended.
pub(super) fn ending(
    row: &AnyRow,
    issued_at: UnixMillis,
    wrong: impl Fn(&'static str) -> DbError,
) -> Result<AccountAndEnding, DbError> {
    let number = |column: &str| row.try_get::<Option<i64>, _>(column);
    let account = match (row.try_get::<Option<String>, _>("user_id")?, number("user_epoch")?) {
        (Some(id), Some(epoch)) => Some(Account { id, epoch }),
        (_, _) => None,
    };
    let ended_by: Option<String> = row.try_get("ended_by")?;
    let ended = match (number("ended_at")?, ended_by) {
        (Some(at), Some(by)) => Some((UnixMillis(at), Ending::parse(&by).ok_or_else(|| wrong("ended_by"))?)),
        (None, None) => None,
        _ => return Err(wrong("ended_by")),
    };
    let withdrawn = number("key_withdrawn_at")?.map(|at| (UnixMillis(at), Ending::Key));
    let present = number("token_epoch")?;
    let signed_out = match &account {
        Some(account) if present != Some(account.epoch) => {
            // The last of several: which of them it was is not kept.
            let at = number("signed_out_at")?.map_or(issued_at, UnixMillis);
            Some((at, Ending::SignOut))
        }
        Some(_) | None => None,
    };
    Ok((account, ended.or(withdrawn).or(signed_out)))
}

/// Which tokens of the client `$1` live at `$2`: their time runs and nothing has ended them.
macro_rules! live {
    () => {
        "WHERE client_id = $1
            AND expires_at >= $2
            AND ended_at IS NULL
            AND (user_id IS NULL OR user_epoch = (SELECT u.token_epoch FROM users u WHERE u.id = tokens.user_id))
            AND NOT EXISTS (SELECT 1 FROM token_keys k WHERE k.kid = tokens.kid AND k.withdrawn_at IS NOT NULL)"
    };
}

/// How many tokens of a client live.
pub async fn count_live_of(conn: &mut Conn, client: &str, now: UnixMillis) -> Result<i64, DbError> {
    let row = sqlx::query(concat!(
        "-- tokens.count_live_of
         SELECT COUNT(*)
           FROM tokens
          ",
        live!()
    ));
    Ok(row.bind(client).bind(now.0).fetch_one(conn).await?.try_get(0)?)
}

/// Tokens of a client that live, the newest first, that were issued before that one.
pub async fn live_of_client(
    conn: &mut Conn,
    client: &str,
    now: UnixMillis,
    (at, id): (UnixMillis, &str),
    limit: i64,
) -> Result<Vec<Token>, DbError> {
    let rows = select!(
        "live_of_client",
        live!(),
        "
            AND (issued_at, id) < ($3, $4)
          ORDER BY issued_at DESC, id DESC
          LIMIT $5"
    );
    rows.bind(client)
        .bind(now.0)
        .bind(at.0)
        .bind(id)
        .bind(limit)
        .fetch_all(conn)
        .await?
        .iter()
        .map(read)
        .collect()
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
