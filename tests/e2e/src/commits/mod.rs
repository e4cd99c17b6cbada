//! The end of a transaction, where a crash tells whether it was one: the manager is cut off from
//! [`postgres`] at a COMMIT, or killed at one of its commits to [`sqlite`].

pub mod postgres;
pub mod sqlite;

/// On which side of the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// What the transaction did is undone.
    Before,
    /// It is done, and nobody was told.
    After,
}
