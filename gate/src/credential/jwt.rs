//! What a Bearer token tells of itself: a JWT in the compact form (RFC 7515), signed by RS256.
//!
//! Only its head is read, and its signature decoded: which key, over which text. What it claims is
//! told by the manager, which knows whether it was revoked; a token that names no key of ours, or
//! whose signature is wrong, never gets there.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bearer::UnverifiedToken;

/// Bytes of the head's JSON at most: ours has about 80.
pub const MAX_HEAD_BYTES: usize = 512;
/// Bytes of a key's name at most.
pub const MAX_KID_BYTES: usize = 128;
/// Bytes of a signature at most: that of a key of 4096 bits.
pub const MAX_SIGNATURE_BYTES: usize = 512;

/// A token taken apart; nothing of it is verified. `Debug` shows the name of its key alone.
#[derive(Clone, PartialEq, Eq)]
pub struct UnverifiedJwt<'a> {
    /// Which key is said to have signed it.
    pub kid: String,
    /// What is signed.
    pub signed: &'a str,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Why a Bearer is no token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not three parts of Base64 (URL-safe, canonical, unpadded), the first a JSON object.
    Form,
    /// Not signed, or otherwise than by RS256.
    Algorithm,
    /// Its key is none of those that sign tokens here.
    Key,
    /// The signature is incorrect.
    Signature,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "is no JWT as they are issued here",
            Self::Algorithm => "is not signed by RS256",
            Self::Key => "is signed by a key that is not used here",
            Self::Signature => "has an incorrect signature",
        })
    }
}

impl core::error::Error for Fault {}

/// The head. Parameters that are not named here change nothing; keys or addresses of keys that
/// a token brings along are not looked at.
#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, section 4.1.11): none is.
    #[serde(default)]
    crit: Option<IgnoredAny>,
    /// The signed text is not what stands there (RFC 7797).
    #[serde(default)]
    b64: Option<IgnoredAny>,
}

/// Takes a token apart. Everything is bounded before it is decoded.
pub fn parse(token: UnverifiedToken<'_>) -> Result<UnverifiedJwt<'_>, Fault> {
    let text = token.as_str();
    let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Form)?;
    let (head, claims) = signed.split_once('.').ok_or(Fault::Form)?;
    // A dot is no byte of the alphabet: there are three parts.
    if claims.is_empty() || !claims.bytes().all(is_url_safe) {
        return Err(Fault::Form);
    }
    let head: Head = crate::json::from_slice(&decode(head, MAX_HEAD_BYTES)?).map_err(|_| Fault::Form)?;
    if head.crit.is_some() || head.b64.is_some() {
        return Err(Fault::Form);
    }
    if head.alg != "RS256" {
        return Err(Fault::Algorithm);
    }
    let kid = head.kid.filter(|kid| !kid.is_empty() && kid.len() <= MAX_KID_BYTES).ok_or(Fault::Key)?;
    let signature = decode(signature, MAX_SIGNATURE_BYTES)?;
    Ok(UnverifiedJwt { kid, signed, signature })
}

fn decode(part: &str, max: usize) -> Result<Vec<u8>, Fault> {
    if part.is_empty() || part.len() > max.div_ceil(3) * 4 {
        return Err(Fault::Form);
    }
    URL_SAFE_NO_PAD.decode(part).ok().filter(|bytes| bytes.len() <= max).ok_or(Fault::Form)
}

fn is_url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

impl fmt::Debug for UnverifiedJwt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnverifiedJwt(by {:?}, [redacted])", self.kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::bearer;
    use alloc::format;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn encoded(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn token(head: &str) -> String {
        format!("{}.{}.{}", encoded(head), encoded("{\"exp\":1}"), encoded([7; 256]))
    }

    fn read(token: &str) -> Result<(String, String, usize), Fault> {
        let value = format!("Bearer {token}");
        let jwt = parse(bearer::parse(value.as_bytes()).map_err(|_| Fault::Form)?)?;
        Ok((jwt.kid, jwt.signed.into(), jwt.signature.len()))
    }

    const HEAD: &str = r#"{"typ":"JWT","alg":"RS256","kid":"k1"}"#;

    #[test]
    fn a_token_of_ours_is_taken_apart() {
        let whole = token(HEAD);
        let signed = whole.rsplit_once('.').unwrap().0;
        assert_eq!(read(&whole), Ok(("k1".into(), signed.into(), 256)));
        // Order, white space and further parameters change nothing.
        let other = r#" { "kid" : "k1", "x5u": "https://attacker.example", "alg" : "RS256" } "#;
        assert!(read(&token(other)).is_ok());
        let shown = format!("{:?}", parse(bearer::parse(format!("Bearer {whole}").as_bytes()).unwrap()));
        assert_eq!(shown, "Ok(UnverifiedJwt(by \"k1\", [redacted]))");
    }

    #[test]
    fn another_algorithm_is_refused_whatever_its_case() {
        for alg in
            ["none", "None", "", "HS256", "rs256", "RS256 ", "RS384", "RS512", "PS256", "ES256", "EdDSA"]
        {
            let head = format!(r#"{{"alg":"{alg}","kid":"k1"}}"#);
            assert_eq!(read(&token(&head)), Err(Fault::Algorithm), "{alg}");
        }
    }

    #[test]
    fn a_head_that_is_not_ours_is_refused() {
        let long = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(MAX_KID_BYTES + 1));
        for (head, fault) in [
            (r#"{"alg":"RS256"}"#, Fault::Key),
            (r#"{"alg":"RS256","kid":null}"#, Fault::Key),
            (r#"{"alg":"RS256","kid":""}"#, Fault::Key),
            (&long, Fault::Key),
            (r#"{"kid":"k1"}"#, Fault::Form),
            (r#"{"alg":"RS256","alg":"none","kid":"k1"}"#, Fault::Form),
            (r#"{"alg":"RS256","kid":"k1","kid":"k2"}"#, Fault::Form),
            (r#"{"alg":["RS256"],"kid":"k1"}"#, Fault::Form),
            (r#"{"alg":"RS256","kid":7}"#, Fault::Form),
            (r#"{"alg":"RS256","kid":"k1","crit":["exp"]}"#, Fault::Form),
            (r#"{"alg":"RS256","kid":"k1","b64":false}"#, Fault::Form),
            (r#"["RS256","k1"]"#, Fault::Form),
            ("", Fault::Form),
            ("{}{}", Fault::Form),
            ("null", Fault::Form),
        ] {
            assert_eq!(read(&token(head)), Err(fault), "{head}");
        }
    }

    #[test]
    fn three_canonical_parts_and_no_other() {
        let whole = token(HEAD);
        let [head, claims, signature] = whole.split('.').collect::<Vec<_>>().try_into().unwrap();
        // 256 bytes leave four unused bits in the last character: they must be zero.
        let stem = signature.strip_suffix('w').expect("[7; 256] ends so");
        for refused in [
            format!("{head}.{claims}"),
            format!("{head}.{claims}."),
            format!("{head}..{signature}"),
            format!(".{claims}.{signature}"),
            format!("{whole}.{signature}"),
            format!("{head}.{claims}.{signature}."),
            format!("{head}.{claims}.{signature}=="),
            format!("{head}.{claims}.{stem}x"),
            format!("{head}.{claims}.{stem}~"),
            format!("{head}.{claims}+.{signature}"),
            format!("{head}=.{claims}.{signature}"),
            head.into(),
            "opaque".into(),
        ] {
            assert_eq!(read(&refused), Err(Fault::Form), "{refused}");
        }
    }

    #[test]
    fn head_kid_and_signature_have_bounds() {
        let spaced = |size: usize| format!("{HEAD}{}", " ".repeat(size - HEAD.len()));
        assert!(read(&token(&spaced(MAX_HEAD_BYTES))).is_ok());
        assert_eq!(read(&token(&spaced(MAX_HEAD_BYTES + 1))), Err(Fault::Form));
        assert_eq!(read(&token(&spaced(4_000))), Err(Fault::Form));
        let kid = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(MAX_KID_BYTES));
        assert!(read(&token(&kid)).is_ok());
        let signed = |size| format!("{}.e30.{}", encoded(HEAD), encoded(alloc::vec![1; size]));
        assert!(read(&signed(MAX_SIGNATURE_BYTES)).is_ok());
        assert_eq!(read(&signed(MAX_SIGNATURE_BYTES + 1)), Err(Fault::Form));
    }

    proptest! {
        #[test]
        fn any_token_is_read_without_a_panic(token in "[A-Za-z0-9._~+/-]{1,200}=?") {
            let _ = read(&token);
        }

        #[test]
        fn any_head_is_read_without_a_panic(head: Vec<u8>) {
            let _ = read(&format!("{}.e30.{}", encoded(head), encoded("s")));
        }

        #[test]
        fn what_is_read_is_what_was_written(kid in "[ -~&&[^\"\\\\]]{1,128}", claims: Vec<u8>, signature: Vec<u8>) {
            prop_assume!(!claims.is_empty() && !signature.is_empty());
            let head = format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#);
            let signed = format!("{}.{}", encoded(&head), encoded(claims));
            let token = format!("{signed}.{}", encoded(&signature));
            prop_assert_eq!(read(&token), Ok((kid, signed, signature.len())));
        }

        #[test]
        fn no_other_spelling_of_a_token_is_read(at: prop::sample::Index, with in "[A-Za-z0-9_=~.+/-]") {
            // One signature has one text: whoever holds a token cannot make others that are as good.
            let whole = token(HEAD);
            let start = whole.rfind('.').unwrap() + 1;
            let at = start + at.index(whole.len() - start);
            let changed = format!("{}{with}{}", &whole[..at], &whole[at + 1..]);
            prop_assume!(changed != whole);
            let value = format!("Bearer {changed}");
            if let Ok(token) = bearer::parse(value.as_bytes()) && let Ok(jwt) = parse(token) {
                prop_assert_ne!(jwt.signature, alloc::vec![7; 256]);
            }
        }
    }
}
