//! What the end of a client touches, and the end itself.

use gate::id::ClientId;
use serde_json::{Value, json};

use crate::app::App;
use crate::applications::{self, Application, ApplicationError};
use crate::clients::{self, Client, ClientError};
use crate::db::{Conn, DbError};
use crate::http::Actor;
use crate::keys::{self, Key, KeyError};
use crate::x_api_keys::{self, XApiKey, XApiKeyError};

/// What hangs on a client and ends with it. Tokens belong here too, as soon as there are any.
#[derive(Debug, Default)]
pub(super) struct Hanging {
    /// Those that are not revoked.
    pub keys: Vec<Key>,
    pub x_api_keys: Vec<XApiKey>,
    /// Those that can still go on.
    pub forms: Vec<Application>,
}

/// Why a client was not deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum OffboardingError {
    /// The caller has not named the client that is to go.
    #[error(
        "this ends {}: repeat it with ?confirm={} to delete the client {}",
        hanging.in_words(), client.name.as_str(), client.display_name
    )]
    Unconfirmed { client: Box<Client>, hanging: Hanging },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    XApiKey(#[from] XApiKeyError),
    #[error(transparent)]
    Form(#[from] ApplicationError),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Deletes a client once its name was given as `confirm`: revokes its keys, deletes its X-Api-Keys,
/// cancels its open forms. Gateways refuse it within a second.
pub(super) async fn delete_client(
    app: &App,
    by: &Actor,
    id: &str,
    expected: Option<i64>,
    confirm: Option<&str>,
) -> Result<(), OffboardingError> {
    let now = app.now();
    let (client_id, who) = (ClientId::from(id), by.audit_name());
    let mut tx = app.db.write("offboarding.delete_client").await?;
    // The rows first, in the order in which others take them; then what is done to each is recorded.
    applications::lock_all_of(&mut tx, &client_id).await?;
    let client = clients::hold(&mut tx, id).await?;
    if let Some(expected) = expected.filter(|expected| *expected != client.version) {
        return Err(ClientError::Version { expected, present: client.version }.into());
    }
    if confirm != Some(client.name.as_str()) {
        let hanging = hanging_on(&mut tx, &client_id).await?;
        return Err(OffboardingError::Unconfirmed { client: Box::new(client), hanging });
    }
    // Every row before the first change is recorded: whoever holds one of them records one too. Of
    // the client's own rows nobody holds any who does not hold the client.
    keys::lock_all_of(&mut tx, &client_id).await?;
    x_api_keys::lock_all_of(&mut tx, &client_id).await?;
    let reason = format!("The client {} was deleted.", client.name.as_str());
    let keys = keys::revoke_all_of(&mut tx, app, &client_id, &who, now).await?;
    let x_api_keys = x_api_keys::delete_all_of(&mut tx, &who, &client_id, now).await?;
    let forms = applications::cancel_all_of(&mut tx, app, &client_id, by, &reason, now).await?;
    let hanging = Hanging { keys, x_api_keys, forms };
    clients::delete_in(&mut tx, &who, &client, hanging.ids(), now).await?;
    tx.commit().await?;
    Ok(())
}

async fn hanging_on(conn: &mut Conn, client: &ClientId) -> Result<Hanging, DbError> {
    Ok(Hanging {
        keys: keys::live_of(conn, client).await?,
        x_api_keys: x_api_keys::of_client(conn, client).await?,
        forms: applications::open_of(conn, client).await?,
    })
}

impl Hanging {
    fn in_words(&self) -> String {
        let counted = |count: usize, one: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {one}s")),
        };
        let parts: Vec<_> = [
            counted(self.keys.len(), "key"),
            counted(self.x_api_keys.len(), "X-Api-Key"),
            counted(self.forms.len(), "open form"),
        ]
        .into_iter()
        .flatten()
        .collect();
        match parts.as_slice() {
            [] => "nothing but the client itself".into(),
            parts => parts.join(", "),
        }
    }

    /// For the audit trail.
    fn ids(&self) -> Value {
        json!({
            "keys": self.keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(),
            "x_api_keys": self.x_api_keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(),
            "forms": self.forms.iter().map(|form| form.id.as_str()).collect::<Vec<_>>(),
        })
    }
}
