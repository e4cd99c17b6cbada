//! APIs that become enabled or disabled by themselves.

use std::time::Duration;

use serde_json::{Value, json};

use super::{delta, registered, revision};
use crate::app::App;
use crate::catalog::apis::turns::{LOOK_EVERY, take_turns};
use crate::testing::{Caller, World};

const HOUR_MS: i64 = 3_600_000;

async fn show(admin: &Caller, uid: &str) -> Value {
    admin.get(&format!("/api/v1/apis/{uid}")).await.expect(200)
}

async fn actions(admin: &Caller, uid: &str) -> Vec<(Value, Value)> {
    let trail = admin.get(&format!("/api/v1/audit?subject=api:{uid}")).await.expect(200);
    let items = trail["items"].as_array().expect("items");
    items.iter().rev().map(|entry| (entry["action"].clone(), entry["actor"].clone())).collect()
}

#[tokio::test]
async fn a_planned_switch_happens_once_at_its_moment_whatever_the_replicas() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let start = World::START.0;
        // The clock stands at 2026-01-15T00:00Z.
        let plan = json!({ "enable_at": "2026-01-15T01:00:00Z", "disable_at": start + 2 * HOUR_MS, "enabled": false });
        let uid = registered(&admin, plan).await;
        let other = registered(&admin, json!({ "id": "other", "path": { "exact": "/other" } })).await;
        let made = show(&admin, &uid).await;
        assert_eq!(
            (&made["enable_at"], &made["disable_at"]),
            (&json!(start + HOUR_MS), &json!(start + 2 * HOUR_MS))
        );

        world.advance_ms(HOUR_MS - 1);
        let before = revision(&world).await;
        assert!(!take_turns(&world.app).await.expect("done"));
        assert_eq!((revision(&world).await, &show(&admin, &uid).await), (before, &made));

        world.advance_ms(1);
        let replica = App { db: world.another_process().await, ..world.app.clone() };
        let (one, two) = tokio::join!(take_turns(&world.app), take_turns(&replica));
        one.expect("done");
        two.expect("done");
        let enabled = show(&admin, &uid).await;
        assert_eq!((&enabled["enabled"], &enabled["enable_at"]), (&json!(true), &Value::Null));
        assert_eq!(revision(&world).await, before + 1, "gates hear of it once");
        assert_eq!(delta(&world, Some(before)).await, (vec![uid.clone()], vec![]));

        // A manager that was down catches up.
        world.advance_ms(5 * HOUR_MS);
        take_turns(&world.app).await.expect("done");
        take_turns(&replica).await.expect("done");
        let disabled = show(&admin, &uid).await;
        assert_eq!((&disabled["enabled"], &disabled["disable_at"]), (&json!(false), &Value::Null));
        assert_eq!(revision(&world).await, before + 2);
        let operator = json!(format!("operator:{}", admin.id));
        assert_eq!(
            actions(&admin, &uid).await,
            [
                (json!("catalog.create_api"), operator),
                (json!("catalog.enable_api"), json!("system")),
                (json!("catalog.disable_api"), json!("system")),
            ]
        );
        assert_eq!(show(&admin, &other).await["version"], 1, "others stay as they are");
    }
}

#[tokio::test]
async fn both_switches_that_were_missed_happen_in_their_order() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        // Off for an hour, and on again.
        let plan = json!({ "disable_at": "2026-01-15T01:00", "enable_at": "2026-01-15T02:00" });
        let uid = registered(&admin, plan).await;
        world.advance_ms(3 * HOUR_MS);
        let before = revision(&world).await;
        take_turns(&world.app).await.expect("done");
        let shown = show(&admin, &uid).await;
        assert_eq!((&shown["enabled"], &shown["version"]), (&json!(true), &json!(2)));
        assert_eq!(revision(&world).await, before, "what gates hold is what it was");
        let names: Vec<_> = actions(&admin, &uid).await.into_iter().map(|(action, _)| action).collect();
        assert_eq!(names, ["catalog.create_api", "catalog.disable_api", "catalog.enable_api"]);
    }
}

#[tokio::test]
async fn moments_are_of_the_installations_zone_and_must_make_sense() {
    for world in World::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let uid = registered(&admin, json!({})).await;
        let path = format!("/api/v1/apis/{uid}");
        // 2026-01-16T00:00 in Taipei.
        let day = World::START.0 + 16 * HOUR_MS;
        assert_eq!(
            admin.patch(&path, json!({ "disable_at": "2026-01-16" })).await.expect(200)["disable_at"],
            day
        );
        let clock = json!({ "disable_at": "2026-01-16T08:30" });
        let at = day + 17 * HOUR_MS / 2;
        assert_eq!(admin.patch(&path, clock).await.expect(200)["disable_at"], at);
        for (changes, field) in [
            (json!({ "disable_at": "2026-01-15T08:00" }), "disable_at"),
            (json!({ "disable_at": World::START.0 }), "disable_at"),
            (json!({ "disable_at": "soon" }), "disable_at"),
            (json!({ "disable_at": true }), "disable_at"),
            (json!({ "enable_at": at }), "disable_at"),
            // It is enabled, and would be disabled later alone.
            (json!({ "enable_at": "2026-01-15T09:00" }), "enable_at"),
            (json!({ "disable_at": null, "enable_at": "2026-02-01" }), "enable_at"),
            (json!({ "enabled": false, "disable_at": "2026-02-01" }), "disable_at"),
            (json!({ "enable_at": i64::MAX }), "enable_at"),
        ] {
            let answer = admin.patch(&path, changes.clone()).await;
            assert_eq!(answer.status, 422, "{changes}");
            answer.refuses(field);
        }
        assert_eq!(show(&admin, &uid).await["version"], 3);

        // By hand before its time: the plan has nothing left to do.
        let by_hand = admin.patch(&path, json!({ "enabled": false })).await.expect(200);
        assert_eq!((&by_hand["enabled"], &by_hand["disable_at"]), (&json!(false), &Value::Null));
        let window = json!({ "enable_at": "2026-02-01", "disable_at": "2026-03-01" });
        admin.patch(&path, window).await.expect(200);
        let on = admin.patch(&path, json!({ "enabled": true })).await.expect(200);
        assert_eq!((&on["enable_at"], on["disable_at"].is_null()), (&Value::Null, false));
        // Null cancels.
        admin.patch(&path, json!({ "disable_at": null })).await.expect(200);
        world.advance_ms(100 * 24 * HOUR_MS);
        take_turns(&world.app).await.expect("done");
        assert_eq!(show(&admin, &uid).await["enabled"], true);
    }
}

#[tokio::test]
async fn the_job_switches_at_its_next_run_which_is_within_a_second() {
    assert!(LOOK_EVERY < Duration::from_secs(1));
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let uid = registered(&admin, json!({ "disable_at": World::START.0 + 1 })).await;
    let mut jobs = crate::jobs::Jobs::new(world.app.clone());
    crate::catalog::start_jobs(&mut jobs);
    let runs_until = async |least: u64| {
        let counted = async {
            while runs(&world) < least {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // However slow the machine: it is the runs that count.
        tokio::time::timeout(Duration::from_secs(60), counted).await.expect("the job runs");
    };
    runs_until(1).await;
    assert_eq!(show(&admin, &uid).await["enabled"], true, "not before its moment");
    world.advance_ms(1);
    // The run under way at that moment may have looked before it.
    runs_until(runs(&world) + 2).await;
    assert_eq!(show(&admin, &uid).await["enabled"], false);
    jobs.stop(Duration::from_secs(60)).await;
}

/// How often the job has looked.
fn runs(world: &World) -> u64 {
    let metrics = world.app.metrics.render();
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("keygate_job_runs_total{job=\"api_turns\",outcome=\"done\"} "));
    count.map_or(0, |count| count.parse().expect("a number"))
}
