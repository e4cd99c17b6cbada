//! Renewing, and the end of all that came from one refresh token.

use gate::time::UnixMillis;
use serde_json::json;

use super::model::RefreshToken;
use super::store::{self, Renewal};
use crate::app::App;
use crate::audit;
use crate::bearer;
use crate::clients::Client;
use crate::clients::token_settings::GrantType;
use crate::config::RefreshTokenReuse;
use crate::db::{Conn, DbError};
use crate::tokens::actions::{self, Issued, Making};
use crate::tokens::call::Call;
use crate::tokens::model::{Claims, Ending, Form};
use crate::tokens::presented::TwoWays;
use crate::tokens::refusal::Refusal;
use crate::tokens::{commit, identity, keys, model, owners, revocation, store as tokens};

/// Another access token for a refresh token.
pub(in crate::tokens) async fn ask_again(call: &Call, presented: &str) -> Result<Issued, Refusal> {
    let app = &call.app;
    let client = identity::proven_or_public(call, TwoWays::Refused).await?;
    let settings = actions::permitted(app, &client, GrantType::RefreshToken).await?;
    let claims = model::verified(&*keys::keys(app).await?, presented).ok_or_else(Refusal::unreadable)?;
    if claims.client_id != client.id.as_str() {
        return Err(Refusal::of_another_client("refresh token", presented));
    }
    let now = app.now();
    if claims.last_instant() < now {
        return Err(Refusal::expired(presented));
    }
    // An access token has none: it renews nothing.
    let Some(access) = &claims.ati else { return Err(Refusal::revoked("Refresh token", &claims.jti)) };
    let known = store::by_id(&mut *app.db.read().await?, &claims.jti).await?;
    let Some(known) = known else { return Err(Refusal::revoked("Refresh token", &claims.jti)) };
    let org_id = match &known.owner {
        Some(owner) => owners::org_id_if_active(app, &owner.name).await?,
        None => None,
    };
    let making = Making {
        client: &client,
        form: Form::First,
        owner: known.owner.as_ref(),
        org_id,
        grant: known.grant,
        // As it was at first; what the client has lost since, it has lost at every call.
        scope: known.scope.clone(),
        terms: settings.access,
        refresh: Some((known.id.clone(), claims.exp)),
    };
    let issued = actions::make(app, &*keys::signing(app).await?, making)?;
    let sha256 = bearer::sha256_hex(issued.refresh.as_deref().unwrap_or_default());
    let text = bearer::sha256_hex(presented);
    let step = Renewal {
        id: &known.id,
        of_text: (!serves_again(app, &client)).then_some(&text),
        sha256: &sha256,
        kid: &issued.token.kid,
        access: &issued.token.id,
    };
    let mut tx = app.db.write("tokens.refresh").await?;
    if !store::renew(&mut tx, &step, now).await? {
        drop(tx);
        return Err(refused(app, &claims, step.of_text, presented).await?);
    }
    // The one that this text came with, and where older texts serve too, the one that came last.
    let mut ended = tokens::end(&mut tx, access, Ending::Refresh, now).await?;
    ended.extend(tokens::end_family(&mut tx, &known.id, Ending::Refresh, now).await?);
    tokens::insert(&mut tx, &issued.token, None).await?;
    commit::count_uses(&mut tx, &issued.token, now).await?;
    revocation::announce(&mut tx, ended.as_slice(), now).await?;
    tx.commit().await?;
    app.metrics.add("keygate_tokens_issued_total", &[], 1);
    Ok(issued)
}

/// Whether a text serves that has served before. Never of a client without a password: there its refresh
/// token is all that a thief needs (RFC 9700, section 4.14.2).
pub(in crate::tokens) fn serves_again(app: &App, client: &Client) -> bool {
    match app.config.refresh_token_reuse {
        RefreshTokenReuse::Revoke => false,
        RefreshTokenReuse::Allow => !identity::is_public(client),
    }
}

/// Why it was not renewed. A text that has served before ends all that came from it.
async fn refused(
    app: &App,
    claims: &Claims,
    of_text: Option<&str>,
    presented: &str,
) -> Result<Refusal, Refusal> {
    let now = app.now();
    let mut tx = app.db.write("tokens.refresh_refused").await?;
    let known = store::by_id(&mut tx, &claims.jti).await?;
    let Some(known) = known.filter(|known| known.ended.is_none()) else {
        return Ok(Refusal::revoked("Refresh token", &claims.jti));
    };
    if known.expires_at < now {
        return Ok(Refusal::expired(presented));
    }
    if of_text.is_some_and(|text| text != known.sha256) {
        end(&mut tx, &known, Ending::Reuse, &format!("client:{}", known.client), true, now).await?;
        tx.commit().await?;
        return Ok(Refusal::revoked("Refresh token", &claims.jti));
    }
    Ok(Refusal::over_refresh_times())
}

/// Ends a refresh token, with the access tokens that came from it where `with_access`. False: it had
/// ended before.
pub(in crate::tokens) async fn end(
    conn: &mut Conn,
    token: &RefreshToken,
    why: Ending,
    by: &str,
    with_access: bool,
    now: UnixMillis,
) -> Result<bool, DbError> {
    let first = store::end(conn, &token.id, why, now).await?;
    let ended = match with_access {
        true => tokens::end_family(conn, &token.id, why, now).await?,
        false => Vec::new(),
    };
    revocation::announce(conn, &ended, now).await?;
    if first || !ended.is_empty() {
        let entry = audit::Entry {
            actor: by.into(),
            action: "tokens.revoke",
            subject: format!("refresh_token:{}", token.id),
            detail: json!({
                "client": token.client,
                "why": why.as_str(),
                "access_ids": ended.iter().map(|ended| ended.id.as_str()).collect::<Vec<_>>(),
            }),
        };
        audit::record(conn, entry, now).await?;
    }
    Ok(first)
}
