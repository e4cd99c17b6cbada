//! Table `users`.

use gate::time::UnixMillis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::model::{OrgId, User, UserName, UserStatus};
use crate::db::{Conditions, Conn, DbError};
use crate::operators::Email;
use crate::search::Words;

/// What a list of users is narrowed by; absent = not.
#[derive(Debug, Default)]
pub(super) struct UserFilter {
    /// Each occurs in name, display name or address.
    pub words: Words,
    pub status: Option<UserStatus>,
}

pub(super) async fn insert(conn: &mut Conn, user: &User, password_hash: Option<&str>) -> Result<(), DbError> {
    sqlx::query(
        "-- users.create
         INSERT INTO users (id, name, display_name, email, org_id, password_hash, status, failed_attempts,
                            search, created_at, updated_at, version, issuer, subject)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11, $12, $13)",
    )
    .bind(&user.id)
    .bind(user.name.as_str())
    .bind(&user.display_name)
    .bind(user.email.as_ref().map(Email::as_str))
    .bind(user.org_id.as_ref().map(OrgId::as_str))
    .bind(password_hash)
    .bind(user.status.as_str())
    .bind(user.search())
    .bind(user.created_at.0)
    .bind(user.updated_at.0)
    .bind(user.version)
    .bind(user.identity.as_ref().map(|(issuer, _)| issuer.as_str()))
    .bind(user.identity.as_ref().map(|(_, subject)| subject.as_str()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Saves what an update may change, but for password and count of attempts, which have statements of
/// their own. False: another update came first.
pub(super) async fn update(conn: &mut Conn, user: &User, read_version: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- users.update
         UPDATE users
            SET display_name = $1, email = $2, org_id = $3, status = $4, search = $5, updated_at = $6,
                version = $7, issuer = $10, subject = $11
          WHERE id = $8
            AND version = $9",
    )
    .bind(&user.display_name)
    .bind(user.email.as_ref().map(Email::as_str))
    .bind(user.org_id.as_ref().map(OrgId::as_str))
    .bind(user.status.as_str())
    .bind(user.search())
    .bind(user.updated_at.0)
    .bind(user.version)
    .bind(&user.id)
    .bind(read_version)
    .bind(user.identity.as_ref().map(|(issuer, _)| issuer.as_str()))
    .bind(user.identity.as_ref().map(|(_, subject)| subject.as_str()))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps others from the user until the transaction ends.
/// (An update that changes nothing: `FOR UPDATE` is unknown to SQLite.)
pub(super) async fn lock(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- users.lock
         UPDATE users
            SET version = version
          WHERE id = $1",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// None takes the password away.
pub(super) async fn set_password(conn: &mut Conn, id: &str, hash: Option<&str>) -> Result<(), DbError> {
    sqlx::query(
        "-- users.set_password
         UPDATE users
            SET password_hash = $1
          WHERE id = $2",
    )
    .bind(hash)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<User>, DbError> {
    let row = sqlx::query(
        "-- users.by_id
         SELECT id, name, display_name, email, org_id, password_hash, status, failed_attempts, created_at,
                updated_at, version, issuer, subject, token_epoch
           FROM users
          WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// The user whom an OpenID provider knows by that subject.
pub(super) async fn by_identity(
    conn: &mut Conn,
    issuer: &str,
    subject: &str,
) -> Result<Option<User>, DbError> {
    let row = sqlx::query(
        "-- users.by_identity
         SELECT id, name, display_name, email, org_id, password_hash, status, failed_attempts, created_at,
                updated_at, version, issuer, subject, token_epoch
           FROM users
          WHERE issuer = $1
            AND subject = $2",
    )
    .bind(issuer)
    .bind(subject)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// The user of that name, with the hash of its password.
pub(super) async fn by_name(
    conn: &mut Conn,
    name: &UserName,
) -> Result<Option<(User, Option<String>)>, DbError> {
    let row = sqlx::query(
        "-- users.by_name
         SELECT id, name, display_name, email, org_id, password_hash, status, failed_attempts, created_at,
                updated_at, version, issuer, subject, token_epoch
           FROM users
          WHERE name = $1",
    )
    .bind(name.as_str())
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((read(&row)?, row.try_get("password_hash")?))).transpose()
}

/// Users by name.
pub(super) async fn list(
    conn: &mut Conn,
    filter: &UserFilter,
    after: &str,
    limit: i64,
) -> Result<Vec<User>, DbError> {
    let mut wanted = Conditions::default();
    wanted.text("name > #", after);
    if let Some(status) = filter.status {
        wanted.text("status = #", status.as_str());
    }
    for pattern in filter.words.patterns() {
        wanted.text("search LIKE # ESCAPE '\\'", &pattern);
    }
    let sql = format!(
        "-- users.list
         SELECT id, name, display_name, email, org_id, password_hash, status, failed_attempts, created_at,
                updated_at, version, issuer, subject, token_epoch
           FROM users
          WHERE {}
          ORDER BY name
          LIMIT ${}",
        wanted.sql(),
        wanted.next()
    );
    let rows = wanted.bind(sqlx::query(AssertSqlSafe(sql))).bind(limit + 1).fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// An attempt at a password that may be tried.
pub(super) struct Attempt {
    /// The user's id.
    pub id: String,
    /// How many there are with this one.
    pub number: i64,
    /// What the password is held against.
    pub hash: String,
}

/// One more attempt at the password of that name, wrong until it is shown to be right. None: nobody has
/// it, or without a password, or there are `limit` (0 = no limit) attempts already.
pub(super) async fn count_attempt(
    conn: &mut Conn,
    name: Option<&UserName>,
    limit: i64,
) -> Result<Option<Attempt>, DbError> {
    let row = sqlx::query(
        "-- users.password_attempt
         UPDATE users
            SET failed_attempts = failed_attempts + 1
          WHERE name = $1
            AND password_hash IS NOT NULL
            AND ($2 = 0 OR failed_attempts < $2)
      RETURNING id, failed_attempts, password_hash",
    )
    .bind(name.map(UserName::as_str))
    .bind(limit)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Attempt {
        id: row.try_get("id")?,
        number: row.try_get("failed_attempts")?,
        hash: row.try_get("password_hash")?,
    }))
}

/// Puts a hash of the same password in the place of one that was brought along: nothing else changes.
pub(super) async fn replace_hash(
    conn: &mut Conn,
    id: &str,
    imported: &str,
    hash: &str,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- users.replace_hash
         UPDATE users
            SET password_hash = $1
          WHERE id = $2
            AND password_hash = $3",
    )
    .bind(hash)
    .bind(id)
    .bind(imported)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The password was right: the count begins again. False: it is another one by now.
pub(super) async fn forget_failures(conn: &mut Conn, id: &str, hash: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "-- users.forget_failures
         UPDATE users
            SET failed_attempts = 0
          WHERE id = $1
            AND password_hash = $2",
    )
    .bind(id)
    .bind(hash)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets it try passwords again.
pub(super) async fn unlock(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    sqlx::query(
        "-- users.unlock
         UPDATE users
            SET failed_attempts = 0
          WHERE id = $1",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends all tokens that the user has: they are of an epoch that is past.
pub(super) async fn sign_out(conn: &mut Conn, id: &str, now: UnixMillis) -> Result<(), DbError> {
    sqlx::query(
        "-- users.sign_out
         UPDATE users
            SET token_epoch = token_epoch + 1, signed_out_at = $2
          WHERE id = $1",
    )
    .bind(id)
    .bind(now.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Clients that hold tokens on behalf of the user that were issued then or later.
pub(super) async fn clients_with_tokens_of(
    conn: &mut Conn,
    name: &UserName,
    now: UnixMillis,
    issued_since: UnixMillis,
) -> Result<Vec<String>, DbError> {
    sqlx::query(
        "-- users.clients_with_tokens
         SELECT DISTINCT client_id
           FROM tokens
          WHERE user_name = $1
            AND expires_at >= $2
            AND issued_at >= $3
          ORDER BY client_id",
    )
    .bind(name.as_str())
    .bind(now.0)
    .bind(issued_since.0)
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok(row.try_get("client_id")?))
    .collect()
}

fn read(row: &AnyRow) -> Result<User, DbError> {
    let id: String = row.try_get("id")?;
    let bad = |column| DbError::Inconsistency { table: "users", column, row: id.clone() };
    let (name, status): (String, String) = (row.try_get("name")?, row.try_get("status")?);
    let (email, org_id): (Option<String>, Option<String>) = (row.try_get("email")?, row.try_get("org_id")?);
    Ok(User {
        name: UserName::parse(&name).map_err(|_| bad("name"))?,
        display_name: row.try_get("display_name")?,
        email: email.map(|email| Email::parse(&email)).transpose().map_err(|_| bad("email"))?,
        org_id: org_id.map(|org| OrgId::parse(&org)).transpose().map_err(|_| bad("org_id"))?,
        status: UserStatus::parse(&status).ok_or_else(|| bad("status"))?,
        identity: row
            .try_get::<Option<String>, _>("issuer")?
            .zip(row.try_get::<Option<String>, _>("subject")?),
        has_password: row.try_get::<Option<String>, _>("password_hash")?.is_some(),
        failed_attempts: row.try_get("failed_attempts")?,
        created_at: UnixMillis(row.try_get("created_at")?),
        updated_at: UnixMillis(row.try_get("updated_at")?),
        version: row.try_get("version")?,
        token_epoch: row.try_get("token_epoch")?,
        id,
    })
}
