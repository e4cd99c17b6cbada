//! Reminders that a key ends.

use jiff::civil::date;
use serde_json::{Value, json};

use super::{HOUR_MS, furnish, issued};
use crate::keys::{self, KeyChange};
use crate::testing::{Caller, World};

/// The reminders that were written, oldest first: template and what it says of the days.
async fn reminders(admin: &Caller) -> Vec<String> {
    let mut told = Vec::new();
    for template in ["key_expiring", "x_api_key_expiring"] {
        let mails = admin.get(&format!("/api/v1/mails?template={template}")).await.expect(200);
        for mail in mails["items"].as_array().expect("mails").iter().rev() {
            assert_eq!(mail["recipient"], "ops@acme.example");
            told.push(mail["subject"].as_str().expect("a subject").to_owned());
        }
    }
    told
}

/// Nine o'clock of the day so many days before 2026-12-31, on a clock that does not go back.
fn goes_to(world: &World, days_before: i64) {
    let last = 1_798_675_200_000; // 2026-12-31T00:00Z
    world.app.clock.set(gate::time::UnixMillis(last - days_before * 24 * HOUR_MS + 9 * HOUR_MS));
}

#[tokio::test]
async fn a_client_is_reminded_once_per_threshold_that_its_key_ends() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        issued(&world, -1, &apis).await;
        let subject = |left: &str| format!("【Keygate】API Key Expiry Notice: “orders key” expires {left}");
        let mut expected = Vec::new();
        for (days_before, told) in [
            (31, None),
            (30, Some("in 30 days")),
            (29, None),
            (14, Some("in 14 days")),
            (7, Some("in 7 days")),
            (1, Some("tomorrow")),
            (0, None),
            (-1, None),
        ] {
            goes_to(&world, days_before);
            world.run_due().await;
            world.run_due().await;
            expected.extend(told.map(subject));
            assert_eq!(reminders(&admin).await, expected, "{days_before}");
        }
        let done = admin.get("/api/v1/tasks?kind=keys.remind_of_expiry&state=done").await.expect(200);
        let results: Vec<_> =
            done["items"].as_array().expect("tasks").iter().map(|task| &task["result"]).collect();
        assert!(results.contains(&&json!("reminded of 1 that end soon")), "{results:?}");
    }
}

#[tokio::test]
async fn after_a_pause_only_the_nearest_reminder_is_sent() {
    for world in World::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        issued(&world, -1, &apis).await;
        goes_to(&world, 40);
        world.run_due().await;
        goes_to(&world, 5);
        world.run_due().await;
        assert_eq!(
            reminders(&admin).await,
            ["【Keygate】API Key Expiry Notice: “orders key” expires in 5 days"]
        );
    }
}

#[tokio::test]
async fn a_later_expiry_voids_reminders_and_brings_new_ones() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, -1, &apis).await.key;
        goes_to(&world, 7);
        world.run_due().await;
        let change = KeyChange {
            name: key.name.clone(),
            expires_on: date(2027, 1, 3),
            uses: key.uses,
            reset_usage: false,
            apis: key.apis.clone(),
            application: None,
        };
        let mut tx = world.app.db.write("test.change").await.expect("a transaction");
        keys::change(&mut tx, &world.app, &key.id, change, "system", world.app.now()).await.expect("changed");
        tx.commit().await.expect("committed");
        let withdrawn = admin.get("/api/v1/mails?template=key_expiring&state=failed").await.expect(200);
        assert_eq!(withdrawn["items"].as_array().map(Vec::len), Some(1), "it had not gone yet");
        goes_to(&world, 6);
        world.run_due().await;
        assert_eq!(reminders(&admin).await.len(), 1, "9 days: that of 14 lies before the change");
        goes_to(&world, 4);
        world.run_due().await;
        let told = reminders(&admin).await;
        assert_eq!(told[1..], ["【Keygate】API Key Expiry Notice: “orders key” expires in 7 days"]);
    }
}

#[tokio::test]
async fn nobody_is_reminded_of_revoked_keys_or_when_it_is_off() {
    let off = |config: &mut crate::config::Config| {
        config.key_expiry_reminder_days = crate::expiry::ReminderDays::parse("off").expect("a list");
    };
    for (worlds, revoked) in [(World::both().await, true), (World::both_with(off).await, false)] {
        for world in worlds {
            let admin = world.operator("ann", &["admin"]).await;
            let apis = furnish(&admin).await;
            let key = issued(&world, -1, &apis).await.key;
            if revoked {
                admin.post(&format!("/api/v1/keys/{}/revoke", key.id), Value::Null).await.expect(200);
            }
            goes_to(&world, 7);
            world.run_due().await;
            assert_eq!(reminders(&admin).await, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_key_whose_reminder_cannot_be_written_does_not_stop_those_behind_it() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let broken = issued(&world, -1, &apis).await.key;
        issued(&world, -1, &apis).await;
        goes_to(&world, 31);
        // It stands first, and its row makes no sense.
        let (id, first) = (&broken.id, broken.validity.until.0 - 1);
        world
            .sql(&format!("UPDATE keys SET origin = 'nowhere', expires_at = {first} WHERE id = '{id}'"))
            .await;
        for days_before in [30, 29] {
            goes_to(&world, days_before);
            world.run_due().await;
            assert_eq!(reminders(&admin).await.len(), 1, "{days_before}");
        }
        let result = async || {
            let done = admin.get("/api/v1/tasks?kind=keys.remind_of_expiry&state=done").await.expect(200);
            done["items"].as_array().expect("tasks").last().expect("a task")["result"].clone()
        };
        let told = result().await;
        assert_eq!(told, "reminded of 0 that end soon; 1 could not be written: the log has the reasons");
        // Mended, it is made up for.
        world.sql(&format!("UPDATE keys SET origin = 'issued' WHERE id = '{id}'")).await;
        goes_to(&world, 28);
        world.run_due().await;
        assert_eq!(reminders(&admin).await.len(), 2);
        assert_eq!(result().await, "reminded of 1 that end soon");

        // What is wrong with the database itself is not passed over.
        world.sql("ALTER TABLE mails RENAME TO mails_gone").await;
        goes_to(&world, 14);
        world.run_due().await;
        let waiting = admin.get("/api/v1/tasks?kind=keys.remind_of_expiry&state=waiting").await.expect(200);
        let told = |task: &Value| task["error"].as_str().is_some_and(|error| error.contains("mails"));
        assert!(waiting["items"].as_array().expect("tasks").iter().any(told), "{waiting:#}");
    }
}

#[tokio::test]
async fn two_replicas_remind_of_many_keys_once_each() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        for _ in 0..12 {
            issued(&world, -1, &apis).await;
        }
        goes_to(&world, 14);
        let other = crate::app::App { db: world.another_process().await, ..world.app.clone() };
        let executors = crate::executors(&world.app.config);
        let (one, two) = tokio::join!(
            crate::schedule::run_due(&world.app, &executors),
            crate::schedule::run_due(&other, &executors)
        );
        let (one, two) = (one.expect("the database"), two.expect("the database"));
        assert_eq!((one.postponed, two.postponed), (0, 0));
        world.run_due().await;
        assert_eq!(reminders(&admin).await.len(), 12);
    }
}
