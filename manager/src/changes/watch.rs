//! Waiting for a change: one look at the database serves every long poll of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gate::id::Revision;
use tokio::sync::{Mutex, watch};

use super::store::{self, Head};
use crate::db::{Db, DbError};

/// How often a waiting poll looks for what another process has committed: a tenth of the second
/// within which a revocation holds everywhere.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a commit of this process is left to gather company before the look.
const GATHER: Duration = Duration::from_millis(2);

/// Shared by the long polls of one process. Clones are the same watch.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Looks>);

#[derive(Debug, Default)]
struct Looks {
    begun: AtomicU64,
    latest: Mutex<Option<Look>>,
    /// What the task that looks for all waiting polls saw last. A commit that changes nothing here, as most
    /// do, wakes it alone, and not hundreds of polls.
    seen: watch::Sender<Option<Head>>,
    /// That task runs.
    looking: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    number: u64,
    head: Head,
}

/// The task that looks for all has ended, however it did.
struct Looking(Arc<Looks>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking.store(false, Ordering::SeqCst);
    }
}

impl Watch {
    /// Returns the head as soon as it lies beyond `since`, or after `wait` as it then is.
    pub async fn beyond(&self, db: &Db, since: Revision, wait: Duration) -> Result<Head, DbError> {
        // Listens before it looks, so that nothing falls between the two.
        let mut seen = self.0.seen.subscribe();
        let head = self.head(db).await?;
        if head.revision > since {
            return Ok(head);
        }
        self.look_for_all(db);
        // What was seen last may be of before a restore.
        let beyond =
            |seen: &Option<Head>| seen.is_some_and(|seen| seen.epoch == head.epoch && seen.revision > since);
        let found = tokio::time::timeout(wait, seen.wait_for(beyond)).await;
        match found.ok().and_then(Result::ok).and_then(|seen| *seen) {
            Some(head) => Ok(head),
            None => self.head(db).await,
        }
    }

    /// Sees to it that somebody looks as long as polls wait.
    fn look_for_all(&self, db: &Db) {
        if self.0.looking.swap(true, Ordering::SeqCst) {
            return;
        }
        let (watch, db) = (self.clone(), db.clone());
        tokio::spawn(async move {
            loop {
                let looking = Looking(watch.0.clone());
                while watch.0.seen.receiver_count() > 0 {
                    watch.look_once(&db).await;
                }
                drop(looking);
                // A poll may have come that took this task for running.
                if watch.0.seen.receiver_count() == 0 || watch.0.looking.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        });
    }

    /// Tells the waiting polls what there is now, and returns when it is worth looking again.
    async fn look_once(&self, db: &Db) {
        let committed = db.committed();
        tokio::pin!(committed);
        committed.as_mut().enable();
        // Where the database does not answer, each poll finds out for itself.
        if let Ok(head) = self.head(db).await {
            self.0.seen.send_if_modified(|seen| seen.replace(head) != Some(head));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = committed => tokio::time::sleep(GATHER).await,
        }
    }

    /// The head as of this call or later, read once for all who ask meanwhile.
    pub async fn head(&self, db: &Db) -> Result<Head, DbError> {
        let begun_before = self.0.begun.load(Ordering::SeqCst);
        let mut latest = self.0.latest.lock().await;
        if let Some(look) = *latest
            && look.number > begun_before
        {
            return Ok(look.head);
        }
        let number = self.0.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let head = store::head(&mut *db.read().await?).await?;
        *latest = Some(Look { number, head });
        Ok(head)
    }
}
