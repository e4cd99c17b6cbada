//! Saving, editing, submitting.

use super::*;

#[tokio::test]
async fn numbers_count_by_day_of_the_zone_and_deleted_drafts_leave_no_gap() {
    for stage in Stage::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        let numbered = async |form: Value| {
            let id = stage.submitted(form).await;
            stage.read(&id).await["number"].as_str().expect("a number").to_owned()
        };
        assert_eq!(numbered(stage.form()).await, "KA-20260115-0001");
        let gone = stage.draft(stage.form()).await;
        assert_eq!(stage.anna.delete(&path(&gone, "")).await.status, 204);
        stage.anna.get(&path(&gone, "")).await.problem(404, "not_found");
        assert_eq!(numbered(stage.form()).await, "KA-20260115-0002");
        // 23:59:59.999 in Taipei, then midnight.
        stage.world.advance_ms(16 * 3_600_000 - 1);
        assert_eq!(numbered(stage.form()).await, "KA-20260115-0003");
        stage.world.advance_ms(1);
        let tomorrow = with(stage.form(), "effective_date", json!("2026-01-16"));
        assert_eq!(numbered(tomorrow).await, "KA-20260116-0001");
    }
}

#[tokio::test]
async fn forms_submitted_at_the_same_moment_get_numbers_of_their_own() {
    for stage in Stage::both().await {
        let mut ids = Vec::new();
        for _ in 0..6 {
            ids.push(stage.draft(stage.form()).await);
        }
        let submit = |id: &String| {
            let (anna, path) = (stage.anna.clone(), path(id, "submit"));
            tokio::spawn(async move { anna.send(Method::POST, &path, &[], None).await.expect(200) })
        };
        let racing: Vec<_> = ids.iter().map(submit).collect();
        let mut numbers = Vec::new();
        for race in racing {
            let form = race.await.expect("no panic");
            numbers.push(form["number"].as_str().expect("a number").to_owned());
        }
        numbers.sort();
        let expected: Vec<_> = (1..=6).map(|n| format!("KA-20260115-{n:04}")).collect();
        assert_eq!(numbers, expected);
    }
}

#[tokio::test]
async fn a_form_with_a_wrong_field_is_refused_by_name_and_not_kept() {
    for stage in Stage::both().await {
        let form = stage.form();
        let table = [
            (without(form.clone(), "type"), 422, "type"),
            (with(form.clone(), "type", json!("KX")), 422, "type"),
            (without(form.clone(), "client"), 422, "client"),
            (with(form.clone(), "client", json!("nobody")), 422, "client"),
            (with(form.clone(), "key", json!("key_1")), 422, "key"),
            (without(form.clone(), "name"), 422, "name"),
            (with(form.clone(), "name", json!("x".repeat(256))), 422, "name"),
            (with(form.clone(), "name", json!(7)), 422, "name"),
            (with(form.clone(), "effective_date", json!("2026-01-14")), 422, "effective_date"),
            (with(form.clone(), "effective_date", json!("15.01.2026")), 422, "effective_date"),
            (with(form.clone(), "expiry_date", json!("2026-01-14")), 422, "expiry_date"),
            (with(form.clone(), "quota", json!(0)), 422, "quota"),
            (with(form.clone(), "quota", json!(-2)), 422, "quota"),
            (with(form.clone(), "quota", json!(2_147_483_648_i64)), 422, "quota"),
            (with(form.clone(), "quota", json!("many")), 422, "quota"),
            (with(form.clone(), "description", json!("")), 422, "description"),
            (with(form.clone(), "description", json!("x".repeat(501))), 422, "description"),
            (with(form.clone(), "apis", json!([])), 422, "apis"),
            (with(form.clone(), "apis", json!(["nothing"])), 422, "apis"),
            (with(form.clone(), "apis", json!([stage.apis[0], stage.apis[0]])), 422, "apis"),
            (with(form.clone(), "colour", json!("red")), 422, "colour"),
        ];
        for (body, status, field) in table {
            let answer = stage.anna.post(FORMS, body.clone()).await;
            assert_eq!(answer.status, status, "{body}: {:#}", answer.body);
            answer.refuses(field);
        }
        assert_eq!(stage.count("SELECT COUNT(*) FROM applications").await, 0);
        assert_eq!(stage.count("SELECT COUNT(*) FROM application_apis").await, 0);
        for kind in ["KU", "KR"] {
            let body =
                json!({"type": kind, "key": "key_1", "effective_date": "2026-01-15", "description": "x"});
            stage.anna.post(FORMS, body).await.refuses("key");
        }
        let far = with(form, "expiry_date", json!("9999-12-31"));
        stage.anna.post(FORMS, far).await.expect(201);
    }
}

#[tokio::test]
async fn without_a_flow_a_form_cannot_be_submitted_and_stays_a_draft() {
    for world in World::both().await {
        let stage = Stage::set(world).await;
        let id = stage.draft(stage.form()).await;
        let problem = stage.act(&stage.anna, &id, "submit").await.problem(409, "no_approval_flow");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("PUT /api/v1/approval-flows/KA"), "{detail}");
        let draft = stage.read(&id).await;
        assert_eq!((&draft["state"], &draft["number"]), (&json!("draft"), &Value::Null));
        stage.flow("KA", json!([["reviewer_1"]])).await;
        let submitted = stage.act(&stage.anna, &id, "submit").await.expect(200);
        assert_eq!(submitted["number"], "KA-20260115-0001", "the refusal drew no number");
    }
}

#[tokio::test]
async fn one_change_or_revoke_form_at_a_time_holds_a_key() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let form = json!({"type": "KR", "key": key, "effective_date": "2026-01-15", "description": "x"});
        let (first, second) = (stage.draft(form.clone()).await, stage.draft(form.clone()).await);
        let (one, two) =
            tokio::join!(stage.act(&stage.anna, &first, "submit"), stage.act(&stage.anna, &second, "submit"));
        let (won, lost) = if one.status == 200 { (first, two) } else { (second, one) };
        lost.refuses("key");
        stage.act(&stage.anna, &won, "withdraw").await.expect(200);
        stage.submitted(form).await;
    }
}
