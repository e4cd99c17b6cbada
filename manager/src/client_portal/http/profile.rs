//! `/client/v1/profile`

use gate::wire::directory::Audience;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::catalog::SecurityLevel;
use crate::client_portal::sessions::SignedIn;
use crate::clients::service_time::ServiceTime;
use crate::http::{Json, Routes};
use crate::openapi::wire;

pub(super) fn routes() -> Routes {
    Routes::of("client_portal").client(routes!(show_profile))
}

/// What a client is told about itself.
#[derive(Serialize, ToSchema)]
#[schema(as = ClientProfile)]
struct ProfileView {
    /// What it signs in with.
    id: String,
    /// Its code.
    name: String,
    /// What people call it.
    display_name: String,
    /// Where its mails go.
    emails: Vec<String>,
    /// Which groups of APIs it may be given.
    security_level: SecurityLevel,
    /// From which side it may call.
    #[schema(value_type = wire::Audience)]
    audience: Audience,
    /// First day, `yyyy-MM-dd` in `time_zone`; null: always.
    start_date: Option<String>,
    /// Last day; null: always.
    expiry_date: Option<String>,
    /// First minute of each day at which its calls are let in, `HH:mm`; null: all day.
    service_from: Option<String>,
    /// Last minute of each day; null: all day.
    service_until: Option<String>,
    /// IANA name.
    time_zone: String,
    /// From where it may call: addresses, blocks and host names; none: from everywhere.
    addresses: Vec<String>,
    /// Requests per second and node; 0: unlimited.
    tps: u32,
    /// UTC ms.
    created_at: i64,
}

/// Show what is on record about oneself.
#[utoipa::path(get, path = "/client/v1/profile")]
async fn show_profile(SignedIn { client, .. }: SignedIn) -> Json<ProfileView> {
    Json(ProfileView {
        id: client.id.as_str().into(),
        name: client.name.as_str().into(),
        emails: client.emails.iter().map(|email| email.as_str().to_owned()).collect(),
        start_date: client.dates.map(|dates| dates.start.to_string()),
        expiry_date: client.dates.map(|dates| dates.expiry.to_string()),
        service_from: client.service_time.map(|times| ServiceTime::clock(times.from)),
        service_until: client.service_time.map(|times| ServiceTime::clock(times.until)),
        time_zone: client.zone.name().into(),
        addresses: client.bindings.into_iter().map(|binding| binding.address).collect(),
        display_name: client.display_name,
        security_level: client.security_level,
        audience: client.audience,
        tps: client.tps,
        created_at: client.created_at.0,
    })
}
