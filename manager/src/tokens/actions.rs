//! Issuing: who asks is known, and what for.

use std::sync::Arc;

use gate::id::GroupId;

use super::call::Call;
use super::commit::New;
use super::identity;
use super::keys::{self, SigningKey};
use super::model::{self, Claims, Form, Owner, Token};
use super::presented::TwoWays;
use super::refresh::RefreshToken;
use super::refusal::Refusal;
use crate::app::App;
use crate::bearer;
use crate::clients::Client;
use crate::clients::token_settings::{self, GrantType, TokenSettings, TokenTerms};

/// A token that was just issued. The text is nowhere else.
pub struct Issued {
    /// As it is on record.
    pub token: Arc<Token>,
    /// What it says.
    pub claims: Claims,
    /// Its text.
    pub text: String,
    /// The text of the refresh token that goes with it.
    pub refresh: Option<String>,
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
pub(super) async fn by_client_credentials(call: &Call, form: Form) -> Result<Issued, Refusal> {
    let app = &call.app;
    let client = identity::proven(call, TwoWays::BodyFirst).await?;
    let settings = permitted(app, &client, GrantType::ClientCredentials).await?;
    let making = Making {
        client: &client,
        form,
        owner: None,
        org_id: None,
        grant: GrantType::ClientCredentials,
        scope: client.groups.clone(),
        terms: settings.access,
        refresh: None,
    };
    let issued = make(app, &*keys::signing(app).await?, making)?;
    app.tokens.committer.commit(app, New { token: issued.token.clone(), refresh: None }).await?;
    Ok(issued)
}

/// A token for a person who has proven to be one, by way of a client that may use that grant, with a refresh
/// token where the client may use those.
#[cfg(test)]
pub async fn issue_to_owner(
    app: &App,
    client: &Client,
    settings: &TokenSettings,
    grant: GrantType,
    owner: &Owner,
) -> Result<Issued, Refusal> {
    let scope = client.groups.clone();
    let key = keys::signing(app).await?;
    let (issued, refresh) = make_for(app, &key, client, settings, grant, owner, None, scope)?;
    app.tokens.committer.commit(app, New { token: issued.token.clone(), refresh }).await?;
    Ok(issued)
}

/// The same, not on record yet.
#[expect(clippy::too_many_arguments, reason = "what a token is made of")]
pub(super) fn make_for(
    app: &App,
    key: &SigningKey,
    client: &Client,
    settings: &TokenSettings,
    grant: GrantType,
    owner: &Owner,
    org_id: Option<String>,
    scope: Vec<GroupId>,
) -> Result<(Issued, Option<Arc<RefreshToken>>), Refusal> {
    let now = app.now();
    let refresh = settings.grant_types.contains(&GrantType::RefreshToken).then(|| {
        let seconds = i64::try_from(settings.refresh.validity.seconds()).unwrap_or(i64::MAX);
        (RefreshToken::new_id(&app.random), now.0.div_euclid(1_000).saturating_add(seconds))
    });
    let making = Making {
        client,
        form: Form::First,
        owner: Some(owner),
        org_id,
        grant,
        scope: scope.clone(),
        terms: settings.access,
        refresh: refresh.clone(),
    };
    let issued = make(app, key, making)?;
    let record = refresh.zip(issued.refresh.as_deref()).map(|((id, exp), text)| {
        Arc::new(RefreshToken {
            id,
            sha256: bearer::sha256_hex(text),
            client: client.id.as_str().into(),
            owner: Some(owner.clone()),
            grant,
            scope,
            kid: issued.token.kid.clone(),
            access: issued.token.id.clone(),
            issued_at: now,
            expires_at: model::last_instant(exp),
            uses: settings.refresh.uses_number(),
            used: 0,
            ended: None,
        })
    });
    Ok((issued, record))
}

/// What a token is to be like.
pub(super) struct Making<'a> {
    pub client: &'a Client,
    pub form: Form,
    pub owner: Option<&'a Owner>,
    /// The owner's organisation.
    pub org_id: Option<String>,
    pub grant: GrantType,
    pub scope: Vec<GroupId>,
    /// The access token's.
    pub terms: TokenTerms,
    /// The id of the refresh token that goes with it, and its end in seconds.
    pub refresh: Option<(String, i64)>,
}

/// Makes the texts. They are to be put on record before anybody is told of them.
pub(super) fn make(app: &App, key: &SigningKey, making: Making<'_>) -> Result<Issued, Refusal> {
    let Making { client, form, owner, org_id, grant, scope, terms, refresh } = making;
    let (id, now) = (model::new_id(&app.random), app.now());
    let issuer = app.config.issuer();
    let claims = Claims {
        jti: id.clone(),
        scope: scope.iter().map(|group| group.as_str().to_owned()).collect(),
        org_id,
        ..Claims::new(&issuer, client.id.as_str(), owner, now, terms.validity.seconds())
    }
    .in_form(form);
    let text = model::signed(key, &claims).ok_or_else(Refusal::unsigned)?;
    if text.len() > gate::credential::MAX_TOKEN_BYTES {
        return Err(Refusal::too_many_groups(scope.len()));
    }
    let family = refresh.as_ref().map(|(id, _)| id.clone());
    let refresh = match refresh {
        Some((jti, exp)) => {
            let claims = Claims { jti, exp, ati: Some(id.clone()), ..claims.clone() };
            Some(model::signed(key, &claims).ok_or_else(Refusal::unsigned)?)
        }
        None => None,
    };
    let token = Token {
        id,
        sha256: bearer::sha256_hex(&text),
        client: client.id.as_str().into(),
        user: owner.map(|owner| owner.name.clone()),
        account: owner.and_then(|owner| owner.account.clone()),
        grant,
        scope,
        kid: key.kid.clone(),
        family,
        issued_at: now,
        expires_at: claims.last_instant(),
        uses: terms.uses_number(),
        ended: None,
    };
    Ok(Issued { token: Arc::new(token), claims, text, refresh })
}
