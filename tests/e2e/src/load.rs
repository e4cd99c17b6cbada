//! Many calls over many connections, bounded in number and time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::{Call, Connection, Protocol};
use crate::histogram::Histogram;
use crate::wait;

/// What a load run brought.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers by status and code, as [`crate::client::Answer::verdict`] writes them.
    pub verdicts: BTreeMap<String, u64>,
    /// Calls that got no answer.
    pub unanswered: u64,
    /// How long the answers took.
    pub latency: Histogram,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Answers with this verdict.
    pub fn of(&self, verdict: &str) -> u64 {
        self.verdicts.get(verdict).copied().unwrap_or(0)
    }

    /// All answers.
    pub fn answered(&self) -> u64 {
        self.verdicts.values().sum()
    }
}

/// Calls for as long as `duration`, over `connections` connections spread evenly over `addresses`, each
/// without a pause. `call` makes the n-th one.
pub async fn run_for<F>(
    addresses: &[SocketAddr],
    connections: usize,
    duration: Duration,
    call: F,
) -> Result<Outcome>
where
    F: Fn(u64) -> Call + Send + Sync + 'static,
{
    let until = wait::now() + duration;
    spread(addresses, connections, move |_| wait::now() < until, call).await
}

/// As [`run_for`], until somebody says otherwise.
pub async fn run_while<F>(
    addresses: Vec<SocketAddr>,
    connections: usize,
    going_on: Arc<AtomicBool>,
    call: F,
) -> Result<Outcome>
where
    F: Fn(u64) -> Call + Send + Sync + 'static,
{
    spread(&addresses, connections, move |_| going_on.load(Ordering::Relaxed), call).await
}

/// Sends `requests` calls over `connections` connections, spread evenly over `addresses`.
/// `call` makes the n-th one.
pub async fn run<F>(addresses: &[SocketAddr], connections: usize, requests: u64, call: F) -> Result<Outcome>
where
    F: Fn(u64) -> Call + Send + Sync + 'static,
{
    spread(addresses, connections, move |n| n < requests, call).await
}

async fn spread<F, G>(addresses: &[SocketAddr], connections: usize, goes_on: G, call: F) -> Result<Outcome>
where
    F: Fn(u64) -> Call + Send + Sync + 'static,
    G: Fn(u64) -> bool + Clone + Send + 'static,
{
    let call = Arc::new(call);
    let next = Arc::new(AtomicU64::new(0));
    let started = wait::now();
    let mut workers = Vec::new();
    for address in addresses.iter().copied().cycle().take(connections) {
        let (call, next, goes_on) = (call.clone(), next.clone(), goes_on.clone());
        workers.push(tokio::spawn(async move {
            let mut outcome = Outcome::default();
            let mut connection = None;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if !goes_on(n) {
                    return anyhow::Ok(outcome);
                }
                let mut open = match connection.take() {
                    Some(open) => open,
                    None => Connection::open(address, Protocol::Http1).await?,
                };
                let sent = wait::now();
                match open.send(&call(n)).await {
                    Ok(answer) => {
                        outcome.latency.record(sent.elapsed());
                        *outcome.verdicts.entry(answer.verdict()).or_default() += 1;
                        if answer.header("connection") != Some("close") {
                            connection = Some(open);
                        }
                    }
                    Err(_) => outcome.unanswered += 1,
                }
            }
        }));
    }
    let mut total = Outcome::default();
    for worker in workers {
        let part = worker.await.context("a connection of the load")??;
        total.unanswered += part.unanswered;
        total.latency.merge(part.latency);
        for (verdict, count) in part.verdicts {
            *total.verdicts.entry(verdict).or_default() += count;
        }
    }
    total.took = started.elapsed();
    Ok(total)
}
