//! The call that tells the manager what led to refusals.

use alloc::format;
use alloc::string::String;

use super::decisions::REPORT_EVERY_MS;
use super::{Answer, Call, Gate, Purpose};
use crate::time::MonoMillis;
use crate::wire::DECISIONS_PATH;
use crate::wire::decisions::MAX_TEXT_BYTES;

/// When a report is given up, to be sent again.
const TIMEOUT_MS: u64 = 2_000;
/// A manager that does not take reports (an older one) is not asked again for so long.
const REFUSED_PAUSE_MS: u64 = 60_000;

impl Gate {
    /// The next report, if something was refused.
    pub(super) fn next_report(&mut self, now: MonoMillis) -> Option<Call> {
        let holder = self.holder?;
        let due = self.joined && self.decisions.is_due() && self.decisions_due_at <= now;
        if !due || self.reports.under_way > 0 || now < self.reports.not_before {
            return None;
        }
        let (seq, body) = self.decisions.report(holder)?;
        self.decisions_due_at = now + REPORT_EVERY_MS;
        self.reports.sent(now);
        let purpose = Purpose::Decisions { seq };
        Some(self.call(purpose, "POST", String::from(DECISIONS_PATH), body, TIMEOUT_MS, now))
    }

    pub(super) fn take_report(&mut self, answer: Answer, seq: u64, now: MonoMillis) {
        match answer {
            Answer::Received { status: 200, marked: true, .. } => {
                self.reports.answered();
                self.decisions.acknowledge(seq);
            }
            // It will never take this one. (404: it is older than this filter.)
            Answer::Received { status: 404, .. }
            | Answer::Received { status: 400 | 413, marked: true, .. } => {
                self.reports.answered();
                self.decisions.acknowledge(seq);
                self.reports.not_before = now + REFUSED_PAUSE_MS;
                self.notice(format!("the manager does not take report {seq} of refusals: they are not kept"));
            }
            Answer::Received { .. } | Answer::Failed => self.reports.failed(now),
        }
    }
}

/// What a caller sent, as text that is safe to show: visible ASCII, within bounds.
pub(super) fn text(bytes: &[u8]) -> String {
    let visible = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    bytes.iter().take(MAX_TEXT_BYTES).map(visible).collect()
}
