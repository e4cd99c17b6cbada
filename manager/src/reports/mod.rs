//! What the capabilities below know together, for people who look back: the history of approvals,
//! key by key. Reads all of it, writes nothing.

mod actions;
mod csv;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use http::routes;
