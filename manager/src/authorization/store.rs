//! Tables `authorization_codes` and `user_consents`.

use std::collections::BTreeSet;

use gate::time::UnixMillis;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::codes::Code;
use super::consents::Consent;
use crate::db::{Conn, DbError};

pub(super) async fn insert_code(conn: &mut Conn, code: &Code, sha256: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- authorization.issue_code
         INSERT INTO authorization_codes (id, sha256, client_id, user_id, redirect_uri, scope, code_challenge,
                                          created_at, expires_at, user_epoch)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&code.id)
    .bind(sha256)
    .bind(&code.client)
    .bind(&code.user)
    .bind(&code.redirect_uri)
    .bind(code.scope.join(" "))
    .bind(&code.code_challenge)
    .bind(code.created_at.0)
    .bind(code.expires_at.0)
    .bind(code.user_epoch)
    .execute(conn)
    .await?;
    Ok(())
}

/// Uses a code up, if it is this client's and has neither run out nor been used: of any number of
/// callers one gets it.
pub(super) async fn use_code(
    conn: &mut Conn,
    sha256: &str,
    client: &str,
    now: UnixMillis,
) -> Result<Option<Code>, DbError> {
    let row = sqlx::query(
        "-- authorization.use_code
         UPDATE authorization_codes
            SET used_at = $3
          WHERE sha256 = $1
            AND client_id = $2
            AND used_at IS NULL
            AND expires_at >= $3
      RETURNING id, client_id, user_id, redirect_uri, scope, code_challenge, created_at, expires_at, user_epoch",
    )
    .bind(sha256)
    .bind(client)
    .bind(now.0)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// A code of this client that was used.
pub(super) async fn used_code(conn: &mut Conn, sha256: &str, client: &str) -> Result<Option<Code>, DbError> {
    let row = sqlx::query(
        "-- authorization.used_code
         SELECT id, client_id, user_id, redirect_uri, scope, code_challenge, created_at, expires_at, user_epoch
           FROM authorization_codes
          WHERE sha256 = $1
            AND client_id = $2
            AND used_at IS NOT NULL",
    )
    .bind(sha256)
    .bind(client)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &AnyRow) -> Result<Code, DbError> {
    let scope: String = row.try_get("scope")?;
    Ok(Code {
        id: row.try_get("id")?,
        client: row.try_get("client_id")?,
        user: row.try_get("user_id")?,
        redirect_uri: row.try_get("redirect_uri")?,
        scope: scope.split_ascii_whitespace().map(str::to_owned).collect(),
        code_challenge: row.try_get("code_challenge")?,
        user_epoch: row.try_get("user_epoch")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        expires_at: UnixMillis(row.try_get("expires_at")?),
    })
}

/// Whether there is a code of this client, used or not.
pub(super) async fn is_code(conn: &mut Conn, sha256: &str, client: &str) -> Result<bool, DbError> {
    let row = sqlx::query(
        "-- authorization.is_code
         SELECT id
           FROM authorization_codes
          WHERE sha256 = $1
            AND client_id = $2",
    )
    .bind(sha256)
    .bind(client)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Codes of that user for that client that nobody has used yet serve no more.
pub(super) async fn spoil_codes(
    conn: &mut Conn,
    user: &str,
    client: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- authorization.spoil_codes
         UPDATE authorization_codes
            SET used_at = $3
          WHERE client_id = $2
            AND user_id = $1
            AND used_at IS NULL",
    )
    .bind(user)
    .bind(client)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets up to `limit` codes that ran out before `before`. How many there were.
pub(super) async fn forget_codes(conn: &mut Conn, before: UnixMillis, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- authorization.forget_codes
         DELETE FROM authorization_codes
          WHERE id IN (SELECT id FROM authorization_codes WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
    )
    .bind(before.0)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// What the user has allowed the client.
pub(super) async fn allowed(conn: &mut Conn, user: &str, client: &str) -> Result<BTreeSet<String>, DbError> {
    sqlx::query(
        "-- authorization.allowed
         SELECT scope
           FROM user_consents
          WHERE user_id = $1
            AND client_id = $2",
    )
    .bind(user)
    .bind(client)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(row.try_get("scope")?))
    .collect()
}

pub(super) async fn allow(
    conn: &mut Conn,
    user: &str,
    client: &str,
    scope: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    sqlx::query(
        "-- authorization.allow
         INSERT INTO user_consents (user_id, client_id, scope, granted_at)
         VALUES ($1, $2, $3, $4)
             ON CONFLICT (user_id, client_id, scope) DO NOTHING",
    )
    .bind(user)
    .bind(client)
    .bind(scope)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps what a user has allowed a client as it is until the transaction ends. False: there is nothing.
pub(super) async fn hold_consent(conn: &mut Conn, user: &str, client: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- authorization.hold_consent
         UPDATE user_consents
            SET granted_at = granted_at
          WHERE user_id = $1
            AND client_id = $2
            AND scope = ''",
    )
    .bind(user)
    .bind(client)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes back what a user has allowed a client. How many there were.
pub(super) async fn withdraw(conn: &mut Conn, user: &str, client: &str) -> Result<u64, DbError> {
    let done = sqlx::query(
        "-- authorization.withdraw
         DELETE FROM user_consents
          WHERE user_id = $1
            AND client_id = $2",
    )
    .bind(user)
    .bind(client)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// What a user has allowed, by client, of clients behind `after`.
pub(super) async fn consents(
    conn: &mut Conn,
    user: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Consent>, DbError> {
    let rows = sqlx::query(
        "-- authorization.consents
         SELECT client_id, scope, granted_at
           FROM user_consents
          WHERE user_id = $1
            AND client_id IN (SELECT DISTINCT client_id
                                FROM user_consents
                               WHERE user_id = $1
                                 AND client_id > $2
                               ORDER BY client_id
                               LIMIT $3)
          ORDER BY client_id, scope",
    )
    .bind(user)
    .bind(after)
    .bind(limit + 1)
    .fetch_all(conn)
    .await?;
    let mut consents: Vec<Consent> = Vec::new();
    for row in rows {
        let (client, scope): (String, String) = (row.try_get("client_id")?, row.try_get("scope")?);
        let granted_at = UnixMillis(row.try_get("granted_at")?);
        match consents.last_mut().filter(|last| last.client == client) {
            Some(last) => {
                last.granted_at = last.granted_at.max(granted_at);
                last.scope.push(scope);
            }
            None => consents.push(Consent { client, scope: vec![scope], granted_at }),
        }
    }
    for consent in &mut consents {
        consent.scope.retain(|scope| !scope.is_empty());
    }
    Ok(consents)
}
