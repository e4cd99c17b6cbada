//! Which Envoys were here, written down together: each of hundreds of them calls several times a second,
//! and a transaction of each for itself would take the disk from the leases.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gate::id::HolderId;
use gate::time::UnixMillis;

use super::actions::Stranger;
use super::model::{Gateway, Sighting};
use super::store::{self, SEEN_EVERY_MS};
use crate::app::App;
use crate::db::DbError;

/// How long a sighting waits for others.
const GATHER: Duration = Duration::from_millis(250);
/// Envoys that a process knows at most; then it asks the database for each once more.
const MAX_KNOWN: usize = 10_000;

/// What this process knows of the Envoys that call it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Sightings(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    /// Whose each is, which never changes, and when it was noted last.
    known: HashMap<HolderId, (String, UnixMillis)>,
    /// What is to be written down: gateway, sighting and when it was.
    waiting: BTreeMap<HolderId, (String, Sighting, UnixMillis)>,
}

impl Sightings {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn know(&mut self, holder: HolderId, gateway: &str, noted_at: UnixMillis) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(holder, (gateway.to_owned(), noted_at));
    }
}

/// Notes that an Envoy of `gateway` was here, and refuses one that another gateway has named. The first
/// time it is written down before this returns, and bound to its gateway; later with others, soon.
pub async fn see(app: &App, gateway: &Gateway, seen: &Sighting) -> Result<(), Stranger> {
    let now = app.now();
    let known = app.sightings.held().known.get(&seen.holder).cloned();
    let known = match known {
        Some(known) => Some(known),
        None => on_record(app, seen.holder).await?,
    };
    let Some((owner, noted_at)) = known else {
        let first = [(gateway.id.clone(), seen.clone(), now)];
        if write(app, &first, now).await? == 0 {
            return Err(Stranger::OthersHolder);
        }
        app.sightings.held().know(seen.holder, &gateway.id, now);
        return Ok(());
    };
    if owner != gateway.id {
        return Err(Stranger::OthersHolder);
    }
    if now.0 < noted_at.0 + SEEN_EVERY_MS {
        return Ok(());
    }
    let is_first = {
        let mut held = app.sightings.held();
        held.know(seen.holder, &gateway.id, now);
        held.waiting.insert(seen.holder, (gateway.id.clone(), seen.clone(), now));
        held.waiting.len() == 1
    };
    if is_first {
        let app = app.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            note_waiting(&app).await;
        });
    }
    Ok(())
}

/// Whose it is, and when it was noted last. The connection is given back before anything is written.
async fn on_record(app: &App, holder: HolderId) -> Result<Option<(String, UnixMillis)>, DbError> {
    let known = store::holder(&mut *app.db.read().await?, &holder.to_string()).await?;
    if let Some((owner, noted_at)) = &known {
        app.sightings.held().know(holder, owner, *noted_at);
    }
    Ok(known)
}

/// Writes down what waits, also where the caller does not wait for it. Where that fails it is lost, and told
/// by the next sighting: nothing else depends on it, least of all what gateways are answered.
pub async fn note_waiting(app: &App) {
    let app = app.clone();
    let noted = tokio::spawn(async move {
        let waiting = std::mem::take(&mut app.sightings.held().waiting);
        if waiting.is_empty() {
            return;
        }
        // In the order of their ids, as every replica locks them.
        let waiting: Vec<_> = waiting.into_values().collect();
        if let Err(error) = write(&app, &waiting, app.now()).await {
            tracing::warn!(%error, "{} Envoys were here, which could not be noted", waiting.len());
        }
    });
    if let Err(error) = noted.await {
        tracing::error!(%error, "Noting which Envoys were here has died");
    }
}

/// How many are noted: not those of another gateway.
async fn write(
    app: &App,
    sightings: &[(String, Sighting, UnixMillis)],
    now: UnixMillis,
) -> Result<usize, DbError> {
    let mut write = app.db.write("gateways.see").await?;
    let mut noted = 0;
    for (gateway, seen, at) in sightings {
        noted += usize::from(store::see(&mut write, gateway, seen, *at).await?);
    }
    store::forget_unseen(&mut write, now).await?;
    write.commit().await?;
    Ok(noted)
}
