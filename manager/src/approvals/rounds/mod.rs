//! Rounds: where each submitted form stands among its signers, kept by the transactions that move
//! the form. A round begins with a submission and ends when no level waits any more.

mod actions;
mod model;
mod store;

pub use actions::{begin, end, sign};
pub use model::{Author, Round, Signature};
pub use store::{Mark, find, forget_report, mark, of, restore, waiting};
