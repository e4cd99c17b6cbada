//! What is to happen by itself, in one list: scheduled work, changes and revocations of keys of a
//! later day, switches of APIs. Each of them is planned and done by its own capability.

mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub(super) use http::routes;
