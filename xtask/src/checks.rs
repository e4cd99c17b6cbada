//! What `.ci/run` checks, stage by stage, the cheap ones first.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::postgres::{Postgres, URL_VARIABLE};
use crate::process::{self, Stopwatch, cargo, progress, root};
use crate::{api, envoy, tools, wasm};

/// One part of the full run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// rustfmt.
    Format,
    /// clippy over everything, warnings are errors.
    Lint,
    /// The gate natively: vectors, tables, properties, golden files.
    Gate,
    /// The filter's own tests.
    Filter,
    /// The gate on wasm32.
    GateWasm,
    /// The lease protocol and the gates in simulated time, with seeds.
    Simulation,
    /// The manager on SQLite and PostgreSQL.
    Manager,
    /// The management API as it runs against its description.
    Api,
    /// The filter as shipped and as trapping variant.
    Wasm,
    /// The repository's own rules; reads the shipped filter.
    Tidy,
    /// The real Envoy, the real manager, a real mail conversation, a real browser.
    EndToEnd,
    /// The demo with `--once`.
    Demo,
    /// That the benchmarks compile.
    Bench,
}

/// The quick run leaves out what compiles a second time or starts an Envoy.
const QUICK: [Stage; 5] = [Stage::Format, Stage::Gate, Stage::Simulation, Stage::Manager, Stage::Tidy];

/// Runs the stages in order and stops at the first that fails.
pub fn run(quick: bool, only: &[Stage]) -> Result<()> {
    let stages: Vec<Stage> = Stage::value_variants()
        .iter()
        .copied()
        .filter(|stage| if only.is_empty() { !quick || QUICK.contains(stage) } else { only.contains(stage) })
        .collect();
    let mut provisions = Provisions::default();
    let total = Stopwatch::start();
    let mut summary = Vec::new();
    for stage in stages {
        let name = name(stage);
        progress(format!("Stage {name}"));
        let clock = Stopwatch::start();
        let result = stage_run(stage, quick, &mut provisions);
        summary.push(format!("{:>8.1} s  {name}", clock.seconds()));
        if let Err(error) = result {
            bail!("stage {name} failed: {error:#}\nRun it alone: cargo xtask test --only {name}");
        }
    }
    progress(format!("All stages passed in {:.0} s:\n{}", total.seconds(), summary.join("\n")));
    Ok(())
}

/// Runs the benchmarks, optimised.
pub fn bench(arguments: &[String]) -> Result<()> {
    let filter = wasm::build(None, wasm::Variant::Shipped)?;
    let baseline = wasm::build(None, wasm::Variant::SdkBaseline)?;
    let continue_only = wasm::build(None, wasm::Variant::ContinueOnly)?;
    let envoy = envoy::obtain()?;
    progress("Building the manager (keygate), optimised");
    process::run(cargo().args(["build", "--quiet", "--release", "--package", "manager", "--bins"]))?;
    process::run(
        cargo()
            .args(["run", "--quiet", "--release", "--package", "bench", "--"])
            .args(arguments)
            .env("KEYGATE_E2E_FILTER", filter)
            .env("KEYGATE_E2E_MANAGER", process::target().join("release/keygate"))
            .env("KEYGATE_BENCH_SDK_BASELINE", baseline)
            .env("KEYGATE_BENCH_CONTINUE_ONLY", continue_only)
            .env("KEYGATE_E2E_ENVOY", envoy),
    )
}

/// What several stages share, obtained when the first one needs it.
#[derive(Default)]
struct Provisions {
    postgres: Option<Postgres>,
    filter: Option<PathBuf>,
    trap: Option<PathBuf>,
}

impl Provisions {
    fn postgres_url(&mut self) -> Result<String> {
        if let Ok(own) = std::env::var(URL_VARIABLE) {
            return Ok(own);
        }
        if self.postgres.is_none() {
            self.postgres = Some(Postgres::start(None)?);
        }
        Ok(self.postgres.as_ref().map(|postgres| postgres.url.clone()).unwrap_or_default())
    }

    fn filter(&mut self) -> Result<PathBuf> {
        obtained(&mut self.filter, wasm::Variant::Shipped)
    }

    fn trap(&mut self) -> Result<PathBuf> {
        obtained(&mut self.trap, wasm::Variant::Trap)
    }
}

fn obtained(place: &mut Option<PathBuf>, variant: wasm::Variant) -> Result<PathBuf> {
    if let Some(built) = place {
        return Ok(built.clone());
    }
    let built = wasm::build(None, variant)?;
    *place = Some(built.clone());
    Ok(built)
}

/// Plays new seeds of the simulation on every core.
pub fn search(hours: f64, from: u64) -> Result<()> {
    if !(hours > 0.0 && hours <= 10_000.0) {
        bail!("--hours {hours}: more than 0 and at most 10000");
    }
    let seconds = ((hours * 3_600.0).ceil() as u64).to_string();
    let from = from.to_string();
    let arguments = ["run", "--quiet", "--release", "--package", "sim", "--", "search", &seconds, &from];
    process::run(cargo().args(arguments))
}

/// Plays rounds of mishaps on the real thing.
pub fn chaos(rounds: u64, seed: u64) -> Result<()> {
    let mut provisions = Provisions::default();
    let mut environment = end_to_end(&mut provisions)?;
    environment.push(("KEYGATE_E2E_CHAOS_ROUNDS", rounds.to_string()));
    environment.push(("KEYGATE_E2E_CHAOS_SEED", seed.to_string()));
    shown(&["--test", "chaos", "--", "--nocapture"], &environment)
}

/// Runs the end-to-end measurements in their long form, one after the other.
pub fn measure(only: &str) -> Result<()> {
    let mut provisions = Provisions::default();
    let mut environment = end_to_end(&mut provisions)?;
    environment.push(("KEYGATE_E2E_MEASURE", "1".to_owned()));
    let tests =
        ["--test", "revocation", "--test", "flood", "--test", "node_sharing", "--test", "token_memory"];
    let how = ["--", "--nocapture", "--test-threads", "1", only];
    shown(&[tests.as_slice(), how.as_slice()].concat(), &environment)
}

fn shown(arguments: &[&str], environment: &[(&str, String)]) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--package", "e2e"]).args(arguments);
    process::run(command.envs(environment.iter().map(|(name, value)| (name, value))))
}

/// What end-to-end tests run on, built and obtained; the variables that tell them where it is.
fn end_to_end(provisions: &mut Provisions) -> Result<Vec<(&'static str, String)>> {
    let envoy = envoy::obtain()?;
    progress("Building the manager (keygate)");
    process::run(cargo().args(["build", "--quiet", "--package", "manager", "--bins"]))?;
    Ok(vec![
        ("KEYGATE_E2E_ENVOY", envoy.display().to_string()),
        ("KEYGATE_E2E_AXE", tools::axe()?.display().to_string()),
        ("KEYGATE_E2E_INDEPENDENT_CLIENT", tools::independent_client()?.display().to_string()),
        ("KEYGATE_E2E_OIDC_PROVIDER", tools::oidc_provider()?.display().to_string()),
        ("KEYGATE_E2E_FILTER", provisions.filter()?.display().to_string()),
        ("KEYGATE_E2E_TRAP_FILTER", provisions.trap()?.display().to_string()),
        (URL_VARIABLE, provisions.postgres_url()?),
    ])
}

fn name(stage: Stage) -> String {
    stage.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn stage_run(stage: Stage, quick: bool, provisions: &mut Provisions) -> Result<()> {
    match stage {
        Stage::Format => process::run(cargo().args(["fmt", "--all", "--check"])),
        Stage::Lint => process::run(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])),
        Stage::Gate => test("gate", &[]),
        Stage::Filter => test("filter", &[]),
        Stage::GateWasm => gate_on_wasm(),
        Stage::Simulation => test("sim", &[]),
        Stage::Manager => test("manager", &[(URL_VARIABLE, provisions.postgres_url()?)]),
        Stage::Api => api::test(&provisions.postgres_url()?),
        Stage::Wasm => {
            provisions.filter()?;
            provisions.trap().map(drop)
        }
        Stage::Tidy => {
            // The quick run reads the filter that was built last, if there is one.
            if !quick {
                provisions.filter()?;
            }
            test("tidy", &[])
        }
        Stage::EndToEnd => test("e2e", &end_to_end(provisions)?),
        Stage::Demo => crate::demo::run(true),
        Stage::Bench => {
            process::run(cargo().args(["check", "--quiet", "--package", "bench", "--all-targets"]))
        }
    }
}

fn test(package: &str, environment: &[(&str, String)]) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--package", package]);
    for (name, value) in environment {
        command.env(name, value);
    }
    process::run(&mut command)
}

/// Vectors and tables once more where they will run. (Doctests cannot run there.)
fn gate_on_wasm() -> Result<()> {
    let runner = tools::wasm_test_runner()?;
    let mut command: Command = wasm::find(None)?.cargo("test");
    command.args(["--package", "gate", "--lib", "--tests", "--target-dir"]);
    command.arg(process::target().join("wasm-tests"));
    process::run(command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner).current_dir(root()))
}
