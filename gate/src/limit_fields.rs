//! `RateLimit` and `RateLimit-Policy` (IETF httpapi draft, structured fields): every limit of a
//! grant, by name.

use alloc::string::String;
use core::fmt::Write;

use crate::wire::exchange::MeterKind;

/// One limit as a caller may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Which.
    pub limit: Limit,
    /// Units per window, or in all.
    pub quota: u64,
    /// Length of the window in seconds; None = a total.
    pub window_s: Option<u64>,
    /// Units that were left when the ledger last spoke, less those spent here; None = not known
    /// here.
    pub remaining: Option<u64>,
    /// Seconds until the window turns.
    pub reset_s: Option<u64>,
}

/// The limits there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests per second and node.
    Rate,
    /// A counted one.
    Meter(MeterKind),
}

impl Limit {
    fn name(self) -> &'static str {
        match self {
            Self::Rate => "second",
            Self::Meter(MeterKind::ClientQuota) => "client",
            Self::Meter(MeterKind::KeyUses) => "key",
            Self::Meter(MeterKind::TokenUses) => "token",
        }
    }
}

/// Values of `ratelimit-policy` and `ratelimit`; None without any limit.
pub fn fields(limits: &[LimitState]) -> Option<(String, String)> {
    let (mut policy, mut state) = (String::new(), String::new());
    for limit in limits {
        let name = limit.limit.name();
        separate(&mut policy);
        let _ = write!(policy, "\"{name}\";q={}", limit.quota);
        if let Some(window_s) = limit.window_s {
            let _ = write!(policy, ";w={window_s}");
        }
        if let Some(remaining) = limit.remaining {
            separate(&mut state);
            let _ = write!(state, "\"{name}\";r={remaining}");
            if let Some(reset_s) = limit.reset_s {
                let _ = write!(state, ";t={reset_s}");
            }
        }
    }
    (!policy.is_empty()).then_some((policy, state))
}

fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push_str(", ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_limit_is_named() {
        let rate = LimitState {
            limit: Limit::Rate,
            quota: 10,
            window_s: Some(1),
            remaining: Some(3),
            reset_s: Some(1),
        };
        let day = LimitState {
            limit: Limit::Meter(MeterKind::ClientQuota),
            quota: 1_000,
            window_s: Some(86_400),
            remaining: None,
            reset_s: Some(60),
        };
        let key = LimitState {
            limit: Limit::Meter(MeterKind::KeyUses),
            quota: 5,
            window_s: None,
            remaining: Some(0),
            reset_s: None,
        };
        let (policy, state) = fields(&[rate, day, key]).unwrap();
        assert_eq!(policy, "\"second\";q=10;w=1, \"client\";q=1000;w=86400, \"key\";q=5");
        assert_eq!(state, "\"second\";r=3;t=1, \"key\";r=0");
        assert_eq!(fields(&[]), None);
    }
}
