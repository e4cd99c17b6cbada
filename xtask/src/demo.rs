//! Builds what the demo needs and hands over to it (`tests/e2e/src/bin/demo.rs`).

use anyhow::Result;

use crate::process::{self, cargo, progress};
use crate::{envoy, wasm};

/// Builds and plays; `once`: exits with its status.
pub fn run(once: bool) -> Result<()> {
    progress("Building from a fresh clone takes a few minutes; later runs take seconds");
    let filter = wasm::build(None, wasm::Variant::Shipped)?;
    let envoy = envoy::obtain()?;
    progress("Building the manager (keygate) and the demo");
    process::run(cargo().args(["build", "--quiet", "--package", "manager", "--package", "e2e", "--bins"]))?;
    let mut demo = cargo();
    demo.args(["run", "--quiet", "--package", "e2e", "--bin", "demo", "--"]);
    if once {
        demo.arg("--once");
    }
    process::run(demo.env("KEYGATE_E2E_FILTER", filter).env("KEYGATE_E2E_ENVOY", envoy))
}
