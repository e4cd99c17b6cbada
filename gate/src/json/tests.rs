use super::*;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use proptest::prelude::*;
use serde_json::Value;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::wire::exchange::ExchangeAnswer;

/// What the filter reads has all of these shapes.
#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Shapes {
    small: u8,
    signed: Option<i32>,
    float: f64,
    text: String,
    yes: bool,
    pair: (u64, String),
    map: BTreeMap<String, u64>,
    variants: Vec<Variants>,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Variants {
    Unit,
    Newtype(u64),
    Tuple(u64, u64),
    Struct { a: u64 },
}

fn as_serde_json_reads<'de, T: Deserialize<'de> + PartialEq + fmt::Debug>(text: &'de [u8]) {
    let (ours, theirs) = (from_slice::<T>(text), serde_json::from_slice::<T>(text));
    let shown = String::from_utf8_lossy(text);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{shown}"),
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{shown}: ours {ours:?}, serde_json's {theirs:?}"),
    }
}

const WHOLE: &str = r#" {"small": 255, "signed": -2147483648, "float": 1.5e-3, "text": "a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é",
    "yes": true, "pair": [18446744073709551615, ""], "map": {"x": 1, "y": 2},
    "variants": ["unit", {"unit": null}, {"newtype": 7}, {"tuple": [1, 2]}, {"struct": {"a": 3, "b": [{"c": null}]}}]} "#;

#[test]
fn every_shape_is_read_as_serde_json_reads_it() {
    assert!(from_slice::<Shapes>(WHOLE.as_bytes()).is_ok());
    as_serde_json_reads::<Shapes>(WHOLE.as_bytes());
    for (from, to) in [
        ("255", "256"),
        ("255", "-1"),
        ("255", "-0"),
        ("255", "0255"),
        ("255", "2e2"),
        ("255", "\"255\""),
        ("-2147483648", "null"),
        ("-2147483648", "nul"),
        ("1.5e-3", "1"),
        ("1.5e-3", "-7"),
        ("1.5e-3", "1e400"),
        ("1.5e-3", "1."),
        ("1.5e-3", "1e"),
        ("true", "tru"),
        ("true", "1"),
        ("18446744073709551615, \"\"", "1"),
        ("18446744073709551615, \"\"", "1, \"\", 2"),
        ("18446744073709551615", "18446744073709551616"),
        ("\"x\": 1, ", "\"x\": 1,, "),
        ("\"x\": 1, ", "\"x\" 1, "),
        ("\"x\": 1, ", "x: 1, "),
        ("\"y\": 2", "\"y\": 2,"),
        ("\\ud83d", "\\udc00"),
        ("\\ude00", ""),
        ("\\ude00", "\\ud83d"),
        ("\\u00e9", "\\u00g9"),
        ("\\b", "\\x"),
        ("\\b", "\u{1}"),
        ("\"unit\", ", "\"newtype\", "),
        ("\"unit\", ", "\"unknown\", "),
        ("\"unit\", ", "{\"unit\": 1}, "),
        ("{\"newtype\": 7}", "{\"newtype\": 7, \"unit\": null}"),
        ("{\"newtype\": 7}", "{}"),
        ("{\"newtype\": 7}", "7"),
        ("{\"tuple\": [1, 2]}", "{\"tuple\": [1]}"),
        ("{\"tuple\": [1, 2]}", "{\"tuple\": [1, 2, 3]}"),
        ("\"yes\": true", "\"yes\": true, \"yes\": true"),
        ("\"yes\": true", "\"yes\": true, \"no\": true"),
        ("\"yes\": true,", ""),
    ] {
        let changed = WHOLE.replacen(from, to, 1);
        assert_ne!(changed, WHOLE, "{from}");
        as_serde_json_reads::<Shapes>(changed.as_bytes());
    }
    // Not UTF-8, in a string and in a key, with an escape before it and without.
    for bytes in [&b"\"\xff\""[..], b"\"\\n\xff\"", b"{\"\xc3\": 1}", b"\"\xed\xa0\x80\""] {
        as_serde_json_reads::<Value>(bytes);
    }
}

#[test]
fn a_name_is_a_string_whatever_is_read_as_one() {
    for name in ["1", "null", "true", "[]", "{}", "\"1\""] {
        let text = format!("{{ {name}: 7}}");
        as_serde_json_reads::<BTreeMap<Option<String>, u64>>(text.as_bytes());
        // Numbers in quotation marks are nobody's names here.
        assert!(from_slice::<BTreeMap<u64, u64>>(text.as_bytes()).is_err(), "{text}");
        assert!(from_slice::<BTreeMap<bool, u64>>(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_struct_is_no_array() {
    // The one difference that is meant: nobody writes it, and the code for it doubled what reads a struct.
    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct One {
        a: u64,
    }
    assert!(serde_json::from_str::<One>("[1]").is_ok());
    assert!(from_slice::<One>(b"[1]").is_err());
}

#[test]
fn depth_is_bounded_where_serde_json_bounds_it() {
    for depth in [1, 126, 127, 128, 10_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            as_serde_json_reads::<Value>(text.as_bytes());
        }
    }
    // What is passed over is bounded too, and so is the stack that it takes.
    let ignored = format!("{{\"unknown\": {}{}}}", "[".repeat(200), "]".repeat(200));
    assert!(from_slice::<ExchangeAnswer>(ignored.as_bytes()).unwrap_err().to_string().contains("too deep"));
}

#[test]
fn an_error_says_what_and_where() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Config {
        version: u32,
        name: String,
        kind: Option<Variants>,
    }
    for (text, said) in [
        ("{\n  \"version\": \"1\"}", "expected a value at line 2 column 13"),
        ("{\"version\": -1}", "expected u32 at line 1 column 14"),
        ("{\"version\": 1}", "`name` is missing at line 1 column 14"),
        ("{\"nam\": 1}", "unknown field `nam`: there are version, name, kind at line 1 column 6"),
        ("{\"name\": \"\", \"name\": \"\"}", "`name` is given twice at line 1 column 19"),
        ("{\"kind\": \"other\"}", "`other` is none of unit, newtype, tuple, struct at line 1 column 16"),
        ("{\"version\": 1", "the text ends too early at line 1 column 13"),
        ("{\"version\": 1 \"name\"", "expected a comma or the end at line 1 column 14"),
        ("", "the text ends too early at line 1 column 0"),
    ] {
        assert_eq!(from_slice::<Config>(text.as_bytes()).unwrap_err().to_string(), said, "{text}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = proptest::collection::vec(any::<char>(), 0..6).prop_map(|chars| chars.into_iter().collect());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(|text: String| Value::from(text)),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((text.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_as_it_was(value in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        prop_assert_eq!(from_slice::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_damaged_text_is_accepted_where_serde_json_accepts_it(
        value in any_json(),
        damage in proptest::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(b"\"\\[]{}:,.-+eEu0159tn \n\x00\xc3\xff".to_vec())),
            1..4,
        ),
        remove: bool,
    ) {
        let mut text = serde_json::to_vec(&value).unwrap();
        for (place, byte) in damage {
            let at = place.index(text.len());
            if remove && text.len() > 1 {
                text.remove(at);
            } else {
                text[at] = byte;
            }
        }
        as_serde_json_reads::<Value>(&text);
        // Passing over is as strict as reading is; serde_json lets strings pass that are none.
        let passed_over = from_slice::<de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(passed_over, serde_json::from_slice::<Value>(&text).is_ok());
    }

    #[test]
    fn bytes_never_stop_it(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        as_serde_json_reads::<Value>(&bytes);
        let _ = from_slice::<ExchangeAnswer>(&bytes);
    }
}
