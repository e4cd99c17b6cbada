//! The description of the management API (OpenAPI 3.1), made from what is served: a capability
//! registers its operations in [`Routes`] and nowhere else; arguments and answers are read from
//! the signature of the handler, the right to call it from the line that registers it, and the
//! refusals that every operation shares are added in one place.

mod answers;
mod document;
mod routes;
pub mod schema;
#[cfg(test)]
mod tests;
pub mod wire;

use std::sync::LazyLock;

use serde_json::Value;
use utoipa_axum::routes;

use crate::http::Json;

pub use answers::{Added, Created, NoContent};
pub use routes::{Access, Routes};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| document::of(&crate::management()));

/// The document, as it is served.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// `/api/v1/openapi.json`
pub fn routes() -> Routes {
    Routes::of("openapi").open(routes!(show))
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json")]
async fn show() -> Json<Value> {
    Json(document().clone())
}
