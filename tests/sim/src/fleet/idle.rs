//! How fast a unit arrives that sits idle at another node: whole gates, in fair weather, as fast a
//! network as one data centre has.

use gate::id::{ClientKey, Generation, MeterId};
use gate::quota::issuer::MeterRow;
use gate::wire::exchange::{Meter, MeterKind};

use super::{Event, Fleet};
use crate::case::Case;
use crate::faults::Fault;
use crate::node::Caller;
use crate::rng::Rng;
use crate::scenario::{Scenario, Weather};

const METERS: u64 = 400;
const LIMIT: u64 = 100;
/// Calls at the node that then has units idle, and at the one that needs them: of 100 units none
/// is left out, and none is wanted that is not there.
const IDLE_CALLS: u64 = 3;
const NEEDED_CALLS: u64 = LIMIT - IDLE_CALLS;

/// The longest wait of a request of the node that needs them, in milliseconds, per meter; and requests
/// that were refused.
pub fn waits(seed: u64) -> (Vec<u64>, u64) {
    let case = Case::whole(Weather::ClearGates, seed);
    let mut scenario = Scenario::draw(&case);
    let clock = scenario.nodes[0];
    scenario.nodes = vec![clock; 2];
    scenario.workers = 2;
    scenario.buckets = 64;
    scenario.mishaps.clear();
    scenario.pause_ms = u64::MAX / 4; // nobody calls but who is told to below
    let row = |meter| MeterRow {
        meter: MeterId(meter),
        limit: LIMIT,
        debited: 0,
        generation: Generation(1),
        window_ends_at: None,
        recalled_at: None,
        horizon_s: 30,
        max_lease: Some(1_000),
        ahead: None,
    };
    scenario.meters = (0..METERS).map(|meter| (row(meter), 0)).collect();
    scenario.callers = (0..METERS)
        .map(|number| Caller {
            number,
            client: ClientKey::from(&super::client_of(number)),
            tps: 0,
            meters: vec![Meter {
                id: MeterId(number),
                kind: MeterKind::ClientQuota,
                limit: LIMIT,
                window_s: None,
                horizon_s: 30,
            }],
            bucket: 0,
        })
        .collect();
    let mut fleet = Fleet::new(scenario, Rng::new(seed), Fault::None);
    for meter in 0..METERS {
        let (begin, caller) = (3_000 + meter * 120, meter as usize);
        for call in 0..IDLE_CALLS {
            let at = begin + call * 50 + fleet.rng.between(0, 40);
            fleet.at(at, Event::Request { place: 0, caller });
        }
        for call in 0..NEEDED_CALLS {
            let at = begin + 500 + call * 10 + fleet.rng.between(0, 9);
            fleet.at(at, Event::Request { place: 1, caller });
        }
    }
    fleet.run();
    assert_eq!(fleet.outcome.violations, []);
    let waits = fleet.waits.iter().filter(|((place, _), _)| *place == 1).map(|(_, wait)| *wait).collect();
    (waits, fleet.outcome.refused.values().sum())
}
