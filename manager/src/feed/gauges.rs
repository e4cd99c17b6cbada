//! What `/metrics` tells of the feed and the ledger, as they stand in the database.

use std::fmt::Write as _;

use crate::app::App;
use crate::db::DbError;
use crate::telemetry::series;
use crate::{changes, gateways, quotas};

/// Envoys that were seen within this count.
const SEEN_MS: i64 = 60_000;

/// As gauges in Prometheus' text format.
pub async fn gauges(app: &App) -> Result<String, DbError> {
    let now = app.now();
    let mut read = app.db.snapshot().await?;
    let head = changes::head(&mut read).await?.revision;
    let out = quotas::outstanding_in_all(&mut read, now).await?;
    let since = gate::time::UnixMillis(now.0 - SEEN_MS);
    let gateways = gateways::seen_since(&mut read, since).await?;
    let mut text = String::new();
    for (name, value) in [
        ("keygate_feed_revision", head.0),
        ("keygate_leased_units", out.leased),
        ("keygate_withheld_units", out.withheld),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
    }
    for (name, value) in [
        ("keygate_gateway_envoys", (|seen| seen.envoys) as fn(&gateways::Seen) -> u64),
        ("keygate_gateway_leases_held", |seen| seen.leases_held),
    ] {
        let _ = writeln!(text, "# TYPE {name} gauge");
        for seen in &gateways {
            let _ = writeln!(text, "{} {}", series(name, &[("gateway", &seen.gateway)]), value(seen));
        }
    }
    let name = "keygate_gateway_feed_lag";
    let _ = writeln!(text, "# TYPE {name} gauge");
    for seen in &gateways {
        let lag = head.0.saturating_sub(seen.feed.0);
        let _ = writeln!(text, "{} {lag}", series(name, &[("gateway", &seen.gateway)]));
    }
    Ok(text)
}
