//! Logs and metrics. Metrics are named counters: what may be a label is a name from the code or
//! a matched route, never something a caller chose, so their number is bounded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing_subscriber::EnvFilter;

/// Counters, by name and labels. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<String, u64>>>);

impl Metrics {
    /// Adds `n` to the counter `name{labels}`.
    pub fn add(&self, name: &str, labels: &[(&str, &str)], n: u64) {
        let mut key = String::from(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            key.push(if i == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            // Writing to a String cannot fail.
            let _ = write!(key, "{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            key.push('}');
        }
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = counters.entry(key).or_default();
        *counter = counter.saturating_add(n);
    }

    /// All counters in Prometheus' text format.
    pub fn render(&self) -> String {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let mut family = "";
        for (key, value) in counters.iter() {
            let name = key.split('{').next().unwrap_or(key);
            if name != family {
                let _ = writeln!(text, "# TYPE {name} counter");
                family = name;
            }
            let _ = writeln!(text, "{key} {value}");
        }
        text
    }
}

/// Measures how long something takes; decides nothing.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[expect(clippy::disallowed_methods, reason = "a duration for a metric, not a decision")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For collectors: one JSON object per line.
    Json,
}

/// Starts logging to standard error. `filter` is a level or a list of `target=level`.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| anyhow::anyhow!("log_filter = {filter:?} (KEYGATE_LOG_FILTER): {error}"))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("logging could not be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_under_their_labels() {
        let metrics = Metrics::default();
        metrics.add("a_total", &[("name", "x")], 1);
        metrics.add("a_total", &[("name", "x")], 2);
        metrics.add("a_total", &[("name", "q\"")], 1);
        metrics.add("b_total", &[], 4);
        assert_eq!(
            metrics.render(),
            "# TYPE a_total counter\na_total{name=\"q\\\"\"} 1\na_total{name=\"x\"} 3\n\
             # TYPE b_total counter\nb_total 4\n"
        );
    }
}
