//! `Authorization: Bearer <token>` (RFC 6750): found by the SHA-256 of the token.

use core::fmt;

use super::{Fault, Fingerprint, MAX_TOKEN_BYTES, after_scheme};

/// A token as presented, unverified. `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnverifiedToken<'a>(&'a str);

/// Why a header value is no Bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It does not begin with `Bearer` and a space.
    Scheme,
    /// What follows is not a token.
    Token(Fault),
}

/// Reads the value of an `Authorization` header whose scheme is `Bearer`: `1*SP b64token`.
pub fn parse(value: &[u8]) -> Result<UnverifiedToken<'_>, Malformed> {
    let token = after_scheme(value, b"Bearer").ok_or(Malformed::Scheme)?;
    if token.is_empty() {
        return Err(Malformed::Token(Fault::Empty));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Malformed::Token(Fault::TooLong { max_bytes: MAX_TOKEN_BYTES }));
    }
    let bare = token.iter().rev().skip_while(|&&byte| byte == b'=');
    let mut bare_bytes = bare.peekable();
    if bare_bytes.peek().is_none() || !bare_bytes.all(|&byte| is_token_byte(byte)) {
        return Err(Malformed::Token(Fault::Alphabet));
    }
    match core::str::from_utf8(token) {
        Ok(text) => Ok(UnverifiedToken(text)),
        Err(_) => Err(Malformed::Token(Fault::Alphabet)),
    }
}

impl<'a> UnverifiedToken<'a> {
    /// The token itself, for the check of its signature.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// SHA-256 of the token's text.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.as_bytes())
    }
}

impl fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedToken([redacted])")
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("the Authorization header is not \"Bearer <token>\""),
            Self::Token(fault) => write!(f, "the Bearer token {fault}"),
        }
    }
}

impl core::error::Error for Malformed {}

/// `b64token` of RFC 6750, before its padding.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_token_is_read_after_its_scheme() {
        for value in [&b"Bearer a.b-c_d~e+f/g=="[..], b"bearer a.b-c_d~e+f/g==", b"BEARER   a.b-c_d~e+f/g=="]
        {
            assert_eq!(parse(value).map(|token| token.as_str()), Ok("a.b-c_d~e+f/g=="));
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (value, error) in [
            (&b"Bearer"[..], Malformed::Scheme),
            (b"Bearer\ta", Malformed::Scheme),
            (b"xBearer a", Malformed::Scheme),
            (b"", Malformed::Scheme),
            (b"Bearer ", Malformed::Token(Fault::Empty)),
            (b"Bearer ==", Malformed::Token(Fault::Alphabet)),
            (b"Bearer a=b", Malformed::Token(Fault::Alphabet)),
            (b"Bearer a b", Malformed::Token(Fault::Alphabet)),
            (b"Bearer \xFF", Malformed::Token(Fault::Alphabet)),
        ] {
            assert_eq!(parse(value), Err(error), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_token_has_a_bound() {
        let mut value = Vec::from(&b"Bearer "[..]);
        value.resize(7 + MAX_TOKEN_BYTES, b'a');
        assert!(parse(&value).is_ok());
        value.push(b'a');
        let max_bytes = MAX_TOKEN_BYTES;
        assert_eq!(parse(&value), Err(Malformed::Token(Fault::TooLong { max_bytes })));
    }
}
