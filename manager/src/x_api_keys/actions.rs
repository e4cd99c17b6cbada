//! Create and delete: each records what gateways must forget and who did it.

use std::collections::BTreeSet;

use gate::id::{ClientId, CredentialId, GroupId};
use gate::time::UnixMillis;
use gate::wire::changes::{Fingerprint, Subject};
use serde_json::json;

use super::model::{Alias, XApiKey, XApiKeyFault, XApiKeyText};
use super::store;
use crate::app::App;
use crate::clients::{self, Client};
use crate::db::{Conn, DbError};
use crate::http::Actor;
use crate::mail::contexts::XApiKeyIssued;
use crate::mail::{self, About, Language, MailError, NewMail};
use crate::validity::Validity;
use crate::{audit, catalog, changes};

/// Stands in the mail where the gateway's own address belongs.
const GATEWAY_PLACEHOLDER: &str = "https://<your gateway>";

/// A key to be created.
#[derive(Clone, Debug)]
pub(super) struct NewXApiKey {
    /// Whose.
    pub client: ClientId,
    /// What people call it.
    pub alias: Alias,
    /// First and last day, in the installation's zone.
    pub days: Validity,
    /// What it opens: some of the client's own.
    pub groups: BTreeSet<GroupId>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum XApiKeyError {
    /// No such key.
    #[error("there is no X-Api-Key {id}")]
    NotFound {
        /// As asked for.
        id: CredentialId,
    },
    /// No such client.
    #[error("Client {client} does not exist")]
    UnknownClient {
        /// As given.
        client: ClientId,
    },
    /// A group that the client does not have.
    #[error("group {group} is none of client {client}'s groups: give it to the client first")]
    ForeignGroup {
        /// Which.
        group: GroupId,
        /// Whose key it would be.
        client: ClientId,
    },
    /// A value that describes no key.
    #[error(transparent)]
    Fault(#[from] XApiKeyFault),
    /// The mail could not be written.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Creates a key. Its text is returned to be shown once, and mailed to the client where it has
/// an address.
pub(super) async fn create(
    app: &App,
    by: &Actor,
    new: NewXApiKey,
) -> Result<(XApiKey, XApiKeyText), XApiKeyError> {
    let now = app.now();
    let text = XApiKeyText::generate(&app.random);
    let mut tx = app.db.write("x_api_keys.create").await?;
    let client = clients::by_id(&mut tx, new.client.as_str())
        .await?
        .ok_or_else(|| XApiKeyError::UnknownClient { client: new.client.clone() })?;
    if let Some(group) = new.groups.iter().find(|group| !client.groups.contains(group)) {
        return Err(XApiKeyError::ForeignGroup { group: group.clone(), client: new.client });
    }
    let key = XApiKey {
        id: CredentialId(app.random.id("xak")),
        client: new.client,
        alias: new.alias,
        sha256: text.sha256(),
        mask: text.mask(),
        validity: new.days.instants(&app.config.zone()),
        groups: new.groups,
        created_at: now,
        created_by: by.operator.clone(),
    };
    store::insert(&mut tx, &key).await?;
    mail_to_client(&mut tx, app, by, &client, &key, &text, now).await?;
    record(&mut tx, by, "x_api_keys.create", &key, now).await?;
    tx.commit().await?;
    Ok((key, text))
}

/// Deletes a key.
pub(super) async fn delete(app: &App, by: &Actor, id: &CredentialId) -> Result<(), XApiKeyError> {
    let now = app.now();
    let mut tx = app.db.write("x_api_keys.delete").await?;
    let key = store::by_id(&mut tx, id).await?.ok_or_else(|| XApiKeyError::NotFound { id: id.clone() })?;
    if !store::delete(&mut tx, id).await? {
        // Somebody else was quicker.
        return Err(XApiKeyError::NotFound { id: id.clone() });
    }
    record(&mut tx, by, "x_api_keys.delete", &key, now).await?;
    tx.commit().await?;
    Ok(())
}

async fn mail_to_client(
    conn: &mut Conn,
    app: &App,
    by: &Actor,
    client: &Client,
    key: &XApiKey,
    text: &XApiKeyText,
    now: UnixMillis,
) -> Result<(), XApiKeyError> {
    if client.emails.is_empty() {
        return Ok(());
    }
    let groups: Vec<GroupId> = key.groups.iter().cloned().collect();
    let zone = app.config.zone();
    let days = Validity::of_instants(key.validity, &zone);
    let context = XApiKeyIssued {
        product_name: app.config.product_name.clone(),
        x_api_key: text.reveal().into(),
        mask: key.mask.clone(),
        key_name: key.alias.as_str().into(),
        client_id: client.id.as_str().into(),
        client_name: client.display_name.clone(),
        effective_on: days.effective_on().to_string(),
        expires_on: days.expires_on().to_string(),
        time_zone: zone.iana_name().unwrap_or("UTC").into(),
        created_by: if by.display_name.is_empty() { &by.name } else { &by.display_name }.clone(),
        groups: catalog::known_groups(conn, &groups).await?.into_iter().map(|group| group.name).collect(),
        gateway_url: app.config.gateway_url.clone().unwrap_or_else(|| GATEWAY_PLACEHOLDER.into()),
    };
    let delay_ms =
        i64::try_from(app.config.credential_mail_delay_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let mail = NewMail {
        recipients: client.emails.iter().map(|email| email.as_str().to_owned()).collect(),
        context,
        not_before: UnixMillis(now.0.saturating_add(delay_ms)),
        about: About::new("x_api_key", key.id.as_str()),
        language: Language::default(),
    };
    mail::enqueue(conn, app, mail, now).await?;
    Ok(())
}

/// What gateways must forget, then who did it: always in this order.
async fn record(
    conn: &mut Conn,
    by: &Actor,
    action: &'static str,
    key: &XApiKey,
    now: UnixMillis,
) -> Result<(), DbError> {
    let changed = Subject::Credential {
        credential: key.id.clone(),
        fingerprint: Fingerprint::XApiKey(key.sha256.clone()),
    };
    changes::record(conn, &changed, now).await?;
    let entry = audit::Entry {
        actor: by.audit_name(),
        action,
        subject: format!("x_api_key:{}", key.id),
        detail: json!({
            "client": key.client,
            "alias": key.alias.as_str(),
            "mask": key.mask,
            "groups": key.groups,
            "effective_at": key.validity.from,
            "expires_at": key.validity.until,
        }),
    };
    audit::record(conn, entry, now).await
}
