//! A client makes no rows and mails without bound.

use axum::http::Method;

use super::*;
use crate::applications::bounds::{MAX_OPEN, MAX_SUBMISSIONS, MAX_VERSIONS, WINDOW_MS};

const FORMS: &str = "/client/v1/applications";

#[tokio::test]
async fn a_client_has_so_many_forms_that_are_not_ended_and_no_more() {
    for stage in Stage::both().await {
        for _ in 1..MAX_OPEN {
            stage.draft(&stage.acme, stage.form()).await;
        }
        let (one, other) =
            tokio::join!(stage.acme.post(FORMS, stage.form()), stage.acme.post(FORMS, stage.form()));
        let (made, refused) = if one.status == 201 { (one, other) } else { (other, one) };
        refused.problem(409, "too_many_open_forms");
        let made = id_in(&made.expect(201));
        stage.draft(&stage.other, stage.form()).await;
        let form = with(stage.form(), "client", json!("acme"));
        stage.admin.post("/api/v1/applications", form).await.expect(201);
        // One that has ended makes room.
        stage.act(&stage.acme, &made, "withdraw").await.expect(200);
        stage.draft(&stage.acme, stage.form()).await;
        stage.acme.post(FORMS, stage.form()).await.problem(409, "too_many_open_forms");
    }
}

#[tokio::test]
async fn a_client_hands_in_so_often_within_a_day_and_no_more() {
    for stage in Stage::both().await {
        let now = stage.world.app.now().0;
        for number in 1..MAX_SUBMISSIONS {
            let action = if number % 2 == 0 { "submit" } else { "resubmit" };
            let step = format!(
                "INSERT INTO application_history (application_id, version, at, actor, action, comment, state)
                 VALUES ('ap_{number}', 2, {now}, 'client:acme', '{action}', '', 'pending_order')"
            );
            stage.world.sql(&step).await;
        }
        let draft = stage.draft(&stage.acme, stage.form()).await;
        stage.submitted(&stage.acme, stage.form()).await;
        let refused = stage.act(&stage.acme, &draft, "submit").await;
        assert_eq!(refused.header("retry-after"), Some("3600"));
        refused.problem(429, "too_many_submissions");
        stage.submitted(&stage.other, stage.form()).await;
        stage.world.advance_ms(WINDOW_MS);
        let acme = stage.world.client_session("acme").await;
        let form = with(with(stage.form(), "effective_date", json!("2026-01-16")), "name", json!("later"));
        stage.submitted(&acme, form).await;
    }
}

#[tokio::test]
async fn a_client_edits_a_form_so_often_and_no_more() {
    for stage in Stage::both().await {
        let id = stage.draft(&stage.acme, stage.form()).await;
        let last = MAX_VERSIONS - 1;
        stage.world.sql(&format!("UPDATE applications SET version = {last} WHERE id = '{id}'")).await;
        let mut form = stage.form();
        form.as_object_mut().expect("a form").remove("type");
        let path = format!("{FORMS}/{id}");
        stage.acme.put(&path, form.clone()).await.expect(200);
        stage.acme.put(&path, form).await.problem(409, "too_many_versions");
        stage.act(&stage.acme, &id, "submit").await.expect(200);
    }
}

/// Of what takes no body hardly anything is read, with a key as without.
#[tokio::test]
async fn the_body_of_a_clients_call_that_takes_none_is_not_read() {
    let stage = Stage::set(World::sqlite().await).await;
    let id = stage.draft(&stage.acme, stage.form()).await;
    let path = format!("{FORMS}/{id}/submit");
    let submit = async |key: &str, bytes: usize| {
        let body = " ".repeat(bytes).into();
        stage.acme.raw(Method::POST, &path, &[("idempotency-key", key)], body).await
    };
    submit("a", 1 << 20).await.problem(400, "unexpected_body");
    submit("a", 4).await.expect(200);
}
