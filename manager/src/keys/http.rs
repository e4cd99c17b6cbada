//! `/api/v1/keys`.

use axum::extract::State;
use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, ImportedPair, KeyError, NewKey};
use super::history::{self, Event};
use super::model::{
    ApiKey, ApiUids, Key, KeyName, KeyState, Origin, SecretKey, Terms, TermsError, UseQuota, parse_apis,
};
use super::{secrets, store};
use crate::app::App;
use crate::catalog;
use crate::clients;
use crate::db::Conn;
use crate::http::{
    Actor, Added, Created, IfMatch, Json, Page, Path, Permission, Query, Routes, Versioned, page_cursor,
    page_limit,
};
use crate::mail::{self, MailState, Template, Warning};
use crate::openapi::schema::Day;
use crate::problem::Problem;
use crate::quotas::{self, LeaseTerms, LeasesView};
use crate::usage::{self, Forecast};
use crate::validity::{Validity, day_of, parse_date};

/// `/api/v1/keys` and below.
pub fn routes() -> Routes {
    Routes::of("keys")
        .permitted(&[Permission::KeysRead], routes!(list))
        .permitted(&[Permission::KeysWrite], routes!(import))
        .permitted(&[Permission::KeysRead], routes!(show))
        .permitted(&[Permission::KeysRead], routes!(show_history))
        .permitted(&[Permission::KeysWrite], routes!(activate))
        .permitted(&[Permission::KeysWrite], routes!(deactivate))
        .permitted(&[Permission::KeysWrite], routes!(revoke))
        .permitted(&[Permission::KeysResend], routes!(resend))
        .permitted(&[Permission::KeysWrite], routes!(rotate))
        .permitted(&[Permission::KeysWrite], routes!(retire_secret))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    client: Option<String>,
}

/// A pair that was made elsewhere, and its terms. Days are `yyyy-MM-dd`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyImport)]
pub(super) struct ImportJson {
    pub client: String,
    #[schema(value_type = ApiKey)]
    pub api_key: String,
    #[schema(value_type = SecretKey)]
    pub secret_key: String,
    #[schema(value_type = KeyName)]
    pub name: String,
    /// Absent: today.
    #[schema(value_type = Option<Day>)]
    pub effective_date: Option<String>,
    #[schema(value_type = Day)]
    pub expiry_date: String,
    /// −1 = unlimited.
    #[schema(value_type = UseQuota)]
    pub quota: i64,
    #[schema(value_type = ApiUids)]
    pub apis: Vec<String>,
}

/// A key as the API tells it. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyJson {
    #[schema(value_type = String)]
    id: CredentialId,
    #[schema(value_type = String)]
    client: ClientId,
    api_key: String,
    name: String,
    #[schema(value_type = Day)]
    effective_date: String,
    #[schema(value_type = Day)]
    expiry_date: String,
    /// −1 = unlimited.
    quota: i64,
    /// What is left of it, where one key is shown; null for an unlimited one.
    remaining: Option<u64>,
    /// Calls let in or handed to gateways for letting in, where one key is shown; null for an unlimited one.
    used: Option<u64>,
    /// What is out of it, and when it will be used up, where one key is shown; null for an unlimited one.
    meter: Option<MeterJson>,
    #[schema(value_type = Vec<String>)]
    apis: BTreeSet<ApiUid>,
    /// The names of its APIs by uid, where one key is shown; else null.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    api_names: Option<BTreeMap<ApiUid, String>>,
    #[schema(value_type = KeyState)]
    state: &'static str,
    /// The state in words: `Active`, `Dormant`, `Active (Overdue)`, `Revoked` …
    label: String,
    /// Its last day is over.
    overdue: bool,
    #[schema(value_type = Option<i64>)]
    revoked_at: Option<UnixMillis>,
    #[schema(value_type = Origin)]
    origin: &'static str,
    secrets: Vec<SecretJson>,
    version: i64,
    #[schema(value_type = i64)]
    created_at: UnixMillis,
    #[schema(value_type = i64)]
    updated_at: UnixMillis,
}

#[derive(Serialize, ToSchema)]
#[schema(as = KeySecret)]
struct SecretJson {
    id: String,
    /// First and last five characters, where one key is shown; else null.
    mask: Option<String>,
    #[schema(value_type = i64)]
    created_at: UnixMillis,
    #[schema(value_type = Option<i64>)]
    last_used_at: Option<UnixMillis>,
    /// When it ends by itself; null: when it is retired.
    #[schema(value_type = Option<i64>)]
    ends_at: Option<UnixMillis>,
}

/// A key after something that a mail tells about.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyMailed)]
struct MailedJson {
    #[serde(flatten)]
    key: KeyJson,
    /// What keeps this mail from going out; empty while mails do.
    warnings: Vec<Warning>,
}

/// How the old secret ends.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyRotation)]
struct RotateJson {
    /// Hours for which the old secret works beside the new one; 0: until it is retired. Absent: the
    /// setting `key_secret_overlap_h`.
    #[schema(maximum = 8760)]
    overlap_h: Option<u32>,
}

/// What happened to a key, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyEvents)]
struct HistoryJson {
    /// The newest 500.
    items: Vec<EventJson>,
}

/// One thing that happened to a key: something done, or a mail about it. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyEvent)]
struct EventJson {
    at: i64,
    /// Of something done: `keys.issue`, `keys.change`, `keys.rotate` …; of a mail: `mail`.
    event: String,
    /// Who did it; null of a mail.
    actor: Option<String>,
    /// What people call the operator; null where it was no operator.
    actor_name: Option<String>,
    /// Number of the form that asked for it.
    application: Option<String>,
    /// More about what was done; `before` and `after` of a change.
    #[schema(value_type = Object)]
    detail: Value,
    mail: Option<EventMailJson>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = KeyEventMail)]
struct EventMailJson {
    id: String,
    #[schema(value_type = Template)]
    template: &'static str,
    recipient: String,
    subject: String,
    #[schema(value_type = MailState)]
    state: &'static str,
}

impl From<Event> for EventJson {
    fn from(event: Event) -> Self {
        let at = event.at();
        match event {
            Event::Done { entry, actor_name } => Self {
                at,
                event: entry.action,
                actor: Some(entry.actor),
                actor_name,
                application: entry.detail["application"].as_str().map(str::to_owned),
                detail: entry.detail,
                mail: None,
            },
            Event::Mailed(mail) => Self {
                at,
                event: "mail".into(),
                actor: None,
                actor_name: None,
                application: None,
                detail: serde_json::json!({}),
                mail: Some(EventMailJson {
                    id: mail.id,
                    template: mail.template.name(),
                    recipient: mail.recipient,
                    subject: mail.subject,
                    state: mail.state.name(),
                }),
            },
        }
    }
}

/// List keys.
#[utoipa::path(get, path = "/api/v1/keys", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<KeyJson>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let client = query.client.map(ClientId);
    let mut conn = app.db.snapshot().await?;
    if let Some(client) = &client
        && clients::by_id(&mut conn, client.as_str()).await?.is_none()
    {
        let detail =
            format!("client is `{client}`, which does not exist: find it with GET /api/v1/clients?keyword=");
        return Err(Problem::invalid_query("client", detail));
    }
    let keys = store::list(&mut conn, client.as_ref(), &after, limit + 1).await?;
    let page = Page::new(keys, limit, |key| key.id.0.clone());
    Ok(Json(page.map(|key| brief(&app, &key))))
}

/// Show a key, what it has used, and masks of its secrets.
#[utoipa::path(get, path = "/api/v1/keys/{id}")]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Versioned<KeyJson>, Problem> {
    let mut conn = app.db.snapshot().await?;
    let id = CredentialId(id);
    let key = store::by_id(&mut conn, &id).await?.ok_or(KeyError::NotFound { id })?;
    full(&mut conn, &app, key).await
}

/// Bring in a pair that was made elsewhere.
#[utoipa::path(post, path = "/api/v1/keys/import", responses(
    (status = 409, description = "`api_key_taken`"),
))]
async fn import(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<ImportJson>,
) -> Result<Created<Versioned<KeyJson>>, Problem> {
    let (new, pair) = body.parse(&app)?;
    let key = actions::import(&app, new, pair, &actor.audit_name()).await?;
    Ok(Created(format!("/api/v1/keys/{}", key.id), answer(&app, key).await?))
}

/// End a key for good.
///
/// Every connected gateway knows within a second; the client is told by mail.
#[utoipa::path(post, path = "/api/v1/keys/{id}/revoke", params(IfMatch), responses(
    (status = 409, description = "`key_revoked`"),
))]
async fn revoke(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(version): IfMatch,
) -> Result<Versioned<KeyJson>, Problem> {
    let key = actions::revoke_now(&app, &CredentialId(id), version, &actor.audit_name()).await?;
    answer(&app, key).await
}

/// Give a key a second secret and mail it: both sign until the old one ends.
#[utoipa::path(post, path = "/api/v1/keys/{id}/secrets", params(IfMatch), responses(
    (status = 409, description = "`key_revoked`, `too_many_secrets` or `client_without_address`"),
))]
async fn rotate(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(version): IfMatch,
    Json(body): Json<RotateJson>,
) -> Result<Added<Versioned<MailedJson>>, Problem> {
    let (id, by) = (CredentialId(id), actor.audit_name());
    let key = secrets::rotate(&app, &id, body.overlap_h, version, &by).await?;
    Ok(Added(mailed(&app, key).await?))
}

/// Send the pair to its client once more.
#[utoipa::path(post, path = "/api/v1/keys/{id}/resend", responses(
    (status = 409, description = "`key_revoked` or `client_without_address`"),
))]
async fn resend(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Versioned<MailedJson>, Problem> {
    let key = secrets::resend(&app, &CredentialId(id), &actor.audit_name()).await?;
    mailed(&app, key).await
}

/// Switch a key on again.
#[utoipa::path(post, path = "/api/v1/keys/{id}/activate", params(IfMatch), responses(
    (status = 409, description = "`key_revoked`"),
))]
async fn activate(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(version): IfMatch,
) -> Result<Versioned<KeyJson>, Problem> {
    let key = actions::set_active(&app, &CredentialId(id), true, version, &actor.audit_name()).await?;
    answer(&app, key).await
}

/// Switch a key off: gateways refuse it within a second.
#[utoipa::path(post, path = "/api/v1/keys/{id}/deactivate", params(IfMatch), responses(
    (status = 409, description = "`key_revoked`"),
))]
async fn deactivate(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    IfMatch(version): IfMatch,
) -> Result<Versioned<KeyJson>, Problem> {
    let key = actions::set_active(&app, &CredentialId(id), false, version, &actor.audit_name()).await?;
    answer(&app, key).await
}

/// Show what happened to a key: what was done with it, and the mails about it.
#[utoipa::path(get, path = "/api/v1/keys/{id}/history")]
async fn show_history(State(app): State<App>, Path(id): Path<String>) -> Result<Json<HistoryJson>, Problem> {
    let events = history::of(&app, &CredentialId(id)).await?;
    Ok(Json(HistoryJson { items: events.into_iter().map(EventJson::from).collect() }))
}

/// Retire one of two secrets.
#[utoipa::path(delete, path = "/api/v1/keys/{id}/secrets/{secret}", params(IfMatch), responses(
    (status = 409, description = "`key_revoked` or `last_secret`"),
))]
async fn retire_secret(
    State(app): State<App>,
    actor: Actor,
    Path((id, secret)): Path<(String, String)>,
    IfMatch(version): IfMatch,
) -> Result<Versioned<KeyJson>, Problem> {
    let key = secrets::retire(&app, &CredentialId(id), &secret, version, &actor.audit_name()).await?;
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
        Ok((NewKey { client: ClientId(self.client), terms, application: None, applied_by: None }, pair))
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

/// With what its caller should know of the mail.
async fn mailed(app: &App, key: Key) -> Result<Versioned<MailedJson>, Problem> {
    let mut conn = app.db.read().await?;
    let Versioned(version, key) = full(&mut conn, app, key).await?;
    Ok(Versioned(version, MailedJson { key, warnings: mail::warnings(&mut conn, app).await? }))
}

/// With what only the vault and the ledger know.
async fn full(conn: &mut Conn, app: &App, key: Key) -> Result<Versioned<KeyJson>, Problem> {
    let mut json = brief(app, &key);
    for (shown, mask) in json.secrets.iter_mut().zip(store::masks(&app.vault, &key)?) {
        shown.mask = mask;
    }
    let meter = quotas::meter_of(conn, MeterKind::KeyUses, key.id.as_str()).await?;
    json.used = meter.as_ref().map(|meter| meter.debited);
    if let (UseQuota::Uses(_), Some(meter)) = (key.uses, &meter) {
        let now = app.now();
        let out = quotas::outstanding(conn, meter, now).await?;
        json.meter = Some(MeterJson {
            reclaimed: meter.reclaimed,
            held: out.leased,
            withheld: out.withheld,
            forecast: usage::forecast(app, conn, meter, out, now).await?,
            leases: LeasesView::of(meter, LeaseTerms::of(&app.config)),
        });
    }
    json.remaining = match (key.uses, &meter) {
        (UseQuota::Uses(_), Some(meter)) => Some(meter.remaining()),
        (UseQuota::Uses(uses), None) => Some(u64::from(uses)),
        (UseQuota::Unlimited, _) => None,
    };
    let uids: Vec<ApiUid> = key.apis.iter().cloned().collect();
    let named = catalog::known_apis(conn, &uids).await?;
    json.api_names = Some(named.into_iter().map(|api| (api.uid, api.name)).collect());
    Ok(Versioned(key.version, json))
}

fn brief(app: &App, key: &Key) -> KeyJson {
    let now = app.now();
    let days = Validity::of_instants(key.validity, &app.config.zone());
    let secret = |secret: &super::model::SealedSecret| SecretJson {
        id: secret.id.clone(),
        mask: None,
        created_at: secret.created_at,
        last_used_at: secret.last_used_at,
        ends_at: secret.ends_at,
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
        remaining: None,
        meter: None,
        apis: key.apis.clone(),
        api_names: None,
        state: key.state.name(),
        label: key.label(now),
        overdue: now > key.validity.until,
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

/// What is out of the quota of a key, and when it will be used up.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyMeter)]
struct MeterJson {
    /// Calls by which `reclaim` has raised the quota: that many more than `quota` may be used.
    reclaimed: u64,
    /// Of the calls that are used, those that gateways hold and have not spent, as far as is known.
    held: u64,
    /// Of them, calls that gateways held which never told what became of them: nobody can use them.
    withheld: u64,
    #[serde(flatten)]
    forecast: Forecast,
    #[serde(flatten)]
    leases: LeasesView,
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
            KeyError::Overlap { .. } => Self::invalid("overlap_h", detail),
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
