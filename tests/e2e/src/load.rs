//! Many calls over many connections, bounded in number and time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::{Call, Connection, Protocol};
use crate::wait;

/// What a load run brought.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers by status and code, as [`crate::client::Answer::verdict`] writes them.
    pub verdicts: BTreeMap<String, u64>,
    /// Calls that got no answer.
    pub unanswered: u64,
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

/// Sends `requests` calls over `connections` connections, spread evenly over `addresses`.
/// `call` makes the n-th one.
pub async fn run<F>(addresses: &[SocketAddr], connections: usize, requests: u64, call: F) -> Result<Outcome>
where
    F: Fn(u64) -> Call + Send + Sync + 'static,
{
    let call = Arc::new(call);
    let next = Arc::new(AtomicU64::new(0));
    let started = wait::now();
    let mut workers = Vec::new();
    for address in addresses.iter().copied().cycle().take(connections) {
        let (call, next) = (call.clone(), next.clone());
        workers.push(tokio::spawn(async move {
            let mut outcome = Outcome::default();
            let mut connection = None;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= requests {
                    return anyhow::Ok(outcome);
                }
                let mut open = match connection.take() {
                    Some(open) => open,
                    None => Connection::open(address, Protocol::Http1).await?,
                };
                match open.send(&call(n)).await {
                    Ok(answer) => {
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
        for (verdict, count) in part.verdicts {
            *total.verdicts.entry(verdict).or_default() += count;
        }
    }
    total.took = started.elapsed();
    Ok(total)
}
