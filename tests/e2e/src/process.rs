//! Processes that die with us, however we die.
//!
//! Each runs in a process group of its own. A guard process (a few lines of `sh`) is told of every
//! group; when its standard input ends, because we ended or were killed, it kills those that are left.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait;

/// How long a process may take to stop when asked.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Lines of a log that an error shows.
const LOG_TAIL: usize = 40;

/// Reads `+ <group>` and `- <group>`; kills what is left at the end.
const GUARD: &str = r#"
trap '' INT TERM HUP
groups=' '
while read -r sign group; do
    case $sign in
        +) groups="$groups$group " ;;
        -) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

static GUARDIAN: LazyLock<Mutex<Option<ChildStdin>>> = LazyLock::new(|| {
    let started = Command::new("sh")
        .args(["-c", GUARD])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Mutex::new(started.ok().and_then(|mut guard| guard.stdin.take()))
});

fn tell_guardian(sign: char, group: u32) -> Result<()> {
    let mut guardian = GUARDIAN.lock().unwrap_or_else(PoisonError::into_inner);
    let stdin = guardian.as_mut().context("the guard process did not start: is there a `sh`?")?;
    writeln!(stdin, "{sign} {group}").context("tell the guard process")
}

/// A running program. Dropped: killed.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, its output going to `log`.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = log_file(log)?;
        Self::started(name, command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file), log)
    }

    /// As [`Process::spawn`], its input and output ours, only what it complains of going to `log`.
    pub fn spawn_led(
        name: &str,
        command: &mut Command,
        log: &Path,
    ) -> Result<(Self, ChildStdin, ChildStdout)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file(log)?);
        let mut process = Self::started(name, command, log)?;
        let input = process.child.stdin.take().context("a pipe to the process")?;
        let output = process.child.stdout.take().context("a pipe from the process")?;
        Ok((process, input, output))
    }

    fn started(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name} ({})", command.get_program().display()))?;
        let process = Self { name: name.to_owned(), child, log: log.to_owned() };
        tell_guardian('+', process.id())?;
        Ok(process)
    }

    /// Its process id, which is its group's too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log if it runs no longer.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("wait for a process")? {
            bail!("{} has ended with {status}:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        signal("TERM", self.id());
        let started = wait::now();
        while self.child.try_wait().context("wait for a process")?.is_none() {
            if started.elapsed() > STOP_LIMIT {
                bail!("{} does not stop:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Kills it at once, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    /// Freezes it: its connections stay open and nothing is answered.
    pub fn freeze(&self) {
        signal("STOP", self.id());
    }

    /// Ends [`Process::freeze`].
    pub fn thaw(&self) {
        signal("CONT", self.id());
    }

    /// All that it has written.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines that it has written.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default().join("\n")
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).context("read /proc")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = self.id();
        signal("KILL", group);
        // Reaped at once; the guard must not hit a later process of the same number.
        drop(self.child.wait());
        drop(tell_guardian('-', group));
    }
}

fn log_file(log: &Path) -> Result<std::fs::File> {
    let file = std::fs::File::options().create(true).append(true).open(log);
    file.with_context(|| format!("open {}", log.display()))
}

/// The shell's own `kill`: neither unsafe code nor a package is needed for it.
fn signal(name: &str, group: u32) {
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$1\" -- \"-$2\"", "kill", name, &group.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // A process that has ended already is none to signal.
    drop(sent);
}
