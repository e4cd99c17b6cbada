//! A report, read.

use super::model::{Asked, Place, Row};
use super::store::{self, Counted};
use crate::app::App;
use crate::db::DbError;
use crate::usage::model::Sources;
use crate::usage::store::rolled;

/// What was counted, by bucket, newest first, and key, up to `limit` after `after`.
pub(super) async fn rows<C: Counted>(
    app: &App,
    asked: &Asked,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<Row<C>>, DbError> {
    let mut read = app.db.snapshot().await?;
    let rolled = rolled(&mut read).await?;
    let mut found = Vec::new();
    for span in &asked.spans {
        // The buckets from that of `after` on, the first one from its key on.
        if after.is_some_and(|after| span.start > after.start) {
            continue;
        }
        let left = limit - found.len() as i64;
        if left <= 0 {
            break;
        }
        let after = after.filter(|after| span.start == after.start).map(|after| &after.key);
        let from = (*span, Sources::of(asked.bucket.grain(), *span, rolled));
        found.extend(store::bucket(&mut read, from, asked, after, left).await?);
    }
    Ok(found)
}
