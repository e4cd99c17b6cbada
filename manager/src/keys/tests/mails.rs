//! What its holder is told of a key, in the mail or behind a link.

use gate::id::CredentialId;
use serde_json::{Value, json};

use super::{HOUR_MS, furnish, issued};
use crate::keys::{Changed, Credentials, mail_change, mail_credentials, revoke};
use crate::mail::contexts::{KeyEvent, Occasion};
use crate::testing::{Caller, World, by_link};

#[tokio::test]
async fn mails_about_a_key_say_what_its_holder_needs() {
    for world in World::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let issued = issued(&world, 1000, &apis).await;
        let now = world.app.now();
        let mail = Credentials {
            occasion: Occasion::Issued,
            application: Some("KA-20260115-0001".into()),
            recipients: vec!["ops@acme.example".to_owned().into()],
            not_before: now,
        };
        let mut tx = world.app.db.write("test.mail").await.expect("a transaction");
        let ids = mail_credentials(&mut tx, &world.app, &issued, mail, now).await.expect("written");
        let ended = revoke(&mut tx, &issued.key.id, None, "system", now).await.expect("revoked");
        let told = Changed {
            change: KeyEvent::Revoked,
            application: None,
            recipients: vec!["ops@acme.example".to_owned().into()],
            not_before: now,
        };
        mail_change(&mut tx, &world.app, &ended, told, now).await.expect("written");
        tx.commit().await.expect("committed");

        let mail = admin.get(&format!("/api/v1/mails/{}", ids[0])).await.expect(200);
        let body = mail["body"].as_str().expect("text");
        for line in [
            format!("API Key: {}", issued.key.api_key.as_str()),
            "Client: Acme Ltd. (acme)".into(),
            "Application: KA-20260115-0001".into(),
            "Use quota: 1000 calls".into(),
            "Effective from: 2026-01-15".into(),
            "Expires after: 2026-12-31".into(),
            "Both days count whole, in the time zone Asia/Taipei.".into(),
            "  - orders".into(),
            "    POST https://api.example/orders".into(),
        ] {
            assert!(body.lines().any(|present| present == line), "{line}\nin\n{body}");
        }
        assert!(!body.contains(issued.secret.reveal()));
    }
}

#[tokio::test]
async fn a_new_secret_is_mailed_after_the_delay_that_is_set() {
    for (delay_s, wait_ms) in [(600, 600_000), (0, 0)] {
        for world in World::both_with(|config| config.credential_mail_delay_s = delay_s).await {
            let admin = world.operator("ann", &["admin"]).await;
            let apis = furnish(&admin).await;
            let id = issued(&world, 5, &apis).await.key.id;
            admin.post(&format!("/api/v1/keys/{id}/secrets"), json!({})).await.expect(201);
            let mails = admin.get(&format!("/api/v1/mails?about=key:{id}")).await.expect(200);
            assert_eq!(mails["items"].as_array().map(Vec::len), Some(1));
            assert_eq!(mails["items"][0]["next_attempt_at"], world.app.now().0 + wait_ms, "{delay_s} s");
        }
    }
}

#[tokio::test]
async fn the_secret_of_a_revoked_key_is_not_mailed_any_more() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let issued = issued(&world, 5, &apis).await;
        let id = issued.key.id.clone();
        admin.post(&format!("/api/v1/keys/{id}/secrets"), json!({})).await.expect(201);
        admin.post(&format!("/api/v1/keys/{id}/revoke"), json!({})).await.expect(200);
        let mails = admin.get(&format!("/api/v1/mails?about=key:{id}")).await.expect(200);
        let items = mails["items"].as_array().expect("items");
        for (template, state) in [("key_credentials", "failed"), ("key_changed", "waiting")] {
            let found: Vec<_> = items.iter().filter(|mail| mail["template"] == template).collect();
            assert_eq!(found.len(), 1, "{mails:#}");
            assert_eq!(found[0]["state"], state, "{mails:#}");
        }
        let left =
            world.sql("DELETE FROM mails WHERE template = 'key_credentials' AND context_sealed IS NOT NULL");
        assert_eq!(left.await, 0);
    }
}

/// What became of the mails with the pair of a key, oldest first: state and why.
async fn pairs_mailed(admin: &Caller, key: &CredentialId) -> Vec<(String, Option<String>)> {
    let path = format!("/api/v1/mails?about=key:{key}&template=key_credentials");
    let mails = admin.get(&path).await.expect(200);
    let mut told = Vec::new();
    for mail in mails["items"].as_array().expect("mails").iter().rev() {
        let path = format!("/api/v1/mails/{}", mail["id"].as_str().expect("an id"));
        let mail = admin.get(&path).await.expect(200);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        told.push((text(&mail["state"]).expect("a state"), text(&mail["error"])));
    }
    told
}

#[tokio::test]
async fn a_pair_that_was_rotated_or_retired_before_it_was_mailed_is_not_mailed_any_more() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        // That the client was created it was told before the story begins.
        world.advance_ms(HOUR_MS);
        world.mailed().await;
        let issued = issued(&world, 5, &apis).await;
        let (id, first) = (issued.key.id.clone(), issued.secret.clone());
        let now = world.app.now();
        let mail = Credentials {
            occasion: Occasion::Issued,
            application: None,
            recipients: vec!["ops@acme.example".to_owned().into()],
            not_before: gate::time::UnixMillis(now.0 + HOUR_MS),
        };
        let mut tx = world.app.db.write("test.mail").await.expect("a transaction");
        mail_credentials(&mut tx, &world.app, &issued, mail, now).await.expect("written");
        tx.commit().await.expect("committed");
        world.advance_ms(1);
        let secrets = format!("/api/v1/keys/{id}/secrets");
        let rotated = admin.post(&secrets, json!({})).await.expect(201);
        let withdrawn = |why: &str| ("failed".to_owned(), Some(format!("withdrawn: {why}")));
        let of_first = withdrawn("the key has a new secret, which is sent instead");
        assert_eq!(pairs_mailed(&admin, &id).await, [of_first.clone(), ("waiting".into(), None)]);

        let old = rotated["secrets"][1]["id"].as_str().expect("the old one");
        admin.delete(&format!("{secrets}/{old}")).await.expect(200);
        assert_eq!(pairs_mailed(&admin, &id).await[1].0, "waiting", "the new one is wanted still");
        world.advance_ms(HOUR_MS);
        let sent = world.mailed().await;
        assert!(sent.len() == 1 && !sent[0].text.contains(first.reveal()), "{sent:?}");

        world.advance_ms(1);
        let rotated = admin.post(&secrets, json!({})).await.expect(201);
        let new = rotated["secrets"][0]["id"].as_str().expect("the new one");
        admin.delete(&format!("{secrets}/{new}")).await.expect(200);
        let told = pairs_mailed(&admin, &id).await;
        assert_eq!(told, [of_first, ("sent".into(), None), withdrawn("the secret was retired")]);
        world.advance_ms(2 * HOUR_MS);
        world.mailed().await;
        assert_eq!(pairs_mailed(&admin, &id).await, told, "they stay what they are");
    }
}

#[tokio::test]
async fn by_link_each_recipient_gets_a_link_of_its_own_and_no_secret() {
    for world in World::both_with(by_link).await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        world.mailed().await;
        let issued = issued(&world, 5, &apis).await;
        let now = world.app.now();
        let mail = Credentials {
            occasion: Occasion::Issued,
            application: None,
            recipients: vec!["a@acme.example".to_owned().into(), "b@acme.example".to_owned().into()],
            not_before: now,
        };
        let mut tx = world.app.db.write("test.mail").await.expect("a transaction");
        let ids = mail_credentials(&mut tx, &world.app, &issued, mail, now).await.expect("written");
        tx.commit().await.expect("committed");
        for id in ids {
            let logged = admin.get(&format!("/api/v1/mails/{id}")).await.expect(200);
            let body = logged["body"].as_str().expect("a text");
            assert!(!body.contains("#crl_") && body.contains("credentials#****"), "{body}");
        }
        let mails = world.mailed().await;
        let secret = issued.secret.reveal();
        assert!(mails.len() == 2 && mails.iter().all(|mail| !mail.text.contains(secret)));
        let (one, other) = (mails[0].link(), mails[1].link());
        assert_ne!(one, other);
        for link in [one, other] {
            let (status, page) = world.page_behind(link).await;
            assert!(status == 200 && page.contains(secret) && page.contains(issued.key.api_key.as_str()));
            assert_eq!(world.page_behind(link).await.0, 410);
        }
    }
}

#[tokio::test]
async fn by_link_what_is_revoked_or_retired_is_not_shown_any_more() {
    for world in World::both_with(by_link).await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        world.mailed().await;
        let id = issued(&world, 5, &apis).await.key.id;
        let path = format!("/api/v1/keys/{}", id.as_str());
        for retired in [true, false] {
            let rotated = admin.post(&format!("{path}/secrets"), json!({})).await.expect(201);
            world.advance_ms(600_000);
            // The client is told of its password at the same time.
            let mails = world.mailed().await;
            let mail = mails.iter().find(|mail| mail.subject.contains("API Key")).expect("the pair's");
            let secret = rotated["secrets"][0]["id"].as_str().expect("the newest first").to_owned();
            match retired {
                true => admin.delete(&format!("{path}/secrets/{secret}")).await.expect(200),
                false => admin.post(&format!("{path}/revoke"), json!({})).await.expect(200),
            };
            assert_eq!(world.page_behind(mail.link()).await.0, 410, "retired: {retired}");
        }
    }
}
