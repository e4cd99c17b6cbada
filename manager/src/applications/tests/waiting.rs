//! Levels that wait for too long, and forms that nobody can sign.

use super::super::report_stuck;
use super::*;

const HOUR_MS: i64 = 3_600_000;

impl Stage {
    async fn hourly(reminder: u32, escalation: u32) -> Vec<Self> {
        Self::both_with(|config| {
            config.review_reminder_h = reminder;
            config.review_escalation_h = escalation;
        })
        .await
    }

    /// Two replicas look for what is due at the same moment.
    async fn run_due(&self) {
        let (one, other) = tokio::join!(self.world.run_due(), self.world.run_due());
        assert_eq!((one.postponed, other.postponed, one.given_up, other.given_up), (0, 0, 0, 0));
    }

    /// To whom mails of that template were sent, sorted.
    async fn told_by(&self, template: &str) -> Vec<String> {
        let mails = self.mails().await.into_iter().filter(|mail| mail.1 == template);
        let mut told: Vec<_> = mails.map(|mail| mail.0.replace("@example.com", "")).collect();
        told.sort();
        told
    }

    async fn history(&self, id: &str) -> Vec<(String, String, Value)> {
        let detail = self.read(id).await;
        let text = |step: &Value, field: &str| step[field].as_str().expect("a text").to_owned();
        let steps = detail["history"].as_array().expect("a history");
        steps.iter().map(|step| (text(step, "action"), text(step, "actor"), step["level"].clone())).collect()
    }

    async fn set_status(&self, who: &Caller, status: &str) {
        let path = format!("/api/v1/operators/{}", who.id);
        self.admin.patch(&path, json!({ "status": status })).await.expect(200);
    }
}

#[tokio::test]
async fn reviewers_are_reminded_once_of_each_level_that_waits() {
    for stage in Stage::hourly(24, 0).await {
        let ben = stage.world.operator("ben", &[]).await;
        let until = stage.world.app.now().0 + 60 * 24 * HOUR_MS;
        stage
            .rita
            .post("/api/v1/delegations", json!({ "delegate": ben.id, "until": until }))
            .await
            .expect(201);
        let id = stage.submitted(stage.form()).await;
        stage.world.advance_ms(24 * HOUR_MS - 1);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, [""; 0]);
        stage.world.advance_ms(1);
        stage.run_due().await;
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["ben", "rita"]);
        let waiting = stage.read(&id).await["waiting"].clone();
        assert_eq!(
            (&waiting["reminded_at"], &waiting["round"]),
            (&json!(stage.world.app.now().0), &json!(1))
        );
        let version = stage.read(&id).await["version"].clone();
        assert_eq!(version, json!(2), "a reminder keeps nobody from signing what they read");

        // The next level, from when it waits.
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.world.advance_ms(24 * HOUR_MS);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["ben", "ralph", "rita"]);
        // Returned, nobody is reminded; in the next round they are again.
        stage.act(&stage.ralph, &id, "return").await.expect(200);
        stage.world.advance_ms(48 * HOUR_MS);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await.len(), 3);
        let edited = without(with(stage.form(), "effective_date", json!("2026-01-20")), "type");
        stage.anna.put(&path(&id, ""), edited).await.expect(200);
        stage.act(&stage.anna, &id, "resubmit").await.expect(200);
        stage.world.advance_ms(24 * HOUR_MS);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["ben", "ben", "ralph", "rita", "rita"]);
        let trail = stage.admin.get("/api/v1/audit?action=applications.remind").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(3));
        assert_eq!(trail["items"][0]["detail"]["told"], "ben, rita");
    }
}

#[tokio::test]
async fn a_level_that_waits_too_long_may_be_signed_by_the_next_and_the_last_by_administrators() {
    for stage in Stage::hourly(0, 48).await {
        let rosa = stage.world.operator("rosa", &["reviewer_2"]).await;
        let id = stage.submitted(stage.form()).await;
        stage.act(&rosa, &id, "approve").await.problem(403, "forbidden");
        stage.world.advance_ms(48 * HOUR_MS);
        stage.run_due().await;
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["ralph", "rosa"]);
        let escalate = ("escalate".to_owned(), "keygate".to_owned(), json!(1));
        assert_eq!(stage.history(&id).await.last(), Some(&escalate));
        let detail = stage.read(&id).await;
        assert_eq!(detail["waiting"]["escalated_at"], json!(stage.world.app.now().0));
        let signers: Vec<_> = detail["waiting"]["signers"]
            .as_array()
            .expect("signers")
            .iter()
            .map(|signer| (signer["name"].as_str().expect("a name"), signer["by_escalation"] == true))
            .collect();
        assert_eq!(signers, [("ralph", true), ("rita", false), ("rosa", true)]);
        // Whoever read the form before is told, and reads it again.
        let stale = stage.act_on(&rosa, &id, "approve", "\"2\"", "").await;
        stale.problem(412, "version_mismatch");

        let signed = stage.act(&rosa, &id, "approve").await.expect(200);
        assert_eq!(signed["level"], json!(2));
        let step = stage.read(&id).await["history"].as_array().expect("a history")[3].clone();
        assert_eq!((&step["actor"], &step["escalated"]), (&json!(rosa.id), &json!(true)));
        stage.act(&rosa, &id, "approve").await.problem(403, "signed_another_level");
        stage.act(&stage.admin, &id, "approve").await.problem(403, "forbidden");

        // The last level, from when it waits.
        stage.world.advance_ms(48 * HOUR_MS - 1);
        stage.run_due().await;
        stage.act(&stage.admin, &id, "approve").await.problem(403, "forbidden");
        stage.world.advance_ms(1);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["ann", "ralph", "rosa"]);
        let approved = stage.act(&stage.admin, &id, "approve").await.expect(200);
        assert_eq!(approved["state"], "approved");
        let trail = stage.admin.get("/api/v1/audit?action=applications.escalate").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(2));
    }
}

#[tokio::test]
async fn who_has_scheduled_work_tried_again_escalates_nothing_early() {
    for stage in Stage::hourly(24, 48).await {
        stage.world.operator("rosa", &["reviewer_2"]).await;
        let id = stage.submitted(stage.form()).await;
        let planned = stage.admin.get(&format!("/api/v1/tasks?about=application:{id}")).await.expect(200);
        for task in planned["items"].as_array().expect("a reminder and an escalation") {
            let path = format!("/api/v1/tasks/{}/retry", task["id"].as_str().expect("an id"));
            let retried = stage.admin.post(&path, Value::Null).await.expect(200);
            assert_eq!(
                (&retried["state"], &retried["next_attempt_at"]),
                (&json!("waiting"), &task["due_at"])
            );
        }
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, [""; 0]);
        assert_eq!(stage.read(&id).await["waiting"]["escalated_at"], Value::Null);
        // Nor does one that has got to be done before its time.
        stage.world.sql("UPDATE tasks SET next_attempt_at = 0 WHERE kind LIKE 'applications.%'").await;
        assert_eq!(stage.world.run_due().await.postponed, 2);
        assert_eq!(stage.told_by("review_waiting").await, [""; 0]);
        assert_eq!(stage.read(&id).await["waiting"]["escalated_at"], Value::Null);

        stage.world.advance_ms(48 * HOUR_MS);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["ralph", "rita", "rosa"]);
        assert_ne!(stage.read(&id).await["waiting"]["escalated_at"], Value::Null);
    }
}

#[tokio::test]
async fn an_escalation_that_would_leave_no_signer_is_refused_and_reported() {
    for stage in Stage::hourly(0, 48).await {
        // Ralph is the only one of level 2.
        let id = stage.submitted(stage.form()).await;
        stage.world.advance_ms(48 * HOUR_MS);
        stage.run_due().await;
        stage.run_due().await;
        let refused = ("escalation_refused".to_owned(), "keygate".to_owned(), json!(1));
        assert_eq!(stage.history(&id).await.last(), Some(&refused));
        assert_eq!(stage.told_by("review_stuck").await, ["ann"]);
        assert_eq!(stage.told_by("review_waiting").await, [""; 0]);
        stage.act(&stage.ralph, &id, "approve").await.problem(403, "forbidden");
        let detail = stage.read(&id).await;
        assert_eq!(detail["waiting"]["escalated_at"], Value::Null);
        let comment = detail["history"].as_array().expect("a history")[2]["comment"].clone();
        assert!(comment.as_str().is_some_and(|text| text.contains("level 2 has nobody")), "{comment}");
        // It changed nothing: who has read the form before, signs what is there.
        stage.act_on(&stage.rita, &id, "approve", "\"1\"", "").await.problem(412, "version_mismatch");
        stage.act_on(&stage.rita, &id, "approve", "\"2\"", "").await.expect(200);
        let stale = stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "").await;
        stale.problem(412, "version_mismatch");
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
    }
}

#[tokio::test]
async fn a_refused_escalation_is_reported_once_and_succeeds_once_somebody_new_has_come() {
    for stage in Stage::hourly(0, 48).await {
        let id = stage.submitted(stage.form()).await;
        stage.world.advance_ms(48 * HOUR_MS);
        for _ in 0..3 {
            stage.run_due().await;
            stage.world.advance_ms(HOUR_MS);
        }
        assert_eq!(stage.told_by("review_stuck").await, ["ann"]);
        let refused = |step: &&(String, String, Value)| step.0 == "escalation_refused";
        assert_eq!(stage.history(&id).await.iter().filter(refused).count(), 1);

        let rosa = stage.world.operator("rosa", &["reviewer_2"]).await;
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["ralph", "rosa"]);
        stage.act(&rosa, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
    }
}

#[tokio::test]
async fn forms_that_waited_before_reminders_were_wanted_are_reminded_and_escalated_too() {
    for mut stage in Stage::hourly(0, 0).await {
        stage.world.operator("rosa", &["reviewer_2"]).await;
        // Filed under a version that planned nothing, and one that is signed before it is due.
        let id = stage.submitted(stage.form()).await;
        let signed = stage.submitted(stage.form()).await;
        stage.world.advance_ms(24 * HOUR_MS);
        stage.act(&stage.rita, &signed, "reject").await.expect(200);
        let hours = |reminder: u32, escalation: u32| {
            let mut config = (*stage.world.app.config).clone();
            config.review_reminder_h = reminder;
            config.review_escalation_h = escalation;
            std::sync::Arc::new(config)
        };
        let (off, on) = (hours(0, 0), hours(24, 48));
        stage.world.app.config = on.clone();
        let (one, other) = tokio::join!(report_stuck(&stage.world.app), report_stuck(&stage.world.app));
        assert_eq!(one.expect("the database") + other.expect("the database"), 0);
        // Switched off when it falls due, it is done once it is on again.
        stage.world.app.config = off;
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, [""; 0]);
        stage.world.app.config = on;
        stage.world.advance_ms(HOUR_MS);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["rita"]);
        // Both count from when the level began to wait.
        stage.world.advance_ms(23 * HOUR_MS - 1);
        report_stuck(&stage.world.app).await.expect("the database");
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["rita"]);
        stage.world.advance_ms(1);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["ralph", "rita", "rosa"]);
        assert!(stage.read(&id).await["waiting"]["escalated_at"].is_i64());
    }
}

#[tokio::test]
async fn what_is_switched_off_or_no_longer_waits_is_not_done() {
    const PLANNED: &str = "SELECT COUNT(*) FROM tasks WHERE kind LIKE 'applications.%' AND about_kind = 'application' AND state = 'waiting'";
    for stage in Stage::hourly(0, 0).await {
        stage.submitted(stage.form()).await;
        assert_eq!(stage.count(PLANNED).await, 0);
    }
    for stage in Stage::hourly(24, 48).await {
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(stage.submitted(stage.form()).await);
        }
        assert_eq!(stage.count(PLANNED).await, 8);
        stage.act(&stage.anna, &ids[0], "withdraw").await.expect(200);
        stage.act(&stage.rita, &ids[1], "reject").await.expect(200);
        stage.act(&stage.rita, &ids[2], "approve").await.expect(200);
        stage.act(&stage.ralph, &ids[2], "approve").await.expect(200);
        assert_eq!(stage.count(PLANNED).await, 2, "those of the one that waits");
        // Should one be done all the same, it finds nothing to do.
        stage.world.sql("UPDATE tasks SET state = 'waiting' WHERE state = 'cancelled'").await;
        stage.world.advance_ms(48 * HOUR_MS);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["rita"]);
        assert_eq!(stage.told_by("review_stuck").await, ["ann"]);
    }
}

#[tokio::test]
async fn administrators_are_told_once_of_a_form_that_nobody_can_sign() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        let other = stage.submitted(stage.form()).await;
        let report = async || report_stuck(&stage.world.app).await.expect("the database");
        assert_eq!(report().await, 0);
        assert_eq!(stage.read(&id).await["waiting"]["problem"], Value::Null);
        stage.act(&stage.rita, &other, "reject").await.expect(200);

        stage.set_status(&stage.ralph, "disabled").await;
        let (one, another) = tokio::join!(report_stuck(&stage.world.app), report_stuck(&stage.world.app));
        assert_eq!(one.expect("the database") + another.expect("the database"), 1);
        assert_eq!(report().await, 0);
        assert_eq!(stage.told_by("review_stuck").await, ["ann"]);
        let problem = stage.read(&id).await["waiting"]["problem"].clone();
        assert!(problem.as_str().is_some_and(|text| text.contains("level 2 has nobody")), "{problem}");
        // What can be done is done, and by whom is seen.
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        assert_eq!(stage.read(&id).await["waiting"]["signers"], json!([]));
        assert_eq!(report().await, 1, "another level waits now");

        stage.set_status(&stage.ralph, "active").await;
        assert_eq!(report().await, 0);
        assert_eq!(stage.read(&id).await["waiting"]["problem"], Value::Null);
        stage.set_status(&stage.ralph, "disabled").await;
        assert_eq!(report().await, 1, "it is told of anew");
        assert_eq!(stage.told_by("review_stuck").await, ["ann", "ann", "ann"]);
        let trail = stage.admin.get("/api/v1/audit?action=applications.stuck").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(3));
    }
}

impl Stage {
    /// Tasks about a form that wait, by kind and level.
    async fn wanted_of(&self, id: &str) -> Vec<(String, u64)> {
        let path = format!("/api/v1/tasks?about=application:{id}&state=waiting");
        let page = self.admin.get(&path).await.expect(200);
        let tasks = page["items"].as_array().expect("tasks").iter();
        let mut found: Vec<_> = tasks
            .map(|task| {
                let level = task["detail"]["level"].as_u64().expect("a level");
                (task["kind"].as_str().expect("a kind").to_owned(), level)
            })
            .collect();
        found.sort();
        found
    }
}

/// A cancelled reminder stays cancelled for as long as its level waits, unless somebody has it tried again;
/// the next level and the next submission have reminders of their own.
#[tokio::test]
async fn a_cancelled_reminder_is_planned_again_for_the_next_level_and_submission_alone() {
    for stage in Stage::hourly(24, 0).await {
        let remind = |level| vec![("applications.remind".to_owned(), level)];
        let id = stage.submitted(stage.form()).await;
        assert_eq!(stage.wanted_of(&id).await, remind(1));
        let cancel = async || {
            let tasks = stage.admin.get(&format!("/api/v1/tasks?about=application:{id}&state=waiting")).await;
            let task = tasks.expect(200)["items"][0]["id"].as_str().expect("a task").to_owned();
            stage.admin.post(&format!("/api/v1/tasks/{task}/cancel"), json!({})).await.expect(200);
            task
        };
        let task = cancel().await;
        stage.admin.post(&format!("/api/v1/tasks/{task}/retry"), json!({})).await.expect(200);
        assert_eq!(stage.wanted_of(&id).await, remind(1), "who cancelled it may want it again");
        cancel().await;
        report_stuck(&stage.world.app).await.expect("a run");
        assert_eq!(stage.wanted_of(&id).await, [], "the job that plans what is missing leaves it");
        stage.world.advance_ms(25 * HOUR_MS);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, [""; 0]);
        assert_eq!(stage.read(&id).await["waiting"]["reminded_at"], Value::Null);

        stage.act(&stage.rita, &id, "approve").await.expect(200);
        assert_eq!(stage.wanted_of(&id).await, remind(2));
        cancel().await;
        stage.act(&stage.ralph, &id, "return").await.expect(200);
        let later = json!("2026-01-17");
        let fields = with(without(stage.form(), "type"), "effective_date", later);
        stage.anna.send(Method::PUT, &path(&id, ""), &[], Some(fields)).await.expect(200);
        stage.act(&stage.anna, &id, "resubmit").await.expect(200);
        assert_eq!(stage.wanted_of(&id).await, remind(1), "of the second submission");
        stage.world.advance_ms(24 * HOUR_MS);
        stage.run_due().await;
        assert_eq!(stage.told_by("review_waiting").await, ["rita"]);
    }
}
