//! What one VM admitted and refused since its last report.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::Identity;
use crate::id::{ApiUid, ClientId, CredentialId};
use crate::sorted::Sorted;
use crate::wire::directory::ApiEntry;
use crate::wire::exchange::{ANSWERED, MAX_LATENCY_SUM_MS, MAX_USAGE, UsageReport, UsageRow, latency_bucket};

/// Different rows kept at most; what is over is counted by its result alone.
pub const MAX_ROWS: usize = 20_000;
/// Different callers and APIs whose latest answers are kept beside the rows: what comes again soon is
/// found without comparing names.
const MAX_RECENT: usize = 64;
/// Result of an admitted call.
pub const ADMITTED: &str = "admitted";

/// Counters, and the report that is not acknowledged yet.
pub struct Usage {
    boot: u64,
    seq: u64,
    rows: Sorted<Row, Counted>,
    recent: Vec<Recent>,
    unacknowledged: Option<UsageReport>,
    /// The slot that reports are told from, so that the manager knows a repeat: that of the first, whichever
    /// the VM has since.
    slot: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    client: Option<ClientId>,
    credential: Option<CredentialId>,
    secret: Option<String>,
    api: Option<ApiUid>,
    result: &'static str,
}

#[derive(Default)]
struct Counted {
    calls: u64,
    latency: Vec<[u64; 3]>,
}

/// How one caller's calls to one API were answered of late.
struct Recent {
    identity: Option<Rc<Identity>>,
    api: Rc<ApiEntry>,
    class: u8,
    latency: Vec<[u64; 3]>,
}

impl Usage {
    /// Nothing counted yet. `boot` names this life of the VM.
    pub fn new(boot: u64) -> Self {
        Self { boot, seq: 0, rows: Sorted::new(), recent: Vec::new(), unacknowledged: None, slot: None }
    }

    /// Counts `count` calls.
    pub fn count(
        &mut self,
        caller: Option<(&ClientId, &CredentialId)>,
        secret: Option<&str>,
        api: Option<&ApiUid>,
        result: &'static str,
        count: u64,
    ) {
        let row = Row {
            client: caller.map(|(client, _)| client.clone()),
            credential: caller.map(|(_, credential)| credential.clone()),
            secret: secret.map(String::from),
            api: api.cloned(),
            result,
        };
        self.add(row, count, &[]);
    }

    fn add(&mut self, mut row: Row, count: u64, latency: &[[u64; 3]]) {
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&row) {
            row = Row { client: None, credential: None, secret: None, api: None, result: row.result };
        }
        let Some(counted) = self.rows.get_mut(&row) else {
            self.rows.insert(row, Counted { calls: count, latency: latency.to_vec() });
            return;
        };
        counted.calls = counted.calls.saturating_add(count);
        latency.iter().for_each(|[bucket, answers, ms]| tally(&mut counted.latency, *bucket, *answers, *ms));
    }

    /// Counts an answer that took `ms`. `class`: first digit of its status, 0 = there was none.
    pub fn answered(&mut self, identity: Option<&Rc<Identity>>, api: &Rc<ApiEntry>, class: u8, ms: u64) {
        let same = |recent: &&mut Recent| {
            recent.class == class
                && Rc::ptr_eq(&recent.api, api)
                && recent.identity.as_ref().map(Rc::as_ptr) == identity.map(Rc::as_ptr)
        };
        let bucket = latency_bucket(ms);
        if let Some(recent) = self.recent.iter_mut().find(same) {
            return tally(&mut recent.latency, bucket, 1, ms);
        }
        if self.recent.len() >= MAX_RECENT {
            self.collect_recent();
        }
        let latency = vec![[bucket, 1, ms]];
        self.recent.push(Recent { identity: identity.cloned(), api: api.clone(), class, latency });
    }

    fn collect_recent(&mut self) {
        for recent in core::mem::take(&mut self.recent) {
            let row = Row {
                client: recent.identity.map(|identity| ClientId(identity.client.clone())),
                credential: None,
                secret: None,
                api: Some(recent.api.uid.clone()),
                result: ANSWERED.get(usize::from(recent.class)).unwrap_or(&ANSWERED[0]),
            };
            self.add(row, recent.latency.iter().map(|[_, answers, _]| answers).sum(), &recent.latency);
        }
    }

    /// Whether there is something to report.
    pub fn is_due(&self) -> bool {
        self.unacknowledged.is_some() || !self.rows.is_empty() || !self.recent.is_empty()
    }

    /// The report to send: the one that is not acknowledged, as it was, or a new one.
    pub fn report(&mut self) -> Option<UsageReport> {
        if self.unacknowledged.is_none() && self.is_due() {
            self.collect_recent();
            let mut rows = Vec::new();
            while rows.len() < MAX_USAGE
                && let Some((row, Counted { calls, latency })) = self.rows.pop()
            {
                rows.push(UsageRow {
                    client: row.client,
                    credential: row.credential,
                    secret: row.secret,
                    api: row.api,
                    result: row.result.to_string(),
                    count: calls,
                    latency,
                });
            }
            self.seq += 1;
            self.unacknowledged = Some(UsageReport { boot: self.boot, seq: self.seq, rows });
        }
        self.unacknowledged.clone()
    }

    /// Whether more is waiting than one report holds.
    pub fn is_behind(&self) -> bool {
        self.rows.len() >= MAX_USAGE
    }

    /// The manager has counted report `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        if self.unacknowledged.as_ref().is_some_and(|report| report.seq == seq) {
            self.unacknowledged = None;
        }
    }

    /// The manager will never take report `seq`, which is given up: how many calls nobody will count.
    pub fn give_up(&mut self, seq: u64) -> Option<u64> {
        let report = self.unacknowledged.take_if(|report| report.seq == seq)?;
        // One for each answer, too: what was let in is counted once.
        Some(report.rows.iter().filter(|row| row.latency.is_empty()).map(|row| row.count).sum())
    }

    /// The slot to tell reports from, where the VM has `slot` now.
    pub fn told_from(&mut self, slot: Option<u64>) -> u32 {
        let now = slot.and_then(|slot| u32::try_from(slot).ok()).unwrap_or(u32::MAX);
        *self.slot.get_or_insert(now)
    }
}

/// Adds to a histogram.
fn tally(latency: &mut Vec<[u64; 3]>, bucket: u64, answers: u64, ms: u64) {
    match latency.iter_mut().find(|[found, ..]| *found == bucket) {
        Some([_, counted, total]) => {
            *counted = counted.saturating_add(answers);
            *total = total.saturating_add(ms).min(MAX_LATENCY_SUM_MS);
        }
        None => latency.push([bucket, answers, ms.min(MAX_LATENCY_SUM_MS)]),
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
        usage.count(Some((&"c".into(), &"k".into())), None, Some(&"a".into()), ADMITTED, 2);
        usage.count(Some((&"c".into(), &"k".into())), None, Some(&"a".into()), ADMITTED, 3);
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
            usage.count(Some((&"c".into(), &n.to_string().into())), None, None, ADMITTED, 1);
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

    fn api(uid: &str) -> Rc<ApiEntry> {
        let text = alloc::format!(
            r#"{{"uid": "{uid}", "module": "m", "id": "i", "path": {{"exact": "/"}}, "enabled": true}}"#
        );
        Rc::new(serde_json::from_str(&text).unwrap())
    }

    fn caller(client: &str) -> Rc<Identity> {
        Rc::new(Identity { client: client.into(), credential: "k".into(), groups: None })
    }

    #[test]
    fn latencies_fall_into_buckets_whose_end_is_inside() {
        for (ms, bucket) in
            [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (6, 3), (50_000, 14), (50_001, 15), (u64::MAX, 15)]
        {
            assert_eq!(latency_bucket(ms), bucket, "{ms}");
        }
    }

    #[test]
    fn answers_are_told_by_client_api_class_and_bucket_whatever_the_credential() {
        let mut usage = Usage::new(7);
        let (orders, acme, same) = (api("orders"), caller("acme"), caller("acme"));
        for (class, ms) in [(2, 3), (2, 4), (5, 3), (2, 90), (0, 7), (9, 8)] {
            usage.answered(Some(&acme), &orders, class, ms);
        }
        usage.answered(Some(&same), &orders, 2, 100);
        usage.answered(None, &orders, 2, 1);
        let report = usage.report().unwrap();
        let told: Vec<_> = report
            .rows
            .iter()
            .map(|row| {
                (row.client.as_ref().map(ClientId::as_str), &*row.result, row.count, row.latency.as_slice())
            })
            .collect();
        for expected in [
            (None, "answered_2xx", 1, &[[0, 1, 1]][..]),
            (Some("acme"), "answered_not", 2, &[[3, 2, 15]]),
            (Some("acme"), "answered_2xx", 4, &[[2, 2, 7], [6, 2, 190]]),
            (Some("acme"), "answered_5xx", 1, &[[2, 1, 3]]),
        ] {
            assert!(told.contains(&expected), "{expected:?} in {told:?}");
        }
        assert!(told.len() == 4 && report.rows.iter().all(|row| row.api == Some("orders".into())));
        usage.acknowledge(1);
        assert!(!usage.is_due());
    }

    #[test]
    fn recent_answers_are_bounded_and_none_is_lost() {
        let mut usage = Usage::new(7);
        let orders = api("orders");
        let callers: Vec<_> = (0..3 * MAX_RECENT).map(|n| caller(&n.to_string())).collect();
        for caller in callers.iter().chain(&callers) {
            usage.answered(Some(caller), &orders, 2, 1);
            assert!(usage.recent.len() <= MAX_RECENT);
        }
        let report = usage.report().unwrap();
        assert_eq!(report.rows.len(), 3 * MAX_RECENT);
        assert!(report.rows.iter().all(|row| row.count == 2 && row.latency == [[0, 2, 2]]));
    }
}
