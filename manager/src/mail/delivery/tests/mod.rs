//! The worker against real SMTP conversations and a folder, on both databases.

mod replicas;
mod retries;
mod secrecy;
mod servers;

use serde_json::{Value, json};

use super::super::contexts::{KeyCredentials, MASK, MailContext as _, TestMail};
use super::super::smtp::server::{At, Fault, Manner, Server};
use super::super::tests::{run, smtp, transport, write};
use super::Delivered;
use crate::app::App;
use crate::config::{Config, MailTransport};
use crate::testing::{Caller, World};

const HOUR_MS: i64 = 3_600_000;

fn busy() -> Manner {
    Manner::fails(At::Recipient, Fault::Says("451 4.3.2 come back later"))
}

fn refuses() -> Manner {
    Manner::fails(At::Recipient, Fault::Says("550 5.1.1 nobody of that name"))
}

fn dead() -> Manner {
    Manner::fails(At::Greeting, Fault::HangsUp)
}

fn loses_the_answer() -> Manner {
    Manner::fails(At::Message, Fault::HangsUp)
}

async fn mail(reader: &Caller, id: &str) -> Value {
    reader.get(&format!("/api/v1/mails/{id}")).await.expect(200)
}

/// Another process on the same database, at the same time.
async fn replica(world: &World) -> App {
    App { db: world.another_process().await, ..world.app.clone() }
}

#[tokio::test]
async fn a_mail_goes_out_once_when_it_is_due_and_its_secret_is_erased() {
    for world in World::both().await {
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        let sample = KeyCredentials::sample();
        let id = write(&world.app, sample.clone(), 600_000).await;
        let auditor = world.operator("ann", &["admin"]).await;

        assert_eq!(run(&world.app, &transport).await, Delivered::default(), "not before its time");
        let waiting = mail(&auditor, &id).await;
        assert_eq!(waiting["state"], "waiting");
        assert_eq!(waiting["next_attempt_at"], World::START.0 + 600_000);
        assert!(waiting["body"].as_str().expect("text").contains(&format!("Secret Key: {MASK}")));
        assert!(!waiting.to_string().contains(&sample.secret_key));

        world.advance_ms(600_000);
        assert_eq!(run(&world.app, &transport).await, Delivered { sent: 1, ..Delivered::default() });
        assert_eq!(run(&world.app, &transport).await, Delivered::default(), "once");

        let mails = server.mails();
        let [caught] = mails.as_slice() else { panic!("{} mails", mails.len()) };
        assert_eq!(caught.subject(), Some("【Keygate】Notification API Key Authorization Result"));
        assert_eq!(caught.message_id(), Some(format!("{id}@example.com").as_str()));
        let text = caught.body_text(0).expect("a text part").replace('\r', "");
        let value = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::to_owned);
        assert_eq!(value("API Key: "), Some(sample.api_key.clone()));
        assert_eq!(value("Secret Key: "), Some(sample.secret_key.clone()));
        assert!(caught.body_html(0).expect("an HTML part").contains(&sample.secret_key));
        assert!(server.said().iter().any(|line| line == "RCPT TO:<anna@example.com>"), "{:?}", server.said());

        let sent = mail(&auditor, &id).await;
        assert_eq!(
            (&sent["state"], &sent["via"], &sent["attempts"], &sent["maybe_repeated"]),
            (&json!("sent"), &json!("primary"), &json!(1), &json!(false))
        );
        let at = World::START.0 + 600_000;
        assert_eq!(
            sent["history"],
            json!([{ "attempt": 1, "server": format!("127.0.0.1:{}", server.port), "outcome": "accepted",
                     "answer": "250 2.0.0 taken", "started_at": at, "ended_at": at }])
        );
        assert_eq!(world.sql("UPDATE mails SET attempts = attempts WHERE context_sealed IS NULL").await, 1);
    }
}

#[tokio::test]
async fn without_a_transport_mails_wait_and_go_out_when_one_is_there() {
    for world in World::both().await {
        write(&world.app, TestMail::sample(), 0).await;
        world.advance_ms(1_000 * HOUR_MS);
        assert_eq!(run(&world.app, &transport(&Config::default())).await, Delivered::default());

        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            mail_transport: MailTransport::File,
            mail_file_dir: folder.path().join("mails"),
            ..Config::default()
        };
        assert_eq!(run(&world.app, &transport(&config)).await.sent, 1, "however long it waited");
        let files: Vec<_> = std::fs::read_dir(folder.path().join("mails"))
            .expect("made")
            .map(|f| f.expect("a file").path())
            .collect();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        assert!(file.extension().is_some_and(|extension| extension == "eml"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600);
        }
        let bytes = std::fs::read(file).expect("readable");
        let mail = mail_parser::MessageParser::default().parse(&bytes).expect("a mail");
        assert_eq!(mail.subject(), Some("【Keygate】Test mail"));
    }
}
