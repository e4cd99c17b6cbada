//! Tokens on behalf of a user, who has handed its password to the client, or allowed the client to act
//! at the authorization endpoint.

use gate::id::GroupId;
use gate::time::UnixMillis;
use serde_json::json;

use super::actions::{self, Issued};
use super::call::Call;
use super::commit;
use super::model::{Account, Ending, Owner};
use super::presented::{Parameters, TwoWays};
use super::refusal::Refusal;
use super::{identity, keys, refresh, revocation, store};
use crate::app::App;
use crate::audit;
use crate::authorization::{self, Redemption};
use crate::clients::token_settings::GrantType;
use crate::clients::{Client, SecretRefusal};
use crate::db::{Conn, DbError};
use crate::users::{self, PasswordCheck, Spelling, User, UserStatus};

/// What is claimed of every user as `authorities`: users have no roles here.
const AUTHORITY: &str = "user";

/// For the password of a user beside that of the client: two pairs of values.
pub(super) async fn by_password(call: &Call) -> Result<Issued, Refusal> {
    let Call { app, parameters, .. } = call;
    let name = required(parameters, "username")?;
    let password = required(parameters, "password")?;
    let client = identity::proven(call, TwoWays::Refused).await?;
    let settings = actions::permitted(app, &client, GrantType::Password).await?;
    let checked = match users::remembered(app, name, password).await? {
        Some(user) => PasswordCheck::Right(Box::new(user)),
        None => {
            let _place = app.passwords.enter().map_err(SecretRefusal::Busy)?;
            let tried = app.wrong_passwords.begin_by_client(client.id.as_str(), app.now());
            let tried = tried.map_err(SecretRefusal::TooMany)?;
            let checked = users::check_password(app, name, password, Spelling::PlainOrBase64).await;
            if !matches!(checked, Ok(PasswordCheck::Wrong)) {
                tried.was_not_wrong();
            }
            checked?
        }
    };
    let user = match checked {
        PasswordCheck::Right(user) => user,
        PasswordCheck::Wrong => return Err(Refusal::invalid_grant("Bad credentials")),
        PasswordCheck::Disabled(_) => return Err(Refusal::invalid_grant("User is disabled")),
        PasswordCheck::Locked(user) => return Err(Refusal::user_stopped(user.name.as_str(), "locked")),
    };
    let (owner, org) = (owner(&user), org_id(&user));
    let (scope, key) = (client.groups.clone(), keys::signing(app).await?);
    let made = actions::make_for(app, &key, &client, &settings, GrantType::Password, &owner, org, scope)?;
    let (issued, refresh) = made;
    app.tokens.committer.commit(app, commit::New { token: issued.token.clone(), refresh }).await?;
    Ok(issued)
}

/// For a code that the browser has brought. It is used up in the transaction in which the tokens are put
/// on record, so that a second use finds what it has to end.
pub(super) async fn by_code(call: &Call) -> Result<Issued, Refusal> {
    let Call { app, parameters, .. } = call;
    let code = required(parameters, "code")?;
    let redirect_uri = required(parameters, "redirect_uri")?;
    let verifier = parameters.get("code_verifier").filter(|text| !text.is_empty());
    let client = match verifier {
        // It proves the code instead: one that was issued without a challenge has no verifier that fits.
        Some(_) => identity::proven_or_public(call, TwoWays::BodyFirst).await?,
        None => identity::proven(call, TwoWays::BodyFirst).await?,
    };
    let settings = actions::permitted(app, &client, GrantType::AuthorizationCode).await?;
    if !settings.redirect_urls.iter().any(|url| url.matches(redirect_uri)) {
        return Err(Refusal::invalid_request("The redirect_uri mismatch"));
    }
    // What no code is takes nobody's turn to write.
    if !authorization::is_code(&mut *app.db.read().await?, client.id.as_str(), code).await? {
        return Err(Refusal::invalid_code());
    }
    // The first key is written when there is none: not within the transaction below.
    let key = keys::signing(app).await?;
    let now = app.now();
    let mut tx = app.db.write("tokens.redeem_code").await?;
    let redeemed =
        authorization::redeem(&mut tx, client.id.as_str(), code, redirect_uri, verifier, now).await?;
    let redeemed = match redeemed {
        Redemption::Redeemed(redeemed) => redeemed,
        Redemption::Refused => {
            tx.commit().await?;
            return Err(Refusal::invalid_code());
        }
        Redemption::Replayed { code } => {
            end_of_code(&mut tx, &client, &code, now).await?;
            tx.commit().await?;
            return Err(Refusal::invalid_code());
        }
    };
    let (owner, org) = (owner(&redeemed.user), org_id(&redeemed.user));
    let scope = redeemed.scope.into_iter().map(GroupId).collect();
    let grant = GrantType::AuthorizationCode;
    let (issued, refresh) = actions::make_for(app, &key, &client, &settings, grant, &owner, org, scope)?;
    if let Some(refresh) = &refresh {
        refresh::store::insert(&mut tx, refresh, Some(&redeemed.code)).await?;
    }
    store::insert(&mut tx, &issued.token, Some(&redeemed.code)).await?;
    commit::count_uses(&mut tx, &issued.token, now).await?;
    tx.commit().await?;
    app.metrics.add("keygate_tokens_issued_total", &[], 1);
    Ok(issued)
}

/// What of a user goes into a token that is renewed. None: not one that is kept here.
pub(super) async fn org_id_if_active(app: &App, name: &str) -> Result<Option<String>, Refusal> {
    let Some(user) = users::by_name(&mut *app.db.read().await?, name).await? else { return Ok(None) };
    match user.status {
        UserStatus::Active => Ok(org_id(&user)),
        UserStatus::Disabled => Err(Refusal::user_stopped(user.name.as_str(), "disable")),
        UserStatus::Locked => Err(Refusal::user_stopped(user.name.as_str(), "locked")),
    }
}

/// Ends what was issued for a code: it came a second time, from a thief or from its victim.
async fn end_of_code(conn: &mut Conn, client: &Client, code: &str, now: UnixMillis) -> Result<(), DbError> {
    let by = format!("client:{}", client.id.as_str());
    let families = refresh::store::of_code(conn, code).await?;
    for family in &families {
        refresh::end(conn, family, Ending::Reuse, &by, true, now).await?;
    }
    for token in store::of_code(conn, code).await? {
        if families.iter().any(|family| Some(&family.id) == token.family.as_ref()) {
            continue;
        }
        let ended = store::end(conn, &token.id, Ending::Reuse, now).await?;
        revocation::announce(conn, &ended, now).await?;
        if !ended.is_empty() {
            let entry = audit::Entry {
                actor: by.clone(),
                action: "tokens.revoke",
                subject: format!("token:{}", token.id),
                detail: json!({ "client": token.client, "why": Ending::Reuse.as_str(), "code_id": code }),
            };
            audit::record(conn, entry, now).await?;
        }
    }
    Ok(())
}

fn required<'p>(parameters: &'p Parameters, name: &str) -> Result<&'p str, Refusal> {
    parameters
        .get(name)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refusal::invalid_request(format!("Missing required parameter: {name}")))
}

/// What is issued is of the epoch that was read together with what the user has proven: who is signed out
/// meanwhile gets a token that has ended.
fn owner(user: &User) -> Owner {
    let account = Account { id: user.id.clone(), epoch: user.token_epoch };
    Owner { name: user.name.to_string(), authorities: vec![AUTHORITY.into()], account: Some(account) }
}

fn org_id(user: &User) -> Option<String> {
    user.org_id.as_ref().map(|org| org.as_str().to_owned())
}
