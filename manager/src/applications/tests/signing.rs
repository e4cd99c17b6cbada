//! Four eyes, delegates, and enough signers for every level.

use std::slice::from_ref;

use super::*;

const DELEGATIONS: &str = "/api/v1/delegations";

impl Stage {
    /// `who` signs for `of` from now on.
    async fn delegate(&self, of: &Caller, who: &Caller) -> String {
        let until = self.world.app.now().0 + DAY_MS;
        let body = json!({ "operator": of.id, "delegate": who.id, "until": until });
        let made = self.admin.post(DELEGATIONS, body).await.expect(201);
        format!("{DELEGATIONS}/{}", made["id"].as_str().expect("an id"))
    }

    async fn set_operator(&self, who: &Caller, body: Value) {
        self.admin.patch(&format!("/api/v1/operators/{}", who.id), body).await.expect(200);
    }

    async fn ids(&self, who: &Caller, view: &str) -> Vec<String> {
        let page = who.get(&format!("{FORMS}?view={view}")).await.expect(200);
        let id = |form: &Value| form["id"].as_str().expect("an id").to_owned();
        page["items"].as_array().expect("a list").iter().map(id).collect()
    }
}

fn actions(detail: &Value) -> Vec<&str> {
    detail["actions"].as_array().expect("a list").iter().map(|one| one.as_str().expect("a name")).collect()
}

#[tokio::test]
async fn nobody_signs_two_levels_of_a_round_unless_the_installation_lets_them() {
    for allowed in [false, true] {
        for stage in Stage::both_with(|config| config.allow_signing_two_levels = allowed).await {
            let both = stage.world.operator("both", &["reviewer_1", "reviewer_2"]).await;
            let id = stage.submitted(stage.form()).await;
            stage.act(&both, &id, "approve").await.expect(200);
            let offered = both.get(&path(&id, "")).await.expect(200);
            let answer = stage.act(&both, &id, "approve").await;
            if allowed {
                assert_eq!(answer.expect(200)["state"], "approved");
                continue;
            }
            answer.problem(403, "signed_another_level");
            for action in ["return", "reject"] {
                stage.act(&both, &id, action).await.problem(403, "signed_another_level");
            }
            assert_eq!(actions(&offered), [""; 0]);
            // A re-submitted form begins another round.
            stage.act(&stage.ralph, &id, "return").await.expect(200);
            stage.act(&stage.anna, &id, "resubmit").await.expect(200);
            stage.act(&stage.rita, &id, "approve").await.expect(200);
            assert_eq!(stage.act(&both, &id, "approve").await.expect(200)["state"], "approved");
            assert_eq!(stage.count("SELECT COUNT(*) FROM approval_signatures").await, 3);
        }
    }
}

#[tokio::test]
async fn a_delegate_signs_on_behalf_and_it_counts_for_both() {
    for stage in Stage::both().await {
        // Ben has no role at all, but he would have one of level 2 as ralph's delegate.
        let ben = stage.world.operator("ben", &[]).await;
        stage.world.operator("rosa", &["reviewer_2"]).await;
        let id = stage.submitted(stage.form()).await;
        ben.get(&path(&id, "")).await.problem(404, "not_found");
        stage.act(&ben, &id, "approve").await.problem(404, "not_found");
        stage.delegate(&stage.rita, &ben).await;
        stage.delegate(&stage.ralph, &ben).await;
        assert_eq!(actions(&ben.get(&path(&id, "")).await.expect(200)), ["approve", "return", "reject"]);

        let seen = stage.read(&id).await["version"].to_string();
        let signed = stage.act_on(&ben, &id, "approve", &format!("\"{seen}\""), "as told").await.expect(200);
        assert_eq!(signed["level"], json!(2));
        let detail = stage.anna.get(&path(&id, "")).await.expect(200);
        let step = &detail["history"][2];
        assert_eq!(
            (&step["actor"], &step["on_behalf_of"], &step["level"], &step["escalated"]),
            (&json!(ben.id), &json!(stage.rita.id), &json!(1), &json!(false))
        );
        // It counts for rita, who was not asked, and for ben, who is ralph's delegate too.
        stage.world.advance_ms(1_000);
        stage.set_operator(&stage.rita, json!({ "roles": ["reviewer_1", "reviewer_2"] })).await;
        for who in [&stage.rita, &ben] {
            stage.act(who, &id, "approve").await.problem(403, "signed_another_level");
        }
        assert_eq!(stage.ids(&stage.rita, "reviewed").await, from_ref(&id), "whose signing it was, sees it");
        let trail = stage.admin.get("/api/v1/audit?action=applications.approve").await.expect(200);
        assert_eq!(trail["items"][0]["detail"]["on_behalf_of"], json!(stage.rita.id));
        // Who acts on what has happened since is told who did it for whom.
        let late = stage.act_on(&stage.ralph, &id, "approve", "\"2\"", "").await;
        let late = late.problem(412, "version_mismatch");
        assert!(late["detail"].as_str().is_some_and(|text| text.contains("ben on behalf of rita")), "{late}");
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
    }
}

#[tokio::test]
async fn mails_tell_who_signs_on_whose_behalf() {
    for stage in Stage::both().await {
        let ben = stage.world.operator("ben", &[]).await;
        stage.delegate(&stage.rita, &ben).await;
        let id = stage.submitted(stage.form()).await;
        let waiting = stage.world.mailed().await;
        for (address, told) in [("ben@example.com", true), ("rita@example.com", false)] {
            let mail = waiting.iter().find(|mail| mail.to == address).expect("a mail");
            assert_eq!(mail.text.contains("You sign on behalf of rita"), told, "{}", mail.text);
        }
        stage.act(&ben, &id, "approve").await.expect(200);
        let signed = stage.world.mailed().await;
        for address in ["anna@example.com", "ralph@example.com"] {
            let mail = signed.iter().find(|mail| mail.to == address).expect("a mail");
            assert!(mail.text.lines().any(|line| line == "By: ben on behalf of rita"), "{}", mail.text);
        }
    }
}

#[tokio::test]
async fn a_delegation_reaches_as_far_as_time_word_and_accounts_do() {
    for stage in Stage::both().await {
        let ben = stage.world.operator("ben", &[]).await;
        let cleo = stage.world.operator("cleo", &[]).await;
        let id = stage.submitted(stage.form()).await;
        let signs = async |who: &Caller| who.get(&path(&id, "")).await.status == 200;
        let path = stage.delegate(&stage.rita, &ben).await;
        assert!(signs(&ben).await);
        // Nothing is passed on.
        let chain = json!({ "delegate": cleo.id, "until": stage.world.app.now().0 + DAY_MS });
        ben.post(DELEGATIONS, chain).await.problem(403, "forbidden");
        assert!(!signs(&cleo).await);
        stage.rita.delete(&path).await.expect(204);
        assert!(!signs(&ben).await, "revoked");
        stage.delegate(&stage.rita, &ben).await;
        stage.world.advance_ms(DAY_MS);
        assert!(!signs(&ben).await, "its time is over");
        stage.delegate(&stage.rita, &ben).await;
        stage.world.advance_ms(1_000);
        // Without the role there is nothing to sign on behalf.
        stage.set_operator(&stage.rita, json!({ "roles": [] })).await;
        assert!(!signs(&ben).await, "no role");
        stage.set_operator(&stage.rita, json!({ "roles": ["reviewer_1"] })).await;
        assert!(signs(&ben).await);
        stage.set_operator(&stage.rita, json!({ "status": "disabled" })).await;
        assert!(!signs(&ben).await, "disabled");
        stage.set_operator(&stage.rita, json!({ "status": "active" })).await;
        assert!(!signs(&ben).await, "it does not come back");
    }
}

#[tokio::test]
async fn delegations_do_not_get_around_ones_own_form() {
    for stage in Stage::both().await {
        let own = stage.world.operator("own", &["applicant", "reviewer_1"]).await;
        let ben = stage.world.operator("ben", &["applicant"]).await;
        let filed = async |who: &Caller| {
            let saved = who.post(FORMS, stage.form()).await.expect(201);
            let id = saved["id"].as_str().expect("an id").to_owned();
            stage.act(who, &id, "submit").await.expect(200);
            id
        };
        // The applicant's own delegate.
        let id = filed(&own).await;
        let path = stage.delegate(&own, &ben).await;
        stage.act(&ben, &id, "approve").await.problem(403, "self_approval");
        stage.admin.delete(&path).await.expect(204);
        // The applicant as delegate of another reviewer, with and without a role.
        stage.delegate(&stage.rita, &own).await;
        stage.act(&own, &id, "approve").await.problem(403, "self_approval");
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let without_role = filed(&ben).await;
        stage.delegate(&own, &ben).await;
        stage.act(&ben, &without_role, "reject").await.problem(403, "self_approval");
        stage.act(&own, &without_role, "approve").await.expect(200);
    }
}

#[tokio::test]
async fn a_token_that_is_limited_to_less_signs_nothing_for_anybody() {
    for stage in Stage::both().await {
        let ben = stage.world.operator("ben", &["auditor"]).await;
        let id = stage.submitted(stage.form()).await;
        stage.delegate(&stage.rita, &ben).await;
        let limited = json!({ "name": "reads", "permissions": ["applications.read"] });
        let token = ben.post(&format!("/api/v1/operators/{}/tokens", ben.id), limited).await.expect(201);
        let reader = stage.world.bearer(token["token"].as_str().expect("a token"));
        let refused = stage.act(&reader, &id, "approve").await.problem(403, "forbidden");
        let told = refused["detail"].as_str().expect("a detail");
        assert!(told.contains("your token does not reach `applications.review`"), "{told}");
        // Of a form that is not there the same is said: the refusal tells nothing of it.
        let path = "/api/v1/applications/ap_none/approve";
        reader.post(path, json!({})).await.problem(403, "forbidden");
        stage.act(&ben, &id, "approve").await.expect(200);
    }
}

#[tokio::test]
async fn whoever_has_no_word_is_refused_every_one() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        let auditor = stage.world.operator("otto", &["auditor"]).await;
        let stranger = stage.world.operator("stan", &[]).await;
        for action in ["approve", "return", "reject"] {
            stage.act(&auditor, &id, action).await.problem(403, "forbidden");
            stage.act(&stage.ralph, &id, action).await.problem(403, "forbidden");
            stage.act(&stage.anna, &id, action).await.problem(403, "forbidden");
            stage.act(&stranger, &id, action).await.problem(404, "not_found");
        }
        assert_eq!(stage.read(&id).await["level"], json!(1));
    }
}

#[tokio::test]
async fn a_form_is_submitted_only_where_it_finds_its_signers() {
    for stage in Stage::both().await {
        let refused = async |who: &Caller, id: &str, action: &str, named: &str| {
            let problem = stage.act(who, id, action).await.problem(409, "no_signer");
            assert!(problem["detail"].as_str().is_some_and(|text| text.contains(named)), "{problem}");
        };
        // Rita is the only one of level 1: her own form finds nobody there.
        stage.world.advance_ms(1_000);
        stage.set_operator(&stage.rita, json!({ "roles": ["applicant", "reviewer_1"] })).await;
        let saved = stage.rita.post(FORMS, stage.form()).await.expect(201);
        let own = saved["id"].as_str().expect("an id").to_owned();
        refused(&stage.rita, &own, "submit", "level 1 has nobody").await;
        let draft = stage.read(&own).await;
        assert_eq!((&draft["state"], &draft["number"]), (&json!("draft"), &Value::Null), "nothing was kept");
        assert!(stage.mails().await.is_empty(), "nobody was told");
        // Others' do.
        let id = stage.submitted(stage.form()).await;
        assert_eq!(stage.read(&id).await["number"], "KA-20260115-0001", "no number was missed");
        stage.act(&stage.rita, &id, "return").await.expect(200);

        // Two levels, one person.
        stage.set_operator(&stage.rita, json!({ "roles": ["reviewer_1", "reviewer_2"] })).await;
        stage.set_operator(&stage.ralph, json!({ "status": "disabled" })).await;
        refused(&stage.anna, &id, "resubmit", "levels 1, 2 have only rita").await;
        assert_eq!(stage.read(&id).await["state"], "returned");
        let rosa = stage.world.operator("rosa", &["reviewer_2"]).await;
        stage.act(&stage.anna, &id, "resubmit").await.expect(200);
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&rosa, &id, "approve").await.expect(200);
    }
}

#[tokio::test]
async fn an_approval_that_would_leave_a_level_without_signer_is_left_to_others() {
    for stage in Stage::both().await {
        stage.world.advance_ms(1_000);
        stage.set_operator(&stage.ralph, json!({ "roles": ["reviewer_1", "reviewer_2"] })).await;
        let id = stage.submitted(stage.form()).await;
        let detail = stage.ralph.get(&path(&id, "")).await.expect(200);
        assert_eq!(actions(&detail), ["return", "reject"], "he is needed at level 2");
        let problem = stage.act(&stage.ralph, &id, "approve").await.problem(409, "no_signer");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("level 2")), "{problem}");
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
    }
}

#[tokio::test]
async fn a_flow_that_leaves_a_form_without_signers_is_refused_naming_both() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        let number = stage.read(&id).await["number"].as_str().expect("a number").to_owned();
        let flow = "/api/v1/approval-flows/KA";
        // One level is enough for a new form, but this one has two, and ralph cannot sign both.
        let shorter = json!({ "levels": [["reviewer_2"]] });
        let refused = stage.admin.put(flow, shorter.clone()).await.problem(409, "no_signer");
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains(&number) && detail.contains("levels 1, 2 have only ralph"), "{detail}");
        assert_eq!(stage.admin.get(flow).await.expect(200)["version"], json!(1));
        // Once level 1 is signed it does.
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.admin.put(flow, shorter).await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);

        // The applicant's own role does not count for the own form.
        let other = stage.submitted(stage.form()).await;
        stage.world.advance_ms(1_000);
        stage.set_operator(&stage.anna, json!({ "roles": ["applicant", "reviewer_1"] })).await;
        stage.set_operator(&stage.rita, json!({ "status": "disabled" })).await;
        let own = stage.admin.put(flow, json!({ "levels": [["reviewer_1"]] })).await;
        let own = own.problem(409, "no_signer");
        assert!(own["detail"].as_str().is_some_and(|text| text.contains("would be left")), "{own}");
        // A form that finds nobody anyway is not kept from finding somebody.
        stage.set_operator(&stage.ralph, json!({ "status": "disabled" })).await;
        stage.admin.put(flow, json!({ "levels": [["reviewer_1"]] })).await.expect(200);
        stage.admin.put(flow, json!({ "levels": [["admin"]] })).await.expect(200);
        stage.act(&stage.admin, &other, "approve").await.expect(200);
    }
}

#[tokio::test]
async fn a_form_and_a_flow_that_changes_at_the_same_moment_never_leave_it_without_signers() {
    for stage in Stage::both().await {
        let flow = "/api/v1/approval-flows/KA";
        for _ in 0..5 {
            let id = stage.draft(stage.form()).await;
            let longer = json!({ "levels": [["reviewer_1"], ["reviewer_2"]] });
            stage.admin.put(flow, longer).await.expect(200);
            let submit_path = path(&id, "submit");
            let (submitted, changed) = tokio::join!(
                stage.anna.send(Method::POST, &submit_path, &[], None),
                stage.admin.put(flow, json!({ "levels": [["reviewer_2"]] })),
            );
            // Ralph alone signs one level, not two.
            match (submitted.status, changed.status) {
                (200, 409) => assert_eq!(stage.read(&id).await["levels"], json!(2)),
                (200, 200) => assert_eq!(stage.read(&id).await["levels"], json!(1)),
                (409, 200) => {}
                other => panic!("{other:?}: {} {}", submitted.body, changed.body),
            }
            stage.act(&stage.anna, &id, "withdraw").await.expect(200);
        }
    }
}

/// What a client that has signed in files. Returns its id.
async fn filed_by(client: &Caller, stage: &Stage) -> String {
    let id = saved_by(client, stage).await;
    client.post(&format!("/client/v1/applications/{id}/submit"), Value::Null).await.expect(200);
    id
}

#[tokio::test]
async fn whoever_can_act_for_a_client_does_not_sign_its_forms() {
    const CLIENT: &str = "/api/v1/clients/hooli";
    for stage in Stage::both().await {
        let rosa = stage.world.operator("rosa", &["reviewer_1", "client_manager"]).await;
        let hooli = stage.world.client("hooli").await;
        let offered = async |id: &str| actions(&rosa.get(&path(id, "")).await.expect(200)).len();
        let id = filed_by(&hooli, &stage).await;
        assert_eq!(offered(&id).await, 3, "a client's form as any other");

        // Rosa enters another password, signs in with it and files a form. So she does when she has
        // replaced it, too, as the client.
        let sign_in = async |password: &str| {
            let body = json!({ "client": "hooli", "password": password });
            let opened = stage.world.anon().post("/client/v1/session", body).await.expect(201);
            stage.world.bearer(opened["token"].as_str().expect("a token"))
        };
        let set = json!({ "password": "rosas-own-1", "password_confirmation": "rosas-own-1" });
        rosa.put(&format!("{CLIENT}/password"), set).await.expect(200);
        let replaced = json!({
            "client": "hooli", "password": "rosas-own-1", "new_password": "rosas-own-2",
            "password_confirmation": "rosas-own-2",
        });
        for password in ["rosas-own-1", "rosas-own-2"] {
            let id = filed_by(&sign_in(password).await, &stage).await;
            for action in ["approve", "return", "reject"] {
                stage.act(&rosa, &id, action).await.problem(403, "self_approval");
            }
            assert_eq!(offered(&id).await, 0);
            stage.act(&stage.rita, &id, "approve").await.expect(200);
            if password == "rosas-own-1" {
                stage.world.anon().post("/client/v1/password", replaced.clone()).await.expect(204);
            }
        }

        // The client sets its own in place of one that was mailed: rosa is nobody special any more.
        rosa.post(&format!("{CLIENT}/password/reset"), Value::Null).await.expect(200);
        let mails = stage.world.mailed().await;
        let mut lines = mails.iter().flat_map(|mail| mail.text.lines());
        let mailed = lines.find_map(|line| line.strip_prefix("Password:")).expect("a password").trim();
        let own = json!({
            "client": "hooli", "password": mailed, "new_password": "hoolis-own-1",
            "password_confirmation": "hoolis-own-1",
        });
        stage.world.anon().post("/client/v1/password", own).await.expect(204);
        let id = filed_by(&sign_in("hoolis-own-1").await, &stage).await;
        assert_eq!(offered(&id).await, 3);

        // But when she has one of the client's addresses, where its passwords are mailed.
        rosa.patch(CLIENT, json!({ "emails": "it@hooli.example,ROSA@example.com" })).await.expect(200);
        let id = filed_by(&sign_in("hoolis-own-1").await, &stage).await;
        stage.act(&rosa, &id, "approve").await.problem(403, "self_approval");
        assert_eq!(offered(&id).await, 0);
        // Whoever finds nobody else who could sign, does not hand the form in.
        stage.set_operator(&stage.rita, json!({ "roles": [] })).await;
        let saved = saved_by(&sign_in("hoolis-own-1").await, &stage).await;
        let path = format!("/client/v1/applications/{saved}/submit");
        sign_in("hoolis-own-1").await.post(&path, Value::Null).await.problem(409, "no_signer");
    }
}

async fn saved_by(client: &Caller, stage: &Stage) -> String {
    let saved = client.post("/client/v1/applications", without(stage.form(), "client")).await.expect(201);
    saved["id"].as_str().expect("an id").to_owned()
}
