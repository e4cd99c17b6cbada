//! A key's pair, and which key of a set does what at a moment.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gate::time::UnixMillis;
use zeroize::Zeroizing;

use crate::openapi::schema::schema_of;

/// Keys at most: a rotation beyond waits until tokens of an old one have ended.
pub const MAX_KEYS: usize = 8;
/// How old the keys may be that a process goes by: others rotate them.
pub const KEPT_MS: i64 = 10_000;
/// From its making until a key signs, besides the time for which a gateway goes on that is cut off: every
/// replica and whoever keeps the JWKS has it by then.
pub const LEAD_MS: i64 = 120_000;

/// An RSA-2048 pair in memory. `Debug` shows its name alone.
pub struct SigningKey {
    /// Its name.
    pub kid: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it begins to sign.
    pub signs_from: UnixMillis,
    pair: KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

/// A pair that was just drawn, to be stored.
pub struct NewPair {
    /// PKCS#8.
    pub private: Zeroizing<Vec<u8>>,
    /// `SubjectPublicKeyInfo` in Base64.
    pub public: String,
}

impl NewPair {
    /// Draws one; it takes about a tenth of a second. (The library draws from the operating system
    /// by itself, and takes nobody else's randomness.)
    pub fn draw() -> Result<Self, Unspecified> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key())?;
        Ok(Self {
            private: Zeroizing::new(private.as_ref().to_vec()),
            public: STANDARD.encode(public.as_ref()),
        })
    }
}

impl SigningKey {
    /// Reads a pair.
    pub fn read(
        kid: String,
        created_at: UnixMillis,
        signs_from: UnixMillis,
        private: &[u8],
    ) -> Result<Self, KeyRejected> {
        Ok(Self { kid, created_at, signs_from, pair: KeyPair::from_pkcs8(private)? })
    }

    /// RS256.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }

    /// Whether it made that signature.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public_key().as_ref());
        public.verify(message, signature).is_ok()
    }

    /// Modulus and exponent, as a JWK has them.
    pub fn components(&self) -> (String, String) {
        let public = self.pair.public_key();
        let text = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        (
            text(public.modulus().big_endian_without_leading_zero()),
            text(public.exponent().big_endian_without_leading_zero()),
        )
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It will sign.
    Next,
    /// It signs.
    Active,
    /// It has signed: its tokens may live on.
    Retired,
}

schema_of! { State as TokenKeyState: one_of(["next", "active", "retired"]) }

impl State {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// All keys, in the order in which they sign.
#[derive(Clone, Debug, Default)]
pub struct KeySet(pub Vec<Arc<SigningKey>>);

impl KeySet {
    /// The one that signs.
    pub fn active(&self, now: UnixMillis) -> Option<&Arc<SigningKey>> {
        self.0.iter().rfind(|key| key.signs_from <= now)
    }

    /// The one of that name.
    pub fn by_kid(&self, kid: &str) -> Option<&Arc<SigningKey>> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// What a key of the set does.
    pub fn state(&self, key: &SigningKey, now: UnixMillis) -> State {
        match self.active(now) {
            _ if key.signs_from > now => State::Next,
            Some(active) if active.kid != key.kid => State::Retired,
            Some(_) | None => State::Active,
        }
    }
}
