//! Forms that operators file about a client, as the client sees them.

use axum::http::Method;

use super::*;

const OWN: &str = "/client/v1/applications";

impl Stage {
    /// A form that an operator has saved.
    async fn saved_by(&self, operator: &Caller, form: Value) -> String {
        id_in(&operator.post("/api/v1/applications", form).await.expect(201))
    }

    async fn submit_as(&self, operator: &Caller, id: &str) {
        let path = format!("/api/v1/applications/{id}/submit");
        operator.send(Method::POST, &path, &[], None).await.expect(200);
    }
}

#[tokio::test]
async fn a_client_reads_what_operators_file_about_it_without_people_and_what_they_say() {
    for stage in Stage::both().await {
        let (acme, anna) = (&stage.acme, stage.world.operator("anna", &["applicant"]).await);
        let form = with(stage.form(), "client", json!("acme"));
        let id = stage.saved_by(&anna, form).await;
        let path = format!("{OWN}/{id}");
        acme.get(&path).await.problem(404, "not_found");
        assert_eq!(each(&acme.get(OWN).await.expect(200), "id"), [""; 0], "a draft is nobody else's");
        stage.submit_as(&anna, &id).await;
        stage.review(&stage.rita, &id, "return").await;
        let resubmit = format!("/api/v1/applications/{id}/resubmit");
        anna.send(Method::POST, &resubmit, &[], None).await.expect(200);
        stage.review(&stage.rita, &id, "approve").await;
        stage.review(&stage.ralph, &id, "approve").await;

        let shown = acme.get(&path).await.expect(200);
        assert_eq!((&shown["state"], &shown["actions"]), (&json!("approved"), &json!([])));
        assert_eq!((&shown["applicant_kind"], &shown["applicant"]), (&json!("operator"), &Value::Null));
        assert_eq!(shown["credentials_go_to"], Value::Null);
        let steps: Vec<_> = shown["history"].as_array().expect("a history").iter().collect();
        let by: Vec<_> = steps.iter().map(|step| step["by"].as_str().expect("a side")).collect();
        assert_eq!(by, ["operator", "operator", "reviewer", "operator", "reviewer", "reviewer"]);
        assert!(steps.iter().all(|step| step["comment"] == ""), "{shown:#}");
        for operator in [&anna, &stage.rita, &stage.ralph] {
            assert!(!shown.to_string().contains(&operator.id), "no operator is named: {shown:#}");
        }
        acme.get(&format!("/client/v1/keys/{}", shown["key"].as_str().expect("a key"))).await.expect(200);

        // To another client it is what nobody has.
        stage.other.get(&path).await.problem(404, "not_found");
        assert_eq!(each(&stage.other.get(OWN).await.expect(200), "id"), [""; 0]);
    }
}

#[tokio::test]
async fn a_client_changes_nothing_of_what_operators_filed_about_it() {
    for stage in Stage::both().await {
        let (acme, anna) = (&stage.acme, stage.world.operator("anna", &["applicant"]).await);
        let key = stage.key(acme).await;
        let revoke =
            json!({ "type": "KR", "key": key, "effective_date": "2026-01-20", "description": "over" });
        let scheduled = stage.saved_by(&anna, revoke).await;
        stage.submit_as(&anna, &scheduled).await;
        stage.review(&stage.rita, &scheduled, "approve").await;
        stage.review(&stage.ralph, &scheduled, "approve").await;
        let returned = stage.saved_by(&anna, with(stage.form(), "client", json!("acme"))).await;
        stage.submit_as(&anna, &returned).await;
        stage.review(&stage.rita, &returned, "return").await;
        for id in [&scheduled, &returned] {
            let before = acme.get(&format!("{OWN}/{id}")).await.expect(200);
            assert_eq!(before["actions"], json!([]));
            let mut fields = stage.form();
            fields.as_object_mut().expect("a form").remove("type");
            let path = format!("{OWN}/{id}");
            let mut answers = vec![
                acme.send(Method::PUT, &path, &[], Some(fields)).await,
                acme.send(Method::DELETE, &path, &[], None).await,
            ];
            for action in ["submit", "resubmit", "withdraw", "stop"] {
                answers.push(stage.act(acme, id, action).await);
            }
            for answer in answers {
                assert!([403, 409].contains(&answer.status), "{:#}", answer.body);
                assert!(!answer.body.to_string().contains("anna"), "{:#}", answer.body);
            }
            assert_eq!(acme.get(&path).await.expect(200), before, "{id}");
        }
        // Its own it stops and withdraws as ever.
        let own = stage.submitted(acme, stage.form()).await;
        stage.act(acme, &own, "withdraw").await.expect(200);
    }
}

/// Forms in every state, of clients and of operators, in the list as they are by themselves.
#[tokio::test]
async fn a_clients_list_holds_the_forms_that_it_sees_one_by_one() {
    for stage in Stage::both().await {
        let anna = stage.world.operator("anna", &["applicant"]).await;
        let ways: [&[&str]; 6] =
            [&[], &["return"], &["reject"], &["approve"], &["approve", "approve"], &["draft"]];
        for way in ways {
            for client in [&stage.acme, &stage.other] {
                let of_operator = with(stage.form(), "client", json!(client.id));
                let by_operator = stage.saved_by(&anna, of_operator).await;
                let by_client = stage.draft(client, stage.form()).await;
                if way == ["draft"] {
                    continue;
                }
                stage.submit_as(&anna, &by_operator).await;
                stage.act(client, &by_client, "submit").await.expect(200);
                for id in [&by_operator, &by_client] {
                    for (reviewer, action) in [&stage.rita, &stage.ralph].into_iter().zip(way) {
                        stage.review(reviewer, id, action).await;
                    }
                }
            }
            stage.world.advance_ms(1);
        }
        let all = stage.admin.get("/api/v1/applications?limit=200").await.expect(200);
        assert_eq!(each(&all, "id").len(), 24);
        for client in [&stage.acme, &stage.other] {
            let listed = client.get(&format!("{OWN}?limit=200")).await.expect(200);
            let items = listed["items"].as_array().expect("items");
            let mut seen = Vec::new();
            for id in each(&all, "id") {
                let answer = client.get(&format!("{OWN}/{id}")).await;
                let item = items.iter().find(|item| item["id"] == id);
                assert_eq!(item.is_some(), answer.status == 200, "{id} for {}", client.id);
                let Some(item) = item else { continue };
                seen.push(id);
                for (field, value) in item.as_object().expect("a form") {
                    assert_eq!(&answer.body[field], value, "{field} of {id}");
                }
            }
            assert_eq!(each(&listed, "id"), seen, "{}", client.id);
            assert_eq!(seen.len(), 11, "all but the operator's draft");
        }
    }
}
