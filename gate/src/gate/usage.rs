//! What one VM admitted and refused since its last report.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::id::{ApiUid, CredentialId};
use crate::sorted::Sorted;
use crate::wire::exchange::{MAX_USAGE, UsageReport, UsageRow};

/// Different rows kept at most; what is over is counted by its result alone.
pub const MAX_ROWS: usize = 20_000;
/// Result of an admitted call.
pub const ADMITTED: &str = "admitted";

/// Counters, and the report that is not acknowledged yet.
pub struct Usage {
    boot: u64,
    seq: u64,
    rows: Sorted<Row, u64>,
    unacknowledged: Option<UsageReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    credential: Option<CredentialId>,
    secret: Option<String>,
    api: Option<ApiUid>,
    result: &'static str,
}

impl Usage {
    /// Nothing counted yet. `boot` names this life of the VM.
    pub fn new(boot: u64) -> Self {
        Self { boot, seq: 0, rows: Sorted::new(), unacknowledged: None }
    }

    /// Counts `count` calls.
    pub fn count(
        &mut self,
        credential: Option<&CredentialId>,
        secret: Option<&str>,
        api: Option<&ApiUid>,
        result: &'static str,
        count: u64,
    ) {
        let mut row = Row {
            credential: credential.cloned(),
            secret: secret.map(String::from),
            api: api.cloned(),
            result,
        };
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&row) {
            row = Row { credential: None, secret: None, api: None, result };
        }
        match self.rows.get_mut(&row) {
            Some(counter) => *counter = counter.saturating_add(count),
            None => {
                self.rows.insert(row, count);
            }
        }
    }

    /// Whether there is something to report.
    pub fn is_due(&self) -> bool {
        self.unacknowledged.is_some() || !self.rows.is_empty()
    }

    /// The report to send: the one that is not acknowledged, as it was, or a new one.
    pub fn report(&mut self) -> Option<UsageReport> {
        if self.unacknowledged.is_none() && !self.rows.is_empty() {
            let mut rows = Vec::new();
            while rows.len() < MAX_USAGE
                && let Some((row, count)) = self.rows.pop()
            {
                rows.push(UsageRow {
                    credential: row.credential,
                    secret: row.secret,
                    api: row.api,
                    result: row.result.to_string(),
                    count,
                });
            }
            self.seq += 1;
            self.unacknowledged = Some(UsageReport { boot: self.boot, seq: self.seq, rows });
        }
        self.unacknowledged.clone()
    }

    /// The manager has counted report `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        if self.unacknowledged.as_ref().is_some_and(|report| report.seq == seq) {
            self.unacknowledged = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_report_is_repeated_as_it_was_until_it_is_acknowledged() {
        let mut usage = Usage::new(7);
        assert_eq!(usage.report(), None);
        usage.count(Some(&"k".into()), None, Some(&"a".into()), ADMITTED, 2);
        usage.count(Some(&"k".into()), None, Some(&"a".into()), ADMITTED, 3);
        let first = usage.report();
        assert_eq!(first.as_ref().map(|r| (r.boot, r.seq, r.rows.len())), Some((7, 1, 1)));
        usage.count(None, None, None, "api_not_found", 1);
        assert_eq!(usage.report(), first);
        usage.acknowledge(9);
        assert_eq!(usage.report(), first);
        usage.acknowledge(1);
        let second = usage.report().unwrap();
        assert_eq!((second.seq, second.rows[0].result.as_str()), (2, "api_not_found"));
        usage.acknowledge(2);
        assert!(!usage.is_due());
    }

    #[test]
    fn rows_are_bounded_and_no_call_is_lost() {
        let mut usage = Usage::new(7);
        for n in 0..MAX_ROWS + 50 {
            usage.count(Some(&n.to_string().into()), None, None, ADMITTED, 1);
        }
        assert!(usage.rows.len() <= MAX_ROWS + 1);
        let mut total = 0;
        while let Some(report) = usage.report() {
            assert!(report.rows.len() <= MAX_USAGE);
            total += report.rows.iter().map(|row| row.count).sum::<u64>();
            usage.acknowledge(report.seq);
        }
        assert_eq!(total, MAX_ROWS as u64 + 50);
    }
}
