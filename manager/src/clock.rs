//! The only ambient clock and the only ambient source of randomness. Everything else is given
//! the time and the random bytes that it works with, and a test gives it its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use gate::time::UnixMillis;
#[expect(clippy::disallowed_types, reason = "the one place that draws ambient randomness")]
use rand::rngs::OsRng;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng, TryRngCore};

/// What time it is.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's wall clock.
    System,
    /// A clock that stands until it is moved.
    Manual(Arc<Mutex<UnixMillis>>),
}

impl Clock {
    /// A clock that stands at `at`.
    pub fn manual(at: UnixMillis) -> Self {
        Self::Manual(Arc::new(Mutex::new(at)))
    }

    /// The present.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> UnixMillis {
        match self {
            Self::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Manual(at) => *held(at),
        }
    }

    /// Moves a manual clock by `millis`; the system's clock stays as it is.
    pub fn advance(&self, millis: i64) {
        match self {
            Self::System => {}
            Self::Manual(at) => {
                let mut at = held(at);
                *at = UnixMillis(at.0.saturating_add(millis));
            }
        }
    }

    /// Sets a manual clock; the system's clock stays as it is.
    pub fn set(&self, to: UnixMillis) {
        match self {
            Self::System => {}
            Self::Manual(at) => *held(at) = to,
        }
    }
}

/// Random bytes for secrets and ids.
#[derive(Clone, Debug)]
pub enum Random {
    /// The operating system's generator.
    System,
    /// The same bytes for the same seed.
    Seeded(Arc<Mutex<StdRng>>),
}

/// Characters of the random part of an id: 130 bits in base 32.
const ID_CHARS: usize = 26;
/// Base 32 without the letters that read like digits (Crockford).
const ID_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl Random {
    /// A generator that repeats itself for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match self {
            Self::System => {
                OsRng
                    .try_fill_bytes(&mut bytes)
                    .expect("the operating system's random generator answers on every supported platform");
            }
            Self::Seeded(rng) => held(rng).fill_bytes(&mut bytes),
        }
        bytes
    }

    /// A new id, `<prefix>_` and 26 characters that nobody can guess.
    pub fn id(&self, prefix: &str) -> String {
        let mut id = String::with_capacity(prefix.len() + 1 + ID_CHARS);
        id.push_str(prefix);
        id.push('_');
        for byte in self.bytes::<ID_CHARS>() {
            id.push(char::from(ID_ALPHABET[usize::from(byte & 31)]));
        }
        id
    }

    /// A random number below 2^63: fits a signed BIGINT. Never 0.
    pub fn number(&self) -> u64 {
        (u64::from_be_bytes(self.bytes()) >> 1).max(1)
    }
}

/// A poisoned lock guards plain values here, which no panic can leave half-written.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_until_it_is_moved() {
        let clock = Clock::manual(UnixMillis(5));
        assert_eq!(clock.now(), UnixMillis(5));
        clock.advance(7);
        assert_eq!(clock.now(), UnixMillis(12));
        clock.set(UnixMillis(1));
        assert_eq!(clock.now(), UnixMillis(1));
    }

    #[test]
    fn ids_have_their_prefix_and_differ() {
        let random = Random::System;
        let (a, b) = (random.id("cl"), random.id("cl"));
        assert_eq!(a.len(), 3 + ID_CHARS);
        assert!(a.starts_with("cl_"));
        assert_ne!(a, b);
        assert_eq!(Random::seeded(1).id("x"), Random::seeded(1).id("x"));
        assert_ne!(Random::seeded(1).id("x"), Random::seeded(2).id("x"));
    }
}
