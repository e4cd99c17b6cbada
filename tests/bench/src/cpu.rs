//! What the kernel says a thread has run.

use anyhow::{Context, Result};

/// Nanoseconds that the one worker of this Envoy has run.
pub fn worker_ns(process: u32) -> Result<u64> {
    let tasks = format!("/proc/{process}/task");
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
    anyhow::bail!("Envoy {process} has no thread named wrk:worker_0")
}
