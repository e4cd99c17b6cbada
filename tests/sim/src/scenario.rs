//! What one seed means: how many nodes, which meters, how much demand, and what goes wrong when.

use std::fmt;

use gate::id::{ClientKey, Generation, MeterId};
use gate::quota::bucket::MAX_METERS;
use gate::quota::issuer::MeterRow;
use gate::time::UnixMillis;
use gate::wire::exchange::{Meter, MeterKind};

use crate::case::{Case, Vice};
use crate::clock::{Clock, True};
use crate::ledger::end_of_window;
use crate::node::Caller;
use crate::rng::Rng;

/// Length of a window, where a meter has one.
pub const WINDOW_MS: i64 = 40_000;

/// How bad the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// Nothing is lost, answers take milliseconds, demand stays below the limits.
    Fair,
    /// Losses, repeats, delays, traps, partitions and managers that die between commit and
    /// answer; no node crashes: every unit is found again.
    Rough,
    /// Also crashes, databases restored from a backup, and operators who reclaim.
    Stormy,
    /// As rough, with more meters in one bucket than it has places: records are closed and reused.
    Crowded,
    /// As stormy, with 200 nodes of 4 workers.
    Wide,
    /// The whole gate ([`crate::fleet`]), in fair weather but for keys that are revoked.
    ClearGates,
    /// The whole gate in rough weather, with revocations.
    Gates,
    /// As stormy, with the whole gate; also configurations that are replaced by one with another layout of
    /// the shared records, and wall clocks that are set.
    StormyGates,
}

impl Weather {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Fair,
        Self::Rough,
        Self::Stormy,
        Self::Crowded,
        Self::Wide,
        Self::ClearGates,
        Self::Gates,
        Self::StormyGates,
    ];

    /// Whether nodes die and databases are restored.
    pub fn loses_units(self) -> bool {
        matches!(self, Self::Stormy | Self::Wide | Self::StormyGates)
    }

    /// Whether nothing goes wrong, and demand stays below the limits.
    pub fn is_fair(self) -> bool {
        matches!(self, Self::Fair | Self::ClearGates)
    }

    /// How long things go wrong.
    pub fn chaos_ms(self) -> True {
        match self {
            Self::Fair | Self::Rough | Self::Stormy | Self::Gates | Self::StormyGates => 90_000,
            Self::Crowded | Self::ClearGates => 40_000,
            Self::Wide => 20_000,
        }
    }

    /// How long everything then works while demand goes on: longer than a lease lives and than
    /// "exhausted" is kept; it ends 5 s before another window turns.
    pub fn quiet_ms(self) -> True {
        match self {
            Self::Fair | Self::Rough | Self::Stormy => 145_000,
            Self::Crowded | Self::Wide | Self::Gates | Self::StormyGates => 95_000,
            Self::ClearGates => 20_000,
        }
    }

    fn nodes(self, rng: &mut Rng) -> u64 {
        match self {
            Self::Fair | Self::Rough | Self::Stormy => rng.between(1, 4),
            Self::ClearGates | Self::Gates | Self::StormyGates => rng.between(1, 3),
            Self::Crowded => 2,
            Self::Wide => 200,
        }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fair => "fair",
            Self::Rough => "rough",
            Self::Stormy => "stormy",
            Self::Crowded => "crowded",
            Self::Wide => "wide",
            Self::ClearGates => "clear-gates",
            Self::Gates => "gates",
            Self::StormyGates => "stormy-gates",
        })
    }
}

/// How often, per thousand, something happens during the chaos.
#[derive(Clone, Copy, Debug)]
pub struct Vices {
    /// A message is lost.
    pub loss: u64,
    /// A message arrives twice.
    pub repeats: u64,
    /// A message takes long, up to 15 s, and is overtaken.
    pub delays: u64,
    /// A VM traps between freezing a renewal and sending it.
    pub traps: u64,
    /// Another worker writes between read and write.
    pub races: u64,
    /// A manager dies while it works on a call.
    pub deaths: u64,
}

/// Everything that is fixed before the first event.
pub struct Scenario {
    /// How bad it is.
    pub weather: Weather,
    /// Clocks of the nodes.
    pub nodes: Vec<Clock>,
    /// Workers of each node.
    pub workers: usize,
    /// The managers' clocks: one ledger, several that write it.
    pub managers: Vec<Clock>,
    /// Who calls.
    pub callers: Vec<Caller>,
    /// Mean time between two calls of one caller on one node, in milliseconds.
    pub pause_ms: u64,
    /// Per thousand calls: how often a silence follows.
    pub silences: u64,
    /// The ledger's meters, with their windows.
    pub meters: Vec<(MeterRow, i64)>,
    /// Number of shared keys.
    pub buckets: usize,
    /// What goes wrong, and when.
    pub mishaps: Vec<(True, Mishap)>,
    /// What goes wrong all the time.
    pub vices: Vices,
}

/// Something that happens during the chaos.
#[derive(Clone, Copy, Debug)]
pub enum Mishap {
    /// A worker's VM traps.
    Trap {
        /// Which node.
        node: usize,
        /// Which worker.
        vm: usize,
    },
    /// A node and the managers do not hear each other.
    Partition {
        /// Which node.
        node: usize,
        /// How long.
        ms: u64,
    },
    /// A manager is down.
    Outage {
        /// Which.
        manager: usize,
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
    /// An operator begins a new generation.
    Reset {
        /// Of which meter.
        meter: usize,
    },
    /// A process gets no more requests, gives back what it holds, and another one takes its place.
    Drain {
        /// Which node.
        node: usize,
    },
    /// A node's configuration is replaced by one that keeps its shared records in another layout: both serve
    /// for a while, side by side, then the old one ends.
    Swap {
        /// Which node.
        node: usize,
    },
    /// Somebody sets the wall clock of a node.
    WallClock {
        /// Which node.
        node: usize,
        /// By so much.
        ms: i64,
    },
    /// A caller's key is revoked, and after a while issued again.
    Revoke {
        /// Whose.
        caller: usize,
    },
    /// A process dies and another one starts.
    Crash {
        /// Which node.
        node: usize,
    },
    /// The database is copied.
    Backup,
    /// The database is what it was at the last backup, with another epoch.
    Restore,
    /// An operator gives withheld units to others.
    Reclaim {
        /// Of which meter.
        meter: usize,
    },
}

impl Scenario {
    /// The scenario of a case.
    pub fn draw(case: &Case) -> Self {
        let weather = case.weather;
        let rng = &mut Rng::new(case.seed);
        let mut nodes: Vec<_> = (0..weather.nodes(rng)).map(|_| draw_clock(rng)).collect();
        let workers =
            if matches!(weather, Weather::Wide | Weather::Gates) { 4 } else { rng.between(1, 3) as usize };
        let managers: Vec<_> = (0..rng.between(1, 3)).map(|_| draw_manager(rng)).collect();
        let (mut meters, mut callers, buckets, pause_ms) = match weather {
            Weather::Crowded => crowd(nodes.len() as u64, &managers[0], rng),
            Weather::Fair
            | Weather::Rough
            | Weather::Stormy
            | Weather::Wide
            | Weather::ClearGates
            | Weather::Gates
            | Weather::StormyGates => some(weather, nodes.len() as u64, &managers[0], rng),
        };
        let mut mishaps = draw_mishaps(weather, nodes.len(), workers, managers.len(), meters.len(), rng);
        let bad = |often: u64, vice| {
            if weather.is_fair() || case.calm.contains(&vice) { 0 } else { often }
        };
        let vices = Vices {
            loss: bad(100, Vice::Loss),
            repeats: bad(50, Vice::Repeats),
            delays: bad(200, Vice::Delays),
            traps: bad(20, Vice::Traps),
            races: bad(30, Vice::Races),
            deaths: bad(15, Vice::Deaths),
        };
        nodes.truncate(case.nodes);
        callers.truncate(case.callers);
        meters.retain(|(row, _)| callers.iter().any(|c| c.meters.iter().any(|m| m.id == row.meter)));
        let without = |(at, mishap)| if case.without.contains(&at) { None } else { Some(mishap) };
        mishaps = mishaps.into_iter().enumerate().filter_map(without).collect();
        let workers = workers.min(case.workers);
        let silences = if weather.is_fair() { 0 } else { 10 };
        Self {
            weather,
            nodes,
            workers,
            managers,
            callers,
            pause_ms,
            silences,
            meters,
            buckets,
            mishaps,
            vices,
        }
    }
}

type Demand = (Vec<(MeterRow, i64)>, Vec<Caller>, usize, u64);

/// One or two clients, with or without keys.
fn some(weather: Weather, nodes: u64, manager: &Clock, rng: &mut Rng) -> Demand {
    let clients = rng.between(1, 2);
    let buckets = rng.between(1, clients) as usize;
    let pause_ms = if weather == Weather::Wide { 500 } else { *rng.pick(&[40, 100, 250]) };
    let quiet_calls = weather.quiet_ms() / pause_ms * nodes;
    let (mut meters, mut callers) = (vec![], vec![]);
    for client in 0..clients {
        let has_keys = rng.chance(500);
        let owned: Vec<u64> = if has_keys { (1..=2).map(|key| client * 10 + key).collect() } else { vec![] };
        let tps = if weather.is_fair() { 0 } else { *rng.pick(&[0, 0, 10, 30]) };
        for id in std::iter::once(client * 10).chain(owned.iter().copied()) {
            let windowed = id.is_multiple_of(10) && rng.chance(500);
            // Fair: more than anybody asks for. Else: less than the quiet time asks for.
            let in_window = quiet_calls * WINDOW_MS as u64 / weather.quiet_ms();
            let most = if windowed { in_window / 2 } else { quiet_calls / 2 };
            let limit = if weather.is_fair() { quiet_calls * 12 } else { rng.between(1, most) };
            let window_ms = if windowed { WINDOW_MS } else { 0 };
            meters.push((draw_meter(id, limit, windowed, manager, rng), window_ms));
        }
        let credentials = if has_keys {
            owned.iter().map(|key| vec![client * 10, *key]).collect()
        } else {
            vec![vec![client * 10]]
        };
        for credential in credentials {
            callers.push(Caller {
                number: client,
                client: ClientKey([client as u8 + 1; 16]),
                tps,
                meters: credential.into_iter().map(|id| ask_for(&meters, id)).collect(),
                bucket: client as usize % buckets,
            });
        }
    }
    (meters, callers, buckets, pause_ms)
}

/// More clients than a bucket has places for meters.
fn crowd(nodes: u64, manager: &Clock, rng: &mut Rng) -> Demand {
    let pause_ms = 4_000;
    let calls = Weather::Crowded.quiet_ms() / pause_ms * nodes;
    let clients = MAX_METERS as u64 + rng.between(1, 12);
    let meters: Vec<_> = (0..clients)
        .map(|client| (draw_meter(client * 10, rng.between(1, calls / 2), false, manager, rng), 0))
        .collect();
    let callers = (0..clients)
        .map(|client| Caller {
            number: client,
            client: ClientKey([client as u8 + 1; 16]),
            tps: 0,
            meters: vec![ask_for(&meters, client * 10)],
            bucket: 0,
        })
        .collect();
    (meters, callers, 1, pause_ms)
}

/// A clock of a node that starts anywhere.
pub fn draw_clock(rng: &mut Rng) -> Clock {
    Clock { offset_ms: rng.between(10_000, 1_000_000_000), ppm: rng.between(0, 2_000) as i64 - 1_000 }
}

/// A manager's clock: half a second apart from others at most.
fn draw_manager(rng: &mut Rng) -> Clock {
    let offset_ms = 1_700_000_000_000 + rng.between(0, 500);
    Clock { offset_ms, ppm: rng.between(0, 2_000) as i64 - 1_000 }
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
        ahead: None,
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
    managers: usize,
    meters: usize,
    rng: &mut Rng,
) -> Vec<(True, Mishap)> {
    let any = |rng: &mut Rng, of: usize| rng.between(0, of as u64 - 1) as usize;
    let (count, kinds) = match weather {
        Weather::Fair => return vec![],
        Weather::ClearGates => {
            let often = rng.between(3, 8);
            let revoke = |rng: &mut Rng| Mishap::Revoke { caller: rng.between(0, 9) as usize };
            let mut mishaps: Vec<_> = (0..often).map(|_| (rng.between(5_000, 55_000), revoke(rng))).collect();
            mishaps.push((rng.between(10_000, 30_000), Mishap::Swap { node: any(rng, nodes) }));
            return mishaps;
        }
        Weather::Rough | Weather::Crowded | Weather::Gates => (rng.between(4, 16), 6),
        Weather::Stormy | Weather::StormyGates => (rng.between(6, 20), 9),
        Weather::Wide => (rng.between(60, 120), 9),
    };
    let end = weather.chaos_ms();
    let mut mishaps: Vec<(True, Mishap)> = (0..count)
        .map(|_| {
            let at = rng.between(1, end - end / 5);
            let mishap = match rng.between(1, kinds) {
                1 => Mishap::Trap { node: any(rng, nodes), vm: any(rng, workers) },
                2 => Mishap::Partition { node: any(rng, nodes), ms: rng.between(500, 80_000) },
                3 => Mishap::Outage { manager: any(rng, managers), ms: rng.between(500, 20_000) },
                4 => Mishap::Limit { meter: any(rng, meters), percent: rng.between(0, 150) },
                5 if rng.chance(500) => Mishap::Reset { meter: any(rng, meters) },
                5 | 6 => Mishap::Drain { node: any(rng, nodes) },
                7 => Mishap::Crash { node: any(rng, nodes) },
                8 => Mishap::Backup,
                _ => Mishap::Restore,
            };
            (at, mishap)
        })
        .collect();
    if weather.loses_units() && rng.chance(500) {
        // A node is cut off for longer than its leases live, is given up, and comes back.
        mishaps.push((rng.between(1_000, 10_000), Mishap::Partition { node: any(rng, nodes), ms: end }));
        for _ in 0..4 {
            let at = rng.between(end.saturating_sub(15_000).max(1), end);
            mishaps.push((at, Mishap::Reclaim { meter: any(rng, meters) }));
        }
    }
    if matches!(weather, Weather::Gates | Weather::StormyGates) {
        for _ in 0..rng.between(4, 10) {
            let at = rng.between(1_000, end + 50_000);
            mishaps.push((at, Mishap::Revoke { caller: rng.between(0, 9) as usize }));
        }
    }
    // Operators work while all is well, too.
    for after in [20_000, 40_000] {
        mishaps.push((end + after, Mishap::Limit { meter: any(rng, meters), percent: rng.between(90, 120) }));
    }
    if weather == Weather::StormyGates {
        for _ in 0..rng.between(1, 4) {
            mishaps.push((rng.between(1_000, end + 20_000), Mishap::Swap { node: any(rng, nodes) }));
            let ms = rng.between(0, 7_200_000) as i64 - 3_600_000;
            mishaps.push((rng.between(1_000, end + 20_000), Mishap::WallClock { node: any(rng, nodes), ms }));
        }
    }
    mishaps
}
