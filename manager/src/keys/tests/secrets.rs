//! Two secrets at the most: rotated, retired, ended by themselves, sent again.

use gate::wire::changes::Subject;
use serde_json::{Value, json};

use super::{HOUR_MS, furnish, issued, last_change};
use crate::keys::{IssuedKey, find_by_api_key, note_secret_used};
use crate::testing::World;

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
        assert_eq!(rotated["warnings"][0]["code"], "mail_not_configured", "its mail does not go");
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
async fn whoever_has_a_pair_sent_again_is_told_that_mails_do_not_go() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let apis = furnish(&admin).await;
        let key = issued(&world, 10, &apis).await.key;
        let resend = format!("/api/v1/keys/{}/resend", key.id);
        let resent = admin.post(&resend, json!({})).await.expect(200);
        assert_eq!(resent["warnings"][0]["code"], "mail_not_configured");
    }
}
