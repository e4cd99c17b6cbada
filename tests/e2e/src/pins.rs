//! A connection to each worker of an Envoy, so that each can be asked by itself.
//!
//! The kernel spreads connections over the workers; which one took a connection is told by
//! `listener.<address>.worker_<n>.downstream_cx_total`.

use anyhow::{Context, Result, bail};

use crate::client::{Call, Connection, Protocol};
use crate::envoy::Envoy;
use crate::wait;

/// Connections opened at most for each worker before giving up.
const TRIES_PER_WORKER: usize = 40;

impl Envoy {
    /// One open connection to each worker, in their order. Nobody else may connect meanwhile.
    pub async fn connection_to_each_worker(&self, workers: usize) -> Result<Vec<Connection>> {
        let mut pinned: Vec<Option<Connection>> = (0..workers).map(|_| None).collect();
        for _ in 0..workers * TRIES_PER_WORKER {
            let before = self.accepted(workers).await?;
            let mut connection = Connection::open(self.address, Protocol::Http1).await?;
            // Answered: the worker has it.
            connection.send(&Call::get("/keygate/health")).await?;
            let taken = || async {
                let after = self.accepted(workers).await.ok()?;
                before.iter().zip(&after).position(|(before, after)| after > before)
            };
            let worker = wait::until("the worker's count", std::time::Duration::from_secs(5), taken).await?;
            if let Some(place) = pinned.get_mut(worker) {
                place.get_or_insert(connection);
            }
            if pinned.iter().all(Option::is_some) {
                return Ok(pinned.into_iter().flatten().collect());
            }
        }
        bail!("{} connections did not reach all {workers} workers", workers * TRIES_PER_WORKER)
    }

    /// Connections that each worker has taken so far.
    async fn accepted(&self, workers: usize) -> Result<Vec<u64>> {
        let stats = self.stats().await?;
        (0..workers)
            .map(|worker| {
                let name =
                    format!("listener.127.0.0.1_{}.worker_{worker}.downstream_cx_total", self.address.port());
                stats.get(&name).copied().with_context(|| format!("Envoy has no counter {name}"))
            })
            .collect()
    }
}
