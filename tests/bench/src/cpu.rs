//! What the kernel says of how long a thread or process has run.

use anyhow::{Context, Result, bail};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Nanoseconds that the one worker of this Envoy has run.
pub fn worker_ns(envoy: u32) -> Result<u64> {
    let tasks = format!("/proc/{envoy}/task");
    for task in std::fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))? {
        let task = task?.path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        if name.starts_with("wrk:worker_0") {
            let file = task.join("schedstat");
            let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let run = text.split_ascii_whitespace().next().and_then(|ns| ns.parse().ok());
            return run.with_context(|| format!("{} begins with no number", file.display()));
        }
    }
    bail!("Envoy {envoy} has no thread named wrk:worker_0")
}

/// Nanoseconds that all threads of this process have run, those that ended too.
pub fn process_ns(process: u32) -> Result<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(process)?));
    let run = clock_gettime(clock.with_context(|| format!("process {process} has no clock"))?)?;
    u64::try_from(run.tv_sec() * 1_000_000_000 + run.tv_nsec()).context("a time before the process began")
}
