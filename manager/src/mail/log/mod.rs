//! The mail log: what became of each mail, and what an operator may do about it.

mod actions;
pub(super) mod cli;
pub(super) mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

use gate::time::UnixMillis;

use super::delivery;
use crate::db::{Conn, DbError};

/// Removes mails that ended before `before` and what is on record of them, `limit` at most, within the
/// caller's transaction. Returns how many there were: fewer than `limit` means that none is left.
pub async fn purge_before(conn: &mut Conn, before: UnixMillis, limit: i64) -> Result<u64, DbError> {
    let mails = super::store::purge(conn, before, limit).await?;
    delivery::store::forget(conn, &mails).await?;
    Ok(mails.len() as u64)
}
