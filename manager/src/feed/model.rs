//! What an exchange may look like.

use gate::wire::WIRE_VERSION;
use gate::wire::exchange::{
    ANSWERED, ExchangeRequest, LATENCY_MS, MAX_LATENCY_SUM_MS, MAX_RENEWALS, MAX_RESOLVES, MAX_USAGE,
    Presented, Renewal, UsageReport, UsageRow,
};

/// Characters of a filter's version at most.
pub const MAX_FILTER_VERSION: usize = 64;
/// Characters of an id in a usage report at most.
pub const MAX_USAGE_ID: usize = 128;
/// Characters of a result in a usage report at most.
pub const MAX_RESULT: usize = 64;
/// Calls in one usage row at most: more than a node admits in a year.
pub const MAX_CALLS: u64 = 1 << 40;

/// What is wrong with an exchange as a whole. It is refused before anything is read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFault {
    /// Another version of the contract.
    #[error(
        "the exchange has version {given}, this manager speaks {WIRE_VERSION}: \
         run a manager that is as new as the filter, or one release newer"
    )]
    Version {
        /// As sent.
        given: u32,
    },
    /// A list is too long.
    #[error("{field} has {given} entries, at most {most} go into one exchange: send the rest with the next")]
    TooMany {
        /// Which list.
        field: &'static str,
        /// Its length.
        given: usize,
        /// The bound.
        most: usize,
    },
    /// A value out of range.
    #[error("{field} {expected}")]
    Value {
        /// Where.
        field: String,
        /// What it has to be.
        expected: &'static str,
    },
}

impl ExchangeFault {
    /// The field to name.
    pub fn field(&self) -> &str {
        match self {
            Self::Version { .. } => "version",
            Self::TooMany { field, .. } => field,
            Self::Value { field, .. } => field,
        }
    }
}

/// Checks everything about an exchange that does not depend on what is on record.
pub fn check(request: &ExchangeRequest) -> Result<(), ExchangeFault> {
    if request.version != WIRE_VERSION {
        return Err(ExchangeFault::Version { given: request.version });
    }
    at_most("resolve", request.resolve.len(), MAX_RESOLVES)?;
    at_most("renew", request.renew.len(), MAX_RENEWALS)?;
    let plain_version = request.filter_version.len() <= MAX_FILTER_VERSION
        && request.filter_version.bytes().all(|byte| byte.is_ascii_graphic());
    require(plain_version, || "filter_version".into(), "is up to 64 printable characters without blanks")?;
    for (name, revision) in [("directory", request.directory), ("feed", request.feed)] {
        require(below_2_63(revision.0), || name.into(), BELOW_2_63)?;
    }
    for (index, renewal) in request.renew.iter().enumerate() {
        check_renewal(index, renewal)?;
    }
    match &request.usage {
        Some(report) => check_usage(report),
        None => Ok(()),
    }
}

/// Whether a credential can be anybody's at all. What cannot is unknown, and reaches no database:
/// a caller made it up, and the exchange it came in with is not to blame.
pub fn is_plausible(presented: &Presented) -> bool {
    let sha256 = |text: &str| {
        text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    match presented {
        Presented::Dgrk { api_key } => {
            api_key.len() <= gate::credential::MAX_API_KEY_BYTES
                && api_key.bytes().all(|byte| byte.is_ascii_graphic())
        }
        Presented::XApiKey { sha256: text } | Presented::Bearer { sha256: text } => sha256(text),
        Presented::Basic { client, password } => {
            client.len() <= MAX_USAGE_ID
                && client.bytes().all(|byte| byte.is_ascii_graphic())
                && password.chars().count() <= crate::password::MAX_CHARS
        }
    }
}

const BELOW_2_63: &str = "is a number below 2^63";

fn check_renewal(index: usize, renewal: &Renewal) -> Result<(), ExchangeFault> {
    let numbers = [
        ("meter", renewal.meter.0),
        ("rec", renewal.rec.0),
        ("seq", renewal.seq),
        ("epoch", renewal.epoch.map_or(0, |epoch| epoch.0)),
        ("closed_lease", renewal.closed_lease.map_or(0, |lease| lease.0)),
    ];
    for (name, number) in numbers {
        require(below_2_63(number), || format!("renew[{index}].{name}"), BELOW_2_63)?;
    }
    require(renewal.seq >= 1, || format!("renew[{index}].seq"), "counts from 1")
}

fn check_usage(report: &UsageReport) -> Result<(), ExchangeFault> {
    at_most("usage.rows", report.rows.len(), MAX_USAGE)?;
    require(below_2_63(report.boot), || "usage.boot".into(), BELOW_2_63)?;
    require(below_2_63(report.seq), || "usage.seq".into(), BELOW_2_63)?;
    require(report.seq >= 1, || "usage.seq".into(), "counts from 1")?;
    for (index, row) in report.rows.iter().enumerate() {
        check_row(index, row)?;
    }
    Ok(())
}

fn check_row(index: usize, row: &UsageRow) -> Result<(), ExchangeFault> {
    let ids = [
        ("client", row.client.as_ref().map(|id| id.as_str())),
        ("credential", row.credential.as_ref().map(|id| id.as_str())),
        ("secret", row.secret.as_deref()),
        ("api", row.api.as_ref().map(|uid| uid.as_str())),
    ];
    for (name, id) in ids {
        check_id(id, || format!("usage.rows[{index}].{name}"))?;
    }
    let result = (1..=MAX_RESULT).contains(&row.result.len())
        && row.result.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    require(result, || format!("usage.rows[{index}].result"), "is `admitted` or the code of a denial")?;
    let counted = (1..=MAX_CALLS).contains(&row.count);
    require(counted, || format!("usage.rows[{index}].count"), "is 1 to 2^40")?;
    let of_answers = ANSWERED.contains(&row.result.as_str()) != row.latency.is_empty()
        && row.latency.len() <= LATENCY_MS.len() + 1
        && row.latency.iter().all(|[bucket, answers, ms]| {
            *bucket <= LATENCY_MS.len() as u64
                && (1..=MAX_CALLS).contains(answers)
                && *ms <= MAX_LATENCY_SUM_MS
        });
    require(
        of_answers,
        || format!("usage.rows[{index}].latency"),
        "is of answers alone: up to 16 times a bucket of 0 to 15, how many of 1 to 2^40, and their milliseconds",
    )
}

fn check_id(id: Option<&str>, field: impl FnOnce() -> String) -> Result<(), ExchangeFault> {
    let plain = id.is_none_or(|id| {
        (1..=MAX_USAGE_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    require(plain, field, "is an id of 1 to 128 printable characters")
}

fn below_2_63(number: u64) -> bool {
    i64::try_from(number).is_ok()
}

fn at_most(field: &'static str, given: usize, most: usize) -> Result<(), ExchangeFault> {
    if given <= most { Ok(()) } else { Err(ExchangeFault::TooMany { field, given, most }) }
}

fn require(holds: bool, field: impl FnOnce() -> String, expected: &'static str) -> Result<(), ExchangeFault> {
    if holds { Ok(()) } else { Err(ExchangeFault::Value { field: field(), expected }) }
}
