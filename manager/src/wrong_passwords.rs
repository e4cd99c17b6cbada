//! Wrong passwords by the caller's address: who tries those of many accounts is stopped too, before
//! any of them is locked. Each replica counts for itself, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use gate::time::UnixMillis;

use crate::caller_address::CallerAddress;
use crate::problem::Problem;

/// Wrong ones of one address within [`WINDOW_MS`], which begins with the first of them.
pub const MAX_WRONG: u32 = 30;
/// Over which they are counted.
pub const WINDOW_MS: i64 = 600_000;
/// Addresses that are counted at most. Beyond, those whose window began first are forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// The counts of this process. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct WrongPasswords(Arc<Mutex<BTreeMap<String, Window>>>);

#[derive(Clone, Copy, Debug)]
struct Window {
    began_at: UnixMillis,
    wrong: u32,
}

/// The address has tried too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_WRONG} wrong passwords came from your address within {} minutes: none is taken from there until Retry-After",
    WINDOW_MS / 60_000
)]
pub struct TooManyWrong {
    /// When the next is taken.
    pub retry_after_s: u32,
}

/// A password that is being checked: counted as a wrong one until it is known not to be, so that no
/// more are tried at the same moment.
#[must_use]
#[derive(Debug)]
pub struct Try {
    counts: WrongPasswords,
    address: Option<String>,
    began_at: UnixMillis,
}

impl WrongPasswords {
    /// Begins to check one. Of an unknown address none is counted: all who have none are not one.
    pub fn begin(&self, address: &CallerAddress, now: UnixMillis) -> Result<Try, TooManyWrong> {
        let Some(address) = address.known() else {
            return Ok(Try { counts: self.clone(), address: None, began_at: now });
        };
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |window: &Window| now.0.saturating_sub(window.began_at.0) >= WINDOW_MS;
        if windows.get(address).is_some_and(is_over) {
            windows.remove(address);
        }
        if windows.len() >= MAX_ADDRESSES && !windows.contains_key(address) {
            windows.retain(|_, window| !is_over(window));
            let oldest = windows.iter().min_by_key(|(_, window)| window.began_at.0);
            if let Some(oldest) = oldest.map(|(address, _)| address.clone())
                && windows.len() >= MAX_ADDRESSES
            {
                windows.remove(&oldest);
            }
        }
        let window = windows.entry(address.to_owned()).or_insert(Window { began_at: now, wrong: 0 });
        if window.wrong >= MAX_WRONG {
            let left_ms = window.began_at.0.saturating_add(WINDOW_MS).saturating_sub(now.0);
            let retry_after_s =
                u32::try_from(left_ms.max(0).unsigned_abs().div_ceil(1_000)).unwrap_or(u32::MAX);
            return Err(TooManyWrong { retry_after_s });
        }
        window.wrong += 1;
        Ok(Try { counts: self.clone(), address: Some(address.to_owned()), began_at: window.began_at })
    }
}

impl Try {
    /// It was not a wrong one.
    pub fn was_not_wrong(self) {
        let Some(address) = &self.address else { return };
        let mut windows = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of the window in which it was counted: another may have begun.
        if let Some(window) = windows.get_mut(address).filter(|window| window.began_at == self.began_at) {
            window.wrong = window.wrong.saturating_sub(1);
            if window.wrong == 0 {
                windows.remove(address);
            }
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

    fn wrong(counts: &WrongPasswords, address: &str, at: i64) -> Result<(), TooManyWrong> {
        counts.begin(&CallerAddress(address.into()), UnixMillis(at)).map(drop)
    }

    #[test]
    fn an_address_tries_so_many_within_ten_minutes() {
        let counts = WrongPasswords::default();
        for number in 0..MAX_WRONG {
            wrong(&counts, "192.0.2.1", i64::from(number)).expect("taken");
        }
        assert_eq!(wrong(&counts, "192.0.2.1", 1), Err(TooManyWrong { retry_after_s: 600 }));
        wrong(&counts, "192.0.2.2", 1).expect("another address");
        assert_eq!(wrong(&counts, "192.0.2.1", WINDOW_MS - 1), Err(TooManyWrong { retry_after_s: 1 }));
        wrong(&counts, "192.0.2.1", WINDOW_MS).expect("another window");
    }

    #[test]
    fn right_ones_and_unknown_addresses_do_not_count() {
        let counts = WrongPasswords::default();
        for _ in 0..2 * MAX_WRONG {
            counts.begin(&CallerAddress("192.0.2.1".into()), UnixMillis(0)).expect("taken").was_not_wrong();
            wrong(&counts, "", 0).expect("of nobody known");
        }
        assert!(counts.0.lock().expect("the counts").is_empty());
    }

    #[test]
    fn so_many_addresses_are_counted_and_the_oldest_forgotten() {
        let counts = WrongPasswords::default();
        for number in 0..=MAX_ADDRESSES {
            wrong(&counts, &format!("a{number}"), i64::try_from(number).expect("small")).expect("taken");
        }
        let windows = counts.0.lock().expect("the counts");
        assert_eq!(windows.len(), MAX_ADDRESSES);
        assert!(!windows.contains_key("a0") && windows.contains_key("a1"));
    }
}
