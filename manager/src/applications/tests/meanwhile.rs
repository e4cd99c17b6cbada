//! What happens to the world while a form is under way, and what becomes of the form.

use super::*;

/// Each row: what happens while a form waits, at which field its approval is refused, and what the
/// reviewer, who cannot change the form, is told to do.
#[tokio::test]
async fn an_approval_that_cannot_be_is_refused_with_what_the_reviewer_can_do() {
    for stage in Stage::both().await {
        let [orders, _] = &stage.apis;
        let id = stage.submitted(with(stage.form(), "expiry_date", "2026-01-20".into())).await;
        let refused = async |field: &str, words: &[&str]| {
            let refused = stage.act(&stage.rita, &id, "approve").await.refuses(field);
            let told = refused["detail"].as_str().expect("a detail").to_owned();
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
        };
        let status = async |status: &str| {
            stage.admin.patch("/api/v1/clients/acme", json!({ "status": status })).await.expect(200);
        };
        status("disabled").await;
        refused("client", &["is disabled", "have it activated, or return or reject the form"]).await;
        status("active").await;
        stage.admin.delete(&format!("/api/v1/apis/{orders}")).await.expect(204);
        refused("apis", &[orders, "was deleted since: return the form, so that the applicant"]).await;
        stage.world.advance_ms(6 * DAY_MS);
        refused("expiry_date", &["2026-01-20 has passed", "return the form, so that the applicant"]).await;
    }
}

/// Each row: what a change lists or says that no longer holds when it is due, and what its applicant is told.
#[tokio::test]
async fn a_change_that_cannot_be_made_tells_its_applicant_what_to_do() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let mut form = without(with(stage.form(), "type", "KU".into()), "client");
        form["key"] = key.as_str().into();
        form["effective_date"] = "2026-01-16".into();
        form["apis"] = json!([stage.apis[1]]);
        let id = stage.submitted(form).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        stage.admin.delete(&format!("/api/v1/apis/{}", stage.apis[1])).await.expect(204);
        stage.world.advance_ms(DAY_MS);
        apply_due(&stage.world.app).await.expect("applied");
        let effect = stage.read(&id).await["effect"].clone();
        let reason = effect["reason"].as_str().expect("a reason");
        assert!(
            reason.contains("was deleted before") && reason.contains("another form without it"),
            "{reason}"
        );
    }
}

impl Stage {
    fn change(&self, key: &str, from: &str) -> Value {
        json!({
            "type": "KU", "key": key, "name": "new", "effective_date": from, "expiry_date": "2026-12-31",
            "quota": 5, "description": "x", "apis": [self.apis[0]],
        })
    }

    fn revocation(&self, key: &str, from: &str) -> Value {
        json!({ "type": "KR", "key": key, "effective_date": from, "description": "x" })
    }

    async fn passed(&self, form: Value) -> String {
        let id = self.submitted(form).await;
        self.act(&self.rita, &id, "approve").await.expect(200);
        self.act(&self.ralph, &id, "approve").await.expect(200);
        id
    }

    async fn shown_key(&self, key: &str) -> Value {
        self.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200)
    }

    /// What is told to the applicant now of forms that have ended.
    async fn told(&self) -> Vec<String> {
        let mails = self.world.mailed().await.into_iter();
        mails.filter(|mail| mail.to == "anna@example.com").map(|mail| mail.text).collect()
    }
}

/// Each row: what happens, to which form, and the field that is then refused wherever the form
/// would move on; none: it goes on.
#[tokio::test]
async fn what_happened_meanwhile_is_refused_at_every_step() {
    for stage in Stage::both().await {
        for (what, kind, field) in [
            ("client disabled", "KA", Some("client")),
            ("client disabled", "KU", Some("client")),
            ("client disabled", "KR", None),
            ("client locked", "KA", Some("client")),
            ("api disabled", "KA", None),
            ("api deleted", "KA", Some("apis")),
            ("api deleted", "KU", Some("apis")),
            ("key revoked", "KU", Some("key")),
            ("key revoked", "KR", Some("key")),
        ] {
            let mut forms = Vec::new();
            let api = api(&stage.admin, &format!("{}-{kind}", what.replace(' ', "-"))).await;
            let mut keys = Vec::new();
            for step in ["save", "submit", "level 1", "level 2"] {
                let form = if kind == "KA" {
                    with(stage.form(), "apis", json!([api]))
                } else {
                    let key = stage.key().await;
                    keys.push(key.clone());
                    match kind {
                        "KU" => with(stage.change(&key, "2026-01-15"), "apis", json!([api])),
                        _ => stage.revocation(&key, "2026-01-15"),
                    }
                };
                let id = match step {
                    "save" => String::new(),
                    "submit" => stage.draft(form.clone()).await,
                    _ => stage.submitted(form.clone()).await,
                };
                if step == "level 2" {
                    stage.act(&stage.rita, &id, "approve").await.expect(200);
                }
                forms.push((step, form, id));
            }
            let client = format!("/api/v1/clients/{}", stage.client);
            let status = async |status: &str| {
                drop(stage.admin.patch(&client, json!({ "status": status })).await.expect(200));
            };
            match what {
                "client disabled" => status("disabled").await,
                "client locked" => status("locked").await,
                "api disabled" => {
                    let off = json!({ "enabled": false });
                    stage.admin.patch(&format!("/api/v1/apis/{api}"), off).await.expect(200);
                }
                "api deleted" => {
                    let gone = stage.admin.delete(&format!("/api/v1/apis/{api}")).await;
                    assert_eq!(gone.status, 204, "{:#}", gone.body);
                }
                _ => {
                    for key in &keys {
                        let path = format!("/api/v1/keys/{key}/revoke");
                        stage.admin.post(&path, json!({})).await.expect(200);
                    }
                }
            }
            for (step, form, id) in forms {
                let answer = match step {
                    "save" => stage.anna.post(FORMS, form).await,
                    "submit" => stage.act(&stage.anna, &id, "submit").await,
                    "level 1" => stage.act(&stage.rita, &id, "approve").await,
                    _ => stage.act(&stage.ralph, &id, "approve").await,
                };
                let about = format!("{what}, {kind}, {step}: {:#}", answer.body);
                match field {
                    Some(field) => {
                        assert_eq!((answer.status, &answer.body["field"]), (422, &json!(field)), "{about}");
                    }
                    None => assert!([200, 201].contains(&answer.status), "{about}"),
                }
            }
            if what.starts_with("client") {
                status("active").await;
            }
        }
    }
}

#[tokio::test]
async fn a_key_approved_after_its_effective_date_is_active_at_once_and_the_mail_says_so() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.world.advance_ms(2 * DAY_MS);
        stage.told().await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let approved = stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(approved["effective_date"], "2026-01-15", "the form says what was asked for");
        let key = stage.shown_key(approved["key"].as_str().expect("a key")).await;
        assert_eq!((&key["state"], &key["effective_date"]), (&json!("active"), &json!("2026-01-15")));
        let told = stage.told().await.concat().split_whitespace().collect::<Vec<_>>().join(" ");
        let said =
            "The effective date 2026-01-15 passed during the review: the key is active from the approval on.";
        assert!(told.contains(said), "{told}");
    }
}

#[tokio::test]
async fn a_change_to_less_than_was_used_closes_the_key_and_says_so_unless_usage_is_reset() {
    for stage in Stage::both().await {
        for (reset, closed) in [(false, true), (true, false)] {
            let key = stage.key().await;
            let used = format!("UPDATE meters SET debited = 7 WHERE owner = '{key}'");
            assert_eq!(stage.world.sql(&used).await, 1);
            stage.told().await;
            stage.passed(with(stage.change(&key, "2026-01-15"), "reset_usage", json!(reset))).await;
            let left = "SELECT CASE WHEN debited >= limit_units THEN 1 ELSE 0 END FROM meters
                         WHERE owner = (SELECT effect_key FROM applications WHERE kind = 'KU'
                                         ORDER BY number DESC LIMIT 1)";
            assert_eq!(stage.count(left).await == 1, closed);
            let told = stage.told().await.concat();
            assert_eq!(told.contains("used up: 7 calls"), closed, "{told}");
        }
    }
}

#[tokio::test]
async fn a_change_revives_a_key_that_expired_while_it_was_scheduled() {
    for stage in Stage::both().await {
        let short = with(stage.form(), "expiry_date", json!("2026-01-17"));
        let id = stage.passed(short).await;
        let key = stage.read(&id).await["key"].as_str().expect("a key").to_owned();
        let change = stage.passed(stage.change(&key, "2026-01-20")).await;
        stage.world.advance_ms(4 * DAY_MS);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 0);
        assert_eq!(stage.shown_key(&key).await["expiry_date"], "2026-01-17", "old settings until its day");
        stage.world.advance_ms(DAY_MS);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 1);
        assert_eq!(stage.read(&change).await["effect"]["state"], "done");
        let revived = stage.shown_key(&key).await;
        assert_eq!((&revived["state"], &revived["expiry_date"]), (&json!("active"), &json!("2026-12-31")));
    }
}

#[tokio::test]
async fn a_key_does_not_end_before_it_begins() {
    for stage in Stage::both().await {
        let later = with(stage.form(), "effective_date", json!("2026-06-01"));
        let id = stage.passed(later).await;
        let key = stage.read(&id).await["key"].as_str().expect("a key").to_owned();
        let early = with(stage.change(&key, "2026-01-20"), "expiry_date", json!("2026-05-31"));
        stage.anna.post(FORMS, early.clone()).await.refuses("expiry_date");
        stage.draft(with(early, "expiry_date", json!("2026-06-01"))).await;
    }
}

#[tokio::test]
async fn what_is_due_is_made_or_says_why_not() {
    for stage in Stage::both().await {
        let (lowered, ended, starved) = (stage.key().await, stage.key().await, stage.key().await);
        let lower = stage.passed(stage.change(&lowered, "2026-01-16")).await;
        let end = stage.passed(stage.revocation(&ended, "2026-01-16")).await;
        let change = with(stage.change(&starved, "2026-01-16"), "apis", json!([stage.apis[1]]));
        let starve = stage.passed(change).await;
        let off = json!({ "status": "disabled" });
        stage.admin.patch(&format!("/api/v1/clients/{}", stage.client), off).await.expect(200);
        stage.admin.post(&format!("/api/v1/keys/{ended}/revoke"), json!({})).await.expect(200);
        let gone = stage.admin.delete(&format!("/api/v1/apis/{}", stage.apis[1])).await;
        assert_eq!(gone.status, 204, "{:#}", gone.body);
        stage.world.advance_ms(DAY_MS);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 3);

        let lower = stage.read(&lower).await;
        assert_eq!(lower["effect"]["state"], "done", "a limit holds while its client is off, too: {lower:#}");
        let end = stage.read(&end).await;
        assert_eq!(end["effect"]["state"], "done");
        let said = end["history"].as_array().and_then(|steps| steps.last()).expect("a step");
        assert_eq!(said["comment"], "The key had been revoked already: nothing was left to do.");
        let starve = stage.read(&starve).await;
        assert_eq!(starve["effect"]["state"], "failed");
        let reason = starve["effect"]["reason"].as_str().expect("a reason");
        assert!(reason.contains(&stage.apis[1]), "{reason}");
        assert_eq!(stage.shown_key(&starved).await["apis"], json!([stage.apis[0]]), "it stays as it was");
    }
}

#[tokio::test]
async fn changes_that_keep_failing_do_not_keep_later_ones_waiting() {
    for stage in Stage::both().await {
        let (one, two, three) = (stage.key().await, stage.key().await, stage.key().await);
        let mut failing = Vec::new();
        for key in [&one, &two] {
            failing.push(stage.passed(stage.revocation(key, "2026-01-16")).await);
        }
        let later = stage.passed(stage.revocation(&three, "2026-01-17")).await;
        // Their rows make no sense.
        for id in &failing {
            stage.world.sql(&format!("UPDATE applications SET applicant_kind = 'x' WHERE id = '{id}'")).await;
        }
        stage.world.advance_ms(2 * DAY_MS);
        for _ in 0..2 {
            // Fewer at a time than those that fail.
            let run = super::super::due::apply_due_by(&stage.world.app, 1).await;
            assert!(run.is_err(), "it is told");
            assert_eq!(stage.read(&later).await["effect"]["state"], "done");
        }
        for id in &failing {
            stage
                .world
                .sql(&format!("UPDATE applications SET applicant_kind = 'operator' WHERE id = '{id}'"))
                .await;
        }
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 2);
    }
}

#[tokio::test]
async fn forms_of_every_type_end_with_their_client_wherever_they_stand() {
    for stage in Stage::both().await {
        let (one, two) = (stage.key().await, stage.key().await);
        let draft = stage.draft(stage.form()).await;
        let waiting = stage.submitted(stage.change(&one, "2026-01-15")).await;
        let scheduled = stage.passed(stage.revocation(&two, "2026-01-20")).await;
        let gone = stage.admin.delete("/api/v1/clients/acme?confirm=acme").await;
        assert_eq!(gone.status, 204, "{:#}", gone.body);
        for id in [&draft, &waiting] {
            assert_eq!(stage.read(id).await["state"], "cancelled");
        }
        assert_eq!(stage.read(&scheduled).await["effect"]["state"], "stopped");
        stage.act(&stage.anna, &draft, "submit").await.problem(409, "wrong_state");
        stage.act(&stage.rita, &waiting, "approve").await.problem(409, "wrong_state");
        stage.anna.post(FORMS, stage.form()).await.refuses("client");
        stage.world.advance_ms(10 * DAY_MS);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 0);
    }
}
