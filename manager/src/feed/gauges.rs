//! What `/metrics` tells of the feed and the ledger, as they stand in the database.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use gate::time::UnixMillis;
use tokio::sync::Mutex;

use crate::app::App;
use crate::db::DbError;
use crate::telemetry::series;
use crate::{changes, gateways, quotas};

/// Envoys that were seen within this count.
const SEEN_MS: i64 = 60_000;

/// For so long they are told again as they were read: reading them looks at every lease, and whoever asks
/// often must not cost more than who asks seldom.
const KEPT_MS: i64 = 10_000;
/// A database that takes longer has more important things to do.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long writers are waited for, whose numbers then are of a moment before.
const WRITE_PATIENCE: Duration = Duration::from_millis(500);

/// What was read last, and when. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges(Arc<Mutex<Option<(UnixMillis, String)>>>);

/// As gauges in Prometheus' text format. None where the database does not tell in time.
pub async fn gauges(app: &App) -> String {
    let now = app.now();
    // Whoever comes while they are read waits for the same.
    let mut kept = app.feed.gauges.0.lock().await;
    match &*kept {
        Some((read_at, text)) if (0..KEPT_MS).contains(&(now.0 - read_at.0)) => text.clone(),
        Some(_) | None => {
            let text = match tokio::time::timeout(PATIENCE, read(app, now)).await {
                Ok(Ok(text)) => text,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "/metrics is without the gauges of leases and gateways");
                    String::new()
                }
                Err(_) => {
                    tracing::warn!(
                        "/metrics is without the gauges of leases and gateways: they take too long to read"
                    );
                    String::new()
                }
            };
            *kept = Some((now, text.clone()));
            text
        }
    }
}

async fn read(app: &App, now: UnixMillis) -> Result<String, DbError> {
    // What can be read is told also while nothing can be written.
    let _ = tokio::time::timeout(WRITE_PATIENCE, gateways::note_waiting(app)).await;
    let mut read = app.db.snapshot().await?;
    let head = changes::head(&mut read).await?.revision;
    let out = quotas::outstanding_in_all(&mut read, now).await?;
    let since = UnixMillis(now.0 - SEEN_MS);
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
