//! Passwords that were right a moment ago: programs present theirs for each token and each call, and a hash
//! takes tens of milliseconds. Kept in memory, under a hash that this process alone can make, and looked at
//! only together with the hash that is stored: a password that was changed is not found again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use gate::time::UnixMillis;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex as AsyncMutex;
use zeroize::Zeroizing;

use crate::clock::Random;

/// How long one is remembered.
pub const KEPT_MS: i64 = 600_000;
/// Passwords that are remembered at most. Beyond, those that run out first are forgotten.
const MAX_KEPT: usize = 10_000;

/// Names an account and what was presented for it.
pub type Mark = [u8; 32];

/// Whose accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Clients, by id.
    Client,
    /// Users, by name.
    User,
}

/// What this process remembers. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct RightPasswords(Arc<Memory>);

#[derive(Default)]
struct Memory {
    secret: OnceLock<Zeroizing<[u8; 32]>>,
    kept: Mutex<BTreeMap<Mark, Kept>>,
    checks: Mutex<BTreeMap<Mark, Weak<AsyncMutex<()>>>>,
}

struct Kept {
    /// Of what was stored.
    hash: [u8; 32],
    until: UnixMillis,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl RightPasswords {
    /// By which it is found again.
    pub fn mark(&self, random: &Random, whose: Whose, name: &str, unverified: &str) -> Mark {
        let secret = self.0.secret.get_or_init(|| Zeroizing::new(random.bytes()));
        let mut digest = Sha256::new();
        digest.update(**secret);
        digest.update([whose as u8]);
        digest.update(name.len().to_be_bytes());
        digest.update(name);
        digest.update(unverified);
        digest.finalize().into()
    }

    /// Whether there is one to ask about.
    pub fn has(&self, mark: &Mark) -> bool {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).contains_key(mark)
    }

    /// Whether it was right when that hash was stored.
    pub fn knows(&self, mark: &Mark, stored: &str, now: UnixMillis) -> bool {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(mark).is_some_and(|kept| {
            let left_ms = kept.until.0.saturating_sub(now.0);
            kept.hash == sha256(stored) && (1..=KEPT_MS).contains(&left_ms)
        })
    }

    /// Remembers one that is right while that hash is stored.
    pub fn keep(&self, mark: Mark, stored: &str, now: UnixMillis) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT && !kept.contains_key(&mark) {
            kept.retain(|_, kept| kept.until > now);
            let first = kept.iter().min_by_key(|(_, kept)| kept.until).map(|(mark, _)| *mark);
            if let Some(first) = first.filter(|_| kept.len() >= MAX_KEPT) {
                kept.remove(&first);
            }
        }
        kept.insert(mark, Kept { hash: sha256(stored), until: UnixMillis(now.0.saturating_add(KEPT_MS)) });
    }

    /// What is held while one is checked: of many calls that present the same at once, one hashes and the
    /// others find what came of it.
    pub fn check_of(&self, mark: Mark) -> Arc<AsyncMutex<()>> {
        let mut checks = self.0.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(check) = checks.get(&mark).and_then(Weak::upgrade) {
            return check;
        }
        checks.retain(|_, check| check.strong_count() > 0);
        let check = Arc::default();
        checks.insert(mark, Arc::downgrade(&check));
        check
    }
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_for_its_client_its_hash_and_its_time() {
        let (memory, random) = (RightPasswords::default(), Random::seeded(1));
        let mark = memory.mark(&random, Whose::Client, "acme", "secret");
        memory.keep(mark, "h1", UnixMillis(0));
        assert_ne!(mark, memory.mark(&random, Whose::User, "acme", "secret"));
        for (client, password, stored, at, known) in [
            ("acme", "secret", "h1", 0, true),
            ("acme", "secret", "h1", KEPT_MS - 1, true),
            ("acme", "secret", "h1", KEPT_MS, false),
            ("acme", "secret", "h2", 0, false),
            ("acme", "secret1", "h1", 0, false),
            ("acmes", "ecret", "h1", 0, false),
        ] {
            let mark = memory.mark(&random, Whose::Client, client, password);
            assert_eq!(memory.knows(&mark, stored, UnixMillis(at)), known, "{client} {password} {at}");
        }
    }

    #[test]
    fn no_more_are_kept_than_the_bound() {
        let (memory, random) = (RightPasswords::default(), Random::seeded(1));
        let mark = |number: usize| memory.mark(&random, Whose::User, "ann", &number.to_string());
        for number in 0..=MAX_KEPT {
            memory.keep(mark(number), "h", UnixMillis(i64::try_from(number).expect("small")));
        }
        let now = UnixMillis(i64::try_from(MAX_KEPT).expect("small"));
        assert!(!memory.knows(&mark(0), "h", now), "the one that runs out first is forgotten");
        assert!(memory.knows(&mark(1), "h", now) && memory.knows(&mark(MAX_KEPT), "h", now));
    }
}
