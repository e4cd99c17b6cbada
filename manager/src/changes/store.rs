//! The only writer of `feed_head` and `changes`.

use gate::id::{Epoch, Revision};
use gate::time::UnixMillis;
use gate::wire::changes::{Change, Subject};
use sqlx::Row;

use crate::db::{Conn, DbError};

/// Changes kept for pollers that lag; one that lags further is told to begin anew. An hour of
/// three changes a second: far longer than a filter may go on without a poll.
pub const RETAINED_CHANGES: u64 = 10_000;
/// Old changes are deleted at every so-many-th number, so that most writers do not pay for it.
const TRIM_EVERY: i64 = 64;

/// Where the list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// This life of the database. 0 until [`renew_epoch`] has drawn one.
    pub epoch: Epoch,
    /// The newest visible change.
    pub revision: Revision,
}

/// What a poll gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// What follows the number asked about, in order and without a gap; empty = nothing new.
    Changes(Vec<Change>),
    /// Some of it is no longer kept: the poller begins anew.
    TooOld,
}

/// Notes a change, visible with the commit of `conn`'s transaction. Holds the head's row until
/// then: nothing else may be locked after it, or two transactions could wait for each other.
pub async fn record(conn: &mut Conn, subject: &Subject, now: UnixMillis) -> Result<Revision, DbError> {
    let text = serde_json::to_string(subject).expect("a subject is strings and numbers");
    let revision: i64 = sqlx::query(
        "-- changes.record.number
         UPDATE feed_head
            SET revision = revision + 1
          WHERE id = 1
      RETURNING revision",
    )
    .fetch_one(&mut *conn)
    .await?
    .try_get(0)?;
    sqlx::query(
        "-- changes.record
         INSERT INTO changes (revision, subject, recorded_at)
         VALUES ($1, $2, $3)",
    )
    .bind(revision)
    .bind(text)
    .bind(now.0)
    .execute(&mut *conn)
    .await?;
    if revision % TRIM_EVERY == 0 {
        sqlx::query(
            "-- changes.record.trim
             DELETE FROM changes WHERE revision <= $1",
        )
        .bind(revision - RETAINED_CHANGES as i64)
        .execute(&mut *conn)
        .await?;
    }
    Ok(Revision(revision as u64))
}

/// Where the list stands, as `conn` sees it.
pub async fn head(conn: &mut Conn) -> Result<Head, DbError> {
    let row = sqlx::query(
        "-- changes.head
         SELECT epoch, revision FROM feed_head WHERE id = 1",
    )
    .fetch_one(conn)
    .await?;
    Ok(Head {
        epoch: Epoch(row.try_get::<i64, _>(0)? as u64),
        revision: Revision(row.try_get::<i64, _>(1)? as u64),
    })
}

/// Up to `limit` changes after `since`, none newer than `until` (a head read before).
pub async fn page(conn: &mut Conn, since: Revision, until: Revision, limit: usize) -> Result<Page, DbError> {
    if since >= until {
        return Ok(Page::Changes(Vec::new()));
    }
    let rows = sqlx::query(
        "-- changes.page
         SELECT revision, subject
           FROM changes
          WHERE revision > $1 AND revision <= $2
          ORDER BY revision
          LIMIT $3",
    )
    .bind(since.0 as i64)
    .bind(until.0 as i64)
    .bind(limit as i64)
    .fetch_all(conn)
    .await?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let revision: i64 = row.try_get(0)?;
        let subject: String = row.try_get(1)?;
        let subject = serde_json::from_str(&subject).map_err(|_| DbError::Inconsistency {
            table: "changes",
            column: "subject",
            row: revision.to_string(),
        })?;
        changes.push(Change { revision: Revision(revision as u64), subject });
    }
    // Numbers have no gap, so one that is missing has been deleted for its age.
    let complete = changes.iter().zip(since.0 + 1..).all(|(change, number)| change.revision.0 == number);
    Ok(if complete && !changes.is_empty() { Page::Changes(changes) } else { Page::TooOld })
}

/// Begins a new life of the database: what gateways hold of the old one is asked for anew, and
/// the lease streams of the old one are refused. For a database that has none yet, and for one
/// that was restored from a backup.
pub async fn renew_epoch(conn: &mut Conn, known: Epoch, fresh: Epoch) -> Result<(), DbError> {
    sqlx::query(
        "-- changes.renew_epoch
         UPDATE feed_head SET epoch = $1 WHERE id = 1 AND epoch = $2",
    )
    .bind(fresh.0 as i64)
    .bind(known.0 as i64)
    .execute(conn)
    .await?;
    Ok(())
}
