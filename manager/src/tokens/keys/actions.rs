//! Made at first need, rotated, looked up.

use std::sync::{Arc, Mutex, PoisonError};

use gate::id::ClientId;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use serde_json::json;

use super::super::{refresh, store as tokens};
use super::model::{KEPT_MS, KeySet, LEAD_MS, MAX_CLOSED, MAX_KEYS, NewPair, SigningKey};
use super::store::{self, Stored};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::vault::VaultError;
use crate::{audit, changes};

/// The keys as this process read them last. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Mutex<Option<Read>>>);

#[derive(Clone, Debug)]
struct Read {
    at: UnixMillis,
    keys: Arc<KeySet>,
}

/// Why there is no key to sign with, or no other one.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// One was made that does not sign yet.
    #[error(
        "the key {kid} signs from {signs_from} (UTC ms) on, when every gateway has it: rotate again after that"
    )]
    Waiting {
        /// Which.
        kid: String,
        /// When.
        signs_from: i64,
    },
    /// Too many old ones.
    #[error(
        "there are {MAX_KEYS} keys, the most that gateways hold: an old one goes when the last token that it signed \
         has ended"
    )]
    TooMany,
    /// Too many that read refresh tokens alone.
    #[error(
        "there are {MAX_CLOSED} keys that are kept to read refresh tokens: an old one goes when the last refresh token \
         of its time has ended"
    )]
    TooManyClosed,
    /// No such key.
    #[error("no key that signs tokens, or has signed some that live, is named {kid}: there is {present}")]
    NotFound {
        /// What was looked for.
        kid: String,
        /// Those that there are.
        present: String,
    },
    /// The library cannot draw, or read, a key.
    #[error("the key {kid} cannot be used: {reason}")]
    Unusable {
        /// Which.
        kid: String,
        /// Why.
        reason: String,
    },
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The keys, [`KEPT_MS`] old at most.
pub async fn keys(app: &App) -> Result<Arc<KeySet>, KeyError> {
    let (known, now) = (app.tokens.keys.known(), app.now());
    if let Some(read) = &known
        && (0..KEPT_MS).contains(&now.0.saturating_sub(read.at.0))
    {
        return Ok(read.keys.clone());
    }
    let stored = store::load(&mut *app.db.read().await?).await?;
    let before = known.map(|read| read.keys).unwrap_or_default();
    let mut keys = Vec::with_capacity(stored.len());
    for one in stored {
        keys.push(match before.by_kid(&one.kid) {
            Some(key) if (key.signs_from, key.closed) == (one.signs_from, one.closed) => key.clone(),
            Some(_) | None => Arc::new(opened(app, one)?),
        });
    }
    let keys = Arc::new(KeySet(keys));
    app.tokens.keys.keep(Some(Read { at: now, keys: keys.clone() }));
    Ok(keys)
}

/// The key that signs; the first one is made for it.
pub async fn signing(app: &App) -> Result<Arc<SigningKey>, KeyError> {
    if let Some(key) = keys(app).await?.active(app.now()) {
        return Ok(key.clone());
    }
    ensure(app).await?;
    let active = keys(app).await?.active(app.now()).cloned();
    active.ok_or_else(|| unusable("", "none signs at present"))
}

/// Makes the first key where there is none. Of many replicas that do so at once, one makes it.
pub async fn ensure(app: &App) -> Result<(), KeyError> {
    if !keys(app).await?.0.is_empty() {
        return Ok(());
    }
    let (kid, pair) = drawn(app).await?;
    let mut tx = app.db.write("tokens.first_key").await?;
    store::hold(&mut tx).await?;
    if store::load(&mut tx).await?.is_empty() {
        let now = app.now();
        insert(&mut tx, app, "system", &kid, &pair, now, now).await?;
        tx.commit().await?;
    }
    app.tokens.keys.keep(None);
    Ok(())
}

/// Makes the next key. It signs once every gateway has it. Returns its name and that moment.
pub async fn rotate(app: &App, by: &str) -> Result<(String, UnixMillis), KeyError> {
    let (kid, pair) = drawn(app).await?;
    let mut tx = app.db.write("tokens.rotate_key").await?;
    store::hold(&mut tx).await?;
    let (present, now) = (store::load(&mut tx).await?, app.now());
    if let Some(next) = present.iter().find(|key| key.signs_from > now) {
        return Err(KeyError::Waiting { kid: next.kid.clone(), signs_from: next.signs_from.0 });
    }
    let closed = present.iter().filter(|key| key.closed).count();
    if present.len() - closed >= MAX_KEYS {
        return Err(KeyError::TooMany);
    }
    if closed >= MAX_CLOSED {
        return Err(KeyError::TooManyClosed);
    }
    let lead_ms = if present.is_empty() {
        0
    } else {
        i64::from(app.config.max_staleness_s).saturating_mul(1_000).saturating_add(LEAD_MS)
    };
    let signs_from = UnixMillis(now.0.saturating_add(lead_ms));
    insert(&mut tx, app, by, &kid, &pair, now, signs_from).await?;
    tx.commit().await?;
    app.tokens.keys.keep(None);
    Ok((kid, signs_from))
}

/// Takes a key out at once that others may know: it signs nothing more, and what it has signed serves no more.
/// Where it was the one that signs, another one signs at once, which nobody has heard of before. Returns that one's
/// name.
pub async fn withdraw(app: &App, kid: &str, by: &str) -> Result<Option<String>, KeyError> {
    let (new_kid, pair) = drawn(app).await?;
    let mut tx = app.db.write("tokens.withdraw_key").await?;
    store::hold(&mut tx).await?;
    let (present, now) = (store::load(&mut tx).await?, app.now());
    if !store::withdraw(&mut tx, kid, now).await? {
        let names: Vec<&str> = present.iter().map(|key| key.kid.as_str()).collect();
        return Err(KeyError::NotFound { kid: kid.into(), present: names.join(", ") });
    }
    let active = present.iter().rfind(|key| key.signs_from <= now);
    let successor = match active.filter(|active| active.kid == kid) {
        None => None,
        Some(_) => match present.iter().find(|key| key.signs_from > now) {
            Some(next) => {
                store::sign_from(&mut tx, &next.kid, now).await?;
                Some(next.kid.clone())
            }
            None => {
                put(&mut tx, app, &new_kid, &pair, now, now).await?;
                Some(new_kid.clone())
            }
        },
    };
    let clients = tokens::clients_of_key(&mut tx, kid, now).await?;
    for client in &clients {
        changes::record(&mut tx, &Subject::Client { client: ClientId::from(client.as_str()) }, now).await?;
    }
    announce(&mut tx, now).await?;
    if successor.as_ref() == Some(&new_kid) {
        audited(&mut tx, by, "tokens.make_key", &new_kid, json!({ "signs_from": now.0 }), now).await?;
    }
    let detail = json!({ "clients": clients.len(), "signs_now": successor });
    audited(&mut tx, by, "tokens.withdraw_key", kid, detail, now).await?;
    tx.commit().await?;
    app.tokens.keys.keep(None);
    tell_gateways_of_the_last(app, kid, &clients, now).await?;
    Ok(successor)
}

/// Of clients whose first token of the key came on record while it was withdrawn: who asked about one before that
/// was there holds what is over, and was not told.
async fn tell_gateways_of_the_last(
    app: &App,
    kid: &str,
    told: &[String],
    now: UnixMillis,
) -> Result<(), KeyError> {
    let mut late = tokens::clients_of_key(&mut *app.db.read().await?, kid, now).await?;
    late.retain(|client| !told.contains(client));
    if late.is_empty() {
        return Ok(());
    }
    let mut tx = app.db.write("tokens.withdraw_key_last").await?;
    for client in late {
        changes::record(&mut tx, &Subject::Client { client: ClientId::from(client.as_str()) }, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Makes the first key, and takes those away that sign no more: from gateways once no access token lives that they
/// have signed, and altogether once no refresh token lives of which they have signed a text.
pub async fn tend(app: &App) -> Result<(), KeyError> {
    ensure(app).await?;
    let (keys, now) = (keys(app).await?, app.now());
    // A replica that reads them late has signed with one that is retired since.
    let since = UnixMillis(now.0.saturating_sub(LEAD_MS));
    let Some(active) = keys.active(since) else { return Ok(()) };
    for (old, next) in keys.0.iter().zip(keys.0.iter().skip(1)) {
        if old.signs_from >= active.signs_from {
            break;
        }
        let mut read = app.db.read().await?;
        if !old.closed && tokens::live_of_key(&mut read, &old.kid, now).await? {
            continue;
        }
        let signed_until = UnixMillis(next.signs_from.0.saturating_add(LEAD_MS));
        let reads = refresh::store::lives_since(&mut read, signed_until, now).await?;
        drop(read);
        if reads && old.closed {
            continue;
        }
        let mut tx = app.db.write("tokens.remove_key").await?;
        store::hold(&mut tx).await?;
        let (done, action, reason) = match reads {
            true => (
                store::close(&mut tx, &old.kid, now).await?,
                "tokens.close_key",
                "no access token lives that it has signed",
            ),
            false => (
                store::delete(&mut tx, &old.kid).await?,
                "tokens.remove_key",
                "no token lives that it has signed",
            ),
        };
        if done {
            announce(&mut tx, now).await?;
            audited(&mut tx, "system", action, &old.kid, json!({ "reason": reason }), now).await?;
            tx.commit().await?;
        }
        app.tokens.keys.keep(None);
    }
    Ok(())
}

async fn insert(
    conn: &mut Conn,
    app: &App,
    by: &str,
    kid: &str,
    pair: &NewPair,
    now: UnixMillis,
    signs_from: UnixMillis,
) -> Result<(), DbError> {
    put(conn, app, kid, pair, now, signs_from).await?;
    announce(conn, now).await?;
    audited(conn, by, "tokens.make_key", kid, json!({ "signs_from": signs_from.0 }), now).await
}

async fn put(
    conn: &mut Conn,
    app: &App,
    kid: &str,
    pair: &NewPair,
    now: UnixMillis,
    signs_from: UnixMillis,
) -> Result<(), DbError> {
    let sealed_key = app.vault.seal(&purpose(kid), &pair.private);
    let key = Stored { kid: kid.into(), sealed_key, created_at: now, signs_from, closed: false };
    store::insert(conn, &key, &pair.public).await
}

/// Has gateways fetch the set.
async fn announce(conn: &mut Conn, now: UnixMillis) -> Result<(), DbError> {
    let revision = changes::record(conn, &Subject::Directory, now).await?;
    store::announced(conn, revision).await
}

async fn audited(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    kid: &str,
    detail: serde_json::Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    let entry = audit::Entry { actor: by.into(), action, subject: format!("token_key:{kid}"), detail };
    audit::record(conn, entry, now).await
}

async fn drawn(app: &App) -> Result<(String, NewPair), KeyError> {
    let kid = app.random.id("kid");
    let pair = tokio::task::spawn_blocking(NewPair::draw).await;
    match pair {
        Ok(Ok(pair)) => Ok((kid, pair)),
        Ok(Err(_)) | Err(_) => Err(unusable(&kid, "none could be drawn")),
    }
}

fn opened(app: &App, stored: Stored) -> Result<SigningKey, KeyError> {
    let Stored { kid, sealed_key, created_at, signs_from, closed } = stored;
    let private = app.vault.open(&purpose(&kid), &sealed_key)?;
    SigningKey::read(kid.clone(), created_at, signs_from, closed, &private)
        .map_err(|reason| unusable(&kid, &reason.to_string()))
}

fn purpose(kid: &str) -> String {
    format!("tokens.key:{kid}")
}

fn unusable(kid: &str, reason: &str) -> KeyError {
    KeyError::Unusable { kid: kid.into(), reason: reason.into() }
}

impl Cache {
    fn known(&self) -> Option<Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, read: Option<Read>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = read;
    }
}
