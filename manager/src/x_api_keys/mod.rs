//! X-Api-Keys: texts that travel in clear and open every API of their groups, as far as the
//! client still has the groups. Shown once and mailed once; deleting one is felt at every gateway
//! within a second.

mod actions;
mod http;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use actions::XApiKeyError;
pub use http::routes;
pub use model::XApiKey;
pub use store::find_by_sha256;
