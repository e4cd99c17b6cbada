//! The management API held against its own description: schemathesis on the running manager.

use std::process::Command;

use anyhow::Result;

use crate::process::{self, cargo, progress, root, target};
use crate::tools;

/// Examples per operation and phase, where the variable names no other number. 200 are a deep search.
const EXAMPLES: &str = "15";
/// How deep to search.
const EXAMPLES_VARIABLE: &str = "KEYGATE_TEST_API_EXAMPLES";

/// On SQLite and on PostgreSQL, as the administrator and as an operator without any role.
pub fn test(postgres_url: &str) -> Result<()> {
    let python = tools::python("api", "tests/api/requirements.txt")?.join("bin/python");
    progress("Building the manager (keygate)");
    process::run(cargo().args(["build", "--quiet", "--package", "manager", "--bins"]))?;
    let examples = std::env::var(EXAMPLES_VARIABLE).unwrap_or_else(|_| EXAMPLES.into());
    process::run(
        Command::new(python)
            .arg(root().join("tests/api/run.py"))
            .arg("--manager")
            .arg(target().join("debug/keygate"))
            .args(["--postgres", postgres_url, "--examples", &examples]),
    )
}
