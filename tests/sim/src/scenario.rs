//! What one seed means: how many nodes, which meters, how much demand, and what goes wrong when.

use gate::id::{ClientKey, Generation, MeterId};
use gate::quota::issuer::MeterRow;
use gate::time::UnixMillis;
use gate::wire::exchange::{Meter, MeterKind};

use crate::clock::{Clock, True};
use crate::ledger::end_of_window;
use crate::node::Caller;
use crate::rng::Rng;

/// How long things go wrong.
pub const CHAOS_MS: True = 90_000;
/// How long everything then works while demand goes on: longer than a lease lives, than
/// "exhausted" is kept, and than two windows; it ends 5 s before another one turns.
pub const QUIET_MS: True = 145_000;
/// Length of a window, where a meter has one.
pub const WINDOW_MS: i64 = 40_000;

/// How bad the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing is lost, answers take milliseconds, demand stays below the limits.
    Fair,
    /// Losses, repeats, delays, traps and partitions; nobody crashes: every unit is found again.
    Rough,
    /// Also crashes, restored databases, and operators who reclaim.
    Stormy,
}

/// Everything that is fixed before the first event.
pub struct Scenario {
    /// How bad it is.
    pub weather: Weather,
    /// Clocks of the nodes.
    pub nodes: Vec<Clock>,
    /// Workers of each node.
    pub workers: usize,
    /// The manager's clock.
    pub manager: Clock,
    /// Who calls.
    pub callers: Vec<Caller>,
    /// Mean time between two calls of one caller on one node, in milliseconds.
    pub pause_ms: u64,
    /// The ledger's meters, with their windows.
    pub meters: Vec<(MeterRow, i64)>,
    /// Number of shared keys.
    pub buckets: usize,
    /// What goes wrong, and when.
    pub mishaps: Vec<(True, Mishap)>,
}

/// Something that happens during [`CHAOS_MS`].
#[derive(Clone, Copy, Debug)]
pub enum Mishap {
    /// A worker's VM traps.
    Trap {
        /// Which node.
        node: usize,
        /// Which worker.
        vm: usize,
    },
    /// A process dies and another one starts.
    Crash {
        /// Which node.
        node: usize,
    },
    /// A node and the manager do not hear each other.
    Partition {
        /// Which node.
        node: usize,
        /// How long.
        ms: u64,
    },
    /// The manager is down.
    Outage {
        /// How long.
        ms: u64,
    },
    /// An operator sets another limit, in percent of the first one.
    Limit {
        /// Of which meter.
        meter: usize,
        /// 50 = half.
        percent: u64,
    },
    /// The database gets another epoch.
    Restore,
    /// An operator gives withheld units to others.
    Reclaim {
        /// Of which meter.
        meter: usize,
    },
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(weather: Weather, rng: &mut Rng) -> Self {
        let nodes: Vec<_> = (0..rng.between(1, 4)).map(|_| draw_clock(rng)).collect();
        let workers = rng.between(1, 3) as usize;
        let manager = Clock { offset_ms: 1_700_000_000_000, ppm: rng.between(0, 2_000) as i64 - 1_000 };
        let clients = rng.between(1, 2);
        let buckets = rng.between(1, clients) as usize;
        let pause_ms = *rng.pick(&[40, 100, 250]);
        let quiet_calls = QUIET_MS / pause_ms * nodes.len() as u64;

        let (mut meters, mut callers) = (vec![], vec![]);
        for client in 0..clients {
            let has_keys = rng.chance(500);
            let owned: Vec<u64> =
                if has_keys { (1..=2).map(|key| client * 10 + key).collect() } else { vec![] };
            let tps = if weather == Weather::Fair { 0 } else { *rng.pick(&[0, 0, 10, 30]) };
            for id in std::iter::once(client * 10).chain(owned.iter().copied()) {
                let windowed = id.is_multiple_of(10) && rng.chance(500);
                // Fair: more than anybody asks for. Else: less than the quiet time asks for.
                let most =
                    if windowed { quiet_calls * WINDOW_MS as u64 / QUIET_MS / 2 } else { quiet_calls / 2 };
                let limit = if weather == Weather::Fair { quiet_calls * 6 } else { rng.between(1, most) };
                meters.push((
                    draw_meter(id, limit, windowed, &manager, rng),
                    if windowed { WINDOW_MS } else { 0 },
                ));
            }
            let credentials = if has_keys {
                owned.iter().map(|key| vec![client * 10, *key]).collect()
            } else {
                vec![vec![client * 10]]
            };
            for credential in credentials {
                callers.push(Caller {
                    client: ClientKey([client as u8 + 1; 16]),
                    tps,
                    meters: credential.into_iter().map(|id| ask_for(&meters, id)).collect(),
                    bucket: client as usize % buckets,
                });
            }
        }
        let mishaps = draw_mishaps(weather, nodes.len(), workers, meters.len(), rng);
        Self { weather, nodes, workers, manager, callers, pause_ms, meters, buckets, mishaps }
    }
}

/// A clock of a node that starts anywhere.
pub fn draw_clock(rng: &mut Rng) -> Clock {
    Clock { offset_ms: rng.between(10_000, 1_000_000_000), ppm: rng.between(0, 2_000) as i64 - 1_000 }
}

fn draw_meter(id: u64, limit: u64, windowed: bool, manager: &Clock, rng: &mut Rng) -> MeterRow {
    let now = UnixMillis(manager.at(0) as i64);
    MeterRow {
        meter: MeterId(id),
        limit,
        debited: 0,
        generation: Generation(1),
        window_ends_at: windowed.then(|| end_of_window(now, WINDOW_MS)),
        recalled_at: None,
        horizon_s: *rng.pick(&[1, 5, 30]),
        max_lease: *rng.pick(&[None, Some(1), Some(10), Some(1_000)]),
    }
}

fn ask_for(meters: &[(MeterRow, i64)], id: u64) -> Meter {
    let (row, window_ms) =
        meters.iter().find(|(row, _)| row.meter.0 == id).expect("credentials name meters that exist");
    Meter {
        id: row.meter,
        kind: if id.is_multiple_of(10) { MeterKind::ClientQuota } else { MeterKind::KeyUses },
        limit: row.limit,
        window_s: (*window_ms > 0).then_some(*window_ms as u64 / 1_000),
        horizon_s: row.horizon_s,
    }
}

fn draw_mishaps(
    weather: Weather,
    nodes: usize,
    workers: usize,
    meters: usize,
    rng: &mut Rng,
) -> Vec<(True, Mishap)> {
    let kinds = match weather {
        Weather::Fair => return vec![],
        Weather::Rough => 4,
        Weather::Stormy => 7,
    };
    let any = |rng: &mut Rng, of: usize| rng.between(0, of as u64 - 1) as usize;
    (0..rng.between(4, 16))
        .map(|_| {
            let at = rng.between(1, CHAOS_MS - 20_000);
            let mishap = match rng.between(1, kinds) {
                1 => Mishap::Trap { node: any(rng, nodes), vm: any(rng, workers) },
                2 => Mishap::Partition { node: any(rng, nodes), ms: rng.between(500, 80_000) },
                3 => Mishap::Outage { ms: rng.between(500, 20_000) },
                4 => Mishap::Limit { meter: any(rng, meters), percent: rng.between(0, 150) },
                5 => Mishap::Crash { node: any(rng, nodes) },
                6 => Mishap::Restore,
                _ => Mishap::Reclaim { meter: any(rng, meters) },
            };
            (at, mishap)
        })
        .collect()
}
