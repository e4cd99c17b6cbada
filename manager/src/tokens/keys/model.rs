//! A key's pair, and which key of a set does what at a moment.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gate::time::UnixMillis;
use jsonwebtoken::{DecodingKey, EncodingKey};
use zeroize::Zeroizing;

use super::signer::{self, Pair};
use crate::openapi::schema::schema_of;

/// Keys at most: a rotation beyond waits until tokens of an old one have ended.
pub const MAX_KEYS: usize = 8;
/// Keys at most that are kept to read refresh tokens.
pub const MAX_CLOSED: usize = 256;
/// How old the keys may be that a process goes by: others rotate and withdraw them.
pub const KEPT_MS: i64 = 1_000;
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
    /// It reads refresh tokens alone.
    pub closed: bool,
    pair: Arc<Pair>,
    encoding: EncodingKey,
    decoding: DecodingKey,
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
        closed: bool,
        private: &[u8],
    ) -> Result<Self, KeyRejected> {
        let pair = signer::keep(private)?;
        let decoding = DecodingKey::from_rsa_der(pair.public_key().as_ref());
        let encoding = EncodingKey::from_rsa_der(private);
        Ok(Self { kid, created_at, signs_from, closed, pair, encoding, decoding })
    }

    /// For who signs by it.
    pub fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }

    /// For who verifies what it has signed.
    pub fn decoding(&self) -> &DecodingKey {
        &self.decoding
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
    /// None of its access tokens lives: gateways have it no longer. It reads refresh tokens of its time.
    Closed,
}

schema_of! { State as TokenKeyState: one_of(["next", "active", "retired", "closed"]) }

impl State {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Closed => "closed",
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
            _ if key.closed => State::Closed,
            _ if key.signs_from > now => State::Next,
            Some(active) if active.kid != key.kid => State::Retired,
            Some(_) | None => State::Active,
        }
    }
}
