//! What must not be in tracked files, and what must not be in the shipped filter.

use std::path::PathBuf;

use tidy::{assert_none, files, root};

#[test]
fn no_machine_or_registry_is_named() {
    // Written apart, so that this file passes its own rule.
    let banned: Vec<String> = [
        ["/ro", "ot/"],
        ["/ho", "me/"],
        ["/wo", "rk/"],
        ["/Us", "ers/"],
        ["registry.np", "mjs.org"],
        ["pypi", ".org"],
        ["index.crates", ".io"],
        ["artifac", "tory"],
    ]
    .iter()
    .map(|parts| parts.concat())
    .collect();
    let mut violations = Vec::new();
    for file in files().into_iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(found) = banned.iter().find(|banned| line.contains(banned.as_str())) {
                violations.push(format!("{}:{}: {found}", file.path, number + 1));
            }
        }
    }
    assert_none("a tracked file names a path of one machine or a registry's host", violations);
}

#[test]
fn files_end_in_one_newline_and_lines_in_no_blank() {
    let mut violations = Vec::new();
    let text =
        |path: &str| [".rs", ".md", ".toml", ".yml", ".yaml", ".sql"].iter().any(|end| path.ends_with(end));
    for file in files().into_iter().filter(|file| text(&file.path)) {
        if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
            violations.push(format!("{}: ends in one newline", file.path));
        }
        if let Some(number) = file.text.lines().position(|line| line.ends_with([' ', '\t'])) {
            violations.push(format!("{}:{}: blank at the end of the line", file.path, number + 1));
        }
    }
    assert_none("white space", violations);
}

#[test]
fn the_tests_run_every_test() {
    let violations = files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"))
        .filter(|file| file.text.lines().any(|line| line.trim_start().starts_with("#[ignore")))
        .map(|file| file.path)
        .collect();
    assert_none("an ignored test is no test", violations);
}

fn wasm(variable: &str, name: &str) -> Vec<u8> {
    let file = std::env::var_os(variable).map_or_else(|| root().join("target").join(name), PathBuf::from);
    std::fs::read(&file).unwrap_or_else(|error| {
        panic!("{}: {error}; run `cargo xtask test --only wasm,tidy`", file.display())
    })
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// What the variant for tests exports beside Envoy's callbacks (filter/src/request.rs, feature `trap`).
const TRAP: &str = "keygate_test_trap";

#[test]
fn the_shipped_filter_cannot_be_told_to_trap() {
    assert!(!contains(&wasm("KEYGATE_E2E_FILTER", "keygate.wasm"), TRAP), "keygate.wasm knows `{TRAP}`");
    // The other way round, or this test would prove nothing.
    assert!(
        contains(&wasm("KEYGATE_E2E_TRAP_FILTER", "keygate-trap.wasm"), TRAP),
        "keygate-trap.wasm does not know `{TRAP}`: is it the feature `trap` that was built?"
    );
}

#[test]
fn the_shipped_filter_names_no_path_of_the_machine_that_built_it() {
    let filter = wasm("KEYGATE_E2E_FILTER", "keygate.wasm");
    let home = std::env::home_dir().expect("whoever builds has a home").display().to_string();
    for path in [root().display().to_string(), home] {
        assert!(!contains(&filter, &path), "keygate.wasm names {path}");
    }
}
