//! What ends together: all that came from one sign-in, from one consent, or to one client.

use gate::id::ClientId;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use serde_json::json;

use super::model::{Ending, Token};
use super::{refresh, revocation, store};
use crate::app::App;
use crate::authorization;
use crate::db::{Conn, DbError};
use crate::{audit, changes};

/// What was ended at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub access_tokens: u64,
    pub refresh_tokens: u64,
}

/// Ends an access token with all that came from the same sign-in: its refresh token would only get another one.
pub(super) async fn revoke_with_family(app: &App, token: &Token, by: &str) -> Result<(), DbError> {
    let Some(family) = &token.family else {
        return revocation::revoke(app, token, by).await.map(drop);
    };
    let now = app.now();
    let mut tx = app.db.write("tokens.revoke_family").await?;
    match refresh::store::by_id(&mut tx, family).await? {
        Some(family) => {
            refresh::end(&mut tx, &family, Ending::Revocation, by, true, now).await?;
            tx.commit().await
        }
        None => {
            // The refresh token is forgotten: its time is over.
            drop(tx);
            revocation::revoke(app, token, by).await.map(drop)
        }
    }
}

/// Ends all tokens of a client.
pub(super) async fn revoke_all_of_client(app: &App, client: &str, by: &str) -> Result<Counts, DbError> {
    let now = app.now();
    let mut tx = app.db.write("tokens.revoke_all").await?;
    let counts = end_of_client(&mut tx, client, None, Ending::Revocation, now).await?;
    if counts != Counts::default() {
        let entry = audit::Entry {
            actor: by.into(),
            action: "tokens.revoke_all",
            subject: format!("client:{client}"),
            detail: json!({ "access_tokens": counts.access_tokens, "refresh_tokens": counts.refresh_tokens }),
        };
        audit::record(&mut tx, entry, now).await?;
    }
    tx.commit().await?;
    Ok(counts)
}

/// Takes back what a user has allowed a client, and ends what the client holds on the user's behalf. False:
/// nothing was allowed.
pub(super) async fn withdraw_consent(
    app: &App,
    (user_id, user_name): (&str, &str),
    client: &str,
    by: &str,
) -> Result<bool, DbError> {
    let now = app.now();
    let mut tx = app.db.write("authorization.withdraw").await?;
    if !authorization::consents::withdraw(&mut tx, user_id, client, now).await? {
        return Ok(false);
    }
    let counts = end_of_client(&mut tx, client, Some(user_name), Ending::Consent, now).await?;
    let entry = audit::Entry {
        actor: by.into(),
        action: "authorization.withdraw",
        subject: format!("user:{user_id}"),
        detail: json!({
            "client": client,
            "access_tokens": counts.access_tokens,
            "refresh_tokens": counts.refresh_tokens,
        }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// Refresh tokens first: a renewal that is under way is waited for, and what it has issued ends with the rest.
/// And once more at last: a pair that was issued between the two would live on by its refresh token.
async fn end_of_client(
    conn: &mut Conn,
    client: &str,
    user: Option<&str>,
    why: Ending,
    now: UnixMillis,
) -> Result<Counts, DbError> {
    let mut refresh_tokens = refresh::store::end_of_client(conn, client, user, why, now).await?;
    let access_tokens = store::end_of_client(conn, client, user, why, now).await?;
    refresh_tokens += refresh::store::end_of_client(conn, client, user, why, now).await?;
    if access_tokens > 0 {
        // One change for all of them: there may be thousands.
        changes::record(conn, &Subject::Client { client: ClientId::from(client) }, now).await?;
    }
    Ok(Counts { access_tokens, refresh_tokens })
}
