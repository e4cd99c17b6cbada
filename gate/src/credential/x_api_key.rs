//! `X-Api-Key: <key>`: a plaintext key, found by its SHA-256.
//!
//! On the wire between filter and manager the hash is lower-case hex ([`Fingerprint::to_hex`]); in
//! storage it has digiRunner's form, upper-case hex without a salt ([`Fingerprint::to_stored`]), so
//! that its keys can be imported. Keys made here are 48 characters of Base64url; imported ones may
//! be any visible ASCII.

use core::fmt;

use super::{Fault, Fingerprint, MAX_API_KEY_BYTES};

/// A key as presented. `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct XApiKey<'a>(&'a str);

/// Why a header value is no X-Api-Key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub Fault);

/// Reads the value of an `X-Api-Key` header.
pub fn parse(value: &[u8]) -> Result<XApiKey<'_>, Malformed> {
    if value.is_empty() {
        return Err(Malformed(Fault::Empty));
    }
    if value.len() > MAX_API_KEY_BYTES {
        return Err(Malformed(Fault::TooLong { max_bytes: MAX_API_KEY_BYTES }));
    }
    match core::str::from_utf8(value) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(XApiKey(text)),
        _ => Err(Malformed(Fault::Alphabet)),
    }
}

impl<'a> XApiKey<'a> {
    /// The key itself, for its mask.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// SHA-256 of the key's text.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.as_bytes())
    }
}

impl fmt::Debug for XApiKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XApiKey([redacted])")
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the X-Api-Key header {}", self.0)
    }
}

impl core::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_published_key_has_the_published_hash() {
        let key = parse(b"YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm").unwrap();
        let stored = "DDDDFCD2AF735B009C9F689402E990EB5DEBA4A3F7A5D343B04ED48F7063C1F3";
        assert_eq!(key.fingerprint().to_stored(), stored);
        assert_eq!(key.fingerprint().to_hex(), stored.to_ascii_lowercase());
        assert_eq!(format!("{key:?}"), "XApiKey([redacted])");
    }

    #[test]
    fn a_key_is_visible_ascii_within_its_bound() {
        let too_long = Malformed(Fault::TooLong { max_bytes: 255 });
        assert!(parse(&[b'a'; MAX_API_KEY_BYTES]).is_ok());
        assert_eq!(parse(&[b'a'; MAX_API_KEY_BYTES + 1]), Err(too_long));
        assert_eq!(parse(b""), Err(Malformed(Fault::Empty)));
        for value in [&b"a b"[..], b" a", b"a\t", b"\xFF\xFE", b"a\0", "ключ".as_bytes()] {
            assert_eq!(parse(value), Err(Malformed(Fault::Alphabet)), "{}", value.escape_ascii());
        }
    }
}
