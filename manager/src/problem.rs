//! Refusals of the management API: `application/problem+json` (RFC 9457) that says what to do.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::DbError;
use crate::http::Json;
use crate::password::Busy;

/// A refusal. `code` is what programs compare, `detail` what people read.
#[derive(Clone, Debug)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable name, `snake_case`.
    pub code: &'static str,
    /// The code in words.
    pub title: &'static str,
    /// What is wrong with this very call, and what to do.
    pub detail: String,
    /// The field of the body, query or header that is wrong.
    pub field: Option<String>,
    /// When to try again.
    pub retry_after_s: Option<u32>,
    /// What else the call would touch, by kind: of a refusal that asks for a confirmation.
    pub affected: Option<Box<Affected>>,
}

/// Things by kind: `keys`, `groups` …
pub type Affected = BTreeMap<&'static str, Vec<AffectedThing>>;

/// Something that a call would touch besides what it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AffectedThing {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
}

impl Problem {
    /// A refusal without a field.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), field: None, retry_after_s: None, affected: None }
    }

    /// 422: a field has a value that cannot be taken.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", "A field is invalid", detail)
            .field(field)
    }

    /// 400: a part of the query string has a value that cannot be taken.
    pub fn invalid_query(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", "The query string is invalid", detail)
            .field(field)
    }

    /// 409: it collides with something that exists.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, "Conflict with what exists", detail)
    }

    /// 404: `what` does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// 401: who is asking is not known.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Sign in first", detail)
    }

    /// 403: who is asking may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not permitted", detail)
    }

    /// 412: the version named by `If-Match` is not the present one.
    pub fn version_mismatch(expected: i64, present: i64) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "version_mismatch",
            "Changed meanwhile",
            format!(
                "If-Match names version {expected}, the present one is {present}: read it again and repeat"
            ),
        )
        .field("If-Match")
    }

    /// 503: too many calls of this kind run at once.
    pub fn busy(detail: &str) -> Self {
        let detail = format!("{detail}; nothing was changed, repeat it");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy", detail).retry_after(1)
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Lists what else the call would touch.
    #[must_use]
    pub fn affecting(mut self, affected: Affected) -> Self {
        self.affected = Some(Box::new(affected));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        if matches!(error, DbError::Repeated) {
            // Whoever serves keyed calls replaces it by the answer of the one that was first.
            return Self::conflict("request_in_progress", format!("{error}: repeat it for its answer"))
                .retry_after(1);
        }
        if error.is_busy() {
            tracing::warn!(%error, "The database is busy");
            return Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "database_busy",
                "Busy",
                "the database cannot take this call now; nothing was changed, repeat it",
            )
            .retry_after(1);
        }
        if error.is_full() {
            tracing::error!(%error, "The database has no room left: its disk is full");
            return Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "database_full",
                "No room left",
                "the disk below the database is full; nothing was changed: make room there, then repeat it",
            )
            .retry_after(10);
        }
        tracing::error!(%error, "A call failed on the database");
        Self::internal()
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Self {
        Self::busy(&busy.to_string())
    }
}

impl Problem {
    /// 500: our fault; the log has the cause under the request id.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the call failed on our side; the log has the cause under this request's id",
        )
    }
}

/// A refusal as it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// `urn:keygate:problem:<code>`
    r#type: String,
    /// The code in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this very call, and what to do.
    detail: String,
    /// What programs compare.
    code: &'static str,
    /// The field of the body, query or header that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// `urn:keygate:request:<id>`, the id of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// What else the call would touch, by kind: it asks for a confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Vec<AffectedThing>>>, inline)]
    affected: Option<Box<Affected>>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemDocument {
            r#type: format!("urn:keygate:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code,
            field: self.field,
            affected: self.affected,
            instance: crate::http::request_id().map(|id| format!("urn:keygate:request:{id}")),
        };
        let mut response = (self.status, Json(body)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"keygate\""));
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
