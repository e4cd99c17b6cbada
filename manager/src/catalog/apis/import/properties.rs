//! Whatever is uploaded: it is refused, or becomes APIs within the rules.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::document::{Document, Format};
use super::model::{Accepts, Options, Reading};
use super::operations::read;
use super::plan::plan;
use crate::catalog::apis::model::{MAX_API_NAME, parse_hosts, parse_labels, parse_methods};
use crate::catalog::apis::path::check_path;
use crate::catalog::model::{MAX_DESCRIPTION, parse_text};
use crate::testing::World;

const SAMPLES: [&str; 3] = [
    include_str!("samples/petstore.yaml"),
    include_str!("samples/orders.yaml"),
    include_str!("samples/ledger.json"),
];

fn options() -> [Options; 2] {
    let document = Options { accepts: Some(Accepts::Document), allow_no_auth: true, ..Options::default() };
    [Options::default(), document]
}

/// Reads it in both ways; what it becomes must keep the rules.
fn survives(text: &[u8]) {
    for (format, options) in
        [Format::Json, Format::Yaml].into_iter().flat_map(|format| options().map(|o| (format, o)))
    {
        let Ok(document) = Document::read(text, format) else { continue };
        let Ok(reading) = read(&document, &options) else { continue };
        keeps_the_rules(&reading, &options);
    }
}

fn keeps_the_rules(reading: &Reading, options: &Options) {
    let steps = plan(reading, Vec::new(), options, World::START, || "api_x".into());
    assert_eq!(steps.len(), reading.apis.len());
    for step in &steps {
        let api = step.change.api();
        assert_eq!(check_path(&api.path), Ok(()));
        assert_eq!(parse_hosts(&api.hosts).as_ref(), Ok(&api.hosts));
        assert_eq!(parse_methods(&api.methods).as_ref(), Ok(&api.methods));
        assert_eq!(parse_text(&api.name, 1, MAX_API_NAME).as_ref(), Ok(&api.name));
        assert_eq!(parse_text(&api.description, 0, MAX_DESCRIPTION).as_ref(), Ok(&api.description));
        assert_eq!(parse_labels(&api.labels).as_ref(), Ok(&api.labels));
        assert_eq!(api.no_auth, api.accepts.is_empty());
        assert!(!api.enabled);
    }
    for one in &reading.unsupported {
        assert!(!one.reason.is_empty());
    }
}

/// Values with the words of OpenAPI in all the wrong places.
fn wild() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "openapi",
        "info",
        "title",
        "paths",
        "/a",
        "/{b}",
        "/{b}/c",
        "x-y",
        "get",
        "post",
        "$ref",
        "servers",
        "url",
        "variables",
        "enum",
        "default",
        "parameters",
        "in",
        "name",
        "style",
        "security",
        "components",
        "securitySchemes",
        "key",
        "type",
        "scheme",
        "requestBody",
        "content",
        "tags",
        "operationId",
        "summary",
        "additionalOperations",
        "application/x-www-form-urlencoded",
    ]);
    let text = prop::sample::select(vec![
        "",
        "3.0.3",
        "#/paths",
        "#/components",
        "#/paths/~1a",
        "https://{in}.example/{name}",
        "/v1",
        "path",
        "matrix",
        "a b",
        "ä",
        "\u{0}",
        "\u{1}a\nb",
        "apiKey",
        "http",
        "basic",
        "header",
        "{",
        "}",
        "/",
        "pets",
    ]);
    let leaf = prop_oneof![
        text.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let key = prop_oneof![8 => word.clone().prop_map(str::to_string), 1 => "/.{0,8}".prop_map(String::from)];
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => btree_map(key, inner, 0..6).prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A document that begins well: its operations are wild.
fn document() -> impl Strategy<Value = Value> {
    let paths = btree_map(
        "/[a-c{}:.~%é /\u{0}\u{1}\n]{0,8}",
        btree_map("get|put|parameters|servers|\\$ref", wild(), 0..4),
        1..4,
    );
    (paths, wild(), wild(), wild()).prop_map(|(paths, servers, security, components)| {
        let mut root = json!({ "openapi": "3.1.0", "info": { "title": "T" }, "paths": paths });
        for (name, value) in [("servers", servers), ("security", security), ("components", components)] {
            if !value.is_null() {
                root[name] = value;
            }
        }
        root
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_of_any_kind_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        survives(&bytes);
    }

    #[test]
    fn texts_of_any_kind_do_no_harm(text in "[ -~\n\t&*!|>{}\\[\\]]{0,200}") {
        survives(text.as_bytes());
    }

    #[test]
    fn wild_values_do_no_harm(value in wild()) {
        survives(value.to_string().as_bytes());
    }

    #[test]
    fn wild_operations_do_no_harm(value in document()) {
        survives(value.to_string().as_bytes());
    }

    #[test]
    fn damaged_documents_do_no_harm(
        sample in 0..SAMPLES.len(), at in any::<prop::sample::Index>(), gone in 0..40_usize, put in "[ -~\n]{0,20}",
    ) {
        let mut text: Vec<char> = SAMPLES[sample].chars().collect();
        let start = at.index(text.len());
        let end = text.len().min(start + gone);
        text.splice(start..end, put.chars());
        survives(text.into_iter().collect::<String>().as_bytes());
    }
}
