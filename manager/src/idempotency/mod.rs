//! `Idempotency-Key`: a writing call that is repeated with the same key by the same caller is
//! carried out once, and gets the same answer each time.
//!
//! The key is claimed in the transaction that carries the call out ([`crate::db::Rider`]): when
//! that commits, the claim is there, and a second one with the same key fails as a whole. The answer
//! is kept, sealed, before it is sent. A process that ends in between leaves a claim without an
//! answer, which a repeat is told in words. Refusals claim nothing: they may be repeated as they are.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use http::{Confidential, IdempotencyKey, STRANGERS, once};
pub use model::{KEPT_MS, MAX_KEY, Running};

use crate::schedule::{Every, Executors};

/// House-keeping. Every hour: secrets of answers are to be gone soon after their ten minutes.
pub fn executors(executors: &mut Executors) {
    executors.recurring("idempotency.forget", Every::Hour, |app, conn, task| {
        Box::pin(actions::forget(app, conn, task))
    });
}
