//! An uploaded document as a tree: read within bounds, whole in itself.
//!
//! Nothing is ever fetched: a `$ref` that leaves the document is refused by name.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Budget, Options as YamlOptions};

/// Bytes of a document at most: the largest that are published have about twelve million.
pub const MAX_DOCUMENT_BYTES: usize = 16 << 20;
/// Objects and lists in one another at most; a level takes some 25 KiB of stack in a debug build.
pub(super) const MAX_DEPTH: usize = 64;
/// References that one place may lead through at most: more is taken for a circle.
pub(super) const MAX_REFERENCE_HOPS: usize = 16;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// YAML 1.2.
    Yaml,
}

/// How much is read of a document that is small enough.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Values at most, each use of a YAML alias counted: about 100 MB of memory.
    values: usize,
    /// Bytes of all texts at most, each use of a YAML alias counted.
    text_bytes: usize,
    /// Uses of YAML aliases at most.
    aliases: usize,
}

const BOUNDS: Bounds = Bounds { values: 1_000_000, text_bytes: 32 << 20, aliases: 10_000 };

/// A document that stands for itself.
#[derive(Debug)]
pub(super) struct Document(Value);

/// Why a document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// More bytes than are read.
    #[error("has {bytes} bytes, {MAX_DOCUMENT_BYTES} at most")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// Neither JSON nor YAML, or over a bound.
    #[error("cannot be read as {}: {reason}", match format { Format::Json => "JSON", Format::Yaml => "YAML" })]
    Malformed {
        /// As what it was read.
        format: Format,
        /// What is wrong and where.
        reason: String,
    },
    /// A reference to another document.
    #[error(
        "refers to another document, {reference:?} at {at}: only what is uploaded is read, so put everything \
         into one document first (OpenAPI tools call this bundling)"
    )]
    ExternalReference {
        /// The value of `$ref`.
        reference: String,
        /// Where it stands, a JSON pointer.
        at: String,
    },
}

impl Format {
    /// What the first character tells: JSON objects begin with a brace.
    pub fn guess(text: &[u8]) -> Self {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Self::Json,
            Some(_) | None => Self::Yaml,
        }
    }
}

impl Document {
    /// Reads a document.
    pub(super) fn read(text: &[u8], format: Format) -> Result<Self, Unreadable> {
        Self::read_within(text, format, BOUNDS)
    }

    fn read_within(text: &[u8], format: Format, bounds: Bounds) -> Result<Self, Unreadable> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(Unreadable::TooLarge { bytes: text.len() });
        }
        let malformed = |reason| Unreadable::Malformed { format, reason };
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let left =
            Left { bounds, values: Cell::new(bounds.values), text_bytes: Cell::new(bounds.text_bytes) };
        let seed = Node { left: &left, depth: 0 };
        let root = match format {
            Format::Json => {
                let mut deserializer = serde_json::Deserializer::from_slice(text);
                seed.deserialize(&mut deserializer)
                    .and_then(|root| deserializer.end().map(|()| root))
                    .map_err(|error| malformed(error.to_string()))?
            }
            Format::Yaml => {
                let text = std::str::from_utf8(text).map_err(|error| malformed(error.to_string()))?;
                serde_saphyr::with_deserializer_from_str_with_options(
                    text,
                    yaml_options(bounds),
                    |deserializer| seed.deserialize(deserializer),
                )
                .map_err(|error| malformed(error.to_string()))?
            }
        };
        let mut at = String::from("#");
        match external_reference(&root, &mut at) {
            Some(reference) => Err(Unreadable::ExternalReference { reference, at }),
            None => Ok(Self(root)),
        }
    }

    /// The whole.
    pub(super) fn root(&self) -> &Value {
        &self.0
    }

    /// What stands at a place, wherever its references lead. The error says what is wrong.
    pub(super) fn resolve<'d>(&'d self, value: &'d Value) -> Result<&'d Value, String> {
        let mut value = value;
        for _ in 0..=MAX_REFERENCE_HOPS {
            match self.target(value)? {
                Some(target) => value = target,
                None => return Ok(value),
            }
        }
        let reference = &value["$ref"];
        Err(format!("$ref {reference} leads through more than {MAX_REFERENCE_HOPS} others, or in a circle"))
    }

    /// What a reference names; None where none stands.
    pub(super) fn target(&self, value: &Value) -> Result<Option<&Value>, String> {
        let Some(reference) = value.get("$ref") else { return Ok(None) };
        let unusable = || format!("$ref {reference} names nothing in this document");
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#')).ok_or_else(unusable)?;
        let pointer = percent_decoded(pointer).ok_or_else(unusable)?;
        self.0.pointer(&pointer).map(Some).ok_or_else(unusable)
    }
}

fn yaml_options(bounds: Bounds) -> YamlOptions {
    let mut budget = Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.flow_nesting_limit = MAX_DEPTH;
    budget.max_nodes = bounds.values;
    // Each value makes two events at most; comments are events too.
    budget.max_events = 4 * bounds.values;
    budget.max_aliases = bounds.aliases;
    budget.max_anchors = bounds.aliases;
    budget.max_total_scalar_bytes = bounds.text_bytes;
    budget.max_documents = 1;
    // What the aliases stand for is bounded below, and by the values that may be made of them.
    budget.enforce_alias_anchor_ratio = false;
    let mut options = YamlOptions::default();
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = 2 * bounds.values;
    options.alias_limits = aliases;
    // OpenAPI asks for YAML 1.2, where `no` is a country and not false.
    options.strict_booleans = true;
    options.emit_comments = false;
    // May stand in examples, which nobody reads here.
    options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
    options.with_snippet = false;
    options
}

/// What may still be read.
struct Left {
    bounds: Bounds,
    values: Cell<usize>,
    text_bytes: Cell<usize>,
}

/// Reads one value and what is in it, whatever it is written in.
#[derive(Clone, Copy)]
struct Node<'l> {
    left: &'l Left,
    depth: usize,
}

impl Node<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format!("is more than {MAX_DEPTH} levels deep")));
        }
        Ok(Self { left: self.left, depth: self.depth + 1 })
    }

    fn count<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        let left = self.left.text_bytes.get().checked_sub(text.len());
        self.left.text_bytes.set(left.ok_or_else(|| {
            E::custom(format!("has more than {} bytes of text", self.left.bounds.text_bytes))
        })?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.values.get().checked_sub(1);
        self.left.values.set(
            left.ok_or_else(|| {
                D::Error::custom(format!("has more than {} values", self.left.bounds.values))
            })?,
        );
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    // Numbers that JSON cannot hold may stand in examples and bounds, which nobody reads here.
    fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.count(value)?;
        Ok(value.into())
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.count(&key)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("key {key:?} stands twice in one object")));
            }
            let value = entries.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

/// The first `$ref` that leaves the document; then `at` is its place.
fn external_reference(value: &Value, at: &mut String) -> Option<String> {
    let length = at.len();
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref")
                && !reference.starts_with('#')
            {
                return Some(reference.clone());
            }
            // Values of others: what looks like a reference there is none.
            let foreign =
                |key: &str| key.starts_with("x-") || matches!(key, "example" | "examples" | "const" | "enum");
            for (key, inner) in map.iter().filter(|(key, _)| !foreign(key)) {
                at.push('/');
                at.push_str(&key.replace('~', "~0").replace('/', "~1"));
                if let Some(found) = external_reference(inner, at) {
                    return Some(found);
                }
                at.truncate(length);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                at.push_str(&format!("/{index}"));
                if let Some(found) = external_reference(inner, at) {
                    return Some(found);
                }
                at.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    None
}

/// A URI fragment is percent-encoded: `#/paths/~1pets~1%7Bid%7D`.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod unit {
    use super::*;
    use serde_json::json;

    fn both(text: &str) -> [Result<Value, Unreadable>; 2] {
        [Format::Json, Format::Yaml].map(|format| Document::read(text.as_bytes(), format).map(|read| read.0))
    }

    fn yaml(text: &str) -> Result<Value, String> {
        Document::read(text.as_bytes(), Format::Yaml).map(|read| read.0).map_err(|error| error.to_string())
    }

    #[test]
    fn json_and_yaml_read_the_same() {
        let text = r#"{"a": [1, -2, 1.5, true, null, "no"], "b": {"c": {}}, "200": "x"}"#;
        for read in both(text) {
            assert_eq!(
                read,
                Ok(json!({ "a": [1, -2, 1.5, true, null, "no"], "b": { "c": {} }, "200": "x" }))
            );
        }
        assert_eq!(
            yaml("200: a\nno: no\ntrue: yes\nt: 2026-01-15\nbig: 99999999999999999999999\ninf: .inf\n"),
            Ok(json!({
                "200": "a", "no": "no", "true": "yes", "t": "2026-01-15", "big": 1e23, "inf": null
            }))
        );
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for text in ["", "{", "{\"a\": 1} x", "[1, 2", "\u{0}"] {
            let error = both(text)[0].clone().expect_err(text).to_string();
            assert!(
                error.starts_with("cannot be read as JSON: ") && error.contains("line"),
                "{text}: {error}"
            );
        }
        let error = yaml("a: 1\nb: [1,\n").expect_err("open list");
        assert!(error.starts_with("cannot be read as YAML: ") && error.contains("line"), "{error}");
        assert!(yaml("a: 1\n---\nb: 1\n").is_err(), "two documents");
        assert!(Document::read(b"a: \xff", Format::Yaml).is_err());
    }

    #[test]
    fn keys_that_stand_twice_are_refused() {
        for read in both(r#"{"a": {"get": 1, "get": 2}}"#) {
            let error = read.expect_err("two of a kind").to_string();
            assert!(error.contains("get") || error.contains("duplicate"), "{error}");
        }
        assert!(yaml("a: 1\na: 2\n").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for read in both(&nested(MAX_DEPTH)) {
            assert!(read.is_ok(), "{read:?}");
        }
        for read in both(&nested(MAX_DEPTH + 1)) {
            assert!(read.is_err());
        }
        for read in both(&nested(100_000)) {
            assert!(read.is_err());
        }
        let block = |depth: usize| (0..depth).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
        assert!(yaml(&block(MAX_DEPTH)).is_ok());
        assert!(yaml(&block(MAX_DEPTH + 1)).is_err());
    }

    const SMALL: Bounds = Bounds { values: 1_000, text_bytes: 10_000, aliases: 100 };

    fn within_small(text: &str) -> [Result<Value, String>; 2] {
        [Format::Json, Format::Yaml].map(|format| {
            let read = Document::read_within(text.as_bytes(), format, SMALL);
            read.map(|read| read.0).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn values_and_texts_are_bounded() {
        // The list is a value too.
        let list = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        // The key is text too.
        let text = |bytes: usize| format!("{{\"a\": \"{}\"}}", "b".repeat(bytes - 1));
        for (fits, does_not) in [
            (list(SMALL.values - 1), list(SMALL.values)),
            (text(SMALL.text_bytes), text(SMALL.text_bytes + 1)),
        ] {
            for read in within_small(&fits) {
                assert!(read.is_ok(), "{:?}", read.err());
            }
            for read in within_small(&does_not) {
                assert!(read.is_err());
            }
        }
    }

    #[test]
    fn size_is_bounded() {
        let text = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
        for read in both(&text(MAX_DOCUMENT_BYTES)) {
            assert!(read.is_ok(), "{:?}", read.err());
        }
        for read in both(&text(MAX_DOCUMENT_BYTES + 1)) {
            assert_eq!(read, Err(Unreadable::TooLarge { bytes: MAX_DOCUMENT_BYTES + 1 }));
        }
    }

    #[test]
    fn aliases_are_followed_and_bombs_refused() {
        assert_eq!(yaml("a: &a [1, 2]\nb: *a\n"), Ok(json!({ "a": [1, 2], "b": [1, 2] })));
        assert_eq!(
            yaml("a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n"),
            Ok(json!({ "a": { "x": 1 }, "b": { "x": 1, "y": 2 } }))
        );
        let laughs: String = (1..30)
            .map(|n| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 10].join(", ")))
            .collect();
        assert!(yaml(&format!("l0: &l0 [lol]\n{laughs}")).is_err());
        let within = |text: &str| within_small(text)[1].clone();
        let long = format!("a: &a {}\n", "a".repeat(SMALL.text_bytes / 10));
        let uses = |count: usize| format!("{long}b: [{}]\n", vec!["*a"; count].join(", "));
        assert!(within(&uses(8)).is_ok());
        assert!(within(&uses(10)).is_err());
        let many = |count: usize| format!("a: &a 1\nb: [{}]\n", vec!["*a"; count].join(", "));
        assert!(within(&many(SMALL.aliases)).is_ok());
        assert!(within(&many(SMALL.aliases + 1)).is_err());
        assert!(yaml("a: &a [*a]\n").is_err(), "an alias within itself");
    }

    #[test]
    fn a_reference_to_another_document_is_named() {
        for (text, reference, at) in [
            (r#"{"paths": {"/a": {"$ref": "a.yaml#/x"}}}"#, "a.yaml#/x", "#/paths/~1a"),
            (r#"{"a": [0, {"$ref": "http://localhost/x"}]}"#, "http://localhost/x", "#/a/1"),
            (r#"{"a": {"default": {"$ref": "file:///etc/passwd"}}}"#, "file:///etc/passwd", "#/a/default"),
            (r#"{"a": {"$ref": ""}}"#, "", "#/a"),
        ] {
            for read in both(text) {
                let refused = Unreadable::ExternalReference { reference: reference.into(), at: at.into() };
                assert_eq!(read, Err(refused));
            }
        }
        for text in [
            r##"{"a": {"$ref": "#/b"}}"##,
            r#"{"properties": {"$ref": {"type": "string"}}}"#,
            r#"{"example": {"$ref": "a.yaml"}, "x-a": {"$ref": "b"}}"#,
        ] {
            assert!(both(text)[0].is_ok(), "{text}");
        }
    }

    #[test]
    fn references_lead_to_what_they_name_and_not_in_circles() {
        let text = r##"{
            "a/{b}": {"x": 1}, "one": {"$ref": "#/two"}, "two": {"$ref": "#/a~1%7Bb%7D"},
            "loop": {"$ref": "#/pool"}, "pool": {"$ref": "#/loop"}, "none": {"$ref": "#/nothing"},
            "anchor": {"$ref": "#name"}, "number": {"$ref": 7}, "escape": {"$ref": "#/%zz"}
        }"##;
        let document = Document::read(text.as_bytes(), Format::Json).expect("whole");
        let resolve = |name: &str| document.resolve(&document.root()[name]);
        assert_eq!(resolve("one"), Ok(&json!({ "x": 1 })));
        assert_eq!(resolve("a/{b}"), Ok(&json!({ "x": 1 })));
        assert!(resolve("loop").expect_err("a circle").contains("circle"));
        for name in ["none", "anchor", "number", "escape"] {
            assert!(resolve(name).expect_err(name).contains("names nothing"));
        }
    }

    #[test]
    fn the_format_is_guessed_by_the_first_character() {
        assert_eq!(Format::guess(b" \r\n{\"a\": 1}"), Format::Json);
        assert_eq!(Format::guess(b"\xef\xbb\xbf{}"), Format::Json);
        assert_eq!(Format::guess(b"openapi: 3.0.3"), Format::Yaml);
        assert_eq!(Format::guess(b""), Format::Yaml);
    }
}
