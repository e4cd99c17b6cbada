//! The worker against real SMTP conversations and a folder, on both databases.

use gate::time::UnixMillis;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _};

use super::super::contexts::{KeyCredentials, MASK, MailContext as _, TestMail};
use super::super::model::CLAIM_MS;
use super::super::smtp::server::{At, Fault, Manner, Server};
use super::super::tests::{run, smtp, transport, with_secondary, write, write_to};
use super::{Delivered, LANES, begin, hand_over, record, store};
use crate::app::App;
use crate::config::{Config, MailTransport};
use crate::db::Dialect;
use crate::testing::{Caller, LogLines, World};

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

#[tokio::test]
async fn a_folder_that_is_gone_is_a_server_that_rests() {
    for world in World::both().await {
        let reader = world.operator("ann", &["admin"]).await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mails");
        let config =
            Config { mail_transport: MailTransport::File, mail_file_dir: path.clone(), ..Config::default() };
        let transport = transport(&config);
        std::fs::remove_dir(&path).expect("removed");
        let id = write(&world.app, TestMail::sample(), 0).await;
        assert!(run(&world.app, &transport).await.put_back > 0);
        let waiting = mail(&reader, &id).await;
        assert_eq!((&waiting["state"], &waiting["attempts"]), (&json!("waiting"), &json!(0)));
        std::fs::create_dir(&path).expect("made");
        assert_eq!(run(&world.app, &transport).await, Delivered::default(), "it rests");
        world.advance_ms(5_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!(mail(&reader, &id).await["via"], "file");
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_later_and_a_refusal_is_final() {
    for world in World::both().await {
        let server = Server::start(busy()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;

        assert_eq!(run(&world.app, &transport).await, Delivered { postponed: 1, ..Delivered::default() });
        let waiting = mail(&reader, &id).await;
        assert_eq!(
            (&waiting["state"], &waiting["next_attempt_at"]),
            (&json!("waiting"), &json!(World::START.0 + 15_000))
        );
        assert!(waiting["error"].as_str().expect("a reason").contains("451"), "{waiting}");
        world.advance_ms(14_999);
        assert_eq!(run(&world.app, &transport).await, Delivered::default());

        server.turns(refuses());
        world.advance_ms(1);
        assert_eq!(run(&world.app, &transport).await, Delivered { given_up: 1, ..Delivered::default() });
        let failed = mail(&reader, &id).await;
        assert_eq!((&failed["state"], &failed["attempts"]), (&json!("failed"), &json!(2)));
        assert!(failed["error"].as_str().expect("a reason").contains("550"), "{failed}");
        let outcomes: Vec<_> =
            failed["history"].as_array().expect("a list").iter().map(|one| &one["outcome"]).collect();
        assert_eq!(outcomes, ["postponed", "refused"]);

        // Nothing secret was in it: it can be sent again, as a mail of its own.
        server.turns(Manner::accepts());
        let again = reader.post(&format!("/api/v1/mails/{id}/resend"), json!({})).await.expect(201);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!(server.mails()[0].subject(), Some("【Keygate】Test mail"));
        assert_eq!(mail(&reader, again["id"].as_str().expect("an id")).await["state"], "sent");
    }
}

#[tokio::test]
async fn a_refusal_of_the_sender_waits_for_other_settings() {
    for world in World::both().await {
        let relay = Fault::Says("554 5.7.1 <anna@example.com>: Relay access denied");
        let server = Server::start(Manner::fails(At::Recipient, relay)).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.postponed, 1);
        assert_eq!(mail(&reader, &id).await["state"], "waiting");
        server.turns(Manner::accepts());
        world.advance_ms(15_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
    }
}

#[tokio::test]
async fn a_server_that_is_dead_for_an_hour_loses_nothing_and_is_left_in_peace() {
    const MAILS: usize = 20;
    for world in World::both().await {
        let server = Server::start(dead()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        for n in 0..MAILS {
            write_to(&world.app, &format!("r{n:02}@example.com"), TestMail::sample(), n as i64).await;
        }
        world.advance_ms(MAILS as i64);
        let other = replica(&world).await;
        for _ in 0..HOUR_MS / 5_000 {
            run(&world.app, &transport).await;
            run(&other, &transport).await;
            world.advance_ms(5_000);
        }
        // After 5, 10, 20, 40 s, then each minute; at first by all lanes at once.
        let asked = server.conversations();
        assert!((60..=62 + LANES).contains(&asked), "{asked} conversations");
        let waiting = reader.get("/api/v1/mails?state=waiting&limit=100").await.expect(200);
        let waiting = waiting["items"].as_array().expect("items").clone();
        assert_eq!(waiting.len(), MAILS);
        for one in &waiting {
            assert_eq!((&one["attempts"], &one["maybe_repeated"]), (&json!(0), &json!(false)), "{one}");
        }
        assert!(waiting.iter().any(|one| one["error"].as_str().is_some_and(|e| e.contains("greeting"))));

        server.turns(Manner::accepts());
        world.advance_ms(60_000);
        assert_eq!(run(&world.app, &transport).await, Delivered { sent: MAILS, ..Delivered::default() });
        let order: Vec<usize> =
            server.taken().iter().map(|mail| mail.recipient[1..3].parse().expect("a number")).collect();
        for (place, number) in order.iter().enumerate() {
            assert!(place.abs_diff(*number) <= LANES, "in the order in which they were due: {order:?}");
        }
    }
}

#[tokio::test]
async fn only_one_conversation_tries_whether_a_server_is_well_again() {
    for world in World::both().await {
        let server = Server::start(dead()).await;
        let transport = transport(&smtp(&server));
        for n in 0..8 {
            write_to(&world.app, &format!("r{n}@example.com"), TestMail::sample(), 0).await;
        }
        run(&world.app, &transport).await;
        let before = server.conversations();
        world.advance_ms(60_000);
        let others = [replica(&world).await, replica(&world).await];
        tokio::join!(run(&world.app, &transport), run(&others[0], &transport), run(&others[1], &transport));
        assert_eq!(server.conversations(), before + 1);
    }
}

#[tokio::test]
async fn what_no_server_takes_for_three_days_is_given_up_visibly() {
    for world in World::both().await {
        let server = Server::start(dead()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let (old, older) = (
            write_to(&world.app, "b@example.com", KeyCredentials::sample(), 0).await,
            write_to(&world.app, "a@example.com", TestMail::sample(), 0).await,
        );
        world.advance_ms(72 * HOUR_MS - 1);
        let young = write_to(&world.app, "c@example.com", TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.given_up, 0);
        world.advance_ms(60_000);
        assert_eq!(run(&world.app, &transport).await.given_up, 2);
        for id in [&old, &older] {
            let failed = mail(&reader, id).await;
            assert_eq!(failed["state"], "failed");
            let error = failed["error"].as_str().expect("a reason");
            assert!(error.contains("within 72 h") && error.contains("greeting"), "{error}");
        }
        assert_eq!(mail(&reader, &young).await["state"], "waiting");
        assert_eq!(world.sql("UPDATE mails SET attempts = attempts WHERE context_sealed IS NULL").await, 2);
    }
}

#[tokio::test]
async fn a_server_that_is_busy_for_three_days_ends_it_too() {
    for world in World::both().await {
        let server = Server::start(busy()).await;
        let transport = transport(&smtp(&server));
        write(&world.app, TestMail::sample(), 0).await;
        let mut attempts = 0;
        loop {
            let did = run(&world.app, &transport).await;
            attempts += 1;
            if did.given_up == 1 {
                break;
            }
            assert_eq!(did.postponed, 1, "attempt {attempts}");
            world.advance_ms(HOUR_MS);
        }
        assert_eq!(attempts, 73, "each hour, from hour 0 to hour 72");
        assert_eq!(run(&world.app, &transport).await, Delivered::default());
    }
}

#[tokio::test]
async fn a_mail_that_a_server_stumbles_over_does_not_hold_the_others_up() {
    for fault in
        [Fault::HangsUp, Fault::Babbles, Fault::Says("421 4.3.0 too much"), Fault::Says("451 4.7.0 no")]
    {
        for at in [At::Recipient, At::Data, At::Message] {
            let world = World::sqlite().await;
            let poison = Manner { only_for: Some("poison@example.com"), ..Manner::fails(at, fault) };
            let server = Server::start(poison).await;
            let transport = transport(&smtp(&server));
            let reader = world.operator("ann", &["admin"]).await;
            let bad = write_to(&world.app, "poison@example.com", TestMail::sample(), 0).await;
            world.advance_ms(1);
            for n in 0..6 {
                write_to(&world.app, &format!("r{n}@example.com"), TestMail::sample(), 0).await;
            }
            // The server may rest in between, for seconds.
            let mut sent = 0;
            for _ in 0..3 {
                sent += run(&world.app, &transport).await.sent;
                world.advance_ms(5_000);
            }
            assert_eq!(sent, 6, "{at:?} {fault:?}");
            assert_eq!(mail(&reader, &bad).await["state"], "waiting", "{at:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn the_second_server_stands_in_while_the_first_rests() {
    for world in World::both().await {
        let (first, second) = (Server::start(dead()).await, Server::start(Manner::accepts()).await);
        let transport = transport(&with_secondary(smtp(&first), &second));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let sent = mail(&reader, &id).await;
        assert_eq!((&sent["via"], &sent["attempts"]), (&json!("secondary"), &json!(1)));
        let outcomes: Vec<_> =
            sent["history"].as_array().expect("a list").iter().map(|one| &one["outcome"]).collect();
        assert_eq!(outcomes, ["unavailable", "accepted"]);

        // The first one rests: it is not even asked.
        write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!((first.conversations(), second.conversations()), (1, 2));

        // It is well again, which one mail finds out.
        first.turns(Manner::accepts());
        world.advance_ms(5_000);
        write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!((first.taken().len(), second.conversations()), (1, 2));

        // Both dead: back as it was; the second one is tried though the first one answers by then.
        first.turns(dead());
        second.turns(dead());
        let last = write(&world.app, TestMail::sample(), 0).await;
        assert!(run(&world.app, &transport).await.put_back > 0);
        let error = mail(&reader, &last).await["error"].as_str().expect("a reason").to_string();
        assert_eq!(error.matches("greeting").count(), 2, "{error}");
        first.turns(Manner::accepts());
        second.turns(Manner::accepts());
        world.advance_ms(5_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let untouched = world
            .sql(&format!(
                "UPDATE mail_servers SET failures = failures WHERE paused_until = {}",
                World::START.0 + 10_000
            ))
            .await;
        assert_eq!(untouched, 1, "the second one, which was not needed, may be tried by the next mail");
    }
}

#[tokio::test]
async fn a_lost_answer_is_told_and_the_second_server_is_not_asked_at_once() {
    for world in World::both().await {
        let (first, second) =
            (Server::start(loses_the_answer()).await, Server::start(Manner::accepts()).await);
        let transport = transport(&with_secondary(smtp(&first), &second));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;

        assert_eq!(run(&world.app, &transport).await.postponed, 1);
        assert_eq!((first.taken().len(), second.conversations()), (1, 0));
        let waiting = mail(&reader, &id).await;
        assert_eq!((&waiting["state"], &waiting["maybe_repeated"]), (&json!("waiting"), &json!(true)));

        // Refused by the first one: the second one takes it.
        first.turns(busy());
        world.advance_ms(15_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let sent = mail(&reader, &id).await;
        assert_eq!(
            (&sent["state"], &sent["via"], &sent["maybe_repeated"]),
            (&json!("sent"), &json!("secondary"), &json!(true))
        );
        assert_eq!(first.mails()[0].message_id(), second.mails()[0].message_id(), "a repeat can be told");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_gets_a_mail_a_few_times_only() {
    for world in World::both().await {
        let server = Server::start(loses_the_answer()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        for _ in 0..10 {
            run(&world.app, &transport).await;
            world.advance_ms(HOUR_MS);
        }
        assert_eq!(server.taken().len(), super::MAX_UNANSWERED as usize);
        let failed = mail(&reader, &id).await;
        assert_eq!((&failed["state"], &failed["maybe_repeated"]), (&json!("failed"), &json!(true)));
    }
}

#[tokio::test]
async fn two_managers_send_each_of_two_hundred_mails_once() {
    const MAILS: usize = 200;
    for world in World::both().await {
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        for _ in 0..MAILS {
            write(&world.app, TestMail::sample(), 0).await;
        }
        let other = replica(&world).await;
        let (mut one, mut two) = (0, 0);
        while one + two < MAILS {
            let (a, b) = tokio::join!(run(&world.app, &transport), run(&other, &transport));
            (one, two) = (one + a.sent, two + b.sent);
        }
        assert_eq!(one + two, MAILS);
        assert!(one > 0 && two > 0, "both took part: {one} and {two}");
        let mut ids: Vec<_> =
            server.mails().iter().map(|mail| mail.message_id().expect("one").to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), server.taken().len()), (MAILS, MAILS));
        assert_eq!(
            world.sql("UPDATE mails SET attempts = 1 WHERE attempts <> 1 OR maybe_repeated = 1").await,
            0
        );
    }
}

/// Where a process dies while it sends.
#[derive(Clone, Copy, Debug)]
enum Dies {
    AfterTheClaim,
    AfterTheMailWasTaken,
    WhileItIsRecorded,
}

#[tokio::test]
async fn a_process_that_dies_while_it_sends_is_replaced_and_the_log_says_so() {
    for dies in [Dies::AfterTheClaim, Dies::AfterTheMailWasTaken, Dies::WhileItIsRecorded] {
        for world in World::both().await {
            let server = Server::start(Manner::accepts()).await;
            let transport = transport(&smtp(&server));
            let reader = world.operator("ann", &["admin"]).await;
            let id = write(&world.app, KeyCredentials::sample(), 0).await;
            let dying = replica(&world).await;
            let begun = begin(&dying, &transport).await.expect("the database").expect("a mail");
            match dies {
                Dies::AfterTheClaim => {}
                Dies::AfterTheMailWasTaken => {
                    hand_over(&dying, &transport, &begun).await;
                }
                Dies::WhileItIsRecorded => {
                    let attempt = hand_over(&dying, &transport, &begun).await;
                    world.sql("ALTER TABLE mail_servers RENAME TO mail_servers_gone").await;
                    record(&dying, &begun, &attempt, &mut Delivered::default())
                        .await
                        .expect_err("no such table");
                    world.sql("ALTER TABLE mail_servers_gone RENAME TO mail_servers").await;
                }
            }
            drop((begun, dying));
            let taken = server.taken().len();
            assert_eq!(mail(&reader, &id).await["state"], "sending");

            world.advance_ms(CLAIM_MS);
            assert_eq!(run(&world.app, &transport).await, Delivered::default(), "{dies:?}: still claimed");
            world.advance_ms(1);
            assert_eq!(run(&world.app, &transport).await.sent, 1, "{dies:?}");
            let sent = mail(&reader, &id).await;
            assert_eq!(
                (&sent["state"], &sent["attempts"], &sent["maybe_repeated"]),
                (&json!("sent"), &json!(2), &json!(true)),
                "{dies:?}"
            );
            let outcomes: Vec<_> =
                sent["history"].as_array().expect("a list").iter().map(|one| &one["outcome"]).collect();
            assert_eq!(outcomes, ["no_word", "accepted"], "{dies:?}");
            let ids: Vec<_> =
                server.mails().iter().map(|mail| mail.message_id().expect("one").to_string()).collect();
            assert_eq!(ids.len(), taken + 1, "{dies:?}");
            assert!(ids.iter().all(|it| *it == ids[0]), "a repeat can be told: {ids:?}");
        }
    }
}

#[tokio::test]
async fn a_mail_that_kills_whoever_sends_it_is_given_up() {
    for world in World::both().await {
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        for _ in 0..super::MAX_UNANSWERED {
            assert!(begin(&world.app, &transport).await.expect("the database").is_some());
            world.advance_ms(CLAIM_MS + 1);
            super::take_back_lapsed(&world.app).await.expect("the database");
        }
        assert_eq!(run(&world.app, &transport).await, Delivered::default());
        let failed = mail(&reader, &id).await;
        assert_eq!(failed["state"], "failed");
        assert!(failed["error"].as_str().expect("a reason").contains("it may have arrived"));
    }
}

#[tokio::test]
async fn whoever_lost_its_claim_changes_nothing() {
    for world in World::both().await {
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        let begun = begin(&world.app, &transport).await.expect("the database").expect("a mail");
        let attempt = hand_over(&world.app, &transport, &begun).await;
        world.advance_ms(CLAIM_MS + 1);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let before = mail(&reader, &id).await;
        record(&world.app, &begun, &attempt, &mut Delivered::default()).await.expect("the database");
        assert_eq!(mail(&reader, &id).await, before);
    }
}

#[tokio::test]
async fn giving_up_waits_for_no_mail_while_it_holds_the_row_of_a_server() {
    // SQLite has one writer at a time.
    let postgres = |world: &World| world.app.db.dialect() == Dialect::Postgres;
    for world in World::both().await.into_iter().filter(postgres) {
        let server = Server::start(dead()).await;
        let transport = transport(&smtp(&server));
        for _ in 0..2 {
            write(&world.app, TestMail::sample(), 0).await;
        }
        world.advance_ms(73 * HOUR_MS);
        let begun = begin(&world.app, &transport).await.expect("the database").expect("a mail");
        let attempt = hand_over(&world.app, &transport, &begun).await;
        let (_, address) = transport.servers().remove(0);
        // Another replica has claimed the other mail, and goes on to the row of the server.
        let mut claim = world.app.db.write("test.claim").await.expect("a transaction");
        let held = sqlx::query("UPDATE mails SET attempts = attempts WHERE state = 'waiting'");
        assert_eq!(held.execute(&mut *claim).await.expect("held").rows_affected(), 1);
        let probing = async {
            let rests = loop {
                let mut conn = world.app.db.read().await.expect("a connection");
                let server = store::server(&mut conn, &address).await.expect("a server");
                if server.failures > 0 {
                    break server;
                }
            };
            let later = UnixMillis(i64::MAX);
            assert!(store::take_probe(&mut claim, &rests, later, later).await.expect("the row"));
            claim.commit().await.expect("committed");
        };
        let mut did = Delivered::default();
        let both = async { tokio::join!(record(&world.app, &begun, &attempt, &mut did), probing) };
        let (recorded, ()) =
            tokio::time::timeout(std::time::Duration::from_secs(20), both).await.expect("nobody waits");
        recorded.expect("the database");
        assert_eq!(did.given_up, 2);
    }
}

/// All that the database keeps, as bytes.
async fn everything(world: &World) -> Vec<u8> {
    let mut conn = world.app.db.read().await.expect("a connection");
    let query = |sql: String| sqlx::query(AssertSqlSafe(sql));
    match world.app.db.dialect() {
        Dialect::Sqlite => {
            let row = query("SELECT file FROM pragma_database_list WHERE name = 'main'".into())
                .fetch_one(&mut *conn)
                .await
                .expect("a database");
            let path: String = row.try_get(0).expect("a path");
            let mut bytes = std::fs::read(&path).expect("the database");
            bytes.extend(std::fs::read(format!("{path}-wal")).unwrap_or_default());
            bytes
        }
        Dialect::Postgres => {
            let tables = query(
                "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'public'".into(),
            )
            .fetch_all(&mut *conn)
            .await
            .expect("tables");
            let mut bytes = Vec::new();
            for table in tables {
                let table: String = table.try_get(0).expect("a name");
                let rows = query(format!("SELECT CAST(row_to_json(t) AS TEXT) FROM {table} AS t"))
                    .fetch_all(&mut *conn)
                    .await
                    .expect("rows");
                for row in rows {
                    bytes.extend(row.try_get::<String, _>(0).expect("a row").into_bytes());
                }
            }
            bytes
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_secret_is_neither_in_the_database_nor_in_the_log_lines() {
    let lines = LogLines::capture();
    for world in World::both().await {
        let sample = KeyCredentials::sample();
        let server = Server::start(Manner::fails(At::Message, Fault::Says("451 4.3.0 later"))).await;
        let transport = transport(&smtp(&server));
        write(&world.app, sample.clone(), 0).await;
        let clean = async |when: &str| {
            let bytes = everything(&world).await;
            assert!(contains(&bytes, &sample.client_id), "the search finds what is there, {when}");
            assert!(!contains(&bytes, &sample.secret_key), "{when}");
        };
        clean("while it waits").await;
        assert_eq!(run(&world.app, &transport).await.postponed, 1);
        clean("after a failure").await;
        server.turns(Manner::accepts());
        world.advance_ms(15_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        clean("once it is sent").await;
        let text = server.mails()[0].body_text(0).expect("text").into_owned();
        assert!(text.contains(&sample.secret_key), "it was in the mail");
    }
    let lines = lines.text();
    assert!(lines.contains("could not be sent"), "the search finds what is there: {lines}");
    assert!(!lines.contains(&KeyCredentials::sample().secret_key));
    assert!(!lines.contains("anna@example.com"), "nor who gets mails");
}
