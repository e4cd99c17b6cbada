//! The whole story of a key, with real programs: applied for, returned, handed in again, signed twice,
//! mailed, used through Envoy, changed, revoked. On both databases; once more with the client itself
//! as the applicant, and with a visitor who becomes that client first.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::api::{self, Operator};
use e2e::cast::Pair;
use e2e::client::{self, Answer, Call};
use e2e::forms::{Form, apply};
use e2e::smtp::Mail;
use e2e::wait;
use e2e::world::{Database, Plan, World};
use serde_json::json;

/// A mail has gone out, and a change has reached Envoy, within this, on a machine that compiles.
const LIMIT: Duration = Duration::from_secs(20);
const RESULT: &str = "Notification API Key Authorization Result";

fn plan(database: Database) -> Plan {
    Plan { database, settings: vec![("credential_mail_delay_s", "0".into())], ..Plan::default() }
}

async fn until_verdict(world: &World, call: &Call, verdict: &str) -> Result<Answer> {
    wait::until(&format!("the answer {verdict}"), LIMIT, || async {
        world.call(call).await.ok().filter(|answer| answer.verdict() == verdict)
    })
    .await
}

#[test]
fn the_life_of_a_key_on_sqlite() -> Result<()> {
    e2e::run(life("story_sqlite", Database::Sqlite))
}

#[test]
fn the_life_of_a_key_on_postgres() -> Result<()> {
    e2e::run(life("story_postgres", Database::Postgres))
}

async fn life(name: &str, database: Database) -> Result<()> {
    let world = World::start(name, plan(database)).await?;
    let team = world.team().await?;
    let orders = world.api("orders", "/orders", json!({})).await?;
    let client = world.client("acme", json!({})).await?;
    world.until_known(&Call::get("/orders")).await?;

    // Applied for, returned, corrected, handed in again.
    let form = Form::save("/api/v1", &team.ann, apply(&client, 50, &[&orders])).await?;
    let submitted = form.hand_in(&team.ann, "submit").await?;
    let number = api::text(&submitted, "number")?;
    world.mail.mail_to("bob@example.com", &number, LIMIT).await?;
    form.sign(&team.bob, "return", "five calls will do").await?;
    let told = world.mail.mail_to("ann@example.com", "five calls will do", LIMIT).await?;
    assert!(told.subject.contains(&number) || told.text.contains(&number), "{told:?}");
    let mut corrected = apply(&client, 5, &[&orders]);
    corrected.as_object_mut().context("a form")?.remove("type");
    team.ann.write("PUT", &form.path, "", corrected).await?;
    let again = form.hand_in(&team.ann, "resubmit").await?;
    assert_eq!((&again["number"], &again["level"]), (&submitted["number"], &json!(1)));

    // Two levels, two persons.
    let refused = |answer: Answer| (answer.status, answer.code());
    let own = team.ann.call(form.approval(&team.ann, "ann-1").await?).await?;
    assert_eq!(refused(own).0, 403);
    form.sign(&team.bob, "approve", "a good customer").await?;
    let twice = team.bob.call(form.approval(&team.bob, "bob-2").await?).await?;
    assert_eq!(refused(twice).0, 403, "nobody signs two levels");
    let approved = form.sign(&team.eve, "approve", "agreed").await?;
    assert_eq!(approved["state"], "approved", "{approved:#}");

    // The mail's key signs a call that Envoy accepts; the mail to the applicant holds no secret.
    let mail = world.mail.mail_to("acme@example.com", RESULT, LIMIT).await?;
    let pair = Pair::in_mail(&mail)?;
    let told = world.mail.mail_to("ann@example.com", "agreed", LIMIT).await?;
    assert!(!told.text.contains(&pair.secret_key), "{told:?}");
    let call = || pair.sign(Call::post("/orders/story", r#"{"order":1}"#));
    for _ in 0..3 {
        let answer = world.call(&call()).await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    // A change lowers the quota to what is used: nothing more is let in, though five were granted.
    let keys = world.admin.get(&format!("/api/v1/keys?client={client}")).await?;
    let key = api::text(&keys["items"][0], "id")?;
    let change = |quota: i64| {
        let mut form = apply(&client, quota, &[&orders]);
        form["type"] = "KU".into();
        form["key"] = key.as_str().into();
        form.as_object_mut().map(|fields| fields.remove("client"));
        form
    };
    let lowered = Form::save("/api/v1", &team.ann, change(3)).await?;
    lowered.hand_in(&team.ann, "submit").await?;
    lowered.approve(&team).await?;
    // What the gate still held of the old quota is called back: asked of the meter, not of calls.
    let settled = || async {
        let key = world.admin.get(&format!("/api/v1/keys/{key}")).await.ok()?;
        (key["quota"] == 3).then_some(())
    };
    wait::until("the lower quota", LIMIT, settled).await?;
    until_verdict(&world, &call(), "429 quota_exhausted").await?;
    let after_lowering = world.upstream.count("/orders/story");
    assert!((3..=5).contains(&after_lowering), "never more than was ever granted: {after_lowering}");

    // Another raises it: what was used stays used.
    let raised = Form::save("/api/v1", &team.ann, change(7)).await?;
    raised.hand_in(&team.ann, "submit").await?;
    raised.approve(&team).await?;
    until_verdict(&world, &call(), "200").await?;
    for _ in 0..10 {
        world.call(&call()).await?;
    }
    until_verdict(&world, &call(), "429 quota_exhausted").await?;
    assert_eq!(world.upstream.count("/orders/story"), 7, "used counts stay over both changes");

    // Revoked: refused, whatever was left.
    let revoke = json!({
        "type": "KR", "key": key, "effective_date": wait::day(0), "description": "The shop closes",
    });
    let form = Form::save("/api/v1", &team.ann, revoke).await?;
    form.hand_in(&team.ann, "submit").await?;
    form.approve(&team).await?;
    let refused = wait::until("the refusal", LIMIT, || async {
        world.call(&call()).await.ok().filter(|answer| answer.status == 401)
    })
    .await?;
    assert!(refused.code().starts_with("credential_"), "{}", refused.verdict());
    world.mail.mail_to("acme@example.com", "revoked", LIMIT).await?;
    assert!(world.manager.run(&["audit", "verify"])?.contains("whole"));
    Ok(())
}

#[test]
fn a_client_applies_for_itself() -> Result<()> {
    e2e::run(async {
        let world = World::start("story_client", plan(Database::Sqlite)).await?;
        let team = world.team().await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let id = world.client("acme", json!({})).await?;
        let acme = world.client_signs_in(&id, "a-password-2026").await?;
        let mut form = apply(&id, 2, &[&orders]);
        form.as_object_mut().map(|fields| fields.remove("client"));
        let form = Form::save("/client/v1", &acme, form).await?;
        form.hand_in(&acme, "submit").await?;
        form.for_operators().approve(&team).await?;
        assert_eq!(form.show(&acme).await?["state"], "approved");
        let pair = Pair::in_mail(&world.mail.mail_to("acme@example.com", RESULT, LIMIT).await?)?;
        world.until_known(&Call::get("/orders")).await?;
        let call = || pair.sign(Call::post("/orders/self", "{}"));
        for expected in ["200", "200", "429 quota_exhausted"] {
            assert_eq!(world.call(&call()).await?.verdict(), expected);
        }
        let keys = acme.get("/client/v1/keys").await?;
        assert_eq!(keys["items"].as_array().map(Vec::len), Some(1), "{keys:#}");
        Ok(())
    })
}

/// What a mail tells to send to an address of its own, with what it calls its token.
fn call_told(mail: &Mail) -> Result<Call> {
    let url = mail.value_of("  curl '")?;
    let (_, path) = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).context("an address")?;
    let path = path.split_once('\'').context("a quoted address")?.0;
    Ok(Call::post(&format!("/{path}"), json!({ "token": mail.value_of("Token: ")? }).to_string()))
}

#[test]
fn a_visitor_becomes_a_client_that_applies_for_a_key() -> Result<()> {
    e2e::run(async {
        let mut plan = plan(Database::Sqlite);
        plan.settings.push(("client_registration", "true".into()));
        let world = World::start("story_visitor", plan).await?;
        let manager = world.manager.address;
        let team = world.team().await?;
        let orders = world.api("orders", "/orders", json!({})).await?;

        // Nothing is known of who asks but an address, which the token in the mail confirms.
        let asked = json!({
            "name": "partner", "display_name": "Partner One",
            "description": "Orders from our shop", "emails": "pat@partner.example, shop@partner.example",
        });
        let answer =
            client::http1(manager, &Call::post("/client/v1/registrations", asked.to_string())).await?;
        assert_eq!((answer.status, answer.text().as_str()), (202, ""), "nothing but that it was heard");
        let mail = world.mail.mail_to("pat@partner.example", "Token: ", LIMIT).await?;
        let confirm = call_told(&mail)?;
        let filed = client::http1(manager, &confirm).await?;
        assert_eq!(filed.status, 201, "{}", filed.text());
        assert_eq!(client::http1(manager, &confirm).await?.status, 422, "a token serves once");
        let pat = Operator::with_token(manager, "pat", &api::text(&filed.json(), "token")?);
        let id = api::text(&filed.json()["application"], "id")?;
        let form = Form { path: format!("/api/v1/applications/{id}"), id };
        form.approve(&team).await?;
        assert_eq!(pat.get("/client/v1/registration").await?["state"], "approved");

        // The mailed password signs in.
        let mail = world.mail.mail_to("pat@partner.example", "Password: ", LIMIT).await?;
        let (client, password) = (mail.value_of("Client ID: ")?, mail.value_of("Password: ")?);
        let partner = world.client_signs_in(&client, &password).await?;
        assert_eq!(partner.get("/client/v1/profile").await?["name"], "partner");

        // And from there as any client.
        let mut form = apply(&client, 1, &[&orders]);
        form.as_object_mut().map(|fields| fields.remove("client"));
        let form = Form::save("/client/v1", &partner, form).await?;
        form.hand_in(&partner, "submit").await?;
        form.for_operators().approve(&team).await?;
        let pair = Pair::in_mail(&world.mail.mail_to("pat@partner.example", RESULT, LIMIT).await?)?;
        world.until_known(&Call::get("/orders")).await?;
        for expected in ["200", "429 quota_exhausted"] {
            let call = pair.sign(Call::post("/orders/visitor", "{}"));
            assert_eq!(world.call(&call).await?.verdict(), expected);
        }

        // The client's other address gets its mails, but only the one that was confirmed the password.
        world.mail.mail_to("shop@partner.example", RESULT, LIMIT).await?;
        for other in world.mail.mails().iter().filter(|mail| mail.to != ["pat@partner.example"]) {
            assert!(!other.text.contains(&password), "{other:?}");
        }
        assert!(world.manager.run(&["audit", "verify"])?.contains("whole"));
        Ok(())
    })
}
