//! `/client/v1/tokens`: the access tokens of a client that live, without their text.

use std::collections::BTreeMap;

use axum::extract::State;
use gate::id::GroupId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::app::App;
use crate::catalog;
use crate::client_portal::sessions::SignedIn;
use crate::clients::{scopes, token_settings::GrantType};
use crate::http::{Json, NoContent, Page, Path, Query, Routes, page_cursor, page_limit};
use crate::problem::Problem;
use crate::tokens::{self, Place};

pub(super) fn routes() -> Routes {
    Routes::of("client_portal").client(routes!(list_tokens)).client(routes!(revoke_token))
}

/// An access token of the client that asks. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnToken)]
struct OwnTokenView {
    /// Its `jti`.
    id: String,
    #[schema(value_type = GrantType)]
    grant_type: &'static str,
    /// On whose behalf; null: the client's own.
    user: Option<String>,
    /// Names of the groups and scopes that it opens: of those of its issue, the ones that the client still has.
    groups: Vec<String>,
    issued_at: i64,
    expires_at: i64,
    /// 0 = unlimited.
    uses: u32,
    /// Null: they are not counted. What a gateway holds for calls to come is not left.
    remaining_uses: Option<u64>,
    /// The refresh token that it belongs to; null: none.
    refresh_token_id: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List one's access tokens that live, newest first.
#[utoipa::path(get, path = "/client/v1/tokens", params(ListQuery))]
async fn list_tokens(
    State(app): State<App>,
    SignedIn { client, session }: SignedIn,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OwnTokenView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = Place::parse(&page_cursor(query.cursor.as_deref())?)?;
    let (now, mut read) = (app.now(), app.db.snapshot().await?);
    let own = tokens::live_of_client(&mut read, &session.client, now, before.as_pair(), limit + 1).await?;
    let page = Page::new(own, limit, Place::cursor);
    let mut given = catalog::known_groups(&mut read, &client.groups).await?;
    given.extend(scopes::of_client(&mut read, &session.client).await?);
    let names: BTreeMap<GroupId, String> = given.into_iter().map(|group| (group.id, group.name)).collect();
    let mut items = Vec::with_capacity(page.items.len());
    for token in page.items {
        items.push(OwnTokenView {
            remaining_uses: tokens::remaining_uses(&mut read, &token).await?,
            groups: token.scope.iter().filter_map(|group| names.get(group).cloned()).collect(),
            id: token.id,
            grant_type: token.grant.as_str(),
            user: token.user,
            issued_at: token.issued_at.0,
            expires_at: token.expires_at.0,
            uses: token.uses,
            refresh_token_id: token.family,
        });
    }
    Ok(Json(Page { items, next: page.next }))
}

/// Revoke an access token of one's own.
///
/// Gateways refuse it within a second. The refresh token that it belongs to goes with it, and all that came
/// from that. One that has ended stays as it is.
#[utoipa::path(delete, path = "/client/v1/tokens/{id}")]
async fn revoke_token(
    State(app): State<App>,
    caller: SignedIn,
    Path(id): Path<String>,
) -> Result<NoContent, Problem> {
    let by = caller.audit_name();
    match tokens::revoke_own(&app, &caller.session.client, &id, &by).await? {
        true => Ok(NoContent),
        // Another one's is as unknown as one that is not.
        false => Err(Problem::not_found(format!("no access token has the id {id}"))),
    }
}
