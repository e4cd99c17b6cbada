//! What must hold of the document as a whole.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_operation_is_named_summed_up_and_says_who_may() {
    let mut ids = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let of = format!("{method} {path}");
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_string()), "{of}: a second {id}");
            assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with(['.', '?'])), "{of}");
            assert!(operation["security"].is_array(), "{of}");
        }
    }
    assert!(ids.contains("operators_sign_in") && ids.contains("openapi_show"), "{ids:?}");
}
