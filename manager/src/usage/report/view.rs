//! Rows of a report as they are told.

use gate::denial::status_of;
use gate::wire::exchange::ANSWERED;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Answers, Calls, Key, Row};
use crate::openapi::schema::schema_of;

/// Classes of status, in the order of [`ANSWERED`].
pub(super) const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// First digit of a status; none: the stream ended without an answer.
pub(super) enum StatusClass {}

schema_of! { StatusClass as UsageStatus: one_of(STATUSES) }

/// Calls that are counted together.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UsageCalls)]
pub struct CallsView {
    /// First instant, UTC ms.
    pub start: i64,
    /// First instant after it, UTC ms.
    pub end: i64,
    /// null: not told apart by clients, or the caller is unknown.
    pub client: Option<String>,
    /// null: not told apart by credentials, or the caller is unknown.
    pub credential: Option<String>,
    /// null: not told apart by APIs, or none matched.
    pub api: Option<String>,
    /// `admitted`, or the code of the refusal; null: not told apart by results.
    pub result: Option<String>,
    /// HTTP status of that refusal; null: there is none.
    pub status: Option<u16>,
    /// All.
    pub calls: u64,
    /// Those let in.
    pub admitted: u64,
    /// The others.
    pub refused: u64,
}

/// Answers that are counted together.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UsageAnswers)]
pub struct AnswersView {
    /// First instant, UTC ms.
    pub start: i64,
    /// First instant after it, UTC ms.
    pub end: i64,
    /// null: not told apart by clients, or nobody had to prove who calls.
    pub client: Option<String>,
    /// null: not told apart by APIs.
    pub api: Option<String>,
    /// null: not told apart by status.
    #[schema(value_type = Option<StatusClass>)]
    pub status: Option<&'static str>,
    /// All.
    pub answers: u64,
    /// Those with a status below 400.
    pub succeeded: u64,
    /// The others; also streams that ended without an answer.
    pub failed: u64,
    /// Average time from the head of the request to the end of the answer, in milliseconds; null: there
    /// is no answer.
    pub mean_ms: Option<u64>,
    /// Half of the answers took no longer, in milliseconds: the end of that bucket of `latency`; null:
    /// it has no end.
    pub p50_ms: Option<u64>,
    /// Nine of ten took no longer.
    pub p90_ms: Option<u64>,
    /// 99 of 100 took no longer.
    pub p99_ms: Option<u64>,
    /// How many took how long, ascending; buckets without an answer are left out.
    pub latency: Vec<LatencyView>,
}

/// Answers that took about as long.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UsageLatency)]
pub struct LatencyView {
    /// They took this many milliseconds at most, and more than the bucket before; null: more than the
    /// last one that has an end.
    pub le_ms: Option<u64>,
    /// How many, without those of other buckets.
    pub answers: u64,
}

impl From<Row<Calls>> for CallsView {
    fn from(row: Row<Calls>) -> Self {
        let Row { span, key, counted: Calls { calls, admitted } } = row;
        let (client, credential, api, result) = named(key);
        Self {
            start: span.start.0,
            end: span.end.0,
            status: result.as_deref().and_then(status_of),
            client,
            credential,
            api,
            result,
            calls,
            admitted,
            refused: calls.saturating_sub(admitted),
        }
    }
}

impl From<Row<Answers>> for AnswersView {
    fn from(row: Row<Answers>) -> Self {
        let Row { span, key, counted: answers } = row;
        let (count, ms) = (answers.count(), answers.ms);
        let quantile = |of| answers.quantile(of);
        let (p50_ms, p90_ms, p99_ms) = (quantile(500), quantile(900), quantile(990));
        let (client, _, api, result) = named(key);
        let status = result.and_then(|result| ANSWERED.iter().position(|name| *name == result));
        Self {
            start: span.start.0,
            end: span.end.0,
            client,
            api,
            status: status.and_then(|at| STATUSES.get(at).copied()),
            answers: count,
            succeeded: answers.succeeded,
            failed: count.saturating_sub(answers.succeeded),
            mean_ms: ms.checked_div(count),
            p50_ms,
            p90_ms,
            p99_ms,
            latency: answers
                .latency
                .into_iter()
                .map(|(le_ms, answers)| LatencyView { le_ms, answers })
                .collect(),
        }
    }
}

fn named(key: Key) -> (Option<String>, Option<String>, Option<String>, Option<String>) {
    let named = |text: String| (!text.is_empty()).then_some(text);
    (named(key.client), named(key.credential), named(key.api), named(key.result))
}
