//! Counts and reports on both databases.

use std::time::Duration;

use gate::id::HolderId;
use gate::time::UnixMillis;
use gate::wire::exchange::{UsageReport, UsageRow};
use serde_json::{Value, json};

use super::actions::roll_up;
use super::{Reported, count};
use crate::app::App;
use crate::schedule::{About, Outcome, Task, TaskState};
use crate::testing::{Caller, World};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn row(client: &str, credential: &str, api: &str, result: &str, count: u64) -> UsageRow {
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    UsageRow {
        client: named(client).map(Into::into),
        credential: named(credential).map(Into::into),
        secret: None,
        api: named(api).map(Into::into),
        result: result.into(),
        count,
        latency: vec![],
    }
}

fn answered(client: &str, api: &str, result: &str, latency: &[[u64; 3]]) -> UsageRow {
    let count = latency.iter().map(|[_, answers, _]| answers).sum();
    UsageRow { latency: latency.to_vec(), ..row(client, "", api, result, count) }
}

/// Reports of one VM, counted at `now`.
async fn report(world: &World, seq: u64, rows: Vec<UsageRow>, now: UnixMillis) {
    let mut write = world.app.db.write("test.count").await.expect("begun");
    count(&mut write, &[reported(seq, rows)], now).await.expect("counted");
    write.commit().await.expect("committed");
}

fn reported(seq: u64, rows: Vec<UsageRow>) -> Reported {
    Reported { holder: HolderId([1; 16]), slot: 0, report: UsageReport { boot: 1, seq, rows } }
}

async fn items(actor: &Caller, query: &str) -> Vec<Value> {
    let answer = actor.get(&format!("/api/v1/usage{query}")).await.expect(200);
    answer["items"].as_array().expect("items").clone()
}

/// The fields of each row.
fn fields<const N: usize>(rows: &[Value], names: [&str; N]) -> Vec<[Value; N]> {
    rows.iter().map(|row| names.map(|name| row[name].clone())).collect()
}

#[tokio::test]
async fn calls_are_told_apart_by_what_is_asked_for() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let now = world.app.now();
        let rows = vec![
            row("acme", "key_1", "orders", "admitted", 5),
            row("acme", "key_2", "orders", "admitted", 2),
            row("acme", "key_1", "orders", "quota_exhausted", 1),
            row("shop", "xk_1", "stock", "permission_denied", 3),
            row("", "", "orders", "credential_unknown", 7),
            row("", "", "", "api_not_found", 4),
        ];
        report(&world, 1, rows.clone(), now).await;
        report(&world, 1, rows, now).await;

        let problem = admin.get("/api/v1/usage?result=bogus").await.problem(400, "invalid_query");
        assert_eq!(problem["field"], "result");
        let all = items(&admin, "").await;
        assert_eq!(
            fields(&all, ["client", "calls", "admitted", "refused"]),
            [[Value::Null, json!(22), json!(7), json!(15)]]
        );
        let clients = items(&admin, "?group_by=client").await;
        let expected = [
            [Value::Null, json!(11), json!(0)],
            [json!("acme"), json!(8), json!(7)],
            [json!("shop"), json!(3), json!(0)],
        ];
        assert_eq!(fields(&clients, ["client", "calls", "admitted"]), expected);
        let attempts = items(&admin, "?group_by=result,client&result=refused").await;
        let expected = [
            [Value::Null, json!("api_not_found"), json!(404), json!(4)],
            [Value::Null, json!("credential_unknown"), json!(401), json!(7)],
            [json!("acme"), json!("quota_exhausted"), json!(429), json!(1)],
            [json!("shop"), json!("permission_denied"), json!(403), json!(3)],
        ];
        assert_eq!(fields(&attempts, ["client", "result", "status", "calls"]), expected);
        for (query, calls) in [
            ("?client=acme", 8),
            ("?unknown=true", 11),
            ("?credential=key_2", 2),
            ("?api=stock", 3),
            ("?result=admitted", 7),
            ("?result=quota_exhausted&client=acme", 1),
        ] {
            assert_eq!(items(&admin, query).await[0]["calls"], calls, "{query}");
        }
        assert!(items(&admin, "?client=nobody").await.is_empty());

        // Page by page it is the same.
        let whole = items(&admin, "?group_by=client,credential,api,result").await;
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let query = format!("/api/v1/usage?group_by=client,credential,api,result&limit=2{cursor}");
            let page = admin.get(&query).await.expect(200);
            paged.extend(page["items"].as_array().expect("items").clone());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!((paged.len(), &paged), (6, &whole));

        for (query, field) in [
            ("?bucket=week", "bucket"),
            ("?group_by=colour", "group_by"),
            ("?from=2&until=1", "from"),
            ("?bucket=minute&from=0", "from"),
            ("?unknown=true&client=acme", "unknown"),
            ("?format=csv&limit=3", "limit"),
            ("/answers?status=7xx", "status"),
            ("/answers?group_by=credential", "group_by"),
        ] {
            let refused = admin.get(&format!("/api/v1/usage{query}")).await.problem(400, "invalid_query");
            assert_eq!(refused["field"], field, "{query}");
        }
        world.operator("bob", &["applicant"]).await.get("/api/v1/usage").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn answers_show_success_average_and_distribution() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let rows = vec![
            answered("acme", "orders", "answered_2xx", &[[0, 80, 40], [3, 18, 126]]),
            answered("acme", "orders", "answered_5xx", &[[15, 1, 70_000]]),
            answered("shop", "orders", "answered_not", &[[3, 1, 8]]),
        ];
        report(&world, 1, rows, world.app.now()).await;
        let all = items(&admin, "/answers?bucket=total&group_by=api").await;
        let names = ["api", "answers", "succeeded", "failed", "mean_ms", "p50_ms", "p90_ms", "p99_ms"];
        let expected: [Value; 8] =
            [json!("orders"), json!(100), json!(98), json!(2), json!(701), json!(1), json!(10), json!(10)];
        assert_eq!(fields(&all, names), [expected]);
        let latency = json!([
            {"le_ms": 1, "answers": 80}, {"le_ms": 10, "answers": 19}, {"le_ms": null, "answers": 1}
        ]);
        assert_eq!(all[0]["latency"], latency);
        let by_status = items(&admin, "/answers?group_by=client,status").await;
        let expected = [
            [json!("acme"), json!("2xx"), json!(98)],
            [json!("acme"), json!("5xx"), json!(1)],
            [json!("shop"), json!("none"), json!(1)],
        ];
        assert_eq!(fields(&by_status, ["client", "status", "answers"]), expected);
        let failed = items(&admin, "/answers?status=5xx").await;
        assert_eq!(fields(&failed, ["answers", "p50_ms"]), [[json!(1), Value::Null]]);
        let first = admin.get("/api/v1/usage/answers?group_by=client,status&limit=2").await.expect(200);
        let next = first["next"].as_str().expect("there is more");
        let rest = items(&admin, &format!("/answers?group_by=client,status&limit=2&cursor={next}")).await;
        assert_eq!(rest, by_status[2..]);
    }
}

#[tokio::test]
async fn summed_up_a_report_says_the_same_and_what_is_old_is_forgotten_only_then() {
    let taipei = |config: &mut crate::config::Config| {
        config.time_zone = "Asia/Taipei".into();
        (config.usage_minute_retention_days, config.usage_hour_retention_days) = (1, 4);
        config.usage_retention_days = 40;
    };
    for world in World::both_with(taipei).await {
        let admin = world.operator("root", &["admin"]).await;
        // 23:30 of the day before in Taipei, and 00:10 and 00:50.
        let midnight = World::START.0 - World::START.0.rem_euclid(DAY_MS) + 16 * HOUR_MS;
        for (seq, minutes) in [(1, -30), (2, 10), (3, 50)] {
            let at = UnixMillis(midnight + minutes * MINUTE_MS);
            let rows = vec![
                row("acme", "key_1", "orders", "admitted", 10 * seq),
                answered("acme", "orders", "answered_2xx", &[[2, seq, 4 * seq]]),
            ];
            report(&world, seq, rows, at).await;
        }
        // An old release counted by the hour, without the client.
        world
            .sql(&format!(
                "INSERT INTO usage_hours (hour, credential, api, result, calls) \
                 VALUES ({}, 'basic:acme', 'orders', 'admitted', 1000)",
                midnight - DAY_MS
            ))
            .await;
        let until = midnight + 2 * HOUR_MS;
        let from = midnight - DAY_MS - HOUR_MS;
        let range = format!("from={from}&until={until}&client=acme");
        let by_day = [[json!(midnight), json!(50)], [json!(midnight - DAY_MS), json!(1010)]];
        let by_hour = [
            [json!(midnight), json!(50)],
            [json!(midnight - HOUR_MS), json!(10)],
            [json!(midnight - DAY_MS), json!(1000)],
        ];
        let check = async |what: &str| {
            for (bucket, expected) in [("day", &by_day[..]), ("hour", &by_hour[..])] {
                let rows = items(&admin, &format!("?bucket={bucket}&{range}")).await;
                assert_eq!(fields(&rows, ["start", "calls"]), expected, "{bucket} {what}");
            }
            let total = items(&admin, &format!("?bucket=total&{range}")).await;
            assert_eq!(total[0]["calls"], 1060, "{what}");
            let answers = items(&admin, &format!("/answers?bucket=day&{range}")).await;
            let names = ["start", "answers", "mean_ms", "p99_ms"];
            let expected = [
                [json!(midnight), json!(5), json!(4), json!(5)],
                [json!(midnight - DAY_MS), json!(1), json!(4), json!(5)],
            ];
            assert_eq!(fields(&answers, names), expected, "{what}");
        };
        let rows = async |grain: &str| {
            world.sql(&format!("UPDATE usage_calls SET calls = calls WHERE grain = '{grain}'")).await
        };
        // The first round moves what the old release counted; the hour before midnight has ended ten
        // minutes ago, the one after it has not; then that too, and then both days before.
        for (minutes, expected) in [(65, [3, 2, 2]), (125, [3, 3, 2])] {
            world.app.clock.set(UnixMillis(midnight + minutes * MINUTE_MS));
            world.run_due().await;
            assert_eq!([rows("minute").await, rows("hour").await, rows("day").await], expected);
            check(&format!("after {minutes} minutes")).await;
        }
        // The day of the last calls is not summed up before it has ended, and nothing of it forgotten.
        world.app.clock.set(UnixMillis(midnight + 2 * DAY_MS + 4 * HOUR_MS));
        world.run_due().await;
        check("days later").await;
        world.app.clock.set(UnixMillis(midnight + 4 * DAY_MS + 4 * HOUR_MS));
        world.run_due().await;
        assert_eq!([rows("minute").await, rows("hour").await, rows("day").await], [0, 0, 3]);
        let days = items(&admin, &format!("?bucket=day&{range}")).await;
        assert_eq!(fields(&days, ["start", "calls"]), by_day);
        world.app.clock.set(UnixMillis(midnight + 50 * DAY_MS));
        world.run_due().await;
        assert_eq!(rows("day").await, 0);
    }
}

#[tokio::test]
async fn a_report_is_a_table_too() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let rows = vec![
            row("acme", "key_1", "orders", "permission_denied", 5),
            answered("acme", "orders", "answered_2xx", &[[1, 2, 3]]),
        ];
        report(&world, 1, rows, world.app.now()).await;
        let table = async |path: &str| admin.get(path).await.expect(200).as_str().expect("text").to_owned();
        let calls = table("/api/v1/usage?format=csv&group_by=client,result").await;
        let lines: Vec<_> = calls.lines().collect();
        assert_eq!(lines[0], "start,end,client,credential,api,result,status,calls,admitted,refused");
        assert!(lines[1].ends_with(",acme,,,permission_denied,403,5,0,5"), "{calls}");
        let answers = table("/api/v1/usage/answers?format=csv&group_by=api,status").await;
        assert!(
            answers.lines().nth(1).expect("a line").ends_with(",,orders,2xx,2,2,0,1,2,2,2,2:2"),
            "{answers}"
        );
    }
}

#[tokio::test]
async fn the_next_page_of_a_total_is_of_the_same_days_though_midnight_came_between() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        // A minute before midnight.
        let midnight = World::START.0 - World::START.0.rem_euclid(DAY_MS) + DAY_MS;
        world.app.clock.set(UnixMillis(midnight - MINUTE_MS));
        let rows = ["acme", "bolt", "core"].map(|client| row(client, "key_1", "orders", "admitted", 1));
        report(&world, 1, rows.to_vec(), world.app.now()).await;
        let path = "/api/v1/usage?bucket=total&group_by=client";
        let first = admin.get(&format!("{path}&limit=1")).await.expect(200);
        assert_eq!(first["items"][0]["client"], "acme");
        world.advance_ms(2 * MINUTE_MS);
        let next = first["next"].as_str().expect("there is more");
        let rest = items(&admin, &format!("?bucket=total&group_by=client&cursor={next}")).await;
        assert_eq!(
            fields(&rest, ["client", "calls"]),
            [[json!("bolt"), json!(1)], [json!("core"), json!(1)]]
        );
        assert_eq!(rest[0]["start"], first["items"][0]["start"]);
    }
}

#[tokio::test]
async fn a_large_report_is_counted_to_the_last_row() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let rows: Vec<_> = (0..150)
            .flat_map(|n| {
                let client = format!("client-{n:03}");
                let latency = [[0, 1, 1], [2, 1, 5], [15, 1, 60_000]];
                [
                    row(&client, "key_1", "orders", "admitted", 3),
                    answered(&client, "orders", "answered_2xx", &latency),
                ]
            })
            .collect();
        for seq in [1, 2] {
            report(&world, seq, rows.clone(), world.app.now()).await;
        }
        let calls = items(&admin, "?bucket=total&group_by=client&limit=200").await;
        assert_eq!(calls.len(), 150);
        assert!(calls.iter().all(|row| row["calls"] == 6), "{calls:?}");
        let answers = items(&admin, "/answers?bucket=total&group_by=client&limit=200").await;
        assert_eq!(answers.len(), 150);
        assert!(answers.iter().all(|row| row["answers"] == 6 && row["mean_ms"] == 20_002), "{answers:?}");
    }
}

/// A filter of the release before does not tell the client of a credential.
#[tokio::test]
async fn reports_of_older_filters_lock_rows_in_the_same_order_and_count_in_the_same() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let now = world.app.now();
        let mut first = world.app.db.write("test.first").await.expect("begun");
        let acme = row("acme", "basic:acme", "orders", "admitted", 1);
        let shop = row("shop", "basic:shop", "orders", "admitted", 1);
        count(&mut first, &[reported(1, vec![acme.clone()])], now).await.expect("counted");
        let second = tokio::spawn({
            let (db, other) = (world.app.db.clone(), HolderId([2; 16]));
            let untold = row("", "basic:shop", "orders", "admitted", 1);
            let rows = vec![untold, shop.clone(), acme];
            async move {
                let mut second = db.write("test.second").await.expect("begun");
                count(&mut second, &[Reported { holder: other, ..reported(1, rows) }], now).await?;
                second.commit().await
            }
        });
        // Long enough to have locked what it locks first, which is what the first one holds.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!second.is_finished());
        count(&mut first, &[reported(2, vec![shop])], now).await.expect("nobody waits in a circle");
        first.commit().await.expect("committed");
        second.await.expect("no panic").expect("counted");
        let clients = items(&admin, "?group_by=client").await;
        let expected = [[json!("acme"), json!(2)], [json!("shop"), json!(3)]];
        assert_eq!(fields(&clients, ["client", "calls"]), expected);
    }
}

fn task() -> Task {
    Task {
        id: "task_1".into(),
        kind: "usage.roll_up".into(),
        about: About::new("period", "usage.roll_up"),
        key: "usage.roll_up".into(),
        detail: Value::Null,
        due_at: World::START,
        state: TaskState::Running { claimed_until: World::START },
        attempts: 1,
        progress: None,
        result: None,
        last_error: None,
        created_at: World::START,
    }
}

#[tokio::test]
async fn replicas_that_sum_up_at_once_count_each_minute_once() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let begin = World::START.0 - World::START.0.rem_euclid(DAY_MS) - DAY_MS;
        // Two days, every twenty minutes.
        for n in 0..144 {
            let rows = vec![
                row("acme", "key_1", "orders", "admitted", n + 1),
                answered("acme", "orders", "answered_2xx", &[[2, n + 1, 4]]),
            ];
            report(&world, n + 1, rows, UnixMillis(begin + n as i64 * 20 * MINUTE_MS)).await;
        }
        world.app.clock.set(UnixMillis(begin + 2 * DAY_MS + 2 * HOUR_MS));
        let rounds = async |app: App| {
            let (mut task, mut parts) = (task(), 0);
            loop {
                let mut write = app.db.write("test.roll_up").await.expect("begun");
                let outcome = roll_up(&app, &mut write, &task).await.expect("summed up");
                write.commit().await.expect("committed");
                match outcome {
                    Outcome::More { progress, .. } => (task.progress, parts) = (Some(progress), parts + 1),
                    _ => return parts,
                }
            }
        };
        let other = App { db: world.another_process().await, ..world.app.clone() };
        let third = App { db: world.another_process().await, ..world.app.clone() };
        let parts = tokio::join!(rounds(world.app.clone()), rounds(other), rounds(third));
        assert_eq!(parts.0 + parts.1 + parts.2, 144 + 48, "each part once: {parts:?}");
        // Minutes are of no use any more.
        world.sql("DELETE FROM usage_calls WHERE grain = 'minute'").await;
        world.sql("DELETE FROM usage_answers WHERE grain = 'minute'").await;
        let days = |first: u64, last: u64| json!((first..=last).sum::<u64>());
        for (path, field) in [("", "calls"), ("/answers", "answers")] {
            for (bucket, expected) in
                [("day", vec![days(73, 144), days(1, 72)]), ("total", vec![days(1, 144)])]
            {
                let query = format!("{path}?bucket={bucket}&from={begin}&until={}", begin + 2 * DAY_MS - 1);
                let rows = items(&admin, &query).await;
                assert_eq!(
                    rows.iter().map(|row| row[field].clone()).collect::<Vec<_>>(),
                    expected,
                    "{query}"
                );
            }
            let query = format!("{path}?bucket=hour&from={begin}&until={}", begin + HOUR_MS - 1);
            assert_eq!(items(&admin, &query).await[0][field], days(1, 3), "{path}");
        }
    }
}

#[tokio::test]
async fn a_forecast_reads_hours_where_they_are_summed_up() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        world.client("acme").await;
        let limit = json!({ "quota": 1_000, "quota_period": "month", "time_zone": "UTC" });
        admin.patch("/api/v1/clients/acme", limit).await.expect(200);
        let hour = World::START.0 - World::START.0.rem_euclid(HOUR_MS) + 24 * HOUR_MS;
        // Too long ago, then five hours and a half that count.
        for (seq, ago, calls) in [(1, 6 * HOUR_MS, 700), (2, 5 * HOUR_MS, 30), (3, 0, 25)] {
            let rows = vec![row("acme", "key_1", "orders", "admitted", calls)];
            report(&world, seq, rows, UnixMillis(hour - ago)).await;
        }
        world.app.clock.set(UnixMillis(hour + HOUR_MS / 2));
        let per_hour = async || {
            admin.get("/api/v1/clients/acme").await.expect(200)["quota_usage"]["calls_per_hour"].clone()
        };
        assert_eq!(per_hour().await, 10);
        world.run_due().await;
        let summed_up = format!("DELETE FROM usage_calls WHERE grain = 'minute' AND start < {hour}");
        assert_eq!(world.sql(&summed_up).await, 2);
        assert_eq!(per_hour().await, 10);
    }
}
