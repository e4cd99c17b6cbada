//! `Authorization: Basic <base64>` (RFC 7617): an id and a password, in UTF-8.
//!
//! Only the manager can check a password. The filter remembers its answer under an HMAC with a
//! random key of the VM, so that neither the cache nor a memory dump is a table to guess against.

use alloc::string::String;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Fault, Fingerprint, MAX_BASIC_BYTES, after_scheme, hmac_of, keyed_hmac};

/// An id and a password as presented. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Basic {
    /// All before the first colon: the client id.
    pub id: String,
    /// All behind it.
    pub password: String,
}

/// Why a header value is no Basic credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It does not begin with `Basic` and a space.
    Scheme,
    /// What follows is not Base64 with its padding.
    Base64(Fault),
    /// The Base64 is not of UTF-8, or of control characters, which RFC 7617 forbids.
    Text,
    /// No colon between id and password.
    Colon,
    /// Nothing before the colon.
    Id,
}

/// Reads the value of an `Authorization` header whose scheme is `Basic`. The first colon splits:
/// a password may contain colons, an id may not.
pub fn parse(value: &[u8]) -> Result<Basic, Malformed> {
    let encoded = after_scheme(value, b"Basic").ok_or(Malformed::Scheme)?;
    if encoded.is_empty() {
        return Err(Malformed::Base64(Fault::Empty));
    }
    if encoded.len() > MAX_BASIC_BYTES {
        return Err(Malformed::Base64(Fault::TooLong { max_bytes: MAX_BASIC_BYTES }));
    }
    let decoded = STANDARD.decode(encoded).map_err(|_| Malformed::Base64(Fault::Alphabet))?;
    let text = core::str::from_utf8(&decoded).map_err(|_| Malformed::Text)?;
    if text.chars().any(char::is_control) {
        return Err(Malformed::Text);
    }
    match text.split_once(':') {
        None => Err(Malformed::Colon),
        Some(("", _)) => Err(Malformed::Id),
        Some((id, password)) => Ok(Basic { id: id.into(), password: password.into() }),
    }
}

impl Basic {
    /// HMAC-SHA256 of id, colon and password under a random key of the VM. The id has no colon, so
    /// that no two pairs share a message.
    pub fn fingerprint(&self, vm_key: &[u8; 32]) -> Fingerprint {
        let mut message = String::with_capacity(self.id.len() + 1 + self.password.len());
        message.push_str(&self.id);
        message.push(':');
        message.push_str(&self.password);
        Fingerprint(hmac_of(&keyed_hmac(vm_key), [message.as_bytes(), b""]))
    }
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Basic({}, [redacted])", self.id)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("the Authorization header is not \"Basic <base64>\""),
            Self::Base64(fault) => write!(f, "the Base64 text of the Basic credential {fault}"),
            Self::Text => f.write_str("the Basic credential is not UTF-8 text without control characters"),
            Self::Colon => f.write_str("the Basic credential has no colon between id and password"),
            Self::Id => f.write_str("the Basic credential has no id before its colon"),
        }
    }
}

impl core::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn value(text: &[u8]) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(text)).into_bytes()
    }

    #[test]
    fn the_first_colon_splits() {
        for (text, id, password) in
            [("a:b", "a", "b"), ("a:b:c", "a", "b:c"), ("a:", "a", ""), ("名:密碼", "名", "密碼")]
        {
            assert_eq!(
                parse(&value(text.as_bytes())),
                Ok(Basic { id: id.into(), password: password.into() })
            );
        }
        assert_eq!(format!("{:?}", parse(b"basic  YTpi").unwrap()), "Basic(a, [redacted])");
    }

    #[test]
    fn what_is_no_basic_credential_is_refused() {
        for (value, error) in [
            (Vec::from(&b"Basic"[..]), Malformed::Scheme),
            (Vec::from(&b"Basic "[..]), Malformed::Base64(Fault::Empty)),
            (Vec::from(&b"Basic YTpiYw"[..]), Malformed::Base64(Fault::Alphabet)),
            (Vec::from(&b"Basic YT-i"[..]), Malformed::Base64(Fault::Alphabet)),
            (Vec::from(&b"Basic \xFF\xFE"[..]), Malformed::Base64(Fault::Alphabet)),
            (value(b"a:\xFF"), Malformed::Text),
            (value(b"a:b\n"), Malformed::Text),
            (value(b"ab"), Malformed::Colon),
            (value(b":b"), Malformed::Id),
        ] {
            assert_eq!(parse(&value), Err(error), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn the_text_has_a_bound() {
        let longest = [b"a:".as_slice(), &[b'x'; MAX_BASIC_BYTES / 4 * 3 - 2]].concat();
        assert!(parse(&value(&longest)).is_ok());
        let max_bytes = MAX_BASIC_BYTES;
        let longer = [&longest[..], b"x"].concat();
        assert_eq!(parse(&value(&longer)), Err(Malformed::Base64(Fault::TooLong { max_bytes })));
    }

    #[test]
    fn a_fingerprint_depends_on_the_pair_and_on_the_vm() {
        let pair = |id: &str, password: &str| Basic { id: id.into(), password: password.into() };
        let one = pair("a", "b").fingerprint(&[1; 32]);
        assert_eq!(one, pair("a", "b").fingerprint(&[1; 32]));
        assert_ne!(one, pair("a", "c").fingerprint(&[1; 32]));
        assert_ne!(one, pair("a", "b").fingerprint(&[2; 32]));
    }
}
