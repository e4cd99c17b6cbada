//! What is done with the trail besides recording it.

use super::chain::Anchor;
use super::store;
use crate::app::App;
use crate::db::DbError;

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
