//! `/api/v1/pickers`

use axum::extract::State;
use gate::wire::directory::Audience;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::super::review::meet;
use super::store::{self, PickedApi, PickedClient};
use crate::app::App;
use crate::catalog::SecurityLevel;
use crate::clients::{self, Client};
use crate::http::{Actor, Json, Page, Permission, Query, Routes, page_cursor, page_limit};
use crate::openapi::schema::schema_of;
use crate::problem::Problem;
use crate::search::{Keyword, Words, several};

/// `/api/v1/pickers` and below.
pub fn routes() -> Routes {
    Routes::of("applications")
        .permitted(&[Permission::ApplicationsApply], routes!(pick_clients))
        .permitted(&[Permission::ApplicationsApply], routes!(pick_apis))
}

/// A client that a form may name.
#[derive(Serialize, ToSchema)]
#[schema(as = ClientChoice)]
struct ClientView {
    id: String,
    name: String,
    display_name: String,
    /// Why a form for it would be refused or delayed: `disabled`, `locked`, `no_address`; empty: nothing.
    #[schema(value_type = Vec<ClientMark>)]
    marks: Vec<&'static str>,
}

enum ClientMark {}
enum ApiMark {}

schema_of! { ClientMark as ClientChoiceMark: one_of(["disabled", "locked", "no_address"]) }
schema_of! { ApiMark as ApiChoiceMark: one_of(["disabled", "not_registered", "audience", "level", "without_dgrk"]) }

impl From<PickedClient> for ClientView {
    fn from(client: PickedClient) -> Self {
        let marks = [
            ("disabled", client.status == "disabled"),
            ("locked", client.status == "locked"),
            ("no_address", !client.has_address),
        ];
        let marks = marks.into_iter().filter_map(|(mark, holds)| holds.then_some(mark)).collect();
        Self { id: client.id, name: client.name, display_name: client.display_name, marks }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ClientsQuery {
    /// Words, each in id, names or application number; with catalog.read in the name of a group too.
    #[param(inline, value_type = Option<Keyword>)]
    keyword: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Find clients to apply for, by id.
#[utoipa::path(get, path = "/api/v1/pickers/clients", params(ClientsQuery))]
async fn pick_clients(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ClientsQuery>,
) -> Result<Json<Page<ClientView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let words = Words::parse(query.keyword.as_deref())?;
    let groups = actor.may(Permission::CatalogRead);
    let found = store::clients(&mut *app.db.read().await?, &words, groups, &after, limit + 1).await?;
    Ok(Json(Page::new(found, limit, |client| client.id.clone()).map(ClientView::from)))
}

/// An API that a form may choose.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiChoice)]
struct ApiView {
    uid: String,
    module: String,
    id: String,
    name: String,
    description: String,
    /// What speaks against it: `disabled`, `not_registered`, `without_dgrk` (no DGRK key opens it); of the
    /// client named also `audience` and `level` (all its groups are above the client's level). Empty: nothing.
    #[schema(value_type = Vec<ApiMark>)]
    marks: Vec<&'static str>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ApisQuery {
    /// Words, each in module, id, name, description or path.
    #[param(inline, value_type = Option<Keyword>)]
    keyword: Option<String>,
    /// Client id: APIs are marked that do not fit it.
    client: Option<String>,
    /// `disabled`, `unregistered`; several with commas. Default: enabled and registered ones alone.
    include: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Find APIs to apply for, by module and id.
#[utoipa::path(get, path = "/api/v1/pickers/apis", params(ApisQuery))]
async fn pick_apis(
    State(app): State<App>,
    Query(query): Query<ApisQuery>,
) -> Result<Json<Page<ApiView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let words = Words::parse(query.keyword.as_deref())?;
    let include = several("include", query.include.as_deref(), &["disabled", "unregistered"])?;
    let include = (include.contains(&"disabled"), include.contains(&"unregistered"));
    let mut conn = app.db.snapshot().await?;
    let client = match &query.client {
        None => None,
        Some(id) => Some(clients::by_id(&mut conn, id).await?.ok_or_else(|| {
            let detail =
                format!("client is `{id}`, which does not exist: find it at /api/v1/pickers/clients");
            Problem::invalid_query("client", detail)
        })?),
    };
    let found = store::apis(&mut conn, &words, include, &after, limit + 1).await?;
    let page = Page::new(found, limit, |api| api.sort_key.clone());
    let uids: Vec<&str> = page.items.iter().map(|api| api.uid.as_str()).collect();
    let levels = store::levels_of(&mut conn, &uids).await?;
    Ok(Json(page.map(|api| {
        let levels = levels.get(&api.uid).into_iter().flatten();
        let lowest = levels.filter_map(|level| SecurityLevel::parse(level)).min();
        let marks = marks(&api, lowest, client.as_ref());
        let PickedApi { uid, module, id, name, description, .. } = api;
        ApiView { uid, module, id, name, description, marks }
    })))
}

fn marks(api: &PickedApi, lowest: Option<SecurityLevel>, client: Option<&Client>) -> Vec<&'static str> {
    let audience = match api.audience.as_str() {
        "internal" => Audience::Internal,
        "external" => Audience::External,
        _ => Audience::Both,
    };
    let above = |client: &Client| lowest.is_some_and(|lowest| !client.security_level.covers(lowest));
    let marks = [
        ("disabled", !api.enabled),
        ("not_registered", api.source != "registered"),
        ("without_dgrk", !api.no_auth && !api.accepts.split(' ').any(|kind| kind == "dgrk")),
        ("audience", client.is_some_and(|client| !meet(client.audience, audience))),
        ("level", client.is_some_and(above)),
    ];
    marks.into_iter().filter_map(|(mark, holds)| holds.then_some(mark)).collect()
}
