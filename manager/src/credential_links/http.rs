//! `/credentials`: the page behind the links. It is for people, and no part of the API.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::actions::{self, RevealError};
use super::model::{Credentials, UnverifiedCode};
use super::page::{self, PageLanguage, Shown};
use crate::app::App;
use crate::caller_address::CallerAddress;

/// Where the page is served.
pub(super) const PATH: &str = "/credentials";
/// Bytes of the form at most.
const MAX_FORM_BYTES: usize = 4_096;

/// The page.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, get(ask).post(reveal))
}

/// Shows a button, whatever the link: a scanner that follows it opens nothing.
async fn ask(State(app): State<App>, headers: HeaderMap) -> Response {
    answer(&app, &headers, StatusCode::OK, &Shown::Question)
}

async fn reveal(State(app): State<App>, address: CallerAddress, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let code = match axum::body::to_bytes(body, MAX_FORM_BYTES).await {
        Ok(form) => url::form_urlencoded::parse(&form)
            .find(|(name, _)| name == "code")
            .and_then(|(_, pasted)| UnverifiedCode::parse(&pasted)),
        Err(_) => None,
    };
    let revealed: Result<Credentials, RevealError> = match &code {
        Some(code) => actions::reveal(&app, code, &address).await,
        None => Err(RevealError::Closed),
    };
    match revealed {
        Ok(credentials) => answer(&app, &parts.headers, StatusCode::OK, &Shown::Credentials(&credentials)),
        Err(RevealError::Closed) => answer(&app, &parts.headers, StatusCode::GONE, &Shown::Refusal),
        Err(RevealError::Db(error)) if error.is_busy() => {
            tracing::warn!(%error, "The database is busy");
            answer(&app, &parts.headers, StatusCode::SERVICE_UNAVAILABLE, &Shown::Busy)
        }
        Err(error) => {
            tracing::error!(%error, "A credential link could not be opened");
            answer(&app, &parts.headers, StatusCode::INTERNAL_SERVER_ERROR, &Shown::Busy)
        }
    }
}

fn answer(app: &App, headers: &HeaderMap, status: StatusCode, shown: &Shown<'_>) -> Response {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let language = PageLanguage::preferred(accepted.unwrap_or_default());
    let page = match page::render(&app.config.product_name, language, shown) {
        Ok(page) => page,
        Err(error) => {
            tracing::error!(%error, "The page of credential links does not print");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let mut response = (status, page).into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_LANGUAGE, language.tag()),
        (header::VARY, "Accept-Language"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY.as_str()),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
