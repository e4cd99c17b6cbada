//! The keys that sign tokens. One signs at a time. The next one is known to every gateway and replica
//! before it does, and the last one is kept for as long as a token that it signed may live.

mod actions;
pub mod cli;
mod http;
mod model;
mod signer;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{Cache, KeyError, ensure, keys, rotate, signing, tend, withdraw};
pub use http::routes;
pub use model::{KeySet, SigningKey, State};
pub use signer::install as install_signer;
pub(super) use store::forget_withdrawn;
pub use store::of_directory;

/// A new key that nobody keeps.
#[cfg(test)]
pub(in crate::tokens) fn key_for_tests(kid: &str) -> SigningKey {
    let pair = model::NewPair::draw().expect("a pair");
    let start = gate::time::UnixMillis(0);
    SigningKey::read(kid.into(), start, start, false, &pair.private).expect("read")
}
