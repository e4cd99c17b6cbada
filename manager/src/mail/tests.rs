//! The outbox against a real SMTP conversation and a folder, on both databases.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::contexts::{KeyCredentials, MASK, TestMail};
use super::model::MAX_ATTEMPTS;
use super::{About, Delivered, MailContext, NewMail, Transport, deliver_due, enqueue};
use crate::app::App;
use crate::config::Config;
use crate::testing::World;

/// How a server treats the mails that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Accepts,
    /// 451 to every recipient.
    IsBusy,
    /// 550 to every recipient.
    RefusesRecipients,
    /// Takes the mail and hangs up instead of answering.
    LosesTheAnswer,
}

/// An SMTP server on a free port, and what it was given: the client's lines, mail by mail.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) port: u16,
    mails: Arc<Mutex<Vec<Vec<String>>>>,
    manner: Arc<Mutex<Manner>>,
}

impl Server {
    pub(super) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = Self { port, mails: Arc::default(), manner: Arc::new(Mutex::new(manner)) };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().converse(stream));
            }
        });
        server
    }

    /// A minimal server of RFC 5321. Returns when the client quits or the connection breaks.
    async fn converse(self, stream: TcpStream) {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut heard = Vec::new();
        let mut answer = "220 test ESMTP\r\n".to_string();
        loop {
            if write.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            let Ok(Some(line)) = lines.next_line().await else { return };
            heard.push(line.clone());
            let manner = *self.manner.lock().expect("a test's lock");
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            answer = match (verb.as_str(), manner) {
                ("EHLO", _) => "250-test\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n".into(),
                ("RCPT", Manner::IsBusy) => "451 come back later\r\n".into(),
                ("RCPT", Manner::RefusesRecipients) => "550 nobody of that name\r\n".into(),
                ("DATA", _) => {
                    if write.write_all(b"354 go on\r\n").await.is_err() {
                        return;
                    }
                    while let Ok(Some(line)) = lines.next_line().await
                        && line != "."
                    {
                        heard.push(line);
                    }
                    self.mails.lock().expect("a test's lock").push(std::mem::take(&mut heard));
                    if manner == Manner::LosesTheAnswer {
                        return;
                    }
                    "250 taken\r\n".into()
                }
                ("QUIT", _) => {
                    // The last word; whether it arrives matters to nobody.
                    let _ = write.write_all(b"221 bye\r\n").await;
                    return;
                }
                ("AUTH", _) => "235 welcome\r\n".into(),
                (_, _) => "250 fine\r\n".into(),
            };
        }
    }

    pub(super) fn turns(&self, manner: Manner) {
        *self.manner.lock().expect("a test's lock") = manner;
    }

    fn mails(&self) -> Vec<mail_parser::Message<'static>> {
        let parser = mail_parser::MessageParser::default();
        let mails = self.mails.lock().expect("a test's lock");
        mails
            .iter()
            .map(|lines| {
                let headers =
                    lines.iter().position(|line| line == "DATA").expect("DATA came before the mail");
                let text = lines[headers + 1..].join("\r\n");
                parser.parse(text.as_bytes()).expect("a mail").into_owned()
            })
            .collect()
    }

    fn said(&self) -> Vec<String> {
        self.mails.lock().expect("a test's lock").concat()
    }
}

pub(super) fn smtp(port: u16) -> Config {
    Config {
        mail_transport: crate::config::MailTransport::Smtp,
        mail_from: "Keygate <keygate@example.com>".into(),
        smtp_host: Some("127.0.0.1".into()),
        smtp_port: port,
        smtp_security: crate::config::MailSecurity::None,
        ..Config::default()
    }
}

pub(super) fn transport(config: &Config) -> Transport {
    Transport::open(config).expect("valid settings")
}

pub(super) async fn write<C: MailContext>(app: &App, context: C, delay_ms: i64) -> String {
    let now = app.now();
    let mail = NewMail {
        recipients: vec!["anna@example.com".to_owned().into(), "anna@example.com".to_owned().into()],
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
async fn a_mail_goes_out_once_when_it_is_due_and_its_secret_is_erased() {
    for world in World::both().await {
        let server = Server::start(Manner::Accepts).await;
        let transport = transport(&smtp(server.port));
        let sample = KeyCredentials::sample();
        let id = write(&world.app, sample.clone(), 600_000).await;
        let auditor = world.operator("ann", &["admin"]).await;

        assert_eq!(run(&world.app, &transport).await, Delivered::default(), "not before its time");
        let waiting = auditor.get(&format!("/api/v1/mails/{id}")).await.expect(200);
        assert_eq!(waiting["state"], "waiting");
        assert_eq!(waiting["next_attempt_at"], World::START.0 + 600_000);
        assert!(waiting["body"].as_str().expect("text").contains(&format!("Secret Key: {MASK}")));
        assert!(!waiting.to_string().contains(&sample.secret_key));

        world.advance_ms(600_000);
        assert_eq!(run(&world.app, &transport).await, Delivered { sent: 1, ..Delivered::default() });
        assert_eq!(run(&world.app, &transport).await, Delivered::default(), "once");

        let mails = server.mails();
        let [mail] = mails.as_slice() else { panic!("{} mails", mails.len()) };
        assert_eq!(mail.subject(), Some("【Keygate】Notification API Key Authorization Result"));
        assert_eq!(mail.message_id(), Some(format!("{id}@example.com").as_str()));
        let text = mail.body_text(0).expect("a text part").replace('\r', "");
        let value = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::to_owned);
        assert_eq!(value("API Key: "), Some(sample.api_key.clone()));
        assert_eq!(value("Secret Key: "), Some(sample.secret_key.clone()));
        assert!(mail.body_html(0).expect("an HTML part").contains(&sample.secret_key));
        assert!(server.said().iter().any(|line| line == "RCPT TO:<anna@example.com>"), "{:?}", server.said());

        let sent = auditor.get(&format!("/api/v1/mails/{id}")).await.expect(200);
        assert_eq!(
            (&sent["state"], &sent["via"], &sent["attempts"]),
            (&json!("sent"), &json!("primary"), &json!(1))
        );
        assert_eq!(sent["maybe_repeated"], false);
        assert_eq!(world.sql("UPDATE mails SET attempts = attempts WHERE context_sealed IS NULL").await, 1);
        auditor.post(&format!("/api/v1/mails/{id}/resend"), json!({})).await.problem(409, "secret_erased");
    }
}

#[tokio::test]
async fn without_a_transport_mails_wait_and_go_out_when_one_is_there() {
    for world in World::both().await {
        write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport(&Config::default())).await, Delivered::default());

        let folder = tempfile::tempdir().expect("a folder").keep();
        let config = Config {
            mail_transport: crate::config::MailTransport::File,
            mail_file_dir: folder.join("mails"),
            ..Config::default()
        };
        assert_eq!(run(&world.app, &transport(&config)).await.sent, 1);
        let files: Vec<_> = std::fs::read_dir(folder.join("mails"))
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
        std::fs::remove_dir_all(folder).expect("removed");
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_later_and_a_refusal_is_final() {
    for world in World::both().await {
        let server = Server::start(Manner::IsBusy).await;
        let transport = transport(&smtp(server.port));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        let path = format!("/api/v1/mails/{id}");

        assert_eq!(run(&world.app, &transport).await, Delivered { postponed: 1, ..Delivered::default() });
        let mail = reader.get(&path).await.expect(200);
        assert_eq!(
            (&mail["state"], &mail["next_attempt_at"]),
            (&json!("waiting"), &json!(World::START.0 + 15_000))
        );
        assert!(mail["error"].as_str().expect("a reason").contains("451"), "{mail}");
        world.advance_ms(14_999);
        assert_eq!(run(&world.app, &transport).await, Delivered::default());

        server.turns(Manner::RefusesRecipients);
        world.advance_ms(1);
        assert_eq!(run(&world.app, &transport).await, Delivered { given_up: 1, ..Delivered::default() });
        let mail = reader.get(&path).await.expect(200);
        assert_eq!((&mail["state"], &mail["attempts"]), (&json!("failed"), &json!(2)));
        assert!(mail["error"].as_str().expect("a reason").contains("550"), "{mail}");

        // Nothing secret was in it: it can be sent again, as a mail of its own.
        server.turns(Manner::Accepts);
        let again = reader.post(&format!("{path}/resend"), json!({})).await.expect(201);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!(server.mails()[0].subject(), Some("【Keygate】Test mail"));
        let sent =
            reader.get(&format!("/api/v1/mails/{}", again["id"].as_str().expect("an id"))).await.expect(200);
        assert_eq!(sent["state"], "sent");
    }
}

#[tokio::test]
async fn attempts_end_at_their_bound() {
    for world in World::both().await {
        let server = Server::start(Manner::IsBusy).await;
        let transport = transport(&smtp(server.port));
        write(&world.app, TestMail::sample(), 0).await;
        for attempt in 1..=MAX_ATTEMPTS {
            let did = run(&world.app, &transport).await;
            let last = attempt == MAX_ATTEMPTS;
            assert_eq!((did.postponed, did.given_up), (usize::from(!last), usize::from(last)), "{attempt}");
            world.advance_ms(3_600_000);
        }
        assert_eq!(run(&world.app, &transport).await, Delivered::default());
    }
}

#[tokio::test]
async fn a_lost_answer_is_told_and_the_second_server_is_not_asked_at_once() {
    for world in World::both().await {
        let (first, second) =
            (Server::start(Manner::LosesTheAnswer).await, Server::start(Manner::Accepts).await);
        let config = Config {
            smtp_secondary_host: Some("127.0.0.1".into()),
            smtp_secondary_port: second.port,
            smtp_secondary_security: crate::config::MailSecurity::None,
            ..smtp(first.port)
        };
        let transport = transport(&config);
        let reader = world.operator("ann", &["admin"]).await;
        let path = format!("/api/v1/mails/{}", write(&world.app, TestMail::sample(), 0).await);

        assert_eq!(run(&world.app, &transport).await.postponed, 1);
        assert_eq!((first.mails().len(), second.mails().len()), (1, 0));
        let mail = reader.get(&path).await.expect(200);
        assert_eq!((&mail["state"], &mail["maybe_repeated"]), (&json!("waiting"), &json!(true)));

        // Refused by the first one: the second one takes it.
        first.turns(Manner::IsBusy);
        world.advance_ms(15_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let mail = reader.get(&path).await.expect(200);
        assert_eq!(
            (&mail["state"], &mail["via"], &mail["maybe_repeated"]),
            (&json!("sent"), &json!("secondary"), &json!(true))
        );
        assert_eq!(first.mails()[0].message_id(), second.mails()[0].message_id(), "a repeat can be told");
    }
}

#[tokio::test]
async fn many_workers_send_each_mail_once() {
    for world in World::both().await {
        let server = Server::start(Manner::Accepts).await;
        let transport = transport(&smtp(server.port));
        for _ in 0..20 {
            write(&world.app, TestMail::sample(), 0).await;
        }
        let (one, two, three) = tokio::join!(
            run(&world.app, &transport),
            run(&world.app, &transport),
            run(&world.app, &transport)
        );
        assert_eq!(one.sent + two.sent + three.sent, 20);
        let mut ids: Vec<_> =
            server.mails().iter().map(|mail| mail.message_id().expect("one").to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), server.mails().len()), (20, 20));
    }
}

#[tokio::test]
async fn a_worker_that_vanished_is_replaced_when_its_claim_lapses() {
    for world in World::both().await {
        let server = Server::start(Manner::Accepts).await;
        let transport = transport(&smtp(server.port));
        let id = write(&world.app, TestMail::sample(), 0).await;
        let until = World::START.0 + 1_000;
        world
            .sql(&format!(
                "UPDATE mails SET state = 'sending', claim = 'mc_gone', claimed_until = {until}, attempts = 1"
            ))
            .await;
        assert_eq!(run(&world.app, &transport).await, Delivered::default(), "still claimed");
        world.advance_ms(1_001);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let mail =
            world.operator("ann", &["admin"]).await.get(&format!("/api/v1/mails/{id}")).await.expect(200);
        assert_eq!((&mail["attempts"], &mail["maybe_repeated"]), (&json!(2), &json!(true)));
    }
}

#[tokio::test]
async fn credentials_are_presented_to_a_server_that_wants_them() {
    let world = World::sqlite().await;
    let server = Server::start(Manner::Accepts).await;
    let config = Config {
        smtp_username: Some("keygate".into()),
        smtp_password: Some("hunter2".to_string().into()),
        ..smtp(server.port)
    };
    write(&world.app, TestMail::sample(), 0).await;
    assert_eq!(run(&world.app, &transport(&config)).await.sent, 1);
    // RFC 4616: NUL, name, NUL, password.
    assert!(
        server.said().iter().any(|line| line == "AUTH PLAIN AGtleWdhdGUAaHVudGVyMg=="),
        "{:?}",
        server.said()
    );
}

#[tokio::test]
async fn the_log_pages_filters_and_is_not_for_everybody() {
    for world in World::both().await {
        for _ in 0..3 {
            world.advance_ms(1);
            write(&world.app, TestMail::sample(), 0).await;
        }
        let reader = world.operator("ann", &["admin"]).await;
        let first = reader.get("/api/v1/mails?limit=2").await.expect(200);
        let next = first["next"].as_str().expect("more");
        let second = reader.get(&format!("/api/v1/mails?limit=2&cursor={next}")).await.expect(200);
        let times: Vec<_> = [&first, &second]
            .iter()
            .flat_map(|page| page["items"].as_array().expect("items"))
            .map(|mail| mail["created_at"].as_i64().expect("an instant") - World::START.0)
            .collect();
        assert_eq!(times, [3, 2, 1], "newest first, none twice");
        assert!(second["next"].is_null());
        for (query, count) in [
            ("state=waiting", 3),
            ("state=sent", 0),
            ("template=test", 3),
            ("template=key_credentials", 0),
            ("about=key:key_1", 3),
            ("about=key:key_2", 0),
            ("recipient=anna@example.com", 3),
        ] {
            let page = reader.get(&format!("/api/v1/mails?{query}")).await.expect(200);
            assert_eq!(page["items"].as_array().map(Vec::len), Some(count), "{query}");
        }
        for (query, field) in [
            ("state=gone", "state"),
            ("template=x", "template"),
            ("about=x", "about"),
            ("limit=0", "limit"),
            ("x=1", "x"),
        ] {
            reader.get(&format!("/api/v1/mails?{query}")).await.refuses(field);
        }
        reader.get("/api/v1/mails/ml_none").await.problem(404, "not_found");
        world.anon().get("/api/v1/mails").await.problem(401, "unauthenticated");
    }
}
