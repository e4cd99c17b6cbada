//! Who calls in a round: each credential over one connection to each Envoy, one call after the other,
//! until told to stop.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client::{Call, Connection, Protocol};
use e2e::world::World;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::meters::Stake;

/// Between two calls of a connection.
const PAUSE: Duration = Duration::from_millis(8);
/// Before a connection that was refused or broken off is opened anew.
const REOPEN: Duration = Duration::from_millis(20);
/// All that a caller with a live credential may be told, `docs/denials.md`.
const DOCUMENTED: [&str; 7] = [
    "200",
    "429 quota_exhausted",
    "429 quota_contended",
    "503 quota_unavailable",
    "503 lookup_unavailable",
    "503 directory_unavailable",
    "503 stale",
];

pub struct Callers {
    stop: watch::Sender<bool>,
    running: Vec<JoinHandle<Told>>,
    /// The last verdict of each connection.
    last: Vec<Arc<Mutex<String>>>,
}

/// What callers were told.
#[derive(Default)]
pub struct Told {
    verdicts: BTreeMap<String, u64>,
    /// Calls without an answer, by Envoy.
    unanswered: BTreeMap<usize, u64>,
}

impl Callers {
    pub fn start(world: &World, stake: &Stake) -> Self {
        let stop = watch::Sender::new(false);
        let (mut running, mut last) = (Vec::new(), Vec::new());
        for (number, envoy) in world.envoys.iter().enumerate() {
            for call in &stake.calls {
                let word = Arc::new(Mutex::new(String::new()));
                let calling = calls(number, envoy.address, call.clone(), stop.subscribe(), word.clone());
                running.push(tokio::spawn(calling));
                last.push(word);
            }
        }
        Self { stop, running, last }
    }

    pub fn all_are_told(&self, expected: impl Fn(&str) -> bool) -> bool {
        self.last.iter().all(|last| expected(&last.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    pub fn last_words(&self) -> String {
        let words = self.last.iter().map(|last| last.lock().unwrap_or_else(PoisonError::into_inner).clone());
        words.collect::<Vec<_>>().join(", ")
    }

    pub async fn stop(self) -> Result<Told> {
        self.stop.send_replace(true);
        let mut all = Told::default();
        for caller in self.running {
            let told = caller.await.context("a caller")?;
            for (verdict, count) in told.verdicts {
                *all.verdicts.entry(verdict).or_default() += count;
            }
            for (envoy, count) in told.unanswered {
                *all.unanswered.entry(envoy).or_default() += count;
            }
        }
        Ok(all)
    }
}

async fn calls(
    envoy: usize,
    address: SocketAddr,
    call: Call,
    stop: watch::Receiver<bool>,
    last: Arc<Mutex<String>>,
) -> Told {
    let mut told = Told::default();
    let mut connection = None;
    while !*stop.borrow() {
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(address, Protocol::Http1).await,
        };
        let answer = match open {
            Ok(mut open) => open.send(&call).await.map(|answer| (answer, open)),
            Err(error) => Err(error),
        };
        let verdict = match answer {
            Ok((answer, open)) => {
                if answer.header("connection") != Some("close") {
                    connection = Some(open);
                }
                let verdict = answer.verdict();
                *told.verdicts.entry(verdict.clone()).or_default() += 1;
                verdict
            }
            Err(_) => {
                *told.unanswered.entry(envoy).or_default() += 1;
                tokio::time::sleep(REOPEN).await;
                String::from("no answer")
            }
        };
        *last.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
        tokio::time::sleep(PAUSE).await;
    }
    told
}

impl Told {
    /// Only documented answers, and one to every call but those to an Envoy that was killed.
    pub fn check(&self, crashed: &[bool]) -> Result<()> {
        for verdict in self.verdicts.keys() {
            ensure!(DOCUMENTED.contains(&verdict.as_str()), "undocumented: {verdict:?} in {self}");
        }
        for (envoy, count) in &self.unanswered {
            let killed = crashed.get(*envoy).copied().unwrap_or(false);
            ensure!(killed, "{count} calls to an Envoy that lived were not answered: {self}");
        }
        Ok(())
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdicts = self.verdicts.iter().map(|(verdict, count)| format!("{count} × {verdict}"));
        let verdicts = verdicts.collect::<Vec<_>>().join(", ");
        write!(f, "{verdicts}; {} unanswered", self.unanswered.values().sum::<u64>())
    }
}
