//! A client's forms from the draft to the key.

use axum::http::Method;

use super::*;

#[tokio::test]
async fn a_client_applies_is_returned_its_form_and_gets_its_key() {
    for stage in Stage::both().await {
        let (acme, apis) = (&stage.acme, "/client/v1/applications");
        let id = stage.draft(acme, stage.form()).await;
        let path = format!("{apis}/{id}");
        let shown = acme.get(&path).await.expect(200);
        assert_eq!(shown["actions"], json!(["edit", "delete", "submit", "withdraw"]));
        let submitted = stage.act(acme, &id, "submit").await.expect(200);
        assert_eq!(submitted["warnings"][0]["code"], "mail_not_configured");
        assert!(!submitted["warnings"].to_string().contains("mail_transport"), "settings are the operators'");
        stage.review(&stage.rita, &id, "return").await;
        let returned = acme.get(&path).await;
        assert_eq!(returned.header("etag"), Some("\"3\""));
        let returned = returned.expect(200);
        assert_eq!(
            (&returned["state"], &returned["actions"]),
            (&json!("returned"), &json!(["edit", "resubmit", "withdraw"]))
        );

        let edited = with(stage.form(), "quota", json!(500));
        let mut edited = edited.as_object().expect("a form").clone();
        edited.remove("type");
        let stale =
            acme.send(Method::PUT, &path, &[("if-match", "\"2\"")], Some(edited.clone().into())).await;
        let stale = stale.problem(412, "version_mismatch");
        let told = stale["detail"].as_str().expect("a detail");
        assert!(!told.contains("rita") && !told.contains(&stage.rita.id), "{told}");
        acme.send(Method::PUT, &path, &[("if-match", "\"3\"")], Some(edited.into())).await.expect(200);
        stage.act(acme, &id, "resubmit").await.expect(200);
        stage.review(&stage.rita, &id, "approve").await;
        stage.review(&stage.ralph, &id, "approve").await;

        let done = acme.get(&path).await.expect(200);
        assert_eq!((&done["state"], &done["effect"]["state"]), (&json!("approved"), &json!("done")));
        let steps: Vec<_> = done["history"]
            .as_array()
            .expect("a history")
            .iter()
            .map(|step| {
                let text = |field: &str| step[field].as_str().expect("a text");
                (text("by"), text("action"), step["level"].as_u64(), text("comment"))
            })
            .collect();
        let of_reviewer = "of the reviewer";
        assert_eq!(
            steps,
            [
                ("you", "save", None, ""),
                ("you", "submit", None, ""),
                ("reviewer", "return", Some(1), of_reviewer),
                ("you", "edit", None, ""),
                ("you", "resubmit", None, ""),
                ("reviewer", "approve", Some(1), of_reviewer),
                ("reviewer", "approve", Some(2), of_reviewer),
            ]
        );
        for operator in [&stage.rita, &stage.ralph, &stage.admin] {
            assert!(!done.to_string().contains(&operator.id), "no operator is named: {done:#}");
        }
        let key = done["key"].as_str().expect("a key");
        let shown = acme.get(&format!("/client/v1/keys/{key}")).await.expect(200);
        assert_eq!(shown["quota"], 500);
        let told: Vec<_> = {
            stage.world.advance_ms(600_000);
            stage.world.mailed().await.into_iter().map(|mail| (mail.to, mail.subject)).collect()
        };
        let credentials = "【Keygate】Notification API Key Authorization Result";
        let got: Vec<_> =
            told.iter().filter(|(_, subject)| subject == credentials).map(|(to, _)| to).collect();
        assert_eq!(got, ["it@acme.example"], "{told:?}");
    }
}

#[tokio::test]
async fn a_client_finds_its_forms_by_state_type_and_keyword() {
    for stage in Stage::both().await {
        let acme = &stage.acme;
        let draft = stage.draft(acme, with(stage.form(), "name", json!("Night shift"))).await;
        stage.world.advance_ms(1);
        let submitted = stage.submitted(acme, stage.form()).await;
        stage.draft(&stage.other, stage.form()).await;
        let (draft, submitted) = (draft.as_str(), submitted.as_str());
        for (query, expected) in [
            ("", vec![submitted, draft]),
            ("?state=draft", vec![draft]),
            ("?state=pending_order", vec![submitted]),
            ("?state=approved", vec![]),
            ("?type=KA", vec![submitted, draft]),
            ("?type=KU", vec![]),
            ("?keyword=NIGHT", vec![draft]),
            ("?keyword=KA-20260115-0001", vec![submitted]),
        ] {
            let found = acme.get(&format!("/client/v1/applications{query}")).await.expect(200);
            assert_eq!(each(&found, "id"), expected, "{query}");
        }
        let first = acme.get("/client/v1/applications?limit=1").await.expect(200);
        let next = first["next"].as_str().expect("more");
        let second = acme.get(&format!("/client/v1/applications?limit=1&cursor={next}")).await.expect(200);
        assert_eq!((each(&first, "id"), each(&second, "id")), (vec![submitted], vec![draft]));
        for (query, field) in
            [("state=none", "state"), ("type=XX", "type"), ("cursor=eA", "cursor"), ("limit=0", "limit")]
        {
            acme.get(&format!("/client/v1/applications?{query}")).await.refuses(field);
        }
        let long = "x".repeat(501);
        acme.get(&format!("/client/v1/applications?keyword={long}")).await.refuses("keyword");
    }
}

#[tokio::test]
async fn a_client_withdraws_deletes_and_stops_what_is_its_own() {
    for stage in Stage::both().await {
        let acme = &stage.acme;
        let draft = stage.draft(acme, stage.form()).await;
        acme.delete(&format!("/client/v1/applications/{draft}")).await.expect(204);
        acme.get(&format!("/client/v1/applications/{draft}")).await.problem(404, "not_found");

        let withdrawn = stage.submitted(acme, stage.form()).await;
        let after = stage.act(acme, &withdrawn, "withdraw").await.expect(200);
        assert_eq!(after["state"], "cancelled");
        stage.act(acme, &withdrawn, "submit").await.problem(409, "wrong_state");
        let signed = stage.submitted(acme, stage.form()).await;
        stage.review(&stage.rita, &signed, "approve").await;
        let late = stage.act(acme, &signed, "withdraw").await.problem(409, "already_reviewed");
        assert!(!late.to_string().contains("rita"), "{late:#}");

        let key = stage.key(acme).await;
        let revoke = json!({
            "type": "KR", "key": key, "effective_date": "2026-01-16", "description": "no longer",
        });
        let form = stage.submitted(acme, revoke).await;
        stage.review(&stage.rita, &form, "approve").await;
        stage.review(&stage.ralph, &form, "approve").await;
        let stopped = stage.act(acme, &form, "stop").await.expect(200);
        assert_eq!(stopped["effect"]["state"], "stopped");
    }
}

#[tokio::test]
async fn a_client_is_warned_of_an_api_without_dgrk_and_sent_to_its_own_pages() {
    for stage in Stage::both().await {
        let (acme, forms) = (&stage.acme, "/client/v1/applications");
        let form = stage.form();
        let uid = form["apis"][0].as_str().expect("a uid").to_owned();
        stage
            .admin
            .patch(&format!("/api/v1/apis/{uid}"), json!({ "accepts": ["x_api_key"] }))
            .await
            .expect(200);
        let saved = acme.post(forms, form.clone()).await.expect(201);
        let codes = |answer: &Value| {
            let warnings = answer["warnings"].as_array().expect("warnings").clone();
            warnings.iter().map(|warning| warning["code"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(codes(&saved), ["api_without_dgrk"]);
        let handed_in = stage.act(acme, &id_in(&saved), "submit").await.expect(200);
        assert_eq!(codes(&handed_in), ["api_without_dgrk", "mail_not_configured"]);
        for (form, field) in [
            (with(form.clone(), "client", json!("other")), "client"),
            (
                json!({ "type": "KR", "key": "key_none", "effective_date": "2026-01-15", "description": "x" }),
                "key",
            ),
            (with(form, "apis", json!(["api_none"])), "apis"),
        ] {
            let refused = acme.post(forms, form).await.refuses(field);
            assert!(!refused["detail"].to_string().contains("/api/v1"), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_form_names_no_api_that_is_not_open_to_the_client() {
    for stage in Stage::both().await {
        let inside = json!([stage.apis[1]]);
        let paths = "/client/v1/applications";
        let refused = async |apis: Value| {
            let answer = stage.other.post(paths, with(stage.form(), "apis", apis.clone())).await;
            let told = answer.refuses("apis")["detail"].as_str().expect("a detail").to_owned();
            told.replace(apis[0].as_str().expect("a uid"), "…")
        };
        assert_eq!(refused(inside.clone()).await, refused(json!(["api_none"])).await);
        // One that was open when the draft was made may be closed when it is handed in.
        let id = stage.draft(&stage.other, stage.form()).await;
        let path = format!("/api/v1/apis/{}", stage.apis[0]);
        stage.admin.patch(&path, json!({ "enabled": false })).await.expect(200);
        stage.act(&stage.other, &id, "submit").await.refuses("apis");
        stage.admin.patch(&path, json!({ "enabled": true })).await.expect(200);
        stage.act(&stage.other, &id, "submit").await.expect(200);
    }
}

#[tokio::test]
async fn a_client_files_no_form_for_another_and_asks_for_no_client() {
    let stage = Stage::set(World::sqlite().await).await;
    let form = with(stage.form(), "client", json!("acme"));
    stage.other.post("/client/v1/applications", form.clone()).await.refuses("client");
    stage.acme.post("/client/v1/applications", form).await.expect(201);
    stage.acme.post("/client/v1/applications", with(stage.form(), "type", json!("XX"))).await.refuses("type");
    stage.acme.post("/client/v1/applications", with(stage.form(), "type", json!("CR"))).await.refuses("type");
}
