//! `/client/v1/meters`: what is left of the quotas of a client and of its keys.

use axum::extract::State;
use gate::id::ClientId;
use gate::wire::exchange::MeterKind;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::app::App;
use crate::client_portal::sessions::SignedIn;
use crate::db::{Conn, DbError};
use crate::http::{Json, Page, Query, Routes, page_cursor, page_limit};
use crate::keys::{self, Key, UseQuota};
use crate::openapi::schema::schema_of;
use crate::problem::Problem;
use crate::quotas;
use crate::usage::{self, Forecast};

pub(super) fn routes() -> Routes {
    Routes::of("client_portal").client(routes!(list_meters))
}

/// Where the client's own quota stands in the list: before its keys, whose ids begin `key_`.
const OWN_PLACE: &str = "0";

/// Whose quota it is.
enum Kind {}

schema_of! { Kind as OwnMeterKind: one_of(["client", "key"]) }

/// A quota and what is left of it.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnMeter)]
struct MeterView {
    /// The client's own, or that of a key.
    #[schema(value_type = Kind)]
    kind: &'static str,
    /// Of the client or the key.
    id: String,
    /// What people call it.
    name: String,
    /// null: it is unlimited, and nothing is counted.
    uses: Option<UsesView>,
}

/// What was used of a quota.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnMeterUses)]
pub(super) struct UsesView {
    /// Calls of a window, or in all where it has none.
    limit: u64,
    /// Calls let in or handed to gateways for letting in.
    used: u64,
    /// Of these, calls that gateways hold and have not spent, as far as is known.
    held: u64,
    /// Of these, calls that gateways held which never told what became of them: nobody can use them.
    withheld: u64,
    /// Calls that can still be handed out.
    remaining: u64,
    #[serde(flatten)]
    forecast: Forecast,
    /// `day`, `week`, `month`, or `total`: it never begins again.
    period: &'static str,
    /// First instant of the window, UTC ms; null: it has none.
    window_start: Option<i64>,
    /// First instant of the next one, when all is there again, UTC ms; null: there is none.
    window_end: Option<i64>,
}

impl UsesView {
    /// Of a key; None: it is unlimited.
    pub(super) async fn of_key(app: &App, conn: &mut Conn, key: &Key) -> Result<Option<Self>, DbError> {
        match key.uses {
            UseQuota::Uses(_) => Self::read(app, conn, MeterKind::KeyUses, key.id.as_str()).await,
            UseQuota::Unlimited => Ok(None),
        }
    }

    async fn read(app: &App, conn: &mut Conn, kind: MeterKind, owner: &str) -> Result<Option<Self>, DbError> {
        let now = app.now();
        let Some(meter) = quotas::meter_of(conn, kind, owner).await? else { return Ok(None) };
        let meter = meter.at(now);
        let out = quotas::outstanding(conn, &meter, now).await?;
        Ok(Some(Self {
            limit: meter.in_force(),
            used: meter.debited,
            held: out.leased,
            withheld: out.withheld,
            remaining: meter.remaining(),
            forecast: usage::forecast(app, conn, &meter, out, now).await?,
            period: meter.limit.period.as_str(),
            window_start: meter.window.map(|window| window.start.0),
            window_end: meter.window.map(|window| window.end.0),
        }))
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List one's own quota and those of one's keys that are not revoked, with what is left of each.
#[utoipa::path(get, path = "/client/v1/meters", params(ListQuery))]
async fn list_meters(
    State(app): State<App>,
    SignedIn { client, session }: SignedIn,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<MeterView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = page_cursor(query.cursor.as_deref())?;
    let mut read = app.db.snapshot().await?;
    let mut meters = Vec::new();
    if after.as_str() < OWN_PLACE {
        let uses = UsesView::read(&app, &mut read, MeterKind::ClientQuota, &session.client).await?;
        meters.push(MeterView {
            kind: "client",
            id: session.client.clone(),
            name: client.display_name,
            uses,
        });
    }
    for key in keys::live_of(&mut read, &ClientId(session.client), &after, limit + 1).await? {
        let uses = UsesView::of_key(&app, &mut read, &key).await?;
        meters.push(MeterView { kind: "key", name: key.name.as_str().into(), id: key.id.0, uses });
    }
    let place = |meter: &MeterView| match meter.kind {
        "client" => OWN_PLACE.to_owned(),
        _ => meter.id.clone(),
    };
    Ok(Json(Page::new(meters, limit, place)))
}
