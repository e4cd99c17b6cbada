//! `/api/v1/token-keys`, and the JWKS that everybody may read.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use gate::time::UnixMillis;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, KeyError};
use super::model::{self, KeySet, SigningKey};
use crate::app::App;
use crate::http::{Actor, Added, Json, NoContent, Page, Path, Permission, Routes};
use crate::problem::Problem;

/// How long whoever reads the JWKS may keep it: shorter than a new key waits before it signs.
const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=60");
const _: () = assert!(model::LEAD_MS >= 2 * 60_000);

/// Keys for operators, and their public halves.
pub fn routes() -> Routes {
    Routes::of("tokens")
        .permitted(&[Permission::TokensRead], routes!(list_token_keys))
        .permitted(&[Permission::TokensWrite], routes!(rotate_token_key))
        .permitted(&[Permission::TokensWrite], routes!(withdraw_token_key))
        .open(routes!(jwks))
        .open(routes!(jwks_as_digirunner))
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let detail = error.to_string();
        match error {
            KeyError::Waiting { .. } => Self::conflict("token_key_waiting", detail),
            KeyError::TooMany | KeyError::TooManyClosed => Self::conflict("too_many_token_keys", detail),
            KeyError::NotFound { .. } => Self::not_found(detail),
            KeyError::Db(error) => error.into(),
            KeyError::Unusable { .. } | KeyError::Vault(_) => {
                tracing::error!("{detail}");
                Self::internal()
            }
        }
    }
}

/// A key that signs tokens, without what is secret of it. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenKey)]
struct KeyView {
    kid: String,
    #[schema(value_type = model::State)]
    state: &'static str,
    created_at: i64,
    /// From then on, until the next one does.
    signs_from: i64,
}

fn shown(keys: &KeySet, key: &SigningKey, now: UnixMillis) -> KeyView {
    KeyView {
        kid: key.kid.clone(),
        state: keys.state(key, now).as_str(),
        created_at: key.created_at.0,
        signs_from: key.signs_from.0,
    }
}

/// List the keys that sign tokens, or have signed some that may still live.
#[utoipa::path(get, path = "/api/v1/token-keys")]
async fn list_token_keys(State(app): State<App>) -> Result<Json<Page<KeyView>>, Problem> {
    let (keys, now) = (actions::keys(&app).await?, app.now());
    // A few: one page holds them all.
    Ok(Json(Page { items: keys.0.iter().map(|key| shown(&keys, key, now)).collect(), next: None }))
}

/// Make the next key that signs tokens.
///
/// It signs once every gateway and every reader of the JWKS has it; tokens of the one before live on.
#[utoipa::path(post, path = "/api/v1/token-keys", responses(
    (status = 409, description = "`token_key_waiting`: the next one does not sign yet; `too_many_token_keys`"),
))]
async fn rotate_token_key(State(app): State<App>, actor: Actor) -> Result<Added<Json<KeyView>>, Problem> {
    let (kid, _) = actions::rotate(&app, &actor.audit_name()).await?;
    let keys = actions::keys(&app).await?;
    let key = keys.by_kid(&kid).ok_or_else(Problem::internal)?;
    Ok(Added(Json(shown(&keys, key, app.now()))))
}

/// Withdraw a key that others may know.
///
/// It signs nothing more and leaves directory and JWKS; gateways refuse within a second what it has signed, and its
/// tokens have ended. If it was the active one, another one signs at once: who keeps the JWKS, for a minute at most,
/// does not know it yet.
#[utoipa::path(delete, path = "/api/v1/token-keys/{kid}")]
async fn withdraw_token_key(
    State(app): State<App>,
    actor: Actor,
    Path(kid): Path<String>,
) -> Result<NoContent, Problem> {
    actions::withdraw(&app, &kid, &actor.audit_name()).await?;
    Ok(NoContent)
}

/// A JSON Web Key Set (RFC 7517).
#[derive(Serialize, ToSchema)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Serialize, ToSchema)]
struct Jwk {
    kty: &'static str,
    r#use: &'static str,
    alg: &'static str,
    kid: String,
    /// Modulus.
    n: String,
    /// Exponent.
    e: String,
}

/// JSON that may be kept for a while.
struct Kept<T>(T);

impl<T: Serialize> IntoResponse for Kept<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, KEEP);
        response
    }
}

impl<T: ToSchema> IntoResponses for Kept<T> {
    fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
        Json::<T>::responses()
    }
}

/// The public keys of tokens.
#[utoipa::path(get, path = "/oauth/jwks")]
async fn jwks(State(app): State<App>) -> Result<Kept<Jwks>, Problem> {
    published(&app).await
}

/// The public keys of tokens, where digiRunner has them.
#[utoipa::path(get, path = "/dgrv4/ssotoken/oauth2/certs")]
async fn jwks_as_digirunner(State(app): State<App>) -> Result<Kept<Jwks>, Problem> {
    published(&app).await
}

async fn published(app: &App) -> Result<Kept<Jwks>, Problem> {
    let keys = actions::keys(app).await?;
    let jwk = |key: &std::sync::Arc<SigningKey>| {
        let (n, e) = key.components();
        Jwk { kty: "RSA", r#use: "sig", alg: "RS256", kid: key.kid.clone(), n, e }
    };
    Ok(Kept(Jwks { keys: keys.0.iter().filter(|key| !key.closed).map(jwk).collect() }))
}
