//! The filter as WebAssembly, with the first toolchain that can build it:
//! an installed rustup target, `rustup target add`, Debian's rustc with its sources.
//! (Why three: docs/decisions/0002-wasm-toolchain.md.)

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::process::{self, cargo, is_executable, on_path, progress, root, target};
use crate::tools;

const TARGET: &str = "wasm32-unknown-unknown";
/// How long a download of rustup's target may take before the next way is tried.
const TARGET_ADD_LIMIT: Duration = Duration::from_secs(90);
/// What makes a built filter smaller still.
const BINARYEN_INSTALL: &str = "apt-get install binaryen";
/// What a Debian needs when rustup has nothing for us.
const DEBIAN_INSTALL: &str = "apt-get install rustc-web cargo-web rust-web-src";
/// The most that the filter may weigh (docs/decisions/0001-raw-abi.md says what it is made of).
const SIZE_BUDGET_KIB: u64 = 400;

/// A way to compile for wasm32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// rustup's target for the toolchain of rust-toolchain.toml.
    Rustup,
    /// /usr/bin/rustc and the standard library's sources below /usr/src, as Debian packages them.
    Debian,
}

/// What is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// What operators get.
    Shipped,
    /// With the feature `trap`: a header of the request makes the VM trap. For tests alone.
    Trap,
    /// The minimal filter on the SDK that benchmarks compare with.
    SdkBaseline,
    /// The filter on the raw ABI that lets everything pass, likewise.
    ContinueOnly,
}

impl Variant {
    /// Where the file goes.
    pub fn path(self) -> PathBuf {
        target().join(match self {
            Self::Shipped => "keygate.wasm",
            Self::Trap => "keygate-trap.wasm",
            Self::SdkBaseline => "sdk-baseline.wasm",
            Self::ContinueOnly => "continue-only.wasm",
        })
    }
}

/// A toolchain that was found to work.
pub enum Toolchain {
    /// Its target is installed.
    Rustup,
    /// Builds the standard library along.
    Debian {
        /// Speaks wasm.
        linker: PathBuf,
    },
}

/// Builds the filter and says how large it is.
pub fn build(source: Option<Source>, variant: Variant) -> Result<PathBuf> {
    let toolchain = find(source)?;
    // Folders of their own: two builds of the same package would overwrite each other's file.
    let (says, package, library, features, from) = match variant {
        Variant::Shipped => ("the filter", "filter", "keygate_filter", None, "wasm"),
        Variant::Trap => {
            ("the filter's variant for tests", "filter", "keygate_filter", Some("trap"), "wasm-trap")
        }
        Variant::SdkBaseline => {
            ("the filter to measure against", "sdk-baseline", "sdk_baseline", None, "wasm-sdk")
        }
        Variant::ContinueOnly => {
            ("the filter that does nothing", "continue-only", "continue_only", None, "wasm-continue")
        }
    };
    let from = target().join(from);
    progress(format!("Building {says} ({})", variant.path().display()));
    let mut command = toolchain.cargo("build");
    command.args(["--quiet", "--package", package, "--lib", "--profile", "wasm", "--target-dir"]).arg(&from);
    if let Some(features) = features {
        command.args(["--features", features]);
    }
    process::run(&mut command)?;

    let built = from.join(TARGET).join("wasm").join(format!("{library}.wasm"));
    let file = variant.path();
    let shrunk = shrink(&built, &file)?;
    if !shrunk {
        std::fs::copy(&built, &file)
            .with_context(|| format!("copy {} to {}", built.display(), file.display()))?;
    }
    let bytes = std::fs::metadata(&file)?.len();
    let kib = bytes.div_ceil(1024);
    progress(format!("{}: {bytes} bytes ({kib} KiB of at most {SIZE_BUDGET_KIB})", file.display()));
    match (shrunk, kib > SIZE_BUDGET_KIB) {
        (_, false) => {}
        (true, true) => bail!("{} is over its budget of {SIZE_BUDGET_KIB} KiB", file.display()),
        (false, true) => progress("It is larger than what we ship: without wasm-opt"),
    }
    Ok(file)
}

/// Has `wasm-opt` write `built` smaller to `file`, if there is one.
fn shrink(built: &Path, file: &Path) -> Result<bool> {
    let Some(wasm_opt) = tools::wasm_opt() else {
        progress(format!("No wasm-opt here: the file stays as compiled ({BINARYEN_INSTALL})"));
        return Ok(false);
    };
    // What the compiler's own output uses, and V8 takes.
    let features = [
        "bulk-memory",
        "sign-ext",
        "mutable-globals",
        "nontrapping-float-to-int",
        "multivalue",
        "reference-types",
    ];
    let mut command = Command::new(wasm_opt);
    // Functions that differ in constants become one; flattened, it finds more that is the same.
    command
        .args(["--merge-similar-functions", "--flatten", "--rereloop", "-Oz", "-Oz", "--converge"])
        .args(["--strip-producers", "--strip-target-features", "--vacuum"])
        .args(["--remove-unused-module-elements", "--reorder-functions"])
        .args(features.map(|feature| format!("--enable-{feature}")));
    process::run(command.arg(built).arg("-o").arg(file))?;
    Ok(true)
}

/// The first toolchain that works, or the wanted one.
pub fn find(source: Option<Source>) -> Result<Toolchain> {
    let ways: &[Source] = match &source {
        Some(wanted) => std::slice::from_ref(wanted),
        None => &[Source::Rustup, Source::Debian],
    };
    let mut failures = Vec::new();
    for way in ways {
        match way {
            Source::Rustup => match rustup() {
                Ok(()) => return Ok(Toolchain::Rustup),
                Err(error) => failures.push(format!("rustup: {error:#}")),
            },
            Source::Debian => match debian_linker() {
                Ok(linker) => return Ok(Toolchain::Debian { linker }),
                Err(error) => failures.push(format!("Debian's rustc: {error:#}")),
            },
        }
    }
    bail!(
        "no toolchain here can compile for {TARGET}:\n  - {}\n\
         Install one of them:\n    rustup target add {TARGET}\n    {DEBIAN_INSTALL}    (Debian, as root)",
        failures.join("\n  - ")
    )
}

impl Toolchain {
    /// `cargo <subcommand> --target wasm32-unknown-unknown`.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut flags = remapped(&root(), "keygate");
        if let Some(home) = cargo_home() {
            flags.extend(remapped(&home, "cargo"));
        }
        let mut command = match self {
            Self::Rustup => {
                let mut command = cargo();
                command.arg(subcommand);
                command
            }
            Self::Debian { linker } => {
                let mut command = Command::new("/usr/bin/cargo");
                command.current_dir(root());
                // What the cargo that started us has set would lead back to its own toolchain.
                for (name, _) in std::env::vars_os() {
                    if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG") || n.starts_with("RUSTUP_")) {
                        command.env_remove(&name);
                    }
                }
                command.env_remove("CARGO").env_remove("RUSTDOC");
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc");
                // -Zbuild-std is unstable; this lets the stable compiler take it.
                command.env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                command.args([subcommand, "-Zbuild-std=std,panic_abort"]);
                if subcommand == "build" {
                    // A panic ends the VM whatever it would have said; tests want to hear it.
                    command.arg("-Zbuild-std-features=optimize_for_size");
                    flags.extend(["-Zunstable-options", "-Cpanic=immediate-abort"].map(str::to_owned));
                }
                flags.extend(remapped(Path::new("/usr/src"), "rustc"));
                command
            }
        };
        command.args(["--target", TARGET]);
        // Neither this machine's paths in the file, nor the user's own flags for other targets.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f").as_str());
        command
    }
}

fn remapped(from: &Path, to: &str) -> Vec<String> {
    vec!["--remap-path-prefix".to_owned(), format!("{}={to}", from.display())]
}

fn cargo_home() -> Option<PathBuf> {
    let own: Option<OsString> = std::env::var_os("CARGO_HOME");
    match own {
        Some(home) => Some(home.into()),
        None => std::env::home_dir().map(|home| home.join(".cargo")),
    }
}

/// Installs the target if it is missing.
fn rustup() -> Result<()> {
    if on_path("rustup").is_none() {
        // A toolchain without rustup may have the target all the same.
        return if has_std(&PathBuf::from(process::text(Command::new("rustc").args(["--print", "sysroot"]))?))
        {
            Ok(())
        } else {
            bail!("rustup is not installed and rustc has no {TARGET}")
        };
    }
    if has_std(&rustup_sysroot()?) {
        return Ok(());
    }
    progress(format!("Adding rustup's {TARGET} (at most {} s)", TARGET_ADD_LIMIT.as_secs()));
    process::run_bounded(
        Command::new("rustup")
            .args(["target", "add", TARGET])
            .current_dir(root())
            .env("RUSTUP_MAX_RETRIES", "1"),
        TARGET_ADD_LIMIT,
    )?;
    if has_std(&rustup_sysroot()?) { Ok(()) } else { bail!("`rustup target add {TARGET}` left no {TARGET}") }
}

fn rustup_sysroot() -> Result<PathBuf> {
    Ok(process::text(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()))?.into())
}

fn has_std(sysroot: &Path) -> bool {
    let folder = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    std::fs::read_dir(folder).is_ok_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

/// Debian's compiler with its sources, and a linker for it.
fn debian_linker() -> Result<PathBuf> {
    for program in ["/usr/bin/cargo", "/usr/bin/rustc"] {
        if !is_executable(Path::new(program)) {
            bail!("{program} is missing");
        }
    }
    let sysroot = PathBuf::from(process::text(
        Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN"),
    )?);
    if !sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
        bail!("the standard library's sources are missing below {}", sysroot.display());
    }
    linkers().into_iter().find(|linker| runs(linker)).context("no wasm linker (rust-lld, wasm-ld) was found")
}

/// In the order of preference; Debian's own `rust-lld` may be a link to a package that is not there.
fn linkers() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["rust-lld", "wasm-ld", "wasm-ld-22", "wasm-ld-21", "wasm-ld-20"]
        .iter()
        .filter_map(|name| on_path(name))
        .collect();
    if let Ok(sysroot) = rustup_sysroot()
        && let Ok(hosts) = std::fs::read_dir(sysroot.join("lib/rustlib"))
    {
        found.extend(hosts.flatten().map(|host| host.path().join("bin/rust-lld")));
    }
    found.into_iter().filter(|linker| is_executable(linker)).collect()
}

fn runs(linker: &Path) -> bool {
    // rust-lld wants to be told which linker it is.
    let mut command = Command::new(linker);
    if linker.file_name().is_some_and(|name| name == "rust-lld") {
        command.args(["-flavor", "wasm"]);
    }
    process::text(command.arg("--version")).is_ok()
}
