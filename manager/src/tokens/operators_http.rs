//! `/api/v1/clients/{id}/tokens` and `/api/v1/tokens`: what operators see of tokens, and end.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::endings::Counts;
use super::inspection::remaining_uses;
use super::model::{Ending, Token};
use super::{endings, store};
use crate::app::App;
use crate::clients;
use crate::clients::token_settings::GrantType;
use crate::db::{Conn, DbError};
use crate::http::{
    Actor, Json, NoContent, Page, Path, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit,
};
use crate::problem::Problem;

/// Listed, shown, revoked.
pub(super) fn routes() -> Routes {
    Routes::of("tokens")
        .permitted(&[Permission::TokensRead], routes!(list_tokens))
        .permitted(&[Permission::TokensRead], routes!(show_token))
        .permitted(&[Permission::TokensWrite], routes!(revoke_token))
        .permitted(&[Permission::TokensWrite], routes!(revoke_tokens))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// An access token, without its text. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessToken)]
struct View {
    /// Its `jti`, and the credential in usage and decisions.
    id: String,
    client: String,
    /// Null: it is for the client itself.
    user: Option<String>,
    #[schema(value_type = GrantType)]
    grant_type: &'static str,
    /// Group ids, as of its issue.
    scope: Vec<String>,
    issued_at: i64,
    expires_at: i64,
    /// 0 = unlimited.
    uses: u32,
    /// Null: they are not counted. What a gateway holds for calls to come is not left.
    remaining_uses: Option<u64>,
    /// Null: nobody has ended it before its time.
    ended_at: Option<i64>,
    /// By its revocation, by another that took its place (refresh), by reuse of its refresh token; because what its
    /// user had allowed was taken back, its user was stopped or got another password, its key was withdrawn.
    #[schema(value_type = Option<Ending>)]
    ended_by: Option<&'static str>,
    /// The refresh token that it belongs to.
    refresh_token_id: Option<String>,
}

/// Where a page of tokens begins: before one of them, the newest first.
pub struct Place {
    at: UnixMillis,
    id: String,
}

impl Place {
    /// The beginning.
    pub fn newest() -> Self {
        Self { at: UnixMillis(i64::MAX), id: String::new() }
    }

    /// Before that token.
    pub fn cursor(token: &Token) -> String {
        format!("{} {}", token.issued_at.0, token.id)
    }

    /// What [`Self::cursor`] wrote; of nothing, the beginning.
    pub fn parse(cursor: &str) -> Result<Self, Problem> {
        match cursor.split_once(' ') {
            Some((at, id)) => {
                Ok(Self { at: UnixMillis(at.parse().map_err(|_| foreign_cursor())?), id: id.into() })
            }
            None if cursor.is_empty() => Ok(Self::newest()),
            None => Err(foreign_cursor()),
        }
    }

    /// When the token was issued, and its id.
    pub fn as_pair(&self) -> (UnixMillis, &str) {
        (self.at, &self.id)
    }
}

async fn shown(conn: &mut Conn, token: Token) -> Result<View, DbError> {
    let remaining_uses = remaining_uses(conn, &token).await?;
    Ok(View {
        id: token.id,
        client: token.client,
        user: token.user,
        grant_type: token.grant.as_str(),
        scope: token.scope.iter().map(|group| group.as_str().to_owned()).collect(),
        issued_at: token.issued_at.0,
        expires_at: token.expires_at.0,
        uses: token.uses,
        remaining_uses,
        ended_at: token.ended.map(|(at, _)| at.0),
        ended_by: token.ended.map(|(_, why)| why.as_str()),
        refresh_token_id: token.family,
    })
}

/// List a client's access tokens, newest first.
///
/// Those whose time ended `token_retention_h` ago are forgotten.
#[utoipa::path(get, path = "/api/v1/clients/{id}/tokens", params(ListQuery))]
async fn list_tokens(
    State(app): State<App>,
    Path(client): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<View>>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = Place::parse(&page_cursor(query.cursor.as_deref())?)?;
    let mut read = app.db.snapshot().await?;
    if clients::by_id(&mut read, &client).await?.is_none() {
        return Err(Problem::not_found(format!("no client has the id {client}")));
    }
    let tokens = store::of_client(&mut read, &client, before.as_pair(), limit + 1).await?;
    let page = Page::new(tokens, limit, Place::cursor);
    let mut items = Vec::with_capacity(page.items.len());
    for token in page.items {
        items.push(shown(&mut read, token).await?);
    }
    Ok(Json(Page { items, next: page.next }))
}

async fn load(conn: &mut Conn, id: &str) -> Result<Token, Problem> {
    let token = store::by_id(conn, id).await?;
    token.ok_or_else(|| Problem::not_found(format!("no access token has the id {id}")))
}

/// Show an access token.
#[utoipa::path(get, path = "/api/v1/tokens/{id}")]
async fn show_token(State(app): State<App>, Path(id): Path<String>) -> Result<Json<View>, Problem> {
    let mut read = app.db.snapshot().await?;
    let token = load(&mut read, &id).await?;
    Ok(Json(shown(&mut read, token).await?))
}

/// Revoke an access token.
///
/// Gateways refuse it within a second. Where a refresh token goes with it, that ends too, with all access tokens
/// that came from it. What has ended stays as it is.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}")]
async fn revoke_token(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<NoContent, Problem> {
    let token = load(&mut *app.db.read().await?, &id).await?;
    endings::revoke_with_family(&app, &token, &actor.audit_name()).await?;
    Ok(NoContent)
}

/// What was revoked.
#[derive(Serialize, ToSchema)]
struct RevokedTokens {
    access_tokens: u64,
    refresh_tokens: u64,
}

/// Revoke all tokens of a client.
///
/// For a client whose password is known to others: another password ends none of the tokens that were obtained by
/// the one before. Gateways refuse them within a second.
#[utoipa::path(delete, path = "/api/v1/clients/{id}/tokens")]
async fn revoke_tokens(
    State(app): State<App>,
    actor: Actor,
    Path(client): Path<String>,
) -> Result<Json<RevokedTokens>, Problem> {
    if clients::by_id(&mut *app.db.snapshot().await?, &client).await?.is_none() {
        return Err(Problem::not_found(format!("no client has the id {client}")));
    }
    let Counts { access_tokens, refresh_tokens } =
        endings::revoke_all_of_client(&app, &client, &actor.audit_name()).await?;
    Ok(Json(RevokedTokens { access_tokens, refresh_tokens }))
}
