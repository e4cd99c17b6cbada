//! Where a new key's credentials go is what its reviewers sign.

use super::*;

const NEW: &str = "elsewhere@example.com";

impl Stage {
    async fn addresses(&self, emails: &str) {
        self.admin.patch("/api/v1/clients/acme", json!({ "emails": emails })).await.expect(200);
    }

    /// To whom credentials have been mailed.
    async fn credentials(&self) -> Vec<String> {
        let mails = self.mails().await.into_iter();
        mails.filter(|(_, template, _)| template == "key_credentials").map(|(to, _, _)| to).collect()
    }

    async fn refused(&self, who: &Caller, id: &str) {
        let told = self.act(who, id, "approve").await.problem(409, "credential_addresses_changed");
        let told = told["detail"].as_str().expect("a detail");
        assert!(told.contains("Return the form") && !told.contains(NEW), "{told}");
        let form = self.rita.get(&path(id, "")).await.expect(200);
        let warned = form["review"]["warnings"].as_array().expect("warnings").iter();
        let codes: Vec<_> = warned.filter_map(|warning| warning["code"].as_str()).collect();
        assert_eq!(codes, ["credential_addresses_changed"]);
        assert!(self.credentials().await.is_empty());
    }
}

#[tokio::test]
async fn an_approval_is_refused_at_every_level_once_the_credentials_would_go_elsewhere() {
    for stage in Stage::both().await {
        for level in 1..=2 {
            let id = stage.submitted(stage.form()).await;
            if level == 2 {
                stage.act(&stage.rita, &id, "approve").await.expect(200);
            }
            stage.addresses(NEW).await;
            let who = if level == 1 { &stage.rita } else { &stage.ralph };
            stage.refused(who, &id).await;
            stage.act(who, &id, "reject").await.expect(200);
            stage.addresses("acme@example.com").await;
        }
    }
}

#[tokio::test]
async fn a_form_that_is_submitted_again_is_signed_with_the_new_addresses() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.addresses(NEW).await;
        stage.refused(&stage.rita, &id).await;
        assert_eq!(stage.read(&id).await["credentials_go_to"], json!(["acme@example.com"]));
        stage.act(&stage.rita, &id, "return").await.expect(200);
        stage.act(&stage.anna, &id, "resubmit").await.expect(200);
        assert_eq!(stage.read(&id).await["credentials_go_to"], json!([NEW]));
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(stage.credentials().await, [NEW]);
        assert_eq!(stage.read(&id).await["credentials_go_to"], json!([NEW]), "as they were signed");
    }
}

#[tokio::test]
async fn restored_addresses_in_whatever_order_are_those_that_were_signed() {
    for stage in Stage::both().await {
        stage.addresses("acme@example.com,it@example.com").await;
        let id = stage.submitted(stage.form()).await;
        stage.addresses("acme@example.com").await;
        stage.refused(&stage.rita, &id).await;
        stage.addresses("it@example.com,acme@example.com").await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        let mut told = stage.credentials().await;
        told.sort();
        assert_eq!(told, ["acme@example.com", "it@example.com"]);
    }
}

#[tokio::test]
async fn the_addresses_of_a_client_that_applies_and_of_an_operator_count_too() {
    for stage in Stage::both_with(|config| config.credential_recipients = CredentialRecipients::Both).await {
        let own = stage.world.client("globex").await;
        let form = without(stage.form(), "client");
        let filed = own.post("/client/v1/applications", form).await.expect(201);
        let id = filed["id"].as_str().expect("an id").to_owned();
        let of_client = format!("/client/v1/applications/{id}");
        assert_eq!(own.get(&of_client).await.expect(200)["credentials_go_to"], Value::Null, "a draft");
        own.send(Method::POST, &format!("{of_client}/submit"), &[], None).await.expect(200);
        let shown = own.get(&of_client).await.expect(200);
        assert_eq!(
            shown["credentials_go_to"],
            json!(["it@globex.example"]),
            "once, though twice a recipient"
        );
        stage.admin.patch("/api/v1/clients/globex", json!({ "emails": NEW })).await.expect(200);
        stage.refused(&stage.rita, &id).await;

        let id = stage.submitted(stage.form()).await;
        let both = json!(["acme@example.com", "anna@example.com"]);
        assert_eq!(stage.read(&id).await["credentials_go_to"], both);
        let path = format!("/api/v1/operators/{}", stage.anna.id);
        stage.admin.patch(&path, json!({ "email": NEW })).await.expect(200);
        stage.refused(&stage.rita, &id).await;
    }
}

#[tokio::test]
async fn forms_that_were_submitted_under_an_older_version_go_on() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.world.sql("UPDATE applications SET credentials_go_to = NULL").await;
        stage.addresses(NEW).await;
        assert_eq!(stage.read(&id).await["credentials_go_to"], Value::Null);
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(stage.credentials().await, [NEW]);
    }
}

/// Who sees where the credentials go: the applicant, reviewers and readers, each with `clients.read`.
#[tokio::test]
async fn addresses_are_shown_to_whoever_sees_clients() {
    for stage in Stage::both().await {
        for (role, permissions) in
            [("blind_signer", json!(["applications.review"])), ("blind_filer", json!(["applications.apply"]))]
        {
            let role = (format!("/api/v1/roles/{role}"), json!({ "permissions": permissions }));
            stage.admin.put(&role.0, role.1).await.expect(200);
        }
        stage.flow("KA", json!([["reviewer_1", "blind_signer"], ["reviewer_2"]])).await;
        let bob = stage.world.operator("bob", &["blind_signer"]).await;
        let fred = stage.world.operator("fred", &["blind_filer"]).await;
        let auditor = stage.world.operator("audrey", &["auditor"]).await;
        let delegate = stage.world.operator("della", &["blind_filer"]).await;
        let leave = json!({ "delegate": delegate.id, "until": World::START.0 + DAY_MS, "reason": "leave" });
        stage.rita.post("/api/v1/delegations", leave).await.expect(201);
        let id = stage.submitted(stage.form()).await;
        let (all, nothing) = (json!(["acme@example.com"]), Value::Null);
        for (who, sees) in [
            (&stage.anna, &all),
            (&stage.rita, &all),
            (&stage.admin, &all),
            (&auditor, &all),
            (&bob, &nothing),
            (&delegate, &nothing),
        ] {
            let form = who.get(&path(&id, "")).await.expect(200);
            assert_eq!(&form["credentials_go_to"], sees, "{}", who.id);
        }
        let own = fred.post(FORMS, stage.form()).await.expect(201);
        let own = own["id"].as_str().expect("an id");
        stage.act(&fred, own, "submit").await.expect(200);
        assert_eq!(fred.get(&path(own, "")).await.expect(200)["credentials_go_to"], nothing);
        let change = stage.key().await;
        let form = json!({ "type": "KR", "key": change, "effective_date": "2026-01-15", "description": "x" });
        let id = stage.submitted(form).await;
        assert_eq!(stage.read(&id).await["credentials_go_to"], nothing, "no credentials are sent");
        // Edited, it may be about another client.
        let id = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &id, "return").await.expect(200);
        let fields = without(stage.form(), "type");
        stage.anna.send(Method::PUT, &path(&id, ""), &[], Some(fields)).await.expect(200);
        assert_eq!(stage.read(&id).await["credentials_go_to"], nothing);
    }
}
