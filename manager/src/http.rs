//! What the HTTP side of every capability shares: extractors whose refusals are problem
//! documents, pages, versions, request ids.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::app::App;
use crate::problem::Problem;

pub use crate::idempotency::Confidential;
pub use crate::openapi::{Accepted, Added, Created, NoContent, Routes};
// For the capabilities below operators, which show who did something.
pub use crate::operators::{
    Actor, Permission, display_names as operator_display_names, id_of as operator_id, names as operator_names,
};

/// Bytes of a body of the management API at most (413 beyond).
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Items of a page when the caller names no `limit`.
pub const DEFAULT_PAGE: u32 = 50;
/// Items of a page at most.
pub const MAX_PAGE: u32 = 200;
/// Characters of a request id that is taken over from the caller at most.
const MAX_REQUEST_ID: usize = 64;

/// U+0000 in a path or a query.
const ENCODED_NUL: &str = "%00";
/// Why a text is refused wherever it stands: PostgreSQL cannot store it.
const HOLDS_NUL: &str = "holds the character U+0000, which no text may: leave it out";

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT_REQUEST: String;
}

/// A JSON body, or as an answer: JSON that no cache keeps.
#[derive(Clone, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read_json(request, MAX_BODY_BYTES).await.map(Self)
    }
}

/// A JSON body of at most `max_bytes`, for calls whose bound is not [`MAX_BODY_BYTES`].
pub async fn read_json<T: DeserializeOwned>(request: Request, max_bytes: usize) -> Result<T, Problem> {
    parse_json(&body_of(request, max_bytes).await?)
}

/// The JSON body of a gateway's call, at most `max_bytes`. It passes on what strangers present, of
/// many of them at once: a text that cannot be stored is theirs alone, and refuses nobody else's.
pub async fn read_gateway_json<T: DeserializeOwned>(
    request: Request,
    max_bytes: usize,
) -> Result<T, Problem> {
    parse_typed(&body_of(request, max_bytes).await?)
}

async fn body_of(request: Request, max_bytes: usize) -> Result<axum::body::Bytes, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Unsupported media type",
            "send the body as JSON with the header `Content-Type: application/json`",
        )
        .field("Content-Type"));
    }
    axum::body::to_bytes(request.into_body(), max_bytes).await.map_err(|_| too_large(max_bytes))
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => (
                [
                    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                ],
                body,
            )
                .into_response(),
            Err(error) => {
                tracing::error!(%error, "An answer cannot be written as JSON");
                Problem::internal().into_response()
            }
        }
    }
}

/// A query string.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        if let Some(part) = query.split('&').find(|part| part.contains(ENCODED_NUL)) {
            let field = part.split('=').next().unwrap_or_default();
            return Err(Problem::invalid_query(field, format!("{field} {HOLDS_NUL}")));
        }
        axum::extract::Query::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|rejection| {
            let detail = root_cause(&rejection).replace(
                "invalid digit found in string",
                "must be a whole number (instants: UTC milliseconds)",
            );
            let field = quoted_field(&detail).or_else(|| detail.split(':').next().map(str::to_string));
            let problem = Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_query",
                "The query string is invalid",
                detail.clone(),
            );
            match field {
                Some(field) => problem.field(field),
                None => problem,
            }
        })
    }
}

/// Variables of the path.
#[derive(Clone, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.path().contains(ENCODED_NUL) {
            return Err(Problem::not_found(format!("there is nothing of that name: it {HOLDS_NUL}")));
        }
        axum::extract::Path::from_request_parts(parts, state).await.map(|path| Self(path.0)).map_err(
            |rejection| Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", root_cause(&rejection)),
        )
    }
}

/// `If-Match: "<version>"`: the version that the caller has read. Absent or `*`: any.
#[derive(Clone, Copy, Debug)]
pub struct IfMatch(pub Option<i64>);

impl IfMatch {
    /// 412 unless the present version is the one the caller has read.
    pub fn check(self, present: i64) -> Result<(), Problem> {
        match self.0 {
            Some(expected) if expected != present => Err(Problem::version_mismatch(expected, present)),
            Some(_) | None => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        text.strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .and_then(|version| version.parse().ok())
            .map(|version| Self(Some(version)))
            .ok_or_else(|| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_header",
                    "A header is invalid",
                    "If-Match is a version as the ETag of an answer names it, e.g. \"3\" with its quotes",
                )
                .field("If-Match")
            })
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("The `ETag` of the answer that the caller has read; absent or `*`: any."))
            .schema(Some(
                ObjectBuilder::new().schema_type(Type::String).pattern(Some(r#"^(\*|"[0-9]{1,18}")$"#)),
            ));
        vec![parameter.build()]
    }
}

/// An answer with the version of what it shows, as its ETag.
#[derive(Clone, Debug)]
pub struct Versioned<T>(pub i64, pub T);

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.1).into_response();
        if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", self.0)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// One page of a list. `next` goes into `?cursor=` of the next call; null: this was the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// At most `limit`.
    pub items: Vec<T>,
    /// Opaque.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page from up to `limit + 1` rows; `key` is the sort key by which the next page begins.
    pub fn new(mut items: Vec<T>, limit: i64, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = match items.last() {
            Some(last) if more => Some(URL_SAFE_NO_PAD.encode(key(last))),
            Some(_) | None => None,
        };
        Self { items, next }
    }

    /// A page that ends where `next` says; None: with the last item there is.
    pub fn ending(items: Vec<T>, next: Option<String>) -> Self {
        Self { items, next: next.map(|key| URL_SAFE_NO_PAD.encode(key)) }
    }

    /// The same page of something else.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}

/// `?limit=`, checked.
pub fn page_limit(limit: Option<u32>) -> Result<i64, Problem> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        limit @ 1..=MAX_PAGE => Ok(i64::from(limit)),
        limit => Err(Problem::invalid_query("limit", format!("limit is {limit}, must be 1 to {MAX_PAGE}"))),
    }
}

/// `?cursor=`: the sort key after which the page begins; the empty text is before all.
pub fn page_cursor(cursor: Option<&str>) -> Result<String, Problem> {
    let Some(cursor) = cursor else { return Ok(String::new()) };
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|key| String::from_utf8(key).ok()).ok_or_else(foreign_cursor)
}

/// 400 of a `cursor` that no page of this list has named.
pub fn foreign_cursor() -> Problem {
    Problem::invalid_query(
        "cursor",
        "cursor is not one of this list: take it from `next` of the page before, unchanged",
    )
}

/// For a field of an update that may be absent (leave it), null (remove it) or a value:
/// `#[serde(default, deserialize_with = "nullable")] field: Option<Option<T>>`.
pub fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// The id of the request that is being answered.
pub fn request_id() -> Option<String> {
    CURRENT_REQUEST.try_with(Clone::clone).ok()
}

/// Does `work`, which a task of its own carries out, as part of answering the request of that id.
pub async fn in_request<F: Future>(id: String, work: F) -> F::Output {
    CURRENT_REQUEST.scope(id, work).await
}

/// Gives each request an id (the caller's own where it is short and plain), counts it and turns
/// bare refusals of the router (405, 413 …) into problem documents.
pub async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID)
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
        .map_or_else(|| app.random.id("rq"), str::to_string);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_string(), |path| path.as_str().to_string());
    let mut response = CURRENT_REQUEST
        .scope(id.clone(), async {
            let response = next.run(request).await;
            problem_of_bare(response)
        })
        .await;
    app.metrics.add(
        "keygate_http_requests_total",
        &[("route", &route), ("status", response.status().as_str())],
        1,
    );
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(&REQUEST_ID, value);
    }
    response
}

/// 404 of a path that nobody serves.
pub async fn no_route(request: Request) -> Problem {
    Problem::not_found(format!("no such path: {}", request.uri().path()))
}

fn problem_of_bare(response: Response) -> Response {
    let bare = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let problem = match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method not allowed",
            "this path does not answer that method; the Allow header lists those it answers",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => too_large(MAX_BODY_BYTES),
        _ => return response,
    };
    if !bare {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut response: Response<Body> = problem.into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// 413: a body has more than `max_bytes`.
pub fn too_large(max_bytes: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "Body too large",
        format!("a body has {max_bytes} bytes at most"),
    )
}

fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let value = parse_typed(body)?;
    match holder_of_nul(body) {
        Some(field) => Err(Problem::invalid(field.clone(), format!("{field} {HOLDS_NUL}"))),
        None => Ok(value),
    }
}

fn parse_typed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // What serde would take for the fields of an object in their order is none.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') && is_json(body) {
        return Err(unexpected(
            "the body is a list, and must be an object: {\"<field>\": <value>, \u{2026}}",
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // What is JSON and yet cannot be read is a variant that is not named by exactly one member.
        let variant = !error.is_data() && is_json(body);
        match error.classify() {
            _ if variant => unexpected(format!(
                "{path} must be an object with exactly one of the members that may stand there"
            ))
            .field(path),
            serde_json::error::Category::Data => {
                let detail = error.to_string();
                let field = match (path.as_str(), quoted_field(&detail)) {
                    ("." | "", field) => field,
                    (path, Some(field)) if !path.ends_with(&field) => Some(format!("{path}.{field}")),
                    (path, _) => Some(path.to_string()),
                };
                let problem = unexpected(in_json_words(&detail));
                match field {
                    Some(field) => problem.field(field),
                    None => problem,
                }
            }
            _ => not_json(&error),
        }
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

/// Whether every text in it is one, too: serde reads over `"\ud83d"`, half a character, where it ignores it.
fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok()
}

fn unexpected(detail: impl Into<String>) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_body",
        "The body does not have the expected form",
        detail,
    )
}

/// What serde says of a type that it did not find, in the words of those who write JSON and not Rust.
fn in_json_words(detail: &str) -> String {
    const INTRO: &str = ", expected ";
    let whole = |name: &str| {
        let (kind, bits) = name.split_at_checked(1)?;
        let known = bits == "size" || bits.parse::<u32>().is_ok();
        match kind {
            "i" if known => Some("a whole number"),
            "u" if known => Some("a whole number that is not negative"),
            "f" if known => Some("a number"),
            _ => None,
        }
    };
    let given = detail.replacen("invalid type: map,", "invalid type: an object,", 1);
    let given = given.replacen("invalid type: sequence,", "invalid type: a list,", 1);
    let Some((given, rest)) = given.rsplit_once(INTRO) else { return given };
    let (expected, place) = match rest.rfind(" at line ") {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "a string" | "a borrowed string" | "str" => "a text",
        "a boolean" => "true or false",
        other if ["struct ", "internally tagged enum "].iter().any(|kind| other.starts_with(kind)) => {
            "an object"
        }
        other => whole(other).unwrap_or(other),
    };
    format!("{given}{INTRO}{expected}{place}")
}

/// Where a JSON text has U+0000, `levels[1]` or `note`. It is written `\u0000` there and nothing else.
fn holder_of_nul(body: &[u8]) -> Option<String> {
    fn find(value: &serde_json::Value, path: &str) -> Option<String> {
        use serde_json::Value;
        match value {
            Value::String(text) => text.contains('\0').then(|| path.to_string()),
            Value::Array(items) => {
                items.iter().enumerate().find_map(|(at, item)| find(item, &format!("{path}[{at}]")))
            }
            Value::Object(fields) => fields.iter().find_map(|(name, field)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if name.contains('\0') { Some(path) } else { find(field, &path) }
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }
    let escaped = body.windows(6).any(|bytes| bytes == b"\\u0000");
    if escaped { find(&serde_json::from_slice(body).ok()?, "") } else { None }
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed_json",
        "The body is not JSON",
        format!("the body cannot be read as JSON: {error}"),
    )
}

/// The name that serde puts in back quotes: ``unknown field `x` ``, ``missing field `x` ``.
fn quoted_field(message: &str) -> Option<String> {
    let at = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|intro| message.find(intro).map(|at| at + intro.len()))?;
    message.get(at..)?.split('`').next().map(str::to_string)
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read by serde alone")]
    struct Order {
        count: u32,
        line: Option<Line>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read by serde alone")]
    struct Line {
        text: String,
    }

    #[test]
    fn a_wrong_body_names_its_field() {
        for (body, status, field) in [
            ("{\"count\":\"x\"}", 422, Some("count")),
            ("{\"count\":-1}", 422, Some("count")),
            ("{}", 422, Some("count")),
            ("{\"count\":1,\"cuont\":1}", 422, Some("cuont")),
            ("{\"count\":1,\"count\":1}", 422, Some("count")),
            ("{\"count\":1,\"line\":{\"text\":7}}", 422, Some("line.text")),
            ("{\"count\":1,\"line\":{}}", 422, Some("line.text")),
            ("[]", 422, None),
            (" [1,null]", 422, None),
            ("[1", 400, None),
            ("{\"count\":1,\"line\":{\"text\":\"\\ud83d\"}}", 400, None),
            ("{\"count\":1", 400, None),
            ("{\"count\":1} x", 400, None),
            ("", 400, None),
            ("\u{feff}{}", 400, None),
        ] {
            let problem = parse_json::<Order>(body.as_bytes()).map(drop).expect_err(body);
            assert_eq!(
                (problem.status.as_u16(), problem.field.as_deref()),
                (status, field),
                "{body}: {problem:?}"
            );
        }
        assert!(parse_json::<Order>(b"{\"count\":1,\"line\":null}").is_ok());
    }

    #[test]
    fn a_wrong_type_is_named_as_json_has_it() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "read by serde alone")]
        struct Sheet {
            rows: Vec<i64>,
            open: Option<bool>,
            lines: Option<BTreeMap<String, Line>>,
            share: Option<f64>,
        }
        use std::collections::BTreeMap;
        for (body, told) in [
            (r#"{"rows":[1.5]}"#, "expected a whole number at line 1"),
            (r#"{"rows":{}}"#, "invalid type: an object, expected a list at line 1"),
            (r#"{"rows":[],"open":[]}"#, "invalid type: a list, expected true or false at line 1"),
            (r#"{"rows":[],"lines":{"a":"b"}}"#, "invalid type: string \"b\", expected an object at line 1"),
            (r#"{"rows":[],"lines":{"a":{"text":4}}}"#, "expected a text at line 1"),
            (r#"{"rows":[],"lines":7}"#, "invalid type: integer `7`, expected an object at line 1"),
            (r#"{"rows":[],"share":"x"}"#, "invalid type: string \"x\", expected a number at line 1"),
            ("7", "invalid type: integer `7`, expected an object at line 1"),
        ] {
            let problem = parse_json::<Sheet>(body.as_bytes()).map(drop).expect_err(body);
            assert!(problem.detail.contains(told), "{body}: {problem:?}");
        }
        for (count, told) in
            [("-1", "expected a whole number that is not negative"), ("\"x\"", "expected a whole number")]
        {
            let problem = parse_json::<Order>(format!("{{\"count\":{count}}}").as_bytes()).expect_err(count);
            assert!(problem.detail.contains(told), "{count}: {problem:?}");
        }
        let list = parse_json::<Order>(b"[]").expect_err("no object");
        assert!(list.detail.contains("the body is a list, and must be an object"), "{list:?}");
    }

    #[test]
    fn a_text_with_a_nul_is_refused_where_it_stands() {
        for (body, field) in [
            (r#"{"count":1,"line":{"text":"a\u0000b"}}"#, Some("line.text")),
            (r#"{"count":1,"line":{"text":"a\\u0000b"}}"#, None),
            (r#"{"count":1,"line":{"text":"a\u0001b"}}"#, None),
        ] {
            let refused = parse_json::<Order>(body.as_bytes()).err().and_then(|problem| problem.field);
            assert_eq!(refused.as_deref(), field, "{body}");
        }
        assert_eq!(holder_of_nul(br#"{"a":["x",{"b":["\u0000"]}]}"#).as_deref(), Some("a[1].b[0]"));
    }

    #[test]
    fn pages_end_with_null_and_cursors_come_back() {
        let page = Page::new(vec!["a", "b", "c"], 2, |item| item.to_string());
        assert_eq!(page.items, ["a", "b"]);
        assert_eq!(page_cursor(page.next.as_deref()).expect("ours"), "b");
        assert!(Page::new(vec!["a", "b"], 2, |item| item.to_string()).next.is_none());
        assert!(page_cursor(Some("!")).is_err());
        assert!(page_limit(Some(0)).is_err() && page_limit(Some(MAX_PAGE + 1)).is_err());
        assert_eq!(page_limit(Some(MAX_PAGE)).expect("the bound itself"), i64::from(MAX_PAGE));
    }
}
