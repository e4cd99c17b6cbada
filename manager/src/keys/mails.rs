//! What clients are told about their keys.

use gate::id::{ApiUid, CredentialId};
use gate::time::UnixMillis;

use super::actions::{IssuedKey, KeyError};
use super::model::{Key, KeyState, UseQuota};
use crate::app::App;
use crate::catalog::{self, Api};
use crate::clients;
use crate::credential_links::{self, Handover, Secret};
use crate::db::{Conn, DbError};
use crate::expiry;
use crate::mail::contexts::{CallableApi, KeyChanged, KeyCredentials, KeyEvent, KeyExpiring, Occasion};
use crate::mail::{self, About, NewMail, Recipient, Template};
use crate::validity::{Validity, print_instant};

/// The mail with a pair in it.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// What happened.
    pub occasion: Occasion,
    /// Number of the form that led to it.
    pub application: Option<String>,
    /// To whom.
    pub recipients: Vec<Recipient>,
    /// Not sent before.
    pub not_before: UnixMillis,
}

/// The mail about a key whose secret stays what it is.
#[derive(Clone, Debug)]
pub struct Changed {
    /// What happened.
    pub change: KeyEvent,
    /// Number of the form that led to it.
    pub application: Option<String>,
    /// To whom.
    pub recipients: Vec<Recipient>,
    /// Not sent before.
    pub not_before: UnixMillis,
}

/// Writes the mail with the pair, in the caller's transaction. Returns the mails' ids.
pub async fn mail_credentials(
    conn: &mut Conn,
    app: &App,
    issued: &IssuedKey,
    mail: Credentials,
    now: UnixMillis,
) -> Result<Vec<String>, KeyError> {
    let key = &issued.key;
    let (zone, days) = (app.config.zone(), days_of(app, key));
    let uids: Vec<ApiUid> = key.apis.iter().cloned().collect();
    let mut apis = catalog::apis_of(conn, &uids).await?;
    apis.sort_by(|a, b| a.name.cmp(&b.name));
    let apis = apis.iter().map(|api| callable(api, app.config.gateway_url.as_deref())).collect();
    let context = KeyCredentials {
        product_name: app.config.product_name.clone(),
        occasion: mail.occasion,
        api_key: key.api_key.as_str().into(),
        secret_key: issued.secret.reveal().into(),
        key_name: key.name.as_str().into(),
        client_id: key.client.0.clone(),
        client_name: client_name(conn, key).await?,
        application: mail.application,
        use_quota: uses(key),
        effective_on: days.effective_on().to_string(),
        not_yet_effective: now < key.validity.from,
        expires_on: days.expires_on().to_string(),
        time_zone: zone.iana_name().unwrap_or("UTC").into(),
        apis,
        link: None,
        link_expires_at: None,
    };
    let mail = NewMail {
        recipients: mail.recipients,
        context,
        not_before: mail.not_before,
        about: About::new("key", key.id.as_str()),
    };
    let credentials = credential_links::Credentials {
        secret: Secret::KeyPair {
            api_key: mail.context.api_key.clone(),
            secret_key: mail.context.secret_key.clone(),
            key_name: mail.context.key_name.clone(),
        },
        client_id: mail.context.client_id.clone(),
        client_name: mail.context.client_name.clone(),
    };
    // The newest stands first: the one that this mail is about.
    let secret = key.secrets.first().map_or("", |secret| secret.id.as_str());
    let what = Handover { credentials: &credentials, secret, until: None };
    Ok(credential_links::hand_over(conn, app, mail, what, now).await?)
}

/// Takes back what is not sent yet of the pair of a key whose secret is no longer to be handed over.
pub(super) async fn withdraw_credentials(
    conn: &mut Conn,
    key: &CredentialId,
    why: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    let about = About::new("key", key.as_str());
    mail::withdraw(conn, &about, Template::KeyCredentials, why, now).await
}

/// Takes back what is not sent yet of the reminders of a key whose expiry is no longer what they say.
pub(super) async fn withdraw_reminders(
    conn: &mut Conn,
    key: &CredentialId,
    why: &str,
    now: UnixMillis,
) -> Result<(), DbError> {
    mail::withdraw(conn, &About::new("key", key.as_str()), Template::KeyExpiring, why, now).await
}

/// Writes the mail that a key ends soon, in the caller's transaction.
pub(super) async fn mail_expiry(
    conn: &mut Conn,
    app: &App,
    key: &Key,
    recipients: Vec<Recipient>,
    now: UnixMillis,
) -> Result<(), KeyError> {
    let uids: Vec<ApiUid> = key.apis.iter().cloned().collect();
    let context = KeyExpiring {
        product_name: app.config.product_name.clone(),
        api_key: key.api_key.as_str().into(),
        key_name: key.name.as_str().into(),
        client_id: key.client.0.clone(),
        client_name: client_name(conn, key).await?,
        days_left: expiry::days_left(app, key.validity.until, now),
        expires_on: days_of(app, key).expires_on().to_string(),
        time_zone: app.config.zone().iana_name().unwrap_or("UTC").into(),
        apis: catalog::known_apis(conn, &uids).await?.into_iter().map(|api| api.name).collect(),
        url: format!("{}/client/v1/applications", app.config.base_url()),
    };
    let about = About::new("key", key.id.as_str());
    mail::enqueue(conn, app, NewMail { recipients, context, not_before: now, about }, now).await?;
    Ok(())
}

/// Writes the mail about a change or a revocation, in the caller's transaction.
pub async fn mail_change(
    conn: &mut Conn,
    app: &App,
    key: &Key,
    mail: Changed,
    now: UnixMillis,
) -> Result<Vec<String>, KeyError> {
    let days = days_of(app, key);
    let uids: Vec<ApiUid> = key.apis.iter().cloned().collect();
    let context = KeyChanged {
        product_name: app.config.product_name.clone(),
        change: mail.change,
        api_key: key.api_key.as_str().into(),
        key_name: key.name.as_str().into(),
        client_id: key.client.0.clone(),
        client_name: client_name(conn, key).await?,
        application: mail.application,
        use_quota: uses(key),
        effective_on: days.effective_on().to_string(),
        expires_on: days.expires_on().to_string(),
        revoked_at: match key.state {
            KeyState::Active | KeyState::Inactive => None,
            KeyState::Revoked { revoked_at } => Some(print_instant(revoked_at, &app.config.zone())),
        },
        apis: catalog::known_apis(conn, &uids).await?.into_iter().map(|api| api.name).collect(),
    };
    let mail = NewMail {
        recipients: mail.recipients,
        context,
        not_before: mail.not_before,
        about: About::new("key", key.id.as_str()),
    };
    Ok(mail::enqueue(conn, app, mail, now).await?)
}

fn uses(key: &Key) -> Option<u32> {
    match key.uses {
        UseQuota::Unlimited => None,
        UseQuota::Uses(uses) => Some(uses),
    }
}

fn days_of(app: &App, key: &Key) -> Validity {
    Validity::of_instants(key.validity, &app.config.zone())
}

async fn client_name(conn: &mut Conn, key: &Key) -> Result<String, KeyError> {
    let client = clients::by_id(conn, key.client.as_str()).await?;
    Ok(client.map_or_else(|| key.client.0.clone(), |client| client.display_name))
}

/// How an API is called: by its first host and method, else by what most calls use.
fn callable(api: &Api, gateway_url: Option<&str>) -> CallableApi {
    let path = api.path_text();
    let base = api.url(gateway_url).and_then(|url| url.strip_suffix(path).map(str::to_owned));
    let with_body = |method: &str| matches!(method, "POST" | "PUT" | "PATCH");
    let method = api
        .methods
        .iter()
        .find(|method| with_body(method))
        .or(api.methods.first())
        .map_or("POST", String::as_str);
    CallableApi {
        name: api.name.clone(),
        method: method.into(),
        base,
        path: path.to_owned(),
        has_body: with_body(method),
    }
}
