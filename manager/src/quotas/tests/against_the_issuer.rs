//! The SQL ledger beside the pure issuer over plain maps: random sequences of everything that happens
//! to a meter, with the same answers, announcements and rows, on both databases.

use std::collections::BTreeMap;

use gate::id::{Epoch, Generation, HolderId, LeaseId, Rec};
use gate::quota::issuer::{self, Known, LeaseRow, LeaseState, MeterRow, STREAM_KEEP_MS, StreamRow};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// What the ledger must be.
struct Model {
    row: MeterRow,
    period: Period,
    zone: Zone,
    /// As its owner set it.
    units: u64,
    reclaimed: u64,
    last_lease: u64,
    streams: BTreeMap<(HolderId, Rec), (StreamRow, UnixMillis)>,
    leases: BTreeMap<LeaseId, (HolderId, Rec, LeaseRow)>,
    granted_ahead: u32,
}

/// What one step brings: the answer, a recall, units that are back.
type Taken = (RenewalOutcome, bool, bool);

impl Model {
    fn window_at(&self, now: UnixMillis) -> Option<UnixMillis> {
        Window::containing(self.period, &self.zone, now).map(|window| window.end)
    }

    /// End of the window on record while it lasts, else of the one that holds `now`.
    fn present_window(&self, now: UnixMillis) -> Option<UnixMillis> {
        match self.row.window_ends_at {
            Some(end) if end > now => Some(end),
            _ => self.window_at(now),
        }
    }

    fn others(&self, holder: HolderId, generation: Generation, now: UnixMillis) -> u32 {
        let of_it = self.leases.values().filter(|(other, _, lease)| {
            *other != holder && lease.expires_at > now && lease.generation == generation
        });
        let mut others: Vec<_> = of_it.map(|(other, ..)| *other).collect();
        others.sort();
        others.dedup();
        others.len() as u32
    }

    fn take(&mut self, holder: HolderId, renewal: &Renewal, now: UnixMillis) -> Taken {
        let present = self.present_window(now);
        let closed = renewal
            .closed_lease
            .and_then(|id| self.leases.get(&id))
            .filter(|(owner, rec, _)| *owner == holder && *rec == renewal.rec)
            .map(|(.., lease)| *lease);
        let decided = issuer::renew(
            &Known {
                now,
                epoch: EPOCH,
                meter: &self.row,
                window_ends_at: present,
                next_window_ends_at: present.and_then(|end| self.window_at(end)),
                stream: self.streams.get(&(holder, renewal.rec)).map(|(stream, _)| stream),
                closed_lease: closed.as_ref(),
                other_holders: self.others(holder, self.row.generation, now),
                ahead_holders: self.row.ahead.map_or(0, |ahead| self.others(holder, ahead.generation, now)),
                new_lease: LeaseId(self.last_lease + 1),
            },
            renewal,
        );
        let Some(effects) = decided.effects else { return (decided.outcome, false, false) };
        self.row.apply(&effects, now);
        // What nobody will ask for any more is forgotten after an hour.
        let old = UnixMillis(now.0 - STREAM_KEEP_MS);
        if effects.roll.is_some() {
            let present = self.row.generation;
            self.leases.retain(|_, (.., lease)| lease.generation >= present || lease.expires_at >= old);
        }
        if let Some(close) = effects.close {
            self.leases.remove(&close.lease);
        }
        if let Some(open) = effects.open {
            self.granted_ahead += u32::from(open.ahead_until.is_some());
            self.last_lease = open.lease.0;
            let row = LeaseRow {
                id: open.lease,
                generation: open.generation,
                units: open.units,
                expires_at: open.expires_at,
                state: LeaseState::Open,
            };
            self.leases.insert(open.lease, (holder, renewal.rec, row));
        }
        if renewal.seq == 1 {
            let leases = &self.leases;
            self.streams.retain(|(holder, rec), (_, stepped_at)| {
                *stepped_at >= old || leases.values().any(|(of, stream, _)| of == holder && stream == rec)
            });
        }
        self.streams.insert((holder, renewal.rec), (effects.stream, now));
        (decided.outcome, effects.recall, effects.units_back)
    }

    /// Withheld units go to others; none where the counter has windows.
    fn reclaim(&mut self, now: UnixMillis) -> Option<u64> {
        let (mut units, row) = (0, self.row.clone());
        let withheld = |lease: &LeaseRow| lease.generation == row.generation && lease.expires_at <= now;
        let ids: Vec<_> =
            self.leases.iter().filter(|(_, (.., lease))| withheld(lease)).map(|(id, _)| *id).collect();
        if self.period != Period::Total {
            for id in ids {
                let refused = issuer::reclaim(&self.row, &self.leases[&id].2, now);
                assert_eq!(refused, Err(issuer::ReclaimError::NotATotal));
            }
            return None;
        }
        for id in ids {
            let (.., lease) = self.leases.remove(&id).expect("listed");
            self.row.limit = issuer::reclaim(&self.row, &lease, now).expect("withheld");
            units += u64::from(lease.units);
        }
        self.reclaimed += units;
        Some(units)
    }

    fn reset(&mut self, now: UnixMillis) {
        self.reclaimed = 0;
        self.row.limit = self.units;
        if let Some((from, to)) = self.row.reset(self.window_at(now)) {
            for (.., lease) in self.leases.values_mut().filter(|(.., lease)| lease.generation == from) {
                lease.generation = to;
            }
        }
    }

    fn set_limit(&mut self, limit: &Limit, now: UnixMillis) {
        if (self.units, self.period, &self.zone) == (limit.units, limit.period, &limit.zone) {
            return; // no change, and nothing is written
        }
        if self.period == limit.period && self.zone == limit.zone {
            if let Some(roll) = issuer::rolls(&self.row, self.window_at(now), now) {
                self.row.begin(roll);
            }
        } else {
            (self.period, self.zone) = (limit.period, limit.zone.clone());
            self.reclaimed = 0;
            // Another calendar: what was handed out of the old one's next window counts nowhere.
            let last = self.row.ahead.take().map_or(self.row.generation, |ahead| ahead.generation);
            self.row.generation = last;
            self.row.reset(self.window_at(now));
        }
        self.units = limit.units;
        self.row.set_limit(limit.units + self.reclaimed);
    }
}

/// How often each thing happened.
#[derive(Debug, Default)]
struct Tally {
    granted: u32,
    ahead: u32,
    refused: u32,
    turned_away: u32,
    resets: u32,
    limits: u32,
    adopted: u32,
    reclaimed: u64,
}

#[tokio::test]
async fn the_ledger_answers_as_the_pure_issuer_does_whatever_comes() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let mut tally = Tally::default();
        let kinds = [
            (Period::Day, "UTC"),
            (Period::Total, "UTC"),
            (Period::Day, "Asia/Taipei"),
            (Period::Week, "UTC"),
            (Period::Day, "Europe/Berlin"),
            (Period::Month, "UTC"),
        ];
        for (seed, (period, zone_name)) in (1_u64..).zip(kinds) {
            let limit = Limit { units: 12 * seed, period, zone: zone(zone_name) };
            play(&db, seed, limit, &mut tally).await;
        }
        // The sequences reach what they are meant to reach.
        let Tally { granted, ahead, refused, turned_away, resets, limits, adopted, reclaimed } = tally;
        assert!(granted > 100 && ahead > 10 && refused > 40 && turned_away > 40, "{tally:?}");
        assert!(resets > 5 && limits > 10 && adopted > 2 && reclaimed > 10, "{tally:?}");
    }
}

async fn play(db: &Db, seed: u64, limit: Limit, tally: &mut Tally) {
    let owner = format!("owner {seed}");
    let meter = set(db, MeterKind::ClientQuota, &owner, limit.clone(), NOW).await;
    let window_ends_at = Window::containing(limit.period, &limit.zone, NOW).map(|window| window.end);
    let mut model = Model {
        row: MeterRow {
            meter,
            limit: limit.units,
            debited: 0,
            generation: Generation(1),
            window_ends_at,
            recalled_at: None,
            horizon_s: INSTALLATION.horizon_s,
            max_lease: None,
            ahead: None,
        },
        period: limit.period,
        zone: limit.zone,
        units: limit.units,
        reclaimed: 0,
        last_lease: 0,
        streams: BTreeMap::new(),
        leases: BTreeMap::new(),
        granted_ahead: 0,
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut now = NOW;
    let mut highest = BTreeMap::from([(Generation(1), model.row.limit)]);
    for round in 0..80 {
        now = later(&mut rng, &model, now);
        let context = format!("{:?} seed {seed} round {round} at {now:?}", db.dialect());
        let ahead = model.row.ahead;
        if rng.random_bool(0.06) {
            tally.resets += 1;
            let mut write = db.write("test.reset").await.unwrap();
            assert!(reset(&mut write, MeterKind::ClientQuota, &owner, now).await.unwrap(), "{context}");
            write.commit().await.unwrap();
            model.reset(now);
        }
        if rng.random_bool(0.1) {
            tally.limits += 1;
            let period = if model.period != Period::Total && rng.random_bool(0.2) {
                [Period::Day, Period::Week, Period::Month][rng.random_range(0..3)]
            } else {
                model.period
            };
            let limit = Limit { units: rng.random_range(0..60), period, zone: model.zone.clone() };
            let id = set(db, MeterKind::ClientQuota, &owner, limit.clone(), now).await;
            assert_eq!(id, meter, "{context}");
            model.set_limit(&limit, now);
        }
        if rng.random_bool(0.1) {
            let mut write = db.write("test.reclaim").await.unwrap();
            let reclaimed = actions::reclaim_in(&mut write, "ann", MeterKind::ClientQuota, &owner, now).await;
            write.commit().await.unwrap();
            let reclaimed = match reclaimed {
                Ok(reclaimed) => Some(reclaimed.units),
                Err(actions::ReclaimError::NotATotal { .. }) => None,
                Err(error) => panic!("{context}: {error}"),
            };
            assert_eq!(reclaimed, model.reclaim(now), "{context}");
            tally.reclaimed += reclaimed.unwrap_or_default();
        }
        let steps: Vec<_> = (0..rng.random_range(1..6)).map(|_| random_step(&mut rng, &model)).collect();
        let expected: Vec<_> =
            steps.iter().map(|(holder, renewal)| model.take(*holder, renewal, now)).collect();
        tally.adopted += u32::from(ahead.is_some_and(|ahead| ahead.generation == model.row.generation));
        let (outcomes, announcements) = take(db, &steps, now).await;
        let context = format!("{context}: {steps:?}");
        assert_eq!(outcomes, expected.iter().map(|step| step.0).collect::<Vec<_>>(), "{context}");
        let expected_announcements: Vec<_> = expected
            .iter()
            .flat_map(|&(_, recall, back)| {
                let recall = recall.then_some(Subject::Recall { meter, lowered: false });
                recall.into_iter().chain(back.then_some(Subject::Meter { meter }))
            })
            .collect();
        assert_eq!(announcements, expected_announcements, "{context}");
        let row = stored(db, MeterKind::ClientQuota, &owner).await;
        let model_row = &model.row;
        assert_eq!(
            (row.in_force(), row.debited, row.generation, row.ahead, row.window.map(|window| window.end)),
            (
                model_row.limit,
                model_row.debited,
                model_row.generation,
                model_row.ahead,
                model_row.window_ends_at
            ),
            "{context}"
        );
        // Debited never exceeds the highest limit in force, in its own window or before it.
        for (generation, debited) in std::iter::once((row.generation, row.debited))
            .chain(row.ahead.map(|ahead| (ahead.generation, ahead.debited)))
        {
            let highest = highest.entry(generation).or_insert(row.in_force());
            *highest = row.in_force().max(*highest);
            assert!(debited <= *highest, "{debited} of {highest} in {generation:?}: {context}");
        }
        tally_up(&outcomes, tally);
    }
    tally.ahead += model.granted_ahead;
}

fn tally_up(outcomes: &[RenewalOutcome], tally: &mut Tally) {
    for outcome in outcomes {
        match outcome {
            RenewalOutcome::Granted { .. } => tally.granted += 1,
            RenewalOutcome::Refused => tally.refused += 1,
            RenewalOutcome::Pending { .. } | RenewalOutcome::Exhausted { .. } => tally.turned_away += 1,
            RenewalOutcome::Closed | RenewalOutcome::Gone => {}
        }
    }
}

/// Some time passes: often a little, sometimes half a day, or until a window is about to turn.
fn later(rng: &mut StdRng, model: &Model, now: UnixMillis) -> UnixMillis {
    let turn = model.row.window_ends_at.filter(|end| *end > now && rng.random_bool(0.15));
    if let Some(end) = turn {
        return UnixMillis((end.0 - rng.random_range(1..32_000)).max(now.0 + 1));
    }
    let jump =
        if rng.random_bool(0.08) { DAY_MS / 2 } else { [1, 200, 5_000, 70_000][rng.random_range(0..4)] };
    UnixMillis(now.0 + jump)
}

/// Mostly what a holder would send, often repeated, sometimes nonsense.
fn random_step(rng: &mut StdRng, model: &Model) -> (HolderId, Renewal) {
    let (holder, rec) = (holder(rng.random_range(1..4)), Rec(rng.random_range(1..4)));
    let seq = model.streams.get(&(holder, rec)).map_or(0, |(stream, _)| stream.seq);
    let own: Vec<_> =
        model.leases.iter().filter(|(_, (owner, of, _))| *owner == holder && *of == rec).collect();
    let (closed_lease, unspent) = match own.first() {
        Some((id, (.., lease))) if rng.random_bool(0.7) => (Some(**id), rng.random_range(0..=lease.units)),
        _ if rng.random_bool(0.05) => (Some(LeaseId(rng.random_range(1..50))), 1),
        _ => (None, 0),
    };
    let renewal = Renewal {
        meter: model.row.meter,
        rec,
        seq: match rng.random_range(0..10) {
            0 => seq,
            1 => seq + 2,
            _ => seq + 1,
        },
        epoch: (seq > 0).then_some(if rng.random_bool(0.02) { Epoch(8) } else { EPOCH }),
        want: if rng.random_bool(0.15) { 0 } else { rng.random_range(1..30) },
        closed_lease,
        unspent,
        waiting: rng.random_bool(0.5),
        ahead: rng.random_bool(0.3),
    };
    (holder, renewal)
}
