//! DGRK: `Authorization: DGRK <api key>.<signature>`.
//!
//! ```text
//! signature = base64(HMAC-SHA256(key = secret key, message = minified body || api key || secret key))
//! ```
//!
//! API key and secret key enter as their Base64 texts, the signature is Base64 with its padding.
//! Method, path and time are not signed. `docs/dgrk.md` tells the scheme to a partner's developer.
//!
//! A signature is accepted over three [`Form`]s of the body. A grant keeps one [`VerifyingKey`] (the
//! HMAC keys of its secrets, set up once) and the [`Match`] that succeeded last; a worker keeps one
//! [`Scratch`].

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::minify::{self, Shape, Unchanged};
use super::{Fault, HmacSha256, MAX_API_KEY_BYTES, MAX_SIGNATURE_BYTES, hmac_of, keyed_hmac};

/// Bytes of a signature: 32 bytes in Base64.
pub const SIGNATURE_BYTES: usize = 44;

/// Bytes of scratch kept from one request to the next; what a larger body took is given back.
const MAX_KEPT_SCRATCH_BYTES: usize = 64 << 10;

/// What a DGRK header presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dgrk<'a> {
    /// The public half of the pair, compared with its case.
    pub api_key: &'a str,
    /// What is to be verified.
    pub signature: Signature<'a>,
}

/// A signature as presented. `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a>(&'a str);

impl<'a> Signature<'a> {
    /// The text, to keep it while the body arrives.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// A text kept by [`Self::as_str`], or any other: what is no signature verifies nothing.
    pub fn from_text(text: &'a str) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature([redacted])")
    }
}

/// Why a header value is no DGRK credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It does not begin with `DGRK` and one space.
    Scheme,
    /// Not exactly one dot.
    Parts,
    /// The API key is none.
    ApiKey(Fault),
    /// The signature is none.
    Signature(Fault),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXPECTED: &str = "expected \"DGRK <api key>.<signature>\"";
        match self {
            Self::Scheme => write!(f, "the Authorization header has another scheme: {EXPECTED}"),
            Self::Parts => write!(f, "there is not exactly one dot: {EXPECTED}"),
            Self::ApiKey(fault) => write!(f, "the API key {fault}: it is Base64 with its padding"),
            Self::Signature(fault) => write!(f, "the signature {fault}: it is Base64 with its padding"),
        }
    }
}

impl core::error::Error for Malformed {}

/// Reads the value of an `Authorization` header: the scheme in any case at the very start, one
/// space, two parts of Base64 with its padding, one dot between them.
pub fn parse(value: &[u8]) -> Result<Dgrk<'_>, Malformed> {
    let (scheme, parts) = value.split_at_checked(5).ok_or(Malformed::Scheme)?;
    if !scheme.eq_ignore_ascii_case(b"DGRK ") {
        return Err(Malformed::Scheme);
    }
    let mut parts = parts.split(|&byte| byte == b'.');
    let (Some(api_key), Some(signature), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Malformed::Parts);
    };
    let api_key = base64_text(api_key, MAX_API_KEY_BYTES).map_err(Malformed::ApiKey)?;
    let signature = base64_text(signature, MAX_SIGNATURE_BYTES).map_err(Malformed::Signature)?;
    Ok(Dgrk { api_key, signature: Signature(signature) })
}

/// The text of the body that a signature is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The bytes that came.
    AsReceived,
    /// Re-serialised as digiRunner does: [`minify::minify`].
    Minified,
    /// Only the white space outside strings gone: [`minify::strip`]. What most languages' JSON
    /// libraries make, where a float stays as it was written.
    Stripped,
}

/// Whether the bytes of a body are the UTF-8 that JSON is defined over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// Yes, or ASCII, or nothing is said: all forms count.
    Utf8,
    /// Another `charset` is named: the body is verified as received only.
    Other,
}

impl Charset {
    /// From a `Content-Type` value: what its `charset` parameter says, whatever the media type.
    pub fn of_content_type(value: &[u8]) -> Self {
        let named = value.split(|&byte| byte == b';').skip(1).find_map(|parameter| {
            let (name, charset) = parameter.trim_ascii().split_at_checked(8)?;
            name.eq_ignore_ascii_case(b"charset=").then(|| charset.trim_ascii())
        });
        let charset = named.map(|charset| {
            charset.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(charset)
        });
        match charset {
            None => Self::Utf8,
            Some(name)
                if [&b"utf-8"[..], b"utf8", b"us-ascii"].iter().any(|own| name.eq_ignore_ascii_case(own)) =>
            {
                Self::Utf8
            }
            Some(_) => Self::Other,
        }
    }
}

/// Which secret and which form a signature was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Index into the secrets that the [`VerifyingKey`] was made of.
    pub secret_index: usize,
    /// The form.
    pub form: Form,
}

/// The outcome of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The caller holds a secret. The match is the hint for the key's next request.
    Verified(Match),
    /// It fits no secret in any form. The hashes let a partner's developer find the difference.
    Incorrect {
        /// SHA-256 of the body as received.
        received_sha256: [u8; 32],
        /// SHA-256 of the minified form; of the body as received where it has no other.
        minified_sha256: [u8; 32],
    },
}

/// The secrets of one DGRK key, ready to verify with.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    secrets: Vec<KeyedSecret>,
}

/// One secret: its HMAC with the key set up, and what is signed behind the body. `Debug` shows nothing.
#[derive(Clone)]
struct KeyedSecret {
    keyed: HmacSha256,
    /// API key and secret key.
    tail: Vec<u8>,
}

impl fmt::Debug for KeyedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl KeyedSecret {
    fn new(api_key: &str, secret: &str) -> Self {
        let tail = [api_key.as_bytes(), secret.as_bytes()].concat();
        Self { keyed: keyed_hmac(secret.as_bytes()), tail }
    }

    fn sign(&self, text: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut encoded = [0; SIGNATURE_BYTES];
        let mac = hmac_of(&self.keyed, [text, &self.tail]);
        #[expect(clippy::expect_used, reason = "the lengths are constants")]
        STANDARD.encode_slice(mac, &mut encoded).expect("32 bytes are 44 of Base64");
        encoded
    }

    fn has_signed(&self, text: &[u8], unverified: Signature<'_>) -> bool {
        self.sign(text).ct_eq(unverified.0.as_bytes()).into()
    }
}

impl VerifyingKey {
    /// Prepares the secrets of a key, newest first.
    pub fn new<'a>(api_key: &str, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        Self { secrets: secrets.into_iter().map(|secret| KeyedSecret::new(api_key, secret)).collect() }
    }

    /// Verifies a signature over a complete body.
    ///
    /// `hint` is the match of the key's last request: it is tried first. A form that equals one
    /// already tried is skipped, and nothing is parsed before a form needs it.
    pub fn verify(
        &self,
        unverified: Signature<'_>,
        body: &[u8],
        charset: Charset,
        hint: Option<Match>,
        scratch: &mut Scratch,
    ) -> Verdict {
        let mut forms = Forms { body, charset, scratch, shape: None, stripped: None };
        let verdict = match self.find(unverified, &mut forms, hint) {
            Some(found) => Verdict::Verified(found),
            None => forms.incorrect(),
        };
        scratch.give_back_excess();
        verdict
    }

    fn find(&self, unverified: Signature<'_>, forms: &mut Forms<'_>, hint: Option<Match>) -> Option<Match> {
        if unverified.0.len() != SIGNATURE_BYTES {
            // Cannot match, and costs a stranger's junk no HMAC.
            return None;
        }
        let hint = hint.unwrap_or(Match { secret_index: 0, form: Form::AsReceived });
        let order = match hint.form {
            Form::AsReceived => [Form::AsReceived, Form::Minified, Form::Stripped],
            Form::Minified => [Form::Minified, Form::AsReceived, Form::Stripped],
            Form::Stripped => [Form::Stripped, Form::AsReceived, Form::Minified],
        };
        let mut tried = [None; 3];
        for (form, slot) in order.into_iter().zip(0..) {
            let text_of = forms.settle(form);
            if tried.contains(&Some(text_of)) {
                continue;
            }
            if let Some(free) = tried.get_mut::<usize>(slot) {
                *free = Some(text_of);
            }
            let text = forms.text(text_of);
            let hinted =
                self.secrets.get(hint.secret_index).into_iter().map(|secret| (hint.secret_index, secret));
            let others = self.secrets.iter().enumerate().filter(|(index, _)| *index != hint.secret_index);
            for (secret_index, secret) in hinted.chain(others) {
                if secret.has_signed(text, unverified) {
                    return Some(Match { secret_index, form });
                }
            }
        }
        None
    }
}

/// Buffers that a worker keeps, so that a request allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    minified: Vec<u8>,
    stripped: Vec<u8>,
}

impl Scratch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    fn give_back_excess(&mut self) {
        for buffer in [&mut self.minified, &mut self.stripped] {
            buffer.clear();
            buffer.shrink_to(MAX_KEPT_SCRATCH_BYTES);
        }
    }
}

/// The forms of one body, each made when first asked for.
struct Forms<'a> {
    body: &'a [u8],
    charset: Charset,
    scratch: &'a mut Scratch,
    /// What minifying said; the text is in `scratch.minified`.
    shape: Option<Shape>,
    /// What stripping said; the text is in `scratch.stripped`.
    stripped: Option<Shape>,
}

impl Forms<'_> {
    /// The form that has the same text as the one asked for, and stands for all that have.
    fn settle(&mut self, form: Form) -> Form {
        match form {
            Form::AsReceived => Form::AsReceived,
            Form::Minified => match self.shape() {
                Shape::AsReceived => Form::AsReceived,
                Shape::Spaced | Shape::Rewritten => Form::Minified,
            },
            Form::Stripped => match self.shape() {
                Shape::AsReceived => Form::AsReceived,
                Shape::Spaced => Form::Minified,
                Shape::Rewritten => match self.stripped() {
                    Shape::AsReceived => Form::AsReceived,
                    Shape::Spaced | Shape::Rewritten => Form::Stripped,
                },
            },
        }
    }

    /// The text of a form that [`Self::settle`] gave.
    fn text(&self, settled: Form) -> &[u8] {
        match settled {
            Form::AsReceived => self.body,
            Form::Minified => &self.scratch.minified,
            Form::Stripped => &self.scratch.stripped,
        }
    }

    fn shape(&mut self) -> Shape {
        if let Some(shape) = self.shape {
            return shape;
        }
        let shape = match self.charset {
            Charset::Utf8 => minify::minify(self.body, &mut self.scratch.minified),
            Charset::Other => Ok(Shape::AsReceived),
        };
        // What has no minified form is signed as it is.
        let shape = shape.unwrap_or(Shape::AsReceived);
        self.shape = Some(shape);
        shape
    }

    fn stripped(&mut self) -> Shape {
        if let Some(shape) = self.stripped {
            return shape;
        }
        let shape = minify::strip(self.body, &mut self.scratch.stripped).unwrap_or(Shape::AsReceived);
        self.stripped = Some(shape);
        shape
    }

    fn incorrect(&mut self) -> Verdict {
        let received_sha256 = Sha256::digest(self.body).into();
        let minified_sha256 = match self.settle(Form::Minified) {
            Form::AsReceived => received_sha256,
            settled => Sha256::digest(self.text(settled)).into(),
        };
        Verdict::Incorrect { received_sha256, minified_sha256 }
    }
}

/// The `Authorization` value for a body, signed over its minified form.
pub fn sign(api_key: &str, secret: &str, body: &[u8]) -> String {
    explain(api_key, secret, body).authorization
}

/// How a signature comes about, step by step. `Debug` shows the signature: for the holder of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// What is signed of the body.
    pub minified: Cow<'a, [u8]>,
    /// How that relates to the body, or why the body has no other form.
    pub shape: Result<Shape, Unchanged>,
    /// Bytes of the message: minified body, API key, secret key.
    pub message_bytes: usize,
    /// SHA-256 of the body as given.
    pub received_sha256: [u8; 32],
    /// SHA-256 of the minified form.
    pub minified_sha256: [u8; 32],
    /// The signature alone.
    pub signature: String,
    /// The whole `Authorization` value.
    pub authorization: String,
}

/// Signs a body and tells each step.
pub fn explain<'a>(api_key: &str, secret: &str, body: &'a [u8]) -> Explanation<'a> {
    let mut out = Vec::new();
    let shape = minify::minify(body, &mut out);
    let minified = match shape {
        Ok(Shape::Spaced | Shape::Rewritten) => Cow::Owned(out),
        Ok(Shape::AsReceived) | Err(_) => Cow::Borrowed(body),
    };
    let key = KeyedSecret::new(api_key, secret);
    let signature: String = key.sign(&minified).into_iter().map(char::from).collect();
    let authorization = ["DGRK ", api_key, ".", &signature].concat();
    Explanation {
        shape,
        message_bytes: minified.len() + key.tail.len(),
        received_sha256: Sha256::digest(body).into(),
        minified_sha256: Sha256::digest(&minified).into(),
        minified,
        signature,
        authorization,
    }
}

/// Base64 of the standard alphabet with its padding, by shape: nothing is decoded.
fn base64_text(part: &[u8], max_bytes: usize) -> Result<&str, Fault> {
    if part.is_empty() {
        return Err(Fault::Empty);
    }
    if part.len() > max_bytes {
        return Err(Fault::TooLong { max_bytes });
    }
    let padding = part.iter().rev().take_while(|&&byte| byte == b'=').count();
    let (bare, _) = part.split_at_checked(part.len() - padding).unwrap_or_default();
    let alphabet = bare.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    if !part.len().is_multiple_of(4) || padding > 2 || !alphabet {
        return Err(Fault::Alphabet);
    }
    core::str::from_utf8(part).map_err(|_| Fault::Alphabet)
}
