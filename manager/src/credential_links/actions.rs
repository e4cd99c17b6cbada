//! Make a link, open it once, end it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gate::time::UnixMillis;
use serde_json::json;
use zeroize::Zeroizing;

use super::model::{
    Credentials, ID_PREFIX, Link, MAX_REFUSALS, REMEMBERED_MS, Refusal, State, UnverifiedCode, sha256_hex,
};
use super::store::{self, NewRow};
use crate::app::App;
use crate::audit;
use crate::caller_address::CallerAddress;
use crate::db::{Conn, DbError};
use crate::schedule::{self, Outcome, Task};
use crate::vault::VaultError;

/// A link to be made.
#[derive(Debug)]
pub struct NewLink<'a> {
    /// The key that it shows.
    pub key: &'a str,
    /// Which of its secrets.
    pub secret: &'a str,
    /// To whom it is mailed.
    pub recipient: &'a str,
    /// What it shows.
    pub credentials: &'a Credentials,
    /// Not opened from then on.
    pub expires_at: UnixMillis,
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum RevealError {
    /// Unknown, opened before, over or withdrawn: told alike.
    #[error("the link does not open")]
    Closed,
    /// What is stored does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What was sealed is not what is expected.
    #[error("link {id}: what was sealed is not what a link shows")]
    Content {
        /// Which one.
        id: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Makes a link within the caller's transaction. Returns its address, which is a secret.
pub async fn create(
    conn: &mut Conn,
    app: &App,
    new: NewLink<'_>,
    now: UnixMillis,
) -> Result<Zeroizing<String>, DbError> {
    let id = app.random.id(ID_PREFIX);
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(app.random.bytes::<32>()));
    let content =
        Zeroizing::new(serde_json::to_vec(new.credentials).expect("texts are always written as JSON"));
    let row = NewRow {
        id: &id,
        secret_sha256: &sha256_hex(&secret),
        key: new.key,
        secret: new.secret,
        recipient: new.recipient,
        content_sealed: &app.vault.seal(&purpose(&id), &content),
        now,
        expires_at: new.expires_at,
    };
    store::insert(conn, &row).await?;
    Ok(Zeroizing::new(format!("{}{}#{id}.{}", app.config.base_url(), super::http::PATH, *secret)))
}

/// Ends the open links to a key that is being revoked, in the caller's transaction.
pub async fn withdraw_of_key(conn: &mut Conn, key: &str, now: UnixMillis) -> Result<(), DbError> {
    store::withdraw(conn, key, None, now).await
}

/// Ends the open links to a secret that is being retired, in the caller's transaction.
pub async fn withdraw_of_secret(
    conn: &mut Conn,
    key: &str,
    secret: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    store::withdraw(conn, key, Some(secret), now).await
}

/// Shows what is behind a link, once. `address` is where the call came from.
pub(super) async fn reveal(
    app: &App,
    code: &UnverifiedCode,
    address: &CallerAddress,
) -> Result<Credentials, RevealError> {
    let now = app.now();
    // Who guesses keeps nobody from writing.
    if !store::exists(&mut *app.db.read().await?, &code.id).await? {
        return Err(RevealError::Closed);
    }
    let mut tx = app.db.write("credential_links.reveal").await?;
    let Some(link) = store::hold(&mut tx, &code.id).await? else { return Err(RevealError::Closed) };
    let content = match (link.check(code, now), link.content_sealed.as_deref()) {
        (Ok(()), Some(content)) => content,
        (Ok(()), None) => return Err(RevealError::Content { id: link.id }),
        (Err(refusal), _) => {
            refuse(&mut tx, &link, refusal, address, now).await?;
            tx.commit().await?;
            return Err(RevealError::Closed);
        }
    };
    let content = app.vault.open(&purpose(&link.id), content)?;
    let credentials: Credentials =
        serde_json::from_slice(&content).map_err(|_| RevealError::Content { id: link.id.clone() })?;
    store::end(&mut tx, &link.id, State::Revealed, now).await?;
    record(&mut tx, "credential_links.reveal", &link, None, address, now).await?;
    // Shown only after it is settled that nobody else is shown it.
    tx.commit().await?;
    Ok(credentials)
}

/// Counts and audits an attempt that shows nothing: of each link so many, and no more, or a stranger
/// could fill the trail.
async fn refuse(
    conn: &mut Conn,
    link: &Link,
    refusal: Refusal,
    address: &CallerAddress,
    now: UnixMillis,
) -> Result<(), DbError> {
    if link.refusals >= MAX_REFUSALS {
        return Ok(());
    }
    store::count_refusal(conn, &link.id).await?;
    if let Refusal::Ended(State::Expired) = refusal {
        store::end(conn, &link.id, State::Expired, now).await?;
    }
    if refusal == Refusal::WrongCode && link.refusals + 1 == MAX_REFUSALS {
        store::end(conn, &link.id, State::Guessed, now).await?;
    }
    record(conn, "credential_links.refuse", link, Some(refusal), address, now).await
}

/// House-keeping.
pub(super) async fn forget(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let now = app.now();
    store::expire(conn, now).await?;
    let before = UnixMillis(now.0.saturating_sub(REMEMBERED_MS));
    let deleted = store::delete_ended(conn, before, schedule::BATCH).await?;
    Ok(schedule::forgotten(task, deleted, schedule::BATCH, "credential links"))
}

async fn record(
    conn: &mut Conn,
    action: &'static str,
    link: &Link,
    refusal: Option<Refusal>,
    address: &CallerAddress,
    now: UnixMillis,
) -> Result<(), DbError> {
    let mut detail = json!({ "link_id": link.id, "mailed_to": link.recipient, "address": address.known() });
    if let Some(refusal) = refusal {
        detail["reason"] = refusal.name().into();
    }
    let entry = audit::Entry {
        actor: format!("link:{}", link.id),
        action,
        subject: format!("key:{}", link.key),
        detail,
    };
    audit::record(conn, entry, now).await
}

fn purpose(id: &str) -> String {
    format!("credential_links.content:{id}")
}
