//! A call to one of the OAuth endpoints, taken apart, and how it is answered.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, FromRequestParts as _, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::{IntoResponses, ToSchema};

use super::presented::Parameters;
use super::refusal::{OAuthError, Refusal};
use crate::app::App;
use crate::caller_address::CallerAddress;
use crate::http::{Confidential, Json};

/// What somebody has sent, and from where.
pub(super) struct Call {
    pub app: App,
    pub from: CallerAddress,
    pub path: String,
    pub headers: HeaderMap,
    pub parameters: Parameters,
}

impl FromRequest<App> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let Ok(from) = CallerAddress::from_request_parts(&mut parts, app).await;
        match Parameters::read(Request::from_parts(parts, body)).await {
            Ok((headers, parameters)) => Ok(Self { app: app.clone(), from, path, headers, parameters }),
            Err(refusal) => Err(refusal.answer(app, &path)),
        }
    }
}

impl Call {
    /// A parameter that has a value (RFC 6749, section 3.2: one without is as if it were left out).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).filter(|value| !value.is_empty())
    }

    pub fn reply<T>(&self, result: Result<T, Refusal>) -> Reply<T> {
        Reply(match result {
            Ok(answer) => Ok(Confidential(Json(answer))),
            Err(refusal) => Err(refusal.answer(&self.app, &self.path)),
        })
    }
}

/// What the OAuth endpoints answer.
pub(super) struct Reply<T>(Result<Confidential<Json<T>>, Response>);

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(answer) => {
                let mut response = answer.into_response();
                response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
                response
            }
            Err(refusal) => refusal,
        }
    }
}

impl<T: ToSchema> IntoResponses for Reply<T> {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut responses = Json::<T>::responses();
        for (status, means) in [
            ("400", "`invalid_request`, `unsupported_grant_type`, `invalid_grant`, `invalid_scope`."),
            ("401", "`invalid_client`, `unauthorized`, `invalid_token`."),
            ("403", "`unauthorized_client`: an operator has stopped the client."),
            ("413", "The body is too large."),
            ("415", "The body is no form."),
            ("429", "Too many wrong passwords came from the caller's address."),
            ("503", "`temporarily_unavailable`: nothing was changed; repeat after `Retry-After`."),
        ] {
            for (_, mut response) in Json::<OAuthError>::responses() {
                if let RefOr::T(response) = &mut response {
                    response.description = means.into();
                }
                responses.insert(status.into(), response);
            }
        }
        responses
    }
}
