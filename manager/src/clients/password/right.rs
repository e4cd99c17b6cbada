//! Passwords that were right a moment ago: programs present theirs for each token and each call, and a hash
//! takes tens of milliseconds. Kept in memory, under a hash that this process alone can make, and looked at
//! only together with the hash that is stored: a password that was changed is not found again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use gate::time::UnixMillis;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex as AsyncMutex;
use zeroize::Zeroizing;

use super::model::PasswordHash;
use crate::clock::Random;

/// How long one is remembered.
pub(super) const KEPT_MS: i64 = 600_000;
/// Passwords that are remembered at most. Beyond, those that run out first are forgotten.
const MAX_KEPT: usize = 10_000;

/// Names a client and what it presented.
pub(super) type Mark = [u8; 32];

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
    hash: PasswordHash,
    until: UnixMillis,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl RightPasswords {
    pub(super) fn mark(&self, random: &Random, client: &str, unverified: &str) -> Mark {
        let secret = self.0.secret.get_or_init(|| Zeroizing::new(random.bytes()));
        let mut digest = Sha256::new();
        digest.update(**secret);
        digest.update(client.len().to_be_bytes());
        digest.update(client);
        digest.update(unverified);
        digest.finalize().into()
    }

    /// Whether there is one to ask about.
    pub(super) fn has(&self, mark: &Mark) -> bool {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).contains_key(mark)
    }

    /// Whether it was right when that hash was stored.
    pub(super) fn knows(&self, mark: &Mark, stored: &PasswordHash, now: UnixMillis) -> bool {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(mark).is_some_and(|kept| {
            let left_ms = kept.until.0.saturating_sub(now.0);
            kept.hash == *stored && (1..=KEPT_MS).contains(&left_ms)
        })
    }

    pub(super) fn keep(&self, mark: Mark, hash: PasswordHash, now: UnixMillis) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT && !kept.contains_key(&mark) {
            kept.retain(|_, kept| kept.until > now);
            let first = kept.iter().min_by_key(|(_, kept)| kept.until).map(|(mark, _)| *mark);
            if let Some(first) = first.filter(|_| kept.len() >= MAX_KEPT) {
                kept.remove(&first);
            }
        }
        kept.insert(mark, Kept { hash, until: UnixMillis(now.0.saturating_add(KEPT_MS)) });
    }

    /// What is held while one is checked: of many calls that present the same at once, one hashes and the
    /// others find what came of it.
    pub(super) fn check_of(&self, mark: Mark) -> Arc<AsyncMutex<()>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_for_its_client_its_hash_and_its_time() {
        let (memory, random) = (RightPasswords::default(), Random::seeded(1));
        let hash = |text: &str| PasswordHash::from(text.to_owned());
        let mark = memory.mark(&random, "acme", "secret");
        memory.keep(mark, hash("h1"), UnixMillis(0));
        for (client, password, stored, at, known) in [
            ("acme", "secret", "h1", 0, true),
            ("acme", "secret", "h1", KEPT_MS - 1, true),
            ("acme", "secret", "h1", KEPT_MS, false),
            ("acme", "secret", "h2", 0, false),
            ("acme", "secret1", "h1", 0, false),
            ("acmes", "ecret", "h1", 0, false),
        ] {
            let mark = memory.mark(&random, client, password);
            assert_eq!(memory.knows(&mark, &hash(stored), UnixMillis(at)), known, "{client} {password} {at}");
        }
    }

    #[test]
    fn no_more_are_kept_than_the_bound() {
        let (memory, random) = (RightPasswords::default(), Random::seeded(1));
        let hash = PasswordHash::from("h".to_owned());
        let mark = |number: usize| memory.mark(&random, "acme", &number.to_string());
        for number in 0..=MAX_KEPT {
            memory.keep(mark(number), hash.clone(), UnixMillis(i64::try_from(number).expect("small")));
        }
        let now = UnixMillis(i64::try_from(MAX_KEPT).expect("small"));
        assert!(!memory.knows(&mark(0), &hash, now), "the one that runs out first is forgotten");
        assert!(memory.knows(&mark(1), &hash, now) && memory.knows(&mark(MAX_KEPT), &hash, now));
    }
}
