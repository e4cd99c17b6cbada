//! Who may know whom: invariants 6 and 7 of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use tidy::{assert_none, read, sources};

/// What `gate` may depend on: all of it compiles for wasm32 and does no I/O.
const GATE_DEPENDENCIES: [&str; 6] = ["base64", "hmac", "serde", "serde_json", "sha2", "subtle"];

/// From the bottom up. A capability may import those of the rows before its own.
const CAPABILITIES: [&[&str]; 24] = [
    &["attempts", "vault"],
    &["audit", "changes"],
    &["schedule"],
    &["idempotency", "mail"],
    &["credential_links"],
    &["quotas"],
    &["usage"],
    &["operators"],
    &["identity_provider"],
    &["users"],
    &["catalog"],
    &["clients"],
    &["authorization"],
    &["tokens"],
    &["keys", "x_api_keys"],
    &["quota_warnings"],
    &["approvals"],
    &["applications"],
    &["reports"],
    &["definitions"],
    &["gateways"],
    &["offboarding", "client_portal"],
    &["feed"],
    &["decisions"],
];

/// Folders of the manager that are no capability: what all of them stand on.
const PLATFORM: [&str; 2] = ["openapi", "testing"];

#[test]
fn gate_depends_on_nothing_that_does_io() {
    let manifest = read("gate/Cargo.toml").expect("gate has a manifest");
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).expect("gate has dependencies");
    let names: Vec<&str> = dependencies
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(names, GATE_DEPENDENCIES, "a further dependency of gate must be needed on wasm32 too");
}

#[test]
fn gate_has_no_standard_library() {
    let text = read("gate/src/lib.rs").expect("gate has a root");
    assert!(text.contains("\n#![no_std]\n"), "gate/src/lib.rs is no_std");
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.contains("extern crate std") {
            assert_eq!(
                number.checked_sub(1).map(|n| lines[n]),
                Some("#[cfg(test)]"),
                "std is for gate's tests alone"
            );
        }
    }
    let violations = sources("gate/src/")
        .iter()
        .filter(|file| file.path != "gate/src/lib.rs")
        .filter(|file| file.text.contains("extern crate std") || file.text.contains("unsafe "))
        .map(|file| file.path.clone())
        .collect();
    assert_none("gate knows neither std nor unsafe code", violations);
}

#[test]
fn hostcalls_stand_in_host_rs_alone() {
    let violations = sources("filter/src/")
        .iter()
        .filter(|file| file.path != "filter/src/host.rs")
        .filter(|file| {
            file.text.contains("wasm_import_module") || file.text.contains("unsafe extern \"C\" {")
        })
        .map(|file| file.path.clone())
        .collect();
    assert_none("only filter/src/host.rs declares hostcalls", violations);
    let host = read("filter/src/host.rs").expect("the host layer");
    assert!(host.contains("extern \"C\""), "filter/src/host.rs declares the hostcalls");
}

#[test]
fn filter_and_manager_do_not_see_each_other() {
    for (crate_, other) in
        [("filter", "manager"), ("manager", "filter"), ("gate", "manager"), ("gate", "filter")]
    {
        let manifest = read(&format!("{crate_}/Cargo.toml")).expect("a manifest");
        assert!(!manifest.lines().any(|line| line.starts_with(other)), "{crate_} does not depend on {other}");
    }
}

#[test]
fn models_know_no_database_server_or_runtime() {
    let mut violations = Vec::new();
    for file in sources("manager/src/").iter().filter(|file| file.path.ends_with("/model.rs")) {
        for banned in ["sqlx", "axum", "tokio"] {
            if file.text.contains(&format!("{banned}::")) {
                violations.push(format!("{} uses {banned}", file.path));
            }
        }
    }
    assert_none("model.rs files know neither sqlx, axum nor tokio", violations);
}

#[test]
fn sql_stands_in_stores_alone() {
    const STATEMENTS: [&str; 4] = ["SELECT ", "INSERT INTO ", "DELETE FROM ", " SET "];
    let mut violations = Vec::new();
    for file in sources("manager/src/") {
        if file.path.ends_with("/store.rs") || file.path == "manager/src/db.rs" {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            if STATEMENTS.iter().any(|statement| line.contains(statement)) || line.contains("sqlx::query") {
                violations.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("SQL stands only in store.rs and db.rs", violations);
}

#[test]
fn a_table_is_written_by_one_store() {
    let mut writers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources("manager/src/") {
        for statement in ["INSERT INTO ", "DELETE FROM ", "UPDATE "] {
            for (_, rest) in
                file.text.match_indices(statement).map(|(at, _)| file.text.split_at(at + statement.len()))
            {
                let table: String =
                    rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                // `FOR UPDATE`, `DO UPDATE SET` name no table.
                if !table.is_empty() {
                    writers.entry(table).or_default().insert(file.path.clone());
                }
            }
        }
    }
    assert!(writers.len() > 3, "the manager writes tables: {writers:?}");
    let violations = writers
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(table, files)| format!("{table}: {files:?}"))
        .collect();
    assert_none("a table is written by one store.rs", violations);
}

#[test]
fn capabilities_import_downwards() {
    let row = |name: &str| CAPABILITIES.iter().position(|row| row.contains(&name));
    let mut violations = Vec::new();
    for file in sources("manager/src/") {
        let mut parts = file.path.trim_start_matches("manager/src/").split('/');
        let (Some(own), Some(_)) = (parts.next(), parts.next()) else { continue };
        if PLATFORM.contains(&own) {
            continue;
        }
        let Some(own_row) = row(own) else {
            violations.push(format!("manager/src/{own} is in no row of this test and of ARCHITECTURE.md"));
            continue;
        };
        for (at, _) in file.text.match_indices("crate::") {
            let rest = &file.text[at + "crate::".len()..];
            let imported: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if let Some(other_row) = row(&imported)
                && imported != own
                && other_row >= own_row
            {
                violations.push(format!("{} imports crate::{imported}", file.path));
            }
        }
    }
    violations.dedup();
    assert_none("capabilities import downwards only", violations);
}

#[test]
fn routes_of_the_management_api_are_registered_with_their_description() {
    // Those who build an axum::Router of their own: probes, the page of mails, the gateway API, and who puts all together.
    const PLACES: [&str; 8] = [
        "manager/src/authorization/http.rs",
        "manager/src/credential_links/http.rs",
        "manager/src/decisions/gateway.rs",
        "manager/src/lib.rs",
        "manager/src/openapi/",
        "manager/src/serve.rs",
        "manager/src/feed/http.rs",
        "manager/src/testing.rs",
    ];
    let violations = sources("manager/src/")
        .iter()
        .filter(|file| !PLACES.iter().any(|place| file.path.starts_with(place)))
        .filter(|file| file.text.contains("axum::Router") || file.text.contains("axum::routing"))
        .map(|file| file.path.clone())
        .collect();
    assert_none("routes of the management API are registered in Routes alone", violations);
}

#[test]
fn ambient_time_and_chance_are_read_in_named_places() {
    // clippy.toml bans the calls; this is the list of those who may lift the ban.
    const PLACES: [&str; 7] = [
        "manager/src/clock.rs",
        "xtask/src/process.rs",
        "tests/e2e/",
        "tests/bench/",
        "tests/sim/",
        "manager/src/telemetry.rs",
        "manager/src/testing.rs",
    ];
    let violations = tidy::files()
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !file.path.starts_with("tests/tidy/"))
        .filter(|file| file.text.contains("clippy::disallowed_"))
        .filter(|file| !PLACES.iter().any(|place| file.path.starts_with(place)))
        .map(|file| file.path.clone())
        .collect();
    assert_none("the ambient clock and generator are read in named places alone", violations);
}
