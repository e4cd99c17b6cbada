//! What is done with the trail besides recording it.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::chain::{Anchor, Follower, Verification};
use super::store;
use crate::app::App;
use crate::db::DbError;

/// What the calls that verify the trail share: it takes long and reads everything, so that they take
/// turns in this process.
#[derive(Clone, Debug)]
pub struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turn {
    /// Held until dropped. None: it is another one's.
    pub(super) fn take(&self) -> Option<SemaphorePermit<'_>> {
        self.0.try_acquire().ok()
    }
}

/// Follows the chain from its first entry to what is its end now, past the anchor if one is given.
///
/// Each page is read by itself, so that no transaction lasts as long as the trail is. They make one
/// picture all the same: what is on record up to the end as it is at first never changes again.
pub(super) async fn verify(app: &App, anchor: Option<&Anchor>) -> Result<Verification, DbError> {
    let mut conn = app.db.snapshot().await?;
    let (head, hash) = store::head(&mut conn).await?;
    let last = store::last(&mut conn).await?;
    drop(conn);
    let mut follower = Follower::new(anchor);
    let mut after = i64::MIN;
    'trail: loop {
        let links = store::page(&mut *app.db.read().await?, after, last).await?;
        if links.is_empty() {
            break;
        }
        for link in links {
            after = link.seq;
            if !follower.take(link) {
                break 'trail;
            }
        }
    }
    Ok(follower.end(head, &hash))
}

/// Why there is no anchor.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// Nothing has been recorded.
    #[error("the trail has no entry yet: take an anchor once it has one")]
    Empty,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The end of the trail as it is now, to be kept where nobody reaches it who reaches the database.
pub(super) async fn anchor(app: &App) -> Result<Anchor, AnchorError> {
    let (seq, hash) = store::head(&mut *app.db.read().await?).await?;
    if seq == 0 {
        return Err(AnchorError::Empty);
    }
    Ok(Anchor { installation: app.config.base_url(), seq, hash, at: app.now().0 })
}
