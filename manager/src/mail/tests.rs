//! What the tests of this capability share: a server's settings, a mail, a run of the worker; and the
//! rules of the outbox.

use super::contexts::TestMail;
use super::smtp::server::Server;
use super::{About, Delivered, MailContext, NewMail, Transport, deliver_due, enqueue};
use crate::app::App;
use crate::config::{Config, MailSecurity, MailTransport};
use crate::testing::World;

/// In clear, which is allowed on this machine.
pub(super) fn smtp(server: &Server) -> Config {
    Config {
        mail_transport: MailTransport::Smtp,
        mail_from: "Keygate <keygate@example.com>".into(),
        smtp_host: Some("127.0.0.1".into()),
        smtp_port: server.port,
        smtp_security: MailSecurity::None,
        ..Config::default()
    }
}

pub(super) fn with_secondary(config: Config, server: &Server) -> Config {
    Config {
        smtp_secondary_host: Some("127.0.0.1".into()),
        smtp_secondary_port: server.port,
        smtp_secondary_security: MailSecurity::None,
        ..config
    }
}

pub(super) fn transport(config: &Config) -> Transport {
    Transport::open(config).expect("valid settings")
}

pub(super) async fn write<C: MailContext>(app: &App, context: C, delay_ms: i64) -> String {
    write_to(app, "anna@example.com", context, delay_ms).await
}

pub(super) async fn write_to<C: MailContext>(app: &App, to: &str, context: C, delay_ms: i64) -> String {
    let now = app.now();
    let mail = NewMail {
        recipients: vec![to.to_string().into(), to.to_string().into()],
        context,
        not_before: gate::time::UnixMillis(now.0 + delay_ms),
        about: About::new("key", "key_1"),
    };
    let mut tx = app.db.write("test.write").await.expect("a transaction");
    let ids = enqueue(&mut tx, app, mail, now).await.expect("enqueued");
    tx.commit().await.expect("committed");
    let [id] = ids.as_slice() else { panic!("one mail per distinct address: {ids:?}") };
    id.clone()
}

pub(super) async fn run(app: &App, transport: &Transport) -> Delivered {
    deliver_due(app, transport).await.expect("the database answers")
}

#[tokio::test]
async fn a_mail_is_written_with_what_causes_it_or_not_at_all() {
    for world in World::both().await {
        let reader = world.operator("ann", &["admin"]).await;
        let mail = NewMail {
            recipients: ["anna@example.com", "bob@example.com"].map(|to| to.to_string().into()).to_vec(),
            context: TestMail::sample(),
            not_before: world.app.now(),
            about: About::new("key", "key_1"),
        };
        let mut tx = world.app.db.write("test.write").await.expect("a transaction");
        let ids = enqueue(&mut tx, &world.app, mail, world.app.now()).await.expect("enqueued");
        assert_eq!(ids.len(), 2);
        drop(tx);
        assert_eq!(reader.get("/api/v1/mails").await.expect(200)["items"].as_array().map(Vec::len), Some(0));
    }
}

#[tokio::test]
async fn the_log_keeps_a_long_text_up_to_its_bound() {
    let world = World::sqlite().await;
    let reader = world.operator("ann", &["admin"]).await;
    let long = TestMail { asked_by: Some("鍵".repeat(30_000)), ..TestMail::sample() };
    let id = write(&world.app, long, 0).await;
    let mail = reader.get(&format!("/api/v1/mails/{id}")).await.expect(200);
    let body = mail["body"].as_str().expect("text");
    assert!(
        body.len() < super::actions::MAX_LOGGED_BYTES + 100 && body.contains("cut here"),
        "{}",
        body.len()
    );
}
