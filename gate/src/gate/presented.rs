//! Under what name a worker keeps what it knows of a credential.

use sha2::{Digest, Sha256};

use crate::id::{ClientId, CredentialId};
use crate::request::CredentialKind;
use crate::wire::changes::Fingerprint;

/// A credential as the caches name it: no secret, and the same for the same presentation. Clients
/// and credential ids have one too, so that one kind of table serves all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheKey {
    hash: [u8; 32],
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Presented(CredentialKind),
    Client,
    Credential,
}

impl CacheKey {
    /// Of a DGRK key: the hash of its public text.
    pub fn dgrk(api_key: &str) -> Self {
        Self { hash: Sha256::digest(api_key.as_bytes()).into(), what: What::Presented(CredentialKind::Dgrk) }
    }

    /// Of an X-Api-Key or a Bearer token: the hash of its text. Of Basic: the HMAC of id and
    /// password under a key that only this VM has.
    pub fn hashed(kind: CredentialKind, sha256: [u8; 32]) -> Self {
        Self { hash: sha256, what: What::Presented(kind) }
    }

    /// Of a client, by its id.
    pub fn client(id: &ClientId) -> Self {
        Self { hash: Sha256::digest(id.as_str().as_bytes()).into(), what: What::Client }
    }

    /// Of a credential, by its id.
    pub fn credential(id: &CredentialId) -> Self {
        Self { hash: Sha256::digest(id.as_str().as_bytes()).into(), what: What::Credential }
    }

    /// Whether it names an id and a password.
    pub fn is_password(&self) -> bool {
        self.what == What::Presented(CredentialKind::Basic)
    }

    /// Whether it names a token.
    pub fn is_token(&self) -> bool {
        self.what == What::Presented(CredentialKind::Bearer)
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
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_change_names_what_a_request_presents() {
        let sha256: [u8; 32] = Sha256::digest(b"key").into();
        let hex = crate::credential::Fingerprint(sha256).to_hex();
        assert_eq!(CacheKey::of(&Fingerprint::Dgrk("k".into())), Some(CacheKey::dgrk("k")));
        let x_api_key = CacheKey::hashed(CredentialKind::XApiKey, sha256);
        assert_eq!(CacheKey::of(&Fingerprint::XApiKey(hex.clone())), Some(x_api_key));
        assert_ne!(CacheKey::of(&Fingerprint::Bearer(hex)), Some(x_api_key));
        for bad in ["", "zz", &"0".repeat(63), &"g".repeat(64)] {
            assert_eq!(CacheKey::of(&Fingerprint::XApiKey(bad.into())), None);
        }
    }
}
