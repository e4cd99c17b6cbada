//! What the last signature brings about, now or on its day.

use super::*;

#[tokio::test]
async fn two_reviewers_at_the_same_moment_issue_one_key() {
    for stage in Stage::both().await {
        let other = stage.world.operator("roger", &["reviewer_2"]).await;
        for round in 1..=5 {
            let id = stage.submitted(stage.form()).await;
            stage.act(&stage.rita, &id, "approve").await.expect(200);
            let (one, two) = tokio::join!(
                stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "one"),
                stage.act_on(&other, &id, "approve", "\"3\"", "two"),
            );
            let (won, lost) = if one.status == 200 { (one, two) } else { (two, one) };
            won.expect(200);
            let problem = lost.problem(409, "wrong_state");
            let detail = problem["detail"].as_str().expect("a detail");
            assert!(detail.contains("approve at level 2"), "{detail}");
            let keys = stage.count("SELECT COUNT(*) FROM keys").await;
            assert_eq!(keys, round, "one key per form");
            let mails = stage.count("SELECT COUNT(*) FROM mails WHERE template = 'key_credentials'").await;
            assert_eq!(mails, round, "one mail per key");
        }
    }
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_nothing() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let before = (stage.read(&id).await, stage.mails().await);
        let trail = stage.count("SELECT COUNT(*) FROM audit_entries").await;
        // By the time the history is written, the key, its mail and the form's state are.
        stage.world.sql("ALTER TABLE application_history RENAME TO away").await;
        stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "").await.problem(500, "internal");
        stage.world.sql("ALTER TABLE away RENAME TO application_history").await;
        assert_eq!(stage.count("SELECT COUNT(*) FROM audit_entries").await, trail);
        assert_eq!(stage.count("SELECT COUNT(*) FROM key_secrets").await, 0);
        assert_eq!((stage.read(&id).await, stage.mails().await), before);
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 0);
        stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "").await.expect(200);
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 1);
    }
}

#[tokio::test]
async fn credentials_go_where_the_setting_says_and_nowhere_else() {
    use CredentialRecipients::{Applicant, Both, Client};
    let acme = "acme@example.com";
    let anna = "anna@example.com";
    for (setting, expected) in [(Client, vec![acme]), (Applicant, vec![anna]), (Both, vec![acme, anna])] {
        for stage in Stage::both_with(|config| config.credential_recipients = setting).await {
            stage.key().await;
            let mails = stage.mails().await;
            let credentials = mails.iter().filter(|mail| mail.1 == "key_credentials");
            assert_eq!(credentials.map(|mail| mail.0.as_str()).collect::<Vec<_>>(), expected);
            let mute = json!({ "emails": null });
            stage.admin.patch(&format!("/api/v1/clients/{}", stage.client), mute).await.expect(200);
            let answer = stage.anna.post(FORMS, stage.form()).await;
            match setting {
                Client | Both => drop(answer.refuses("client")),
                Applicant => drop(answer.expect(201)),
            }
        }
    }
}

#[tokio::test]
async fn further_secrets_go_where_the_first_one_went() {
    use CredentialRecipients::{Applicant, Both, Client};
    let (acme, anna) = ("acme@example.com", "anna@example.com");
    for (setting, whole, mute, alone) in [
        (Client, vec![acme], vec![], vec![acme]),
        (Applicant, vec![anna], vec![anna], vec![acme]),
        (Both, vec![acme, anna], vec![anna], vec![acme]),
    ] {
        for stage in Stage::both_with(|config| config.credential_recipients = setting).await {
            let key = stage.key().await;
            let path = format!("/api/v1/keys/{key}");
            stage.world.advance_ms(DAY_MS);
            stage.world.mailed().await;
            let told = async || {
                let mut to: Vec<_> = stage.world.mailed().await.into_iter().map(|mail| mail.to).collect();
                to.sort();
                to
            };
            stage.admin.post(&format!("{path}/resend"), json!({})).await.expect(200);
            stage.world.advance_ms(DAY_MS);
            assert_eq!(told().await, whole, "{setting:?}");
            let client = format!("/api/v1/clients/{}", stage.client);
            stage.admin.patch(&client, json!({ "emails": null })).await.expect(200);
            for (action, status) in [("resend", 200), ("secrets", 201)] {
                let answer = stage.admin.post(&format!("{path}/{action}"), json!({})).await;
                match mute[..] {
                    [] => drop(answer.problem(409, "client_without_address")),
                    _ => drop(answer.expect(status)),
                }
                stage.world.advance_ms(DAY_MS);
                assert_eq!(told().await, mute, "{setting:?} {action}");
            }
            // An applicant who is out of office for good gets no secrets.
            stage.admin.patch(&client, json!({ "emails": acme })).await.expect(200);
            assert_eq!(
                stage.world.sql("UPDATE operators SET status = 'disabled' WHERE name = 'anna'").await,
                1
            );
            stage.admin.post(&format!("{path}/resend"), json!({})).await.expect(200);
            stage.world.advance_ms(DAY_MS);
            assert_eq!(told().await, alone, "{setting:?}");
        }
    }
}

#[tokio::test]
async fn keys_of_an_older_installation_know_who_applied_for_them() {
    let key =
        "INSERT INTO keys (id, client_id, api_key, alias, effective_at, expires_at, use_quota, state, origin,
                                 search, version, created_at, updated_at)
               VALUES ('key_1', 'acme', 'YjQx', 'orders', 1, 2, -1, 'active', 'issued', 'orders', 1, 1, 1),
                      ('key_2', 'acme', 'YjQy', 'own', 1, 2, -1, 'active', 'issued', 'own', 1, 1, 1)";
    let form =
        "INSERT INTO applications (id, kind, applicant_kind, applicant, version, created_at, updated_at,
                                          description, search, state, effect, effect_at, effect_key)
                VALUES ('ap_1', 'KA', 'operator', 'op_1', 3, 1, 1, '', '', 'approved', 'done', 1, 'key_1'),
                       ('ap_2', 'KU', 'operator', 'op_2', 3, 1, 1, '', '', 'approved', 'done', 1, 'key_1'),
                       ('ap_3', 'KA', 'client', 'acme', 3, 1, 1, '', '', 'approved', 'done', 1, 'key_2')";
    for world in World::both_since(92, &[key, form]).await {
        for (id, applied_by) in [("key_1", "applied_by = 'op_1'"), ("key_2", "applied_by IS NULL")] {
            let found = format!("UPDATE keys SET id = id WHERE id = '{id}' AND {applied_by}");
            assert_eq!(world.sql(&found).await, 1, "{id}");
        }
    }
}

#[tokio::test]
async fn a_change_of_today_changes_the_key_at_once() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let form = json!({
            "type": "KU", "key": key, "name": "new name", "effective_date": "2026-01-15",
            "expiry_date": "2027-01-31", "quota": -1, "description": "more", "apis": [stage.apis[1]],
        });
        let id = stage.submitted(form).await;
        assert_eq!(stage.read(&id).await["number"], "KU-20260115-0001");
        assert_eq!(stage.read(&id).await["client"], json!(stage.client));
        let unchanged = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        assert_eq!(unchanged["name"], "orders key", "nothing changes before the last signature");
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let approved = stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(approved["effect"]["state"], "done");
        let changed = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        assert_eq!(changed["name"], "new name");
        assert_eq!(changed["apis"], json!([stage.apis[1]]));
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 1);
    }
}

#[tokio::test]
async fn a_time_without_a_quota_makes_no_use_forgotten() {
    for stage in Stage::both().await {
        let id = stage.submitted(with(stage.form(), "quota", json!(3))).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let key = stage.act(&stage.ralph, &id, "approve").await.expect(200)["key"].clone();
        let path = format!("/api/v1/keys/{}", key.as_str().expect("a key"));
        assert_eq!(stage.world.sql("UPDATE meters SET debited = 2 WHERE kind = 'key_uses'").await, 1);

        for (quota, reset, used, left) in [
            (-1, false, 2, None),
            (3, false, 2, Some(1)),
            (2, false, 2, Some(0)),
            (-1, false, 2, None),
            (3, true, 0, Some(3)),
        ] {
            let form = json!({
                "type": "KU", "key": key, "name": "orders key", "effective_date": "2026-01-15",
                "expiry_date": "2026-12-31", "quota": quota, "reset_usage": reset, "description": "other terms",
                "apis": [stage.apis[0]],
            });
            let id = stage.submitted(form).await;
            let review = stage.rita.get(&super::path(&id, "")).await.expect(200)["review"].clone();
            assert_eq!(review["usage"]["remaining_after"], json!(left), "{quota}: {review:#}");
            stage.act(&stage.rita, &id, "approve").await.expect(200);

            stage.act(&stage.ralph, &id, "approve").await.expect(200);
            let shown = stage.admin.get(&path).await.expect(200);
            assert_eq!((&shown["used"], &shown["remaining"]), (&json!(used), &json!(left)), "{quota}");
        }
    }
}

#[tokio::test]
async fn who_changes_keys_sees_and_stops_what_is_scheduled_and_sees_no_other_form() {
    for stage in Stage::both().await {
        let role = json!({ "permissions": ["keys.read", "keys.write"] });
        stage.admin.put("/api/v1/roles/keeper", role).await.expect(200);
        let keeper = stage.world.operator("kim", &["keeper"]).await;
        let key = stage.key().await;
        let form = json!({
            "type": "KR", "key": key, "effective_date": "2026-01-16", "description": "no longer used",
        });
        let id = stage.submitted(form).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        keeper.get(&path(&id, "")).await.problem(404, "not_found");
        stage.act(&keeper, &id, "stop").await.problem(404, "not_found");
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(keeper.get(&path(&id, "")).await.expect(200)["actions"], json!(["stop"]));
        let stopped = stage.act(&keeper, &id, "stop").await.expect(200);
        assert_eq!(stopped["effect"]["state"], "stopped");
        keeper.get(&path(&id, "")).await.problem(404, "not_found");
        stage.world.advance_ms(DAY_MS);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 0);
        assert_eq!(stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200)["state"], "active");
    }
}

#[tokio::test]
async fn who_applies_or_reviews_sees_the_key_that_a_form_is_about_and_no_more() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let path = format!("/api/v1/keys/{key}");
        for caller in [&stage.anna, &stage.rita, &stage.ralph] {
            let listed = caller.get(&format!("/api/v1/keys?client={}", stage.client)).await.expect(200);
            assert_eq!(listed["items"][0]["id"], json!(key));
            assert_eq!(caller.get(&path).await.expect(200)["name"], "orders key");
            caller.post(&format!("{path}/revoke"), json!({})).await.problem(403, "forbidden");
            caller.post(&format!("{path}/resend"), json!({})).await.problem(403, "forbidden");
        }
    }
}

#[tokio::test]
async fn ready_made_roles_see_keys_after_an_update_unless_they_were_changed() {
    let changed = "UPDATE roles SET permissions = 'applications.apply' WHERE name = 'applicant'";
    for world in World::both_since(91, &[changed]).await {
        let admin = world.operator("ann", &["admin"]).await;
        let roles = admin.get("/api/v1/roles").await.expect(200);
        let sees = |name: &str| {
            let role = roles["items"].as_array().expect("roles").iter().find(|role| role["name"] == name);
            role.expect(name)["permissions"].as_array().expect("permissions").contains(&json!("keys.read"))
        };
        assert_eq!(["applicant", "reviewer_1", "reviewer_2"].map(sees), [false, true, true]);
    }
}

#[tokio::test]
async fn a_revocation_of_tomorrow_waits_is_made_once_and_can_be_stopped() {
    for stage in Stage::both().await {
        let form = |key: &str| json!({"type": "KR", "key": key, "effective_date": "2026-01-16", "description": "no longer used"});
        let state = async |key: &str| {
            stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200)["state"].clone()
        };
        let approved = async |key: &str| {
            let id = stage.submitted(form(key)).await;
            stage.act(&stage.rita, &id, "approve").await.expect(200);
            let approved = stage.act(&stage.ralph, &id, "approve").await.expect(200);
            assert_eq!(
                approved["effect"],
                json!({
                    "state": "scheduled", "at": World::START.0 + DAY_MS, "reason": null,
                })
            );
            id
        };
        let (ends, stays) = (stage.key().await, stage.key().await);
        let (made, stopped) = (approved(&ends).await, approved(&stays).await);

        // It still holds its key.
        let second = stage.draft(form(&ends)).await;
        let refused = stage.act(&stage.anna, &second, "submit").await.refuses("key");
        let told = refused["detail"].as_str().expect("a detail");
        assert!(told.contains("KR-20260115-0001") && told.contains("hand this one in after"), "{told}");

        let stranger = stage.world.operator("arthur", &["applicant"]).await;
        stage.act(&stranger, &stopped, "stop").await.problem(404, "not_found");
        stage.act(&stage.rita, &stopped, "stop").await.problem(403, "forbidden");
        // A token of the applicant's that is limited to something else sees and stops nothing.
        let boss = stage.world.operator("boss", &["applicant", "admin"]).await;
        stage
            .world
            .sql(&format!("UPDATE applications SET applicant = '{}' WHERE id = '{stopped}'", boss.id))
            .await;
        let limited = json!({ "name": "meters", "permissions": ["usage.read"] });
        let token = boss.post(&format!("/api/v1/operators/{}/tokens", boss.id), limited).await.expect(201);
        let meters = stage.world.bearer(token["token"].as_str().expect("a token"));
        stage.act(&meters, &stopped, "stop").await.problem(404, "not_found");
        stage
            .world
            .sql(&format!("UPDATE applications SET applicant = '{}' WHERE id = '{stopped}'", stage.anna.id))
            .await;
        let after = stage.act(&stage.anna, &stopped, "stop").await.expect(200);
        assert_eq!(after["effect"]["state"], "stopped");

        stage.world.advance_ms(DAY_MS - 1);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 0);
        assert_eq!(state(&ends).await, "active");
        stage.world.advance_ms(1);
        let (one, two) = tokio::join!(apply_due(&stage.world.app), apply_due(&stage.world.app));
        assert_eq!(one.expect("a run") + two.expect("a run"), 1, "exactly once");
        assert_eq!(state(&ends).await, "revoked");
        assert_eq!(state(&stays).await, "active");
        assert_eq!(stage.read(&made).await["effect"]["state"], "done");
        stage.act(&stage.anna, &made, "stop").await.problem(409, "wrong_state");
        stage.anna.post(FORMS, form(&ends)).await.refuses("key");
    }
}

#[tokio::test]
async fn a_scheduled_change_of_a_key_that_was_revoked_meanwhile_says_so() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let form = json!({
            "type": "KU", "key": key, "name": "new name", "effective_date": "2026-01-16",
            "expiry_date": "2027-01-31", "quota": -1, "description": "more", "apis": [stage.apis[1]],
        });
        let id = stage.submitted(form).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        stage.admin.post(&format!("/api/v1/keys/{key}/revoke"), json!({})).await.expect(200);
        stage.world.advance_ms(DAY_MS);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 1);
        let form = stage.read(&id).await;
        assert_eq!(form["effect"]["state"], "failed");
        assert!(form["effect"]["reason"].as_str().expect("a reason").contains("has been revoked"));
        let changed = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        assert_eq!(changed["name"], "orders key");
    }
}
