//! Scopes: virtual groups, sets of APIs that a user may delegate to a client. They are stored, checked
//! and sent to gates as groups are, and no client, X-Api-Key or Basic call is let in by one.

mod http;
#[cfg(test)]
mod tests;

pub(super) use http::routes;
