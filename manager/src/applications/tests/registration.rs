//! Forms that ask for a client.

use super::*;
use crate::applications::error::ApplicationError;
use crate::applications::form::Fields;
use crate::applications::model::{Action, Application};
use crate::applications::worklist::{self, Filter, View};
use crate::applications::{Caller, actions};
use crate::approvals::FormKind;
use crate::clients::{self, PasswordCheck};
use crate::operators::Email;

fn asked() -> Value {
    json!({
        "type": "CR",
        "name": "globex",
        "display_name": "Globex Corporation",
        "emails": "ops@globex.example,it@globex.example",
        "bindings": [{ "name": "office", "address": "203.0.113.0/24" }],
        "description": "to order from you",
    })
}

impl Stage {
    async fn approved(&self, id: &str) -> Value {
        self.act(&self.rita, id, "approve").await.expect(200);
        self.act(&self.ralph, id, "approve").await.expect(200)
    }

    async fn clients(&self) -> i64 {
        self.count("SELECT COUNT(*) FROM clients").await
    }
}

#[tokio::test]
async fn the_last_signature_makes_the_client_and_mails_its_first_password() {
    for stage in Stage::both().await {
        let id = stage.submitted(asked()).await;
        let waiting = stage.read(&id).await;
        assert_eq!(waiting["number"], "CR-20260115-0001");
        assert_eq!((&waiting["client"], &waiting["effective_date"]), (&Value::Null, &Value::Null));
        assert_eq!(waiting["bindings"], asked()["bindings"]);
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        assert_eq!(stage.clients().await, 1, "one signature is not enough");
        let approved = stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!((&approved["state"], &approved["effect"]["state"]), (&json!("approved"), &json!("done")));

        let made = approved["client"].as_str().expect("the client");
        let made = stage.admin.get(&format!("/api/v1/clients/{made}")).await.expect(200);
        for (field, value) in [
            ("name", json!("globex")),
            ("display_name", json!("Globex Corporation")),
            ("emails", json!("ops@globex.example,it@globex.example")),
            ("bindings", asked()["bindings"].clone()),
            ("status", json!("active")),
            ("application_number", json!("CR-20260115-0001")),
            ("note", json!("anna")),
            ("tps", json!(10)),
            ("groups", json!([])),
        ] {
            assert_eq!(made[field], value, "{field}");
        }
        let mails = "SELECT COUNT(*) FROM mails
                      WHERE template = 'client_created' AND recipient LIKE '%globex.example'
                        AND next_attempt_at = created_at + 600000";
        assert_eq!(stage.count(mails).await, 2, "as late as credentials, one for each address");
        let result = ("anna@example.com".to_owned(), "application_result".to_owned());
        let told = stage.mails().await.into_iter().any(|mail| (mail.0, mail.1) == result);
        assert!(told, "the applicant is told");
        let by = format!("operator:{}", stage.ralph.id);
        let trail = stage.admin.get("/api/v1/audit?action=clients.create").await.expect(200);
        assert_eq!(trail["items"][0]["actor"], json!(by), "{trail:#}");

        stage.world.advance_ms(600_000);
        let mails = stage.world.mailed().await;
        let mail = mails.into_iter().find(|mail| mail.to == "it@globex.example").expect("a mail");
        let password = mail.text.lines().find_map(|line| line.trim().strip_prefix("Password:"));
        let password = password.unwrap_or_else(|| panic!("{}", mail.text)).trim();
        let id = made["id"].as_str().expect("an id");
        let checked = clients::check_password(&stage.world.app, id, password).await.expect("an answer");
        assert!(matches!(checked, PasswordCheck::Right(_)), "the first password is in the mail");
    }
}

#[tokio::test]
async fn a_registration_with_a_wrong_field_is_refused_by_name() {
    for stage in Stage::both().await {
        for (body, field) in [
            (without(asked(), "name"), "name"),
            (with(asked(), "name", json!("a b")), "name"),
            (with(asked(), "name", json!("a".repeat(51))), "name"),
            (with(asked(), "name", json!("acme")), "name"),
            (without(asked(), "display_name"), "display_name"),
            (with(asked(), "display_name", json!("acme")), "display_name"),
            (without(asked(), "emails"), "emails"),
            (with(asked(), "emails", json!("nobody")), "emails"),
            (with(asked(), "bindings", json!([{ "name": "x", "address": "nowhere at all" }])), "bindings"),
            (with(asked(), "description", json!("")), "description"),
            (with(asked(), "client", json!("acme")), "client"),
            (with(asked(), "apis", json!([stage.apis[0]])), "apis"),
            (with(asked(), "quota", json!(5)), "quota"),
            (with(asked(), "effective_date", json!("2026-01-15")), "effective_date"),
            (with(stage.form(), "emails", json!("a@example.com")), "emails"),
            (with(stage.form(), "display_name", json!("x")), "display_name"),
            (with(stage.form(), "bindings", json!([])), "bindings"),
        ] {
            stage.anna.post(FORMS, body).await.refuses(field);
        }
        assert_eq!(stage.count("SELECT COUNT(*) FROM applications").await, 0);
    }
}

#[tokio::test]
async fn names_that_are_taken_meanwhile_are_refused_with_what_to_do() {
    for stage in Stage::both().await {
        let (draft, waiting) = (stage.draft(asked()).await, stage.submitted(asked()).await);
        client(&stage.admin, "globex").await;
        let refused = stage.act(&stage.anna, &draft, "submit").await.refuses("name");
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains("choose another") && !detail.contains("reviewer"), "{detail}");
        stage.anna.post(FORMS, asked()).await.refuses("name");
        let refused = stage.act(&stage.rita, &waiting, "approve").await.refuses("name");
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains("return the form, so that the applicant chooses another"), "{detail}");
        stage.act(&stage.rita, &waiting, "return").await.expect(200);
        let other = with(without(asked(), "type"), "name", json!("globex2"));
        let other = with(other, "bindings", json!([]));
        let edited = stage.anna.put(&path(&waiting, ""), other).await.expect(200);
        assert_eq!((&edited["name"], &edited["bindings"]), (&json!("globex2"), &json!([])));
        stage.act(&stage.anna, &waiting, "resubmit").await.expect(200);
        assert_eq!(stage.approved(&waiting).await["effect"]["state"], "done");
    }
}

#[tokio::test]
async fn a_client_without_an_address_is_not_told_to_leave_out_what_is_required() {
    for stage in Stage::both().await {
        for emails in [json!(""), json!("  "), Value::Null] {
            let refused = stage.anna.post(FORMS, with(asked(), "emails", emails)).await.refuses("emails");
            let detail = refused["detail"].as_str().expect("a detail");
            assert!(detail.contains("required") || detail.contains("Required"), "{detail}");
            assert!(!detail.contains("leave it out"), "{detail}");
        }
    }
}

#[tokio::test]
async fn two_forms_for_one_name_make_one_client() {
    for stage in Stage::both().await {
        let before = stage.clients().await;
        let forms = [stage.submitted(asked()).await, stage.submitted(asked()).await];
        for id in &forms {
            stage.act(&stage.rita, id, "approve").await.expect(200);
        }
        let (one, two) = tokio::join!(
            stage.act(&stage.ralph, &forms[0], "approve"),
            stage.act(&stage.ralph, &forms[1], "approve"),
        );
        let (won, lost) = if one.status == 200 { (one, two) } else { (two, one) };
        won.expect(200);
        lost.refuses("name");
        assert_eq!(stage.clients().await, before + 1);
        let mails =
            "SELECT COUNT(*) FROM mails WHERE template = 'client_created' AND recipient LIKE '%globex%'";
        assert_eq!(stage.count(mails).await, 2, "one for each of its addresses");
    }
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_no_client() {
    for stage in Stage::both().await {
        let id = stage.submitted(asked()).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let before = (stage.read(&id).await, stage.clients().await, stage.mails().await);
        stage.world.sql("ALTER TABLE application_history RENAME TO away").await;
        stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "").await.problem(500, "internal");
        stage.world.sql("ALTER TABLE away RENAME TO application_history").await;
        assert_eq!((stage.read(&id).await, stage.clients().await, stage.mails().await), before);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(stage.clients().await, before.1 + 1);
    }
}

fn fields(name: &str) -> Fields {
    Fields {
        name: Some(name.into()),
        display_name: Some(format!("The {name}")),
        emails: Some("ann@visitor.example".into()),
        description: Some("to order".into()),
        ..Fields::default()
    }
}

async fn file(
    stage: &Stage,
    caller: Caller<'_>,
    kind: FormKind,
    fields: Fields,
) -> Result<Application, ApplicationError> {
    let app = &stage.world.app;
    let mut tx = app.db.write("tests.file").await.expect("a transaction");
    let filed = actions::file_in(&mut tx, app, caller, kind, fields, app.now()).await?;
    tx.commit().await.expect("a commit");
    Ok(filed)
}

#[tokio::test]
async fn a_visitor_files_follows_and_withdraws_its_own_form_alone() {
    for stage in Stage::both().await {
        let app = &stage.world.app;
        let ann = Email::parse("ann@visitor.example").expect("an address");
        let bob = Email::parse("bob@visitor.example").expect("an address");
        let (ann, bob) = (Caller::Visitor(&ann), Caller::Visitor(&bob));
        let form = file(&stage, ann, FormKind::Client, fields("globex")).await.expect("a form");
        // Drawn before anything is recorded: counter before audit, as everywhere.
        let saved = stage.admin.get("/api/v1/audit?action=applications.save").await.expect(200);
        let number = form.number.expect("a number").to_string();
        assert_eq!(saved["items"][0]["detail"]["number"], number);
        assert_eq!(form.number.expect("a number").to_string(), "CR-20260115-0001");
        let told: Vec<_> = stage.mails().await.into_iter().map(|mail| mail.0).collect();
        assert_eq!(told, ["ann@visitor.example", "rita@example.com"]);
        let shown = stage.read(&form.id).await;
        assert_eq!(shown["applicant_kind"], "visitor");
        assert_eq!(shown["history"][1]["actor"], "visitor:ann@visitor.example");

        let detail = worklist::detail(app, ann, &form.id).await.expect("its form");
        assert_eq!(detail.actions, [Action::Withdraw]);
        let strange = worklist::detail(app, bob, &form.id).await;
        assert!(matches!(strange, Err(ApplicationError::NotFound(_))), "{strange:?}");
        let strange = actions::withdraw(app, bob, &form.id, None, "").await;
        assert!(matches!(strange, Err(ApplicationError::NotFound(_))), "{strange:?}");
        let listed = worklist::list(app, ann, View::Everything, &Filter::default(), None, 9).await;
        assert_eq!(listed.expect("a list").items.len(), 1);

        stage.act(&stage.rita, &form.id, "return").await.expect(200);
        actions::edit(app, ann, &form.id, None, fields("globex2")).await.expect("edited");
        actions::submit(app, ann, &form.id, None, Action::Resubmit).await.expect("in again");
        let gone = actions::withdraw(app, ann, &form.id, None, "no longer").await.expect("withdrawn");
        assert_eq!(gone.state.name(), "cancelled");

        let second = file(&stage, ann, FormKind::Client, fields("initech")).await.expect("a form");
        assert_eq!(stage.approved(&second.id).await["effect"]["state"], "done");
    }
}

#[tokio::test]
async fn who_may_file_which_type() {
    for stage in Stage::both().await {
        let ann = Email::parse("ann@visitor.example").expect("an address");
        let acme = gate::id::ClientId::from("acme");
        for kind in FormKind::ALL {
            let by_visitor = file(&stage, Caller::Visitor(&ann), kind, fields("globex")).await;
            let by_client = file(&stage, Caller::Client(&acme), kind, fields("globex")).await;
            let refused = |found: &Result<Application, ApplicationError>| {
                matches!(found, Err(ApplicationError::NotFiledBy { .. }))
            };
            assert_eq!(refused(&by_visitor), kind != FormKind::Client, "{kind}: {by_visitor:?}");
            assert_eq!(refused(&by_client), kind == FormKind::Client, "{kind}: {by_client:?}");
        }
    }
}
