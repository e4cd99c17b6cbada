//! Create, bring in, look up, delete: what alters a key records what gateways must forget and who
//! did it.

use std::collections::BTreeSet;

use gate::id::{ClientId, CredentialId, GroupId};
use gate::time::UnixMillis;
use gate::wire::changes::{Fingerprint, Subject};
use serde_json::json;

use super::model::{
    Alias, ID_PREFIX, MAX_DELETED_TOGETHER, Origin, Trace, XApiKey, XApiKeyFault, XApiKeyText,
};
use super::store;
use crate::app::App;
use crate::catalog::{self, GroupSummary};
use crate::clients::{self, Client, ClientError};
use crate::credential_links::{self, Credentials, Handover, Secret};
use crate::db::{Conn, DbError};
use crate::http::Actor;
use crate::mail::contexts::XApiKeyIssued;
use crate::mail::{self, About, MailError, NewMail, Template};
use crate::validity::Validity;
use crate::{audit, changes};

/// A key to be put on record.
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

/// What somebody who has the text of a key may be told of it.
#[derive(Clone, Debug)]
pub(super) struct Status {
    /// The key.
    pub key: XApiKey,
    /// Whose it is.
    pub client: Client,
    /// Its groups; true: the client still has it, so it opens.
    pub groups: Vec<(GroupSummary, bool)>,
    /// APIs that it opens at present.
    pub apis: i64,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum XApiKeyError {
    /// No such keys.
    #[error("there is no X-Api-Key {}", listed(ids))]
    NotFound {
        /// Every one of those asked for that there is not.
        ids: Vec<CredentialId>,
    },
    /// Nobody has a key of that text. Nothing of it is repeated.
    #[error("no client has this X-Api-Key: it was never issued here, or was deleted")]
    UnknownText,
    /// No key, or too many, to be deleted at once.
    #[error("{given} ids: 1 to {MAX_DELETED_TOGETHER} are deleted together")]
    TooMany {
        /// How many.
        given: usize,
    },
    /// A key for nobody.
    #[error("Client {client} does not exist")]
    UnknownClient {
        /// As given.
        client: ClientId,
    },
    /// No such client.
    #[error("Client {client} does not exist")]
    ClientNotFound {
        /// As asked for.
        client: String,
    },
    /// A group that the client does not have.
    #[error("group {group} is none of client {client}'s groups: give it to the client first")]
    ForeignGroup {
        /// Which.
        group: GroupId,
        /// Whose key it would be.
        client: ClientId,
    },
    /// The text is on record already.
    #[error("an X-Api-Key with this SHA-256 is on record already")]
    Taken,
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
    let (key, client) =
        put_on_record(&mut tx, app, &by.audit_name(), new, text.trace(), Origin::Issued, now).await?;
    mail_to_client(&mut tx, app, by, &client, &key, &text, now).await?;
    record(&mut tx, &by.audit_name(), "x_api_keys.create", std::slice::from_ref(&key), now).await?;
    tx.commit().await?;
    Ok((key, text))
}

/// Brings in a key that was made elsewhere, by what is kept of it. Its holder goes on using it and
/// is told nothing.
pub(super) async fn import(
    app: &App,
    by: &str,
    new: NewXApiKey,
    trace: Trace,
) -> Result<XApiKey, XApiKeyError> {
    let now = app.now();
    let mut tx = app.db.write("x_api_keys.import").await?;
    let (key, _) = put_on_record(&mut tx, app, by, new, trace, Origin::Imported, now).await?;
    record(&mut tx, by, "x_api_keys.import", std::slice::from_ref(&key), now).await?;
    tx.commit().await?;
    Ok(key)
}

/// Deletes keys, all of them or none.
pub(super) async fn delete(app: &App, by: &str, ids: BTreeSet<CredentialId>) -> Result<(), XApiKeyError> {
    if !(1..=MAX_DELETED_TOGETHER).contains(&ids.len()) {
        return Err(XApiKeyError::TooMany { given: ids.len() });
    }
    let now = app.now();
    let mut tx = app.db.write("x_api_keys.delete").await?;
    delete_in(&mut tx, by, ids, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes all keys of a client within the caller's transaction, who has locked them
/// ([`super::lock_all_of`]), and returns what they were.
pub async fn delete_all_of(
    conn: &mut Conn,
    by: &str,
    client: &ClientId,
    now: UnixMillis,
) -> Result<Vec<XApiKey>, XApiKeyError> {
    let keys = store::of_client(conn, client, i64::MAX).await?;
    delete_in(conn, by, keys.into_iter().map(|key| key.id).collect(), now).await
}

/// Takes back what was to be told of all keys of a client, within the caller's transaction, who
/// deletes them next: all of these rows come before the first one that is recorded.
pub async fn withdraw_all_of(conn: &mut Conn, client: &ClientId, now: UnixMillis) -> Result<(), DbError> {
    for key in store::of_client(conn, client, i64::MAX).await? {
        withdraw(conn, &key.id, now).await?;
    }
    Ok(())
}

async fn withdraw(conn: &mut Conn, id: &CredentialId, now: UnixMillis) -> Result<(), DbError> {
    let about = About::new("x_api_key", id.as_str());
    for template in [Template::XApiKeyIssued, Template::XApiKeyExpiring] {
        mail::withdraw(conn, &about, template, "the X-Api-Key was deleted", now).await?;
    }
    credential_links::withdraw(conn, &about, now).await
}

async fn delete_in(
    conn: &mut Conn,
    by: &str,
    ids: BTreeSet<CredentialId>,
    now: UnixMillis,
) -> Result<Vec<XApiKey>, XApiKeyError> {
    let (mut keys, mut missing) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        // Somebody else may be quicker between the two.
        match store::by_id(conn, &id).await? {
            Some(key) if store::delete(conn, &id).await? => keys.push(key),
            Some(_) | None => missing.push(id),
        }
    }
    if !missing.is_empty() {
        return Err(XApiKeyError::NotFound { ids: missing });
    }
    for key in &keys {
        withdraw(conn, &key.id, now).await?;
    }
    record(conn, by, "x_api_keys.delete", &keys, now).await?;
    Ok(keys)
}

/// What there is to know about the key of that text.
pub(super) async fn look_up(app: &App, text: &XApiKeyText) -> Result<Status, XApiKeyError> {
    let mut conn = app.db.snapshot().await?;
    let key = store::find_by_sha256(&mut conn, &text.sha256()).await?.ok_or(XApiKeyError::UnknownText)?;
    let client = clients::by_id(&mut conn, key.client.as_str()).await?.ok_or(XApiKeyError::UnknownText)?;
    let ids: Vec<GroupId> = key.groups.iter().cloned().collect();
    let groups = catalog::known_groups(&mut conn, &ids).await?;
    let groups = groups.into_iter().map(|group| {
        let opens = client.groups.contains(&group.id);
        (group, opens)
    });
    Ok(Status { groups: groups.collect(), apis: store::count_apis(&mut conn, &key.id).await?, key, client })
}

/// The groups that a key of that client may be given, by name: the client's own, and of these
/// those whose name contains the keyword.
pub(super) async fn offered_groups(
    app: &App,
    client: &str,
    keyword: Option<&str>,
) -> Result<Vec<GroupSummary>, XApiKeyError> {
    let mut conn = app.db.snapshot().await?;
    let client = clients::by_id(&mut conn, client)
        .await?
        .ok_or_else(|| XApiKeyError::ClientNotFound { client: client.into() })?;
    let keyword = keyword.unwrap_or_default().trim().to_lowercase();
    let mut groups = catalog::known_groups(&mut conn, &client.groups).await?;
    groups.retain(|group| group.name.to_lowercase().contains(&keyword));
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(groups)
}

/// The key as it stands on record from now on, and its client.
async fn put_on_record(
    conn: &mut Conn,
    app: &App,
    by: &str,
    new: NewXApiKey,
    trace: Trace,
    origin: Origin,
    now: UnixMillis,
) -> Result<(XApiKey, Client), XApiKeyError> {
    // Held, so that it is not deleted before the key is there.
    let client = match clients::hold(conn, new.client.as_str()).await {
        Ok(client) => client,
        Err(ClientError::Db(error)) => return Err(error.into()),
        Err(_) => return Err(XApiKeyError::UnknownClient { client: new.client }),
    };
    if let Some(group) = new.groups.iter().find(|group| !client.groups.contains(group)) {
        return Err(XApiKeyError::ForeignGroup { group: group.clone(), client: new.client });
    }
    let key = XApiKey {
        id: CredentialId(app.random.id(ID_PREFIX)),
        client: new.client,
        alias: new.alias,
        trace,
        validity: new.days.instants(&app.config.zone()),
        groups: new.groups,
        origin,
        last_used_at: None,
        created_at: now,
        created_by: by.strip_prefix("operator:").unwrap_or(by).into(),
    };
    store::insert(conn, &key).await.map_err(|error| {
        if error.violates("x_api_keys_sha256_key") { XApiKeyError::Taken } else { error.into() }
    })?;
    Ok((key, client))
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
        mask: key.trace.mask.clone(),
        key_name: key.alias.as_str().into(),
        client_id: client.id.as_str().into(),
        client_name: client.display_name.clone(),
        effective_on: days.effective_on().to_string(),
        expires_on: days.expires_on().to_string(),
        time_zone: zone.iana_name().unwrap_or("UTC").into(),
        created_by: if by.display_name.is_empty() { &by.name } else { &by.display_name }.clone(),
        groups: catalog::known_groups(conn, &groups).await?.into_iter().map(|group| group.name).collect(),
        gateway_url: app.config.gateway_url.as_deref().map(|url| url.trim_end_matches('/').to_owned()),
        link: None,
        link_expires_at: None,
    };
    let credentials = Credentials {
        secret: Secret::XApiKey { x_api_key: context.x_api_key.clone(), key_name: context.key_name.clone() },
        client_id: context.client_id.clone(),
        client_name: context.client_name.clone(),
    };
    let mail = NewMail {
        recipients: clients::recipients(client),
        context,
        not_before: app.config.credentials_not_before(now),
        about: About::new("x_api_key", key.id.as_str()),
    };
    let what = Handover { credentials: &credentials, secret: "", until: None };
    credential_links::hand_over(conn, app, mail, what, now).await?;
    Ok(())
}

/// What gateways must forget, then who did it: always in this order.
async fn record(
    conn: &mut Conn,
    by: &str,
    action: &'static str,
    keys: &[XApiKey],
    now: UnixMillis,
) -> Result<(), DbError> {
    for key in keys {
        let changed = Subject::Credential {
            credential: key.id.clone(),
            fingerprint: Fingerprint::XApiKey(key.trace.sha256.clone()),
        };
        changes::record(conn, &changed, now).await?;
    }
    for key in keys {
        let entry = audit::Entry {
            actor: by.into(),
            action,
            subject: format!("x_api_key:{}", key.id),
            detail: json!({
                "client": key.client,
                "alias": key.alias.as_str(),
                "mask": key.trace.mask,
                "groups": key.groups,
                "effective_at": key.validity.from,
                "expires_at": key.validity.until,
            }),
        };
        audit::record(conn, entry, now).await?;
    }
    Ok(())
}

fn listed(ids: &[CredentialId]) -> String {
    ids.iter().map(CredentialId::as_str).collect::<Vec<_>>().join(", ")
}
