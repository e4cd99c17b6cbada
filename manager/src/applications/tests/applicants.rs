//! Forms of clients: filed by themselves, for themselves.

use gate::id::ClientId;

use super::*;
use crate::applications::error::ApplicationError;
use crate::applications::form::Fields;
use crate::applications::model::{Action, Application, Refusal};
use crate::applications::worklist::{self, Filter, View};
use crate::applications::{Caller, actions};
use crate::approvals::FormKind;

impl Stage {
    /// What [`Stage::form`] says, without a client.
    fn fields(&self) -> Fields {
        Fields {
            name: Some("own key".into()),
            effective_date: Some("2026-01-15".into()),
            expiry_date: Some("2026-12-31".into()),
            quota: Some(10),
            description: Some("for ourselves".into()),
            apis: Some(vec![self.apis[0].clone()]),
            ..Fields::default()
        }
    }

    async fn save_as(&self, client: &ClientId, fields: Fields) -> Result<Application, ApplicationError> {
        actions::save(&self.world.app, Caller::Client(client), FormKind::Apply, fields).await
    }

    async fn seen_by(&self, client: &ClientId, view: View) -> Vec<String> {
        let (app, caller) = (&self.world.app, Caller::Client(client));
        let found = worklist::list(app, caller, view, &Filter::default(), None, 100).await;
        found.expect("a list").items.into_iter().map(|item| item.application.id).collect()
    }
}

fn field(refused: Result<Application, ApplicationError>) -> &'static str {
    match refused {
        Err(ApplicationError::Field(fault)) => fault.field(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_applies_for_itself_and_follows_its_form() {
    for stage in Stage::both().await {
        let (app, acme) = (&stage.world.app, ClientId::from(stage.client.as_str()));
        let saved = stage.save_as(&acme, stage.fields()).await.expect("a draft");
        let id = saved.id.clone();
        let submitted =
            actions::submit(app, Caller::Client(&acme), &id, Some(1), Action::Submit).await.expect("a form");
        assert_eq!(submitted.number.expect("a number").to_string(), "KA-20260115-0001");
        let told: Vec<_> = stage.mails().await.into_iter().map(|mail| mail.0).collect();
        assert_eq!(told, ["acme@example.com", "rita@example.com"], "the client's own addresses");

        let shown = stage.read(&id).await;
        assert_eq!((&shown["applicant_kind"], &shown["applicant"]), (&json!("client"), &json!("acme")));
        assert_eq!(shown["history"][0]["actor"], "client:acme");
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        let mails = stage.mails().await;
        let credentials: Vec<_> = mails.iter().filter(|mail| mail.1 == "key_credentials").collect();
        assert_eq!(credentials.len(), 1);
        assert_eq!(credentials[0].0, "acme@example.com");

        let detail = worklist::detail(app, Caller::Client(&acme), &id).await.expect("its form");
        assert_eq!(detail.application.state.name(), "approved");
        assert_eq!(detail.actions, []);
        let audited = "SELECT COUNT(*) FROM audit_entries WHERE actor = 'client:acme'";
        assert_eq!(stage.count(audited).await, 2, "saved and submitted");
    }
}

#[tokio::test]
async fn to_a_client_other_clients_and_their_forms_and_keys_do_not_exist() {
    for stage in Stage::both().await {
        let app = &stage.world.app;
        let (acme, other) = (ClientId::from("acme"), ClientId::from(client(&stage.admin, "other").await));
        let own = stage.save_as(&other, stage.fields()).await.expect("a draft").id;
        let of_an_operator = stage.draft(stage.form()).await;
        let key = stage.key().await;

        let naming = |client: &str| Fields { client: Some(client.into()), ..stage.fields() };
        assert_eq!(field(stage.save_as(&other, naming("acme")).await), "client");
        assert_eq!(field(stage.save_as(&other, naming("nobody")).await), "client");
        stage.save_as(&other, naming("other")).await.expect("its own name");
        let messages = async |key: &str| {
            let fields = Fields {
                key: Some(key.into()),
                effective_date: Some("2026-01-15".into()),
                description: Some("x".into()),
                ..Fields::default()
            };
            let refused = actions::save(app, Caller::Client(&other), FormKind::Revoke, fields).await;
            refused.expect_err("not its key").to_string().replace(key, "…")
        };
        assert_eq!(messages(&key).await, messages("key_none").await);

        for id in [own.as_str(), of_an_operator.as_str(), "ap_none"] {
            let (acme, id) = (Caller::Client(&acme), id.to_owned());
            let gone = |error: ApplicationError| matches!(error, ApplicationError::NotFound(_));
            assert!(gone(worklist::detail(app, acme, &id).await.expect_err("not its form")));
            assert!(gone(actions::edit(app, acme, &id, None, stage.fields()).await.expect_err("edit")));
            assert!(gone(actions::delete(app, acme, &id, None).await.expect_err("delete")));
            for action in [Action::Submit, Action::Resubmit] {
                assert!(gone(actions::submit(app, acme, &id, None, action).await.expect_err("submit")));
            }
            assert!(gone(actions::withdraw(app, acme, &id, None, "").await.expect_err("withdraw")));
            assert!(gone(actions::stop(app, acme, &id, None, "").await.expect_err("stop")));
        }
        for view in [View::Everything, View::WaitingForMe, View::Reviewed] {
            assert!(stage.seen_by(&acme, view).await.is_empty(), "{view:?}");
        }
        assert_eq!(stage.seen_by(&acme, View::Mine).await.len(), 1, "what was handed in about it, no draft");
        assert_eq!(stage.seen_by(&other, View::Everything).await.len(), 2);
        assert_eq!(stage.seen_by(&other, View::Mine).await.len(), 2);
        assert!(stage.seen_by(&other, View::WaitingForMe).await.is_empty());
    }
}

#[tokio::test]
async fn a_client_signs_nothing() {
    for stage in Stage::both().await {
        let (app, acme) = (&stage.world.app, ClientId::from("acme"));
        let id = stage.save_as(&acme, stage.fields()).await.expect("a draft").id;
        let caller = Caller::Client(&acme);
        actions::submit(app, caller, &id, None, Action::Submit).await.expect("a form");
        for action in [Action::Approve, Action::Return, Action::Reject] {
            let refused = actions::review(app, caller, &id, Some(2), action, "").await;
            let Err(ApplicationError::Refused { refusal: Refusal::NotReviewer { .. }, .. }) = refused else {
                panic!("{refused:?}");
            };
        }
    }
}

#[tokio::test]
async fn forms_that_a_client_filed_end_with_it() {
    for stage in Stage::both().await {
        let acme = ClientId::from("acme");
        let id = stage.save_as(&acme, stage.fields()).await.expect("a draft").id;
        let caller = Caller::Client(&acme);
        actions::submit(&stage.world.app, caller, &id, None, Action::Submit).await.expect("a form");
        stage.world.advance_ms(1_000);
        let deleted = stage.admin.delete("/api/v1/clients/acme?confirm=acme").await;
        assert_eq!(deleted.status, 204, "{:#}", deleted.body);
        let form = stage.read(&id).await;
        assert_eq!((&form["state"], &form["applicant"]), (&json!("cancelled"), &json!("acme")));
        let last = stage.mails().await.pop().expect("a mail");
        assert_eq!(last.0, "acme@example.com", "it is told while its address is known");
        stage.act(&stage.rita, &id, "approve").await.problem(409, "wrong_state");
    }
}
