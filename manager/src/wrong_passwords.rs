//! Wrong passwords by who presents them: who tries those of many accounts is stopped too, before any of
//! them is locked. Each replica counts for itself, in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use gate::time::UnixMillis;

use crate::caller_address::CallerAddress;
use crate::problem::Problem;

/// Wrong ones of one address within [`WINDOW_MS`], which begins with the first of them.
pub const MAX_WRONG: u32 = 30;
/// Wrong ones of users that one client presents meanwhile: many people sign in by way of it.
pub const MAX_WRONG_BY_CLIENT: u32 = 300;
/// Over which they are counted.
pub const WINDOW_MS: i64 = 600_000;
/// Addresses and clients that are counted at most. Beyond, those whose window began first are forgotten.
const MAX_COUNTED: usize = 10_000;

/// The counts of this process. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct WrongPasswords(Arc<Mutex<BTreeMap<Counted, Window>>>);

/// Whom they are counted against.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Address(String),
    /// One that has proven to be it.
    Client(String),
}

impl Counted {
    fn limit(&self) -> u32 {
        match self {
            Self::Address(_) => MAX_WRONG,
            Self::Client(_) => MAX_WRONG_BY_CLIENT,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began_at: UnixMillis,
    wrong: u32,
}

/// Too many have come from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} wrong passwords came from {source_name} within {} minutes: none is taken from there until Retry-After",
    WINDOW_MS / 60_000
)]
pub struct TooManyWrong {
    limit: u32,
    source_name: &'static str,
    /// When the next is taken.
    pub retry_after_s: u32,
}

/// A password that is being checked. Dropped, it was a wrong one: so it is where the caller hangs up before
/// it is known.
///
/// It counts when it is known and not before, or many who sign in at once from one address would pass for
/// guesses. How many more than the limit are checked at that moment is bounded by
/// [`Queue`](crate::password::Queue).
#[must_use]
#[derive(Debug)]
pub struct Try {
    counts: WrongPasswords,
    /// None: nobody known, or not to be counted.
    counted: Option<Counted>,
    at: UnixMillis,
}

impl WrongPasswords {
    /// Begins to check one that came from an address. Of an unknown address none is counted: all who have
    /// none are not one.
    pub fn begin(&self, address: &CallerAddress, now: UnixMillis) -> Result<Try, TooManyWrong> {
        self.begin_of(address.known().map(|address| Counted::Address(address.to_owned())), now)
    }

    /// Begins to check one of a user that a client presents. The client has proven to be that one: its
    /// address would be that of all its users. Who lets strangers try passwords, as a sign-in form of its own
    /// does, is to bound them itself: beyond the limit nobody of its users signs in.
    pub fn begin_by_client(&self, client: &str, now: UnixMillis) -> Result<Try, TooManyWrong> {
        self.begin_of(Some(Counted::Client(client.to_owned())), now)
    }

    fn begin_of(&self, counted: Option<Counted>, now: UnixMillis) -> Result<Try, TooManyWrong> {
        if let Some(counted) = &counted
            && let Some(window) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(counted)
            && !window.is_over(now)
            && window.wrong >= counted.limit()
        {
            let left_ms = window.began_at.0.saturating_add(WINDOW_MS).saturating_sub(now.0);
            let retry_after_s =
                u32::try_from(left_ms.max(0).unsigned_abs().div_ceil(1_000)).unwrap_or(u32::MAX);
            let source_name = match counted {
                Counted::Address(_) => "your address",
                Counted::Client(_) => "this client",
            };
            return Err(TooManyWrong { limit: counted.limit(), source_name, retry_after_s });
        }
        Ok(Try { counts: self.clone(), counted, at: now })
    }

    fn count(&self, counted: Counted, now: UnixMillis) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.get(&counted).is_some_and(|window| window.is_over(now)) {
            windows.remove(&counted);
        }
        if windows.len() >= MAX_COUNTED && !windows.contains_key(&counted) {
            windows.retain(|_, window| !window.is_over(now));
            let oldest = windows.iter().min_by_key(|(_, window)| window.began_at.0);
            if let Some(oldest) = oldest.map(|(counted, _)| counted.clone())
                && windows.len() >= MAX_COUNTED
            {
                windows.remove(&oldest);
            }
        }
        let limit = counted.limit();
        let proxy_perhaps = match &counted {
            Counted::Address(address) if is_private(address) => Some(address.clone()),
            Counted::Address(_) | Counted::Client(_) => None,
        };
        let window = windows.entry(counted).or_insert(Window { began_at: now, wrong: 0 });
        window.wrong = window.wrong.saturating_add(1);
        if let (true, Some(address)) = (window.wrong == limit, proxy_perhaps) {
            tracing::warn!(
                %address,
                "{limit} wrong passwords came from {address} within {} minutes, and none is taken from there now. If \
                 that is a proxy (Envoy), name it in client_address_proxies, beside client_address_header",
                WINDOW_MS / 60_000
            );
        }
    }
}

/// Whether it may be a proxy of ours rather than somebody far away.
fn is_private(address: &str) -> bool {
    match address.parse() {
        Ok(IpAddr::V4(address)) => address.is_private() || address.is_loopback(),
        Ok(IpAddr::V6(_)) | Err(_) => false,
    }
}

impl Window {
    fn is_over(&self, now: UnixMillis) -> bool {
        now.0.saturating_sub(self.began_at.0) >= WINDOW_MS
    }
}

impl Try {
    /// It was not a wrong one.
    pub fn was_not_wrong(mut self) {
        self.counted = None;
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        if let Some(counted) = self.counted.take() {
            self.counts.count(counted, self.at);
        }
    }
}

impl From<TooManyWrong> for Problem {
    fn from(refusal: TooManyWrong) -> Self {
        let title = "Too many wrong passwords";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_wrong_passwords", title, refusal.to_string())
            .retry_after(refusal.retry_after_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(counts: &WrongPasswords, address: &str, at: i64) -> Result<(), u32> {
        let begun = counts.begin(&CallerAddress(address.into()), UnixMillis(at));
        begun.map(drop).map_err(|refusal| refusal.retry_after_s)
    }

    #[test]
    fn an_address_tries_so_many_within_ten_minutes() {
        let counts = WrongPasswords::default();
        for number in 0..MAX_WRONG {
            wrong(&counts, "192.0.2.1", i64::from(number)).expect("taken");
        }
        assert_eq!(wrong(&counts, "192.0.2.1", 1), Err(600));
        wrong(&counts, "192.0.2.2", 1).expect("another address");
        assert_eq!(wrong(&counts, "192.0.2.1", WINDOW_MS - 1), Err(1));
        wrong(&counts, "192.0.2.1", WINDOW_MS).expect("another window");
    }

    #[test]
    fn a_client_tries_more_of_its_users_and_its_address_is_not_counted() {
        let (counts, now) = (WrongPasswords::default(), UnixMillis(0));
        for _ in 0..MAX_WRONG_BY_CLIENT {
            drop(counts.begin_by_client("acme", now).expect("taken"));
        }
        let refused = counts.begin_by_client("acme", now).expect_err("too many");
        assert!(refused.to_string().starts_with("300 wrong passwords came from this client within 10"));
        counts.begin_by_client("other", now).expect("another client").was_not_wrong();
        wrong(&counts, "acme", 0).expect("an address that is called so is another");
    }

    #[test]
    fn right_ones_those_in_flight_and_unknown_addresses_do_not_count() {
        let counts = WrongPasswords::default();
        let address = CallerAddress("192.0.2.1".into());
        for _ in 0..2 * MAX_WRONG {
            counts.begin(&address, UnixMillis(0)).expect("taken").was_not_wrong();
            wrong(&counts, "", 0).expect("of nobody known");
        }
        let in_flight: Vec<_> =
            (0..2 * MAX_WRONG).map(|_| counts.begin(&address, UnixMillis(0)).expect("taken")).collect();
        assert!(counts.0.lock().expect("the counts").is_empty());
        // They turn out to be wrong, or their callers hang up.
        drop(in_flight);
        assert_eq!(wrong(&counts, "192.0.2.1", 0), Err(600));
    }

    #[test]
    fn so_many_addresses_are_counted_and_the_oldest_forgotten() {
        let counts = WrongPasswords::default();
        for number in 0..=MAX_COUNTED {
            wrong(&counts, &format!("a{number}"), i64::try_from(number).expect("small")).expect("taken");
        }
        let windows = counts.0.lock().expect("the counts");
        assert_eq!(windows.len(), MAX_COUNTED);
        let counted = |name: &str| windows.contains_key(&Counted::Address(name.into()));
        assert!(!counted("a0") && counted("a1"));
    }
}
