//! What a report of decisions may look like, and what an id says.

use gate::id::HolderId;
use gate::time::UnixMillis;
use gate::wire::WIRE_VERSION;
use gate::wire::decisions::{Decision, DecisionsReport, MAX_CODES, MAX_DECISIONS, MAX_TEXT_BYTES};

/// Decisions of one code and client that are kept of one hour at most: a single cause fills its own place
/// alone, twenty of them that of all.
pub const KEPT_PER_HOUR: i64 = 1_000;
/// Decisions that are kept of one hour in all, whatever their codes and clients: what they take of the disk
/// is bounded, however many clients are refused.
pub const KEPT_PER_HOUR_IN_ALL: i64 = 20_000;
/// How far back a list looks that does not say: a day.
pub const USUAL_MS: i64 = 86_400_000;
/// Characters of an id, a code, an address at most.
const MAX_WORD: usize = 128;
/// Characters of the sentence that the caller was told at most.
const MAX_DETAIL: usize = 4_096;
/// Meters of one decision, leases of one meter at most: more than a grant has.
const MAX_PARTS: usize = 16;

/// A decision on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// When the manager heard of it.
    pub received_at: UnixMillis,
    /// Id of the gateway that told it.
    pub gateway: String,
    /// As it was told.
    pub decision: Decision,
}

/// Which decisions to list; absent = all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Received then or later.
    pub from: Option<UnixMillis>,
    /// Received before.
    pub until: Option<UnixMillis>,
    /// With this code.
    pub code: Option<String>,
    /// Of this client.
    pub client: Option<String>,
    /// Of this credential.
    pub credential: Option<String>,
    /// Of this API, by its uid.
    pub api: Option<String>,
    /// From this address.
    pub address: Option<String>,
    /// Told by this gateway, by its id.
    pub gateway: Option<String>,
}

/// The life of a worker, as far as it has reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its Envoy process.
    pub holder: String,
    /// Id of its gateway.
    pub gateway: String,
    /// When it reported last.
    pub reported_at: UnixMillis,
    /// Decisions that were taken on record.
    pub kept: u64,
    /// Refusals of which only the number is known.
    pub not_kept: u64,
}

/// One report of one worker, checked.
#[derive(Clone, Debug)]
pub struct Reported {
    /// Id of the gateway.
    pub gateway: String,
    /// The Envoy process.
    pub holder: HolderId,
    /// What it said.
    pub report: DecisionsReport,
}

/// What is wrong with a report. It is refused before anything is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {expected}")]
pub struct ReportFault {
    /// Where.
    pub field: String,
    /// What it has to be.
    pub expected: &'static str,
}

/// Checks all of a report.
pub fn check(report: &DecisionsReport) -> Result<(), ReportFault> {
    let require = |holds: bool, field: &str, expected: &'static str| {
        if holds { Ok(()) } else { Err(ReportFault { field: field.into(), expected }) }
    };
    let below_2_63 = |number: u64| i64::try_from(number).is_ok();
    require(report.version == WIRE_VERSION, "version", "is another than this manager speaks")?;
    require(below_2_63(report.boot), "boot", "is a number below 2^63")?;
    require(below_2_63(report.seq) && report.seq >= 1, "seq", "is a number from 1, below 2^63")?;
    require(report.decisions.len() <= MAX_DECISIONS, "decisions", "has more entries than fit one report")?;
    require(report.not_kept.len() <= MAX_CODES, "not_kept", "has more entries than there are codes")?;
    for row in &report.not_kept {
        require(is_code(&row.code), "not_kept.code", "is the code of a denial")?;
        require((1..1 << 40).contains(&row.count), "not_kept.count", "is 1 to 2^40")?;
    }
    for (index, decision) in report.decisions.iter().enumerate() {
        require(
            boot_of(&decision.id) == Some(report.boot),
            &format!("decisions[{index}].id"),
            "begins with the boot of its report",
        )?;
        require(
            is_storable(decision),
            &format!("decisions[{index}]"),
            "has a text or a list that is too long",
        )?;
    }
    Ok(())
}

/// The life of the worker that gave an id; none: it is no id.
pub fn boot_of(id: &str) -> Option<u64> {
    let (boot, number) = id.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = (1..=20).contains(&number.len()) && digits(number);
    let is_boot =
        boot.len() == 16 && boot.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if is_boot && is_number { u64::from_str_radix(boot, 16).ok() } else { None }
}

fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn is_storable(decision: &Decision) -> bool {
    let word = |text: Option<&str>| {
        text.is_none_or(|text| {
            (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        })
    };
    let sent = |text: &str| text.len() <= MAX_TEXT_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_code(&decision.code)
        && decision.detail.len() <= MAX_DETAIL
        && !decision.detail.contains('\0')
        && [&decision.method, &decision.host, &decision.path].into_iter().all(|text| sent(text))
        && word(decision.api.as_ref().map(|uid| uid.as_str()))
        && word(decision.client.as_ref().map(|id| id.as_str()))
        && word(decision.credential.as_ref().map(|id| id.as_str()))
        && word(decision.address.as_deref())
        && decision.meters.len() <= MAX_PARTS
        && decision.meters.iter().all(|meter| meter.leases.len() <= MAX_PARTS)
}
