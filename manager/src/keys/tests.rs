//! Keys through the router and in a form's transaction, on both databases.

use axum::body::Body;
use axum::http::Method;
use gate::id::{ClientId, CredentialId};
use gate::wire::changes::{Fingerprint, Subject};
use gate::wire::exchange::MeterKind;
use jiff::civil::date;
use serde_json::{Value, json};

use super::{
    Changed, Credentials, IssuedKey, KeyChange, KeyError, KeyName, KeyState, NewKey, Terms, UseQuota, change,
    find_by_api_key, issue, mail_change, mail_credentials, note_secret_used, parse_apis, revoke,
};
use crate::config::{Config, CredentialDelivery};
use crate::mail::contexts::{KeyEvent, Occasion};
use crate::testing::{Caller, Mailed, World};
use crate::validity::Validity;
use crate::{changes, quotas};

const HOUR_MS: i64 = 3_600_000;
const API_KEY: &str = "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==";
const SECRET: &str =
    "YTk2MTQ2MjhhZDM1MjYwZDVkMTdjMTE2MTIyZDhkOTFhNmNiNGI3NjNmMjg1ZTgzMWI3OGQ1ZGZlNDA2OGNkYw==";

/// A client `acme` with an address, and the uids of two APIs.
async fn furnish(admin: &Caller) -> Vec<String> {
    let client = json!({
        "id": "acme", "name": "acme", "display_name": "Acme Ltd.", "note": "Ann", "emails": "ops@acme.example",
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    admin.post("/api/v1/clients", client).await.expect(201);
    let mut apis = Vec::new();
    for name in ["orders", "invoices"] {
        let api = json!({
            "module": "shop", "id": name, "name": name, "hosts": ["api.example"], "methods": ["POST"], "accepts": ["dgrk"],
            "path": { "exact": format!("/{name}") },
        });
        let made = admin.post("/api/v1/apis", api).await.expect(201);
        apis.push(made["uid"].as_str().expect("a uid").to_owned());
    }
    apis
}

fn terms(world: &World, quota: i64, apis: &[String]) -> Terms {
    Terms::new(
        KeyName::parse("orders key").expect("a name"),
        Validity::new(date(2026, 1, 15), date(2026, 12, 31)).expect("in order"),
        UseQuota::parse(quota).expect("a quota"),
        parse_apis(apis.to_vec()).expect("APIs"),
        &world.app.config.zone(),
    )
}

async fn issued(world: &World, quota: i64, apis: &[String]) -> IssuedKey {
    let new = NewKey {
        client: ClientId::from("acme"),
        terms: terms(world, quota, apis),
        application: None,
        applied_by: None,
    };
    let now = world.app.now();
    let mut tx = world.app.db.write("test.issue").await.expect("a transaction");
    let issued = issue(&mut tx, &world.app, new, "system", now).await.expect("issued");
    tx.commit().await.expect("committed");
    issued
}

fn import_of(apis: &[String]) -> Value {
    json!({
        "client": "acme", "api_key": API_KEY, "secret_key": SECRET, "name": "from before",
        "expiry_date": "2026-12-31", "quota": 5, "apis": apis,
    })
}

/// The newest change.
async fn last_change(world: &World) -> Subject {
    let mut conn = world.app.db.read().await.expect("a connection");
    let head = changes::head(&mut conn).await.expect("a head").revision;
    let before = gate::id::Revision(head.0 - 1);
    match changes::page(&mut conn, before, head, 1).await.expect("a page") {
        changes::Page::Changes(mut page) => page.pop().expect("one").subject,
        changes::Page::TooOld => panic!("just made"),
    }
}

async fn limit_of(world: &World, key: &CredentialId) -> Option<u64> {
    let mut conn = world.app.db.read().await.expect("a connection");
    let meter = quotas::meter_of(&mut conn, MeterKind::KeyUses, key.as_str()).await.expect("asked");
    meter.map(|meter| meter.limit.units)
}

#[tokio::test]
async fn an_issued_key_is_found_with_its_secret_and_shown_without() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let IssuedKey { key, secret } = issued(&world, 5, &apis).await;

        let mut conn = world.app.db.read().await.expect("a connection");
        let found = find_by_api_key(&mut conn, &world.app.vault, key.api_key.as_str())
            .await
            .expect("asked")
            .expect("found");
        assert_eq!(found.key, key);
        assert_eq!(
            found.secrets.iter().map(|secret| secret.text.as_str()).collect::<Vec<_>>(),
            [secret.reveal()]
        );
        let other_case = key.api_key.as_str().to_lowercase();
        assert!(find_by_api_key(&mut conn, &world.app.vault, &other_case).await.expect("asked").is_none());
        drop(conn);

        assert_eq!(limit_of(&world, &key.id).await, Some(5));
        let fingerprint = Fingerprint::Dgrk(key.api_key.as_str().into());
        assert_eq!(
            last_change(&world).await,
            Subject::Credential { credential: key.id.clone(), fingerprint }
        );

        let shown = admin.get(&format!("/api/v1/keys/{}", key.id)).await;
        assert_eq!(shown.header("etag"), Some("\"1\""));
        let shown = shown.expect(200);
        assert_eq!(
            (&shown["quota"], &shown["used"], &shown["state"]),
            (&json!(5), &json!(0), &json!("active"))
        );
        assert_eq!(
            (&shown["effective_date"], &shown["expiry_date"]),
            (&json!("2026-01-15"), &json!("2026-12-31"))
        );
        assert_eq!(shown["secrets"][0]["mask"], secret.mask());
        assert!(!shown.to_string().contains(secret.reveal()));
        let listed = admin.get("/api/v1/keys?client=acme").await.expect(200);
        assert_eq!(listed["items"][0]["id"], key.id.as_str());
        assert_eq!(admin.get("/api/v1/keys?client=other").await.expect(200)["items"], json!([]));
        world.operator("nora", &[]).await.get("/api/v1/keys").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_secret_does_not_lie_in_the_database_in_clear() {
    let world = World::sqlite().await;
    let apis = furnish(&world.operator("ann", &["admin"]).await).await;
    let secret = issued(&world, -1, &apis).await.secret;
    for column in ["sealed"] {
        let found = world
            .sql(&format!("UPDATE key_secrets SET id = id WHERE {column} LIKE '%{}%'", secret.reveal()))
            .await;
        assert_eq!(found, 0);
    }
    // A row that was moved to another key does not open: it is a fault, not a secret.
    world.sql("UPDATE key_secrets SET id = 'sec_moved'").await;
    let mut conn = world.app.db.read().await.expect("a connection");
    let key = super::list(&mut conn, None, "", 1).await.expect("listed").pop().expect("one");
    assert!(find_by_api_key(&mut conn, &world.app.vault, key.api_key.as_str()).await.is_err());
}

#[tokio::test]
async fn a_pair_from_elsewhere_is_brought_in_once_and_as_it_is() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let made = admin.post("/api/v1/keys/import", import_of(&apis)).await.expect(201);
        assert_eq!((&made["api_key"], &made["origin"]), (&json!(API_KEY), &json!("imported")));
        assert_eq!(made["effective_date"], "2026-01-15", "today, when none is given");
        assert!(!made.to_string().contains(SECRET));
        let mut conn = world.app.db.read().await.expect("a connection");
        let found =
            find_by_api_key(&mut conn, &world.app.vault, API_KEY).await.expect("asked").expect("found");
        assert_eq!(found.secrets[0].text, SECRET);
        drop(conn);
        admin.post("/api/v1/keys/import", import_of(&apis)).await.problem(409, "api_key_taken");
    }
}

#[tokio::test]
async fn what_cannot_be_brought_in_is_refused_by_field_and_leaves_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        for (field, value) in [
            ("client", json!("nobody")),
            ("api_key", json!("a.b")),
            ("api_key", json!("")),
            ("secret_key", json!("a b")),
            ("name", json!(" ")),
            ("effective_date", json!("2026/01/15")),
            ("expiry_date", json!("2026-01-14")),
            ("expiry_date", json!("2026-02-30")),
            ("quota", json!(0)),
            ("quota", json!(-2)),
            ("quota", json!("5")),
            ("apis", json!([])),
            ("apis", json!(["api_none"])),
            ("surplus", json!(1)),
        ] {
            let mut body = import_of(&apis);
            body[field] = value.clone();
            admin.post("/api/v1/keys/import", body).await.refuses(field);
        }
        assert_eq!(admin.get("/api/v1/keys").await.expect(200)["items"], json!([]));
        world.anon().post("/api/v1/keys/import", import_of(&apis)).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_revoked_key_is_told_to_gateways_and_stays_revoked() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, -1, &apis).await.key;
        let path = format!("/api/v1/keys/{}/revoke", key.id);
        let stale = [("if-match", "\"7\"")];
        admin.send(axum::http::Method::POST, &path, &stale, None).await.problem(412, "version_mismatch");
        world.advance_ms(1_000);
        let revoked = admin.post(&path, json!({})).await.expect(200);
        assert_eq!(
            (&revoked["state"], &revoked["revoked_at"]),
            (&json!("revoked"), &json!(World::START.0 + 1_000))
        );
        assert!(
            matches!(last_change(&world).await, Subject::Credential { credential, .. } if credential == key.id)
        );
        admin.post(&path, json!({})).await.problem(409, "key_revoked");
        let told = admin.get(&format!("/api/v1/mails?about=key:{}", key.id)).await.expect(200);
        assert_eq!(
            (&told["items"][0]["template"], &told["items"][0]["recipient"]),
            (&json!("key_changed"), &json!("ops@acme.example"))
        );
        let trail = admin.get(&format!("/api/v1/audit?subject=key:{}", key.id)).await.expect(200);
        assert_eq!(
            (&trail["items"][0]["action"], &trail["items"][1]["action"]),
            (&json!("keys.revoke"), &json!("keys.issue"))
        );
        admin.post("/api/v1/keys/key_none/revoke", json!({})).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn changed_terms_keep_what_was_used_and_revoked_keys_take_none() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, 5, &apis).await.key;
        world.sql("UPDATE meters SET debited = 3").await;
        let now = world.app.now();
        let wanted = |quota, reset_usage| KeyChange {
            name: KeyName::parse("renamed").expect("a name"),
            expires_on: date(2027, 6, 30),
            uses: UseQuota::parse(quota).expect("a quota"),
            reset_usage,
            apis: parse_apis(apis[..1].to_vec()).expect("one API"),
            application: Some("KU-20260115-0001".into()),
        };
        for (quota, reset, limit, used, left) in [
            (10, false, 10, 3, Some(7)),
            (-1, false, 10, 3, None),
            (10, false, 10, 3, Some(7)),
            (2, false, 2, 3, Some(0)),
            (-1, false, 2, 3, None),
            (4, false, 4, 3, Some(1)),
            (2, true, 2, 0, Some(2)),
        ] {
            let mut tx = world.app.db.write("test.change").await.expect("a transaction");
            let after = change(&mut tx, &world.app, &key.id, wanted(quota, reset), "system", now)
                .await
                .expect("changed");
            tx.commit().await.expect("committed");
            assert_eq!(limit_of(&world, &key.id).await, Some(limit), "{quota}");
            let shown = admin.get(&format!("/api/v1/keys/{}", key.id)).await.expect(200);
            assert_eq!((&shown["used"], &shown["remaining"]), (&json!(used), &json!(left)), "{quota}");
            assert_eq!((&shown["name"], &shown["expiry_date"]), (&json!("renamed"), &json!("2027-06-30")));
            assert_eq!((after.validity.from, after.apis.len()), (key.validity.from, 1));
            assert_eq!(shown["version"], after.version);
        }

        let mut tx = world.app.db.write("test.revoke").await.expect("a transaction");
        let ended = revoke(&mut tx, &key.id, None, "system", now).await.expect("revoked");
        assert_eq!(ended.state, KeyState::Revoked { revoked_at: now });
        let refused = change(&mut tx, &world.app, &key.id, wanted(1, false), "system", now).await;
        assert!(matches!(refused, Err(KeyError::Revoked { .. })), "{refused:?}");
        drop(tx);
        let shown = admin.get(&format!("/api/v1/keys/{}", key.id)).await.expect(200);
        assert_eq!(shown["state"], "active", "a transaction that is dropped leaves nothing");
    }
}

#[tokio::test]
async fn two_secrets_live_during_a_rotation_and_one_always_stays() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let IssuedKey { key, secret: first } = issued(&world, -1, &apis).await;
        let secrets = format!("/api/v1/keys/{}/secrets", key.id);
        let old = key.secrets[0].id.clone();
        admin.delete(&format!("{secrets}/{old}")).await.problem(409, "last_secret");

        world.advance_ms(1);
        let rotated = admin.post(&secrets, json!({})).await.expect(201);
        assert_eq!(rotated["secrets"].as_array().map(Vec::len), Some(2));
        admin.post(&secrets, json!({})).await.problem(409, "too_many_secrets");
        let opened = || async {
            let mut conn = world.app.db.read().await.expect("a connection");
            find_by_api_key(&mut conn, &world.app.vault, key.api_key.as_str())
                .await
                .expect("asked")
                .expect("found")
        };
        let live = opened().await.secrets;
        assert_eq!((live.len(), live[1].text.as_str()), (2, first.reveal()), "newest first");
        assert!(!rotated.to_string().contains(&live[0].text));
        let mails = admin.get("/api/v1/mails?template=key_credentials").await.expect(200);
        assert_eq!(mails["items"].as_array().map(Vec::len), Some(1));

        let mut tx = world.app.db.write("test.used").await.expect("a transaction");
        note_secret_used(&mut tx, &live[0].id, world.app.now()).await.expect("noted");
        tx.commit().await.expect("committed");
        let shown = admin.get(&format!("/api/v1/keys/{}", key.id)).await.expect(200);
        assert_eq!(shown["secrets"][0]["last_used_at"], world.app.now().0);
        assert!(shown["secrets"][1]["last_used_at"].is_null());

        admin.delete(&format!("{secrets}/sec_none")).await.problem(404, "not_found");
        let left = admin.delete(&format!("{secrets}/{old}")).await.expect(200);
        assert_eq!(left["secrets"].as_array().map(Vec::len), Some(1));
        assert_eq!(opened().await.secrets, live[..1]);
    }
}

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

/// A world whose mails hold links.
fn by_link(config: &mut Config) {
    config.credential_delivery = CredentialDelivery::Link;
    config.public_url = Some("https://keygate.example".into());
}

/// The link in a mail.
fn link_in(mail: &Mailed) -> &str {
    let link = mail.text.lines().map(str::trim).find(|line| line.starts_with("https://keygate.example/"));
    link.unwrap_or_else(|| panic!("a link in {}", mail.text))
}

/// What the page shows to who sends this link.
async fn page_behind(world: &World, link: &str) -> (u16, String) {
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("code", link).finish();
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let page = world.anon().raw(Method::POST, "/credentials", &kind, Body::from(form)).await;
    (page.status, page.body.as_str().expect("a page").to_owned())
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
        let (one, other) = (link_in(&mails[0]), link_in(&mails[1]));
        assert_ne!(one, other);
        for link in [one, other] {
            let (status, page) = page_behind(&world, link).await;
            assert!(status == 200 && page.contains(secret) && page.contains(issued.key.api_key.as_str()));
            assert_eq!(page_behind(&world, link).await.0, 410);
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
            let mails = world.mailed().await;
            let secret = rotated["secrets"][0]["id"].as_str().expect("the newest first").to_owned();
            match retired {
                true => admin.delete(&format!("{path}/secrets/{secret}")).await.expect(200),
                false => admin.post(&format!("{path}/revoke"), json!({})).await.expect(200),
            };
            assert_eq!(page_behind(&world, link_in(&mails[0])).await.0, 410, "retired: {retired}");
        }
    }
}

#[tokio::test]
async fn an_old_secret_ends_by_itself_when_its_time_is_over() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, -1, &apis).await.key;
        let (path, old) = (format!("/api/v1/keys/{}", key.id), key.secrets[0].id.clone());
        world.advance_ms(1);
        admin.post(&format!("{path}/secrets"), json!({ "overlap_h": 8_761 })).await.refuses("overlap_h");
        let rotated = admin.post(&format!("{path}/secrets"), json!({ "overlap_h": 72 })).await.expect(201);
        let ends_at = world.app.now().0 + 72 * HOUR_MS;
        assert_eq!(
            (&rotated["secrets"][1]["id"], &rotated["secrets"][1]["ends_at"]),
            (&json!(old), &json!(ends_at))
        );
        assert!(rotated["secrets"][0]["ends_at"].is_null());
        let planned = admin.get(&format!("/api/v1/tasks?about=key:{}", key.id)).await.expect(200);
        assert_eq!(planned["items"][0]["due_at"], ends_at, "it is seen beforehand");
        world.advance_ms(72 * HOUR_MS - 1);
        world.run_due().await;
        assert_eq!(admin.get(&path).await.expect(200)["secrets"].as_array().map(Vec::len), Some(2));
        world.advance_ms(1);
        world.run_due().await;
        let left = admin.get(&path).await.expect(200);
        assert_eq!(left["secrets"].as_array().map(Vec::len), Some(1));
        assert_ne!(left["secrets"][0]["id"], json!(old));
        assert!(
            matches!(last_change(&world).await, Subject::Credential { credential, .. } if credential == key.id)
        );
        let done = admin.get(&format!("/api/v1/tasks?about=key:{}&state=done", key.id)).await.expect(200);
        assert_eq!(done["items"][0]["result"], format!("retired {old}"));
    }
}

#[tokio::test]
async fn an_old_secret_whose_end_is_worked_at_too_early_still_ends() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, -1, &apis).await.key;
        let path = format!("/api/v1/keys/{}", key.id);
        world.advance_ms(1);
        admin.post(&format!("{path}/secrets"), json!({ "overlap_h": 72 })).await.expect(201);
        let ends_at = world.app.now().0 + 72 * HOUR_MS;
        for _ in 0..2 {
            world.advance_ms(1);
            let early = "UPDATE tasks SET next_attempt_at = 0 WHERE kind = 'keys.retire_secret' AND state = 'waiting'";
            assert_eq!(world.sql(early).await, 1);
            world.run_due().await;
            let shown = admin.get(&path).await.expect(200);
            assert_eq!(shown["secrets"][1]["ends_at"], ends_at, "it is not over");
        }
        let tasks = format!("/api/v1/tasks?about=key:{}&state", key.id);
        let waiting = admin.get(&format!("{tasks}=waiting")).await.expect(200);
        let due: Vec<_> =
            waiting["items"].as_array().expect("tasks").iter().map(|task| &task["due_at"]).collect();
        assert_eq!(due, [&json!(ends_at)]);
        world.advance_ms(72 * HOUR_MS);
        world.run_due().await;
        assert_eq!(admin.get(&path).await.expect(200)["secrets"].as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test]
async fn the_only_secret_left_does_not_end_by_itself() {
    for world in World::both_with(|config| config.key_secret_overlap_h = 1).await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, -1, &apis).await.key;
        let path = format!("/api/v1/keys/{}", key.id);
        world.advance_ms(1);
        let rotated = admin.post(&format!("{path}/secrets"), json!({})).await.expect(201);
        assert_eq!(rotated["secrets"][1]["ends_at"], world.app.now().0 + HOUR_MS, "as the setting says");
        // Not the old one, but the new one is ended by hand.
        let new = rotated["secrets"][0]["id"].as_str().expect("an id");
        let left = admin.delete(&format!("{path}/secrets/{new}")).await.expect(200);
        assert!(left["secrets"][0]["ends_at"].is_null());
        world.advance_ms(HOUR_MS);
        world.run_due().await;
        assert_eq!(admin.get(&path).await.expect(200)["secrets"].as_array().map(Vec::len), Some(1));
        let task = admin.get(&format!("/api/v1/tasks?about=key:{}", key.id)).await.expect(200);
        assert_eq!(task["items"][0]["state"], "cancelled");
    }
}

#[tokio::test]
async fn a_pair_is_sent_again_by_those_who_may_and_on_record() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let IssuedKey { key, secret } = issued(&world, -1, &apis).await;
        let path = format!("/api/v1/keys/{}/resend", key.id);
        let role = json!({ "permissions": ["keys.read", "keys.write"] });
        admin.put("/api/v1/roles/keeper", role).await.expect(200);
        let keeper = world.operator("kim", &["keeper"]).await;
        keeper.post(&path, Value::Null).await.problem(403, "forbidden");
        let answer = admin.post(&path, Value::Null).await.expect(200);
        assert!(!answer.to_string().contains(secret.reveal()));
        let mailed = world.mailed().await;
        assert_eq!((mailed.len(), mailed[0].to.as_str()), (1, "ops@acme.example"));
        assert!(mailed[0].text.contains(secret.reveal()));
        let trail = admin.get("/api/v1/audit?action=keys.resend").await.expect(200);
        assert_eq!(trail["items"][0]["subject"], format!("key:{}", key.id));
        admin.post(&format!("/api/v1/keys/{}/revoke", key.id), Value::Null).await.expect(200);
        admin.post(&path, Value::Null).await.problem(409, "key_revoked");
        admin.post("/api/v1/keys/key_none/resend", Value::Null).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_key_is_switched_off_and_on_and_gateways_hear_of_it() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, 5, &apis).await.key;
        let path = format!("/api/v1/keys/{}", key.id);
        assert_eq!(admin.get(&path).await.expect(200)["label"], "Active");
        let off = admin.post(&format!("{path}/deactivate"), Value::Null).await.expect(200);
        assert_eq!(
            (&off["state"], &off["label"], &off["version"]),
            (&json!("inactive"), &json!("Dormant"), &json!(2))
        );
        assert!(
            matches!(last_change(&world).await, Subject::Credential { credential, .. } if credential == key.id)
        );
        let again = admin.post(&format!("{path}/deactivate"), Value::Null).await.expect(200);
        assert_eq!(again["version"], 2, "what changes nothing leaves no trace");
        let stale = [("if-match", "\"1\"")];
        let on = format!("{path}/activate");
        admin.send(axum::http::Method::POST, &on, &stale, None).await.problem(412, "version_mismatch");
        assert_eq!(admin.post(&on, Value::Null).await.expect(200)["state"], "active");
        world.sql(&format!("UPDATE keys SET expires_at = {}", World::START.0)).await;
        world.advance_ms(1);
        let late = admin.get(&path).await.expect(200);
        assert_eq!((&late["label"], &late["overdue"]), (&json!("Active (Overdue)"), &json!(true)));
        admin.post(&format!("{path}/revoke"), Value::Null).await.expect(200);
        admin.post(&on, Value::Null).await.problem(409, "key_revoked");
        let trail = admin
            .get(&format!("/api/v1/audit?subject=key:{}&action=keys.deactivate", key.id))
            .await
            .expect(200);
        assert_eq!(
            trail["items"][0]["detail"]["changed"],
            json!({ "state": { "before": "active", "after": "inactive" } })
        );
    }
}

#[tokio::test]
async fn a_key_shows_its_apis_by_name_what_is_left_and_what_happened() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, 5, &apis).await.key;
        world.sql("UPDATE meters SET debited = 3").await;
        let path = format!("/api/v1/keys/{}", key.id);
        let shown = admin.get(&path).await.expect(200);
        assert_eq!((&shown["used"], &shown["remaining"]), (&json!(3), &json!(2)));
        assert_eq!(shown["api_names"], json!({ &apis[0]: "orders", &apis[1]: "invoices" }));

        world.advance_ms(1);
        let change = KeyChange {
            name: key.name.clone(),
            expires_on: date(2027, 6, 30),
            uses: key.uses,
            reset_usage: false,
            apis: key.apis.clone(),
            application: Some("KU-20260115-0001".into()),
        };
        let mut tx = world.app.db.write("test.change").await.expect("a transaction");
        super::change(&mut tx, &world.app, &key.id, change, "system", world.app.now())
            .await
            .expect("changed");
        tx.commit().await.expect("committed");
        world.advance_ms(1);
        admin.post(&format!("{path}/secrets"), json!({})).await.expect(201);
        world.advance_ms(1);
        admin.post(&format!("{path}/revoke"), Value::Null).await.expect(200);

        let history = admin.get(&format!("{path}/history")).await.expect(200);
        let events: Vec<_> = history["items"]
            .as_array()
            .expect("events")
            .iter()
            .rev()
            .map(|event| match &event["mail"] {
                Value::Null => event["event"].as_str().expect("what").to_owned(),
                mail => format!("mail {}", mail["template"].as_str().expect("which")),
            })
            .collect();
        let expected = [
            "keys.issue",
            "keys.change",
            "keys.rotate",
            "mail key_credentials",
            "keys.revoke",
            "mail key_changed",
        ];
        assert_eq!(events, expected);
        let items = &history["items"];
        assert_eq!(
            (&items[4]["application"], &items[1]["actor_name"]),
            (&json!("KU-20260115-0001"), &json!("ann"))
        );
        assert_ne!(items[4]["detail"]["before"]["expires_at"], items[4]["detail"]["after"]["expires_at"]);
        admin.get("/api/v1/keys/key_none/history").await.problem(404, "not_found");
        world.operator("nora", &[]).await.get(&format!("{path}/history")).await.problem(403, "forbidden");
    }
}

/// The reminders that were written, oldest first: template and what it says of the days.
async fn reminders(admin: &Caller) -> Vec<String> {
    let mut told = Vec::new();
    for template in ["key_expiring", "x_api_key_expiring"] {
        let mails = admin.get(&format!("/api/v1/mails?template={template}")).await.expect(200);
        for mail in mails["items"].as_array().expect("mails").iter().rev() {
            assert_eq!(mail["recipient"], "ops@acme.example");
            told.push(mail["subject"].as_str().expect("a subject").to_owned());
        }
    }
    told
}

/// Nine o'clock of the day so many days before 2026-12-31, on a clock that does not go back.
fn goes_to(world: &World, days_before: i64) {
    let last = 1_798_675_200_000; // 2026-12-31T00:00Z
    world.app.clock.set(gate::time::UnixMillis(last - days_before * 24 * HOUR_MS + 9 * HOUR_MS));
}

#[tokio::test]
async fn a_client_is_reminded_once_per_threshold_that_its_key_ends() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        issued(&world, -1, &apis).await;
        let subject = |left: &str| format!("【Keygate】API Key Expiry Notice: orders key expires {left}");
        let mut expected = Vec::new();
        for (days_before, told) in [
            (31, None),
            (30, Some("in 30 days")),
            (29, None),
            (14, Some("in 14 days")),
            (7, Some("in 7 days")),
            (1, Some("tomorrow")),
            (0, None),
            (-1, None),
        ] {
            goes_to(&world, days_before);
            world.run_due().await;
            world.run_due().await;
            expected.extend(told.map(subject));
            assert_eq!(reminders(&admin).await, expected, "{days_before}");
        }
        let done = admin.get("/api/v1/tasks?kind=keys.remind_of_expiry&state=done").await.expect(200);
        let results: Vec<_> =
            done["items"].as_array().expect("tasks").iter().map(|task| &task["result"]).collect();
        assert!(results.contains(&&json!("reminded of 1 that end soon")), "{results:?}");
    }
}

#[tokio::test]
async fn after_a_pause_only_the_nearest_reminder_is_sent() {
    for world in World::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        issued(&world, -1, &apis).await;
        goes_to(&world, 40);
        world.run_due().await;
        goes_to(&world, 5);
        world.run_due().await;
        assert_eq!(
            reminders(&admin).await,
            ["【Keygate】API Key Expiry Notice: orders key expires in 5 days"]
        );
    }
}

#[tokio::test]
async fn a_later_expiry_voids_reminders_and_brings_new_ones() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, -1, &apis).await.key;
        goes_to(&world, 7);
        world.run_due().await;
        let change = KeyChange {
            name: key.name.clone(),
            expires_on: date(2027, 1, 3),
            uses: key.uses,
            reset_usage: false,
            apis: key.apis.clone(),
            application: None,
        };
        let mut tx = world.app.db.write("test.change").await.expect("a transaction");
        super::change(&mut tx, &world.app, &key.id, change, "system", world.app.now())
            .await
            .expect("changed");
        tx.commit().await.expect("committed");
        let withdrawn = admin.get("/api/v1/mails?template=key_expiring&state=failed").await.expect(200);
        assert_eq!(withdrawn["items"].as_array().map(Vec::len), Some(1), "it had not gone yet");
        goes_to(&world, 6);
        world.run_due().await;
        assert_eq!(reminders(&admin).await.len(), 1, "9 days: that of 14 lies before the change");
        goes_to(&world, 4);
        world.run_due().await;
        let told = reminders(&admin).await;
        assert_eq!(told[1..], ["【Keygate】API Key Expiry Notice: orders key expires in 7 days"]);
    }
}

#[tokio::test]
async fn nobody_is_reminded_of_revoked_keys_or_when_it_is_off() {
    let off = |config: &mut crate::config::Config| {
        config.key_expiry_reminder_days = crate::expiry::ReminderDays::parse("off").expect("a list");
    };
    for (worlds, revoked) in [(World::both().await, true), (World::both_with(off).await, false)] {
        for world in worlds {
            let admin = world.operator("ann", &["admin"]).await;
            let apis = furnish(&admin).await;
            let key = issued(&world, -1, &apis).await.key;
            if revoked {
                admin.post(&format!("/api/v1/keys/{}/revoke", key.id), Value::Null).await.expect(200);
            }
            goes_to(&world, 7);
            world.run_due().await;
            assert_eq!(reminders(&admin).await, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_key_whose_reminder_cannot_be_written_does_not_stop_those_behind_it() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let broken = issued(&world, -1, &apis).await.key;
        issued(&world, -1, &apis).await;
        goes_to(&world, 31);
        // It stands first, and its row makes no sense.
        let (id, first) = (&broken.id, broken.validity.until.0 - 1);
        world
            .sql(&format!("UPDATE keys SET origin = 'nowhere', expires_at = {first} WHERE id = '{id}'"))
            .await;
        for days_before in [30, 29] {
            goes_to(&world, days_before);
            world.run_due().await;
            assert_eq!(reminders(&admin).await.len(), 1, "{days_before}");
        }
        let result = async || {
            let done = admin.get("/api/v1/tasks?kind=keys.remind_of_expiry&state=done").await.expect(200);
            done["items"].as_array().expect("tasks").last().expect("a task")["result"].clone()
        };
        let told = result().await;
        assert_eq!(told, "reminded of 0 that end soon; 1 could not be written: the log has the reasons");
        // Mended, it is made up for.
        world.sql(&format!("UPDATE keys SET origin = 'issued' WHERE id = '{id}'")).await;
        goes_to(&world, 28);
        world.run_due().await;
        assert_eq!(reminders(&admin).await.len(), 2);
        assert_eq!(result().await, "reminded of 1 that end soon");

        // What is wrong with the database itself is not passed over.
        world.sql("ALTER TABLE mails RENAME TO mails_gone").await;
        goes_to(&world, 14);
        world.run_due().await;
        let waiting = admin.get("/api/v1/tasks?kind=keys.remind_of_expiry&state=waiting").await.expect(200);
        let told = |task: &Value| task["error"].as_str().is_some_and(|error| error.contains("mails"));
        assert!(waiting["items"].as_array().expect("tasks").iter().any(told), "{waiting:#}");
    }
}

#[tokio::test]
async fn two_replicas_remind_of_many_keys_once_each() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        for _ in 0..12 {
            issued(&world, -1, &apis).await;
        }
        goes_to(&world, 14);
        let other = crate::app::App { db: world.another_process().await, ..world.app.clone() };
        let executors = crate::executors(&world.app.config);
        let (one, two) = tokio::join!(
            crate::schedule::run_due(&world.app, &executors),
            crate::schedule::run_due(&other, &executors)
        );
        let (one, two) = (one.expect("the database"), two.expect("the database"));
        assert_eq!((one.postponed, two.postponed), (0, 0));
        world.run_due().await;
        assert_eq!(reminders(&admin).await.len(), 12);
    }
}
