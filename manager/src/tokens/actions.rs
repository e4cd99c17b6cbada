//! Issuing: who asks is known, and what for.

use std::sync::Arc;

use gate::id::GroupId;
use gate::wire::exchange::ClientStatus;

use super::keys;
use super::model::{self, Claims, Owner, Token};
use super::presented::Credentials;
use super::refusal::Refusal;
use crate::app::App;
use crate::bearer;
use crate::caller_address::CallerAddress;
use crate::clients::token_settings::{self, GrantType, TokenSettings};
use crate::clients::{self, Client};

/// A token that was just issued. The text is nowhere else.
pub struct Issued {
    /// As it is on record.
    pub token: Arc<Token>,
    /// What it says.
    pub claims: Claims,
    /// Its text.
    pub text: String,
}

/// The client that these credentials are of, if they are right and nobody has stopped it.
pub async fn authenticate(
    app: &App,
    from: &CallerAddress,
    credentials: &Credentials,
) -> Result<Client, Refusal> {
    let Credentials { client: id, secret } = credentials;
    let checked = clients::check_secret(app, from, id, secret, &credentials.readings()).await?;
    let Some(client) = checked else { return Err(Refusal::wrong_secret(id)) };
    match client.status {
        ClientStatus::Active => Ok(client),
        ClientStatus::Disabled => Err(Refusal::stopped(id, "disable")),
        ClientStatus::Locked => Err(Refusal::stopped(id, "locked")),
    }
}

/// The token settings of a client, if it may obtain tokens by that grant.
pub async fn permitted(app: &App, client: &Client, grant: GrantType) -> Result<TokenSettings, Refusal> {
    let mut read = app.db.read().await?;
    let settings = token_settings::of_client(&mut read, client.id.as_str()).await?.settings;
    if !settings.grant_types.contains(&grant) {
        return Err(Refusal::invalid_request(format!("Unauthorized grant type: {}", grant.as_str())));
    }
    Ok(settings)
}

/// A token for the client itself: whoever has its password has proven enough.
pub async fn by_client_credentials(
    app: &App,
    from: &CallerAddress,
    credentials: &Credentials,
) -> Result<Issued, Refusal> {
    let client = authenticate(app, from, credentials).await?;
    let settings = permitted(app, &client, GrantType::ClientCredentials).await?;
    let groups = client.groups.clone();
    let issued = issue(app, &client, &settings, GrantType::ClientCredentials, None, groups).await?;
    app.tokens.committer.commit(app, issued.token.clone()).await?;
    Ok(issued)
}

/// Makes a token. It is to be put on record before anybody is told of it.
async fn issue(
    app: &App,
    client: &Client,
    settings: &TokenSettings,
    grant: GrantType,
    owner: Option<&Owner>,
    scope: Vec<GroupId>,
) -> Result<Issued, Refusal> {
    let key = keys::signing(app).await?;
    let (id, now) = (model::new_id(&app.random), app.now());
    let issuer = app.config.issuer();
    let claims = Claims {
        jti: id.clone(),
        scope: scope.iter().map(|group| group.as_str().to_owned()).collect(),
        ..Claims::new(&issuer, client.id.as_str(), owner, now, settings.access.validity.seconds())
    };
    let text = model::signed(&key, &claims).ok_or_else(Refusal::unsigned)?;
    if text.len() > gate::credential::MAX_TOKEN_BYTES {
        return Err(Refusal::too_many_groups(scope.len()));
    }
    let token = Token {
        id,
        sha256: bearer::sha256_hex(&text),
        client: client.id.as_str().into(),
        user: owner.map(|owner| owner.name.clone()),
        grant,
        scope,
        kid: key.kid.clone(),
        family: None,
        issued_at: now,
        expires_at: claims.last_instant(),
        uses: settings.access.uses_number(),
        ended: None,
    };
    Ok(Issued { token: Arc::new(token), claims, text })
}
