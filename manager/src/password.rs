//! Passwords: 6 to 128 characters, stored as argon2id. Hashing is slow on purpose, so it runs
//! beside the async workers, a few at a time, and calls that anybody may make wait for it in a
//! [`Queue`] that has an end. Hashes that were brought along from digiRunner serve until their first
//! right password, which is hashed anew.

use std::sync::{Arc, LazyLock};

use anyhow::Context as _;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use crate::clock::Random;
use crate::openapi::schema::schema_of;
use crate::telemetry::Metrics;

/// Characters of a password at least.
pub const MIN_CHARS: usize = 6;
/// Characters of a password at most.
pub const MAX_CHARS: usize = 128;
/// Hashes that are computed at the same time for gateways, and for people: each takes 19 MiB and a
/// core for tens of ms.
const MAX_AT_ONCE: usize = 4;
/// Calls that anybody may make, and that cost a hash, at the same time at most.
const MAX_QUEUED: usize = 32;
/// The highest cost of a hash that is brought along: a quarter of a second of a core, and each step
/// doubles it. digiRunner's have 10.
const MAX_IMPORTED_COST: u32 = 12;

static GATEWAYS: Semaphore = Semaphore::const_new(MAX_AT_ONCE);
static PEOPLE: Semaphore = Semaphore::const_new(MAX_AT_ONCE);

/// Who waits for a hash. Neither waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// A gateway, and a call behind it.
    Gateways,
    /// Somebody who signs in, or sets a password.
    People,
}

impl Lane {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gateways => "gateways",
            Self::People => "people",
        }
    }
}

/// Where calls wait that anybody may make, without a token, and that cost a hash: it has an end.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Semaphore>);

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked")]
pub struct Busy;

impl Default for Queue {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_QUEUED)))
    }
}

impl Queue {
    /// A place, held until dropped: for the whole call.
    pub fn enter(&self) -> Result<SemaphorePermit<'_>, Busy> {
        self.0.try_acquire().map_err(|_| Busy)
    }
}

/// Verified when there is no account, so that an unknown name takes as long as a wrong password.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash_now("nobody", b"0123456789abcdef"));

/// A password in clear that satisfies the rules. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

/// Why a text is no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {MIN_CHARS} to {MAX_CHARS} characters, has {chars}")]
pub struct PasswordLength {
    /// Characters it has.
    pub chars: usize,
}

impl Password {
    /// Checks the length.
    pub fn parse(text: &str) -> Result<Self, PasswordLength> {
        let chars = text.chars().count();
        if !(MIN_CHARS..=MAX_CHARS).contains(&chars) {
            return Err(PasswordLength { chars });
        }
        Ok(Self(Zeroizing::new(text.to_string())))
    }

    /// The password itself: for the mail that hands it over, and to tell whether it is a new one.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The argon2id hash, as PHC text.
    pub async fn hash(&self, random: &Random) -> String {
        let (clear, salt) = (self.0.clone(), random.bytes::<16>());
        on_blocking_thread(Lane::People, move || hash_now(&clear, &salt)).await
    }
}

schema_of! { Password: text(MIN_CHARS, MAX_CHARS) }

/// A hash that another system has made of a password: bcrypt of the Base64 text, as digiRunner stores it.
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportedHash(String);

impl ImportedHash {
    /// Checks it. The error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected =
            |why: &str| Err(format!("must be a hash of bcrypt, $2a$10$… with 60 characters: {why}"));
        if !["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version)) {
            return expected("it begins with none of $2a$, $2b$, $2y$");
        }
        match text.parse::<bcrypt::HashParts>() {
            Ok(parts) if parts.get_cost() > MAX_IMPORTED_COST => {
                expected(&format!("its cost is {}, and {MAX_IMPORTED_COST} at most", parts.get_cost()))
            }
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => expected("what follows the version cannot be read"),
        }
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

schema_of! { ImportedHash: text(60, 60) }

impl std::fmt::Debug for ImportedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether what is stored was brought along: the first right password is hashed anew.
pub fn is_imported(hash: &str) -> bool {
    hash.starts_with("$2")
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether `unverified` is the password of `hash`; as slow when there is no hash.
pub async fn verify(metrics: &Metrics, lane: Lane, unverified: &str, hash: Option<&str>) -> bool {
    // What is too long is no password; hashing it would only cost time.
    if unverified.chars().count() > MAX_CHARS {
        return false;
    }
    metrics.add("keygate_password_checks_total", &[("lane", lane.as_str())], 1);
    let unverified = Zeroizing::new(unverified.to_string());
    let hash = hash.map(str::to_string);
    on_blocking_thread(lane, move || {
        let known = hash.is_some();
        let text = hash.unwrap_or_else(|| NOBODY.clone());
        if is_imported(&text) {
            return is_of_imported(&unverified, &text);
        }
        match PasswordHash::new(&text) {
            Ok(hash) => Argon2::default().verify_password(unverified.as_bytes(), &hash).is_ok() && known,
            Err(error) => {
                tracing::error!(%error, "A stored password hash cannot be read");
                false
            }
        }
    })
    .await
}

fn is_of_imported(unverified: &str, text: &str) -> bool {
    let checked = ImportedHash::parse(text).and_then(|hash| {
        // It takes 72 bytes into account, as where the hash was made.
        let encoded = Zeroizing::new(STANDARD.encode(unverified));
        bcrypt::verify(encoded.as_bytes(), hash.as_str()).map_err(|error| error.to_string())
    });
    checked.unwrap_or_else(|error| {
        tracing::error!(%error, "A password hash that was brought along cannot be used");
        false
    })
}

/// A new password that nobody can guess, for an account whose owner shall change it.
pub fn generate(random: &Random) -> Zeroizing<String> {
    // The alphabet of ids reads well aloud; 26 of them are 130 bits.
    let id = random.id("kg");
    Zeroizing::new(id.trim_start_matches("kg_").to_string())
}

/// The password that a command was given (`KEYGATE_PASSWORD`), or a new one, which is to be shown.
pub fn given_or_new(
    random: &Random,
    given: Option<String>,
) -> anyhow::Result<(Password, Option<Zeroizing<String>>)> {
    match given {
        Some(given) => Ok((Password::parse(&given).context("KEYGATE_PASSWORD")?, None)),
        None => {
            let generated = generate(random);
            Ok((Password::parse(&generated)?, Some(generated)))
        }
    }
}

fn hash_now(clear: &str, salt: &[u8]) -> String {
    let salt = SaltString::encode_b64(salt).expect("16 bytes are a salt");
    Argon2::default()
        .hash_password(clear.as_bytes(), &salt)
        .expect("the default parameters are valid, and so is any password")
        .to_string()
}

async fn on_blocking_thread<T: Send + 'static>(lane: Lane, work: impl FnOnce() -> T + Send + 'static) -> T {
    let turnstile = match lane {
        Lane::Gateways => &GATEWAYS,
        Lane::People => &PEOPLE,
    };
    let _permit = turnstile.acquire().await.expect("a turnstile is never closed");
    tokio::task::spawn_blocking(work).await.expect("hashing does not panic")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::World;

    #[test]
    fn length_counts_characters_and_both_ends_are_inside() {
        for (chars, fits) in [(5, false), (6, true), (128, true), (129, false)] {
            assert_eq!(Password::parse(&"é".repeat(chars)).is_ok(), fits, "{chars}");
        }
    }

    #[tokio::test]
    async fn a_hash_knows_its_password_alone() {
        let password = Password::parse("secret-1").expect("long enough");
        let hash = password.hash(&Random::System).await;
        assert!(hash.starts_with("$argon2id$"));
        let metrics = Metrics::default();
        assert!(verify(&metrics, Lane::People, "secret-1", Some(&hash)).await);
        assert!(!verify(&metrics, Lane::Gateways, "secret-2", Some(&hash)).await);
        assert!(!verify(&metrics, Lane::People, "nobody", None).await);
        let counted = metrics.render();
        assert!(counted.contains("keygate_password_checks_total{lane=\"people\"} 2"), "{counted}");
        assert!(!format!("{password:?}").contains("secret"));
    }

    #[tokio::test]
    async fn an_imported_hash_knows_its_password_and_its_cost_is_bounded() {
        // bcrypt of the Base64 text of the reference's tsp123abcd, by Python's bcrypt.
        let metrics = Metrics::default();
        for version in ["2a", "2b", "2y"] {
            let hash = format!("${version}$04$VQxuAh0YJ.z2z7ywSF9qNuY2lyb/kY25Xh01K/JYJ..NH4aRvuaMG");
            let hash = ImportedHash::parse(&hash).expect("a hash");
            assert!(verify(&metrics, Lane::People, "tsp123abcd", Some(hash.as_str())).await);
            assert!(!verify(&metrics, Lane::People, "dHNwMTIzYWJjZA==", Some(hash.as_str())).await);
            assert!(!verify(&metrics, Lane::People, "tsp123abce", Some(hash.as_str())).await);
            assert!(!format!("{hash:?}").contains("$2"));
        }
        for (text, why) in [
            ("$2b$13$VQxuAh0YJ.z2z7ywSF9qNuY2lyb/kY25Xh01K/JYJ..NH4aRvuaMG", "its cost is 13"),
            ("$2b$31$VQxuAh0YJ.z2z7ywSF9qNuY2lyb/kY25Xh01K/JYJ..NH4aRvuaMG", "its cost is 31"),
            ("$2x$04$VQxuAh0YJ.z2z7ywSF9qNuY2lyb/kY25Xh01K/JYJ..NH4aRvuaMG", "begins with none"),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA", "begins with none"),
            ("$2b$04$short", "cannot be read"),
            ("$2b$04$VQxuAh0YJ.z2z7ywSF9qNuY2lyb/kY25Xh01K/JYJ..NH4aRvuaMG0", "cannot be read"),
            ("", "begins with none"),
        ] {
            let refused = ImportedHash::parse(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
            // Nor is it computed where it stands in the database all the same.
            assert!(
                !verify(&metrics, Lane::People, "tsp123abcd", Some(text).filter(|text| is_imported(text)))
                    .await
            );
        }
    }

    #[tokio::test]
    async fn gateways_do_not_wait_for_people() {
        let most = u32::try_from(MAX_AT_ONCE).expect("a few");
        let _people = PEOPLE.acquire_many(most).await.expect("never closed");
        let metrics = Metrics::default();
        let checked = verify(&metrics, Lane::Gateways, "secret-1", None);
        let checked = tokio::time::timeout(std::time::Duration::from_secs(60), checked).await;
        assert_eq!(checked, Ok(false));
    }

    #[tokio::test]
    async fn calls_that_anybody_may_make_are_turned_away_at_the_end_of_the_queue() {
        let world = World::sqlite().await;
        let anon = world.anon();
        let sign_in = json!({ "operator": "nobody", "password": "secret-1" });
        let replacement = json!({
            "client": "nobody", "password": "secret-1", "new_password": "secret-2",
            "password_confirmation": "secret-2",
        });
        let mut places: Vec<_> =
            (0..MAX_QUEUED).map(|_| world.app.passwords.enter().expect("a place")).collect();
        for (path, body) in [("/api/v1/session", &sign_in), ("/client/v1/password", &replacement)] {
            let refused = anon.post(path, body.clone()).await;
            assert_eq!(refused.header("retry-after"), Some("1"), "{path}");
            refused.problem(503, "busy");
        }
        // One place is enough, and is given back.
        places.pop();
        for _ in 0..2 {
            anon.post("/api/v1/session", sign_in.clone()).await.problem(401, "wrong_password");
            anon.post("/client/v1/password", replacement.clone()).await.problem(403, "wrong_password");
        }
    }
}
