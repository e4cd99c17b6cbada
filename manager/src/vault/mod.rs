//! Secrets at rest. Each is sealed with a data key; the data keys lie in the database, sealed
//! with the key-encryption key (KEK), which does not. AEAD: XChaCha20-Poly1305, whose nonces may
//! be drawn at random. The purpose (`keys.secret`, row id) is bound in, so that a sealed text
//! moved to another row or column does not open.

mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use gate::time::UnixMillis;
use zeroize::Zeroizing;

use crate::clock::Random;
use crate::config::Config;
use crate::db::{Db, DbError};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// First characters of everything sealed: the format's version.
const FORMAT: &str = "kv1";
/// What a data key is sealed for.
const DATA_KEY_PURPOSE: &str = "vault.data_key";

/// Seals and opens. Clones share the keys.
#[derive(Clone)]
pub struct Vault {
    keys: Arc<DataKeys>,
    random: Random,
}

struct DataKeys {
    /// Seals what is new.
    current: String,
    by_id: BTreeMap<String, XChaCha20Poly1305>,
}

/// The key-encryption key.
pub struct Kek(Zeroizing<[u8; KEY_BYTES]>);

/// Why something sealed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Not a sealed text of a known format.
    #[error("not a sealed text")]
    Malformed,
    /// Sealed with a data key that is not loaded here.
    #[error("sealed with data key {0}, which is not known")]
    UnknownKey(String),
    /// Altered, moved from its place, or sealed under another key.
    #[error("a sealed text does not open: it was altered, or belongs elsewhere")]
    DoesNotOpen,
    /// The KEK cannot be read or made.
    #[error("key-encryption key {}: {reason}", file.display())]
    KekFile {
        /// Which file.
        file: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The KEK in the settings cannot be read.
    #[error("setting kek (KEYGATE_KEK): must be 32 bytes in Base64, e.g. from `openssl rand -base64 32`")]
    KekText,
    /// The KEK is not the one that this database was written with.
    #[error(
        "the key-encryption key does not open this database's data keys: \
         set kek_file (KEYGATE_KEK_FILE) to the key that the database was created with"
    )]
    WrongKek,
    /// The data keys cannot be read.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl Kek {
    /// A new one.
    pub fn generate(random: &Random) -> Self {
        Self(Zeroizing::new(random.bytes()))
    }

    /// From the setting `kek`, else from `kek_file`, which is made when missing.
    pub fn load(config: &Config, random: &Random) -> Result<Self, VaultError> {
        match &config.kek {
            Some(text) => Self::parse(text.reveal()).ok_or(VaultError::KekText),
            None => Self::load_file(&config.kek_file, random),
        }
    }

    fn load_file(file: &Path, random: &Random) -> Result<Self, VaultError> {
        let wrong = |reason: String| VaultError::KekFile { file: file.into(), reason };
        let made = Self::generate(random);
        // create_new: of two processes that start at once, one makes it and both read it.
        let mut options = std::fs::OpenOptions::new();
        options.create_new(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(file) {
            Ok(mut out) => {
                let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*made.0)));
                std::io::Write::write_all(&mut out, text.as_bytes())
                    .and_then(|()| out.sync_all())
                    .map_err(|error| wrong(error.to_string()))?;
                tracing::info!(file = %file.display(), "Generated a key-encryption key: back it up apart from the database");
                return Ok(made);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(wrong(error.to_string())),
        }
        let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?);
        Self::parse(&text).ok_or_else(|| wrong("must hold 32 bytes in Base64".into()))
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        Some(Self(Zeroizing::new(<[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok()?)))
    }
}

impl Vault {
    /// Loads the data keys, making the first one when there is none.
    pub async fn open_database(
        db: &Db,
        kek: &Kek,
        random: &Random,
        now: UnixMillis,
    ) -> Result<Self, VaultError> {
        let kek = XChaCha20Poly1305::new_from_slice(kek.0.as_slice()).map_err(|_| VaultError::KekText)?;
        let mut rows = store::load(&mut *db.read().await?).await?;
        if rows.is_empty() {
            let key = Zeroizing::new(random.bytes::<KEY_BYTES>());
            let first = "dk_1";
            let sealed = seal(&kek, first, DATA_KEY_PURPOSE, key.as_slice(), random);
            let mut tx = db.write("vault.first_key").await?;
            store::insert_unless_present(&mut tx, first, &sealed, now).await?;
            tx.commit().await?;
            // Another replica may have been first: what counts is what is stored.
            rows = store::load(&mut *db.read().await?).await?;
        }
        let mut by_id = BTreeMap::new();
        let mut current = String::new();
        for (id, sealed) in rows {
            let key = open(&kek, &id, DATA_KEY_PURPOSE, payload(&sealed).ok_or(VaultError::Malformed)?.1)
                .map_err(|_| VaultError::WrongKek)?;
            let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(|_| VaultError::WrongKek)?;
            by_id.insert(id.clone(), cipher);
            current = id;
        }
        Ok(Self { keys: Arc::new(DataKeys { current, by_id }), random: random.clone() })
    }

    /// Seals `clear` for `purpose`, as text.
    pub fn seal(&self, purpose: &str, clear: &[u8]) -> String {
        let id = &self.keys.current;
        let cipher = self.keys.by_id.get(id).expect("the current key is one of the loaded ones");
        seal(cipher, id, purpose, clear, &self.random)
    }

    /// What was sealed for this very `purpose`.
    pub fn open(&self, purpose: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (id, payload) = payload(sealed).ok_or(VaultError::Malformed)?;
        let cipher = self.keys.by_id.get(id).ok_or_else(|| VaultError::UnknownKey(id.into()))?;
        open(cipher, id, purpose, payload)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault([redacted])")
    }
}

/// `kv1:<key id>:<base64url of nonce and ciphertext>`
fn seal(cipher: &XChaCha20Poly1305, key_id: &str, purpose: &str, clear: &[u8], random: &Random) -> String {
    let nonce = random.bytes::<NONCE_BYTES>();
    let aad = aad(key_id, purpose);
    let sealed = cipher
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: clear, aad: aad.as_bytes() })
        .expect("fails only beyond 256 GiB");
    let mut bytes = nonce.to_vec();
    bytes.extend_from_slice(&sealed);
    format!("{FORMAT}:{key_id}:{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn open(
    cipher: &XChaCha20Poly1305,
    key_id: &str,
    purpose: &str,
    payload: &str,
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|_| VaultError::Malformed)?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or(VaultError::Malformed)?;
    let aad = aad(key_id, purpose);
    cipher
        .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: aad.as_bytes() })
        .map(Zeroizing::new)
        .map_err(|_| VaultError::DoesNotOpen)
}

fn aad(key_id: &str, purpose: &str) -> String {
    format!("{FORMAT}|{key_id}|{purpose}")
}

fn payload(sealed: &str) -> Option<(&str, &str)> {
    sealed.strip_prefix(FORMAT)?.strip_prefix(':')?.split_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn what_was_sealed_opens_for_its_purpose_alone() {
        for world in World::both().await {
            let vault = &world.app.vault;
            let sealed = vault.seal("keys.secret:k1", b"secret");
            assert!(!sealed.contains("secret"));
            assert_ne!(sealed, vault.seal("keys.secret:k1", b"secret"), "nonces differ");
            assert_eq!(vault.open("keys.secret:k1", &sealed).expect("opens").as_slice(), b"secret");
            for (purpose, text) in [
                ("keys.secret:k2", sealed.clone()),
                ("keys.secret:k1", sealed.replace("dk_1", "dk_2")),
                ("keys.secret:k1", format!("{}AA", &sealed[..sealed.len() - 2])),
                ("keys.secret:k1", "kv1:dk_1:AAAA".into()),
                ("keys.secret:k1", "plain".into()),
            ] {
                assert!(vault.open(purpose, &text).is_err(), "{purpose} {text}");
            }
        }
    }

    #[tokio::test]
    async fn another_kek_is_refused_and_the_same_one_opens_what_is_there() {
        for world in World::both().await {
            let sealed = world.app.vault.seal("p", b"x");
            let again = |seed| {
                let random = Random::seeded(seed);
                let kek = Kek::generate(&random);
                let app = world.app.clone();
                async move { Vault::open_database(&app.db, &kek, &random, app.now()).await }
            };
            assert!(matches!(again(World::SEED + 1).await, Err(VaultError::WrongKek)));
            let vault = again(World::SEED).await.expect("the same KEK");
            assert_eq!(vault.open("p", &sealed).expect("opens").as_slice(), b"x");
        }
    }

    #[test]
    fn a_kek_file_is_made_once_with_mode_0600() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("kek");
        let first = Kek::load_file(&file, &Random::System).expect("made");
        let second = Kek::load_file(&file, &Random::System).expect("read");
        assert_eq!(*first.0, *second.0);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(&file, "short").expect("writable");
        assert!(Kek::load_file(&file, &Random::System).is_err());
    }
}
