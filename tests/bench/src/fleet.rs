//! Many connected nodes at one manager: each polls for changes all the time, and makes the exchanges of
//! a steady load. What that costs the manager, and how soon a revocation is at the last of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::histogram::Histogram;
use e2e::wait;
use e2e::world::{Plan, World};
use gate::wire::changes::Subject;
use tokio::sync::mpsc;

use crate::cpu;
use crate::figures::{self, Samples};
use crate::node::{Fleet, Node, Poller};

/// Connected nodes.
const NODES: usize = 500;
/// Clients whose quotas they share.
const CLIENTS: usize = 64;
/// Exchanges of a node in a second. A filter that has something to say makes one or two, ten at most.
const RATES: [u32; 3] = [1, 2, 4];
/// A filter reports what it counted once in a second.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long each rate is kept up.
const LASTS: Duration = Duration::from_secs(12);
/// What is revoked meanwhile.
const REVOCATIONS: u32 = 10;
/// A revocation that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node has heard of a change of this credential.
struct Heard {
    credential: String,
    at: Instant,
}

/// Measures and prints.
pub async fn run() -> Result<()> {
    let world = World::start("bench_fleet", Plan { envoys: 0, ..Plan::default() }).await?;
    let fleet = Fleet::on_record(&world, CLIENTS).await?;
    let (mut nodes, mut pollers) = (Vec::new(), Vec::new());
    let (hears, mut heard) = mpsc::unbounded_channel();
    for n in 0..NODES {
        let node = fleet.node(&world, n).await?;
        pollers.push(tokio::spawn(follow(node.poller()?, hears.clone())));
        nodes.push(node);
    }
    let mut rows = Vec::new();
    for rate in RATES {
        let row;
        (nodes, row) = at_rate(&world, &fleet, nodes, rate, &mut heard).await?;
        rows.push(row);
    }
    if let Some(ended) = pollers.into_iter().find(|poller| poller.is_finished()) {
        bail!("a poller ended: {:?}", ended.await?);
    }
    println!(
        "\n{NODES} connected nodes at one manager (SQLite): each polls all the time, renews a lease in every \
         exchange and reports usage once a second; whoever asks runs on the same cores"
    );
    let headings = [
        "exchanges per node and second",
        "exchanges/s",
        "p50 ms",
        "p99 ms",
        "manager, cores",
        "memory, MiB",
        "revocation to the last node, ms",
    ];
    figures::print(&headings, &rows);
    println!(
        "\nRevocations: from the operator's call, which is before the commit, to the moment at which the last \
         of the {NODES} nodes has the change; median (least–most) of {REVOCATIONS}."
    );
    Ok(())
}

async fn at_rate(
    world: &World,
    fleet: &Fleet,
    nodes: Vec<Node>,
    rate: u32,
    heard: &mut mpsc::UnboundedReceiver<Heard>,
) -> Result<(Vec<Node>, Vec<String>)> {
    let manager = world.manager.process().context("the manager runs")?;
    let mut keys = Vec::new();
    for _ in 0..REVOCATIONS {
        keys.push(fleet.another_key(world).await?);
    }
    let (before, started) = (cpu::process_ns(manager.id())?, wait::now());
    let every = Duration::from_secs(1) / rate;
    let running: Vec<_> = (0..)
        .zip(nodes)
        .map(|(n, node)| {
            // Spread evenly, as nodes that were started independently are.
            let first = started + every.mul_f64(f64::from(n) / NODES as f64);
            tokio::spawn(keep_up(node, first, every))
        })
        .collect();
    let mut revocations = Samples::default();
    for (n, key) in (1..).zip(keys) {
        let due = started + LASTS * n / (REVOCATIONS + 1);
        tokio::time::sleep(due.saturating_duration_since(wait::now())).await;
        while heard.try_recv().is_ok() {}
        let called = wait::now();
        world.operator().delete(&format!("/api/v1/x-api-keys/{}", key.id)).await?;
        let last = tokio::time::timeout(PATIENCE, all_have_heard(heard, &key.id)).await;
        revocations.add((last.context("a revocation")?? - called).as_secs_f64() * 1_000.0);
    }
    let (mut nodes, mut latency) = (Vec::new(), Histogram::default());
    for node in running {
        let (node, of_node) = node.await??;
        nodes.push(node);
        latency.merge(of_node);
    }
    let took = started.elapsed().as_secs_f64();
    let cores = (cpu::process_ns(manager.id())? - before) as f64 / 1e9 / took;
    let ms = |share| latency.quantile(share).as_secs_f64() * 1_000.0;
    eprintln!("{NODES} nodes with {rate} exchanges a second: done");
    let row = vec![
        rate.to_string(),
        format!("{:.0}", latency.count() as f64 / took),
        format!("{:.1}", ms(0.5)),
        format!("{:.1}", ms(0.99)),
        format!("{cores:.2}"),
        format!("{:.0}", manager.rss_kib()? as f64 / 1_024.0),
        revocations.spread(0),
    ];
    Ok((nodes, row))
}

/// Exchanges when they are due. One that is late counts from when it was due.
async fn keep_up(mut node: Node, first: Instant, every: Duration) -> Result<(Node, Histogram)> {
    let (mut latency, mut reported) = (Histogram::default(), first);
    for n in 0.. {
        let due = first + every * n;
        if due.duration_since(first) >= LASTS {
            break;
        }
        tokio::time::sleep(due.saturating_duration_since(wait::now())).await;
        let reports = due.duration_since(reported) >= REPORT_EVERY;
        if reports {
            reported = due;
        }
        node.exchange(1, reports).await?;
        latency.record(due.elapsed());
    }
    Ok((node, latency))
}

/// Polls without end.
async fn follow(mut poller: Poller, hears: mpsc::UnboundedSender<Heard>) -> Result<()> {
    loop {
        let answer = poller.poll().await?;
        let at = wait::now();
        for change in answer.changes {
            if let Subject::Credential { credential, .. } = change.subject {
                // Nobody listens any more once all is measured.
                let _ = hears.send(Heard { credential: credential.as_str().into(), at });
            }
        }
    }
}

/// When the last node has heard of it.
async fn all_have_heard(heard: &mut mpsc::UnboundedReceiver<Heard>, credential: &str) -> Result<Instant> {
    let mut left = NODES;
    loop {
        let one = heard.recv().await.context("the pollers have ended")?;
        if one.credential == credential {
            left -= 1;
            if left == 0 {
                return Ok(one.at);
            }
        }
    }
}
