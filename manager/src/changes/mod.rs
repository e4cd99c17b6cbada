//! The numbered list of what changed, for whoever holds grants, meters or the directory.
//!
//! Everything that alters what a gateway may hold calls [`record`] **last** in its transaction
//! (only the audit entry comes after it): the counter it raises is a row that the next writer
//! waits for, which is what makes revisions visible in their order and without a gap.
//!
//! [`Watch`] tells the long polls of this process when there is something new; other processes
//! on the same database notice by looking every [`LOOK_EVERY`].

mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use store::{Head, Page, RETAINED_CHANGES, head, page, record, renew_epoch};
pub use watch::{LOOK_EVERY, Watch};
