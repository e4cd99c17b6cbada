//! DGRK as partners' applications speak it: the vectors, the accepted forms, and what must hold for
//! every body and every header.

use std::borrow::Cow;

use gate::credential::dgrk::{self, Charset, Form, Match, Scratch, Signature, Verdict, VerifyingKey};
use gate::credential::minify::{self, Shape, Unchanged};
use gate::credential::{Fingerprint, Scheme, basic, bearer, x_api_key};
use proptest::prelude::*;
use serde_json::Value;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const API_KEY: &str = "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==";
const SECRET: &str =
    "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==";
const OLD_SECRET: &str = "b2xk";

fn vectors(json: &str) -> Value {
    serde_json::from_str(json).expect("the vectors are JSON")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {value}"))
}

/// A text, or the concatenation of texts and `[text, times]` pairs.
fn spelled_out(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part {
                Value::String(text) => text.clone(),
                _ => {
                    let times = part[1].as_u64().expect("times is a number");
                    part[0].as_str().expect("a text").repeat(times.try_into().expect("times is small"))
                }
            })
            .collect::<String>()
            .into(),
        _ => panic!("neither text nor parts: {value}"),
    }
}

fn key() -> VerifyingKey {
    VerifyingKey::new(API_KEY, [SECRET, OLD_SECRET])
}

/// A signature over exactly this text of the body.
fn signature_over(secret: &str, text: &[u8]) -> String {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    for part in [text, API_KEY.as_bytes(), secret.as_bytes()] {
        mac.update(part);
    }
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

fn verify(signature: &str, body: &[u8], charset: Charset, hint: Option<Match>) -> Verdict {
    key().verify(Signature::from_text(signature), body, charset, hint, &mut Scratch::new())
}

fn verified(secret_index: usize, form: Form) -> Verdict {
    Verdict::Verified(Match { secret_index, form })
}

fn incorrect(received: &[u8], minified: &[u8]) -> Verdict {
    let Fingerprint(received_sha256) = Fingerprint::of(received);
    let Fingerprint(minified_sha256) = Fingerprint::of(minified);
    Verdict::Incorrect { received_sha256, minified_sha256 }
}

#[test]
fn dgrk_vectors_hold() {
    let vectors = vectors(include_str!("../../tests/vectors/dgrk.json"));
    let (api_key, secret) = (text(&vectors, "api_key"), text(&vectors, "secret_key"));
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 11);
    for case in cases {
        let (name, body) = (text(case, "name"), text(case, "body").as_bytes());
        let (minified, signature) = (text(case, "minified"), text(case, "signature"));
        let explanation = dgrk::explain(api_key, secret, body);
        assert_eq!(std::str::from_utf8(&explanation.minified), Ok(minified), "{name}");
        assert_eq!(explanation.signature, signature, "{name}");
        assert_eq!(explanation.message_bytes, minified.len() + 144, "{name}");
        let header = dgrk::sign(api_key, secret, body);
        let presented = dgrk::parse(header.as_bytes()).expect(name);
        assert_eq!((presented.api_key, presented.signature.as_str()), (api_key, signature), "{name}");
        let verdict = VerifyingKey::new(api_key, [secret]).verify(
            presented.signature,
            body,
            Charset::Utf8,
            None,
            &mut Scratch::new(),
        );
        assert!(matches!(verdict, Verdict::Verified(Match { secret_index: 0, .. })), "{name}: {verdict:?}");
    }
}

#[test]
fn minify_vectors_hold() {
    let vectors = vectors(include_str!("../../tests/vectors/minify.json"));
    let cases = vectors["cases"].as_array().expect("cases");
    assert!(cases.len() > 100, "{} cases", cases.len());
    for case in cases {
        let (name, body) = (text(case, "name"), spelled_out(&case["body"]));
        let mut out = b"left from the last request".to_vec();
        let outcome = minify::minify(body.as_bytes(), &mut out);
        match case.get("unchanged") {
            Some(why) => {
                let found = match outcome {
                    Err(Unchanged::NotJson { .. }) => "not_json",
                    Err(Unchanged::TooDeep { .. }) => "too_deep",
                    Err(Unchanged::NumberTooLong { .. }) => "number_too_long",
                    Err(Unchanged::StringTooLong { .. }) => "string_too_long",
                    Err(Unchanged::NotUtf8 { .. }) => "not_utf8",
                    Ok(_) => "JSON",
                };
                assert_eq!(Some(found), why.as_str(), "{name}");
                assert!(out.is_empty(), "{name}");
            }
            None => {
                let minified = spelled_out(&case["minified"]);
                let shape = outcome.unwrap_or_else(|unchanged| panic!("{name}: {unchanged}"));
                let found = if shape == Shape::AsReceived { body.as_bytes() } else { &out };
                assert_eq!(String::from_utf8_lossy(found), minified, "{name}");
                assert_eq!(shape == Shape::AsReceived, body == minified, "{name}");
            }
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_signed_as_received() {
    for (body, at) in [(&b"{ \"a\": \"\xFF\" }"[..], 8), (b"\xC0\x80", 0), (b"[ \"\xED\xA0\x80\" ]", 3)] {
        assert_eq!(minify::minify(body, &mut Vec::new()), Err(Unchanged::NotUtf8 { at }));
        assert_eq!(minify::minified(body), body);
        assert_eq!(
            verify(&signature_over(SECRET, body), body, Charset::Utf8, None),
            verified(0, Form::AsReceived)
        );
    }
}

#[test]
fn stripping_leaves_tokens_as_they_are_and_roots_apart() {
    for (body, shape, stripped) in [
        ("[ 1.10, -0, \"\\u0041\\/\" ]", Shape::Spaced, "[1.10,-0,\"\\u0041\\/\"]"),
        ("[1.10,1E400]", Shape::AsReceived, ""),
        ("1 2", Shape::AsReceived, ""),
        ("1  2", Shape::Spaced, "1 2"),
        ("true[]", Shape::Spaced, "true []"),
        (" ", Shape::Spaced, ""),
    ] {
        let mut out = Vec::new();
        assert_eq!(minify::strip(body.as_bytes(), &mut out), Ok(shape), "{body}");
        assert_eq!(String::from_utf8_lossy(&out), stripped, "{body}");
    }
    assert_eq!(minify::strip(b"a b", &mut Vec::new()), Err(Unchanged::NotJson { at: 0 }));
}

#[test]
fn three_forms_are_accepted_and_no_other() {
    let body = br#"{ "p": 1.10, "q": "\u0041" }"#;
    let minified = br#"{"p":1.1,"q":"A"}"#;
    let stripped = br#"{"p":1.10,"q":"\u0041"}"#;
    for (signed, verdict) in [
        (&body[..], verified(0, Form::AsReceived)),
        (minified, verified(0, Form::Minified)),
        (stripped, verified(0, Form::Stripped)),
        (br#"{ "p": 1.1, "q": "A" }"#, incorrect(body, minified)),
        (br#"{"p":1.1,"q":"\u0041"}"#, incorrect(body, minified)),
        (br#"{"q":"A","p":1.1}"#, incorrect(body, minified)),
        (b"", incorrect(body, minified)),
    ] {
        let name = signed.escape_ascii();
        assert_eq!(verify(&signature_over(SECRET, signed), body, Charset::Utf8, None), verdict, "{name}");
    }
}

#[test]
fn both_live_secrets_are_accepted_and_the_match_names_which() {
    for (signed, form) in
        [(&b"[ 1.0e0 ]"[..], Form::AsReceived), (b"[1.0]", Form::Minified), (b"[1.0e0]", Form::Stripped)]
    {
        for (secret_index, secret) in [SECRET, OLD_SECRET].into_iter().enumerate() {
            let signature = signature_over(secret, signed);
            assert_eq!(verify(&signature, b"[ 1.0e0 ]", Charset::Utf8, None), verified(secret_index, form));
        }
    }
    let stranger = signature_over("c3RyYW5nZXI=", b"[ 1.0e0 ]");
    assert_eq!(verify(&stranger, b"[ 1.0e0 ]", Charset::Utf8, None), incorrect(b"[ 1.0e0 ]", b"[1.0]"));
}

#[test]
fn any_hint_finds_what_no_hint_finds() {
    let bodies: [&[u8]; 6] = [b"", b"[1]", b"[ 1 ]", b"[1.10]", b"[ 1.10 ]", b"not JSON"];
    let forms = [Form::AsReceived, Form::Minified, Form::Stripped];
    for body in bodies {
        let mut stripped = Vec::new();
        if !matches!(minify::strip(body, &mut stripped), Ok(Shape::Spaced)) {
            stripped = body.to_vec();
        }
        for signed in [body, &minify::minified(body), &stripped, b"something else"] {
            for (secret_index, secret) in [SECRET, OLD_SECRET].into_iter().enumerate() {
                let signature = signature_over(secret, signed);
                let unhinted = verify(&signature, body, Charset::Utf8, None);
                for form in forms {
                    for hinted_index in [0, 1, 7] {
                        let hint = Some(Match { secret_index: hinted_index, form });
                        match (unhinted, verify(&signature, body, Charset::Utf8, hint)) {
                            (Verdict::Verified(_), Verdict::Verified(found)) => {
                                assert_eq!(found.secret_index, secret_index);
                            }
                            (Verdict::Incorrect { .. }, hinted) => assert_eq!(hinted, unhinted),
                            (unhinted, hinted) => panic!("{unhinted:?} became {hinted:?}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_match_keeps_the_hinted_form_while_forms_are_equal() {
    let signature = signature_over(SECRET, b"[1]");
    for form in [Form::AsReceived, Form::Minified, Form::Stripped] {
        let hint = Some(Match { secret_index: 0, form });
        assert_eq!(verify(&signature, b"[1]", Charset::Utf8, hint), verified(0, form));
    }
}

#[test]
fn a_body_in_another_charset_is_verified_as_received_only() {
    let body = b"[ 1 ]";
    for (signed, verdict) in
        [(&b"[ 1 ]"[..], verified(0, Form::AsReceived)), (b"[1]", incorrect(b"[ 1 ]", b"[ 1 ]"))]
    {
        assert_eq!(verify(&signature_over(SECRET, signed), body, Charset::Other, None), verdict);
    }
}

#[test]
fn the_charset_parameter_is_read() {
    for (content_type, charset) in [
        (&b""[..], Charset::Utf8),
        (b"application/json", Charset::Utf8),
        (b"application/json; charset=utf-8", Charset::Utf8),
        (b"application/json;Charset=\"UTF-8\"", Charset::Utf8),
        (b"text/plain; a=b; charset=us-ascii", Charset::Utf8),
        (b"application/json; charset=utf-16", Charset::Other),
        (b"text/plain; charset=Big5", Charset::Other),
        (b"text/plain; charset=", Charset::Other),
        (b"text/plain; charset=\xFF", Charset::Other),
        (b"charset=big5", Charset::Utf8),
    ] {
        assert_eq!(Charset::of_content_type(content_type), charset, "{}", content_type.escape_ascii());
    }
}

#[test]
fn a_signature_is_compared_to_the_letter() {
    let right = signature_over(SECRET, b"{}");
    let without_padding = right.trim_end_matches('=').to_owned();
    // The last digit before the padding has two bits that decode to nothing.
    let other_bits = right.replace("f0=", "f1=");
    assert_ne!(right, other_bits);
    for wrong in [&without_padding, &other_bits, &right.to_lowercase(), "", "AAAA", &format!("{right}AAAA")] {
        assert_eq!(verify(wrong, b"{}", Charset::Utf8, None), incorrect(b"{}", b"{}"), "{wrong}");
    }
    assert_eq!(verify(&right, b"{}", Charset::Utf8, None), verified(0, Form::AsReceived));
}

#[test]
fn a_key_without_secrets_verifies_nothing() {
    let key = VerifyingKey::new(API_KEY, []);
    let signature = signature_over("", b"");
    let verdict = key.verify(Signature::from_text(&signature), b"", Charset::Utf8, None, &mut Scratch::new());
    assert_eq!(verdict, incorrect(b"", b""));
}

#[test]
fn secrets_and_signatures_do_not_print() {
    let header = dgrk::sign(API_KEY, SECRET, b"");
    let presented = dgrk::parse(header.as_bytes()).expect("well-formed");
    assert_eq!(format!("{:?}", presented.signature), "Signature([redacted])");
    assert_eq!(format!("{:?}", key()), "VerifyingKey { secrets: [[redacted], [redacted]] }");
}

#[test]
fn the_header_grammar_is_exact() {
    use gate::credential::Fault::{Alphabet, Empty, TooLong};
    use gate::credential::dgrk::Malformed::{self, ApiKey, Parts, Scheme};
    let check = |value: &str, expected: Result<(&str, &str), Malformed>| {
        let found = dgrk::parse(value.as_bytes()).map(|dgrk| (dgrk.api_key, dgrk.signature.as_str()));
        assert_eq!(found, expected, "{value}");
    };
    check("DGRK YQ==.YWI=", Ok(("YQ==", "YWI=")));
    check("dgrk YQ==.YWI=", Ok(("YQ==", "YWI=")));
    check("dGrK a+/9.AAAA", Ok(("a+/9", "AAAA")));
    check("", Err(Scheme));
    check("DGRK", Err(Scheme));
    check("DGRK\tYQ==.YWI=", Err(Scheme));
    check(" DGRK YQ==.YWI=", Err(Scheme));
    check("xDGRK YQ==.YWI=", Err(Scheme));
    check("Basic DGRK YQ==.YWI=", Err(Scheme));
    check("DGRK ", Err(Parts));
    check("DGRK YQ==", Err(Parts));
    check("DGRK YQ==.YWI=.", Err(Parts));
    check("DGRK YQ==..YWI=", Err(Parts));
    check("DGRK .YWI=", Err(ApiKey(Empty)));
    check("DGRK YQ==.", Err(Malformed::Signature(Empty)));
    check("DGRK  YQ==.YWI=", Err(ApiKey(Alphabet)));
    check("DGRK YQ== .YWI=", Err(ApiKey(Alphabet)));
    check("DGRK YQ.YWI=", Err(ApiKey(Alphabet)));
    check("DGRK ====.YWI=", Err(ApiKey(Alphabet)));
    check("DGRK Y===.YWI=", Err(ApiKey(Alphabet)));
    check("DGRK Y=Q=.YWI=", Err(ApiKey(Alphabet)));
    check("DGRK YQ-_.YWI=", Err(ApiKey(Alphabet)));
    check("DGRK YQ==.YW", Err(Malformed::Signature(Alphabet)));
    check("DGRK YQ==.YWI= ", Err(Malformed::Signature(Alphabet)));
    check("DGRK YQ==.YWI=,x", Err(Malformed::Signature(Alphabet)));
    check("DGRK YQ==.é==", Err(Malformed::Signature(Alphabet)));
    let (longest, longer) = ("A".repeat(252), "A".repeat(256));
    check(&format!("DGRK {longest}.AAAA"), Ok((&longest, "AAAA")));
    check(&format!("DGRK {longer}.AAAA"), Err(ApiKey(TooLong { max_bytes: 255 })));
    let (longest, longer) = ("A".repeat(88), "A".repeat(92));
    check(&format!("DGRK AAAA.{longest}"), Ok(("AAAA", &longest)));
    check(&format!("DGRK AAAA.{longer}"), Err(Malformed::Signature(TooLong { max_bytes: 88 })));
}

/// Any JSON value, floats and odd strings included.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-10_000_000_000i64..10_000_000_000, 0u8..8)
            .prop_map(|(units, scale)| Value::from(units as f64 / 10f64.powi(scale.into()))),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Text that is JSON, or nearly.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "\n", "\t", "1", "0", "-", ".", "e", "E+", "9",
        "true", "null", "\"a\"", "\"a\":", "\\u", "\\ud83d", "\\ude00", "\\u001f", "\\/", "\\n", "é", "😀",
        "[1,", "]",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

/// The text of one JSON value with white space around its brackets, commas and colons.
fn with_white_space(text: &str, spaces: &[&str]) -> String {
    let (mut spaced, mut in_string, mut escaped) = (String::new(), false, false);
    let mut next = spaces.iter().cycle();
    for character in text.chars() {
        let structural = !in_string && "{}[],:".contains(character);
        if structural {
            spaced.push_str(next.next().unwrap_or(&""));
        }
        spaced.push(character);
        if structural {
            spaced.push_str(next.next().unwrap_or(&""));
        }
        match character {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && character == '\\' && !escaped;
    }
    spaced
}

fn spaces() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["", " ", "\n  ", "\t", "\r\n"]), 1..9)
}

proptest! {
    // A failure prints its input; add that to the vectors.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn minifying_is_idempotent(body in nearly_json()) {
        let once = minify::minified(body.as_bytes());
        prop_assert_eq!(&minify::minified(&once), &once);
    }

    #[test]
    fn minifying_is_idempotent_on_any_bytes(body: Vec<u8>) {
        let once = minify::minified(&body);
        prop_assert_eq!(&minify::minified(&once), &once);
    }

    #[test]
    fn what_serde_reads_is_minified_to_what_serde_reads_the_same(value in json()) {
        let compact = value.to_string();
        let mut out = Vec::new();
        let shape = minify::minify(compact.as_bytes(), &mut out);
        prop_assert!(shape.is_ok(), "{compact}: {shape:?}");
        let minified = minify::minified(compact.as_bytes());
        let read: Value = serde_json::from_slice(&minified).expect("still JSON");
        prop_assert_eq!(read, value);
    }

    #[test]
    fn what_serde_refuses_is_not_json(body in nearly_json()) {
        // Several roots apart (serde_json reads one), and numbers too large for a double.
        let one_root: Result<Value, _> = serde_json::from_str(&body);
        let minified = minify::minify(body.as_bytes(), &mut Vec::new());
        if one_root.is_ok() {
            prop_assert!(minified.is_ok(), "{body}: {minified:?}");
        } else if minified.is_ok() {
            let out = minify::minified(body.as_bytes());
            let roots = serde_json::Deserializer::from_slice(&out).into_iter::<Value>();
            for root in roots {
                prop_assert!(root.is_ok(), "{body}: {root:?}");
            }
        }
    }

    #[test]
    fn white_space_does_not_change_the_minified_form(value in json(), spaces in spaces()) {
        let compact = value.to_string();
        let spaced = with_white_space(&compact, &spaces);
        prop_assert_eq!(minify::minified(spaced.as_bytes()), minify::minified(compact.as_bytes()));
    }

    #[test]
    fn stripping_gives_back_what_white_space_was_put_into(value in json(), spaces in spaces()) {
        let compact = value.to_string();
        let spaced = with_white_space(&compact, &spaces);
        let mut out = Vec::new();
        let stripped = match minify::strip(spaced.as_bytes(), &mut out) {
            Ok(Shape::AsReceived) => spaced.as_bytes(),
            _ => &out,
        };
        prop_assert_eq!(String::from_utf8_lossy(stripped), compact);
    }

    #[test]
    fn a_decimal_is_written_like_its_double(whole in 0u32..20_000_000, fraction in "[0-9]{1,12}", negative: bool) {
        // With an exponent the text cannot be taken over as it is.
        let sign = if negative { "-" } else { "" };
        let plain = format!("{sign}{whole}.{fraction}");
        let with_exponent = format!("{plain}e0");
        prop_assert_eq!(minify::minified(plain.as_bytes()), minify::minified(with_exponent.as_bytes()));
    }

    #[test]
    fn what_is_signed_verifies(body in prop_oneof![nearly_json().prop_map(String::into_bytes), any::<Vec<u8>>()]) {
        let header = dgrk::sign(API_KEY, OLD_SECRET, &body);
        let presented = dgrk::parse(header.as_bytes()).expect("well-formed");
        let verdict = key().verify(presented.signature, &body, Charset::Utf8, None, &mut Scratch::new());
        prop_assert!(matches!(verdict, Verdict::Verified(Match { secret_index: 1, .. })), "{verdict:?}");
    }

    #[test]
    fn a_changed_body_does_not_verify(value in json(), at: prop::sample::Index, byte: u8) {
        let body = value.to_string().into_bytes();
        let header = dgrk::sign(API_KEY, SECRET, &body);
        let presented = dgrk::parse(header.as_bytes()).expect("well-formed");
        let mut changed = body.clone();
        changed[at.index(body.len())] = byte;
        let verdict = key().verify(presented.signature, &changed, Charset::Utf8, None, &mut Scratch::new());
        let same = minify::minified(&changed) == minify::minified(&body);
        prop_assert_eq!(matches!(verdict, Verdict::Verified(_)), same);
    }

    #[test]
    fn any_header_is_read_without_a_panic(prefix in "(DGRK |dgrk |Bearer |Basic |)", value: Vec<u8>) {
        let value = [prefix.as_bytes(), &value].concat();
        let _ = (Scheme::of(&value), Charset::of_content_type(&value));
        let _ = (dgrk::parse(&value), bearer::parse(&value), basic::parse(&value), x_api_key::parse(&value));
    }
}
