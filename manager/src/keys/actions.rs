//! Issue, change, revoke, rotate, bring in: each records what gateways must forget and who did it.

use std::collections::BTreeSet;

use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::{Interval, UnixMillis};
use gate::wire::changes::{Fingerprint, Subject};
use gate::wire::exchange::MeterKind;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::mails;
use super::model::{
    ApiKey, Key, KeyName, KeyState, MAX_LIVE_SECRETS, Origin, SecretKey, Terms, TermsError, UseQuota,
};
use super::secrets::{MAX_OVERLAP_H, RETIRE_SECRET};
use super::store;
use crate::app::App;
use crate::clients::ClientError;
use crate::db::{Conn, DbError};
use crate::mail::contexts::KeyEvent;
use crate::mail::{self, MailError, Recipient};
use crate::quotas::{self, Limit};
use crate::schedule::{self, About};
use crate::validity::{Validity, ValidityError, print_instant};
use crate::{audit, catalog, changes, clients, credential_links};

/// A key to be issued.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whose.
    pub client: ClientId,
    /// What it may do.
    pub terms: Terms,
    /// Number of the form that asks for it.
    pub application: Option<String>,
    /// The operator who applied for it; none: its client did, or the pair is brought in.
    pub applied_by: Option<String>,
}

/// A key that was just issued, with the secret that is shown to nobody but its client.
#[derive(Clone, Debug)]
pub struct IssuedKey {
    /// The key.
    pub key: Key,
    /// Its secret.
    pub secret: SecretKey,
}

/// Other terms for a key. Its first day stays what it is.
#[derive(Clone, Debug)]
pub struct KeyChange {
    /// What people call it.
    pub name: KeyName,
    /// Last day, inclusive, in the installation's zone.
    pub expires_on: Date,
    /// How often it may be used in all; what was used counts, unless `reset_usage`.
    pub uses: UseQuota,
    /// Uses so far no longer count.
    pub reset_usage: bool,
    /// What it may call.
    pub apis: BTreeSet<ApiUid>,
    /// Number of the form that asks for it.
    pub application: Option<String>,
}

/// A pair that was made elsewhere.
#[derive(Clone, Debug)]
pub(super) struct ImportedPair {
    pub api_key: ApiKey,
    pub secret: SecretKey,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such key.
    #[error("there is no key {id}")]
    NotFound {
        /// As asked for.
        id: CredentialId,
    },
    /// No such client.
    #[error("there is no client {client}")]
    UnknownClient {
        /// As given.
        client: ClientId,
    },
    /// No such API.
    #[error("there is no API {api}")]
    UnknownApi {
        /// As given.
        api: ApiUid,
    },
    /// It has ended for good.
    #[error("key {id} was revoked at {}: apply for a new one", print_instant(*revoked_at, &TimeZone::UTC))]
    Revoked {
        /// Which.
        id: CredentialId,
        /// When.
        revoked_at: UnixMillis,
    },
    /// The public half is taken.
    #[error("this API key is on record already")]
    ApiKeyTaken,
    /// A value is impossible.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// Two secrets are live already.
    #[error("key {id} has {MAX_LIVE_SECRETS} live secrets: retire the old one first")]
    TooManySecrets {
        /// Which.
        id: CredentialId,
    },
    /// A key without a secret could not be used.
    #[error("this is the only secret of key {id}: rotate first, or revoke the key")]
    LastSecret {
        /// Which.
        id: CredentialId,
    },
    /// Too long.
    #[error(
        "{given} hours: the old secret lives for {MAX_OVERLAP_H} hours at most, or with 0 until it is retired"
    )]
    Overlap {
        /// As given.
        given: u32,
    },
    /// No such secret.
    #[error("key {id} has no secret {secret}")]
    UnknownSecret {
        /// Which key.
        id: CredentialId,
        /// As asked for.
        secret: String,
    },
    /// A secret is mailed, and there is nowhere to mail it to.
    #[error("there is no mail address to which the secret would be sent: enter one for the client {client}")]
    NoAddress {
        /// Whose key it is.
        client: ClientId,
    },
    /// Somebody else was quicker.
    #[error("version {expected} was named, {present} is present")]
    Version {
        /// By the caller.
        expected: i64,
        /// In the database.
        present: i64,
    },
    /// The mail could not be written.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl Terms {
    /// Terms from the first to the last day, in the zone of the installation.
    pub fn new(
        name: KeyName,
        days: Validity,
        uses: UseQuota,
        apis: BTreeSet<ApiUid>,
        zone: &jiff::tz::TimeZone,
    ) -> Self {
        Self { name, validity: days.instants(zone), uses, apis }
    }
}

/// Issues a key within the caller's transaction. `by` is who acts, as the audit trail names it.
pub async fn issue(
    conn: &mut Conn,
    app: &App,
    new: NewKey,
    by: &str,
    now: UnixMillis,
) -> Result<IssuedKey, KeyError> {
    let pair =
        ImportedPair { api_key: ApiKey::generate(&app.random), secret: SecretKey::generate(&app.random) };
    put_on_record(conn, app, new, pair, Origin::Issued, by, now).await
}

/// Brings in a pair that was made elsewhere.
pub(super) async fn import(app: &App, new: NewKey, pair: ImportedPair, by: &str) -> Result<Key, KeyError> {
    let now = app.now();
    let mut tx = app.db.write("keys.import").await?;
    let brought = put_on_record(&mut tx, app, new, pair, Origin::Imported, by, now).await?;
    tx.commit().await?;
    Ok(brought.key)
}

async fn put_on_record(
    conn: &mut Conn,
    app: &App,
    new: NewKey,
    pair: ImportedPair,
    origin: Origin,
    by: &str,
    now: UnixMillis,
) -> Result<IssuedKey, KeyError> {
    require_client(conn, &new.client).await?;
    require_apis(conn, &new.terms.apis).await?;
    let secret = store::sealed(&app.vault, app.random.id("sec"), &pair.secret, now);
    let key = Key {
        id: CredentialId(app.random.id("key")),
        client: new.client,
        api_key: pair.api_key,
        secrets: vec![secret],
        name: new.terms.name,
        validity: new.terms.validity,
        uses: new.terms.uses,
        apis: new.terms.apis,
        state: KeyState::Active,
        origin,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    store::insert(conn, &key, new.applied_by.as_deref()).await.map_err(|error| {
        if error.violates("keys_api_key_key") { KeyError::ApiKeyTaken } else { error.into() }
    })?;
    save_quota(conn, &key, now).await?;
    let action = match origin {
        Origin::Issued => "keys.issue",
        Origin::Imported => "keys.import",
    };
    let mut detail = terms_json(&key);
    detail["application"] = json!(new.application);
    record(conn, by, action, &key, detail, now).await?;
    Ok(IssuedKey { key, secret: pair.secret })
}

/// Gives a key other terms within the caller's transaction.
pub async fn change(
    conn: &mut Conn,
    app: &App,
    id: &CredentialId,
    change: KeyChange,
    by: &str,
    now: UnixMillis,
) -> Result<Key, KeyError> {
    let before = live(conn, id).await?;
    require_apis(conn, &change.apis).await?;
    let zone = app.config.zone();
    let days = Validity::of_instants(before.validity, &zone);
    let days = Validity::new(days.effective_on(), change.expires_on).map_err(TermsError::from)?;
    let validity = Interval { from: before.validity.from, until: days.instants(&zone).until };
    let terms = Terms { name: change.name, validity, uses: change.uses, apis: change.apis };
    if !store::set_terms(conn, id, before.version, &terms, now).await? {
        return Err(overtaken(conn, id, before.version).await?);
    }
    let after = Key {
        name: terms.name,
        validity: terms.validity,
        uses: terms.uses,
        apis: terms.apis,
        version: before.version + 1,
        updated_at: now,
        ..before.clone()
    };
    save_quota(conn, &after, now).await?;
    if after.validity.until != before.validity.until {
        mails::withdraw_reminders(conn, id, "the expiry was changed", now).await?;
    }
    if change.reset_usage {
        quotas::reset(conn, MeterKind::KeyUses, id.as_str(), now).await?;
    }
    let detail = json!({
        "before": terms_json(&before),
        "after": terms_json(&after),
        "reset_usage": change.reset_usage,
        "application": change.application,
    });
    record(conn, by, "keys.change", &after, detail, now).await?;
    Ok(after)
}

/// Ends a key for good within the caller's transaction: gateways refuse it within a second.
/// `application` is the number of the form that asks for it.
pub async fn revoke(
    conn: &mut Conn,
    id: &CredentialId,
    application: Option<&str>,
    by: &str,
    now: UnixMillis,
) -> Result<Key, KeyError> {
    let before = live(conn, id).await?;
    if !store::revoke(conn, id, before.version, now).await? {
        return Err(overtaken(conn, id, before.version).await?);
    }
    let after = Key {
        state: KeyState::Revoked { revoked_at: now },
        version: before.version + 1,
        updated_at: now,
        ..before
    };
    withdraw(conn, id, now).await?;
    let detail = json!({ "client": after.client, "application": application });
    record(conn, by, "keys.revoke", &after, detail, now).await?;
    Ok(after)
}

/// Takes back what was to be told of a key and done with it.
async fn withdraw(conn: &mut Conn, id: &CredentialId, now: UnixMillis) -> Result<(), DbError> {
    const WHY: &str = "the key was revoked";
    mails::withdraw_credentials(conn, id, WHY, now).await?;
    credential_links::withdraw(conn, &mail::About::new("key", id.as_str()), now).await?;
    mails::withdraw_reminders(conn, id, WHY, now).await?;
    schedule::cancel(conn, RETIRE_SECRET, &About::new("key", id.as_str()), WHY, now).await?;
    Ok(())
}

/// Takes back what was to be told of all keys of a client and done with them, within the caller's
/// transaction, who revokes them next: all of these rows come before the first one that is recorded.
pub async fn withdraw_all_of(conn: &mut Conn, client: &ClientId, now: UnixMillis) -> Result<(), DbError> {
    for key in store::live_of(conn, client, "", i64::MAX).await? {
        withdraw(conn, &key.id, now).await?;
    }
    Ok(())
}

/// Ends all keys of a client for good within the caller's transaction, who has locked them
/// ([`super::lock_all_of`]) and done [`withdraw_all_of`], and writes its addresses a mail about each. Returns the keys as they
/// are now.
pub async fn revoke_all_of(
    conn: &mut Conn,
    app: &App,
    client: &ClientId,
    by: &str,
    now: UnixMillis,
) -> Result<Vec<Key>, KeyError> {
    let mut revoked = Vec::new();
    for key in store::live_of(conn, client, "", i64::MAX).await? {
        let recipients = addresses_of(conn, &key.id).await?;
        let key = revoke(conn, &key.id, None, by, now).await?;
        let told =
            mails::Changed { change: KeyEvent::Revoked, application: None, recipients, not_before: now };
        mails::mail_change(conn, app, &key, told, now).await?;
        revoked.push(key);
    }
    Ok(revoked)
}

/// Revokes a key by hand. The client's addresses, where it has some, are told.
pub(super) async fn revoke_now(
    app: &App,
    id: &CredentialId,
    expected: Option<i64>,
    by: &str,
) -> Result<Key, KeyError> {
    let now = app.now();
    let mut tx = app.db.write("keys.revoke").await?;
    require_version(&live(&mut tx, id).await?, expected)?;
    let addresses = addresses_of(&mut tx, id).await?;
    let key = revoke(&mut tx, id, None, by, now).await?;
    let told = mails::Changed {
        change: KeyEvent::Revoked,
        application: None,
        recipients: addresses,
        not_before: now,
    };
    mails::mail_change(&mut tx, app, &key, told, now).await?;
    tx.commit().await?;
    Ok(key)
}

/// Switches a key off, or on again: gateways refuse it as inactive within a second, or let it in.
pub(super) async fn set_active(
    app: &App,
    id: &CredentialId,
    active: bool,
    expected: Option<i64>,
    by: &str,
) -> Result<Key, KeyError> {
    let (action, state) =
        if active { ("keys.activate", KeyState::Active) } else { ("keys.deactivate", KeyState::Inactive) };
    let now = app.now();
    let mut tx = app.db.write(action).await?;
    let before = live(&mut tx, id).await?;
    require_version(&before, expected)?;
    if before.state == state {
        return Ok(before);
    }
    if !store::set_state(&mut tx, id, before.version, state, now).await? {
        return Err(overtaken(&mut tx, id, before.version).await?);
    }
    let shown = |key: &Key| json!({ "state": key.state.name() });
    let after = Key { state, version: before.version + 1, updated_at: now, ..before.clone() };
    let detail =
        json!({ "client": after.client, "changed": audit::changed(&shown(&before), &shown(&after)) });
    record(&mut tx, by, action, &after, detail, now).await?;
    tx.commit().await?;
    Ok(after)
}

/// The key, unless it is gone or revoked.
pub(super) async fn live(conn: &mut Conn, id: &CredentialId) -> Result<Key, KeyError> {
    let key = store::by_id(conn, id).await?.ok_or_else(|| KeyError::NotFound { id: id.clone() })?;
    match key.state {
        KeyState::Active | KeyState::Inactive => Ok(key),
        KeyState::Revoked { revoked_at } => Err(KeyError::Revoked { id: id.clone(), revoked_at }),
    }
}

/// Why a conditional update found nothing.
pub(super) async fn overtaken(
    conn: &mut Conn,
    id: &CredentialId,
    expected: i64,
) -> Result<KeyError, KeyError> {
    let present = live(conn, id).await?;
    Ok(KeyError::Version { expected, present: present.version })
}

pub(super) fn require_version(key: &Key, expected: Option<i64>) -> Result<(), KeyError> {
    match expected {
        Some(expected) if expected != key.version => {
            Err(KeyError::Version { expected, present: key.version })
        }
        Some(_) | None => Ok(()),
    }
}

/// The client exists, and is not deleted before the key is there.
async fn require_client(conn: &mut Conn, client: &ClientId) -> Result<(), KeyError> {
    match clients::hold(conn, client.as_str()).await {
        Ok(_) => Ok(()),
        Err(ClientError::Db(error)) => Err(error.into()),
        Err(_) => Err(KeyError::UnknownClient { client: client.clone() }),
    }
}

async fn require_apis(conn: &mut Conn, apis: &BTreeSet<ApiUid>) -> Result<(), KeyError> {
    let wanted: Vec<ApiUid> = apis.iter().cloned().collect();
    let known: BTreeSet<ApiUid> =
        catalog::known_apis(conn, &wanted).await?.into_iter().map(|api| api.uid).collect();
    match apis.difference(&known).next() {
        Some(api) => Err(KeyError::UnknownApi { api: api.clone() }),
        None => Ok(()),
    }
}

pub(super) async fn addresses_of(conn: &mut Conn, id: &CredentialId) -> Result<Vec<Recipient>, KeyError> {
    let Some(key) = store::by_id(conn, id).await? else { return Ok(Vec::new()) };
    let client = clients::by_id(conn, key.client.as_str()).await?;
    Ok(client.iter().flat_map(clients::recipients).collect())
}

/// The meter outlives a time without a limit: what was used before counts under the next one. While
/// the key is unlimited no grant names its meter, so that gateways lease and count nothing.
async fn save_quota(conn: &mut Conn, key: &Key, now: UnixMillis) -> Result<(), DbError> {
    match key.uses {
        UseQuota::Uses(uses) => {
            let limit = Limit::total(u64::from(uses));
            quotas::set_limit(conn, MeterKind::KeyUses, key.id.as_str(), limit, now).await.map(drop)
        }
        UseQuota::Unlimited => Ok(()),
    }
}

/// What gateways must forget, then who did it: always in this order.
pub(super) async fn record(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    key: &Key,
    detail: Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    let subject = Subject::Credential {
        credential: key.id.clone(),
        fingerprint: Fingerprint::Dgrk(key.api_key.as_str().into()),
    };
    changes::record(conn, &subject, now).await?;
    let entry = audit::Entry { actor: by.into(), action, subject: format!("key:{}", key.id), detail };
    audit::record(conn, entry, now).await
}

fn terms_json(key: &Key) -> Value {
    json!({
        "client": key.client,
        "name": key.name.as_str(),
        "effective_at": key.validity.from,
        "expires_at": key.validity.until,
        "quota": key.uses.as_number(),
        "apis": key.apis,
    })
}

impl From<ValidityError> for KeyError {
    fn from(error: ValidityError) -> Self {
        Self::Terms(error.into())
    }
}
