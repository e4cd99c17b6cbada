//! Issued, brought in, shown, changed, switched off and on, revoked.

use gate::wire::changes::{Fingerprint, Subject};
use jiff::civil::date;
use serde_json::{Value, json};

use super::{API_KEY, SECRET, furnish, import_of, issued, last_change, limit_of};
use crate::keys::{
    self, IssuedKey, KeyChange, KeyError, KeyName, KeyState, UseQuota, change, find_by_api_key, parse_apis,
    revoke,
};
use crate::testing::World;

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
        admin.get("/api/v1/keys?client=nobody").await.refuses("client");
        let other = json!({
            "id": "other", "name": "other", "display_name": "Other", "note": "Ann",
            "password": "secret-1", "password_confirmation": "secret-1",
        });
        admin.post("/api/v1/clients", other).await.expect(201);
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
    let key = keys::list(&mut conn, None, "", 1).await.expect("listed").pop().expect("one");
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
        keys::change(&mut tx, &world.app, &key.id, change, "system", world.app.now()).await.expect("changed");
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
