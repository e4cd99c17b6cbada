//! JSON as the filter reads it: the manager's answers, and the plugin's configuration.
//!
//! A `serde` deserializer of our own, which accepts what `serde_json`'s does (`json/tests.rs` compares
//! them). That one gives each struct a second form, the array, and carries the text of every error
//! that any type may cause, down to the printing of floating-point numbers: it was a quarter of the
//! filter. Where the two differ this one is the stricter: no arrays for structs, and what is passed
//! over is as well-formed as what is read.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::{self, Deserialize, DeserializeSeed, Visitor};

#[cfg(test)]
mod tests;

/// Arrays and objects within each other at most.
const MAX_DEPTH: u8 = 127;

/// Reads a whole text.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    let mut reader = Reader { bytes, at: 0, depth: 0 };
    let read = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| reader.located(error))
}

/// Why a text was not understood, and where.
#[derive(Debug)]
pub struct Error {
    what: String,
    line: usize,
    column: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.what, self.line, self.column)
    }
}

impl core::error::Error for Error {}

impl Error {
    fn of(parts: &[&str]) -> Self {
        Self { what: parts.concat(), line: 0, column: 0 }
    }
}

/// The texts are ours: what was found in place of something else is not repeated, the place tells.
impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { what: alloc::format!("{message}"), line: 0, column: 0 }
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }

    fn invalid_length(_: usize, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("expected {expected}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::of(&["`", variant, "` is none of ", &expected.join(", ")])
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::of(&["unknown field `", field, "`: there are ", &expected.join(", ")])
    }

    fn missing_field(field: &'static str) -> Self {
        Self::of(&["`", field, "` is missing"])
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::of(&["`", field, "` is given twice"])
    }
}

/// Where reading stands.
struct Reader<'de> {
    bytes: &'de [u8],
    at: usize,
    depth: u8,
}

enum Number {
    Unsigned(u64),
    Negative(i64),
    Float(f64),
}

const TOO_SHORT: &str = "the text ends too early";

impl<'de> Reader<'de> {
    fn located(&self, error: Error) -> Error {
        let before = self.bytes.get(..self.at).unwrap_or(self.bytes);
        let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Error { what: error.what, line, column: last.len() }
    }

    fn refuse<T>(&self, what: &str) -> Result<T, Error> {
        Err(Error::of(&[what]))
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// The next byte that is no white space, left where it is.
    fn peek(&mut self) -> Result<u8, Error> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return self.refuse(TOO_SHORT),
            }
        }
    }

    /// Takes `byte`, if it is what stands next.
    fn takes(&mut self, byte: u8) -> Result<bool, Error> {
        let is_next = self.peek()? == byte;
        self.at += usize::from(is_next);
        Ok(is_next)
    }

    fn expect(&mut self, byte: u8, otherwise: &str) -> Result<(), Error> {
        if self.takes(byte)? { Ok(()) } else { self.refuse(otherwise) }
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            Ok(_) => self.refuse("the text goes on after its value"),
            Err(_) => Ok(()),
        }
    }

    /// `null`, `true` or `false`, byte by byte.
    fn word(&mut self, word: &str) -> Result<(), Error> {
        for expected in word.bytes() {
            match self.next() {
                Some(byte) if byte == expected => {}
                Some(_) => return self.refuse("no such word"),
                None => return self.refuse(TOO_SHORT),
            }
        }
        Ok(())
    }

    fn null(&mut self) -> Result<(), Error> {
        self.peek()?;
        self.word("null")
    }

    fn enter(&mut self, bracket: u8, otherwise: &str) -> Result<(), Error> {
        self.expect(bracket, otherwise)?;
        if self.depth >= MAX_DEPTH {
            return self.refuse("too deep");
        }
        self.depth += 1;
        Ok(())
    }

    /// Whether another element stands before the `close` of what was entered; takes the comma, or the close.
    fn goes_on(&mut self, first: &mut bool, close: u8) -> Result<bool, Error> {
        if self.takes(close)? {
            self.depth = self.depth.saturating_sub(1);
            return Ok(false);
        }
        if !core::mem::take(first) {
            self.expect(b',', "expected a comma or the end")?;
        }
        Ok(true)
    }

    /// As [`Reader::goes_on`] of an object: a number, a truth or a null may be what is asked for, and is no
    /// name. (Not inlined: once for each type that is read it would be two kilobytes.)
    #[inline(never)]
    fn goes_on_with_a_name(&mut self, first: &mut bool) -> Result<bool, Error> {
        let goes_on = self.goes_on(first, b'}')?;
        if goes_on && self.peek()? != b'"' {
            return self.refuse("expected a string");
        }
        Ok(goes_on)
    }

    fn colon(&mut self) -> Result<(), Error> {
        self.expect(b':', "expected a colon")
    }

    /// What is in quotes; borrowed where nothing is escaped.
    fn string(&mut self) -> Result<Cow<'de, str>, Error> {
        self.expect(b'"', "expected a string")?;
        let mut unescaped = Vec::new();
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
            let plain = rest.get(..plain).unwrap_or_default();
            self.at += plain.len();
            match self.next() {
                Some(b'"') if unescaped.is_empty() => {
                    return core::str::from_utf8(plain)
                        .map(Cow::Borrowed)
                        .or_else(|_| self.refuse("a string is not UTF-8"));
                }
                Some(b'"') => {
                    unescaped.extend_from_slice(plain);
                    return String::from_utf8(unescaped)
                        .map(Cow::Owned)
                        .or_else(|_| self.refuse("a string is not UTF-8"));
                }
                Some(b'\\') => {
                    unescaped.extend_from_slice(plain);
                    let escaped = self.escape()?;
                    unescaped.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(_) => return self.refuse("a control character stands in a string"),
                None => return self.refuse(TOO_SHORT),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Error> {
        Ok(match self.next() {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex()?;
                let code = match first {
                    // The first half of a pair, whose other half must follow.
                    0xd800..=0xdbff => {
                        self.word("\\u")?;
                        match self.hex()? {
                            second @ 0xdc00..=0xdfff => {
                                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                            }
                            _ => return self.refuse("half a surrogate pair"),
                        }
                    }
                    code => code,
                };
                match char::from_u32(code) {
                    Some(escaped) => escaped,
                    None => return self.refuse("half a surrogate pair"),
                }
            }
            _ => return self.refuse("no such escape"),
        })
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let mut code = 0;
        for _ in 0..4 {
            match self.next().and_then(|digit| char::from(digit).to_digit(16)) {
                Some(digit) => code = code << 4 | digit,
                None => return self.refuse("an escape has four hex digits"),
            }
        }
        Ok(code)
    }

    fn digits(&mut self) -> usize {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        digits
    }

    fn number(&mut self) -> Result<Number, Error> {
        self.peek()?;
        let start = self.at;
        let negative = self.takes(b'-')?;
        let first = self.at;
        let whole = self.digits();
        let leading_zero = whole > 1 && self.bytes.get(first) == Some(&b'0');
        if whole == 0 || leading_zero {
            return self.refuse("expected a value");
        }
        let mut integer = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            integer = false;
            self.at += 1;
            if self.digits() == 0 {
                return self.refuse("a number ends in its point");
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.refuse("a number has an empty exponent");
            }
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        let text = core::str::from_utf8(text).unwrap_or_default();
        if integer {
            if !negative && let Ok(number) = text.parse() {
                return Ok(Number::Unsigned(number));
            }
            // -0 is a floating-point number: no integer can tell it from 0.
            if negative
                && let Ok(number) = text.parse()
                && number != 0
            {
                return Ok(Number::Negative(number));
            }
        }
        match text.parse() {
            Ok(number) if f64::is_finite(number) => Ok(Number::Float(number)),
            _ => self.refuse("a number is too large"),
        }
    }

    /// Passes over a value of any kind.
    fn skip(&mut self) -> Result<(), Error> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'[' => {
                self.enter(b'[', "")?;
                let mut first = true;
                while self.goes_on(&mut first, b']')? {
                    self.skip()?;
                }
                Ok(())
            }
            b'{' => {
                self.enter(b'{', "")?;
                let mut first = true;
                while self.goes_on(&mut first, b'}')? {
                    self.string()?;
                    self.colon()?;
                    self.skip()?;
                }
                Ok(())
            }
            _ => self.number().map(drop),
        }
    }
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek()? {
            b'"' => self.deserialize_str(visitor),
            b'n' => self.deserialize_unit(visitor),
            b't' | b'f' => self.deserialize_bool(visitor),
            b'[' => self.deserialize_seq(visitor),
            b'{' => self.deserialize_map(visitor),
            _ => self.deserialize_u64(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let truth = match self.peek()? {
            b't' => self.word("true").map(|()| true),
            b'f' => self.word("false").map(|()| false),
            _ => self.refuse("expected true or false"),
        };
        visitor.visit_bool(truth?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.number()? {
            Number::Unsigned(number) => visitor.visit_u64(number),
            Number::Negative(number) => visitor.visit_i64(number),
            Number::Float(number) => visitor.visit_f64(number),
        }
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.string()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_str(&text),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    /// No type that travels holds bytes.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.peek()? == b'n' {
            self.word("null")?;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.null()?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.enter(b'[', "expected an array")?;
        let mut elements = Elements { reader: self, first: true, ended: false };
        let value = visitor.visit_seq(&mut elements)?;
        // A tuple stops at its last element.
        if elements.ended || !elements.reader.goes_on(&mut elements.first, b']')? {
            Ok(value)
        } else {
            elements.reader.refuse("an array has too many elements")
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.enter(b'{', "expected an object")?;
        visitor.visit_map(Elements { reader: self, first: true, ended: false })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.peek()? != b'{' {
            return visitor.visit_enum(Variant { reader: self, has_value: false });
        }
        self.enter(b'{', "")?;
        let value = visitor.visit_enum(Variant { reader: self, has_value: true })?;
        self.expect(b'}', "a variant stands alone")?;
        self.depth = self.depth.saturating_sub(1);
        Ok(value)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }
}

/// The elements of an array, or the fields of an object, up to its end.
struct Elements<'r, 'de> {
    reader: &'r mut Reader<'de>,
    first: bool,
    ended: bool,
}

impl<'de> de::SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.ended || !self.reader.goes_on(&mut self.first, b']')? {
            self.ended = true;
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.reader.goes_on_with_a_name(&mut self.first)? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.reader.colon()?;
        seed.deserialize(&mut *self.reader)
    }
}

/// The variant of an enum: a name, or an object of one name with its value.
struct Variant<'r, 'de> {
    reader: &'r mut Reader<'de>,
    has_value: bool,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(&mut *self.reader)?;
        if self.has_value {
            self.reader.colon()?;
        }
        Ok((name, self))
    }
}

impl Variant<'_, '_> {
    fn value(&self) -> Result<(), Error> {
        if self.has_value { Ok(()) } else { self.reader.refuse("a variant has no value") }
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        if self.has_value { self.reader.null() } else { Ok(()) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.value()?;
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.value()?;
        de::Deserializer::deserialize_seq(self.reader, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value()?;
        de::Deserializer::deserialize_map(self.reader, visitor)
    }
}
