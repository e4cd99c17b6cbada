//! Operations that take no body refuse one: what was meant by it would be lost without a word.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use utoipa::openapi::Paths;
use utoipa::openapi::path::{Operation, PathItem};

use crate::problem::Problem;

/// Bytes of a body that are looked at: room for nothing, in JSON.
const MAX_EMPTY_BYTES: usize = 16;

/// The methods of a path that change something and take no body.
#[derive(Clone, Debug, Default)]
pub(super) struct Bodiless(Vec<Method>);

impl Bodiless {
    /// As the operations are described.
    pub fn of(paths: &Paths) -> Self {
        let operations = paths.paths.values().flat_map(writing);
        Self(operations.filter(|(_, at)| at.request_body.is_none()).map(|(method, _)| method).collect())
    }

    /// The request, unless it brings what nobody would read. `{}` and `null` are nothing: some HTTP
    /// libraries cannot send less.
    pub async fn unburdened(&self, request: Request) -> Result<Request, Problem> {
        if !self.0.contains(request.method()) {
            return Ok(request);
        }
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_EMPTY_BYTES).await.map_err(|_| unexpected())?;
        if let b"" | b"{}" | b"null" = body.trim_ascii() {
            return Ok(Request::from_parts(parts, Body::empty()));
        }
        Err(unexpected())
    }
}

fn writing(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let PathItem { post, put, patch, delete, .. } = item;
    [(Method::POST, post), (Method::PUT, put), (Method::PATCH, patch), (Method::DELETE, delete)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn unexpected() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "unexpected_body",
        "A body is not expected",
        "this operation takes no body: what it does follows from its path alone. Leave the body out; nothing was done",
    )
}
