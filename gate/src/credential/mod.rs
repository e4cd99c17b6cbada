//! Credentials: what a request may present, the grammar of each kind, and its proof.
//!
//! - [`dgrk`]: `Authorization: DGRK <api key>.<signature>`, an HMAC over the body; [`minify`] and
//!   [`java_double`] write the text that is signed.
//! - [`x_api_key`]: `X-Api-Key: <key>`, found by its SHA-256.
//! - [`bearer`]: `Authorization: Bearer <token>`, found by its SHA-256; [`jwt`] reads which key signed it.
//! - [`basic`]: `Authorization: Basic <base64>`, an id and a password that only the manager can check.
//!
//! Every parser takes the bytes of a header value as they arrived and refuses what is not exactly
//! its grammar, before anything costly and without a panic on any input.

use alloc::string::String;
use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub mod basic;
pub mod bearer;
pub mod dgrk;
pub mod java_double;
pub mod jwt;
pub mod minify;
pub mod x_api_key;

/// Bytes of an API key or X-Api-Key at most (ours have 56 and 48).
pub const MAX_API_KEY_BYTES: usize = 255;
/// Bytes of the signature part of a DGRK header at most (a right one has 44). Longer text cannot
/// be a signature; up to here a wrong one is told apart from a malformed header.
pub const MAX_SIGNATURE_BYTES: usize = 88;
/// Bytes of a Bearer token at most: a JWT with many groups stays far below.
pub const MAX_TOKEN_BYTES: usize = 8_192;
/// Bytes of the Base64 text of Basic at most: an id of 255 bytes and a password of 128 characters
/// of four bytes, itself sent as Base64 by some callers, fit.
pub const MAX_BASIC_BYTES: usize = 1_368;

/// Texts shorter than this are masked wholly: three characters at each end would tell too much.
const MIN_MASKED_CHARS: usize = 12;

/// Which scheme an `Authorization` value begins with, in whatever case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// [`dgrk`].
    Dgrk,
    /// [`bearer`].
    Bearer,
    /// [`basic`].
    Basic,
    /// None of ours: left to the API behind, if it accepts no `Authorization` credential.
    Other,
}

impl Scheme {
    /// Reads the scheme: all up to the first space, at the very start of the value.
    pub fn of(value: &[u8]) -> Self {
        let scheme = value.split(|&byte| byte == b' ').next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case(b"DGRK") {
            Self::Dgrk
        } else if scheme.eq_ignore_ascii_case(b"Bearer") {
            Self::Bearer
        } else if scheme.eq_ignore_ascii_case(b"Basic") {
            Self::Basic
        } else {
            Self::Other
        }
    }
}

/// The SHA-256 (or, for Basic, the HMAC) by which a credential is cached and looked up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// SHA-256 of a secret text.
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// 64 lower-case hex digits: the form on the wire between filter and manager.
    pub fn to_hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(hex_digit(byte >> 4));
            text.push(hex_digit(byte & 0xF));
        }
        text
    }

    /// 64 upper-case hex digits: the form in which digiRunner stores the hash of an X-Api-Key, so
    /// that its rows can be compared with and imported into ours.
    pub fn to_stored(&self) -> String {
        let mut text = self.to_hex();
        text.make_ascii_uppercase();
        text
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A secret as it may be shown: its first three characters, `***`, its last three. A text of fewer
/// than twelve characters is `***` alone.
pub fn mask(text: &str) -> String {
    let mut masked = String::from("***");
    if text.chars().nth(MIN_MASKED_CHARS - 1).is_some() {
        masked = text.chars().take(3).chain(masked.chars()).collect();
        let end: alloc::vec::Vec<char> = text.chars().rev().take(3).collect();
        masked.extend(end.iter().rev());
    }
    masked
}

/// What is wrong with one part of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing there.
    Empty,
    /// Over its bound.
    TooLong {
        /// The bound in bytes.
        max_bytes: usize,
    },
    /// A byte outside its alphabet, or Base64 without its padding.
    Alphabet,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { max_bytes } => write!(f, "is longer than {max_bytes} bytes"),
            Self::Alphabet => f.write_str("contains what does not belong there"),
        }
    }
}

/// HMAC-SHA256 with its key set up: cloned for each message.
type HmacSha256 = Hmac<Sha256>;

fn keyed_hmac(key: &[u8]) -> HmacSha256 {
    #[expect(clippy::expect_used, reason = "the error exists for MACs with keys of one length only")]
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn hmac_of(keyed: &HmacSha256, parts: [&[u8]; 2]) -> [u8; 32] {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// What follows a scheme and its spaces, or nothing if the scheme is another or stands alone.
fn after_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    name.eq_ignore_ascii_case(scheme).then(|| {
        let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
        rest.get(spaces..).unwrap_or_default()
    })
}

/// Lower-case hex digit of the low four bits.
fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble & 0xF), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_scheme_is_anchored_and_case_insensitive() {
        for (value, scheme) in [
            (&b"DGRK a.b"[..], Scheme::Dgrk),
            (b"dgrk a.b", Scheme::Dgrk),
            (b"DgRk", Scheme::Dgrk),
            (b"Bearer x", Scheme::Bearer),
            (b"bEARER x", Scheme::Bearer),
            (b"basic eA==", Scheme::Basic),
            (b"", Scheme::Other),
            (b" DGRK a.b", Scheme::Other),
            (b"xDGRK a.b", Scheme::Other),
            (b"Custom dgrk a.b", Scheme::Other),
            (b"DGRK\ta.b", Scheme::Other),
            (b"DGRKa.b", Scheme::Other),
            (b"Negotiate \xFF", Scheme::Other),
        ] {
            assert_eq!(Scheme::of(value), scheme, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_mask_shows_three_characters_at_each_end_of_a_long_text_alone() {
        for (text, masked) in [
            ("YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm", "YjN***GJm"),
            ("123456789012", "123***012"),
            ("12345678901", "***"),
            ("", "***"),
            ("鍵鍵鍵abcdefgh末末末", "鍵鍵鍵***末末末"),
        ] {
            assert_eq!(mask(text), masked);
        }
    }
}
