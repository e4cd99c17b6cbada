//! `/api/v1/x-api-keys`, and what a client's keys may be given.

use axum::extract::State;
use gate::id::{ClientId, CredentialId, GroupId};
use gate::time::UnixMillis;
use gate::wire::exchange::ClientStatus;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, NewXApiKey, Status, XApiKeyError};
use super::model::{Alias, Trace, XApiKey, XApiKeyFault, XApiKeyText, parse_groups};
use super::store::{self, Filter};
use crate::app::App;
use crate::catalog::{GroupSummary, SecurityLevel};
use crate::http::{
    Actor, Confidential, Created, Json, NoContent, Page, Path, Permission, Query, Routes, page_cursor,
    page_limit,
};
use crate::openapi::wire;
use crate::problem::Problem;
use crate::validity::{Validity, day_of, parse_date};

/// Everything about X-Api-Keys.
pub fn routes() -> Routes {
    const READ: &[Permission] = &[Permission::KeysRead];
    const WRITE: &[Permission] = &[Permission::KeysWrite];
    Routes::of("x_api_keys")
        .permitted(READ, routes!(list))
        .permitted(WRITE, routes!(create))
        .permitted(WRITE, routes!(import))
        .permitted(READ, routes!(look_up))
        .permitted(WRITE, routes!(delete_several))
        .permitted(READ, routes!(show))
        .permitted(WRITE, routes!(delete))
        .permitted(READ, routes!(offered_groups))
}

impl From<XApiKeyError> for Problem {
    fn from(error: XApiKeyError) -> Self {
        let detail = error.to_string();
        match error {
            XApiKeyError::NotFound { .. }
            | XApiKeyError::UnknownText
            | XApiKeyError::ClientNotFound { .. } => Self::not_found(detail),
            XApiKeyError::TooMany { .. } => Self::invalid("ids", detail),
            XApiKeyError::UnknownClient { .. } => Self::invalid("client", detail),
            XApiKeyError::ForeignGroup { .. } => Self::invalid("groups", detail),
            XApiKeyError::Taken => Self::conflict("x_api_key_taken", detail).field("sha256"),
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
            XApiKeyFault::Sha256 => "sha256",
            XApiKeyFault::Mask => "mask",
        };
        Self::invalid(field, fault.to_string())
    }
}

/// A key as the API tells it. Instants are UTC ms, days those of the installation's zone.
#[derive(Serialize, ToSchema)]
#[schema(as = XApiKey)]
struct XApiKeyView {
    #[schema(value_type = String)]
    id: CredentialId,
    #[schema(value_type = String)]
    client: ClientId,
    alias: String,
    mask: String,
    #[schema(format = Date)]
    effective_date: String,
    #[schema(format = Date)]
    expiry_date: String,
    effective_at: i64,
    expires_at: i64,
    /// `not_effective`, `active` or `expired`.
    state: &'static str,
    #[schema(value_type = Vec<String>)]
    groups: Vec<GroupId>,
    /// `issued` or `imported`.
    origin: &'static str,
    /// Last call that a gateway let in, by the minute; null: never.
    #[schema(value_type = Option<i64>)]
    last_used_at: Option<UnixMillis>,
    created_at: i64,
    created_by: String,
}

impl XApiKeyView {
    fn of(app: &App, key: XApiKey) -> Self {
        let days = Validity::of_instants(key.validity, &app.config.zone());
        Self {
            state: key.state(app.now()).name(),
            id: key.id,
            client: key.client,
            alias: key.alias.as_str().into(),
            mask: key.trace.mask,
            effective_date: days.effective_on().to_string(),
            expiry_date: days.expires_on().to_string(),
            effective_at: key.validity.from.0,
            expires_at: key.validity.until.0,
            groups: key.groups.into_iter().collect(),
            origin: key.origin.name(),
            last_used_at: key.last_used_at,
            created_at: key.created_at.0,
            created_by: key.created_by,
        }
    }
}

/// A key just made: the only answer that shows its text.
#[derive(Serialize, ToSchema)]
#[schema(as = NewXApiKey)]
struct CreatedView {
    #[serde(flatten)]
    key: XApiKeyView,
    x_api_key: String,
    warning: &'static str,
}

/// Days are `yyyy-MM-dd`, in the installation's zone, both inclusive.
#[derive(Deserialize, ToSchema)]
#[schema(as = XApiKeyCreate)]
#[serde(deny_unknown_fields)]
struct Create {
    client: String,
    alias: String,
    /// Absent or empty: today.
    effective_date: Option<String>,
    #[schema(format = Date)]
    expiry_date: String,
    /// Some of the client's own.
    #[schema(min_items = 1, max_items = 205)]
    groups: Vec<String>,
}

/// Make an X-Api-Key.
///
/// This answer is the only one that shows its text; it is mailed too, where the client has an
/// address. The text travels in clear with every call.
#[utoipa::path(post, path = "/api/v1/x-api-keys")]
async fn create(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<Create>,
) -> Result<Confidential<Created<Json<CreatedView>>>, Problem> {
    let new = body.parse(&app)?;
    let (key, text) = actions::create(&app, &actor, new).await?;
    let answer = CreatedView {
        key: XApiKeyView::of(&app, key),
        x_api_key: text.reveal().into(),
        warning: "An X-Api-Key travels in clear with every call. Keep it now: it cannot be shown again.",
    };
    Ok(Confidential(Created(location(&answer.key.id), Json(answer))))
}

impl Create {
    fn parse(self, app: &App) -> Result<NewXApiKey, Problem> {
        let today = day_of(app.now(), &app.config.zone());
        let effective = match self.effective_date.as_deref() {
            None | Some("") => today,
            Some(text) => date("effective_date", text)?,
        };
        let days = Validity::new(effective, date("expiry_date", &self.expiry_date)?)
            .and_then(|days| days.not_over(today))
            .map_err(XApiKeyFault::from)?;
        Ok(NewXApiKey {
            client: ClientId(self.client),
            alias: Alias::parse(&self.alias)?,
            days,
            groups: parse_groups(self.groups)?,
        })
    }
}

/// A key that was made elsewhere: what is kept of its text, and its terms.
#[derive(Deserialize, ToSchema)]
#[schema(as = XApiKeyImport)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    pub client: String,
    pub alias: String,
    /// Of the text, of either case.
    #[schema(pattern = "^[0-9A-Fa-f]{64}$")]
    pub sha256: String,
    /// What is shown of the text, such as `YjN***GJm`.
    pub mask: String,
    /// Absent or empty: today.
    pub effective_date: Option<String>,
    #[schema(format = Date)]
    pub expiry_date: String,
    /// Some of the client's own.
    #[schema(min_items = 1, max_items = 205)]
    pub groups: Vec<String>,
}

impl Import {
    pub(super) fn parse(self, app: &App) -> Result<(NewXApiKey, Trace), Problem> {
        let Self { client, alias, sha256, mask, effective_date, expiry_date, groups } = self;
        let new = Create { client, alias, effective_date, expiry_date, groups }.parse(app)?;
        Ok((new, Trace::imported(&sha256, &mask)?))
    }
}

/// Bring in an X-Api-Key that was made elsewhere, by its hash.
///
/// Its holder goes on using it and gets no mail.
#[utoipa::path(post, path = "/api/v1/x-api-keys/import", responses(
    (status = 409, description = "`x_api_key_taken`: one with this hash is on record already."),
))]
async fn import(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<Import>,
) -> Result<Created<Json<XApiKeyView>>, Problem> {
    let (new, trace) = body.parse(&app)?;
    let key = actions::import(&app, &actor.audit_name(), new, trace).await?;
    Ok(Created(location(&key.id), Json(XApiKeyView::of(&app, key))))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Whose: the id of a client.
    client: Option<String>,
    /// Occurs in alias or mask, or in id, names or application number of the client.
    keyword: Option<String>,
}

/// List X-Api-Keys, by id.
#[utoipa::path(get, path = "/api/v1/x-api-keys", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<XApiKeyView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let filter = Filter { client: query.client, keyword: query.keyword };
    let keys = store::list(&mut *app.db.snapshot().await?, &filter, &after, limit).await?;
    let page = Page::new(keys, limit, |key| key.id.as_str().into());
    Ok(Json(page.map(|key| XApiKeyView::of(&app, key))))
}

/// Show an X-Api-Key, with a mask of its text.
#[utoipa::path(get, path = "/api/v1/x-api-keys/{id}")]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<XApiKeyView>, Problem> {
    let id = CredentialId(id);
    match store::by_id(&mut *app.db.snapshot().await?, &id).await? {
        Some(key) => Ok(Json(XApiKeyView::of(&app, key))),
        None => Err(XApiKeyError::NotFound { ids: vec![id] }.into()),
    }
}

/// Delete an X-Api-Key, at every connected gateway within a second.
#[utoipa::path(delete, path = "/api/v1/x-api-keys/{id}")]
async fn delete(State(app): State<App>, actor: Actor, Path(id): Path<String>) -> Result<NoContent, Problem> {
    actions::delete(&app, &actor.audit_name(), [CredentialId(id)].into()).await?;
    Ok(NoContent)
}

#[derive(Deserialize, ToSchema)]
#[schema(as = XApiKeyDelete)]
#[serde(deny_unknown_fields)]
struct DeleteSeveral {
    /// All of them are deleted, or none.
    #[schema(min_items = 1, max_items = 200)]
    ids: Vec<String>,
}

/// Delete several X-Api-Keys, all of them or none.
#[utoipa::path(post, path = "/api/v1/x-api-keys/delete", responses(
    (status = 404, description = "`not_found`: `detail` names every id that is unknown; nothing was deleted."),
))]
async fn delete_several(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<DeleteSeveral>,
) -> Result<NoContent, Problem> {
    let ids = body.ids.into_iter().map(CredentialId).collect();
    actions::delete(&app, &actor.audit_name(), ids).await?;
    Ok(NoContent)
}

#[derive(Deserialize, ToSchema)]
#[schema(as = XApiKeyLookUp)]
#[serde(deny_unknown_fields)]
struct LookUp {
    /// The whole text. It goes into no log.
    x_api_key: String,
}

/// What there is to know about a key whose text is at hand.
#[derive(Serialize, ToSchema)]
#[schema(as = XApiKeyStatus)]
struct StatusView {
    #[serde(flatten)]
    key: XApiKeyView,
    client_name: String,
    client_display_name: String,
    #[schema(value_type = wire::ClientStatus)]
    client_status: ClientStatus,
    /// The groups of the key, in full.
    authority_groups: Vec<AuthorityGroup>,
    /// APIs that it opens at present.
    api_count: i64,
}

#[derive(Serialize, ToSchema)]
struct AuthorityGroup {
    #[schema(value_type = String)]
    id: GroupId,
    name: String,
    /// false: the client no longer has the group, so the key does not open it.
    opens: bool,
}

/// Tell whose an X-Api-Key is and what it opens, by its whole text.
#[utoipa::path(post, path = "/api/v1/x-api-keys/lookup", responses(
    (status = 404, description = "`not_found`: no client has this key."),
))]
async fn look_up(State(app): State<App>, Json(body): Json<LookUp>) -> Result<Json<StatusView>, Problem> {
    let Status { key, client, groups, apis } =
        actions::look_up(&app, &XApiKeyText::pasted(&body.x_api_key)).await?;
    let group =
        |(group, opens): (GroupSummary, bool)| AuthorityGroup { id: group.id, name: group.name, opens };
    Ok(Json(StatusView {
        key: XApiKeyView::of(&app, key),
        client_name: client.name.as_str().into(),
        client_display_name: client.display_name,
        client_status: client.status,
        authority_groups: groups.into_iter().map(group).collect(),
        api_count: apis,
    }))
}

/// A group that a key may be given.
#[derive(Serialize, ToSchema)]
#[schema(as = OfferedXApiKeyGroup)]
struct OfferedGroup {
    #[schema(value_type = String)]
    id: GroupId,
    name: String,
    security_level: SecurityLevel,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct OfferQuery {
    /// Occurs in the name, of either case.
    keyword: Option<String>,
}

/// List the groups that an X-Api-Key of this client may be given: the client's own.
#[utoipa::path(get, path = "/api/v1/clients/{id}/offered-x-api-key-groups", params(OfferQuery))]
async fn offered_groups(
    State(app): State<App>,
    Path(client): Path<String>,
    Query(query): Query<OfferQuery>,
) -> Result<Json<Page<OfferedGroup>>, Problem> {
    let groups = actions::offered_groups(&app, &client, query.keyword.as_deref()).await?;
    let offered = |group: GroupSummary| OfferedGroup {
        id: group.id,
        name: group.name,
        security_level: group.security_level,
    };
    // As many as a client has at most, on one page.
    Ok(Json(Page { items: groups.into_iter().map(offered).collect(), next: None }))
}

fn location(id: &CredentialId) -> String {
    format!("/api/v1/x-api-keys/{id}")
}

fn date(field: &'static str, text: &str) -> Result<Date, Problem> {
    parse_date(text).ok_or_else(|| {
        Problem::invalid(field, format!("{text:?} is no date: write yyyy-MM-dd, e.g. 2026-07-14"))
    })
}
