//! `/api/v1/gateways`, and the door of `/gateway/v1`.

use axum::extract::{FromRequestParts, State};
use axum::http::header;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions::{self, GatewayError, Issued, Overview, Stranger};
use super::model::{Envoy, Gateway, GatewayName};
use crate::app::App;
use crate::http::{Actor, Added, Confidential, Json, NoContent, Page, Path, Permission, Routes};
use crate::problem::Problem;

/// `/api/v1/gateways`
pub fn routes() -> Routes {
    Routes::of("gateways")
        .permitted(&[Permission::GatewaysRead], routes!(list))
        .permitted(&[Permission::GatewaysWrite], routes!(add))
        .permitted(&[Permission::GatewaysWrite], routes!(rotate))
        .permitted(&[Permission::GatewaysWrite], routes!(revoke))
}

/// The gateway that a call of `/gateway/v1` comes from: its token was checked.
#[derive(Clone, Debug)]
pub struct FromGateway(pub Gateway);

impl FromRequestParts<App> for FromGateway {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        Ok(Self(actions::authenticate(app, token).await?))
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGateway {
    #[schema(value_type = GatewayName)]
    name: String,
}

/// A gateway. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Gateway)]
struct ShownGateway {
    id: String,
    name: String,
    created_at: i64,
    tokens: Vec<ShownToken>,
    envoys: Vec<ShownEnvoy>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = GatewayToken)]
struct ShownToken {
    id: String,
    created_at: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Envoy)]
struct ShownEnvoy {
    holder: String,
    first_seen_at: i64,
    last_seen_at: i64,
    filter_version: String,
    directory_revision: u64,
    feed_revision: u64,
    /// Changes that it had not heard of when it was last seen, as of now.
    feed_lag: u64,
    leases_held: u32,
}

/// The only answer that holds a token.
#[derive(Serialize, ToSchema)]
#[schema(as = IssuedGatewayToken)]
struct ShownOnce {
    gateway: String,
    name: String,
    token_id: String,
    token: String,
}

/// Show all gateways, their live tokens, and the Envoys seen last.
#[utoipa::path(get, path = "/api/v1/gateways")]
async fn list(State(app): State<App>) -> Result<Json<Page<ShownGateway>>, Problem> {
    let overview = actions::overview(&app).await?;
    // There are few gateways: one page holds them all.
    Ok(Json(Page { items: overview.into_shown(), next: None }))
}

/// Register a gateway; its token is shown this once.
#[utoipa::path(post, path = "/api/v1/gateways", responses(
    (status = 409, description = "`gateway_name_taken`"),
))]
async fn add(
    State(app): State<App>,
    actor: Actor,
    Json(new): Json<NewGateway>,
) -> Result<Confidential<Added<Json<ShownOnce>>>, Problem> {
    let issued = actions::add(&app, &new.name, &actor.audit_name()).await?;
    Ok(Confidential(Added(Json(issued.into()))))
}

/// Issue a second token, shown this once.
#[utoipa::path(post, path = "/api/v1/gateways/{gateway}/tokens", responses(
    (status = 409, description = "`too_many_gateway_tokens`"),
))]
async fn rotate(
    State(app): State<App>,
    actor: Actor,
    Path(gateway): Path<String>,
) -> Result<Confidential<Added<Json<ShownOnce>>>, Problem> {
    let issued = actions::rotate(&app, &gateway, &actor.audit_name()).await?;
    Ok(Confidential(Added(Json(issued.into()))))
}

/// End a token; the next call that shows it is refused.
#[utoipa::path(delete, path = "/api/v1/gateways/{gateway}/tokens/{token}")]
async fn revoke(
    State(app): State<App>,
    actor: Actor,
    Path((gateway, token)): Path<(String, String)>,
) -> Result<NoContent, Problem> {
    actions::revoke(&app, &gateway, &token, &actor.audit_name()).await?;
    Ok(NoContent)
}

impl From<Issued> for ShownOnce {
    fn from(issued: Issued) -> Self {
        Self {
            gateway: issued.gateway.id,
            name: issued.gateway.name,
            token_id: issued.token_id,
            token: issued.token.reveal().into(),
        }
    }
}

impl Overview {
    fn into_shown(self) -> Vec<ShownGateway> {
        let Self { gateways, tokens, envoys, head } = self;
        gateways
            .into_iter()
            .map(|gateway| ShownGateway {
                tokens: tokens
                    .iter()
                    .filter(|token| token.gateway == gateway.id)
                    .map(|token| ShownToken { id: token.id.clone(), created_at: token.created_at.0 })
                    .collect(),
                envoys: envoys
                    .iter()
                    .filter(|envoy| envoy.gateway == gateway.id)
                    .map(|envoy| shown(envoy, head.revision.0))
                    .collect(),
                id: gateway.id,
                name: gateway.name,
                created_at: gateway.created_at.0,
            })
            .collect()
    }
}

fn shown(envoy: &Envoy, head: u64) -> ShownEnvoy {
    ShownEnvoy {
        holder: envoy.holder.clone(),
        first_seen_at: envoy.first_seen_at.0,
        last_seen_at: envoy.last_seen_at.0,
        filter_version: envoy.filter_version.clone(),
        directory_revision: envoy.directory.0,
        feed_revision: envoy.feed.0,
        feed_lag: head.saturating_sub(envoy.feed.0),
        leases_held: envoy.leases_held,
    }
}

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        let detail = error.to_string();
        match error {
            GatewayError::Name => Self::invalid("name", detail),
            GatewayError::NameTaken { .. } => Self::conflict("gateway_name_taken", detail).field("name"),
            GatewayError::NotFound { .. } | GatewayError::NoSuchToken { .. } => Self::not_found(detail),
            GatewayError::TooManyTokens { .. } => Self::conflict("too_many_gateway_tokens", detail),
            GatewayError::Db(error) => error.into(),
        }
    }
}

impl From<Stranger> for Problem {
    fn from(stranger: Stranger) -> Self {
        let detail = stranger.to_string();
        match stranger {
            Stranger::NoToken | Stranger::WrongToken => Self::unauthenticated(detail).field("Authorization"),
            Stranger::OthersHolder => Self::forbidden(detail).field("holder"),
            Stranger::Db(error) => error.into(),
        }
    }
}
