//! Switches APIs on and off at the moments planned for it.

use std::time::Duration;

use super::actions::{change, directory_changed, record, save};
use super::store;
use crate::app::App;
use crate::catalog::error::CatalogError;
use crate::catalog::held::hold;
use crate::jobs::Jobs;

/// How often it is looked whether a moment has come: gates follow within a second of it.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// APIs switched in one transaction at most.
const MAX_TURNS: i64 = 200;

/// What runs in every replica.
pub fn start_jobs(jobs: &mut Jobs) {
    jobs.every("api_turns", LOOK_EVERY, |app| async move {
        while take_turns(&app).await? {}
        Ok(())
    });
}

/// Switches APIs whose moment has come; true: there may be more. Of several replicas the first
/// switches, and the others find nothing left once they hold the catalogue.
pub async fn take_turns(app: &App) -> Result<bool, CatalogError> {
    let now = app.now();
    if store::due(&mut *app.db.read().await?, now, 1).await?.is_empty() {
        return Ok(false);
    }
    let mut tx = app.db.write("catalog.take_turns").await?;
    let mut held = hold(&mut tx).await?;
    let due = store::due(&mut tx, now, MAX_TURNS).await?;
    let more = i64::try_from(due.len()).is_ok_and(|count| count == MAX_TURNS);
    let (mut altered, mut taken) = (Vec::new(), Vec::new());
    for before in due {
        let mut api = before.clone();
        let turns = api.take_turns(now);
        save(&mut tx, &mut held, &before, &mut api, now).await?;
        if before.entry() != api.entry() {
            altered.push(api.uid.clone());
        }
        taken.push((before, api, turns));
    }
    directory_changed(&mut tx, &altered, now).await?;
    for (before, api, turns) in taken {
        for turn in turns {
            let action = if turn.enabled { "catalog.enable_api" } else { "catalog.disable_api" };
            let mut detail = change(&before, &api);
            detail["planned_at"] = turn.planned_at.0.into();
            record(&mut tx, "system", action, &api, detail, now).await?;
        }
    }
    tx.commit().await?;
    Ok(more)
}
