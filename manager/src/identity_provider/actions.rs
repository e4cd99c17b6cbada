//! Asked, sent to, heard.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gate::time::UnixMillis;
use jsonwebtoken::jwk::JwkSet;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex as AsyncMutex;
use url::Url;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::fetch::{self, Form, Line};
use super::model::{self, Expected, Identity, Metadata, ProviderError};
use crate::app::App;
use crate::config::Config;

/// How long what a provider publishes is kept.
const KEPT_MS: i64 = 10 * 60_000;
/// How long nobody asks again a provider that did not answer, nor for a key that it did not have.
const ASKED_MS: i64 = 10_000;

/// What is known of the provider in this process. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Provider>);

#[derive(Debug, Default)]
struct Provider {
    line: Line,
    known: Mutex<Known>,
    /// Of many who want what it publishes, one asks for it.
    asking: AsyncMutex<()>,
    asking_for_keys: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    metadata: Option<(UnixMillis, Arc<Metadata>)>,
    failed_at: Option<UnixMillis>,
    keys: Option<(UnixMillis, Arc<JwkSet>)>,
}

/// A sign-in there that has begun, as the browser keeps it, sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// Comes back with the answer.
    pub state: String,
    /// Comes back in the ID token.
    pub nonce: String,
    /// Proves the code (RFC 7636).
    pub code_verifier: String,
}

/// What the provider publishes, if there is one and it can be asked.
pub async fn available(app: &App) -> Option<Arc<Metadata>> {
    app.config.oidc_issuer.as_ref()?;
    match metadata(app).await {
        Ok(metadata) => Some(metadata),
        Err(error) => {
            tracing::warn!(%error, "Users cannot sign in at the OpenID provider");
            None
        }
    }
}

/// Where the browser goes, and what it takes along. The state begins with the name of its tab.
pub fn begin(app: &App, metadata: &Metadata, redirect_uri: &str, tab: &str) -> (Url, Started) {
    let draw = || URL_SAFE_NO_PAD.encode(app.random.bytes::<32>());
    let started = Started { state: format!("{tab}.{}", draw()), nonce: draw(), code_verifier: draw() };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(started.code_verifier.as_bytes()));
    let mut url = metadata.authorization_endpoint.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", client_id(&app.config))
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("scope", &app.config.oidc_scopes)
        .append_pair("state", &started.state)
        .append_pair("nonce", &started.nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    (url, started)
}

/// Turns the code that the browser brought into who has signed in.
pub async fn complete(
    app: &App,
    started: &Started,
    redirect_uri: &str,
    code: &str,
    iss: Option<&str>,
) -> Result<Identity, ProviderError> {
    let metadata = metadata(app).await?;
    // RFC 9207: not what another provider was asked for.
    match iss {
        Some(iss) if iss != metadata.issuer => {
            return Err(ProviderError::Refused("as another issuer".into()));
        }
        None if metadata.authorization_response_iss_parameter_supported => {
            return Err(ProviderError::Refused("without iss".into()));
        }
        Some(_) | None => {}
    }
    let form = form(&app.config, &metadata, started, redirect_uri, code);
    #[derive(Deserialize)]
    struct Tokens {
        id_token: String,
    }
    let tokens: Tokens =
        fetch::json(line(app), "the token endpoint", &metadata.token_endpoint, Some(form)).await?;
    let keys = keys_for(app, &metadata, &tokens.id_token).await?;
    let expected = Expected {
        issuer: &metadata.issuer,
        client_id: client_id(&app.config),
        nonce: &started.nonce,
        now_s: app.now().0.div_euclid(1_000),
    };
    model::believed(&tokens.id_token, &keys, &expected)
}

/// By what the code is turned into an ID token.
fn form(config: &Config, metadata: &Metadata, started: &Started, redirect_uri: &str, code: &str) -> Form {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("code_verifier", &started.code_verifier);
    let id = client_id(config);
    let authorization = match &config.oidc_client_secret {
        Some(secret) if !metadata.secret_in_body() => {
            // RFC 6749, section 2.3.1: each encoded as in a form.
            let escaped =
                |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = Zeroizing::new(format!("{}:{}", escaped(id), escaped(secret.reveal())));
            Some(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        }
        Some(secret) => {
            form.append_pair("client_id", id).append_pair("client_secret", secret.reveal());
            None
        }
        None => {
            form.append_pair("client_id", id);
            None
        }
    };
    Form { body: form.finish(), authorization }
}

fn client_id(config: &Config) -> &str {
    config.oidc_client_id.as_deref().unwrap_or_default()
}

async fn metadata(app: &App) -> Result<Arc<Metadata>, ProviderError> {
    let Some(issuer) = &app.config.oidc_issuer else { return Err(ProviderError::None) };
    let now = app.now();
    if let Some(kept) = kept_metadata(app, now) {
        return kept;
    }
    let _only = app.identity_provider.0.asking.lock().await;
    // Whoever was before has asked.
    if let Some(kept) = kept_metadata(app, now) {
        return kept;
    }
    let asked = async {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| ProviderError::Metadata(error.to_string()))?;
        let metadata: Metadata = fetch::json(line(app), "the metadata", &url, None).await?;
        metadata.check(issuer)?;
        Ok(Arc::new(metadata))
    };
    let asked = asked.await;
    let mut known = known(app);
    match &asked {
        Ok(metadata) => {
            known.metadata = Some((now, metadata.clone()));
            known.failed_at = None;
        }
        // That many ask at once says nothing of the provider.
        Err(ProviderError::Busy) => {}
        Err(_) => known.failed_at = Some(now),
    }
    asked
}

/// What was heard lately; Err: nothing, and nobody asks again so soon.
fn kept_metadata(app: &App, now: UnixMillis) -> Option<Result<Arc<Metadata>, ProviderError>> {
    let known = known(app);
    if let Some((at, metadata)) = &known.metadata
        && now.0 - at.0 < KEPT_MS
    {
        return Some(Ok(metadata.clone()));
    }
    known.failed_at.filter(|at| now.0 - at.0 < ASKED_MS).map(|_| {
        let reason = "it was asked a moment ago, and is asked again in a moment".into();
        Err(ProviderError::Fetch { what: "the metadata", reason })
    })
}

/// The provider's keys. A token of a key that is not among them has them asked for again.
async fn keys_for(app: &App, metadata: &Metadata, unverified: &str) -> Result<Arc<JwkSet>, ProviderError> {
    let now = app.now();
    let kept = || {
        let known = known(app);
        let (at, keys) = known.keys.as_ref()?;
        let age = now.0 - at.0;
        let serves = age < ASKED_MS || age < KEPT_MS && model::has_key_for(unverified, keys);
        serves.then(|| keys.clone())
    };
    if let Some(keys) = kept() {
        return Ok(keys);
    }
    let _only = app.identity_provider.0.asking_for_keys.lock().await;
    // Whoever was before has asked.
    if let Some(keys) = kept() {
        return Ok(keys);
    }
    // One key of a kind that is not known here does not spoil the others.
    #[derive(Deserialize)]
    struct Published {
        keys: Vec<serde_json::Value>,
    }
    let published: Published = fetch::json(line(app), "the keys", &metadata.jwks_uri, None).await?;
    let keys = published.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
    let keys = Arc::new(JwkSet { keys });
    known(app).keys = Some((now, keys.clone()));
    Ok(keys)
}

fn known(app: &App) -> std::sync::MutexGuard<'_, Known> {
    app.identity_provider.0.known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(app: &App) -> &Line {
    &app.identity_provider.0.line
}
