//! Processes that end when we end: each in a process group of its own, all stopped on Ctrl-C.

use std::fmt::Display;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long processes have between being asked to stop and being killed.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How often a waiting loop looks.
const POLL: Duration = Duration::from_millis(50);
/// Exit status after a signal: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Process groups that run at this moment.
static GROUPS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Folders to be removed when we end, however we end.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On Ctrl-C, SIGTERM or a closed terminal: stop every group that we started, then exit.
pub fn stop_everything_on_a_signal() -> Result<()> {
    ctrlc::set_handler(|| {
        let running = groups().clone();
        for group in &running {
            signal("TERM", *group);
        }
        let mut waited = Duration::ZERO;
        while waited < STOP_GRACE && running.iter().any(|group| is_alive(*group)) {
            std::thread::sleep(POLL);
            waited += POLL;
        }
        for group in &running {
            signal("KILL", *group);
        }
        for folder in &*FOLDERS.lock().unwrap_or_else(PoisonError::into_inner) {
            remove(folder);
        }
        std::process::exit(INTERRUPTED);
    })
    .context("set the handler of Ctrl-C")
}

/// The shell's own `kill`: neither unsafe code nor a package is needed for it.
fn signal(name: &str, group: u32) -> bool {
    Command::new("sh")
        .args(["-c", "kill -s \"$1\" -- \"-$2\"", "kill", name, &group.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn is_alive(group: u32) -> bool {
    signal("0", group)
}

/// A folder in the system's place for temporary files, removed when this value goes or a signal comes.
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes it; its name begins with `prefix`.
    pub fn new(prefix: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("{prefix}-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(folder.clone());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        remove(&self.0);
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != self.0);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        progress(format!("{} was not removed: {error}", folder.display()));
    }
}

/// A process that runs beside us and is stopped when this value goes.
pub struct Background {
    child: Child,
}

impl Background {
    /// Starts `command` in a process group of its own.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.process_group(0).spawn().with_context(|| not_started(command))?;
        groups().push(child.id());
        Ok(Self { child })
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("wait for a process")?.is_some())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let group = self.child.id();
        // INT is PostgreSQL's "fast shutdown"; for all others it is as good as TERM.
        signal("INT", group);
        let mut waited = Duration::ZERO;
        while waited < STOP_GRACE && !matches!(self.child.try_wait(), Ok(Some(_))) {
            std::thread::sleep(POLL);
            waited += POLL;
        }
        signal("KILL", group);
        // A killed child is reaped at once; nothing can be done if it is not.
        drop(self.child.wait());
        groups().retain(|other| *other != group);
    }
}

/// Runs to the end with our output; an unsuccessful end is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let mut child = command.process_group(0).spawn().with_context(|| not_started(command))?;
    let group = child.id();
    groups().push(group);
    let status = child.wait().context("wait for a process");
    groups().retain(|other| *other != group);
    let status = status?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// As [`run`], but killed after `limit`.
pub fn run_bounded(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = Background::spawn(command)?;
    let mut waited = Duration::ZERO;
    loop {
        if let Some(status) = child.child.try_wait().context("wait for a process")? {
            if status.success() {
                return Ok(());
            }
            bail!("`{}` ended with {status}", line(command));
        }
        if waited >= limit {
            bail!("`{}` was given up after {} s", line(command), limit.as_secs());
        }
        std::thread::sleep(POLL);
        waited += POLL;
    }
}

/// Runs to the end and returns what it printed, whatever its status.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| not_started(command))
}

/// Standard output of a command that succeeds, without white space at its ends.
pub fn text(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn not_started(command: &Command) -> String {
    format!("`{}` cannot be started: is {} installed?", line(command), command.get_program().display())
}

fn line(command: &Command) -> String {
    let mut line = command.get_program().display().to_string();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Where an executable of this name stands on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

/// A file that somebody may execute.
pub fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Says what happens now.
pub fn progress(what: impl Display) {
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1;34m==>\x1b[0m {what}");
    } else {
        eprintln!("==> {what}");
    }
}

/// Measures how long a stage of ours takes, for the eye alone.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins now.
    #[expect(clippy::disallowed_methods, reason = "nothing is decided by it: it is printed")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    // xtask/ is a folder of the root; where it was compiled is where it runs.
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// target/, wherever the user has put it.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The cargo that started us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
