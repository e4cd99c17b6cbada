//! Exactly once: whatever happens at the same moment, is repeated, or happens on another replica.

use super::*;
use crate::app::App;

#[tokio::test]
async fn two_replicas_at_the_same_moment_issue_one_key() {
    for stage in Stage::both().await {
        let other = stage.world.operator("roger", &["reviewer_2"]).await;
        let elsewhere = stage.world.replica(&other).await;
        for round in 1..=3 {
            let id = stage.submitted(stage.form()).await;
            stage.act(&stage.rita, &id, "approve").await.expect(200);
            let (one, two) = tokio::join!(
                stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "here"),
                stage.act_on(&elsewhere, &id, "approve", "\"3\"", "there"),
            );
            let (won, lost) = if one.status == 200 { (one, two) } else { (two, one) };
            won.expect(200);
            lost.problem(409, "wrong_state");
            assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, round);
            let mails = "SELECT COUNT(*) FROM mails WHERE template = 'key_credentials'";
            assert_eq!(stage.count(mails).await, round);
            let issued = "SELECT COUNT(*) FROM audit_entries WHERE action = 'keys.issue'";
            assert_eq!(stage.count(issued).await, round);
        }
    }
}

#[tokio::test]
async fn two_replicas_make_each_scheduled_change_once() {
    for stage in Stage::both().await {
        for _ in 0..3 {
            let key = stage.key().await;
            let form = json!({
                "type": "KU", "key": key, "name": "new", "effective_date": "2026-01-16",
                "expiry_date": "2026-12-31", "quota": 5, "description": "x", "apis": [stage.apis[0]],
                "reset_usage": true,
            });
            let id = stage.submitted(form).await;
            stage.act(&stage.rita, &id, "approve").await.expect(200);
            stage.act(&stage.ralph, &id, "approve").await.expect(200);
        }
        stage.world.advance_ms(DAY_MS);
        let replica = App { db: stage.world.another_process().await, ..stage.world.app.clone() };
        let (one, two) = tokio::join!(apply_due(&stage.world.app), apply_due(&replica));
        assert_eq!(one.expect("a run") + two.expect("a run"), 3);
        for (sql, what) in [
            ("SELECT COUNT(*) FROM audit_entries WHERE action = 'keys.change'", "changes"),
            ("SELECT COUNT(*) FROM application_history WHERE action = 'apply'", "steps"),
            ("SELECT COUNT(*) FROM mails WHERE template = 'key_changed'", "mails"),
        ] {
            assert_eq!(stage.count(sql).await, 3, "{what}");
        }
        assert_eq!(apply_due(&replica).await.expect("a run"), 0, "nothing is left");
    }
}

#[tokio::test]
async fn a_submission_that_is_rolled_back_leaves_no_gap() {
    for stage in Stage::both().await {
        let first = stage.draft(stage.form()).await;
        // By the time the history is written, the number is drawn.
        stage.world.sql("ALTER TABLE application_history RENAME TO away").await;
        stage.act_on(&stage.anna, &first, "submit", "\"1\"", "").await.problem(500, "internal");
        stage.world.sql("ALTER TABLE away RENAME TO application_history").await;
        assert_eq!(stage.read(&first).await["number"], Value::Null);
        let next = stage.submitted(stage.form()).await;
        assert_eq!(stage.read(&next).await["number"], "KA-20260115-0001");
        stage.act(&stage.anna, &first, "submit").await.expect(200);
        assert_eq!(stage.read(&first).await["number"], "KA-20260115-0002");
    }
}

#[tokio::test]
async fn submissions_that_lose_a_race_leave_no_gap() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let form = json!({"type": "KR", "key": key, "effective_date": "2026-01-15", "description": "x"});
        for round in 1..=3 {
            let mut drafts = Vec::new();
            for _ in 0..4 {
                drafts.push(stage.draft(form.clone()).await);
            }
            let elsewhere = stage.world.replica(&stage.anna).await;
            let racing = drafts.iter().enumerate().map(|(n, id)| {
                let who = if n % 2 == 0 { stage.anna.clone() } else { elsewhere.clone() };
                let path = path(id, "submit");
                tokio::spawn(async move { who.send(Method::POST, &path, &[], None).await })
            });
            let mut won = Vec::new();
            for race in racing.collect::<Vec<_>>() {
                let answer = race.await.expect("no panic");
                match answer.status {
                    200 => won.push(answer.expect(200)),
                    _ => drop(answer.refuses("key")),
                }
            }
            let [won] = won.as_slice() else { panic!("one holds the key: {won:?}") };
            assert_eq!(won["number"], json!(format!("KR-20260115-{round:04}")));
            stage.act(&stage.anna, won["id"].as_str().expect("an id"), "withdraw").await.expect(200);
        }
    }
}

#[tokio::test]
async fn a_signature_and_a_withdrawal_at_the_same_moment_do_not_both_count() {
    for stage in Stage::both().await {
        stage.flow("KA", json!([["reviewer_1"]])).await;
        for _ in 0..3 {
            let before = stage.count("SELECT COUNT(*) FROM keys").await;
            let id = stage.submitted(stage.form()).await;
            let elsewhere = stage.world.replica(&stage.anna).await;
            let (signed, withdrawn) = tokio::join!(
                stage.act_on(&stage.rita, &id, "approve", "\"2\"", ""),
                stage.act_on(&elsewhere, &id, "withdraw", "\"2\"", ""),
            );
            assert_ne!(signed.status == 200, withdrawn.status == 200, "{signed:?} {withdrawn:?}");
            let keys = stage.count("SELECT COUNT(*) FROM keys").await;
            assert_eq!(keys - before, i64::from(signed.status == 200));
        }
    }
}
