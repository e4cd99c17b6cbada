//! The minified form of a JSON text: what a DGRK signature is over.
//!
//! digiRunner streams the body through Jackson, so that its "minimise" is a full re-serialisation:
//! - white space outside strings goes; the order of names and duplicate names stay;
//! - several roots are allowed, and joined by one space;
//! - strings are decoded and encoded anew: only `"`, `\` and control characters below U+0020 stay
//!   escaped (`\b \t \n \f \r`, otherwise `\u00XX` in upper case), a lone surrogate becomes `?`;
//! - integers stay as they are, of any length, except that `-0` becomes `0`;
//! - numbers with a fraction or an exponent become a double and are written as Java does
//!   ([`super::java_double`]); one too large becomes the string `"Infinity"`.
//!
//! Text that is not JSON (comments, `NaN`, leading zeros, a trailing comma, a byte order mark,
//! anything behind the last root) has no other form than as received. The same holds, unlike there,
//! for bytes that are not UTF-8 (there: garbled first) and for text over Jackson's limits, which
//! digiRunner answers with 500.
//!
//! One pass, no recursion and no allocation but the output: what need not change is copied in runs,
//! and if nothing need change, not at all.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use super::java_double::JavaDouble;

/// Arrays and objects within each other at most (Jackson's `maxNestingDepth`).
pub const MAX_DEPTH: usize = 1_000;
/// Digits of a number at most, exponent included (Jackson's `maxNumberLength`).
pub const MAX_NUMBER_DIGITS: usize = 1_000;
/// UTF-16 units of a name at most (Jackson's `maxNameLength`).
pub const MAX_NAME_UNITS: usize = 50_000;
/// UTF-16 units of a string value at most (Jackson's `maxStringLength`).
pub const MAX_STRING_UNITS: usize = 20_000_000;

/// How the minified form of a JSON text relates to what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It is the same; the output buffer is empty.
    AsReceived,
    /// Only white space went (or came, between two roots).
    Spaced,
    /// Numbers or strings are written anew.
    Rewritten,
}

/// Why a text has no minified form of its own, and where (in bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// A byte that is not UTF-8.
    NotUtf8 {
        /// Offset of the byte.
        at: usize,
    },
    /// Not JSON from here on.
    NotJson {
        /// Offset of what does not fit.
        at: usize,
    },
    /// More than [`MAX_DEPTH`] arrays and objects within each other.
    TooDeep {
        /// Offset of the bracket.
        at: usize,
    },
    /// A number of more than [`MAX_NUMBER_DIGITS`] digits.
    NumberTooLong {
        /// Offset of the number.
        at: usize,
    },
    /// A name over [`MAX_NAME_UNITS`] or a string over [`MAX_STRING_UNITS`].
    StringTooLong {
        /// Offset of the string.
        at: usize,
    },
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            Self::NotJson { at } => write!(f, "not JSON at byte {at}"),
            Self::TooDeep { at } => write!(f, "nested deeper than {MAX_DEPTH} at byte {at}"),
            Self::NumberTooLong { at } => {
                write!(f, "a number of more than {MAX_NUMBER_DIGITS} digits at byte {at}")
            }
            Self::StringTooLong { at } => write!(
                f,
                "a name of more than {MAX_NAME_UNITS} or a string of more than {MAX_STRING_UNITS} \
                 UTF-16 units at byte {at}"
            ),
        }
    }
}

impl core::error::Error for Unchanged {}

/// The text that is signed for this body: minified, or the body itself where it has no such form.
pub fn minified(body: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::new();
    match minify(body, &mut out) {
        Ok(Shape::Spaced | Shape::Rewritten) => Cow::Owned(out),
        Ok(Shape::AsReceived) | Err(_) => Cow::Borrowed(body),
    }
}

/// Writes the minified form into `out`, replacing what it held.
///
/// `out` is left empty where the form is the body itself, and on error.
pub fn minify(body: &[u8], out: &mut Vec<u8>) -> Result<Shape, Unchanged> {
    Scan::new(body, out, Tokens::Rewritten).run()
}

/// Writes the text without its white space into `out`, everything else as received: several roots
/// stay apart by one space, because `1 2` must not be taken for `12`.
///
/// `out` is left empty where the form is the body itself, and on error. Never [`Shape::Rewritten`].
pub fn strip(body: &[u8], out: &mut Vec<u8>) -> Result<Shape, Unchanged> {
    Scan::new(body, out, Tokens::AsReceived).run()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tokens {
    AsReceived,
    Rewritten,
}

/// What may come next.
#[derive(Clone, Copy)]
enum Expect {
    /// A root value, or the end.
    Root,
    Value,
    ValueOrClose,
    Name,
    NameOrClose,
    CommaOrClose,
}

struct Scan<'a> {
    text: &'a [u8],
    /// Where the scan stands.
    at: usize,
    /// From here up to `at` nothing need change, and nothing is copied yet.
    run: usize,
    out: &'a mut Vec<u8>,
    tokens: Tokens,
    rewritten: bool,
    depth: usize,
    /// One bit for each open bracket: set for an object.
    objects: [u64; MAX_DEPTH.div_ceil(64)],
}

impl<'a> Scan<'a> {
    fn new(text: &'a [u8], out: &'a mut Vec<u8>, tokens: Tokens) -> Self {
        out.clear();
        let objects = [0; MAX_DEPTH.div_ceil(64)];
        Self { text, at: 0, run: 0, out, tokens, rewritten: false, depth: 0, objects }
    }

    fn run(mut self) -> Result<Shape, Unchanged> {
        if let Err(error) = core::str::from_utf8(self.text) {
            return Err(Unchanged::NotUtf8 { at: error.valid_up_to() });
        }
        if let Err(unchanged) = self.roots() {
            self.out.clear();
            return Err(unchanged);
        }
        if self.run == 0 {
            // Nothing was left out and nothing written.
            return Ok(Shape::AsReceived);
        }
        self.copy_run(self.at);
        if self.rewritten {
            return Ok(Shape::Rewritten);
        }
        if self.out.as_slice() == self.text {
            // Roots that one space separated already.
            self.out.clear();
            return Ok(Shape::AsReceived);
        }
        Ok(Shape::Spaced)
    }

    fn roots(&mut self) -> Result<(), Unchanged> {
        let mut expect = Expect::Root;
        let mut any_root = false;
        loop {
            self.skip_white_space();
            let Some(byte) = self.peek() else {
                return match expect {
                    Expect::Root => Ok(()),
                    _ => Err(self.not_json()),
                };
            };
            expect = match (expect, byte) {
                (Expect::NameOrClose, b'}') | (Expect::ValueOrClose, b']') => self.close(),
                (Expect::CommaOrClose, b'}') if self.in_object() => self.close(),
                (Expect::CommaOrClose, b']') if !self.in_object() => self.close(),
                (Expect::CommaOrClose, b',') => {
                    self.at += 1;
                    if self.in_object() { Expect::Name } else { Expect::Value }
                }
                (Expect::Name | Expect::NameOrClose, b'"') => {
                    self.string(MAX_NAME_UNITS)?;
                    self.skip_white_space();
                    if !self.eat(b':') {
                        return Err(self.not_json());
                    }
                    Expect::Value
                }
                (Expect::Root, byte) => {
                    if any_root {
                        self.copy_run(self.at);
                        self.out.push(b' ');
                    }
                    any_root = true;
                    self.value(byte)?
                }
                (Expect::Value | Expect::ValueOrClose, byte) => self.value(byte)?,
                (Expect::Name | Expect::NameOrClose | Expect::CommaOrClose, _) => {
                    return Err(self.not_json());
                }
            };
        }
    }

    fn value(&mut self, first: u8) -> Result<Expect, Unchanged> {
        match first {
            b'{' => self.open(true)?,
            b'[' => self.open(false)?,
            b'"' => self.string(MAX_STRING_UNITS)?,
            b'-' | b'0'..=b'9' => {
                self.number()?;
                // Behind a root number Jackson wants white space; elsewhere a comma or bracket is
                // the only thing that may come.
                if self.depth == 0 && !matches!(self.peek(), None | Some(b' ' | b'\t' | b'\r' | b'\n')) {
                    return Err(self.not_json());
                }
            }
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => return Err(self.not_json()),
        }
        Ok(match first {
            b'{' => Expect::NameOrClose,
            b'[' => Expect::ValueOrClose,
            _ => self.behind_value(),
        })
    }

    fn behind_value(&self) -> Expect {
        if self.depth == 0 { Expect::Root } else { Expect::CommaOrClose }
    }

    fn open(&mut self, object: bool) -> Result<(), Unchanged> {
        if self.depth == MAX_DEPTH {
            return Err(Unchanged::TooDeep { at: self.at });
        }
        let bit = 1 << (self.depth % 64);
        if let Some(bits) = self.objects.get_mut(self.depth / 64) {
            *bits = if object { *bits | bit } else { *bits & !bit };
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) -> Expect {
        self.depth = self.depth.saturating_sub(1);
        self.at += 1;
        self.behind_value()
    }

    /// Whether the innermost open bracket is an object's.
    fn in_object(&self) -> bool {
        let innermost = self.depth.saturating_sub(1);
        self.objects.get(innermost / 64).is_some_and(|bits| bits & 1 << (innermost % 64) != 0)
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Unchanged> {
        if !self.rest().starts_with(word) {
            return Err(self.not_json());
        }
        self.at += word.len();
        // `truefalse` is one unknown word, while `true"a"` are two roots.
        match self.peek() {
            Some(byte) if byte.is_ascii_alphanumeric() => Err(self.not_json()),
            _ => Ok(()),
        }
    }

    fn number(&mut self) -> Result<(), Unchanged> {
        let from = self.at;
        self.eat(b'-');
        let whole_from = self.at;
        let whole_digits = if self.eat(b'0') { 1 } else { self.digits()? };
        let mut fraction_digits = 0;
        if self.eat(b'.') {
            fraction_digits = self.digits()?;
        }
        let mut exponent_digits = 0;
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            exponent_digits = self.digits()?;
        }
        if whole_digits + fraction_digits + exponent_digits > MAX_NUMBER_DIGITS {
            return Err(Unchanged::NumberTooLong { at: from });
        }
        let token = self.text.get(from..self.at).unwrap_or_default();
        if fraction_digits == 0 && exponent_digits == 0 {
            if token == b"-0" {
                self.replace(from, b"0");
            }
            return Ok(());
        }
        let plain = self.text.get(whole_from..self.at).unwrap_or_default();
        if self.tokens == Tokens::AsReceived || (exponent_digits == 0 && is_java_decimal(plain, whole_digits))
        {
            return Ok(());
        }
        let value: f64 = core::str::from_utf8(token)
            .ok()
            .and_then(|token| token.parse().ok())
            .ok_or(Unchanged::NotJson { at: from })?;
        if value.is_infinite() {
            let quoted: &[u8] = if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" };
            self.replace(from, quoted);
        } else {
            self.replace(from, JavaDouble::of(value).as_bytes());
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<usize, Unchanged> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.not_json()) } else { Ok(count) }
    }

    fn string(&mut self, max_units: usize) -> Result<(), Unchanged> {
        let from = self.at;
        self.at += 1;
        loop {
            let special = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < b' ';
            match self.rest().iter().position(special) {
                Some(plain) => self.at += plain,
                None => self.at = self.text.len(),
            }
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) | None => return Err(self.not_json()),
            }
        }
        let inner = self.text.get(from + 1..self.at).unwrap_or_default();
        if inner.len() > max_units && utf16_units(inner) > max_units {
            return Err(Unchanged::StringTooLong { at: from });
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Unchanged> {
        let from = self.at;
        match self.text.get(from + 1) {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'/') => {
                self.at += 2;
                self.replace(from, b"/");
            }
            Some(b'u') => {
                let unit = self.escaped_unit(from).ok_or(self.not_json())?;
                self.at += 6;
                let mut low = None;
                if (0xD800..0xDC00).contains(&unit) {
                    low = self.escaped_unit(self.at).filter(|low| (0xDC00..0xE000).contains(low));
                }
                let mut units = [unit, 0];
                let units = match low {
                    Some(low) => {
                        self.at += 6;
                        units = [unit, low];
                        &units[..]
                    }
                    None => units.get(..1).unwrap_or_default(),
                };
                for decoded in char::decode_utf16(units.iter().copied()) {
                    self.replace_char(from, decoded.unwrap_or('?'));
                }
            }
            Some(_) | None => return Err(self.not_json()),
        }
        Ok(())
    }

    /// The UTF-16 unit of a `\uXXXX` that begins at `from`.
    fn escaped_unit(&self, from: usize) -> Option<u16> {
        let digits = self.text.get(from..from + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit: u16, &digit| {
            let value = char::from(digit).to_digit(16)?;
            Some(unit << 4 | u16::try_from(value).ok()?)
        })
    }

    /// Puts one character of a string in place of all since `from`, escaped as Jackson does.
    fn replace_char(&mut self, from: usize, decoded: char) {
        match decoded {
            '"' => self.replace(from, b"\\\""),
            '\\' => self.replace(from, b"\\\\"),
            '\u{8}' => self.replace(from, b"\\b"),
            '\t' => self.replace(from, b"\\t"),
            '\n' => self.replace(from, b"\\n"),
            '\u{c}' => self.replace(from, b"\\f"),
            '\r' => self.replace(from, b"\\r"),
            '\0'..='\u{1f}' => {
                let code = decoded as u8;
                let high = b'0' + (code >> 4);
                let low = code & 0xF;
                let low = if low < 10 { b'0' + low } else { b'A' + low - 10 };
                self.replace(from, &[b'\\', b'u', b'0', b'0', high, low]);
            }
            _ => self.replace(from, decoded.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    /// Puts `with` in place of all since `from`, unless that is what stands there.
    fn replace(&mut self, from: usize, with: &[u8]) {
        if self.tokens == Tokens::AsReceived || self.text.get(from..self.at) == Some(with) {
            return;
        }
        self.copy_run(from);
        self.out.extend_from_slice(with);
        self.run = self.at;
        self.rewritten = true;
    }

    fn skip_white_space(&mut self) {
        let white = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let count = self.rest().iter().take_while(white).count();
        if count > 0 {
            self.copy_run(self.at);
            self.at += count;
            self.run = self.at;
        }
    }

    /// Copies what need not change up to `end`; the next run begins there.
    fn copy_run(&mut self, end: usize) {
        self.out.extend_from_slice(self.text.get(self.run..end).unwrap_or_default());
        self.run = end;
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn not_json(&self) -> Unchanged {
        Unchanged::NotJson { at: self.at }
    }
}

/// Whether `whole.fraction` (no sign, no exponent) is certainly how Java would write its double:
/// no more than 15 digits, so that no shorter text means the same double, within the range written
/// without an exponent, and no zero at the end but a lone one. Spares most prices the conversion.
fn is_java_decimal(text: &[u8], whole_digits: usize) -> bool {
    let Some((whole, point_and_fraction)) = text.split_at_checked(whole_digits) else { return false };
    let Some((_, fraction)) = point_and_fraction.split_first() else { return false };
    let ends_well = fraction == b"0" || fraction.last().is_some_and(|&digit| digit != b'0');
    let large_enough =
        whole != b"0" || fraction == b"0" || fraction.iter().take(3).any(|&digit| digit != b'0');
    ends_well && large_enough && whole.len() <= 7 && whole.len() + fraction.len() <= 15
}

/// UTF-16 units of the decoded text of a string whose escapes are right.
fn utf16_units(inner: &[u8]) -> usize {
    let mut units = 0;
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        units += match byte {
            b'\\' => {
                if bytes.next() == Some(&b'u') {
                    let _ = bytes.nth(3);
                }
                1
            }
            // Continuation bytes belong to the unit of their first.
            0x80..0xC0 => 0,
            0xF0.. => 2,
            _ => 1,
        };
    }
    units
}
