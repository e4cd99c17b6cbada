//! How the JWT library signs here. By itself it reads the private key again for each token, which takes longer than
//! the signature: this has it find the pair that was read before.

use std::ops::Deref;
use std::sync::{Arc, LazyLock, PoisonError, RwLock, Weak};

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, aws_lc};
use jsonwebtoken::signature::{Error, Signer};
use jsonwebtoken::{Algorithm, EncodingKey};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A pair that was read.
pub struct Pair {
    private: Zeroizing<Vec<u8>>,
    pair: KeyPair,
}

impl Deref for Pair {
    type Target = KeyPair;

    fn deref(&self) -> &KeyPair {
        &self.pair
    }
}

/// Pairs that somebody holds, a few of each manager in the process. Gone with their holders.
static HELD: RwLock<Vec<Weak<Pair>>> = RwLock::new(Vec::new());

/// All but RS256 with a pair that is held is as the library does it.
static PROVIDER: LazyLock<CryptoProvider> =
    LazyLock::new(|| CryptoProvider { signer_factory: signer, ..aws_lc::DEFAULT_PROVIDER.clone() });

/// Has the library sign by the pairs that are held. To be called before it is used for anything; it listens once.
pub fn install() {
    // Where it has chosen already it is this one, of another manager in the process.
    let _ = LazyLock::force(&PROVIDER).install_default();
}

/// Reads a pair (PKCS#8) and has the library sign by it for as long as it is held.
pub fn keep(private: &[u8]) -> Result<Arc<Pair>, KeyRejected> {
    install();
    let pair = Pair { private: Zeroizing::new(private.to_vec()), pair: KeyPair::from_pkcs8(private)? };
    let pair = Arc::new(pair);
    let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
    held.retain(|pair| pair.strong_count() > 0);
    held.push(Arc::downgrade(&pair));
    Ok(pair)
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> jsonwebtoken::errors::Result<Box<dyn JwtSigner>> {
    if *algorithm == Algorithm::RS256 {
        let held = HELD.read().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter().filter_map(Weak::upgrade);
        if let Some(pair) = found.into_iter().find(|pair| bool::from(pair.private.ct_eq(key.inner()))) {
            return Ok(Box::new(Rs256(pair)));
        }
    }
    (aws_lc::DEFAULT_PROVIDER.signer_factory)(algorithm, key)
}

struct Rs256(Arc<Pair>);

impl Signer<Vec<u8>> for Rs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| Error::new())?;
        Ok(signature)
    }
}

impl JwtSigner for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}
