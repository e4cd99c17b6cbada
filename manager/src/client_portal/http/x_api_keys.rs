//! `/client/v1/x-api-keys`: the X-Api-Keys of a client, of which nobody knows the text any more.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use gate::id::{CredentialId, GroupId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::app::App;
use crate::catalog;
use crate::client_portal::sessions::SignedIn;
use crate::http::{Json, Page, Query, Routes, page_cursor, page_limit};
use crate::openapi::schema::{Day, schema_of};
use crate::problem::Problem;
use crate::validity::Validity;
use crate::x_api_keys::{self, Filter, XApiKey};

pub(super) fn routes() -> Routes {
    Routes::of("client_portal").client(routes!(list_x_api_keys))
}

/// Whether an X-Api-Key works.
enum Standing {}

schema_of! { Standing as OwnXApiKeyState: one_of(["not_effective", "active", "expired"]) }

/// An X-Api-Key of the client that asks.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnXApiKey)]
struct OwnXApiKeyView {
    #[schema(value_type = String)]
    id: CredentialId,
    /// What people call it.
    alias: String,
    /// `abc***xyz`
    mask: String,
    #[schema(value_type = Standing)]
    state: &'static str,
    /// First day, in the installation's zone.
    #[schema(value_type = Day)]
    effective_date: String,
    /// Last day.
    #[schema(value_type = Day)]
    expiry_date: String,
    /// Names of the groups of APIs that it opens: those that the client still has.
    groups: Vec<String>,
    /// Last call that a gateway let in, by the minute, UTC ms; null: never.
    last_used_at: Option<i64>,
    /// UTC ms.
    created_at: i64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List one's X-Api-Keys.
#[utoipa::path(get, path = "/client/v1/x-api-keys", params(ListQuery))]
async fn list_x_api_keys(
    State(app): State<App>,
    SignedIn { client, session }: SignedIn,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OwnXApiKeyView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let filter = Filter { client: Some(session.client), ..Filter::default() };
    let mut read = app.db.snapshot().await?;
    let keys = x_api_keys::list(&mut read, &filter, &after, limit).await?;
    let given: BTreeSet<&GroupId> = client.groups.iter().collect();
    let names: BTreeMap<GroupId, String> = catalog::known_groups(&mut read, &client.groups)
        .await?
        .into_iter()
        .map(|group| (group.id, group.name))
        .collect();
    let view = |key: XApiKey| {
        let days = Validity::of_instants(key.validity, &app.config.zone());
        let open = key.groups.iter().filter(|group| given.contains(group));
        OwnXApiKeyView {
            state: key.state(app.now()).name(),
            groups: open.filter_map(|group| names.get(group).cloned()).collect(),
            id: key.id,
            alias: key.alias.as_str().into(),
            mask: key.trace.mask,
            effective_date: days.effective_on().to_string(),
            expiry_date: days.expires_on().to_string(),
            last_used_at: key.last_used_at.map(|at| at.0),
            created_at: key.created_at.0,
        }
    };
    Ok(Json(Page::new(keys, limit, |key| key.id.0.clone()).map(view)))
}
