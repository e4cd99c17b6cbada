use std::sync::atomic::{AtomicI64, Ordering};

use gate::time::UnixMillis;
use serde_json::{Value, json};

use super::actions::{attempt, claim};
use super::model::{CLAIM_MS, MAX_ATTEMPTS};
use super::*;
use crate::app::App;
use crate::db::Conn;
use crate::testing::{Caller, World};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Leaves one further task behind, which is its effect: exactly one for each piece of work.
async fn leave_a_mark(app: &App, conn: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    let mark = NewTask {
        kind: "test.mark",
        about: task.about.clone(),
        key: app.random.id("test.mark"),
        due_at: UnixMillis(i64::MAX - 1),
        detail: json!({ "seen_at": app.now() }),
    };
    plan(conn, app, mark, app.now()).await?;
    Ok(Outcome::Done(format!("marked {}", task.about.id)))
}

async fn count_to_three(_: &App, _: &mut Conn, task: &Task) -> anyhow::Result<Outcome> {
    Ok(forgotten(task, 1, if task.progress.as_deref() == Some("2") { 2 } else { 1 }, "things"))
}

fn executors() -> Executors {
    let mut executors = Executors::default();
    executors.on("test.do", |app, conn, task| Box::pin(leave_a_mark(app, conn, task)));
    executors.on("test.count", |app, conn, task| Box::pin(count_to_three(app, conn, task)));
    executors.on("test.fail", |app, conn, task| {
        Box::pin(async move {
            leave_a_mark(app, conn, task).await?;
            anyhow::bail!("there is no paper")
        })
    });
    executors
}

fn new(kind: &'static str, id: &str, due_in_ms: i64) -> NewTask {
    NewTask {
        kind,
        about: About::new("thing", id),
        key: format!("{kind}:{id}"),
        due_at: UnixMillis(World::START.0 + due_in_ms),
        detail: json!({}),
    }
}

async fn planned(world: &World, task: NewTask) -> bool {
    let mut tx = world.app.db.write("test.plan").await.expect("a transaction");
    let new = plan(&mut tx, &world.app, task, world.app.now()).await.expect("planned");
    tx.commit().await.expect("committed");
    new
}

async fn run(app: &App) -> Ran {
    run_due(app, &executors()).await.expect("the database")
}

/// A second process on the same database.
async fn replica(world: &World) -> App {
    App { db: world.another_process().await, ..world.app.clone() }
}

async fn listed(admin: &Caller, query: &str) -> Vec<Value> {
    let page = admin.get(&format!("/api/v1/tasks?{query}")).await.expect(200);
    page["items"].as_array().expect("items").clone()
}

async fn marks(admin: &Caller) -> Vec<String> {
    let marks = listed(admin, "kind=test.mark").await;
    marks.iter().map(|mark| mark["about"]["id"].as_str().expect("an id").into()).collect()
}

#[tokio::test]
async fn work_is_done_once_when_it_is_due_and_tells_what_came_of_it() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        assert!(planned(&world, new("test.do", "late", 2_000)).await);
        assert!(planned(&world, new("test.do", "early", 1_000)).await);
        assert!(!planned(&world, new("test.do", "early", 0)).await, "the same key is the same work");
        assert_eq!(run(&world.app).await, Ran::default());
        world.advance_ms(999);
        assert_eq!(run(&world.app).await, Ran::default());
        world.advance_ms(1_001);
        assert_eq!(run(&world.app).await, Ran { done: 2, ..Ran::default() });
        assert_eq!(run(&world.app).await, Ran::default());
        assert!(!planned(&world, new("test.do", "early", 0)).await, "done work is not done again");
        assert_eq!(run(&world.app).await, Ran::default());

        let done = listed(&admin, "kind=test.do&state=done").await;
        let told: Vec<_> = done.iter().map(|task| (&task["about"]["id"], &task["result"])).collect();
        assert_eq!(
            told,
            [(&json!("early"), &json!("marked early")), (&json!("late"), &json!("marked late"))]
        );
        assert_eq!(marks(&admin).await.len(), 2);
        let id = done[0]["id"].as_str().expect("an id");
        let shown = admin.get(&format!("/api/v1/tasks/{id}")).await.expect(200);
        assert_eq!(shown["finished_at"], World::START.0 + 2_000);
        admin.get("/api/v1/tasks/task_none").await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn what_is_due_first_is_done_first() {
    static CLOCK: AtomicI64 = AtomicI64::new(0);
    async fn number(_: &App, _: &mut Conn, _: &Task) -> anyhow::Result<Outcome> {
        Ok(Outcome::Done(format!("{:03}", CLOCK.fetch_add(1, Ordering::Relaxed))))
    }
    let mut executors = Executors::default();
    executors.on("test.number", |app, conn, task| Box::pin(number(app, conn, task)));
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        for due in [30, 10, 20, 0] {
            planned(&world, new("test.number", &format!("{due}"), due)).await;
        }
        world.advance_ms(100);
        run_due(&world.app, &executors).await.expect("the database");
        let order: Vec<_> =
            listed(&admin, "kind=test.number").await.iter().map(|task| task["result"].to_string()).collect();
        assert!(order.is_sorted() && order.len() == 4, "{order:?}");
    }
}

#[tokio::test]
async fn two_replicas_do_each_piece_once() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        for n in 0..20 {
            planned(&world, new("test.do", &format!("{n:02}"), 0)).await;
        }
        let other = replica(&world).await;
        let (one, two) = tokio::join!(run(&world.app), run(&other));
        assert_eq!((one.done + two.done, one.postponed + two.postponed), (20, 0), "{one:?} {two:?}");
        let mut marks = marks(&admin).await;
        marks.sort();
        let expected: Vec<_> = (0..20).map(|n| format!("{n:02}")).collect();
        assert_eq!(marks, expected);
    }
}

#[tokio::test]
async fn a_killed_replicas_work_is_taken_over_and_done_once() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        planned(&world, new("test.do", "it", 0)).await;
        // It takes the work, begins, and is no more: nothing of it was committed.
        let dead = replica(&world).await;
        let claimed = claim(&dead, &["test.do"]).await.expect("the database").expect("due");
        let mut tx = dead.db.write("test.killed").await.expect("a transaction");
        leave_a_mark(&dead, &mut tx, &claimed.task).await.expect("written");
        drop(tx);

        assert_eq!(run(&world.app).await, Ran::default(), "it is claimed");
        let id = listed(&admin, "state=running").await[0]["id"].as_str().expect("running").to_string();
        for action in ["retry", "cancel"] {
            let path = format!("/api/v1/tasks/{id}/{action}");
            admin.post(&path, Value::Null).await.problem(409, "task_running");
        }
        world.advance_ms(CLAIM_MS - 1);
        assert_eq!(run(&world.app).await, Ran::default(), "it is claimed still");
        world.advance_ms(1);
        assert_eq!(run(&world.app).await, Ran { done: 1, ..Ran::default() });

        // It was not dead but slow: what it takes up again is no longer its own.
        let mut ran = Ran::default();
        attempt(&dead, &executors(), &claimed, &mut ran).await.expect("the database");
        assert_eq!(ran, Ran::default());
        assert_eq!(marks(&admin).await, ["it"]);
    }
}

#[tokio::test]
async fn failing_work_waits_longer_each_time_and_is_given_up_visibly() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        planned(&world, new("test.fail", "it", 0)).await;
        planned(&world, new("test.do", "other", 0)).await;
        let first = run(&world.app).await;
        assert_eq!(first, Ran { done: 1, postponed: 1, ..Ran::default() }, "one does not hinder the other");
        let waiting = listed(&admin, "kind=test.fail&state=waiting").await;
        assert_eq!(waiting[0]["error"], "there is no paper");
        assert_eq!(waiting[0]["next_attempt_at"], World::START.0 + 15_000);
        for attempt in 2..=MAX_ATTEMPTS {
            assert_eq!(run(&world.app).await, Ran::default(), "not before its time");
            world.advance_ms(HOUR_MS);
            let ran = run(&world.app).await;
            assert_eq!(ran.given_up, usize::from(attempt == MAX_ATTEMPTS), "{attempt} {ran:?}");
        }
        let failed = listed(&admin, "kind=test.fail&state=failed").await;
        assert_eq!((&failed[0]["error"], &failed[0]["attempts"]), (&json!("there is no paper"), &json!(10)));
        assert_eq!(marks(&admin).await, ["other"], "a failed attempt leaves nothing");

        let path = format!("/api/v1/tasks/{}", failed[0]["id"].as_str().expect("an id"));
        let retried = admin.post(&format!("{path}/retry"), Value::Null).await.expect(200);
        assert_eq!((&retried["state"], &retried["attempts"]), (&json!("waiting"), &json!(0)));
        assert_eq!(run(&world.app).await.postponed, 1);
        let cancelled = admin.post(&format!("{path}/cancel"), Value::Null).await.expect(200);
        assert_eq!(cancelled["state"], "cancelled");
        assert!(cancelled["result"].as_str().is_some_and(|text| text.contains(&admin.id)));
        let again = admin.post(&format!("{path}/retry"), Value::Null).await.expect(200);
        assert_eq!((&again["state"], &again["result"]), (&json!("waiting"), &json!(null)));
        admin.post(&format!("{path}/cancel"), Value::Null).await.expect(200);
        let audit = admin.get("/api/v1/audit?action=schedule.cancel").await.expect(200);
        assert_eq!(audit["items"].as_array().map(Vec::len), Some(2));
        world.advance_ms(DAY_MS);
        assert_eq!(run(&world.app).await, Ran::default());
    }
}

#[tokio::test]
async fn a_replica_that_dies_over_a_piece_does_not_try_it_for_ever() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        planned(&world, new("test.do", "deadly", 0)).await;
        for _ in 0..MAX_ATTEMPTS {
            claim(&world.app, &["test.do"]).await.expect("the database").expect("due");
            world.advance_ms(CLAIM_MS);
        }
        assert_eq!(run(&world.app).await, Ran { given_up: 1, ..Ran::default() });
        assert_eq!(marks(&admin).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn work_in_several_transactions_goes_on_where_it_was() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        planned(&world, new("test.count", "it", 0)).await;
        assert_eq!(run(&world.app).await, Ran { done: 1, continued: 2, ..Ran::default() });
        assert_eq!(listed(&admin, "kind=test.count").await[0]["result"], "deleted 3 things");
    }
}

#[tokio::test]
async fn cancelled_work_is_not_done_and_can_be_planned_anew() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        planned(&world, new("test.do", "it", 0)).await;
        let mut tx = world.app.db.write("test.cancel").await.expect("a transaction");
        let about = About::new("thing", "it");
        let now = world.app.now();
        assert_eq!(cancel(&mut tx, "test.do", &about, "it is gone", now).await.expect("cancelled"), 1);
        assert_eq!(cancel(&mut tx, "test.do", &about, "it is gone", now).await.expect("nothing"), 0);
        tx.commit().await.expect("committed");
        assert_eq!(run(&world.app).await, Ran::default());
        assert_eq!(listed(&admin, "about=thing:it").await[0]["result"], "it is gone");
        assert!(planned(&world, new("test.do", "it", 5)).await);
        world.advance_ms(5);
        assert_eq!(run(&world.app).await.done, 1);
        assert_eq!(marks(&admin).await, ["it"]);
        let id = listed(&admin, "about=thing:it&state=done").await[0]["id"].as_str().expect("id").to_string();
        admin.post(&format!("/api/v1/tasks/{id}/retry"), Value::Null).await.problem(409, "task_done");
    }
}

#[tokio::test]
async fn missed_runs_of_recurring_work_are_caught_up_once_by_one_replica() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let mut executors = executors();
        executors.recurring("test.daily", Every::Day { at_hour: 3 }, |app, conn, task| {
            Box::pin(leave_a_mark(app, conn, task))
        });
        executors
            .recurring("test.hourly", Every::Hour, |app, conn, task| Box::pin(leave_a_mark(app, conn, task)));
        let run = async |app: &App| run_due(app, &executors).await.expect("the database").done;
        let other = replica(&world).await;
        assert_eq!(run(&world.app).await, 1, "the hour that has begun; the day's work is due at three");
        let waiting = listed(&admin, "kind=test.daily&state=waiting").await;
        assert_eq!(waiting[0]["due_at"], World::START.0 + 3 * HOUR_MS);
        // Nobody runs for a week; then two do, at the same time.
        world.advance_ms(7 * DAY_MS + 5 * HOUR_MS);
        let (one, two) = tokio::join!(run(&world.app), run(&other));
        assert_eq!(one + two, 2, "each once");
        let daily = listed(&admin, "kind=test.daily").await;
        let told: Vec<_> = daily
            .iter()
            .map(|task| (task["about"]["id"].as_str().expect("a day"), task["state"].as_str().expect("one")))
            .collect();
        assert_eq!(told, [("2026-01-15", "cancelled"), ("2026-01-22", "done"), ("2026-01-23", "waiting")]);
        world.advance_ms(22 * HOUR_MS - 1);
        assert_eq!(run(&world.app).await, 1, "an hour's");
        world.advance_ms(1);
        assert_eq!(run(&world.app).await, 2, "an hour's and the day's");
    }
}

#[tokio::test]
async fn lists_are_filtered_and_turn_pages() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        for n in 0..5 {
            planned(&world, new("test.do", &format!("{n}"), n)).await;
        }
        let due = |from: i64, until: i64| {
            format!("due_from={}&due_until={}", World::START.0 + from, World::START.0 + until)
        };
        assert_eq!(listed(&admin, &due(1, 3)).await.len(), 2);
        assert_eq!(listed(&admin, "about=thing:4").await.len(), 1);
        assert_eq!(listed(&admin, "kind=test.other").await.len(), 0);
        let first = admin.get("/api/v1/tasks?limit=3").await.expect(200);
        let next = first["next"].as_str().expect("more");
        let second = admin.get(&format!("/api/v1/tasks?limit=3&cursor={next}")).await.expect(200);
        let ids: Vec<_> = [&first, &second]
            .iter()
            .flat_map(|page| page["items"].as_array().expect("items"))
            .map(|task| task["about"]["id"].as_str().expect("an id"))
            .collect();
        assert_eq!((ids, &second["next"]), (vec!["0", "1", "2", "3", "4"], &Value::Null));
        for query in ["state=late", "about=thing", "cursor=eA"] {
            let field = query.split('=').next().expect("a field");
            admin.get(&format!("/api/v1/tasks?{query}")).await.refuses(field);
        }
    }
}

#[tokio::test]
async fn tasks_that_ended_long_ago_are_forgotten_in_batches() {
    for world in World::both_with(|config| config.task_retention_days = 30).await {
        let admin = world.operator("root", &["admin"]).await;
        let many = BATCH + 1;
        for n in 0..many {
            planned(&world, new("test.do", &format!("{n}"), 0)).await;
        }
        world.sql("UPDATE tasks SET state = 'done', finished_at = due_at").await;
        world.advance_ms(30 * DAY_MS);
        world.run_due().await;
        let left = async || world.sql("UPDATE tasks SET kind = kind WHERE kind = 'test.do'").await;
        assert_eq!(left().await, u64::try_from(many).expect("a number"), "30 days ago to the millisecond");
        world.advance_ms(DAY_MS);
        world.run_due().await;
        world.advance_ms(3 * HOUR_MS);
        world.run_due().await;
        assert_eq!(left().await, 0);
        let done = listed(&admin, "kind=schedule.forget_tasks&state=done").await;
        let results: Vec<_> = done.iter().map(|task| task["result"].as_str().expect("a result")).collect();
        assert!(results.contains(&format!("deleted {many} tasks").as_str()), "{results:?}");
    }
}

#[tokio::test]
async fn house_keeping_deletes_what_is_old_and_says_how_much() {
    let short = |config: &mut crate::config::Config| {
        (config.mail_log_retention_days, config.usage_retention_days) = (30, 60);
    };
    for world in World::both_with(short).await {
        let admin = world.operator("root", &["admin"]).await;
        let day = |days: i64| World::START.0 + days * DAY_MS;
        for (n, state, ended) in [(1, "sent", day(0)), (2, "failed", day(1)), (3, "sent", day(10))] {
            let sql = format!(
                "INSERT INTO mails (id, template, language, recipient, about_kind, about_id, subject, body_masked, \
                 context_masked, state, next_attempt_at, created_at, ended_at) VALUES ('ml_{n}', 'test', 'en', 'a@b.example', \
                 'test', '{n}', 's', 'b', '{{}}', '{state}', 0, 0, {ended})"
            );
            world.sql(&sql).await;
        }
        for hour in [day(-31), day(0)] {
            let sql = format!(
                "INSERT INTO usage_calls (grain, start, client, credential, api, result, calls) \
                 VALUES ('day', {hour}, '', '', '', 'x', 1)"
            );
            world.sql(&sql).await;
        }
        world.app.clock.set(UnixMillis(day(32) + 3 * HOUR_MS));
        world.run_due().await;
        let result = async |kind: &str| {
            let done = listed(&admin, &format!("kind={kind}&state=done")).await;
            done.last().map(|task| task["result"].as_str().expect("a result").to_owned()).expect("done")
        };
        assert_eq!(result("mail.forget").await, "deleted 2 mails");
        assert_eq!(result("usage.forget").await, "deleted 1 counts of calls");
        assert_eq!(world.sql("DELETE FROM mails").await, 1);
        assert_eq!(world.sql("DELETE FROM usage_calls").await, 1);
    }
}
