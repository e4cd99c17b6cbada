//! Where the programs are that the harness starts. `cargo xtask` obtains them and says so in the
//! environment; run by hand, what it left below target/ is taken.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Envoy 1.40.
pub fn envoy() -> Result<PathBuf> {
    find("KEYGATE_E2E_ENVOY", "tools/envoy-1.40/envoy/_bin/envoy")
}

/// The shipped filter.
pub fn filter() -> Result<PathBuf> {
    find("KEYGATE_E2E_FILTER", "keygate.wasm")
}

/// The filter's variant that traps when a request tells it to.
pub fn trap_filter() -> Result<PathBuf> {
    find("KEYGATE_E2E_TRAP_FILTER", "keygate-trap.wasm")
}

/// The manager's program.
pub fn keygate() -> Result<PathBuf> {
    find("KEYGATE_E2E_MANAGER", "debug/keygate")
}

/// The folder of npm's `oidc-provider`.
pub fn oidc_provider() -> Result<PathBuf> {
    find("KEYGATE_E2E_OIDC_PROVIDER", "tools/oidc-provider")
}

/// A Python that has what `tests/e2e/independent_client` needs. (It is a link: followed, it has forgotten.)
pub fn independent_client() -> Result<PathBuf> {
    Ok(find("KEYGATE_E2E_INDEPENDENT_CLIENT", "tools/independent-client")?.join("bin/python"))
}

/// The script of axe-core, which finds what is wrong with a page for people with disabilities.
pub fn axe() -> Result<PathBuf> {
    Ok(find("KEYGATE_E2E_AXE", "tools/axe")?.join("node_modules/axe-core/axe.min.js"))
}

/// Chromium, which comes with the system.
pub fn chromium() -> Result<PathBuf> {
    const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    if let Some(own) = std::env::var_os("KEYGATE_E2E_CHROMIUM") {
        let own = PathBuf::from(own);
        if !own.is_file() {
            bail!("{}, which KEYGATE_E2E_CHROMIUM names, is not there", own.display());
        }
        return Ok(own);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let places = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|file| file.is_file()).context(
        "no Chromium is there for the test of the credentials page: apt-get install chromium    (Debian, as \
         root), or name one with KEYGATE_E2E_CHROMIUM",
    )
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn find(variable: &str, below_target: &str) -> Result<PathBuf> {
    let file = match std::env::var_os(variable) {
        Some(file) => PathBuf::from(file),
        None => match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => root().join(target).join(below_target),
            None => root().join("target").join(below_target),
        },
    };
    if !file.exists() {
        bail!(
            "{} is not there: run `cargo xtask test --only wasm,end-to-end`, or name it with {variable}",
            file.display()
        );
    }
    // Processes run in folders of their own.
    Ok(file.canonicalize()?)
}
