//! The management API held against its own description: schemathesis on the running manager.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, cargo, on_path, progress, root, target};
use crate::tools;

/// Examples per operation and phase, where the variable names no other number. 200 are a deep search.
const EXAMPLES: &str = "15";
/// How deep to search.
const EXAMPLES_VARIABLE: &str = "KEYGATE_TEST_API_EXAMPLES";

/// On SQLite and on PostgreSQL, as the administrator and as an operator without any role.
pub fn test(postgres_url: &str) -> Result<()> {
    let python = environment()?;
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

/// The Python of an environment that has what the run needs, made once for each list of it.
fn environment() -> Result<PathBuf> {
    let folder = tools::folder("api")?;
    let python = folder.join("bin/python");
    let wanted = root().join("tests/api/requirements.txt");
    let installed = folder.join("requirements.txt");
    let list = std::fs::read(&wanted).with_context(|| format!("read {}", wanted.display()))?;
    if std::fs::read(&installed).is_ok_and(|there| there == list) && python.exists() {
        return Ok(python);
    }
    if on_path("python3").is_none() {
        bail!("the API is tested by a Python program: apt-get install python3 python3-venv");
    }
    progress("Installing schemathesis below target/tools");
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("make an environment for Python: apt-get install python3-venv")?;
    process::run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&wanted),
    )?;
    // Last: an installation that was broken off is made anew.
    std::fs::write(&installed, list).with_context(|| format!("write {}", installed.display()))?;
    Ok(python)
}
