//! What led to refusals, kept until the manager has it.
//!
//! Every refusal gets an id. What led to it is kept within bounds: at most [`MAX_DECISIONS`] at a
//! time, and lastingly no more than [`KEPT_PER_S`] a second. In a flood that is a fair sample: as
//! many of each cause (code and credential) as of any other, and of one cause every refusal with
//! the same chance. What is not kept is counted.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::denial::CODES;
use crate::id::{CredentialId, HolderId};
use crate::time::MonoMillis;
use crate::wire::WIRE_VERSION;
use crate::wire::decisions::{Decision, DecisionsReport, MAX_DECISIONS, NotKept};

/// Decisions kept per second and worker, when refusals go on and on.
pub const KEPT_PER_S: u64 = 8;
/// How often a report is sent, if there is something to say.
pub const REPORT_EVERY_MS: u64 = 1_000;

/// Ids given, decisions kept, and the report that is not acknowledged yet.
pub struct Decisions {
    boot: u64,
    refused: u64,
    seq: u64,
    kept: Vec<(Cause, Decision)>,
    /// Those of `kept`: few enough to be looked through.
    causes: Vec<Counted>,
    not_kept: Vec<(&'static str, u64)>,
    /// Thousandths of a decision that may be kept.
    allowance: u64,
    allowance_at: MonoMillis,
    chance: u64,
    /// Its number, and the report as it is sent.
    unacknowledged: Option<(u64, Vec<u8>)>,
}

/// A hash of code and credential: refusals with the same cause stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cause(u64);

#[derive(Clone, Copy, Debug)]
struct Counted {
    cause: Cause,
    seen: u64,
    kept: usize,
}

/// Room for one decision. Whoever has it puts it in.
#[derive(Debug)]
pub struct Place {
    cause: Cause,
    at: Option<usize>,
}

impl Place {
    /// Whether one that was kept makes way.
    pub fn displaces(&self) -> bool {
        self.at.is_some()
    }
}

impl Decisions {
    /// Nothing refused yet. `boot` names this life of the VM among all.
    pub fn new(boot: u64) -> Self {
        Self {
            boot,
            refused: 0,
            seq: 0,
            kept: Vec::new(),
            causes: Vec::new(),
            not_kept: Vec::new(),
            allowance: FULL,
            allowance_at: MonoMillis(0),
            chance: boot,
            unacknowledged: None,
        }
    }

    /// The id of the next refusal.
    pub fn next_id(&mut self) -> String {
        self.refused += 1;
        format!("{:016x}-{}", self.boot, self.refused)
    }

    /// Whether this refusal is kept. None: it is counted, and nothing need be found out about it.
    pub fn place(
        &mut self,
        code: &'static str,
        credential: Option<&CredentialId>,
        now: MonoMillis,
    ) -> Option<Place> {
        let cause = cause(code, credential.map_or("", CredentialId::as_str));
        let own = match self.counted(cause) {
            Some(counted) => {
                counted.seen += 1;
                *counted
            }
            None => Counted { cause, seen: 1, kept: 0 },
        };
        let at = if self.kept.len() < self.room(now) {
            None
        } else {
            let Some(at) = self.give_way(cause, own) else {
                self.count_not_kept(code);
                return None;
            };
            Some(at)
        };
        Some(Place { cause, at })
    }

    /// Puts a decision into its place.
    pub fn keep(&mut self, place: Place, decision: Decision) {
        let Place { cause, at } = place;
        if let Some(at) = at.filter(|at| *at < self.kept.len()) {
            let (displaced, gone) = self.kept.swap_remove(at);
            if let Some(counted) = self.counted(displaced) {
                counted.kept = counted.kept.saturating_sub(1);
            }
            self.causes.retain(|counted| counted.kept > 0 || counted.cause == cause);
            // Codes are few and static; that of a decision is a copy of one.
            if let Some(code) = CODES.iter().map(|(code, _)| code).find(|known| **known == gone.code) {
                self.count_not_kept(code);
            }
        }
        match self.counted(cause) {
            Some(counted) => counted.kept += 1,
            None => self.causes.push(Counted { cause, seen: 1, kept: 1 }),
        }
        self.kept.push((cause, decision));
    }

    /// Which one of those kept makes way for one of `cause`, if any does.
    fn give_way(&mut self, cause: Cause, own: Counted) -> Option<usize> {
        let most = self.causes.iter().max_by_key(|counted| counted.kept);
        let (largest, most) = most.map_or((cause, 0), |counted| (counted.cause, counted.kept));
        if own.kept + 1 < most {
            return self.nth_of(largest, most);
        }
        if own.kept > 0 {
            // So that each of this cause has the same chance to be among those kept.
            let drawn = self.draw(own.seen);
            return if drawn < own.kept as u64 { self.nth_of(cause, own.kept) } else { None };
        }
        // One of each cause is kept, and there are more causes than places.
        let seen: u64 = self.causes.iter().map(|counted| counted.seen).sum();
        let drawn = usize::try_from(self.draw(seen.saturating_add(1))).ok()?;
        (drawn < self.kept.len()).then_some(drawn)
    }

    /// One of the `count` that are kept of a cause, by chance.
    fn nth_of(&mut self, cause: Cause, count: usize) -> Option<usize> {
        let nth = usize::try_from(self.draw(count as u64)).ok()?;
        let of_cause = self.kept.iter().enumerate().filter(|(_, (other, _))| *other == cause);
        of_cause.map(|(at, _)| at).nth(nth)
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        super::decision::mixed(self.chance).checked_rem(below).unwrap_or(0)
    }

    /// How many may be kept at this moment, those already kept among them.
    fn room(&mut self, now: MonoMillis) -> usize {
        let earned = (now - self.allowance_at).saturating_mul(KEPT_PER_S);
        self.allowance = self.allowance.saturating_add(earned).min(FULL);
        self.allowance_at = self.allowance_at.max(now);
        usize::try_from(self.allowance / 1_000).unwrap_or(0)
    }

    fn count_not_kept(&mut self, code: &'static str) {
        match self.not_kept.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.not_kept.push((code, 1)),
        }
    }

    fn counted(&mut self, cause: Cause) -> Option<&mut Counted> {
        self.causes.iter_mut().find(|counted| counted.cause == cause)
    }

    /// Whether there is something to report.
    pub fn is_due(&self) -> bool {
        self.unacknowledged.is_some() || !self.kept.is_empty() || !self.not_kept.is_empty()
    }

    /// The report to send, with its number: the one that is not acknowledged, as it was, or a new
    /// one.
    pub fn report(&mut self, holder: HolderId) -> Option<(u64, Vec<u8>)> {
        if self.unacknowledged.is_none() && self.is_due() {
            self.seq += 1;
            let kept = core::mem::take(&mut self.kept);
            self.allowance = self.allowance.saturating_sub(kept.len() as u64 * 1_000);
            self.causes.clear();
            let not_kept = core::mem::take(&mut self.not_kept).into_iter();
            let report = DecisionsReport {
                version: WIRE_VERSION,
                holder,
                boot: self.boot,
                seq: self.seq,
                decisions: kept.into_iter().map(|(_, decision)| decision).collect(),
                not_kept: not_kept.map(|(code, count)| NotKept { code: code.to_string(), count }).collect(),
            };
            self.unacknowledged = serde_json::to_vec(&report).ok().map(|body| (self.seq, body));
        }
        self.unacknowledged.clone()
    }

    /// The manager has report `seq`, or will never take it.
    pub fn acknowledge(&mut self, seq: u64) {
        if self.unacknowledged.as_ref().is_some_and(|(sent, _)| *sent == seq) {
            self.unacknowledged = None;
        }
    }
}

const FULL: u64 = MAX_DECISIONS as u64 * 1_000;

/// FNV-1a: causes that fall together share their places, which does no harm.
fn cause(code: &str, credential: &str) -> Cause {
    let bytes = code.bytes().chain([0]).chain(credential.bytes());
    Cause(
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Revision;
    use crate::time::UnixMillis;
    use alloc::collections::BTreeMap;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn decision(id: String, code: &str) -> Decision {
        Decision {
            id,
            at: UnixMillis(1),
            code: code.into(),
            detail: String::new(),
            method: "GET".into(),
            host: String::new(),
            path: "/".into(),
            api: None,
            kind: None,
            client: None,
            credential: None,
            address: None,
            origin: None,
            directory: Revision(1),
            feed: Revision(1),
            polled_ms_ago: None,
            grant_held_ms: None,
            waited_ms: None,
            room: None,
            rate: None,
            meters: Vec::new(),
        }
    }

    fn refuse(decisions: &mut Decisions, code: &'static str, credential: &str, now: u64) -> (String, bool) {
        let id = decisions.next_id();
        let place = decisions.place(code, Some(&credential.into()), MonoMillis(now));
        let kept = place.is_some();
        if let Some(place) = place {
            decisions.keep(place, decision(id.clone(), code));
        }
        (id, kept)
    }

    fn report(decisions: &mut Decisions) -> DecisionsReport {
        let (seq, body) = decisions.report(HolderId([1; 16])).unwrap();
        decisions.acknowledge(seq);
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn ids_name_the_vm_and_count_its_refusals() {
        let mut decisions = Decisions::new(0x1234);
        assert_eq!(decisions.next_id(), "0000000000001234-1");
        assert_eq!(decisions.next_id(), "0000000000001234-2");
    }

    #[test]
    fn a_report_is_repeated_as_it_was_until_it_is_acknowledged() {
        let mut decisions = Decisions::new(7);
        assert_eq!(decisions.report(HolderId([1; 16])), None);
        refuse(&mut decisions, "stale", "k", 0);
        let first = decisions.report(HolderId([1; 16]));
        refuse(&mut decisions, "stale", "k", 0);
        assert_eq!(decisions.report(HolderId([1; 16])), first);
        decisions.acknowledge(9);
        assert_eq!(decisions.report(HolderId([1; 16])), first);
        decisions.acknowledge(1);
        let second = report(&mut decisions);
        assert_eq!((second.seq, second.decisions[0].id.as_str()), (2, "0000000000000007-2"));
        assert!(!decisions.is_due());
    }

    /// One stranger's flood does not keep the others' refusals out, whenever they come, and what
    /// is not kept is counted: nothing is missing.
    #[test]
    fn a_flood_leaves_every_other_cause_its_places() {
        let mut decisions = Decisions::new(7);
        let mut refused = 0;
        for n in 0..20_000 {
            refuse(&mut decisions, "credential_unknown", "", 0);
            refused += 1;
            if n % 2_000 == 0 {
                for client in ["a", "b", "c"] {
                    refuse(&mut decisions, "quota_exhausted", client, 0);
                    refused += 1;
                }
            }
        }
        let report = report(&mut decisions);
        assert_eq!(report.decisions.len(), MAX_DECISIONS);
        let mut by_code: BTreeMap<&str, usize> = BTreeMap::new();
        for decision in &report.decisions {
            *by_code.entry(&decision.code).or_default() += 1;
        }
        assert_eq!(by_code["quota_exhausted"], 30, "all of them");
        let not_kept: u64 = report.not_kept.iter().map(|row| row.count).sum();
        assert_eq!(not_kept + report.decisions.len() as u64, refused);
    }

    /// The last ones of a flood are as likely to be kept as the first ones.
    #[test]
    fn of_one_cause_all_have_the_same_chance() {
        let mut halves = [0_u64; 2];
        for boot in 0..40 {
            let mut decisions = Decisions::new(boot);
            for _ in 0..2_000 {
                refuse(&mut decisions, "stale", "", 0);
            }
            for decision in report(&mut decisions).decisions {
                let number: u64 = decision.id.split('-').nth(1).unwrap().parse().unwrap();
                halves[usize::from(number > 1_000)] += 1;
            }
        }
        let [first, second] = halves;
        assert_eq!(first + second, 40 * MAX_DECISIONS as u64);
        // 5,120 draws: five standard deviations are 180.
        assert!(first.abs_diff(second) < 360, "{halves:?}");
    }

    #[test]
    fn more_causes_than_places_stay_within_the_bound() {
        let mut decisions = Decisions::new(7);
        for n in 0..10_000 {
            refuse(&mut decisions, "rate_exceeded", &n.to_string(), 0);
        }
        assert!(decisions.causes.len() <= MAX_DECISIONS);
        let report = report(&mut decisions);
        assert_eq!(report.decisions.len(), MAX_DECISIONS);
        assert_eq!(report.not_kept[0].count, 10_000 - MAX_DECISIONS as u64);
    }

    #[test]
    fn what_lasts_is_kept_at_its_rate() {
        let mut decisions = Decisions::new(7);
        let mut kept = 0;
        for tick in 0..600_u64 {
            for _ in 0..50 {
                refuse(&mut decisions, "stale", "", tick * 100);
            }
            if tick % 10 == 9 {
                kept += report(&mut decisions).decisions.len() as u64;
            }
        }
        assert!((MAX_DECISIONS as u64..=MAX_DECISIONS as u64 + 60 * KEPT_PER_S).contains(&kept), "{kept}");
        let after_a_rest = 60_000 + 60_000;
        assert!((0..MAX_DECISIONS).all(|_| refuse(&mut decisions, "stale", "", after_a_rest).1));
        assert!(decisions.kept.len() <= MAX_DECISIONS);
    }
}
