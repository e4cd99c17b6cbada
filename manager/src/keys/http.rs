//! `/api/v1/keys`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::actions::{self, ImportedPair, KeyError, NewKey};
use super::model::{ApiKey, Key, KeyName, KeyState, SecretKey, Terms, TermsError, UseQuota, parse_apis};
use super::store;
use crate::app::App;
use crate::db::Conn;
use crate::http::{Actor, IfMatch, Json, Page, Path, Permission, Query, Versioned, page_cursor, page_limit};
use crate::problem::Problem;
use crate::quotas;
use crate::validity::{Validity, day_of, parse_date};

/// `/api/v1/keys` and below.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/keys", get(list))
        .route("/api/v1/keys/import", post(import))
        .route("/api/v1/keys/{id}", get(show))
        .route("/api/v1/keys/{id}/revoke", post(revoke))
        .route("/api/v1/keys/{id}/secrets", post(rotate))
        .route("/api/v1/keys/{id}/secrets/{secret}", delete(retire_secret))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    client: Option<String>,
}

/// A pair that was made elsewhere, and its terms. Days are `yyyy-MM-dd`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportJson {
    pub client: String,
    pub api_key: String,
    pub secret_key: String,
    pub name: String,
    /// Absent: today.
    pub effective_date: Option<String>,
    pub expiry_date: String,
    /// −1 = unlimited.
    pub quota: i64,
    pub apis: Vec<String>,
}

/// A key as the API tells it. Instants are UTC ms.
#[derive(Serialize)]
struct KeyJson {
    id: CredentialId,
    client: ClientId,
    api_key: String,
    name: String,
    effective_date: String,
    expiry_date: String,
    /// −1 = unlimited.
    quota: i64,
    /// Calls let in or handed to gateways for letting in; absent for an unlimited key.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    apis: BTreeSet<ApiUid>,
    state: &'static str,
    revoked_at: Option<UnixMillis>,
    origin: &'static str,
    secrets: Vec<SecretJson>,
    version: i64,
    created_at: UnixMillis,
    updated_at: UnixMillis,
}

#[derive(Serialize)]
struct SecretJson {
    id: String,
    /// First and last five characters; only where one key is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<String>,
    created_at: UnixMillis,
    last_used_at: Option<UnixMillis>,
}

async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<KeyJson>>, Problem> {
    actor.require(Permission::KeysRead)?;
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let client = query.client.map(ClientId);
    let mut conn = app.db.snapshot().await?;
    let keys = store::list(&mut conn, client.as_ref(), &after, limit + 1).await?;
    let page = Page::new(keys, limit, |key| key.id.0.clone());
    Ok(Json(page.map(|key| brief(&app, &key))))
}

async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<KeyJson>, Problem> {
    actor.require(Permission::KeysRead)?;
    let mut conn = app.db.snapshot().await?;
    let id = CredentialId(id);
    let key = store::by_id(&mut conn, &id).await?.ok_or(KeyError::NotFound { id })?;
    full(&mut conn, &app, key).await
}

async fn import(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<ImportJson>,
) -> Result<(StatusCode, Versioned<KeyJson>), Problem> {
    actor.require(Permission::KeysWrite)?;
    let (new, pair) = body.parse(&app)?;
    let key = actions::import(&app, new, pair, &actor.audit_name()).await?;
    Ok((StatusCode::CREATED, answer(&app, key).await?))
}

async fn revoke(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(version): IfMatch,
) -> Result<Versioned<KeyJson>, Problem> {
    actor.require(Permission::KeysWrite)?;
    let key = actions::revoke_now(&app, &CredentialId(id), version, &actor.audit_name()).await?;
    answer(&app, key).await
}

async fn rotate(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(version): IfMatch,
) -> Result<(StatusCode, Versioned<KeyJson>), Problem> {
    actor.require(Permission::KeysWrite)?;
    let key = actions::rotate(&app, &CredentialId(id), version, &actor.audit_name()).await?;
    Ok((StatusCode::CREATED, answer(&app, key).await?))
}

async fn retire_secret(
    State(app): State<App>,
    actor: Actor,
    Path((id, secret)): Path<(String, String)>,
    IfMatch(version): IfMatch,
) -> Result<Versioned<KeyJson>, Problem> {
    actor.require(Permission::KeysWrite)?;
    let key = actions::retire_secret(&app, &CredentialId(id), &secret, version, &actor.audit_name()).await?;
    answer(&app, key).await
}

impl ImportJson {
    pub(super) fn parse(self, app: &App) -> Result<(NewKey, ImportedPair), Problem> {
        let field = |name: &'static str| move |error: TermsError| Problem::invalid(name, error.to_string());
        let zone = app.config.zone();
        let today = day_of(app.now(), &zone);
        let effective_on = match &self.effective_date {
            Some(text) => date("effective_date", text)?,
            None => today,
        };
        let days = Validity::new(effective_on, date("expiry_date", &self.expiry_date)?)
            .and_then(|days| days.not_over(today))
            .map_err(|error| Problem::invalid("expiry_date", error.to_string()))?;
        let pair = ImportedPair {
            api_key: ApiKey::parse(&self.api_key).map_err(field("api_key"))?,
            secret: SecretKey::parse(&self.secret_key).map_err(field("secret_key"))?,
        };
        let terms = Terms::new(
            KeyName::parse(&self.name).map_err(field("name"))?,
            days,
            UseQuota::parse(self.quota).map_err(field("quota"))?,
            parse_apis(self.apis).map_err(field("apis"))?,
            &zone,
        );
        Ok((NewKey { client: ClientId(self.client), terms }, pair))
    }
}

fn date(field: &str, text: &str) -> Result<jiff::civil::Date, Problem> {
    parse_date(text).ok_or_else(|| {
        Problem::invalid(field, format!("{text:?} is no date: write yyyy-MM-dd, e.g. 2026-07-14"))
    })
}

async fn answer(app: &App, key: Key) -> Result<Versioned<KeyJson>, Problem> {
    full(&mut *app.db.read().await?, app, key).await
}

/// With what only the vault and the ledger know.
async fn full(conn: &mut Conn, app: &App, key: Key) -> Result<Versioned<KeyJson>, Problem> {
    let mut json = brief(app, &key);
    for (shown, opened) in json.secrets.iter_mut().zip(store::open_secrets(&app.vault, &key)?) {
        shown.mask = SecretKey::parse(&opened.text).ok().map(|secret| secret.mask());
    }
    let meter = quotas::meter_of(conn, MeterKind::KeyUses, key.id.as_str()).await?;
    json.used = meter.map(|meter| meter.debited);
    Ok(Versioned(key.version, json))
}

fn brief(app: &App, key: &Key) -> KeyJson {
    let days = Validity::of_instants(key.validity, &app.config.zone());
    let secret = |secret: &super::model::SealedSecret| SecretJson {
        id: secret.id.clone(),
        mask: None,
        created_at: secret.created_at,
        last_used_at: secret.last_used_at,
    };
    KeyJson {
        id: key.id.clone(),
        client: key.client.clone(),
        api_key: key.api_key.as_str().into(),
        name: key.name.as_str().into(),
        effective_date: days.effective_on().to_string(),
        expiry_date: days.expires_on().to_string(),
        quota: key.uses.as_number(),
        used: None,
        apis: key.apis.clone(),
        state: key.state.name(),
        revoked_at: match key.state {
            KeyState::Active | KeyState::Inactive => None,
            KeyState::Revoked { revoked_at } => Some(revoked_at),
        },
        origin: key.origin.name(),
        secrets: key.secrets.iter().map(secret).collect(),
        version: key.version,
        created_at: key.created_at,
        updated_at: key.updated_at,
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let detail = error.to_string();
        match error {
            KeyError::NotFound { .. } | KeyError::UnknownSecret { .. } => Self::not_found(detail),
            KeyError::UnknownClient { .. } => Self::invalid("client", detail),
            KeyError::UnknownApi { .. } => Self::invalid("apis", detail),
            KeyError::Revoked { .. } => Self::conflict("key_revoked", detail),
            KeyError::ApiKeyTaken => Self::conflict("api_key_taken", detail).field("api_key"),
            KeyError::Terms(error) => Self::invalid(field_of(&error), detail),
            KeyError::TooManySecrets { .. } => Self::conflict("too_many_secrets", detail),
            KeyError::LastSecret { .. } => Self::conflict("last_secret", detail),
            KeyError::NoAddress { .. } => Self::conflict("client_without_address", detail),
            KeyError::Version { expected, present } => Self::version_mismatch(expected, present),
            KeyError::Mail(error) => error.into(),
            KeyError::Db(error) => error.into(),
        }
    }
}

fn field_of(error: &TermsError) -> &'static str {
    match error {
        TermsError::Name => "name",
        TermsError::Uses { .. } => "quota",
        TermsError::Apis { .. } => "apis",
        TermsError::Validity(_) => "expiry_date",
        TermsError::ApiKey => "api_key",
        TermsError::SecretKey => "secret_key",
    }
}
