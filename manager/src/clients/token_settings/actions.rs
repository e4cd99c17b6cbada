//! Looked at and set: one function per use case, one named transaction each.

use gate::id::ClientId;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use serde_json::{Value, json};

use super::form::TokenSettingsForm;
use super::model::{TokenSettings, TokenSettingsFault};
use super::store::{self, Saved};
use crate::app::App;
use crate::clients::ClientError;
use crate::db::{Conn, DbError};
use crate::{audit, changes, clients};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum TokenSettingsError {
    /// The settings make no sense.
    #[error(transparent)]
    Fault(#[from] TokenSettingsFault),
    /// What goes wrong with clients: there is none, or somebody was faster.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl From<DbError> for TokenSettingsError {
    fn from(error: DbError) -> Self {
        Self::Client(error.into())
    }
}

pub(super) async fn get(app: &App, client: &str) -> Result<Saved, TokenSettingsError> {
    load(&mut *app.db.snapshot().await?, client).await
}

pub(super) async fn set(
    app: &App,
    by: &str,
    client: &str,
    expected: Option<i64>,
    settings: TokenSettings,
) -> Result<Saved, TokenSettingsError> {
    let now = app.now();
    let mut tx = app.db.write("clients.set_token_settings").await?;
    let saved = set_in(&mut tx, by, client, expected, settings, now).await?;
    tx.commit().await?;
    Ok(saved)
}

/// Replaces a client's settings within the caller's transaction. `by` is who acts, as the audit
/// trail names it.
pub async fn set_in(
    conn: &mut Conn,
    by: &str,
    client: &str,
    expected: Option<i64>,
    settings: TokenSettings,
    now: UnixMillis,
) -> Result<Saved, TokenSettingsError> {
    // The client too, whose deletion takes them along: who holds it may set them.
    let client = clients::hold(conn, client).await?;
    let client = client.id.as_str();
    let before = store::of_client(conn, client).await?;
    if let Some(expected) = expected
        && expected != before.version
    {
        return Err(ClientError::Version { expected, present: before.version }.into());
    }
    settings.check(&before.settings)?;
    if !store::save(conn, client, before.version, &settings, now).await? {
        return Err(ClientError::Version { expected: before.version, present: before.version + 1 }.into());
    }
    // Gateways hold whether its Basic credential is open.
    changes::record(conn, &Subject::Client { client: ClientId::from(client) }, now).await?;
    let entry = audit::Entry {
        actor: by.into(),
        action: "clients.set_token_settings",
        subject: format!("client:{client}"),
        detail: json!({ "changed": audit::changed(&shown(&before.settings), &shown(&settings)) }),
    };
    audit::record(conn, entry, now).await?;
    Ok(Saved { settings, updated_at: Some(now), version: before.version + 1 })
}

async fn load(conn: &mut Conn, client: &str) -> Result<Saved, TokenSettingsError> {
    let client = clients::actions::load(conn, client).await?;
    Ok(store::of_client(conn, client.id.as_str()).await?)
}

/// As the audit trail tells it: under names that are not taken for those of secrets.
fn shown(settings: &TokenSettings) -> Value {
    let form = TokenSettingsForm::from(settings);
    json!({
        "grant_types": form.grant_types,
        "access": form.access_token,
        "refresh": form.refresh_token,
        "redirect_urls": form.redirect_urls,
    })
}
