use gate::id::{Epoch, Generation, HolderId, MeterId, Rec, Revision};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::{MeterKind, Renewal, RenewalOutcome};

use super::*;
use crate::changes;
use crate::db::Db;
use crate::testing::World;

mod against_the_issuer;
mod reclaim;

const EPOCH: Epoch = Epoch(7);
const INSTALLATION: LeaseTerms<u32> = LeaseTerms { horizon_s: 30, max_percent: 1 };
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
    let announcements = renew(&mut write, EPOCH, INSTALLATION, &mut steps, now).await.unwrap();
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
        ahead: false,
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
        assert_eq!(announced(&db).await, [raise.clone(), lower.clone()]);
        let now = stored(&db, MeterKind::ClientQuota, "acme").await;
        assert_eq!((now.debited, now.generation, now.remaining()), (1, Generation(1), 4));

        // Another period counts anew.
        let monthly = Limit { units: 50, period: Period::Month, zone: zone("Asia/Taipei") };
        set(&db, MeterKind::ClientQuota, "acme", monthly.clone(), NOW).await;
        let now = stored(&db, MeterKind::ClientQuota, "acme").await;
        assert_eq!((now.debited, now.generation, now.limit), (0, Generation(2), monthly));
        assert_eq!(announced(&db).await[2..], [raise, lower], "what is held is of the old calendar");
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
