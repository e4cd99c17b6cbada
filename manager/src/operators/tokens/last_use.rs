//! When a token was used last: written beside the call, which does not wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gate::time::UnixMillis;

use super::model::Token;
use super::store;
use crate::app::App;
use crate::db::DbError;

/// The last use of a token is written this seldom.
const USED_MS: i64 = 60_000;

/// Uses that are being written, by token.
#[derive(Clone, Debug, Default)]
pub struct Uses(Arc<Mutex<BTreeMap<String, UnixMillis>>>);

impl Uses {
    /// As they are now.
    pub(super) fn under_way(&self) -> BTreeMap<String, UnixMillis> {
        self.lock().clone()
    }

    /// False: one of this token is being written already.
    fn begin(&self, token: &str, now: UnixMillis) -> bool {
        let mut uses = self.lock();
        let first = !uses.contains_key(token);
        if first {
            uses.insert(token.into(), now);
        }
        first
    }

    fn end(&self, token: &str) {
        self.lock().remove(token);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, UnixMillis>> {
        // Each change of the map is one step: it is whole whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the use written, once in [`USED_MS`]. A call neither waits nor fails for it: where a long
/// write holds the database, reading goes on.
pub(in crate::operators) fn remember_use(app: &App, token: &Token, now: UnixMillis) {
    let before = UnixMillis(now.0.saturating_sub(USED_MS));
    if token.last_used_at.is_some_and(|at| at > before) || !app.token_uses.begin(&token.id, now) {
        return;
    }
    let (app, id) = (app.clone(), token.id.clone());
    tokio::spawn(async move {
        if let Err(error) = write(&app, &id, before, now).await {
            tracing::warn!(%error, "The last use of token {id} was not written");
        }
        app.token_uses.end(&id);
    });
}

async fn write(app: &App, id: &str, before: UnixMillis, now: UnixMillis) -> Result<(), DbError> {
    let mut tx = app.db.write_aside("operators.token_used").await?;
    store::used(&mut tx, id, before, now).await?;
    tx.commit().await
}
