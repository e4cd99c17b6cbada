//! `/api/v1/x-api-keys`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gate::id::{ClientId, CredentialId, GroupId};
use serde::{Deserialize, Serialize};

use super::actions::{self, NewXApiKey, XApiKeyError};
use super::model::{Alias, XApiKey, XApiKeyFault, parse_groups};
use super::store;
use crate::app::App;
use crate::http::{Actor, Json, Page, Path, Permission, Query, page_cursor, page_limit};
use crate::problem::Problem;
use crate::validity::{Validity, day_of, parse_date};

/// Everything about X-Api-Keys.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/x-api-keys", post(create).get(list))
        .route("/api/v1/x-api-keys/{id}", get(show).delete(delete))
}

impl From<XApiKeyError> for Problem {
    fn from(error: XApiKeyError) -> Self {
        let detail = error.to_string();
        match error {
            XApiKeyError::NotFound { .. } => Self::not_found(detail),
            XApiKeyError::UnknownClient { .. } => Self::invalid("client", detail),
            XApiKeyError::ForeignGroup { .. } => Self::invalid("groups", detail),
            XApiKeyError::Fault(fault) => fault.into(),
            XApiKeyError::Mail(error) => error.into(),
            XApiKeyError::Db(error) => error.into(),
        }
    }
}

impl From<XApiKeyFault> for Problem {
    fn from(fault: XApiKeyFault) -> Self {
        let field = match &fault {
            XApiKeyFault::Alias => "alias",
            XApiKeyFault::Groups { .. } => "groups",
            XApiKeyFault::Validity(_) => "expiry_date",
        };
        Self::invalid(field, fault.to_string())
    }
}

/// A key as the API tells it. Instants are UTC ms.
#[derive(Serialize)]
struct XApiKeyView {
    id: CredentialId,
    client: ClientId,
    alias: String,
    mask: String,
    effective_at: i64,
    expires_at: i64,
    groups: Vec<GroupId>,
    created_at: i64,
    created_by: String,
}

impl From<XApiKey> for XApiKeyView {
    fn from(key: XApiKey) -> Self {
        Self {
            id: key.id,
            client: key.client,
            alias: key.alias.as_str().into(),
            mask: key.mask,
            effective_at: key.validity.from.0,
            expires_at: key.validity.until.0,
            groups: key.groups.into_iter().collect(),
            created_at: key.created_at.0,
            created_by: key.created_by,
        }
    }
}

/// A key just made: the only answer that shows its text.
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    key: XApiKeyView,
    x_api_key: String,
    warning: &'static str,
}

/// Days are `yyyy-MM-dd`, in the installation's zone, both inclusive.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    client: String,
    alias: String,
    /// Absent: today.
    effective_date: Option<String>,
    expiry_date: String,
    groups: Vec<String>,
}

async fn create(State(app): State<App>, actor: Actor, Json(body): Json<Create>) -> Result<Response, Problem> {
    actor.require(Permission::KeysWrite)?;
    let today = day_of(app.now(), &app.config.zone());
    let date = |field: &'static str, text: &str| {
        parse_date(text)
            .ok_or_else(|| Problem::invalid(field, format!("{text:?} is no date such as 2026-07-14")))
    };
    let effective = match body.effective_date.as_deref() {
        None | Some("") => today,
        Some(text) => date("effective_date", text)?,
    };
    let days = Validity::new(effective, date("expiry_date", &body.expiry_date)?)
        .and_then(|days| days.not_over(today))
        .map_err(XApiKeyFault::from)?;
    let new = NewXApiKey {
        client: ClientId(body.client),
        alias: Alias::parse(&body.alias)?,
        days,
        groups: parse_groups(body.groups)?,
    };
    let (key, text) = actions::create(&app, &actor, new).await?;
    let answer = Created {
        key: key.into(),
        x_api_key: text.reveal().into(),
        warning: "An X-Api-Key travels in clear with every call. Keep it now: it cannot be shown again.",
    };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    client: Option<String>,
}

async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<XApiKeyView>>, Problem> {
    actor.require(Permission::KeysRead)?;
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let client = query.client.map(ClientId);
    let keys = store::list(&mut *app.db.snapshot().await?, client.as_ref(), &after, limit + 1).await?;
    Ok(Json(Page::new(keys, limit, |key| key.id.as_str().into()).map(XApiKeyView::from)))
}

async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<XApiKeyView>, Problem> {
    actor.require(Permission::KeysRead)?;
    let id = CredentialId(id);
    match store::by_id(&mut *app.db.snapshot().await?, &id).await? {
        Some(key) => Ok(Json(key.into())),
        None => Err(XApiKeyError::NotFound { id }.into()),
    }
}

async fn delete(State(app): State<App>, actor: Actor, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    actor.require(Permission::KeysWrite)?;
    actions::delete(&app, &actor, &CredentialId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
