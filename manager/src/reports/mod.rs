//! What the capabilities below know together, for people who look back: the history of approvals,
//! key by key. Reads all of it, writes nothing.

mod actions;
mod csv;
mod http;
mod model;
mod planned;
mod store;
#[cfg(test)]
mod tests;

use crate::http::Routes;

/// `/api/v1/reports/…`, `/api/v1/planned`.
pub fn routes() -> Routes {
    http::routes().merge(planned::routes())
}
