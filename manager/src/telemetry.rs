//! Logs and metrics. Metrics are named counters and histograms of durations: what may be a label is a
//! name from the code or a matched route, never something a caller chose, so their number is bounded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing_subscriber::EnvFilter;

/// Ends of a histogram's buckets, in microseconds.
const BUCKETS_US: [u64; 12] =
    [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000];

/// Counters and histograms, by name and labels. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    counters: Arc<Mutex<BTreeMap<String, u64>>>,
    histograms: Arc<Mutex<BTreeMap<&'static str, Histogram>>>,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    /// How many took no longer than the end of each bucket.
    within: [u64; BUCKETS_US.len()],
    count: u64,
    sum_us: u64,
}

/// One line of Prometheus' text format begins with this: the name and its labels.
pub fn series(name: &str, labels: &[(&str, &str)]) -> String {
    let mut series = String::from(name);
    for (i, (label, value)) in labels.iter().enumerate() {
        series.push(if i == 0 { '{' } else { ',' });
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = write!(series, "{label}=\"{value}\"");
    }
    if !labels.is_empty() {
        series.push('}');
    }
    series
}

impl Metrics {
    /// Adds `n` to the counter `name{labels}`.
    pub fn add(&self, name: &str, labels: &[(&str, &str)], n: u64) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = counters.entry(series(name, labels)).or_default();
        *counter = counter.saturating_add(n);
    }

    /// Counts something that took so long in the histogram `name`, which ends in `_seconds`.
    pub fn observe(&self, name: &'static str, us: u64) {
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = histograms.entry(name).or_default();
        histogram.count += 1;
        histogram.sum_us = histogram.sum_us.saturating_add(us);
        for (within, end) in histogram.within.iter_mut().zip(BUCKETS_US) {
            *within += u64::from(us <= end);
        }
    }

    /// All of it in Prometheus' text format.
    pub fn render(&self) -> String {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
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
        let seconds = |us: u64| us as f64 / 1e6;
        for (name, histogram) in self.histograms.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let Histogram { within, count, sum_us } = histogram;
            let _ = writeln!(text, "# TYPE {name} histogram");
            for (within, end) in within.iter().zip(BUCKETS_US) {
                let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {within}", seconds(end));
            }
            let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
            let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", seconds(*sum_us));
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
    fn histograms_count_what_took_no_longer() {
        let metrics = Metrics::default();
        for us in [1_000, 1_001, 6_000_000] {
            metrics.observe("a_seconds", us);
        }
        let text = metrics.render();
        for line in [
            "# TYPE a_seconds histogram\na_seconds_bucket{le=\"0.001\"} 1\na_seconds_bucket{le=\"0.002\"} 2\n",
            "a_seconds_bucket{le=\"5\"} 2\na_seconds_bucket{le=\"+Inf\"} 3\na_seconds_sum 6.002001\na_seconds_count 3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

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
