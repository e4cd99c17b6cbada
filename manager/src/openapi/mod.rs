//! The description of the management API (OpenAPI 3.1), made from what is served: a capability
//! registers its operations in [`Routes`] and nowhere else; arguments and answers are read from
//! the signature of the handler, the right to call it from the line that registers it, and the
//! refusals that every operation shares are added in one place.

mod answers;
mod bodiless;
mod document;
mod routes;
pub mod schema;
#[cfg(test)]
mod tests;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::IntoResponses;
use utoipa::openapi::RefOr;
use utoipa_axum::routes;

use crate::http::Json;

pub use answers::{Accepted, Added, Created, NoContent};
pub use routes::{Access, Routes};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| document::of(&crate::management()));

static BYTES: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

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
async fn show() -> Document {
    Document
}

/// The document as an answer: the bytes that were written once, since everybody may ask for it.
struct Document;

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        (headers, BYTES.clone()).into_response()
    }
}

impl IntoResponses for Document {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        Json::<Value>::responses()
    }
}
