//! The way through the levels.

use super::*;

#[tokio::test]
async fn a_form_passes_two_levels_and_becomes_a_key() {
    for stage in Stage::both().await {
        let draft = stage.anna.post(FORMS, stage.form()).await.expect(201);
        assert_eq!((&draft["state"], &draft["number"]), (&json!("draft"), &Value::Null));
        assert!(stage.mails().await.is_empty(), "nobody is told of a draft");
        let id = draft["id"].as_str().expect("an id").to_owned();

        stage.world.advance_ms(1_000);
        let submitted = stage.act(&stage.anna, &id, "submit").await.expect(200);
        assert_eq!(submitted["number"], "KA-20260115-0001");
        assert_eq!(submitted["status"], "Pending order (level 1 of 2)");
        let told: Vec<_> = stage.mails().await.into_iter().map(|mail| mail.0).collect();
        assert_eq!(told, ["anna@example.com", "rita@example.com"]);

        stage.world.advance_ms(1_000);
        let seen = stage.anna.get(&path(&id, "")).await;
        let seen = seen.header("etag").expect("a version");
        let first = stage.act_on(&stage.rita, &id, "approve", seen, "fine with me").await.expect(200);
        assert_eq!((&first["state"], &first["level"]), (&json!("pending_order"), &json!(2)));
        let told: Vec<_> = stage.mails().await.into_iter().skip(2).map(|mail| mail.0).collect();
        assert_eq!(told, ["anna@example.com", "ralph@example.com"]);
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 0, "one signature is not enough");

        stage.world.advance_ms(1_000);
        let approved = stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!((&approved["state"], &approved["effect"]["state"]), (&json!("approved"), &json!("done")));
        let key = approved["key"].as_str().expect("the key's id");
        let key = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        assert_eq!(key["client"], json!(stage.client));
        let now = stage.world.app.now().0;
        let mails = stage.mails().await;
        assert_eq!(
            mails[4..],
            [
                ("anna@example.com".into(), "application_result".into(), now),
                ("acme@example.com".into(), "key_credentials".into(), now + 600_000),
            ]
        );

        let detail = stage.anna.get(&path(&id, "")).await.expect(200);
        let steps: Vec<_> = detail["history"]
            .as_array()
            .expect("a history")
            .iter()
            .map(|step| (&step["action"], &step["actor"], &step["level"], &step["comment"], &step["state"]))
            .map(|step| serde_json::to_value(step).expect("JSON"))
            .collect();
        let (anna, rita, ralph) = (&stage.anna.id, &stage.rita.id, &stage.ralph.id);
        assert_eq!(
            steps,
            [
                json!(["save", anna, null, "", "draft"]),
                json!(["submit", anna, null, "", "pending_order"]),
                json!(["approve", rita, 1, "fine with me", "pending_order"]),
                json!(["approve", ralph, 2, "", "approved"]),
            ]
        );
        assert_eq!(detail["actions"], json!([]));
    }
}

#[tokio::test]
async fn a_returned_form_is_edited_and_starts_again_at_level_one() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let returned = stage.act(&stage.ralph, &id, "return").await.expect(200);
        assert_eq!((&returned["state"], &returned["level"]), (&json!("returned"), &json!(2)));
        stage.act(&stage.anna, &id, "submit").await.problem(409, "wrong_state");

        let edited = with(without(stage.form(), "type"), "quota", json!(5));
        let other = client(&stage.admin, "other").await;
        let elsewhere = with(edited.clone(), "client", json!(other));
        let refused = stage.anna.put(&path(&id, ""), elsewhere).await.problem(422, "invalid_field");
        assert_eq!(refused["field"], "client", "it follows its form: {refused}");
        let edited = stage.anna.put(&path(&id, ""), edited).await.expect(200);
        assert_eq!((&edited["state"], &edited["quota"]), (&json!("returned"), &json!(5)));

        let again = stage.act(&stage.anna, &id, "resubmit").await.expect(200);
        assert_eq!(again["number"], "KA-20260115-0001", "the number is kept");
        assert_eq!((&again["state"], &again["level"]), (&json!("pending_order"), &json!(1)));
        let rejected = stage.act(&stage.rita, &id, "reject").await.expect(200);
        assert_eq!(rejected["state"], "rejected");
        for action in ["edit", "resubmit", "withdraw", "approve"] {
            let (who, answer) = match action {
                "edit" => ("anna", stage.anna.put(&path(&id, ""), without(stage.form(), "type")).await),
                "approve" => ("rita", stage.act(&stage.rita, &id, action).await),
                _ => ("anna", stage.act(&stage.anna, &id, action).await),
            };
            let problem = answer.problem(409, "wrong_state");
            let detail = problem["detail"].as_str().expect("a detail");
            assert!(detail.contains("rita: reject at level 1"), "{who} {action}: {detail}");
        }
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 0);
    }
}

#[tokio::test]
async fn applicants_withdraw_until_a_reviewer_has_signed() {
    for stage in Stage::both().await {
        let draft = stage.draft(stage.form()).await;
        let cancelled = stage.act(&stage.anna, &draft, "withdraw").await.expect(200);
        assert_eq!(cancelled["state"], "cancelled");

        let waiting = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &waiting, "withdraw").await.problem(403, "forbidden");
        stage.act(&stage.anna, &waiting, "withdraw").await.expect(200);
        stage.act(&stage.rita, &waiting, "approve").await.problem(409, "wrong_state");

        let signed = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &signed, "approve").await.expect(200);
        stage.act(&stage.anna, &signed, "withdraw").await.problem(409, "already_reviewed");
        stage.act(&stage.ralph, &signed, "return").await.expect(200);
        stage.act(&stage.anna, &signed, "withdraw").await.expect(200);
    }
}

#[tokio::test]
async fn the_number_of_levels_is_that_of_submission_and_roles_are_those_of_signing() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        let rosa = stage.world.operator("rosa", &["reviewer_2"]).await;
        stage.flow("KA", json!([["reviewer_2"]])).await;
        stage.act(&stage.rita, &id, "approve").await.problem(403, "forbidden");
        let first = stage.act(&rosa, &id, "approve").await.expect(200);
        assert_eq!((&first["level"], &first["levels"]), (&json!(2), &json!(2)));
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(stage.read(&id).await["state"], "approved");
    }
}

#[tokio::test]
async fn applicants_do_not_sign_their_own_forms_unless_the_installation_lets_them() {
    for allowed in [false, true] {
        for mut stage in Stage::both_with(|config| config.allow_self_approval = allowed).await {
            stage.anna = stage.world.operator("both", &["applicant", "reviewer_1"]).await;
            let id = stage.submitted(stage.form()).await;
            let own = stage.anna.get(&path(&id, "")).await.expect(200);
            let offered = own["actions"].as_array().expect("a list").contains(&json!("approve"));
            assert_eq!(offered, allowed);
            let answer = stage.act(&stage.anna, &id, "approve").await;
            if allowed {
                answer.expect(200);
            } else {
                answer.problem(403, "self_approval");
                stage.act(&stage.rita, &id, "approve").await.expect(200);
            }
        }
    }
}

#[tokio::test]
async fn a_repeated_or_late_signature_says_what_happened() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.act_on(&stage.rita, &id, "approve", "\"2\"", "").await.expect(200);
        let late = stage.act_on(&stage.rita, &id, "approve", "\"2\"", "").await;
        let problem = late.problem(412, "version_mismatch");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("rita: approve at level 1"), "{detail}");
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        let repeated = stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "").await;
        let problem = repeated.problem(409, "wrong_state");
        assert!(problem["detail"].as_str().expect("a detail").contains("ralph: approve at level 2"));
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 1);
    }
}

#[tokio::test]
async fn the_world_is_asked_again_at_submission_and_at_each_signature() {
    for stage in Stage::both().await {
        let soon = with(stage.form(), "expiry_date", json!("2026-01-16"));
        let draft = stage.draft(soon.clone()).await;
        let waiting = stage.submitted(soon.clone()).await;
        let signed = stage.submitted(soon).await;
        stage.act(&stage.rita, &signed, "approve").await.expect(200);

        stage.world.advance_ms(DAY_MS);
        stage.act(&stage.anna, &draft, "submit").await.refuses("effective_date");
        // Passed during the review: no error.
        stage.act(&stage.rita, &waiting, "approve").await.expect(200);

        stage.world.advance_ms(DAY_MS);
        stage.act(&stage.ralph, &waiting, "approve").await.refuses("expiry_date");
        stage.act(&stage.ralph, &signed, "approve").await.refuses("expiry_date");
        assert_eq!(stage.read(&signed).await["state"], "pending_order");
        stage.act(&stage.ralph, &signed, "reject").await.expect(200);
    }
}

#[tokio::test]
async fn a_client_switched_off_and_an_api_taken_away_stop_a_form() {
    for stage in Stage::both().await {
        let switch = async |status: &str| {
            let path = format!("/api/v1/clients/{}", stage.client);
            stage.admin.patch(&path, json!({ "status": status })).await.expect(200);
        };
        let draft = stage.draft(stage.form()).await;
        let waiting = stage.submitted(with(stage.form(), "apis", json!([stage.apis[1]]))).await;
        switch("disabled").await;
        stage.act(&stage.anna, &draft, "submit").await.refuses("client");
        stage.act(&stage.rita, &waiting, "approve").await.refuses("client");
        stage.anna.post(FORMS, stage.form()).await.refuses("client");
        switch("active").await;
        stage.act(&stage.rita, &waiting, "approve").await.expect(200);
        stage.admin.delete(&format!("/api/v1/apis/{}", stage.apis[1])).await;
        stage.act(&stage.ralph, &waiting, "approve").await.refuses("apis");
        // Sent back, it can be put right.
        stage.act(&stage.ralph, &waiting, "return").await.expect(200);
        stage.anna.put(&path(&waiting, ""), without(stage.form(), "type")).await.expect(200);
        stage.act(&stage.anna, &waiting, "resubmit").await.expect(200);
    }
}

#[tokio::test]
async fn whoever_takes_a_step_is_told_that_mails_do_not_go_out() {
    let codes = |answer: &Value| -> Vec<String> {
        let warnings = answer["warnings"].as_array().expect("a list");
        warnings.iter().map(|one| one["code"].as_str().expect("a code").to_owned()).collect()
    };
    for stage in Stage::both().await {
        let id = stage.draft(stage.form()).await;
        let submitted = stage.act(&stage.anna, &id, "submit").await.expect(200);
        assert_eq!(codes(&submitted), ["mail_not_configured"]);
        let sentence = submitted["warnings"][0]["message"].as_str().expect("a sentence");
        assert!(sentence.contains("mail_transport"), "{sentence}");
        for (who, action) in [(&stage.rita, "return"), (&stage.anna, "resubmit"), (&stage.rita, "approve")] {
            let answer = stage.act(who, &id, action).await.expect(200);
            assert_eq!(codes(&answer), ["mail_not_configured"], "{action}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let with_folder = |config: &mut Config| {
        config.mail_transport = crate::config::MailTransport::File;
        config.mail_file_dir = folder.path().join("mails");
    };
    for stage in Stage::both_with(with_folder).await {
        let id = stage.draft(stage.form()).await;
        let submitted = stage.act(&stage.anna, &id, "submit").await.expect(200);
        assert_eq!(submitted["warnings"], json!([]));
        let address = folder.path().join("mails").display().to_string();
        let failed = format!(
            "INSERT INTO mail_servers (address, last_failure_at, last_error) VALUES ('{address}', 1, 'disk full')"
        );
        stage.world.sql(&failed).await;
        let approved = stage.act(&stage.rita, &id, "approve").await.expect(200);
        assert_eq!(codes(&approved), ["mail_failing"]);
        assert!(approved["warnings"][0]["message"].as_str().expect("a sentence").contains("disk full"));
    }
}
