use std::collections::BTreeMap;

use gate::id::{Epoch, Generation, HolderId, LeaseId, MeterId, Rec, Revision};
use gate::quota::issuer::{self, Known, LeaseRow, LeaseState, MeterRow, STREAM_KEEP_MS, StreamRow};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{MeterKind, Renewal, RenewalOutcome};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::changes;
use crate::db::Db;
use crate::testing::World;

const EPOCH: Epoch = Epoch(7);
const HORIZON_S: u32 = 30;
/// 2023-11-14T22:13:20Z, a Tuesday.
const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const DAY_MS: i64 = 86_400_000;

fn at(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn zone(name: &str) -> Zone {
    Zone::parse(name).unwrap_or_else(|| panic!("{name} is a zone"))
}

fn daily(units: u64) -> Limit {
    Limit { units, period: Period::Day, zone: Zone::utc() }
}

async fn set(db: &Db, kind: MeterKind, owner: &str, limit: Limit, now: UnixMillis) -> MeterId {
    let mut write = db.write("test.set_limit").await.unwrap();
    let id = set_limit(&mut write, kind, owner, limit, now).await.unwrap();
    write.commit().await.unwrap();
    id
}

async fn stored(db: &Db, kind: MeterKind, owner: &str) -> Meter {
    meter_of(&mut db.read().await.unwrap(), kind, owner).await.unwrap().expect("it has a meter")
}

async fn announced(db: &Db) -> Vec<Subject> {
    let mut read = db.read().await.unwrap();
    let head = changes::head(&mut read).await.unwrap().revision;
    match changes::page(&mut read, Revision(0), head, 1_000).await.unwrap() {
        changes::Page::Changes(changes) => changes.into_iter().map(|change| change.subject).collect(),
        changes::Page::TooOld => panic!("all are kept"),
    }
}

async fn take(
    db: &Db,
    steps: &[(HolderId, Renewal)],
    now: UnixMillis,
) -> (Vec<RenewalOutcome>, Vec<Subject>) {
    let mut steps: Vec<_> =
        steps.iter().map(|&(holder, renewal)| Step { holder, renewal, outcome: None }).collect();
    let mut write = db.write("test.renew").await.unwrap();
    let announcements = renew(&mut write, EPOCH, HORIZON_S, &mut steps, now).await.unwrap();
    write.commit().await.unwrap();
    (steps.into_iter().map(|step| step.outcome.expect("every step is answered")).collect(), announcements)
}

fn first(meter: MeterId, rec: u64, want: u32) -> Renewal {
    Renewal {
        meter,
        rec: Rec(rec),
        seq: 1,
        epoch: None,
        want,
        closed_lease: None,
        unspent: 0,
        waiting: false,
    }
}

fn holder(n: u8) -> HolderId {
    HolderId([n; 16])
}

fn units(outcome: &RenewalOutcome) -> u32 {
    match outcome {
        RenewalOutcome::Granted { units, .. } => *units,
        other => panic!("granted, not {other:?}"),
    }
}

#[test]
fn a_window_is_the_local_day_week_or_month() {
    let check = |period, zone_name: &str, now: &str, start: &str, end: &str| {
        let window = Window::containing(period, &zone(zone_name), at(now)).expect("it has a window");
        assert_eq!(window, Window { start: at(start), end: at(end) }, "{period:?} {zone_name} {now}");
    };
    use Period::{Day, Month, Week};
    check(Day, "UTC", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z");
    check(Day, "UTC", "2026-02-28T23:59:59.999Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z");
    check(Day, "Asia/Taipei", "2026-03-01T15:59:59Z", "2026-02-28T16:00:00Z", "2026-03-01T16:00:00Z");
    check(Day, "Asia/Taipei", "2026-03-01T16:00:00Z", "2026-03-01T16:00:00Z", "2026-03-02T16:00:00Z");
    // 23 hours, 25 hours, and a day whose midnight does not exist.
    check(Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    check(Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    check(Day, "Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z");
    // Monday to Monday; 2026-03-01 is a Sunday.
    check(Week, "UTC", "2026-03-01T12:00:00Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z");
    check(Week, "UTC", "2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z");
    check(Month, "UTC", "2026-01-31T12:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    check(Month, "America/New_York", "2026-03-01T04:59:59Z", "2026-02-01T05:00:00Z", "2026-03-01T05:00:00Z");
    assert_eq!(Window::containing(Period::Total, &Zone::utc(), NOW), None);
    assert!(Zone::parse("Mars/Olympus").is_none());
}

#[tokio::test]
async fn a_changed_limit_keeps_what_was_used_and_says_what_it_means() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let meter = set(&db, MeterKind::ClientQuota, "acme", daily(10), NOW).await;
        assert_eq!(announced(&db).await, [], "nobody can hold anything of a new meter");
        let (outcomes, _) = take(&db, &[(holder(1), first(meter, 1, 5))], NOW).await;
        assert_eq!(units(&outcomes[0]), 1, "a hundredth of the limit, at least 1");

        let raise = Subject::Meter { meter };
        let lower = Subject::Recall { meter, lowered: true };
        assert_eq!(set(&db, MeterKind::ClientQuota, "acme", daily(10), NOW).await, meter);
        assert_eq!(announced(&db).await, [], "the same limit is no change");
        set(&db, MeterKind::ClientQuota, "acme", daily(20), NOW).await;
        assert_eq!(announced(&db).await, std::slice::from_ref(&raise));
        set(&db, MeterKind::ClientQuota, "acme", daily(5), NOW).await;
        assert_eq!(announced(&db).await, [raise.clone(), lower]);
        let now = stored(&db, MeterKind::ClientQuota, "acme").await;
        assert_eq!((now.debited, now.generation, now.remaining()), (1, Generation(1), 4));

        // Another period counts anew.
        let monthly = Limit { units: 50, period: Period::Month, zone: zone("Asia/Taipei") };
        set(&db, MeterKind::ClientQuota, "acme", monthly.clone(), NOW).await;
        let now = stored(&db, MeterKind::ClientQuota, "acme").await;
        assert_eq!((now.debited, now.generation, now.limit), (0, Generation(2), monthly));
        assert_eq!(announced(&db).await.len(), 3);
    }
}

#[tokio::test]
async fn owners_have_meters_of_their_own_and_lose_them() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let quota = set(&db, MeterKind::ClientQuota, "x", Limit::total(3), NOW).await;
        let uses = set(&db, MeterKind::KeyUses, "x", Limit::total(4), NOW).await;
        assert_ne!(quota, uses);
        take(&db, &[(holder(1), first(uses, 1, 1))], NOW).await;
        let mut write = db.write("test.lift").await.unwrap();
        lift_limit(&mut write, MeterKind::KeyUses, "x").await.unwrap();
        lift_limit(&mut write, MeterKind::KeyUses, "nobody").await.unwrap();
        write.commit().await.unwrap();
        let again = meter_of(&mut db.read().await.unwrap(), MeterKind::KeyUses, "x").await.unwrap();
        assert_eq!(again, None);
        assert_eq!(stored(&db, MeterKind::ClientQuota, "x").await.id, quota);
        let (outcomes, _) = take(&db, &[(holder(1), first(uses, 1, 1))], NOW).await;
        assert_eq!(outcomes, [RenewalOutcome::Gone]);
    }
}

#[tokio::test]
async fn a_reset_counts_anew_and_old_leases_credit_nothing() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let meter = set(&db, MeterKind::KeyUses, "k", Limit::total(1_000), NOW).await;
        let (outcomes, _) = take(&db, &[(holder(1), first(meter, 1, 10))], NOW).await;
        let RenewalOutcome::Granted { lease, units: 10, .. } = outcomes[0] else { panic!("{outcomes:?}") };
        let mut write = db.write("test.reset").await.unwrap();
        assert!(reset(&mut write, MeterKind::KeyUses, "k", NOW).await.unwrap());
        assert!(!reset(&mut write, MeterKind::KeyUses, "nobody", NOW).await.unwrap());
        write.commit().await.unwrap();
        let give_back = Renewal {
            seq: 2,
            epoch: Some(EPOCH),
            want: 0,
            closed_lease: Some(lease),
            unspent: 10,
            ..first(meter, 1, 0)
        };
        let (outcomes, _) = take(&db, &[(holder(1), give_back)], NOW).await;
        assert_eq!(outcomes, [RenewalOutcome::Closed]);
        let now = stored(&db, MeterKind::KeyUses, "k").await;
        assert_eq!((now.debited, now.generation), (0, Generation(2)));
    }
}

#[tokio::test]
async fn units_of_a_holder_that_never_reports_are_withheld_until_the_window_turns() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let meter = set(&db, MeterKind::ClientQuota, "acme", daily(1_000), NOW).await;
        take(&db, &[(holder(1), first(meter, 1, 10))], NOW).await;
        let out_at = async |now: UnixMillis| {
            let meter = stored(&db, MeterKind::ClientQuota, "acme").await.at(now);
            outstanding(&mut db.read().await.unwrap(), &meter, now).await.unwrap()
        };
        assert_eq!(out_at(NOW).await, Outstanding { leased: 10, withheld: 0 });
        let later = UnixMillis(NOW.0 + 600_000);
        assert_eq!(out_at(later).await, Outstanding { leased: 0, withheld: 10 });
        let tomorrow = UnixMillis(NOW.0 + DAY_MS);
        assert_eq!(out_at(tomorrow).await, Outstanding::default());
        let (outcomes, _) = take(&db, &[(holder(2), first(meter, 2, 1))], tomorrow).await;
        let RenewalOutcome::Granted { remaining: 999, generation: Generation(2), .. } = outcomes[0] else {
            panic!("a fresh window has all its units: {outcomes:?}");
        };
    }
}

/// What the ledger must be: the issuer over plain maps.
struct Model {
    row: MeterRow,
    period: Period,
    last_lease: u64,
    streams: BTreeMap<(HolderId, Rec), (StreamRow, UnixMillis)>,
    leases: BTreeMap<LeaseId, (HolderId, Rec, LeaseRow)>,
}

impl Model {
    fn take(&mut self, holder: HolderId, renewal: &Renewal, now: UnixMillis) -> (RenewalOutcome, bool, bool) {
        let window = Window::containing(self.period, &Zone::utc(), now).map(|window| window.end);
        let present = match self.row.window_ends_at {
            Some(end) if end > now => Some(end),
            _ => window,
        };
        let mut others: Vec<_> = self
            .leases
            .values()
            .filter(|(other, _, lease)| {
                *other != holder && lease.expires_at > now && lease.generation == self.row.generation
            })
            .map(|(other, ..)| *other)
            .collect();
        others.sort();
        others.dedup();
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
                stream: self.streams.get(&(holder, renewal.rec)).map(|(stream, _)| stream),
                closed_lease: closed.as_ref(),
                other_holders: others.len() as u32,
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
            self.leases.retain(|_, (.., lease)| lease.generation == present || lease.expires_at >= old);
        }
        if let Some(close) = effects.close {
            self.leases.remove(&close.lease);
        }
        if let Some(open) = effects.open {
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
}

#[tokio::test]
async fn the_ledger_answers_as_the_pure_issuer_does_whatever_comes() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let (mut granted, mut refused, mut turned_away) = (0, 0, 0);
        for (seed, period) in [(1, Period::Day), (2, Period::Total), (3, Period::Day)] {
            let owner = format!("owner {seed}");
            let limit = Limit { units: 12, period, zone: Zone::utc() };
            let meter = set(&db, MeterKind::ClientQuota, &owner, limit, NOW).await;
            let mut model = Model {
                row: MeterRow {
                    meter,
                    limit: 12,
                    debited: 0,
                    generation: Generation(1),
                    window_ends_at: Window::containing(period, &Zone::utc(), NOW).map(|window| window.end),
                    recalled_at: None,
                    horizon_s: HORIZON_S,
                    max_lease: None,
                },
                period,
                last_lease: 0,
                streams: BTreeMap::new(),
                leases: BTreeMap::new(),
            };
            let mut rng = StdRng::seed_from_u64(seed);
            let mut now = NOW;
            for round in 0..60 {
                let jump = if rng.random_bool(0.08) {
                    DAY_MS / 2
                } else {
                    [1, 200, 5_000, 70_000][rng.random_range(0..4)]
                };
                now = UnixMillis(now.0 + jump);
                let steps: Vec<_> =
                    (0..rng.random_range(1..6)).map(|_| random_step(&mut rng, &model)).collect();
                let expected: Vec<_> =
                    steps.iter().map(|(holder, renewal)| model.take(*holder, renewal, now)).collect();
                let (outcomes, announcements) = take(&db, &steps, now).await;
                let context = format!("{:?} seed {seed} round {round}: {steps:?}", db.dialect());
                assert_eq!(outcomes, expected.iter().map(|step| step.0).collect::<Vec<_>>(), "{context}");
                let expected_announcements: Vec<_> = expected
                    .iter()
                    .flat_map(|&(_, recall, back)| {
                        let recall = recall.then_some(Subject::Recall { meter, lowered: false });
                        recall.into_iter().chain(back.then_some(Subject::Meter { meter }))
                    })
                    .collect();
                assert_eq!(announcements, expected_announcements, "{context}");
                let row = stored(&db, MeterKind::ClientQuota, &owner).await;
                assert_eq!(
                    (row.debited, row.generation),
                    (model.row.debited, model.row.generation),
                    "{context}"
                );
                assert!(row.debited <= row.limit.units, "{context}");
                for outcome in outcomes {
                    match outcome {
                        RenewalOutcome::Granted { .. } => granted += 1,
                        RenewalOutcome::Refused => refused += 1,
                        RenewalOutcome::Pending { .. } | RenewalOutcome::Exhausted { .. } => turned_away += 1,
                        RenewalOutcome::Closed | RenewalOutcome::Gone => {}
                    }
                }
            }
        }
        // The sequences reach what they are meant to reach.
        assert!(granted > 50 && refused > 20 && turned_away > 20, "{granted} {refused} {turned_away}");
    }
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
    };
    (holder, renewal)
}

/// Two replicas with batches in opposite order: the locks are taken in one order.
#[tokio::test]
async fn batches_in_opposite_order_do_not_wait_for_each_other() {
    for world in World::both().await {
        let db = world.app.db.clone();
        let mut meters = Vec::new();
        for owner in ["a", "b", "c", "d"] {
            meters.push(set(&db, MeterKind::KeyUses, owner, Limit::total(100_000), NOW).await);
        }
        let forward: Vec<_> = meters.clone();
        let backward: Vec<_> = meters.iter().rev().copied().collect();
        let tasks: Vec<_> = [(1, forward), (2, backward)]
            .into_iter()
            .map(|(n, meters)| {
                let db = db.clone();
                tokio::spawn(async move {
                    for round in 0..25 {
                        let steps: Vec<_> = meters
                            .iter()
                            .map(|meter| (holder(n), first(*meter, u64::from(n) * 1_000 + round, 3)))
                            .collect();
                        let (outcomes, _) = take(&db, &steps, NOW).await;
                        assert!(outcomes.iter().all(|outcome| units(outcome) == 3));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no deadlock");
        }
        assert_eq!(stored(&db, MeterKind::KeyUses, "a").await.debited, 2 * 25 * 3);
    }
}
