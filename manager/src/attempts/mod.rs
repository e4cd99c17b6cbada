//! Attempts at passwords of accounts: what is done for a name that somebody has is done for a name that
//! nobody has, in the same order and behind the same lock, so that neither answers nor the time they take
//! tell a stranger who has an account.

mod store;

use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, MutexGuard};

use crate::db::{Conn, DbError};

/// Locks, and rows, that names share.
const SLOTS: u8 = 64;

/// Attempts at passwords of one kind of accounts. Those at one name are made one after the other in this
/// process, so that people who sign in several times at once do not use up each other's attempts.
pub struct Turns([Mutex<()>; SLOTS as usize]);

impl Turns {
    /// Nobody's turn.
    #[expect(clippy::new_without_default, reason = "a static of each kind of accounts")]
    pub const fn new() -> Self {
        Self([const { Mutex::const_new(()) }; SLOTS as usize])
    }

    /// Waits for the turn of a name, whether anybody has it or not. It is to be held until the attempt is
    /// over, the hash included.
    pub async fn of(&self, unverified_name: &str) -> MutexGuard<'_, ()> {
        self.0[usize::from(slot(unverified_name))].lock().await
    }
}

/// Writes that there was an attempt, whether anybody has the name or not: what is counted of an account alone
/// would have its attempts wait for the disk and no others.
pub async fn note(conn: &mut Conn, unverified_name: &str) -> Result<(), DbError> {
    store::note(conn, i64::from(slot(unverified_name))).await
}

fn slot(unverified_name: &str) -> u8 {
    Sha256::digest(unverified_name.to_ascii_lowercase())[0] % SLOTS
}
