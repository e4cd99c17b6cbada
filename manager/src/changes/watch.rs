//! Waiting for a change: one look at the database serves every long poll of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gate::id::Revision;
use tokio::sync::Mutex;

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
}

#[derive(Clone, Copy, Debug)]
struct Look {
    number: u64,
    head: Head,
}

impl Watch {
    /// Returns the head as soon as it lies beyond `since`, or after `wait` as it then is.
    pub async fn beyond(&self, db: &Db, since: Revision, wait: Duration) -> Result<Head, DbError> {
        let waiting = async {
            loop {
                // Listens before it looks, so that no commit falls between the two.
                let committed = db.committed();
                tokio::pin!(committed);
                committed.as_mut().enable();
                let head = self.look(db).await?;
                if head.revision > since {
                    return Ok(head);
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = committed => tokio::time::sleep(GATHER).await,
                }
            }
        };
        match tokio::time::timeout(wait, waiting).await {
            Ok(head) => head,
            Err(_) => self.look(db).await,
        }
    }

    /// The head as of this call or later, read once for all who ask meanwhile.
    async fn look(&self, db: &Db) -> Result<Head, DbError> {
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
