//! Decisions taken on record, and found again.

use gate::time::UnixMillis;

use super::model::{self, Filter, Kept, Life, Reported, USUAL_MS};
use super::store;
use crate::app::App;
use crate::db::DbError;

/// A page of decisions.
#[derive(Debug)]
pub struct Listed {
    /// Newest first.
    pub decisions: Vec<Kept>,
    /// Refusals of that time of which only the number is known, by code.
    pub not_kept: Vec<(String, u64)>,
}

/// Why an id leads to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// No gate gives such ids.
    #[error(
        "{id} is no id of a decision: that is 16 hex digits, a hyphen and a number, as the header \
         x-keygate-decision of a refusal and the access log have it"
    )]
    NoId {
        /// As asked.
        id: String,
    },
    /// The worker has reported nothing at all.
    #[error(
        "decision {id} is not here, and the worker that gave it has reported nothing. A report takes about a \
         second, longer while its gateway is cut off from the manager (see GET /api/v1/gateways); reports are \
         kept for {days} days. The line of Envoy's access log with this id has code, API and the client that was proven, and \
         `keygate explain --path …` says what is decided now"
    )]
    NeverHeard {
        /// As asked.
        id: String,
        /// Setting `decision_retention_days`.
        days: u32,
    },
    /// The worker reports, but not this.
    #[error(
        "decision {id} is not here. The worker that gave it (Envoy {holder} of gateway {gateway}) reported last at \
         {reported_at} UTC; {kept} of its refusals were taken on record for {days} days, and {not_kept} were \
         counted and not kept: under a flood a fair sample is. If it is younger than a second or two, ask again; \
         else the line of Envoy's access log with this id has code, API and the client that was proven, and `keygate explain --path …` \
         says what is decided now"
    )]
    NotKept {
        /// As asked.
        id: String,
        /// The Envoy process.
        holder: String,
        /// Id of its gateway.
        gateway: String,
        /// When it reported last.
        reported_at: UnixMillis,
        /// Decisions that were taken on record.
        kept: u64,
        /// Refusals of which only the number is known.
        not_kept: u64,
        /// Setting `decision_retention_days`.
        days: u32,
    },
    /// The database is to blame.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Takes a report on record. It has been checked.
pub async fn take(app: &App, reported: &Reported) -> Result<(), DbError> {
    let now = app.now();
    let mut write = app.db.write("decisions.take").await?;
    store::take(&mut write, reported, now).await?;
    write.commit().await
}

/// The decision of that id, or why there is none.
pub async fn find(app: &App, id: &str) -> Result<Kept, Missing> {
    let Some(boot) = model::boot_of(id) else { return Err(Missing::NoId { id: id.into() }) };
    let mut read = app.db.read().await?;
    if let Some(kept) = store::by_id(&mut read, id).await? {
        return Ok(kept);
    }
    let (id, days) = (id.to_owned(), app.config.decision_retention_days);
    Err(match store::life(&mut read, boot).await? {
        None => Missing::NeverHeard { id, days },
        Some(Life { holder, gateway, reported_at, kept, not_kept }) => {
            Missing::NotKept { id, holder, gateway, reported_at, kept, not_kept, days }
        }
    })
}

/// Decisions as asked for, with what was not kept of their time. Without a beginning: of the day before
/// their end.
pub async fn list(
    app: &App,
    filter: Filter,
    after: Option<(UnixMillis, &str)>,
    limit: i64,
) -> Result<Listed, DbError> {
    let end = filter.until.unwrap_or_else(|| app.now());
    let from = filter.from.unwrap_or(UnixMillis(end.0.saturating_sub(USUAL_MS)));
    let until = filter.until.unwrap_or(UnixMillis(i64::MAX));
    let filter = Filter { from: Some(from), ..filter };
    let mut read = app.db.read().await?;
    let decisions = store::list(&mut read, &filter, after, limit).await?;
    Ok(Listed { decisions, not_kept: store::not_kept(&mut read, from, until).await? })
}
