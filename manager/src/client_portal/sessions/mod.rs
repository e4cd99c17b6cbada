//! Sessions of clients: from a sign-in with id and password to its end. A session ends with the
//! password that opened it, and with anything that keeps its client out: each call asks anew.
//! Too many wrong passwords close sign-in alone, as they do other uses of the password, since
//! whoever knows a client's id can bring them about.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub(super) use actions::forget_ended;
pub use http::identify;
pub(super) use http::routes;
pub use model::SignedIn;
