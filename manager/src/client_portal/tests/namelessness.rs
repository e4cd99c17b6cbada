//! Reviewers have no names for clients: neither in histories, nor in refusals, nor in mails.

use super::*;

const HOUR_MS: i64 = 3_600_000;
const FORMS: &str = "/client/v1/applications";

/// What the last step of a form says to somebody who may read it at `path`.
async fn last_step(caller: &Caller, path: &str) -> (String, String) {
    let shown = caller.get(path).await.expect(200);
    let step = shown["history"].as_array().and_then(|steps| steps.last()).expect("a step").clone();
    let text = |field: &str| step[field].as_str().expect("a text").to_owned();
    (text("action"), text("comment"))
}

fn names_a_reviewer(text: &str) -> bool {
    ["rita", "ralph", "rolf", "reviewer_"].iter().any(|name| text.contains(name))
}

#[tokio::test]
async fn steps_that_keygate_takes_by_itself_name_no_signer() {
    let worlds = World::both_with(|config| {
        (config.review_reminder_h, config.review_escalation_h) = (0, 1);
    });
    for world in worlds.await {
        let stage = Stage::set(world).await;
        let steps = async |expected: &str| {
            let id = stage.submitted(&stage.world.client_session("acme").await, stage.form()).await;
            stage.world.advance_ms(HOUR_MS);
            stage.world.run_due().await;
            let acme = stage.world.client_session("acme").await;
            let (action, comment) = last_step(&acme, &format!("{FORMS}/{id}")).await;
            assert_eq!((action.as_str(), comment.as_str()), (expected, ""));
            let (_, told) = last_step(&stage.admin, &format!("/api/v1/applications/{id}")).await;
            assert!(names_a_reviewer(&told), "operators read who: {told}");
        };
        // With ralph at the first level nobody would be left for the second.
        steps("escalation_refused").await;
        stage.world.operator("rolf", &["reviewer_2"]).await;
        steps("escalate").await;
    }
}

#[tokio::test]
async fn a_form_without_signers_is_refused_to_a_client_without_their_names() {
    for world in World::both().await {
        let stage = Stage::set(world).await;
        let rolf = stage.world.operator("rolf", &["reviewer_1"]).await;
        let levels = json!({ "levels": [["reviewer_1"], ["reviewer_1"]] });
        stage.admin.put("/api/v1/approval-flows/KA", levels).await.expect(200);
        let path = format!("/api/v1/operators/{}", rolf.id);
        stage.admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        let id = stage.draft(&stage.acme, stage.form()).await;
        let refused = stage.act(&stage.acme, &id, "submit").await.problem(409, "no_signer");
        assert!(!names_a_reviewer(&refused.to_string()), "{refused:#}");
        let form = with(stage.form(), "client", json!("acme"));
        let filed = id_in(&stage.admin.post("/api/v1/applications", form).await.expect(201));
        let path = format!("/api/v1/applications/{filed}/submit");
        let told =
            stage.admin.send(axum::http::Method::POST, &path, &[], None).await.problem(409, "no_signer");
        assert!(names_a_reviewer(&told.to_string()), "operators read who: {told:#}");
    }
}

#[tokio::test]
async fn mails_to_a_client_name_no_reviewer() {
    for stage in Stage::both().await {
        let id = stage.submitted(&stage.acme, stage.form()).await;
        stage.review(&stage.rita, &id, "return").await;
        stage.act(&stage.acme, &id, "resubmit").await.expect(200);
        stage.review(&stage.rita, &id, "approve").await;
        stage.review(&stage.ralph, &id, "approve").await;
        stage.world.advance_ms(600_000);
        let mails = stage.world.mailed().await;
        let to_client: Vec<_> = mails.iter().filter(|mail| mail.to == "it@acme.example").collect();
        assert!(to_client.len() >= 5, "{to_client:?}");
        for mail in &to_client {
            assert!(!names_a_reviewer(&mail.text), "{}", mail.text);
        }
        let reviewed = to_client.iter().filter(|mail| mail.text.contains("By: a reviewer")).count();
        assert_eq!(reviewed, 3, "returned, approved at the first level, approved: {to_client:?}");
        let to_ralph = mails.iter().find(|mail| mail.to == "ralph@example.com").expect("a mail");
        assert!(to_ralph.text.contains("By: rita"), "reviewers read who: {}", to_ralph.text);
    }
}
