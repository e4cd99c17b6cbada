//! What the end of a client touches, and the end itself.

use gate::id::ClientId;
use gate::time::UnixMillis;
use serde_json::json;

use crate::app::App;
use crate::applications::{self, Application, ApplicationError};
use crate::clients::{self, Client, ClientError};
use crate::db::{Conn, DbError};
use crate::http::{Actor, Permission};
use crate::keys::{self, Key, KeyError};
use crate::tokens::{self, Place, Token};
use crate::x_api_keys::{self, XApiKey, XApiKeyError};

/// Things of one kind that a refusal lists at most; its detail says how many there are.
const MAX_LISTED: i64 = 100;

/// How much hangs on a client and ends with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// Those that are not revoked.
    pub keys: i64,
    pub x_api_keys: i64,
    /// Access tokens that live.
    pub tokens: i64,
    /// Those that can still go on.
    pub forms: i64,
}

/// The first of each kind that the caller may read; None: may not.
#[derive(Debug)]
pub(super) struct Listed {
    pub keys: Option<Vec<Key>>,
    pub x_api_keys: Option<Vec<XApiKey>>,
    pub tokens: Option<Vec<Token>>,
    pub forms: Option<Vec<Application>>,
}

/// Why a client was not deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum OffboardingError {
    /// The caller has not named the client that is to go.
    #[error(
        "this ends {}: repeat it with ?confirm={} to delete the client {}",
        counts.in_words(), client.name.as_str(), client.display_name
    )]
    Unconfirmed { client: Box<Client>, counts: Counts, listed: Box<Listed> },
    /// Keys would end, and the caller may end none.
    #[error(
        "this ends {}, and needs the permission {} too: none of your roles, or the token that you present, has it",
        counts.in_words(), Permission::KeysWrite.as_str()
    )]
    NotPermitted { counts: Counts },
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
    let counts = count(&mut tx, &client_id, now).await?;
    if counts.keys + counts.x_api_keys > 0 && !by.may(Permission::KeysWrite) {
        return Err(OffboardingError::NotPermitted { counts });
    }
    if confirm != Some(client.name.as_str()) {
        let listed = Box::new(list(&mut tx, by, &client_id, now).await?);
        return Err(OffboardingError::Unconfirmed { client: Box::new(client), counts, listed });
    }
    // Every row before the first change is recorded: whoever holds one of them records one too. Of
    // the client's own rows nobody holds any who does not hold the client.
    keys::lock_all_of(&mut tx, &client_id).await?;
    x_api_keys::lock_all_of(&mut tx, &client_id).await?;
    keys::withdraw_all_of(&mut tx, &client_id, now).await?;
    x_api_keys::withdraw_all_of(&mut tx, &client_id, now).await?;
    clients::withdraw_passwords(&mut tx, client_id.as_str(), "the client was deleted", now).await?;
    applications::end_all_of(&mut tx, &client_id, now).await?;
    let reason = format!("The client {} was deleted.", client.name.as_str());
    let keys = keys::revoke_all_of(&mut tx, app, &client_id, &who, now).await?;
    let x_api_keys = x_api_keys::delete_all_of(&mut tx, &who, &client_id, now).await?;
    let forms = applications::cancel_all_of(&mut tx, app, &client_id, by, &reason, now).await?;
    let ended = json!({
        "keys": keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(),
        "x_api_keys": x_api_keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(),
        "forms": forms.iter().map(|form| form.id.as_str()).collect::<Vec<_>>(),
    });
    clients::delete_in(&mut tx, &who, &client, ended, now).await?;
    tx.commit().await?;
    Ok(())
}

async fn count(conn: &mut Conn, client: &ClientId, now: UnixMillis) -> Result<Counts, DbError> {
    Ok(Counts {
        keys: keys::count_live_of(conn, client).await?,
        x_api_keys: x_api_keys::count_of_client(conn, client).await?,
        tokens: tokens::count_live_of(conn, client.as_str(), now).await?,
        forms: applications::count_open_of(conn, client).await?,
    })
}

async fn list(conn: &mut Conn, by: &Actor, client: &ClientId, now: UnixMillis) -> Result<Listed, DbError> {
    let (keys, x_api_keys) = match by.may(Permission::KeysRead) {
        true => (
            Some(keys::live_of(conn, client, "", MAX_LISTED).await?),
            Some(x_api_keys::of_client(conn, client, MAX_LISTED).await?),
        ),
        false => (None, None),
    };
    let tokens = match by.may(Permission::TokensRead) {
        true => {
            let newest = Place::newest();
            Some(tokens::live_of_client(conn, client.as_str(), now, newest.as_pair(), MAX_LISTED).await?)
        }
        false => None,
    };
    let forms = match by.may(Permission::ApplicationsRead) {
        true => Some(applications::open_of(conn, client, MAX_LISTED).await?),
        false => None,
    };
    Ok(Listed { keys, x_api_keys, tokens, forms })
}

impl Counts {
    fn in_words(self) -> String {
        let counted = |count: i64, one: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {one}s")),
        };
        let parts: Vec<_> = [
            counted(self.keys, "key"),
            counted(self.x_api_keys, "X-Api-Key"),
            counted(self.tokens, "token"),
            counted(self.forms, "open form"),
        ]
        .into_iter()
        .flatten()
        .collect();
        match parts.as_slice() {
            [] => "nothing but the client itself".into(),
            parts => parts.join(", "),
        }
    }
}
