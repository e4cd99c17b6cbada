//! `RateLimit` and `RateLimit-Policy` (IETF draft-ietf-httpapi-ratelimit-headers, structured
//! fields): every limit of a grant, and what is left of it as far as this node knows.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::MeterId;
use crate::quota::holder::Left;
use crate::wire::exchange::{Grant, Meter, MeterKind};

type Headers = Vec<(&'static str, String)>;

/// For an admitted request.
pub fn headers(grant: &Grant, tps_left: Option<u32>, left: &[Left]) -> Headers {
    let mut limits: Vec<String> = tps_left.map(|left| format!("\"tps\";r={left};t=1")).into_iter().collect();
    for meter in &grant.meters {
        if let Some(left) = left.iter().find(|left| left.meter == meter.id) {
            limits.push(item(meter, left.remaining, left.reset_ms.map(|ms| ms.div_ceil(1_000))));
        }
    }
    both(grant, &limits)
}

/// For a request over the rate.
pub fn rate_exceeded(grant: &Grant) -> Headers {
    both(grant, &[String::from("\"tps\";r=0;t=1")])
}

/// For a request that found a limit used up.
pub fn exhausted(grant: &Grant, meter: MeterId, reset_s: Option<u64>) -> Headers {
    let limits: Vec<String> =
        grant.meters.iter().filter(|m| m.id == meter).map(|meter| item(meter, 0, reset_s)).collect();
    both(grant, &limits)
}

fn both(grant: &Grant, limits: &[String]) -> Headers {
    let mut policies = Vec::new();
    if grant.tps > 0 {
        policies.push(format!("\"tps\";q={};w=1", grant.tps));
    }
    for meter in &grant.meters {
        let window = meter.window_s.map(|seconds| format!(";w={seconds}")).unwrap_or_default();
        policies.push(format!("\"{}\";q={}{window}", name(meter.kind), meter.limit));
    }
    [("ratelimit-policy", policies.join(", ")), ("ratelimit", limits.join(", "))]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn item(meter: &Meter, remaining: u64, reset_s: Option<u64>) -> String {
    let reset = reset_s.map(|seconds| format!(";t={seconds}")).unwrap_or_default();
    format!("\"{}\";r={remaining}{reset}", name(meter.kind))
}

fn name(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::ClientQuota => "client-quota",
        MeterKind::KeyUses => "key-uses",
        MeterKind::TokenUses => "token-uses",
    }
}
