//! Tokens that end before their time, and who hears of it.

use gate::id::CredentialId;
use gate::time::UnixMillis;
use gate::wire::changes::{Fingerprint, Subject};
use serde_json::json;

use super::model::{Ending, Token};
use super::refresh::{self, RefreshToken};
use super::store;
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::{audit, changes};

/// An access token that was just ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its id.
    pub id: String,
    /// By which gateways know it.
    pub sha256: String,
}

/// Has gateways forget what they hold of these: they refuse them within a second.
pub(super) async fn announce(conn: &mut Conn, ended: &[Ended], now: UnixMillis) -> Result<(), DbError> {
    for Ended { id, sha256 } in ended {
        let subject = Subject::Credential {
            credential: CredentialId(id.clone()),
            fingerprint: Fingerprint::Bearer(sha256.clone()),
        };
        changes::record(conn, &subject, now).await?;
    }
    Ok(())
}

/// Ends an access token. False: it had ended before. `by` is who does it, as the audit trail names it.
pub async fn revoke(app: &App, token: &Token, by: &str) -> Result<bool, DbError> {
    let mut tx = app.db.write("tokens.revoke").await?;
    let first = end(&mut tx, token, by, app.now()).await?;
    tx.commit().await?;
    Ok(first)
}

/// Ends an access token of that client, and the refresh token that it belongs to with all that came from it:
/// whoever has the one has the other. False: the client has none of that id.
pub async fn revoke_own(app: &App, client: &str, id: &str, by: &str) -> Result<bool, DbError> {
    let now = app.now();
    let mut tx = app.db.write("tokens.revoke_own").await?;
    let own = store::by_id(&mut tx, id).await?.filter(|token| token.client == client);
    let Some(token) = own else { return Ok(false) };
    let family = match &token.family {
        Some(family) => refresh::store::by_id(&mut tx, family).await?,
        None => None,
    };
    match family {
        Some(family) => refresh::end(&mut tx, &family, Ending::Revocation, by, true, now).await?,
        None => end(&mut tx, &token, by, now).await?,
    };
    tx.commit().await?;
    Ok(true)
}

async fn end(conn: &mut Conn, token: &Token, by: &str, now: UnixMillis) -> Result<bool, DbError> {
    let ended = store::end(conn, &token.id, Ending::Revocation, now).await?;
    if !ended.is_empty() {
        announce(conn, &ended, now).await?;
        let entry = audit::Entry {
            actor: by.into(),
            action: "tokens.revoke",
            subject: format!("token:{}", token.id),
            detail: json!({ "client": token.client }),
        };
        audit::record(conn, entry, now).await?;
    }
    Ok(!ended.is_empty())
}

/// Ends a refresh token, with the access tokens that came from it where `with_access`. False: it had
/// ended before.
pub(super) async fn revoke_refresh(
    app: &App,
    token: &RefreshToken,
    by: &str,
    with_access: bool,
) -> Result<bool, DbError> {
    let now = app.now();
    let mut tx = app.db.write("tokens.revoke_refresh").await?;
    let first = refresh::end(&mut tx, token, Ending::Revocation, by, with_access, now).await?;
    tx.commit().await?;
    Ok(first)
}
