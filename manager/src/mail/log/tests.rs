//! The log as operators read it and act on it, on both databases.

use gate::time::UnixMillis;
use serde_json::{Value, json};

use super::super::contexts::{
    ClientPasswordReset, KeyCredentials, MailContext as _, TestMail, XApiKeyIssued,
};
use super::super::smtp::server::{At, Fault, Manner, Server};
use super::super::tests::{run, smtp, transport, write, write_to};
use super::super::{About, Template, withdraw};
use super::cli;
use super::purge_before;
use crate::testing::World;

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().expect("items").iter().map(|mail| mail["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn subjects_are_found_in_whatever_case_in_every_language() {
    let name = |config: &mut crate::config::Config| config.product_name = "SCHLÜSSEL Ärger".into();
    for world in World::both_with(name).await {
        let id =
            write(&world.app, TestMail { product_name: "SCHLÜSSEL Ärger".into(), ..TestMail::sample() }, 0)
                .await;
        let reader = world.operator("ann", &["admin"]).await;
        // `schlüssel`, `ÄRGER`
        for keyword in ["schl%C3%BCssel", "%C3%84RGER"] {
            let page = reader.get(&format!("/api/v1/mails?keyword={keyword}")).await.expect(200);
            assert_eq!(ids(&page), [&id], "{keyword}");
        }
    }
}

#[tokio::test]
async fn the_log_pages_searches_and_is_not_for_everybody() {
    for world in World::both().await {
        let mut written = Vec::new();
        for _ in 0..3 {
            world.advance_ms(1);
            written.insert(0, write(&world.app, TestMail::sample(), 0).await);
        }
        let reader = world.operator("ann", &["admin"]).await;
        let first = reader.get("/api/v1/mails?limit=2").await.expect(200);
        let next = first["next"].as_str().expect("more");
        let second = reader.get(&format!("/api/v1/mails?limit=2&cursor={next}")).await.expect(200);
        assert_eq!([ids(&first), ids(&second)].concat(), written, "newest first, none twice");
        assert!(second["next"].is_null());
        let (begin, end) = (World::START.0 + 1, World::START.0 + 3);
        for (query, count) in [
            ("state=waiting".to_string(), 3),
            ("state=sent".into(), 0),
            ("template=test".into(), 3),
            ("template=key_credentials".into(), 0),
            ("about=key:key_1".into(), 3),
            ("about=key:key_2".into(), 0),
            ("recipient=anna@example.com".into(), 3),
            ("recipient=Anna@Example.COM".into(), 3),
            ("recipient=anna".into(), 0),
            ("keyword=TEST%20mail".into(), 3),
            ("keyword=%25".into(), 0),
            (format!("from={begin}&to={end}"), 3),
            (format!("from={}&to={}", begin + 1, end - 1), 1),
            (format!("from={}", end + 1), 0),
            (format!("to={}", begin - 1), 0),
        ] {
            let page = reader.get(&format!("/api/v1/mails?{query}")).await.expect(200);
            assert_eq!(page["items"].as_array().map(Vec::len), Some(count), "{query}");
        }
        for (query, field) in [
            ("state=gone", "state"),
            ("template=x", "template"),
            ("about=x", "about"),
            ("from=2&to=1", "to"),
            ("limit=0", "limit"),
            ("x=1", "x"),
        ] {
            reader.get(&format!("/api/v1/mails?{query}")).await.refuses(field);
        }
        reader.get("/api/v1/mails/ml_none").await.problem(404, "not_found");
        world.anon().get("/api/v1/mails").await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_secret_is_not_sent_again_and_the_answer_says_what_to_call_instead() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        for (id, call) in [
            (write(&world.app, KeyCredentials::sample(), 0).await, "POST /api/v1/keys/key_1/secrets"),
            (write(&world.app, KeyCredentials::sample(), 0).await, "POST /api/v1/keys/key_1/resend"),
            (write(&world.app, XApiKeyIssued::sample(), 0).await, "POST /api/v1/x-api-keys "),
            (
                write(&world.app, ClientPasswordReset::sample(), 0).await,
                "POST /api/v1/clients/key_1/password/reset",
            ),
        ] {
            run(&world.app, &transport).await;
            let refused = admin
                .post(&format!("/api/v1/mails/{id}/resend"), json!({}))
                .await
                .problem(409, "secret_erased");
            assert!(refused["detail"].as_str().expect("a sentence").contains(call), "{refused}");
            let mail = admin.get(&format!("/api/v1/mails/{id}")).await.expect(200);
            assert!(mail["reissue"].as_str().expect("a sentence").contains(call), "{mail}");
            assert_eq!(mail["secret"], true);
        }
        let open = write(&world.app, TestMail::sample(), 0).await;
        admin.post(&format!("/api/v1/mails/{open}/resend"), json!({})).await.problem(409, "mail_pending");
        assert!(admin.get(&format!("/api/v1/mails/{open}")).await.expect(200)["reissue"].is_null());
    }
}

#[tokio::test]
async fn a_mail_that_waits_still_has_its_secret_and_one_that_was_withdrawn_is_not_to_be_sent() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, KeyCredentials::sample(), 0).await;
        let resend = async || admin.post(&format!("/api/v1/mails/{id}/resend"), json!({})).await;
        resend().await.problem(409, "mail_pending");
        let mut tx = world.app.db.write("test.withdraw").await.expect("a transaction");
        let about = About::new("key", "key_1");
        withdraw(&mut tx, &about, Template::KeyCredentials, "the key was revoked", world.app.now())
            .await
            .expect("withdrawn");
        tx.commit().await.expect("committed");
        let refused = resend().await.problem(409, "secret_erased");
        assert!(refused["detail"].as_str().expect("a sentence").contains("no longer in force"), "{refused}");
        assert_eq!(admin.get(&format!("/api/v1/mails/{id}")).await.expect(200)["reissue"], Value::Null);
    }
}

#[tokio::test]
async fn the_command_line_sends_again_and_takes_back_as_the_routes_do() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        let one = |id: &str| cli::One { id: id.into() };
        let id = write(&world.app, TestMail::sample(), 0).await;
        cli::resend(&world.app, one(&id)).await.expect_err("it is on its way");
        run(&world.app, &transport).await;
        cli::cancel(&world.app, one(&id)).await.expect_err("it is sent");
        cli::resend(&world.app, one(&id)).await.expect("written once more");
        let list = admin.get("/api/v1/mails?state=waiting").await.expect(200);
        let again = list["items"][0]["id"].as_str().expect("the new one").to_owned();
        cli::cancel(&world.app, one(&again)).await.expect("taken back");
        let told = admin.get(&format!("/api/v1/mails/{again}")).await.expect(200);
        assert_eq!((&told["state"], &told["error"]), (&json!("failed"), &json!("cancelled by cli")));
        for action in ["mail.resend", "mail.cancel"] {
            let trail = admin.get(&format!("/api/v1/audit?action={action}")).await.expect(200);
            assert_eq!(trail["items"][0]["actor"], "cli");
        }
    }
}

#[tokio::test]
async fn a_mail_that_waits_can_be_taken_back_and_no_other() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        let id = write(&world.app, KeyCredentials::sample(), 600_000).await;
        let path = format!("/api/v1/mails/{id}/cancel");
        world.operator("bob", &["applicant"]).await.post(&path, json!({})).await.problem(403, "forbidden");
        let cancelled = admin.post(&path, json!({})).await.expect(200);
        assert_eq!(cancelled["state"], "failed");
        assert!(cancelled["error"].as_str().expect("a reason").starts_with("cancelled by operator:"));
        assert_eq!(world.sql("UPDATE mails SET attempts = 0 WHERE context_sealed IS NULL").await, 1);
        world.advance_ms(600_000);
        run(&world.app, &transport).await;
        assert!(server.taken().is_empty());
        admin.post(&path, json!({})).await.problem(409, "mail_not_waiting");
        admin.post("/api/v1/mails/ml_none/cancel", json!({})).await.problem(404, "not_found");
        let trail = admin.get("/api/v1/audit?action=mail.cancel").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(1));

        let sent = write(&world.app, TestMail::sample(), 0).await;
        run(&world.app, &transport).await;
        admin.post(&format!("/api/v1/mails/{sent}/cancel"), json!({})).await.problem(409, "mail_not_waiting");
    }
}

#[tokio::test]
async fn what_ended_long_ago_is_removed_with_its_history_and_nothing_else() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let refuses = Manner {
            only_for: Some("bob@example.com"),
            ..Manner::fails(At::Recipient, Fault::Says("550 5.1.1 unknown"))
        };
        let server = Server::start(refuses).await;
        let transport = transport(&smtp(&server));
        write_to(&world.app, "anna@example.com", TestMail::sample(), 0).await;
        write_to(&world.app, "bob@example.com", TestMail::sample(), 0).await;
        run(&world.app, &transport).await;
        world.advance_ms(1_000);
        let young = write_to(&world.app, "carl@example.com", TestMail::sample(), 0).await;
        run(&world.app, &transport).await;
        let waiting = write_to(&world.app, "dora@example.com", TestMail::sample(), 0).await;

        let purge = async |before: i64, limit: i64| {
            let mut tx = world.app.db.write("test.purge").await.expect("a transaction");
            let gone = purge_before(&mut tx, UnixMillis(before), limit).await.expect("purged");
            tx.commit().await.expect("committed");
            gone
        };
        assert_eq!(purge(World::START.0, 10).await, 0, "what ended at that instant stays");
        assert_eq!(purge(World::START.0 + 1, 1).await, 1, "no more than asked for");
        assert_eq!(purge(World::START.0 + 1, 10).await, 1);
        let left = admin.get("/api/v1/mails").await.expect(200);
        assert_eq!(ids(&left).len(), 2);
        assert!(ids(&left).contains(&young.as_str()) && ids(&left).contains(&waiting.as_str()));
        assert_eq!(world.sql("UPDATE mail_attempts SET turn = turn").await, 1, "of the one that is left");
        assert_eq!(purge(i64::MAX, 10).await, 1);
        assert_eq!(ids(&admin.get("/api/v1/mails").await.expect(200)), [waiting]);
    }
}
