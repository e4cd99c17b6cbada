//! Hand a secret over, by a link where links are wanted; open it once; end it.

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
use crate::config::CredentialDelivery;
use crate::db::{Conn, DbError};
use crate::mail::contexts::{ByLink, OneTimeLink};
use crate::mail::{self, About, MailError, NewMail};
use crate::schedule::{self, Outcome, Task};
use crate::validity::print_instant;
use crate::vault::VaultError;

/// A secret that is to reach somebody.
#[derive(Clone, Copy, Debug)]
pub struct Handover<'a> {
    /// What a link would show.
    pub credentials: &'a Credentials,
    /// Which of a key's secrets it is; empty where there is one alone.
    pub secret: &'a str,
    /// When the secret itself ends; none: not by time.
    pub until: Option<UnixMillis>,
}

/// A link to be made.
pub(super) struct NewLink<'a> {
    /// What has the secret.
    pub shows: &'a About,
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

/// Writes `mail`, within the caller's transaction. By link, each recipient gets one of its own in
/// place of the secret.
pub async fn hand_over<C: ByLink>(
    conn: &mut Conn,
    app: &App,
    mail: NewMail<C>,
    what: Handover<'_>,
    now: UnixMillis,
) -> Result<Vec<String>, MailError> {
    match app.config.credential_delivery {
        CredentialDelivery::Mail => return mail::enqueue(conn, app, mail, now).await,
        CredentialDelivery::Link => {}
    }
    let NewMail { recipients, context, not_before, about } = mail;
    let ttl_ms = i64::from(app.config.credential_link_ttl_h) * 3_600_000;
    let expires_at = UnixMillis(not_before.0.saturating_add(ttl_ms));
    let expires_at = what.until.map_or(expires_at, |until| until.min(expires_at));
    let mut mails = Vec::new();
    for recipient in mail::each_once(recipients) {
        let link = NewLink {
            shows: &about,
            secret: what.secret,
            recipient: &recipient.address,
            credentials: what.credentials,
            expires_at,
        };
        let url = create(conn, app, link, now).await?;
        let context = context.clone().by_link(OneTimeLink {
            url: url.to_string(),
            expires_at: print_instant(expires_at, &app.config.zone()),
        });
        let mail = NewMail { recipients: vec![recipient], context, not_before, about: about.clone() };
        mails.extend(mail::enqueue(conn, app, mail, now).await?);
    }
    Ok(mails)
}

/// Makes a link within the caller's transaction. Returns its address, which is a secret.
pub(super) async fn create(
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
        shows: new.shows,
        secret: new.secret,
        recipient: new.recipient,
        content_sealed: &app.vault.seal(&purpose(&id), &content),
        now,
        expires_at: new.expires_at,
    };
    store::insert(conn, &row).await?;
    Ok(Zeroizing::new(format!("{}{}#{id}.{}", app.config.base_url(), super::http::PATH, *secret)))
}

/// Ends the open links to what has ended, in the caller's transaction: a key that is revoked, an
/// X-Api-Key that is deleted, a client's password that another one replaces.
pub async fn withdraw(conn: &mut Conn, shows: &About, now: UnixMillis) -> Result<(), DbError> {
    store::withdraw(conn, shows, None, now).await
}

/// Ends the open links to a secret that is being retired, in the caller's transaction.
pub async fn withdraw_of_secret(
    conn: &mut Conn,
    key: &str,
    secret: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    store::withdraw(conn, &About::new("key", key), Some(secret), now).await
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
        subject: format!("{}:{}", link.shows.kind, link.shows.id),
        detail,
    };
    audit::record(conn, entry, now).await
}

fn purpose(id: &str) -> String {
    format!("credential_links.content:{id}")
}
