//! `/client/v1/keys`: the DGRK keys of a client, and what happened to them.

use std::collections::BTreeMap;

use axum::extract::State;
use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::meters::UsesView;
use crate::app::App;
use crate::client_portal::sessions::SignedIn;
use crate::db::Conn;
use crate::http::{Json, Page, Path, Query, Routes, foreign_cursor, page_cursor, page_limit};
use crate::keys::{self, Key, KeyError, KeyState};
use crate::openapi::schema::{Day, schema_of};
use crate::problem::Problem;
use crate::validity::Validity;
use crate::{audit, catalog};

pub(super) fn routes() -> Routes {
    Routes::of("client_portal")
        .client(routes!(list_keys))
        .client(routes!(show_key))
        .client(routes!(list_key_history))
}

/// Whether a key works: its own word, or that of its days.
enum Standing {}

schema_of! { Standing as ClientKeyState: one_of(["active", "not_effective", "expired", "inactive", "revoked"]) }

/// A key of the client that asks.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnKey)]
struct OwnKeyView {
    #[schema(value_type = String)]
    id: CredentialId,
    /// The public half of the pair.
    api_key: String,
    name: String,
    #[schema(value_type = Standing)]
    state: &'static str,
    /// First day, in the installation's zone.
    #[schema(value_type = Day)]
    effective_date: String,
    /// Last day.
    #[schema(value_type = Day)]
    expiry_date: String,
    /// UTC ms; null: it is not revoked.
    revoked_at: Option<i64>,
    /// −1 = unlimited.
    quota: i64,
    /// UTC ms.
    created_at: i64,
    /// UTC ms.
    updated_at: i64,
}

impl OwnKeyView {
    fn of(app: &App, key: &Key) -> Self {
        let days = Validity::of_instants(key.validity, &app.config.zone());
        Self {
            id: key.id.clone(),
            api_key: key.api_key.as_str().into(),
            name: key.name.as_str().into(),
            state: standing(key, app.now()),
            effective_date: days.effective_on().to_string(),
            expiry_date: days.expires_on().to_string(),
            revoked_at: match key.state {
                KeyState::Active | KeyState::Inactive => None,
                KeyState::Revoked { revoked_at } => Some(revoked_at.0),
            },
            quota: key.uses.as_number(),
            created_at: key.created_at.0,
            updated_at: key.updated_at.0,
        }
    }
}

/// A key with all that its client is told about it.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnKeyDetails)]
struct OwnKeyDetailsView {
    #[serde(flatten)]
    key: OwnKeyView,
    /// What it may call.
    apis: Vec<KeyApiView>,
    /// The secrets that work, newest first.
    secrets: Vec<SecretView>,
    /// What was used of its quota; null: it is unlimited.
    uses: Option<UsesView>,
}

/// An API that a key lists.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnKeyApi)]
struct KeyApiView {
    #[schema(value_type = String)]
    uid: ApiUid,
    module: String,
    id: String,
    name: String,
    /// false: its calls are refused until it is enabled again.
    enabled: bool,
}

/// A secret of a key, without the secret.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnKeySecret)]
struct SecretView {
    id: String,
    /// First and last five characters.
    mask: Option<String>,
    /// UTC ms.
    created_at: i64,
    /// Last call signed with it that a gateway let in, UTC ms; null: none yet.
    last_used_at: Option<i64>,
    /// When it ends by itself, UTC ms; null: not before the key does.
    ends_at: Option<i64>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List one's keys.
#[utoipa::path(get, path = "/client/v1/keys", params(ListQuery))]
async fn list_keys(
    State(app): State<App>,
    caller: SignedIn,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OwnKeyView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let client = ClientId(caller.session.client);
    let keys = keys::list(&mut *app.db.snapshot().await?, Some(&client), &after, limit + 1).await?;
    let page = Page::new(keys, limit, |key| key.id.0.clone());
    Ok(Json(page.map(|key| OwnKeyView::of(&app, &key))))
}

/// Show a key of one's own: its APIs, masks of its secrets, and what was used of its quota.
#[utoipa::path(get, path = "/client/v1/keys/{id}")]
async fn show_key(
    State(app): State<App>,
    caller: SignedIn,
    Path(id): Path<String>,
) -> Result<Json<OwnKeyDetailsView>, Problem> {
    let mut read = app.db.snapshot().await?;
    let key = own(&mut read, &caller, id).await?;
    let uids: Vec<ApiUid> = key.apis.iter().cloned().collect();
    let api = |api: catalog::ApiSummary| KeyApiView {
        uid: api.uid,
        module: api.module,
        id: api.id,
        name: api.name,
        enabled: api.enabled,
    };
    let secret = |(secret, mask): (&keys::SealedSecret, Option<String>)| SecretView {
        id: secret.id.clone(),
        mask,
        created_at: secret.created_at.0,
        last_used_at: secret.last_used_at.map(|at| at.0),
        ends_at: secret.ends_at.map(|at| at.0),
    };
    Ok(Json(OwnKeyDetailsView {
        apis: catalog::known_apis(&mut read, &uids).await?.into_iter().map(api).collect(),
        secrets: key.secrets.iter().zip(keys::masks(&app.vault, &key)?).map(secret).collect(),
        uses: UsesView::of_key(&app, &mut read, &key).await?,
        key: OwnKeyView::of(&app, &key),
    }))
}

/// Something that happened to a key.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnKeyEvent)]
struct EventView {
    /// When, UTC ms.
    at: i64,
    /// What: `issue`, `import`, `change`, `rotate` (a second secret), `retire_secret`, `revoke` …
    event: String,
    /// Who: `client` (oneself), `operator`, or `keygate` on its own.
    by: &'static str,
    /// The number of the form that brought it about; null: none did.
    application: Option<String>,
    /// What a change altered, by field; else none.
    changed: BTreeMap<String, ChangeView>,
}

/// A field before and after.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnKeyChange)]
struct ChangeView {
    before: Value,
    after: Value,
}

/// List what happened to a key of one's own, newest first.
#[utoipa::path(get, path = "/client/v1/keys/{id}/history", params(ListQuery))]
async fn list_key_history(
    State(app): State<App>,
    caller: SignedIn,
    Path(id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<EventView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        seq => Some(seq.parse().map_err(|_| foreign_cursor())?),
    };
    let mut read = app.db.snapshot().await?;
    let key = own(&mut read, &caller, id).await?;
    let search = audit::Search {
        action: Some("keys.".into()),
        subject: Some(format!("key:{}", key.id)),
        before,
        ..audit::Search::default()
    };
    let entries = audit::search(&mut read, &search, limit).await?;
    Ok(Json(Page::new(entries, limit, |entry| entry.seq.to_string()).map(EventView::from)))
}

impl From<audit::Recorded> for EventView {
    fn from(entry: audit::Recorded) -> Self {
        let (before, after) = (&entry.detail["before"], &entry.detail["after"]);
        let fields = after.as_object().into_iter().flatten();
        let changed = fields
            .filter(|(name, value)| before[name.as_str()] != **value)
            .map(|(name, value)| {
                (name.clone(), ChangeView { before: before[name.as_str()].clone(), after: value.clone() })
            })
            .collect();
        Self {
            at: entry.at,
            event: entry.action.trim_start_matches("keys.").into(),
            by: match entry.actor.split_once(':') {
                Some(("client", _)) => "client",
                Some(("operator", _)) => "operator",
                Some(_) | None => "keygate",
            },
            application: entry.detail["application"].as_str().map(str::to_owned),
            changed,
        }
    }
}

/// The key of that id, if it is the caller's: another one's is as unknown as one that is not.
async fn own(conn: &mut Conn, caller: &SignedIn, id: String) -> Result<Key, KeyError> {
    let id = CredentialId(id);
    let own = |key: &Key| key.client.as_str() == caller.session.client;
    match keys::by_id(conn, &id).await?.filter(own) {
        Some(key) => Ok(key),
        None => Err(KeyError::NotFound { id }),
    }
}

fn standing(key: &Key, now: UnixMillis) -> &'static str {
    match key.state {
        KeyState::Active if now < key.validity.from => "not_effective",
        KeyState::Active if now > key.validity.until => "expired",
        KeyState::Active | KeyState::Inactive | KeyState::Revoked { .. } => key.state.name(),
    }
}
