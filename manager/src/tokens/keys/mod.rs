//! The keys that sign tokens. One signs at a time. The next one is known to every gateway and replica
//! before it does, and the last one is kept for as long as a token that it signed may live.

mod actions;
pub mod cli;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use actions::{Cache, KeyError, ensure, keys, rotate, signing, tend};
pub use http::routes;
pub use model::{KeySet, SigningKey, State};
pub use store::of_directory;
