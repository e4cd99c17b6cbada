//! What mails about forms say, and what is told where a mail reaches nobody.

use super::*;
use crate::config::MailTransport;
use crate::mail::{Transport, deliver_due};

const HOUR_MS: i64 = 3_600_000;

impl Stage {
    /// The texts of the mails of that template to that recipient, oldest first.
    async fn texts(&self, template: &str, recipient: &str) -> Vec<String> {
        let mut read = self.world.app.db.read().await.expect("a connection");
        let sql =
            "SELECT body_masked FROM mails WHERE template = $1 AND recipient = $2 ORDER BY created_at, id";
        let rows = sqlx::query(sql).bind(template).bind(format!("{recipient}@example.com"));
        let rows = rows.fetch_all(&mut *read).await.expect("mails");
        rows.iter().map(|row| row.try_get(0).expect("a text")).collect()
    }

    async fn tasks(&self, kind: &str) -> Vec<Value> {
        let page = self.admin.get(&format!("/api/v1/tasks?kind={kind}")).await.expect(200);
        page["items"].as_array().expect("tasks").clone()
    }

    async fn set_email(&self, who: &Caller, email: Value) {
        let path = format!("/api/v1/operators/{}", who.id);
        self.admin.patch(&path, json!({ "email": email })).await.expect(200);
    }
}

#[tokio::test]
async fn mails_and_lists_of_a_revocation_say_which_key_ends_when() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let shown = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        let api_key = shown["api_key"].as_str().expect("its public half");
        stage.world.advance_ms(1_000);
        let form = json!({ "type": "KR", "key": key, "effective_date": "2026-01-20", "description": "done" });
        let id = stage.submitted(form).await;
        let listed = stage.rita.get("/api/v1/applications?type=KR").await.expect(200);
        assert_eq!(listed["items"][0]["name"], "orders key");
        assert_eq!(stage.read(&id).await["name"], "orders key");
        let told = stage.texts("application_step", "rita").await.pop().expect("rita is to sign");
        for said in ["Key: orders key", &format!("API Key: {api_key}"), "2026-01-20", "- orders"] {
            assert!(told.contains(said), "{said} in\n{told}");
        }
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        let result = stage.texts("application_result", "anna").await.pop().expect("a result");
        assert!(result.contains(&format!("API Key: {api_key}")) && result.contains("orders key"), "{result}");
    }
}

/// The version that the command of a mail names.
fn version_in(text: &str) -> &str {
    let (_, rest) = text.split_once(" --version ").unwrap_or_else(|| panic!("no version in\n{text}"));
    rest.split_whitespace().next().expect("a number")
}

#[tokio::test]
async fn the_commands_of_a_mail_work_as_they_stand() {
    let hours = |config: &mut Config| {
        (config.review_reminder_h, config.review_escalation_h) = (24, 48);
        config.public_url = Some("https://keygate.example".into());
    };
    for stage in Stage::both_with(hours).await {
        let rosa = stage.world.operator("rosa", &["reviewer_2"]).await;
        let id = stage.submitted(stage.form()).await;
        let version = async || stage.read(&id).await["version"].to_string();
        let first = stage.texts("application_step", "rita").await.remove(0);
        assert_eq!(version_in(&first), version().await);
        for said in ["export KEYGATE_URL='https://keygate.example'", "KEYGATE_TOKEN"] {
            assert!(first.contains(said), "{said} in\n{first}");
        }
        stage.world.advance_ms(24 * HOUR_MS);
        stage.world.run_due().await;
        let reminder = stage.texts("review_waiting", "rita").await.remove(0);
        assert_eq!(version_in(&reminder), version().await);
        stage.world.advance_ms(24 * HOUR_MS);
        stage.world.run_due().await;
        let escalated = stage.texts("review_waiting", "rosa").await.remove(0);
        let seen = format!("\"{}\"", version_in(&escalated));
        stage.act_on(&rosa, &id, "approve", &seen, "").await.expect(200);
    }
}

#[tokio::test]
async fn mails_link_to_a_console_only_where_there_is_one() {
    for console in [None, Some("https://console.example/")] {
        let settings = |config: &mut Config| {
            config.public_url = Some("https://keygate.example".into());
            config.console_url = console.map(str::to_owned);
        };
        for stage in Stage::both_with(settings).await {
            let id = stage.submitted(stage.form()).await;
            for who in ["anna", "rita"] {
                let told = stage.texts("application_step", who).await.remove(0);
                assert!(told.contains("keygate applications show KA-"), "{told}");
                let link = format!("https://console.example/applications/{id}");
                assert_eq!(told.contains(&link), console.is_some(), "{told}");
                assert_eq!(told.contains("/applications/ap"), console.is_some(), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn who_has_no_address_is_named_where_others_are_reminded_and_escalated_to() {
    let hours = |config: &mut Config| (config.review_reminder_h, config.review_escalation_h) = (24, 48);
    for stage in Stage::both_with(hours).await {
        let rob = stage.world.operator("rob", &["reviewer_1"]).await;
        let rosa = stage.world.operator("rosa", &["reviewer_2"]).await;
        stage.set_email(&rob, Value::Null).await;
        stage.set_email(&rosa, Value::Null).await;
        stage.submitted(stage.form()).await;
        stage.world.advance_ms(48 * HOUR_MS);
        stage.world.run_due().await;
        let text = |task: &Value| task["result"].as_str().expect("a result").to_owned();
        let told = text(&stage.tasks("applications.remind").await[0]);
        assert!(told.contains("reminded rita; no mail to rob: no e-mail address"), "{told}");
        let told = text(&stage.tasks("applications.escalate").await[0]);
        assert!(told.contains("was told: ralph; no mail to rosa"), "{told}");
    }
}

#[tokio::test]
async fn a_reminder_or_escalation_that_reaches_nobody_fails_until_somebody_has_an_address() {
    let hours = |config: &mut Config| (config.review_reminder_h, config.review_escalation_h) = (24, 48);
    for stage in Stage::both_with(hours).await {
        let rosa = stage.world.operator("rosa", &["reviewer_2"]).await;
        for who in [&stage.rita, &stage.ralph, &rosa] {
            stage.set_email(who, Value::Null).await;
        }
        let id = stage.submitted(stage.form()).await;
        stage.world.advance_ms(48 * HOUR_MS);
        assert_eq!(stage.world.run_due().await.given_up, 2);
        for (kind, named) in [("applications.remind", "rita"), ("applications.escalate", "ralph, rosa")] {
            let task = &stage.tasks(kind).await[0];
            let error = task["error"].as_str().expect("why");
            assert_eq!(task["state"], "failed");
            assert!(error.contains(named) && error.contains("PATCH /api/v1/operators"), "{error}");
        }
        // They may sign all the same.
        assert!(stage.read(&id).await["waiting"]["escalated_at"].is_i64());
        stage.set_email(&stage.rita, json!("rita@example.com")).await;
        stage.set_email(&rosa, json!("rosa@example.com")).await;
        for kind in ["applications.remind", "applications.escalate"] {
            let task = stage.tasks(kind).await[0]["id"].as_str().expect("an id").to_owned();
            stage.admin.post(&format!("/api/v1/tasks/{task}/retry"), Value::Null).await.expect(200);
        }
        assert_eq!(stage.world.run_due().await.done, 2);
        // Rita and Rosa may both sign by now; the escalation's mail goes to whom it let sign.
        assert_eq!(stage.texts("review_waiting", "rosa").await.len(), 2);
        assert_eq!(stage.texts("review_waiting", "rita").await.len(), 1);
    }
}

#[tokio::test]
async fn administrators_without_an_address_are_warned_of_and_told_once_they_have_one() {
    let hours = |config: &mut Config| config.review_escalation_h = 48;
    for stage in Stage::both_with(hours).await {
        let warnings =
            async || stage.world.anon().get("/readyz").await.expect(200)["reviews"]["warnings"].clone();
        assert_eq!(warnings().await, json!([]));
        stage.set_email(&stage.admin, Value::Null).await;
        assert_eq!(warnings().await[0]["code"], "administrators_without_address");
        // Ralph alone signs level 2: an escalation of level 1 to him is refused.
        stage.submitted(stage.form()).await;
        stage.world.advance_ms(48 * HOUR_MS);
        stage.world.run_due().await;
        let told = stage.tasks("applications.escalate").await[0]["result"].to_string();
        assert!(told.contains("no administrator could be told"), "{told}");
        stage.set_email(&stage.admin, json!("ann@example.com")).await;
        for _ in 0..3 {
            stage.world.advance_ms(HOUR_MS);
            stage.world.run_due().await;
        }
        let [told] = &stage.texts("review_stuck", "ann").await[..] else { panic!("one mail") };
        let told = told.replace('\n', " ");
        assert!(told.contains("would be missing afterwards: level 2 would have nobody left"), "{told}");
        assert!(!told.contains("has no signer"), "{told}");
    }
}

#[tokio::test]
async fn applicant_and_administrators_are_told_that_credentials_could_not_be_delivered() {
    let folder = std::env::temp_dir().join(format!("keygate-undelivered-{}", std::process::id()));
    let settings = |config: &mut Config| {
        config.mail_transport = MailTransport::File;
        config.mail_file_dir = folder.clone();
    };
    for stage in Stage::both_with(settings).await {
        let app = &stage.world.app;
        let transport = Transport::open(&app.config).expect("a folder");
        let key = stage.key().await;
        stage.world.sql("DELETE FROM mails WHERE template = 'client_created'").await;
        deliver_due(app, &transport).await.expect("what is due at once goes");
        std::fs::remove_dir_all(&folder).expect("the disk is gone");
        stage.world.advance_ms(73 * HOUR_MS);
        assert_eq!(deliver_due(app, &transport).await.expect("tried").given_up, 1);
        assert!(stage.texts("credentials_undelivered", "ann").await.is_empty());
        stage.world.run_due().await;
        let [to_ann] = &stage.texts("credentials_undelivered", "ann").await[..] else { panic!("one mail") };
        for said in ["acme@example.com", "orders key", &format!("POST /api/v1/keys/{key}/resend"), "KA-"] {
            assert!(to_ann.contains(said), "{said} in\n{to_ann}");
        }
        let [to_anna] = &stage.texts("credentials_undelivered", "anna").await[..] else { panic!("one mail") };
        assert!(to_anna.contains("orders key") && !to_anna.contains("acme@example.com"), "{to_anna}");
        let ready = stage.world.anon().get("/readyz").await.expect(200);
        assert_eq!(ready["mail"]["failed_last_day"], 1);

        // These are given up in turn, and that is told to nobody.
        stage.world.advance_ms(73 * HOUR_MS);
        assert_eq!(deliver_due(app, &transport).await.expect("tried").given_up, 2);
        stage.world.run_due().await;
        assert_eq!(stage.tasks("mail.tell_undelivered").await.len(), 1);
        assert_eq!(stage.texts("credentials_undelivered", "ann").await.len(), 1);
    }
}
