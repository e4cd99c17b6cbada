//! The filter runs on wasm32, so every test of `gate` does too (`docs/wasm-tests.md`).

use tidy::{assert_none, files};

const IMPORT: &str = "use wasm_bindgen_test::wasm_bindgen_test as test;";
const NATIVE_ONLY: &str = "#![cfg(not(target_arch = \"wasm32\"))]";

#[test]
fn every_test_of_gate_runs_on_wasm32() {
    let mut tested = 0;
    let mut violations = Vec::new();
    for file in files() {
        if !file.path.starts_with("gate/") || !file.path.ends_with(".rs") || !file.text.contains("#[test]") {
            continue;
        }
        tested += 1;
        if !file.text.contains(IMPORT) && !file.text.contains(NATIVE_ONLY) {
            violations.push(file.path);
        }
    }
    assert!(tested > 10, "only {tested} files with tests: is this the right folder?");
    assert_none("these files have tests that do not run on wasm32 (docs/wasm-tests.md)", violations);
}
