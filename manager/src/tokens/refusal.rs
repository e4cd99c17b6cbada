//! How the token endpoint says no: in digiRunner's words where it has some, else in those of RFC 6749. They
//! do not depend on `denial_format`, but for clients that do not prove themselves: digiRunner answers them
//! in a form of its own, which no program that knows the standard reads.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use gate::wire::directory::DenialFormat;
use serde::Serialize;
use utoipa::ToSchema;

use super::keys::KeyError;
use crate::app::App;
use crate::clients::SecretRefusal;
use crate::db::DbError;
use crate::error_description::{self, echo};
use crate::http::Json;
use crate::problem::Problem;

/// A refusal of the token endpoint.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: Cow<'static, str>,
    /// It is the client that is refused, whatever it asks for: `error` in digiRunner's words.
    client: Option<&'static str>,
    retry_after_s: Option<u32>,
}

/// A refusal as RFC 6749 tells it (section 5.2).
#[derive(Serialize, ToSchema)]
pub struct OAuthError {
    /// What programs compare.
    error: Cow<'static, str>,
    /// What people read.
    error_description: Cow<'static, str>,
}

/// A refusal of a client as digiRunner tells it.
#[derive(Serialize)]
struct Stamped<'a> {
    timestamp: String,
    status: u16,
    error: &'static str,
    message: &'a str,
    path: &'a str,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        let description = error_description::text(description);
        Self { status, error, description, client: None, retry_after_s: None }
    }

    pub(super) fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(super) fn no_secret() -> Self {
        Self::invalid_request("Missing client_secret")
    }

    /// By the body and by the header.
    pub(super) fn two_ways() -> Self {
        Self::invalid_request(
            "The client proves itself in two ways: leave out client_secret, or the header Authorization",
        )
    }

    /// One in the body, another one in the header.
    pub(super) fn two_clients() -> Self {
        Self::invalid_request("client_id is not the client of the header Authorization")
    }

    /// 401: it does not prove itself.
    pub(super) fn client(message: impl Into<Cow<'static, str>>) -> Self {
        let refusal = Self::new(StatusCode::UNAUTHORIZED, "invalid_client", message);
        Self { client: Some("Unauthorized"), ..refusal }
    }

    /// Unknown, wrong, or closed after too many wrong ones: nobody is told which.
    pub(super) fn wrong_secret(client: &str) -> Self {
        let client = echo(client);
        Self::client(format!("The client(application) account or password is incorrect. clientId: {client}"))
    }

    /// 403: it has proven itself, and an operator has stopped it.
    pub(super) fn stopped(client: &str, how: &'static str) -> Self {
        let description = format!("'{client}' Client(application) {how}");
        let refusal = Self::new(StatusCode::FORBIDDEN, "unauthorized_client", description);
        Self { client: Some("Forbidden"), ..refusal }
    }

    pub(super) fn invalid_grant(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", description)
    }

    /// Unknown, over, used, or issued for something else: nobody is told which.
    pub(super) fn invalid_code() -> Self {
        Self::invalid_grant("Invalid authorization code")
    }

    /// 403: the user has proven to be one, and an operator has stopped the account.
    pub(super) fn user_stopped(user: &str, how: &'static str) -> Self {
        let refusal = Self::new(StatusCode::FORBIDDEN, "invalid_grant", format!("'{user}' User {how}"));
        Self { client: Some("Forbidden"), ..refusal }
    }

    pub(super) fn too_large() -> Self {
        let description = format!("a body has {} bytes at most", super::presented::MAX_BODY_BYTES);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", description)
    }

    pub(super) fn media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request",
            "send the parameters as application/x-www-form-urlencoded or multipart/form-data",
        )
    }

    pub(super) fn unauthenticated() -> Self {
        let description = "Full authentication is required to access this resource";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", description)
    }

    pub(super) fn unsupported_grant(grant: &str) -> Self {
        let description = format!("Unsupported grant type: {}", echo(grant));
        Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", description)
    }

    /// Another grant than the one that the second form of tokens is issued for.
    pub(super) fn only_client_credentials(path: &str, grant: &str) -> Self {
        Self::invalid_request(format!(
            "Currently, '{path}' only supports grant type 'client_credentials', but the requested grant type is \
             '{}'.",
            echo(grant)
        ))
    }

    pub(super) fn too_many_groups(groups: usize) -> Self {
        let description = format!(
            "A token that names {groups} groups is longer than the {} bytes that gateways take: give the client \
             fewer groups",
            gate::credential::MAX_TOKEN_BYTES
        );
        Self::new(StatusCode::BAD_REQUEST, "invalid_scope", description)
    }

    pub(super) fn no_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "Missing required parameter: token")
    }

    pub(super) fn no_refresh_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "Missing required parameter: refresh_token")
    }

    pub(super) fn unsupported_hint(hint: Option<&str>) -> Self {
        let description = match hint {
            Some(hint) => format!("Unsupported token type hint: {}", echo(hint)),
            None => "Missing required parameter: token_type_hint".into(),
        };
        Self::new(StatusCode::BAD_REQUEST, "unsupported_token_type_hint", description)
    }

    /// We have not signed it.
    pub(super) fn unreadable() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_token", "Cannot convert access token to JSON")
    }

    /// `of`: `token`, `refresh token`. Both texts that are repeated whole are our own: they were verified.
    pub(super) fn of_another_client(of: &str, token: &str) -> Self {
        let description = format!("Wrong client(application) for this {of}: {token}");
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", description)
    }

    pub(super) fn expired(token: &str) -> Self {
        let description = format!("Invalid refresh token (expired): {token}");
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description)
    }

    pub(super) fn revoked(what: &str, jti: &str) -> Self {
        let description = format!("{what} revoked, jti: {jti}");
        Self::new(StatusCode::FORBIDDEN, "invalid_token", description)
    }

    pub(super) fn over_refresh_times() -> Self {
        const OVER: &str = "Over Refresh Token Allow Times";
        Self::new(StatusCode::FORBIDDEN, OVER, OVER)
    }

    pub(super) fn unsigned() -> Self {
        tracing::error!("The key of tokens does not sign");
        Self::internal()
    }

    fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the log has more of it")
    }

    fn later(description: impl Into<Cow<'static, str>>, retry_after_s: u32) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
        Self { retry_after_s: Some(retry_after_s), ..refusal }
    }

    /// The answer at that path.
    pub fn answer(self, app: &App, path: &str) -> Response {
        let Self { status, error, description, client, retry_after_s } = self;
        let mut response = match (client, app.config.denial_format) {
            (Some(error), DenialFormat::Digirunner) => {
                let timestamp = app.now().0.to_string();
                let stamped =
                    Stamped { timestamp, status: status.as_u16(), error, message: &description, path };
                (status, Json(stamped)).into_response()
            }
            (Some(_), DenialFormat::Problem) | (None, _) => {
                let body = OAuthError { error: error.into(), error_description: description };
                (status, Json(body)).into_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"keygate\""));
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        // Logged there, as everywhere.
        let problem = Problem::from(error);
        match problem.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                Self::later(problem.detail, problem.retry_after_s.unwrap_or(1))
            }
            _ => Self::internal(),
        }
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Db(error) => error.into(),
            error => {
                tracing::error!(%error, "No token can be signed");
                Self::internal()
            }
        }
    }
}

impl From<SecretRefusal> for Refusal {
    fn from(refusal: SecretRefusal) -> Self {
        match refusal {
            SecretRefusal::Busy(busy) => Self::later(busy.to_string(), 1),
            SecretRefusal::TooMany(many) => {
                let retry_after_s = Some(many.retry_after_s);
                let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", many.to_string());
                Self { retry_after_s, ..refusal }
            }
            SecretRefusal::Db(error) => error.into(),
        }
    }
}
