//! `/api/v1/operators/{id}/tokens`.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, IssuedToken, NewToken};
use super::model::Token;
use crate::app::App;
use crate::http::{Added, Confidential, Json, NoContent, Page, Path, Permission, Routes};
use crate::operators::actor::{Actor, By};
use crate::operators::http::{OWN, require_own_or_manage};
use crate::problem::Problem;

/// Everything about API tokens.
pub(in crate::operators) fn routes() -> Routes {
    Routes::of("operators")
        .decided(OWN, routes!(list_tokens, issue_token))
        .decided(OWN, routes!(revoke_token))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenCreate)]
struct Issue {
    /// What uses the token.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it is limited to; absent: all that the roles permit, at each call where it is one's own,
    /// now where it is somebody else's.
    #[schema(value_type = Option<Vec<Permission>>)]
    permissions: Option<Vec<String>>,
    /// Last instant, UTC ms; absent: as far away as `api_token_ttl_s` allows.
    expires_at: Option<i64>,
}

/// An API token just issued: the only answer that shows its text.
#[derive(Serialize, ToSchema)]
#[schema(as = IssuedToken)]
struct IssuedTokenView {
    id: String,
    /// To be presented as `Authorization: Bearer <token>`.
    token: String,
    /// UTC ms; null: until revoked.
    expires_at: Option<i64>,
}

/// Issue an API token.
///
/// It does not go further, nor last longer, than the token that the call presents.
#[utoipa::path(post, path = "/api/v1/operators/{id}/tokens", responses(
    (status = 409, description = "`too_many_tokens`"),
))]
async fn issue_token(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    Json(body): Json<Issue>,
) -> Result<Confidential<Added<Json<IssuedTokenView>>>, Problem> {
    require_own_or_manage(&actor, &id)?;
    let new =
        NewToken { name: body.name, scope: body.permissions, expires_at: body.expires_at.map(UnixMillis) };
    let IssuedToken { id, text, expires_at } =
        actions::issue_api_token(&app, By::Operator(&actor), &id, new).await?;
    Ok(Confidential(Added(Json(IssuedTokenView {
        id,
        token: text.as_str().to_string(),
        expires_at: expires_at.map(|at| at.0),
    }))))
}

/// An API token, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
struct TokenView {
    id: String,
    name: String,
    /// What it is limited to; null: it does all that the roles permit.
    #[schema(value_type = Option<Vec<Permission>>)]
    permissions: Option<Vec<&'static str>>,
    /// UTC ms.
    created_at: i64,
    /// Last instant, UTC ms; null: until revoked.
    expires_at: Option<i64>,
    /// To the minute, UTC ms; null: never.
    last_used_at: Option<i64>,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            permissions: token.scope.map(|scope| scope.iter().map(|one| one.as_str()).collect()),
            created_at: token.created_at.0,
            expires_at: token.expires_at.map(|at| at.0),
            last_used_at: token.last_used_at.map(|at| at.0),
        }
    }
}

/// List an operator's API tokens, oldest first.
///
/// One that has run out is listed for a day.
#[utoipa::path(get, path = "/api/v1/operators/{id}/tokens")]
async fn list_tokens(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<Page<TokenView>>, Problem> {
    require_own_or_manage(&actor, &id)?;
    let items = actions::list(&app, &id).await?.into_iter().map(TokenView::from).collect();
    Ok(Json(Page { items, next: None }))
}

/// Revoke an API token.
#[utoipa::path(delete, path = "/api/v1/operators/{id}/tokens/{token}")]
async fn revoke_token(
    State(app): State<App>,
    actor: Actor,
    Path((id, token)): Path<(String, String)>,
) -> Result<NoContent, Problem> {
    require_own_or_manage(&actor, &id)?;
    actions::revoke(&app, By::Operator(&actor), &id, &token).await?;
    Ok(NoContent)
}
