//! `RateLimit` and `RateLimit-Policy` (IETF draft-ietf-httpapi-ratelimit-headers, structured
//! fields): every limit of a grant, and what is left of it as far as this node knows.
//!
//! The policy names all limits. The state names those of which something is known: `r` is
//! required there, and a number made up would be taken for one.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::seen::LimitsSeen;
use crate::quota::holder::Left;
use crate::wire::decisions::Word;
use crate::wire::exchange::{Grant, Meter, MeterKind};

type Headers = Vec<(&'static str, String)>;

/// The largest integer of a structured field (RFC 9651, section 3.3.1); limits go up to 2^53.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// For an admitted request.
pub fn headers(grant: &Grant, tps_left: Option<u32>, left: &[Left]) -> Headers {
    let mut limits: Vec<String> = tps_left.map(rate).into_iter().collect();
    for meter in &grant.meters {
        if let Some(left) = left.iter().find(|left| left.meter == meter.id) {
            limits.push(item(meter, left.remaining, left.reset_ms));
        }
    }
    both(grant, &limits)
}

/// For a request that a limit has refused, or the lack of news about one.
pub fn refused(grant: &Grant, seen: &LimitsSeen) -> Headers {
    let tps_left = seen.rate.map(|rate| rate.tps.saturating_sub(rate.admitted));
    let mut limits: Vec<String> = tps_left.map(rate).into_iter().collect();
    for (seen, reset_ms) in seen.meters.iter().zip(&seen.reset_ms) {
        let remaining = match (seen.word, seen.ledger_left) {
            (Some(Word::Gone), _) => None,
            (Some(Word::Exhausted | Word::Contended), _) => Some(seen.held),
            (None, Some(ledger_left)) => Some(seen.held.saturating_add(ledger_left)),
            (None, None) => None,
        };
        let meter = grant.meters.iter().find(|meter| meter.id == seen.meter);
        if let (Some(meter), Some(remaining)) = (meter, remaining) {
            limits.push(item(meter, remaining, *reset_ms));
        }
    }
    both(grant, &limits)
}

fn both(grant: &Grant, limits: &[String]) -> Headers {
    let mut policies = Vec::new();
    if grant.tps > 0 {
        policies.push(format!("\"tps\";q={};w=1", grant.tps));
    }
    for meter in &grant.meters {
        let window = meter.window_s.map(|seconds| format!(";w={seconds}")).unwrap_or_default();
        policies.push(format!("\"{}\";q={}{window}", name(meter.kind), meter.limit.min(MAX_INTEGER)));
    }
    [("ratelimit-policy", policies.join(", ")), ("ratelimit", limits.join(", "))]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// A second lasts at most one.
fn rate(left: u32) -> String {
    format!("\"tps\";r={left};t=1")
}

fn item(meter: &Meter, remaining: u64, reset_ms: Option<u64>) -> String {
    let reset = reset_ms.map(|ms| format!(";t={}", ms.div_ceil(1_000))).unwrap_or_default();
    format!("\"{}\";r={}{reset}", name(meter.kind), remaining.min(MAX_INTEGER))
}

fn name(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::ClientQuota => "client-quota",
        MeterKind::KeyUses => "key-uses",
        MeterKind::TokenUses => "token-uses",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MeterId;
    use crate::wire::decisions::{MeterSeen, RateSeen};
    use crate::wire::directory::Audience;
    use crate::wire::exchange::{ClientStatus, Permission, Proof};
    use alloc::vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn grant() -> Grant {
        let meter =
            |id, kind, limit, window_s| Meter { id: MeterId(id), kind, limit, window_s, horizon_s: 30 };
        Grant {
            credential: "key_1".into(),
            client: "acme".into(),
            proof: Proof::Presented,
            client_status: ClientStatus::Active,
            client_validity: None,
            service_time: None,
            addresses: vec![],
            bound: false,
            active: true,
            effective_at: None,
            revoked_at: None,
            expires_at: None,
            permission: Permission::Apis { apis: vec![] },
            audience: Audience::Both,
            priority: 5,
            tps: 10,
            meters: vec![
                meter(1, MeterKind::ClientQuota, 1 << 53, Some(86_400)),
                meter(2, MeterKind::KeyUses, 5, None),
                meter(3, MeterKind::TokenUses, 9, None),
            ],
            utc_offset_min: 0,
            keep_s: 60,
        }
    }

    const POLICY: &str = "\"tps\";q=10;w=1, \"client-quota\";q=999999999999999;w=86400, \
        \"key-uses\";q=5, \"token-uses\";q=9";

    fn check(headers: Headers, state: &str) {
        assert_eq!(headers, [("ratelimit-policy", POLICY.into()), ("ratelimit", state.into())]);
    }

    #[test]
    fn an_admitted_request_is_told_what_is_left_of_every_limit() {
        let left = |id, remaining, reset_ms| Left { meter: MeterId(id), remaining, reset_ms, lease: None };
        let left = [left(1, 1 << 53, Some(59_001)), left(2, 4, None), left(3, 8, None)];
        check(
            headers(&grant(), Some(3), &left),
            "\"tps\";r=3;t=1, \"client-quota\";r=999999999999999;t=60, \"key-uses\";r=4, \"token-uses\";r=8",
        );
    }

    #[test]
    fn a_refused_one_is_told_of_every_limit_of_which_something_is_known() {
        let meter = |id, kind, held, ledger_left, word| MeterSeen {
            meter: MeterId(id),
            kind,
            limit: 9,
            held,
            ledger_left,
            leases: vec![],
            word,
            renewing: false,
        };
        let seen = LimitsSeen {
            rate: Some(RateSeen { tps: 10, admitted: 12 }),
            meters: vec![
                meter(1, MeterKind::ClientQuota, 7, Some(100), None),
                meter(2, MeterKind::KeyUses, 0, None, Some(Word::Exhausted)),
                meter(3, MeterKind::TokenUses, 0, None, None),
            ],
            reset_ms: vec![Some(1), None, None],
        };
        check(refused(&grant(), &seen), "\"tps\";r=0;t=1, \"client-quota\";r=107;t=1, \"key-uses\";r=0");
    }

    #[test]
    fn without_limits_there_are_no_fields() {
        let free = Grant { tps: 0, meters: vec![], ..grant() };
        assert_eq!(headers(&free, None, &[]), []);
    }
}
