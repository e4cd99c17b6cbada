//! What reviewers look at.

use super::*;

fn codes(form: &Value) -> Vec<&str> {
    let warnings = form["review"]["warnings"].as_array().expect("warnings");
    warnings.iter().filter_map(|warning| warning["code"].as_str()).collect()
}

impl Stage {
    fn other_terms(&self, key: &str) -> Value {
        let mut form = self.form();
        form["type"] = "KU".into();
        form["key"] = key.into();
        form["name"] = "another name".into();
        form["quota"] = 50.into();
        form["apis"] = json!([self.apis[1]]);
        form.as_object_mut().expect("an object").remove("client");
        form
    }
}

#[tokio::test]
async fn a_change_is_seen_as_before_and_after_with_what_was_used() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let used = format!("UPDATE meters SET debited = 80 WHERE kind = 'key_uses' AND owner = '{key}'");
        assert_eq!(stage.world.sql(&used).await, 1);
        // Saved before the other one holds the key.
        let mut reset = stage.other_terms(&key);
        reset["reset_usage"] = true.into();
        let reset = stage.draft(reset).await;
        let id = stage.submitted(stage.other_terms(&key)).await;
        let form = stage.rita.get(&path(&id, "")).await.expect(200);
        let review = &form["review"];
        let term = |field: &str, before: Value, after: Value| json!({ "field": field, "changed": before != after, "before": before, "after": after });
        let terms = json!([
            term("name", json!("orders key"), json!("another name")),
            term("expiry_date", json!("2026-12-31"), json!("2026-12-31")),
            term("quota", json!(1000), json!(50)),
        ]);
        assert_eq!(review["terms"], terms);
        let named = |uid: &str, name: &str| json!([{ "uid": uid, "name": name }]);
        let apis = json!({
            "added": named(&stage.apis[1], "invoices"), "removed": named(&stage.apis[0], "orders"), "kept": [],
        });
        assert_eq!(review["apis"], apis);
        assert_eq!(review["usage"], json!({ "used": 80, "remaining": 920, "remaining_after": 0 }));
        assert_eq!(codes(&form), ["quota_below_used"]);
        let client = &review["client"];
        assert_eq!((&client["status"], &client["emails"]), (&json!("active"), &json!("acme@example.com")));

        let form = stage.read(&reset).await;
        assert_eq!(form["review"]["usage"], json!({ "used": 80, "remaining": 920, "remaining_after": 50 }));

        // What was then is not what is now: nothing is shown of a form that has ended.
        stage.act(&stage.rita, &id, "reject").await.expect(200);
        assert_eq!(stage.read(&id).await["review"], Value::Null);
    }
}

#[tokio::test]
async fn a_revocation_ends_what_there_is() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let form = json!({ "type": "KR", "key": key, "effective_date": "2026-01-15", "description": "over" });
        let id = stage.submitted(form).await;
        let review = stage.rita.get(&path(&id, "")).await.expect(200)["review"].clone();
        let row = |field: &str, before: Value, after: Value| json!({ "field": field, "changed": before != after, "before": before, "after": after });
        let stays = |field: &str, value: Value| row(field, value.clone(), value);
        let terms = json!([
            row("state", "active".into(), "revoked".into()),
            stays("name", "orders key".into()),
            stays("expiry_date", "2026-12-31".into()),
            stays("quota", 1000.into()),
        ]);
        assert_eq!(review["terms"], terms);
        assert_eq!(review["apis"]["removed"][0]["name"], "orders");
        assert_eq!(review["usage"], json!({ "used": 0, "remaining": 1000, "remaining_after": 0 }));
    }
}

#[tokio::test]
async fn a_new_client_is_seen_with_all_that_it_is_to_be() {
    for stage in Stage::both().await {
        let form = json!({
            "type": "CR", "name": "newco", "display_name": "New Company", "emails": "a@newco.example,b@newco.example",
            "bindings": [{ "name": "office", "address": "203.0.113.0/24" }], "description": "to order",
        });
        let id = stage.submitted(form).await;
        let review = stage.rita.get(&path(&id, "")).await.expect(200)["review"].clone();
        let row = |field: &str, after: Value| json!({ "field": field, "before": null, "after": after, "changed": true });
        let terms = json!([
            row("name", "newco".into()),
            row("display_name", "New Company".into()),
            row("emails", stage.read(&id).await["emails"].clone()),
            row("bindings", stage.read(&id).await["bindings"].clone()),
        ]);
        assert_eq!(review["terms"], terms);
        assert_eq!(review["usage"], json!({ "used": null, "remaining": null, "remaining_after": null }));

        // Reviewers learn before they sign that the name was taken meanwhile, not by a refusal.
        assert_eq!(review["warnings"], json!([]));
        client(&stage.admin, "newco").await;
        assert_eq!(codes(&stage.read(&id).await), ["name_taken"]);
        let told = stage.read(&id).await["review"]["warnings"][0]["message"].clone();
        let told = told.as_str().expect("a text");
        assert!(told.contains("the name newco") && told.contains("return the form"), "{told}");
    }
}

/// An API may accept DGRK keys later, so nothing is refused; but whoever picks it, saves or hands in the
/// form, and signs it, is told.
#[tokio::test]
async fn an_api_that_accepts_no_dgrk_key_is_warned_of_at_every_step() {
    for stage in Stage::both().await {
        let [orders, invoices] = &stage.apis;
        let bearer = json!({ "accepts": ["bearer"] });
        stage.admin.patch(&format!("/api/v1/apis/{orders}"), bearer).await.expect(200);
        let open = json!({ "accepts": [], "no_auth": true });
        stage.admin.patch(&format!("/api/v1/apis/{invoices}"), open).await.expect(200);
        let form = with(stage.form(), "apis", json!(stage.apis));
        let warned = |answer: &Value| {
            let warnings = answer["warnings"].as_array().expect("warnings").clone();
            let of = |warning: &Value| (warning["code"].clone(), warning["api"].clone());
            warnings.iter().map(of).filter(|(_, api)| !api.is_null()).collect::<Vec<_>>()
        };
        let expected = vec![(json!("api_without_dgrk"), json!(orders))];
        let saved = stage.anna.post(FORMS, form.clone()).await.expect(201);
        assert_eq!(warned(&saved), expected);
        let id = saved["id"].as_str().expect("an id").to_owned();
        let edited = stage.anna.put(&path(&id, ""), without(form, "type")).await.expect(200);
        assert_eq!(warned(&edited), expected);
        assert_eq!(warned(&stage.act(&stage.anna, &id, "submit").await.expect(200)), expected);
        assert_eq!(codes(&stage.rita.get(&path(&id, "")).await.expect(200)), ["api_without_dgrk"]);
        let both = json!({ "accepts": ["bearer", "dgrk"] });
        stage.admin.patch(&format!("/api/v1/apis/{orders}"), both).await.expect(200);
        assert_eq!(codes(&stage.read(&id).await), [""; 0]);
    }
}

#[tokio::test]
async fn a_change_of_a_key_that_is_off_or_has_ended_is_warned_of() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let to_change =
            stage.submitted(with(stage.other_terms(&key), "expiry_date", "2027-06-30".into())).await;
        let off = format!("/api/v1/keys/{key}/deactivate");
        stage.admin.post(&off, json!({})).await.expect(200);
        assert_eq!(codes(&stage.read(&to_change).await), ["key_inactive"]);
        stage.admin.post(&off.replace("deactivate", "activate"), json!({})).await.expect(200);
        assert_eq!(codes(&stage.read(&to_change).await), [""; 0]);
        stage.world.advance_ms(351 * DAY_MS);
        let told = stage.read(&to_change).await["review"]["warnings"][1]["message"].clone();
        assert_eq!(
            told,
            "the key's last day was 2026-12-31: the change makes it valid again, until 2027-06-30"
        );
        assert_eq!(codes(&stage.read(&to_change).await), ["effective_date_passed", "key_expired"]);
    }
}

#[tokio::test]
async fn what_speaks_against_a_signature_is_said() {
    for stage in Stage::both().await {
        let mut form = stage.form();
        form["apis"] = json!(stage.apis);
        form["expiry_date"] = "2026-02-20".into();
        let id = stage.submitted(form).await;
        let seen = async |stage: &Stage| {
            let form = stage.rita.get(&path(&id, "")).await.expect(200);
            codes(&form).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(seen(&stage).await, [""; 0]);
        let [orders, invoices] = &stage.apis;
        let secret = json!({ "name": "secret", "alias": "Secret", "security_level": "A", "apis": [orders] });
        stage.admin.post("/api/v1/groups", secret).await.expect(201);
        stage.admin.patch(&format!("/api/v1/apis/{orders}"), json!({ "enabled": false })).await.expect(200);
        stage
            .admin
            .patch(&format!("/api/v1/apis/{invoices}"), json!({ "audience": "internal" }))
            .await
            .expect(200);
        stage.world.sql(&format!("UPDATE apis SET source = 'imported' WHERE uid = '{invoices}'")).await;
        let client = json!({
            "status": "disabled", "emails": null, "audience": "external", "time_zone": "UTC",
            "start_date": "2026-01-01", "expiry_date": "2026-01-20",
        });
        stage.admin.patch("/api/v1/clients/acme", client).await.expect(200);
        stage.world.advance_ms(10 * DAY_MS);
        let mut found = seen(&stage).await;
        found.sort();
        let mut expected = vec![
            "effective_date_passed",
            "expires_soon",
            "client_disabled",
            "client_expired",
            "client_without_address",
            "credential_addresses_changed",
            "api_disabled",
            "api_level",
            "api_audience",
            "api_not_registered",
        ];
        expected.sort();
        assert_eq!(found, expected);
        stage.world.advance_ms(30 * DAY_MS);
        assert!(seen(&stage).await.contains(&"expired".to_owned()));
    }
}

/// Each row: the kind of form, what happens while it waits, and what its reviewers are warned of.
#[tokio::test]
async fn what_is_gone_locked_revoked_or_without_signers_is_warned_of() {
    for stage in Stage::both().await {
        for (kind, what, expected) in [
            ("KA", "api deleted", ["api_unknown"]),
            ("KU", "api deleted", ["api_unknown"]),
            ("KA", "client locked", ["client_locked"]),
            ("KR", "client locked", ["client_locked"]),
            ("KU", "key revoked", ["key_revoked"]),
            ("KR", "key revoked", ["key_revoked"]),
            ("KA", "reviewer gone", ["no_signer"]),
            ("KR", "reviewer gone", ["no_signer"]),
        ] {
            let chosen = api(&stage.admin, &format!("{what}-{kind}").replace(' ', "-")).await;
            let key = if kind == "KA" { String::new() } else { stage.key().await };
            let form = match kind {
                "KA" => with(stage.form(), "apis", json!([chosen])),
                "KU" => with(with(stage.other_terms(&key), "apis", json!([chosen])), "name", json!("x")),
                _ => json!({ "type": "KR", "key": key, "effective_date": "2026-01-15", "description": "x" }),
            };
            let id = stage.submitted(form).await;
            let warned = async || {
                let form = stage.rita.get(&path(&id, "")).await.expect(200);
                codes(&form).into_iter().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(warned().await, [""; 0], "{kind}, before: {what}");
            let client = async |status: &str| {
                let status = json!({ "status": status });
                stage.admin.patch("/api/v1/clients/acme", status).await.expect(200);
            };
            let ralph = async |status: &str| {
                let path = format!("/api/v1/operators/{}", stage.ralph.id);
                stage.admin.patch(&path, json!({ "status": status })).await.expect(200);
            };
            match what {
                "api deleted" => {
                    stage.admin.delete(&format!("/api/v1/apis/{chosen}")).await.expect(204);
                }
                "client locked" => client("locked").await,
                "key revoked" => {
                    stage.admin.post(&format!("/api/v1/keys/{key}/revoke"), json!({})).await.expect(200);
                }
                _ => ralph("disabled").await,
            }
            assert_eq!(warned().await, expected, "{kind}: {what}");
            client("active").await;
            ralph("active").await;
            stage.act(&stage.rita, &id, "reject").await.expect(200);
        }
    }
}
