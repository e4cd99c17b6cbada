//! Visitors who want to become clients: somebody without any account says what client it is to be,
//! proves that the first address is theirs, and follows the form (`CR`) with a token that the proof
//! answers. Off unless the installation wants it.
//!
//! Whoever asks for an address that is not theirs brings about a mail to a stranger: how many, is
//! bounded per caller, per address and in all ([`model`]), and nothing of an answer tells what became
//! of it.

mod actions;
mod http;
mod mails;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub(super) use actions::forget;
pub use http::identify;
pub(super) use http::routes;
