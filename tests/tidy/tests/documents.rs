//! Invariant 8: every path, denial code and setting named in a document exists. And the other way
//! round where a list claims to be whole.

use std::collections::BTreeSet;

use tidy::{assert_none, code, files, read, root};

/// What a repository-relative path in a document begins with.
const TOP: [&str; 11] = [
    "gate/",
    "filter/",
    "manager/",
    "envoy/",
    "xtask/",
    "tests/",
    "docs/",
    ".ci/",
    ".cargo/",
    "docker/",
    "examples/",
];

fn documents() -> Vec<tidy::File> {
    let documents: Vec<_> = files().into_iter().filter(|file| file.path.ends_with(".md")).collect();
    assert!(documents.iter().any(|file| file.path == "README.md"));
    documents
}

/// Everything between single backticks.
fn quoted(text: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            quoted.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    quoted
}

#[test]
fn every_path_in_a_document_exists() {
    let mut violations = Vec::new();
    for document in documents() {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for path in quoted(&document.text) {
            // `manager/src/<capability>/` and `src/*.rs` are patterns, not paths.
            let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
            if plain && TOP.iter().any(|top| path.starts_with(top)) && !root().join(&path).exists() {
                violations.push(format!("{}: `{path}`", document.path));
            }
        }
        for target in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty()
                || target.contains("://")
                || target.contains(' ')
                || target.starts_with("mailto:")
            {
                continue;
            }
            if !root().join(folder).join(target).exists() {
                violations.push(format!("{}: ]({target})", document.path));
            }
        }
    }
    assert_none("a document names a path that is not there", violations);
}

fn denial_codes() -> BTreeSet<String> {
    let source = read("gate/src/denial.rs").expect("the denials");
    let body = source.split("pub fn code(&self)").nth(1).expect("`fn code` in gate/src/denial.rs");
    let body = body.split("\n    }\n").next().expect("its end");
    let codes: BTreeSet<String> = body.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(codes.len() > 20, "{codes:?}");
    codes
}

#[test]
fn the_table_of_refusals_is_whole() {
    let page = read("docs/denials.md").expect("docs/denials.md");
    let table = page.split("## Codes").nth(1).expect("the table of codes");
    let told: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(told, denial_codes(), "docs/denials.md lists exactly the codes of gate/src/denial.rs");
}

/// Names of tests: more words joined by `_` than any code or parameter of OAuth has.
fn is_test_name(word: &str) -> bool {
    word.split('_').count() > 3
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[test]
fn every_row_of_the_conformance_table_is_held_by_tests_that_are_there() {
    let page = read("docs/conformance.md").expect("docs/conformance.md");
    let sources: Vec<_> = files().into_iter().filter(|file| file.path.ends_with(".rs")).collect();
    let is_there = |name: &str| {
        let head = format!("fn {name}(");
        sources.iter().any(|file| file.text.contains(&head))
    };
    let (mut violations, mut rows) = (Vec::new(), 0);
    for (number, line) in page.lines().enumerate() {
        let Some(row) = line.strip_prefix("| ").and_then(|rest| rest.strip_suffix(" |")) else { continue };
        let held_by = row.rsplit(" | ").next().unwrap_or_default();
        if held_by == "Held by" {
            continue;
        }
        rows += 1;
        let named = quoted(held_by);
        let tests: Vec<&String> = named.iter().filter(|word| is_test_name(word)).collect();
        if tests.is_empty() && !held_by.starts_with("Not offered: ") && !held_by.starts_with("Elsewhere: ") {
            violations.push(format!("docs/conformance.md:{}: neither a test nor a reason", number + 1));
        }
        for test in tests.into_iter().filter(|test| !is_there(test)) {
            violations.push(format!("docs/conformance.md:{}: there is no test `{test}`", number + 1));
        }
    }
    assert!(rows > 60, "{rows} rows");
    assert_none("a requirement is held by no test", violations);
}

fn settings() -> BTreeSet<String> {
    let source = code(&read("manager/src/config.rs").expect("the settings"));
    let body = source.split("\nsettings! {\n").nth(1).expect("`settings!` in manager/src/config.rs");
    let body = body.split("\n}\n").next().expect("its end");
    let settings: BTreeSet<String> = body
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        .collect();
    assert!(settings.len() > 20, "{settings:?}");
    settings
}

/// Variables that are no setting of the manager, and who reads them.
const OTHER_VARIABLES: [&str; 13] = [
    "KEYGATE_CONFIG",            // manager/src/main.rs
    "KEYGATE_PASSWORD",          // manager/src/operators/cli.rs
    "KEYGATE_PASSWORD_HASH",     // manager/src/users/cli.rs
    "KEYGATE_ENVOY",             // xtask/src/envoy.rs
    "KEYGATE_GATEWAY_TOKEN",     // envoy/envoy.yaml
    "KEYGATE_TEST_POSTGRES_URL", // tests
    "KEYGATE_TEST_API_EXAMPLES", // xtask/src/api.rs
    "KEYGATE_E2E_ENVOY",         // tests/e2e
    "KEYGATE_E2E_FILTER",        // tests/e2e
    "KEYGATE_E2E_TRAP_FILTER",   // tests/e2e
    "KEYGATE_E2E_MANAGER",       // tests/e2e
    "KEYGATE_TOKEN",             // manager/src/remote.rs
    "KEYGATE_URL",               // manager/src/remote.rs
];

/// Whether a variable is a setting or a named other.
fn is_known(variable: &str, settings: &BTreeSet<String>) -> bool {
    OTHER_VARIABLES.contains(&variable)
        || variable.strip_prefix("KEYGATE_").is_some_and(|name| settings.contains(&name.to_ascii_lowercase()))
}

fn variables(text: &str) -> BTreeSet<String> {
    text.match_indices("KEYGATE_")
        .map(|(at, _)| {
            text[at..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                .collect()
        })
        // `KEYGATE_*` stands for all of them.
        .filter(|name: &String| !name.ends_with('_'))
        .collect()
}

#[test]
fn every_variable_in_a_document_is_a_setting() {
    let settings = settings();
    let mut violations = Vec::new();
    let told = |path: &str| path.ends_with(".md") || path.ends_with(".yml") || path.ends_with(".yaml");
    for file in files().into_iter().filter(|file| told(&file.path)) {
        for variable in variables(&file.text) {
            if !is_known(&variable, &settings) {
                violations.push(format!("{}: {variable}", file.path));
            }
        }
    }
    assert_none("a document names a variable that nothing reads", violations);
}

#[test]
fn the_page_of_settings_is_whole() {
    let page = read("docs/operations.md").expect("docs/operations.md");
    let told: BTreeSet<String> = quoted(&page).into_iter().filter(|word| settings().contains(word)).collect();
    let missing = settings().difference(&told).cloned().collect();
    assert_none("docs/operations.md does not name these settings of manager/src/config.rs", missing);
}
