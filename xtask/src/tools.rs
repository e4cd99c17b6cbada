//! What is fetched from package registries, below target/tools and without root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, cargo, is_executable, on_path, progress, root, target};

/// target/tools/<name>, made if it is not there.
pub fn folder(name: &str) -> Result<PathBuf> {
    let folder = target().join("tools").join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// Unpacks a wheel and nothing that it depends on into `folder`, with pip or uv.
pub fn install_wheel(requirement: &str, folder: &Path) -> Result<()> {
    let mut failures = Vec::new();
    let pip = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--root-user-action=ignore"];
    let ways: [(&str, &[&str], &[&str]); 4] = [
        ("python3", &["-m", "pip", "install"], &pip),
        ("pip3", &["install"], &pip),
        ("pip", &["install"], &pip),
        ("uv", &["pip", "install", "--quiet"], &[]),
    ];
    for (program, subcommand, options) in ways {
        if on_path(program).is_none() {
            continue;
        }
        let mut command = Command::new(program);
        command
            .args(subcommand)
            .args(options)
            .args(["--no-deps", "--upgrade", "--target"])
            .arg(folder)
            .arg(requirement);
        match process::run(&mut command) {
            Ok(()) => return Ok(()),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if failures.is_empty() {
        bail!(
            "{requirement} is fetched with pip or uv, and neither is here: install one (apt-get install python3-pip)"
        );
    }
    bail!("{requirement} could not be fetched:\n  - {}", failures.join("\n  - "))
}

/// Unpacks an npm package with its install script into `folder`/node_modules.
pub fn install_npm(package: &str, folder: &Path) -> Result<()> {
    if on_path("npm").is_none() {
        bail!("npm is not installed");
    }
    process::run(
        Command::new("npm")
            .args(["install", "--silent", "--no-save", "--no-audit", "--no-fund", "--prefix"])
            .arg(folder)
            .arg(package),
    )
}

/// An OpenID provider that is not ours, for the end-to-end tests; fetched once.
pub fn oidc_provider() -> Result<PathBuf> {
    const PACKAGE: &str = "oidc-provider@9.13.3";
    if on_path("node").is_none() {
        bail!(
            "the OpenID provider of the end-to-end tests runs in node, which is not here: apt-get install nodejs"
        );
    }
    let folder = folder("oidc-provider")?;
    if !folder.join("node_modules/oidc-provider/package.json").is_file() {
        progress("Fetching an OpenID provider for tests (npm package oidc-provider)");
        install_npm(PACKAGE, &folder)?;
    }
    Ok(folder)
}

/// What the end-to-end tests hold our pages against; fetched once.
pub fn axe() -> Result<PathBuf> {
    const PACKAGE: &str = "axe-core@4.14.1";
    let folder = folder("axe")?;
    if !folder.join("node_modules/axe-core/axe.min.js").is_file() {
        progress("Fetching a checker of accessibility for tests (npm package axe-core)");
        install_npm(PACKAGE, &folder)?;
    }
    Ok(folder)
}

/// The OAuth client that is not ours, for the end-to-end tests.
pub fn independent_client() -> Result<PathBuf> {
    python("independent-client", "tests/e2e/independent_client/requirements.txt")
}

/// The folder of a Python below target/tools that has what the list of the repository names, made once for
/// each state of it.
pub fn python(name: &str, list: &str) -> Result<PathBuf> {
    let folder = folder(name)?;
    let python = folder.join("bin/python");
    let wanted = root().join(list);
    let installed = folder.join("requirements.txt");
    let list = std::fs::read(&wanted).with_context(|| format!("read {}", wanted.display()))?;
    if std::fs::read(&installed).is_ok_and(|there| there == list) && python.exists() {
        return Ok(folder);
    }
    if on_path("python3").is_none() {
        bail!("tests run programs in Python: apt-get install python3 python3-venv");
    }
    progress(format!("Installing Python's packages of {} below target/tools", wanted.display()));
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("make an environment for Python: apt-get install python3-venv")?;
    process::run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&wanted),
    )?;
    // Last: an installation that was broken off is made anew.
    std::fs::write(&installed, list).with_context(|| format!("write {}", installed.display()))?;
    Ok(folder)
}

/// Wheels and packages do not all keep the mode.
pub fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", file.display()))
}

/// The program that runs wasm tests, in exactly the version that the tests are linked to.
pub fn wasm_test_runner() -> Result<PathBuf> {
    let version = locked_version("wasm-bindgen")?;
    let own = target().join("tools/bin/wasm-bindgen-test-runner");
    for runner in [Some(own.clone()), on_path("wasm-bindgen-test-runner")].into_iter().flatten() {
        let told = process::text(Command::new(&runner).arg("--version")).unwrap_or_default();
        if told.split_whitespace().nth(1) == Some(version.as_str()) {
            return Ok(runner);
        }
    }
    if on_path("node").is_none() {
        bail!("tests on wasm32 run in node, which is not here: apt-get install nodejs");
    }
    progress(format!("Installing wasm-bindgen-cli {version} below target/tools (2-3 minutes, once)"));
    let install = |lock: &[&str]| {
        let mut command = cargo();
        command.args(["install", "--quiet", "wasm-bindgen-cli", "--version", &version]).args(lock);
        command.arg("--root").arg(target().join("tools"));
        process::run(command.arg("--target-dir").arg(target().join("tools/build")))
    };
    if install(&["--locked"]).is_err() {
        // A registry's mirror may lack the very versions of its lock file.
        progress("Trying again with the newest versions of its dependencies");
        install(&[])?;
    }
    // A gigabyte that nobody needs again.
    drop(std::fs::remove_dir_all(target().join("tools/build")));
    if !is_executable(&own) {
        bail!("`cargo install wasm-bindgen-cli` left no {}", own.display());
    }
    Ok(own)
}

/// The version of a package in Cargo.lock.
fn locked_version(package: &str) -> Result<String> {
    let file = root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let entry = lock
        .split("[[package]]")
        .find(|entry| entry.lines().any(|line| line == format!("name = \"{package}\"")))
        .with_context(|| format!("Cargo.lock has no {package}"))?;
    let version = entry.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    Ok(version.with_context(|| format!("Cargo.lock: {package} without a version"))?.to_owned())
}

/// Binaryen's optimiser: the system's, else the one of the npm package, fetched once. None where
/// neither is to be had.
pub fn wasm_opt() -> Option<PathBuf> {
    if let Some(own) = on_path("wasm-opt") {
        return Some(own);
    }
    let folder = folder("binaryen").ok()?;
    let fetched = folder.join("node_modules/.bin/wasm-opt");
    if !fetched.exists() {
        on_path("npm")?;
        progress("Fetching wasm-opt (npm package binaryen)");
        install_npm("binaryen@123.0.0", &folder).ok()?;
    }
    fetched.exists().then_some(fetched)
}
