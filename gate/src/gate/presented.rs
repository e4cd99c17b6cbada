//! Under what name a worker keeps what it knows of a credential.

use alloc::string::String;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::request::CredentialKind;
use crate::wire::changes::Fingerprint;

/// A credential as the caches name it: no secret, and the same for the same presentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheKey {
    hash: [u8; 32],
    kind: CredentialKind,
}

impl CacheKey {
    /// Of a DGRK key: the hash of its public text.
    pub fn dgrk(api_key: &str) -> Self {
        Self { hash: Sha256::digest(api_key.as_bytes()).into(), kind: CredentialKind::Dgrk }
    }

    /// Of an X-Api-Key or a Bearer token: the hash of its text.
    pub fn hashed(kind: CredentialKind, sha256: [u8; 32]) -> Self {
        Self { hash: sha256, kind }
    }

    /// Of an id and a password: a hash under a key that only this VM has.
    pub fn basic(vm_key: &[u8; 32], client: &str, password: &str) -> Self {
        let mut hash = [0; 32];
        // HMAC takes keys of every length.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(vm_key) {
            mac.update(&(client.len() as u64).to_le_bytes());
            mac.update(client.as_bytes());
            mac.update(password.as_bytes());
            hash = mac.finalize().into_bytes().into();
        }
        Self { hash, kind: CredentialKind::Basic }
    }

    /// The key that a change names. None for Basic, whose keys only the VM can compute, and for
    /// a text that is no hash.
    pub fn of(fingerprint: &Fingerprint) -> Option<Self> {
        match fingerprint {
            Fingerprint::Dgrk(api_key) => Some(Self::dgrk(api_key)),
            Fingerprint::XApiKey(hex) => Some(Self::hashed(CredentialKind::XApiKey, from_hex(hex)?)),
            Fingerprint::Bearer(hex) => Some(Self::hashed(CredentialKind::Bearer, from_hex(hex)?)),
            Fingerprint::Basic(_) => None,
        }
    }
}

/// Lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |digit: Option<&u8>| char::from(*digit?).to_digit(16);
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(nibble(pair.first())? << 4 | nibble(pair.get(1))?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_what_a_request_presents() {
        let sha256: [u8; 32] = Sha256::digest(b"key").into();
        let hex = to_hex(&sha256);
        assert_eq!(CacheKey::of(&Fingerprint::Dgrk("k".into())), Some(CacheKey::dgrk("k")));
        let x_api_key = CacheKey::hashed(CredentialKind::XApiKey, sha256);
        assert_eq!(CacheKey::of(&Fingerprint::XApiKey(hex.clone())), Some(x_api_key));
        assert_ne!(CacheKey::of(&Fingerprint::Bearer(hex)), Some(x_api_key));
        for bad in ["", "zz", &"0".repeat(63), &"g".repeat(64)] {
            assert_eq!(CacheKey::of(&Fingerprint::XApiKey(bad.into())), None);
        }
    }

    #[test]
    fn a_password_cannot_be_moved_into_the_id() {
        let vm = [7; 32];
        assert_ne!(CacheKey::basic(&vm, "ab", "c"), CacheKey::basic(&vm, "a", "bc"));
        assert_ne!(CacheKey::basic(&vm, "a", "b"), CacheKey::basic(&[8; 32], "a", "b"));
        assert_eq!(CacheKey::basic(&vm, "a", "b"), CacheKey::basic(&vm, "a", "b"));
    }
}
