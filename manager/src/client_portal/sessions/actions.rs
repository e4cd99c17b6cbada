//! Signing in and out, and whose session it is that a call presents.

use gate::time::UnixMillis;
use serde_json::json;
use zeroize::Zeroizing;

use super::model::{Barred, Lifetime, MAX_SESSIONS, Session, SignedIn, barred};
use super::store;
use crate::app::App;
use crate::clients::{self, Client, Fault, SignIn};
use crate::config::Config;
use crate::db::{Conn, DbError};
use crate::password::MAX_CHARS;
use crate::schedule::{self, BATCH, Outcome, Task};
use crate::{audit, bearer};

/// What the text of a session's token begins with.
const PREFIX: &str = "kgc";

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The password, or the client, or too many wrong passwords before: told alike.
    #[error(
        "client or password is wrong; after as many wrong passwords as a client is allowed none is taken until an \
         operator opens it again"
    )]
    Wrong,
    /// The right one of those that serve for something else.
    #[error(
        "this password was mailed and serves only to set a new one: do so with POST /client/v1/password, then sign in \
         with the new one"
    )]
    Mailed,
    /// The password was right.
    #[error(transparent)]
    Barred(#[from] Barred),
    /// A field cannot be taken.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A session that was just opened: the text of its token is shown this once.
pub(super) struct Opened {
    pub signed_in: SignedIn,
    pub token: Zeroizing<String>,
}

/// Checks a client's id and password and opens a session.
pub(super) async fn sign_in(app: &App, id: &str, unverified: &str) -> Result<Opened, SessionError> {
    // Nobody has a password of that length: refused before anybody is looked up, so that the time
    // it takes tells nothing.
    if unverified.chars().count() > MAX_CHARS {
        let reason = format!("Password: has more than {MAX_CHARS} characters, which no password has");
        return Err(Fault::new("password", reason).into());
    }
    let (client, mark) = match clients::sign_in(app, id, unverified).await? {
        SignIn::Right { client, mark } => (client, mark),
        SignIn::Mailed => return Err(SessionError::Mailed),
        SignIn::Wrong => return Err(SessionError::Wrong),
    };
    let now = app.now();
    if let Some(barred) = barred(&client, app.config.lockout_scope, now) {
        return Err(barred.into());
    }
    let mut tx = app.db.write("client_portal.sign_in").await?;
    // Neither a password that was replaced meanwhile opens a session, nor a client that is gone.
    let client = match present(&mut tx, id).await? {
        Some((client, present)) if present.as_ref() == Some(&mark) => client,
        Some(_) | None => return Err(SessionError::Wrong),
    };
    if let Some(barred) = barred(&client, app.config.lockout_scope, now) {
        return Err(barred.into());
    }
    let session = Session {
        id: app.random.id("cs"),
        client: client.id.as_str().into(),
        password: mark,
        created_at: now,
        expires_at: lifetime(&app.config).end(now),
    };
    let token = bearer::draw(&app.random, PREFIX);
    store::delete_oldest(&mut tx, &session.client, MAX_SESSIONS - 1).await?;
    store::insert(&mut tx, &session, &bearer::sha256_hex(&token)).await?;
    let signed_in = SignedIn { client, session };
    record(&mut tx, "client_portal.sign_in", &signed_in, now).await?;
    tx.commit().await?;
    Ok(Opened { signed_in, token })
}

/// Ends the session that a call presents.
pub(super) async fn sign_out(app: &App, caller: &SignedIn) -> Result<(), DbError> {
    let mut tx = app.db.write("client_portal.sign_out").await?;
    if store::delete(&mut tx, &caller.session.id).await? {
        record(&mut tx, "client_portal.sign_out", caller, app.now()).await?;
    }
    tx.commit().await
}

/// Whose session it is; None: nobody's that may go on.
pub(super) async fn authenticate(app: &App, unverified_token: &str) -> Result<Option<SignedIn>, DbError> {
    let now = app.now();
    let mut read = app.db.snapshot().await?;
    let sha256 = bearer::sha256_hex(unverified_token);
    let Some(mut session) = store::by_hash(&mut read, &sha256).await? else { return Ok(None) };
    if now > session.expires_at {
        return Ok(None);
    }
    let client = match clients::with_mark(&mut read, &session.client).await? {
        Some((client, Some(mark))) if mark == session.password => client,
        Some(_) | None => return Ok(None),
    };
    drop(read);
    if barred(&client, app.config.lockout_scope, now).is_some() {
        return Ok(None);
    }
    if let Some(end) = lifetime(&app.config).prolonged(&session, now) {
        let mut tx = app.db.write_aside("client_portal.prolong_session").await?;
        store::prolong(&mut tx, &session.id, end).await?;
        tx.commit().await?;
        session.expires_at = end;
    }
    Ok(Some(SignedIn { client, session }))
}

/// Forgets what has run out.
pub async fn forget_ended(conn: &mut Conn, task: &Task, now: UnixMillis) -> anyhow::Result<Outcome> {
    let deleted = store::delete_ended(conn, now, BATCH).await?;
    Ok(schedule::forgotten(task, deleted, BATCH, "sessions of clients"))
}

/// The client and the mark of its password, kept from others until the transaction ends.
async fn present(
    conn: &mut Conn,
    id: &str,
) -> Result<Option<(Client, Option<clients::PasswordMark>)>, DbError> {
    match clients::hold(conn, id).await {
        Err(clients::ClientError::Db(error)) => Err(error),
        Ok(_) | Err(_) => clients::with_mark(conn, id).await,
    }
}

fn lifetime(config: &Config) -> Lifetime {
    Lifetime {
        ttl_ms: i64::try_from(config.client_session_ttl_s.saturating_mul(1_000)).unwrap_or(i64::MAX),
        sliding: config.client_session_sliding,
    }
}

async fn record(
    conn: &mut Conn,
    action: &'static str,
    by: &SignedIn,
    now: UnixMillis,
) -> Result<(), DbError> {
    let entry = audit::Entry {
        actor: by.audit_name(),
        action,
        subject: format!("client:{}", by.session.client),
        detail: json!({ "session_id": by.session.id }),
    };
    audit::record(conn, entry, now).await
}
