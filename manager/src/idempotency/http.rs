//! The header, and what a repeated call is answered.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument as _;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::{IntoParams, IntoResponses};

use super::actions::{self, IdempotencyError, Repeat, Run, Unanswerable};
use super::model::{Answer, Call, Key, MAX_KEY, Turn};
use crate::app::App;
use crate::db::{self, DbError};
use crate::http::{MAX_BODY_BYTES, in_request, request_id, too_large};
use crate::problem::Problem;

/// Bytes of the body of an operator's call with a key at most: the longest that any operation takes.
const MAX_OPERATORS_BODY_BYTES: usize = 16 << 20;
/// Of which a key is made, with or without quotes around it.
const VISIBLE: &str = r"[!#-\[\]-~]";
/// When a call that is being carried out is asked for again.
const RETRY_AFTER_S: u32 = 1;

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Who calls without a token: one caller to us. Nobody guesses the keys of another.
pub const STRANGERS: &str = "anybody";

/// What the audit trail's names of operators begin with.
const OPERATORS: &str = "operator:";

/// The header, as the description of every writing operation shows it.
pub struct IdempotencyKey;

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(
                "Drawn by the caller for this very call (a UUID): repeated with it within 24 hours, the call is \
                 carried out once and gets the same answer, with `Idempotency-Replayed: true`.",
            ))
            .schema(Some(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some(format!(r#"^("{VISIBLE}{{1,{MAX_KEY}}}"|{VISIBLE}{{1,{MAX_KEY}}})$"#))),
            ));
        vec![parameter.build()]
    }
}

/// An answer that shows a secret, this once: it is kept for a repeat for a short time only.
#[derive(Clone, Debug)]
pub struct Confidential<A>(pub A);

/// On a response: it shows a secret.
#[derive(Clone, Copy)]
struct ShowsSecret;

impl<A: IntoResponse> IntoResponse for Confidential<A> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.extensions_mut().insert(ShowsSecret);
        response
    }
}

impl<A: IntoResponses> IntoResponses for Confidential<A> {
    fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
        A::responses()
    }
}

/// Carries a call out, once where it has a key. `caller` is who it is, as the audit trail names it;
/// for calls without a token it is [`STRANGERS`].
///
/// With a key it is carried out to its end, also when the caller hangs up: the repeat finds the answer.
pub async fn once(app: &App, caller: &str, request: Request, next: Next) -> Result<Response, Problem> {
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(request.method());
    if !writes || !request.headers().contains_key(&IDEMPOTENCY_KEY) {
        return Ok(next.run(request).await);
    }
    let (call, request) = read(caller, request).await?;
    let turn = app.idempotency.begin(&call.id).ok_or_else(in_progress)?;
    let work = carry_out(app.clone(), call, turn, request, next);
    let work = in_request(request_id().unwrap_or_default(), work).in_current_span();
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "A call with an idempotency key was cut off");
        Err(Problem::internal())
    })
}

async fn read(caller: &str, request: Request) -> Result<(Call, Request), Problem> {
    let mut keys = request.headers().get_all(&IDEMPOTENCY_KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key.to_str().ok().and_then(Key::parse),
        _ => None,
    };
    let Some(key) = key else {
        let detail = format!(
            "Idempotency-Key is one text of 1 to {MAX_KEY} visible ASCII characters, drawn for this call, e.g. a UUID"
        );
        let problem = Problem::new(StatusCode::BAD_REQUEST, "invalid_header", "A header is invalid", detail);
        return Err(problem.field("Idempotency-Key"));
    };
    let (parts, body) = request.into_parts();
    let max = if caller.starts_with(OPERATORS) { MAX_OPERATORS_BODY_BYTES } else { MAX_BODY_BYTES };
    let body = axum::body::to_bytes(body, max).await.map_err(|_| too_large(max))?;
    let path_and_query = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let if_match = parts.headers.get(header::IF_MATCH).map_or(&b""[..], HeaderValue::as_bytes);
    let call = Call::new(caller, &key, parts.method.as_str(), path_and_query, if_match, &body);
    Ok((call, Request::from_parts(parts, Body::from(body))))
}

async fn carry_out(
    app: App,
    call: Call,
    _turn: Turn,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(answer) = repeated(&call, actions::look_up(&app, &call).await?.0) {
        return answer;
    }
    let run = std::sync::Arc::new(Run::new(&app, &call));
    let response = db::riding(run.clone(), next.run(request)).await;
    if response.status().is_success() {
        return keep(&app, &call, &run, response).await;
    }
    // Refused: because of itself, or because the same call was carried out meanwhile.
    match actions::look_up(&app, &call).await {
        Ok((_, Some(claimed_by))) if claimed_by == run.id => {
            if response.status().is_client_error() {
                // Only what stands beside the call was written, such as a wrong password counted.
                actions::release(&app, &call, &run).await?;
                return Ok(response);
            }
            Err(carried_out(&call, app.now(), Unanswerable::Lost))
        }
        Ok((repeat, _)) => repeated(&call, repeat).unwrap_or(Ok(response)),
        // What is true is told by the next repeat.
        Err(_) => Ok(response),
    }
}

async fn keep(app: &App, call: &Call, run: &Run, response: Response) -> Result<Response, Problem> {
    let confidential = response.extensions().get::<ShowsSecret>().is_some();
    let (parts, body) = response.into_parts();
    // It lies in memory already.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return Err(carried_out(call, app.now(), Unanswerable::Lost));
    };
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| value.to_str().ok().map(|value| (name.as_str().to_string(), value.to_string())));
    let answer = match (String::from_utf8(body.to_vec()), headers.collect()) {
        (Ok(body), Some(headers)) => Some(Answer { status: parts.status.as_u16(), headers, body }),
        _ => None,
    };
    match actions::keep(app, call, run, answer.as_ref(), confidential).await {
        Ok(true) => {}
        Ok(false) => {
            if let Some(answer) = repeated(call, actions::look_up(app, call).await?.0) {
                return answer;
            }
        }
        // The caller has its answer; a repeat is told that it was carried out.
        Err(error) => tracing::warn!(%error, "An answer could not be kept for a repeat of the call"),
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn repeated(call: &Call, repeat: Repeat) -> Option<Result<Response, Problem>> {
    match repeat {
        Repeat::None => None,
        Repeat::Another => Some(Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "The key belongs to another call",
            "this Idempotency-Key was used for a call with another method, path, If-Match or body: draw a new \
             key for a new call, and repeat a call unchanged",
        )
        .field("Idempotency-Key"))),
        Repeat::Answer(answer) => Some(Ok(answer.into_response())),
        Repeat::Answering => Some(Err(in_progress())),
        Repeat::Unanswerable { carried_out_at, why } => Some(Err(carried_out(call, carried_out_at, why))),
    }
}

fn in_progress() -> Problem {
    Problem::conflict(
        "request_in_progress",
        "a call with this Idempotency-Key is being carried out: repeat it unchanged after Retry-After for its answer",
    )
    .field("Idempotency-Key")
    .retry_after(RETRY_AFTER_S)
}

fn carried_out(call: &Call, at: gate::time::UnixMillis, why: Unanswerable) -> Problem {
    let why = match why {
        Unanswerable::Lost => "its answer was lost",
        Unanswerable::NotKept => {
            "its answer is not kept any more (secrets are shown once: where one was missed, issue another)"
        }
    };
    // What was posted to may be an action, which is not read but at what it acts on.
    let places = match call.path.rsplit_once('/') {
        Some((above, _)) if above.matches('/').count() > 2 => format!("{above} or {}", call.path),
        _ => call.path.clone(),
    };
    let detail = format!(
        "this call was carried out at {} (UTC ms), but {why}: do not repeat it with another key; \
         read what became of it at {places}, or in the audit trail at that instant",
        at.0
    );
    Problem::conflict("already_carried_out", detail).field("Idempotency-Key")
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response.headers_mut().insert(&IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

impl From<IdempotencyError> for Problem {
    fn from(error: IdempotencyError) -> Self {
        match error {
            IdempotencyError::Db(DbError::Repeated) => in_progress(),
            IdempotencyError::Db(error) => error.into(),
            IdempotencyError::Vault(_) | IdempotencyError::Answer => {
                tracing::error!(%error, "A call with an idempotency key failed");
                Self::internal()
            }
        }
    }
}
