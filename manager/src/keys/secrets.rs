//! The secrets of a key: rotate, retire, send again. Two live at the most, so that a client can
//! change over while both sign.

use gate::id::CredentialId;
use gate::time::UnixMillis;
use serde_json::json;

use super::actions::{IssuedKey, KeyError, addresses_of, live, overtaken, record, require_version};
use super::mails::{self, Credentials};
use super::model::{Key, MAX_LIVE_SECRETS, SealedSecret, SecretKey};
use super::store;
use crate::app::App;
use crate::config::CredentialRecipients;
use crate::db::{Conn, DbError};
use crate::mail::Recipient;
use crate::mail::contexts::Occasion;
use crate::operators::{self, OperatorStatus};
use crate::schedule::{self, About, NewTask, Outcome, Task};
use crate::validity::print_instant;
use crate::{audit, credential_links};

/// The kind of work that ends an old secret.
pub(super) const RETIRE_SECRET: &str = "keys.retire_secret";

/// Hours for which two secrets live side by side at most, when an end is named.
pub const MAX_OVERLAP_H: u32 = 8_760;

const HOUR_MS: i64 = 3_600_000;

/// Gives a key a second secret beside the present one, and mails it to whom the first one went. Both sign
/// until the old one is retired: by hand, or by itself after `overlap_h` hours (0 = by hand alone;
/// absent: as the setting says).
pub(super) async fn rotate(
    app: &App,
    id: &CredentialId,
    overlap_h: Option<u32>,
    expected: Option<i64>,
    by: &str,
) -> Result<Key, KeyError> {
    let overlap_h = overlap_h.unwrap_or(app.config.key_secret_overlap_h);
    if overlap_h > MAX_OVERLAP_H {
        return Err(KeyError::Overlap { given: overlap_h });
    }
    let now = app.now();
    let mut tx = app.db.write("keys.rotate").await?;
    let before = live(&mut tx, id).await?;
    require_version(&before, expected)?;
    if before.secrets.len() >= MAX_LIVE_SECRETS {
        return Err(KeyError::TooManySecrets { id: id.clone() });
    }
    let recipients = recipients_of(&mut tx, app, id).await?;
    if recipients.is_empty() {
        return Err(KeyError::NoAddress { client: before.client });
    }
    if !store::touch(&mut tx, id, before.version, now).await? {
        return Err(overtaken(&mut tx, id, before.version).await?);
    }
    let secret = SecretKey::generate(&app.random);
    let sealed: SealedSecret = store::sealed(&app.vault, app.random.id("sec"), &secret, now);
    store::insert_secret(&mut tx, id, &sealed).await?;
    let ends_at = (overlap_h > 0).then(|| UnixMillis(now.0 + i64::from(overlap_h) * HOUR_MS));
    let mut secrets = vec![sealed];
    for old in before.secrets.iter().cloned() {
        if let Some(ends_at) = ends_at {
            plan_end(&mut tx, app, id, &old, ends_at, now).await?;
        }
        secrets.push(SealedSecret { ends_at, ..old });
    }
    let detail = json!({ "secret_id": secrets[0].id, "old_ends_at": ends_at });
    let old_until = ends_at.map(|at| print_instant(at, &app.config.zone()));
    let key = Key { secrets, version: before.version + 1, updated_at: now, ..before };
    // What waits holds the old secret, and would reach the client after the new one.
    mails::withdraw_credentials(&mut tx, id, "the key has a new secret, which is sent instead", now).await?;
    let issued = IssuedKey { key, secret };
    let mail = Credentials {
        occasion: Occasion::Rotated { old_until },
        application: None,
        recipients,
        not_before: app.config.credentials_not_before(now),
    };
    mails::mail_credentials(&mut tx, app, &issued, mail, now).await?;
    record(&mut tx, by, "keys.rotate", &issued.key, detail, now).await?;
    tx.commit().await?;
    Ok(issued.key)
}

/// Where another secret of a key goes: where its first one went, by `credential_recipients`. An
/// applicant who is gone, disabled or without an address is none; then it goes to the client.
async fn recipients_of(conn: &mut Conn, app: &App, id: &CredentialId) -> Result<Vec<Recipient>, KeyError> {
    let client = addresses_of(conn, id).await?;
    let applicant = match store::applied_by(conn, id).await? {
        Some(operator) => operators::find(conn, &operator).await?,
        None => None,
    };
    let applicant = applicant
        .filter(|operator| operator.status == OperatorStatus::Active)
        .as_ref()
        .and_then(operators::recipient);
    Ok(match (app.config.credential_recipients, applicant) {
        (CredentialRecipients::Client, _) | (_, None) => client,
        (CredentialRecipients::Applicant, Some(applicant)) => vec![applicant],
        (CredentialRecipients::Both, Some(applicant)) => {
            let known = client.iter().any(|recipient| recipient.address == applicant.address);
            client.into_iter().chain((!known).then_some(applicant)).collect()
        }
    })
}

async fn plan_end(
    conn: &mut Conn,
    app: &App,
    key: &CredentialId,
    secret: &SealedSecret,
    ends_at: UnixMillis,
    now: UnixMillis,
) -> Result<(), DbError> {
    store::set_secret_end(conn, &secret.id, ends_at).await?;
    let named = format!("{RETIRE_SECRET}:{}", secret.id);
    schedule::plan(conn, app, end_of(key, &secret.id, named, ends_at), now).await.map(drop)
}

fn end_of(key: &CredentialId, secret: &str, named: String, ends_at: UnixMillis) -> NewTask {
    NewTask {
        kind: RETIRE_SECRET,
        about: About::new("key", key.as_str()),
        key: named,
        due_at: ends_at,
        detail: json!({ "secret_id": secret }),
    }
}

/// Ends one of two live secrets.
pub(super) async fn retire(
    app: &App,
    id: &CredentialId,
    secret: &str,
    expected: Option<i64>,
    by: &str,
) -> Result<Key, KeyError> {
    let now = app.now();
    let mut tx = app.db.write("keys.retire_secret").await?;
    let before = live(&mut tx, id).await?;
    require_version(&before, expected)?;
    if !before.secrets.iter().any(|live| live.id == secret) {
        return Err(KeyError::UnknownSecret { id: id.clone(), secret: secret.into() });
    }
    if before.secrets.len() == 1 {
        return Err(KeyError::LastSecret { id: id.clone() });
    }
    let key = retire_in(&mut tx, before, secret, by, now).await?;
    tx.commit().await?;
    Ok(key)
}

/// The end of a secret whose time is over. What is done too early (somebody had the task tried again)
/// is planned anew; of a secret that is the only one by now, or of a key that is revoked, nothing is
/// left to do.
pub(super) async fn retire_when_over(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let now = app.now();
    let secret = task.detail["secret_id"].as_str().unwrap_or_default();
    let id = CredentialId(task.about.id.clone());
    let key = match live(conn, &id).await {
        Ok(key) => key,
        Err(KeyError::NotFound { .. } | KeyError::Revoked { .. }) => {
            return Ok(Outcome::Done("no longer wanted: the key has ended".into()));
        }
        Err(error) => return Err(error.into()),
    };
    let ends_at = key.secrets.iter().find(|live| live.id == secret).and_then(|live| live.ends_at);
    match ends_at {
        Some(_) if key.secrets.len() == 1 => {}
        Some(at) if at > now => {
            // This task is used up: the end hangs on another one, under a key of its own.
            let named = format!("{RETIRE_SECRET}:{secret}:{}", now.0);
            schedule::plan(conn, app, end_of(&id, secret, named, at), now).await?;
            return Ok(Outcome::Done("too early: planned anew for when the secret ends".into()));
        }
        Some(_) => {
            retire_in(conn, key, secret, "system", now).await?;
            return Ok(Outcome::Done(format!("retired {secret}")));
        }
        None => {}
    }
    Ok(Outcome::Done("no longer wanted: the secret stays or has ended".into()))
}

async fn retire_in(
    conn: &mut Conn,
    before: Key,
    secret: &str,
    by: &str,
    now: UnixMillis,
) -> Result<Key, KeyError> {
    let id = before.id.clone();
    // The version is tested with the key's row locked: two who retire one each cannot both.
    if !store::touch(conn, &id, before.version, now).await? {
        return Err(overtaken(conn, &id, before.version).await?);
    }
    store::delete_secret(conn, &id, secret).await?;
    credential_links::withdraw_of_secret(conn, id.as_str(), secret, now).await?;
    // Mails that wait hold the newest secret: those of others were withdrawn when it was made.
    if before.secrets.first().is_some_and(|newest| newest.id == secret) {
        mails::withdraw_credentials(conn, &id, "the secret was retired", now).await?;
    }
    // What stays is the only one: it does not end by itself.
    store::keep_secrets(conn, &id).await?;
    schedule::cancel(conn, RETIRE_SECRET, &About::new("key", id.as_str()), "one secret is left", now).await?;
    let left = before.secrets.iter().filter(|live| live.id != secret).cloned();
    let secrets = left.map(|left| SealedSecret { ends_at: None, ..left }).collect();
    let key = Key { secrets, version: before.version + 1, updated_at: now, ..before };
    record(conn, by, "keys.retire_secret", &key, json!({ "secret_id": secret }), now).await?;
    Ok(key)
}

/// Sends the pair once more, with the newest secret: for whom the mail was lost.
pub(super) async fn resend(app: &App, id: &CredentialId, by: &str) -> Result<Key, KeyError> {
    let now = app.now();
    let mut tx = app.db.write("keys.resend").await?;
    let key = live(&mut tx, id).await?;
    let recipients = recipients_of(&mut tx, app, id).await?;
    if recipients.is_empty() {
        return Err(KeyError::NoAddress { client: key.client });
    }
    // Held, so that it is not revoked before the mail is there to be withdrawn.
    if !store::hold(&mut tx, id, key.version).await? {
        return Err(overtaken(&mut tx, id, key.version).await?);
    }
    let newest = store::open_secrets(&app.vault, &key)?.into_iter().next();
    let newest = newest.and_then(|secret| SecretKey::parse(&secret.text).ok());
    let secret = newest.ok_or_else(|| DbError::Inconsistency {
        table: "key_secrets",
        column: "sealed",
        row: key.id.0.clone(),
    })?;
    let issued = IssuedKey { key, secret };
    let mail = Credentials { occasion: Occasion::Resent, application: None, recipients, not_before: now };
    mails::mail_credentials(&mut tx, app, &issued, mail, now).await?;
    // Nothing that gateways hold has changed.
    let entry = audit::Entry {
        actor: by.into(),
        action: "keys.resend",
        subject: format!("key:{id}"),
        detail: json!({ "client": issued.key.client, "secret_id": issued.key.secrets[0].id }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(issued.key)
}
