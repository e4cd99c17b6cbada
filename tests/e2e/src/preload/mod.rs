//! Small libraries in C that are loaded before the C library, so that an unchanged manager lives on
//! another day (`clock_shift`), dies at a commit (`kill_at_commit`) or has no room left (`full_disk`), and it
//! or an unchanged Envoy in a hurry (`clock_haste`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::provision;

static COMPILED: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());

/// `<name>.c` of this folder, compiled once in each process with the C compiler that Rust links with.
pub fn library(name: &'static str) -> Result<PathBuf> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = compiled.get(name) {
        return Ok(library.clone());
    }
    let library = std::env::temp_dir().join(format!("keygate-{name}-{}.so", std::process::id()));
    let source = provision::root().join(format!("tests/e2e/src/preload/{name}.c"));
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    let status =
        compiler.status().with_context(|| format!("compile {name}.c: is there a C compiler `cc`?"))?;
    ensure!(status.success(), "{name}.c does not compile");
    compiled.insert(name, library.clone());
    Ok(library)
}
